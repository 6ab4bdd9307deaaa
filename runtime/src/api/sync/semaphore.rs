//! Permits: so many may pass at a time.

use std::fmt;
use std::mem;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::handle::{Handle, Shared};
use crate::error::Error;
use crate::shm::heap::Kind;
use crate::shm::platform::Deadline;
use crate::shm::sync::semaphore::Semaphore as Machine;
use crate::shm::system::System;

/// So many permits that processes take and give back.
///
/// A permit that was acquired belongs to the process until the [`SemaphoreGuard`] is dropped. Besides,
/// [`release`](Self::release) makes new ones: one process can [`forget`](SemaphoreGuard::forget) what it
/// takes and another one release, to count what has happened. Where that would be a mistake, use a
/// [`BoundedSemaphore`].
///
/// # When a process is killed
/// The permits that belonged to it come back, once: those who wait get them within some 50 ms. No permit
/// is lost or doubled, at whatever instant it was killed.
///
/// # Examples
/// ```
/// use procession::sync::Semaphore;
/// use procession::{Pool, task};
///
/// #[task]
/// fn download(connections: Semaphore, url: String) -> usize {
///     let _permit = connections.acquire();
///     url.len() // at most two at a time are here
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let pool = Pool::builder().processes(4).build()?;
/// let connections = Semaphore::new(2)?;
/// let urls = (0..20).map(|i| (connections.clone(), format!("https://example.org/{i}")));
/// pool.starmap(download, urls)?;
/// assert_eq!(connections.value(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Semaphore {
    handle: Handle<Semaphore>,
}

impl Shared for Semaphore {
    type Machine = Machine<System>;
    const KIND: Kind = Kind::Semaphore;
    const NAME: &'static str = "a semaphore";
}

impl Semaphore {
    /// A semaphore of so many free permits.
    ///
    /// # Errors
    /// There is no memory, or there are too many shared objects.
    pub fn new(permits: u32) -> Result<Self, Error> {
        let this = Self { handle: Handle::create(0)? };
        this.machine().init(permits, None);
        Ok(this)
    }

    /// Waits for a permit. It is given back when the guard is dropped.
    pub fn acquire(&self) -> SemaphoreGuard<'_> {
        acquire(self.machine(), Deadline::NEVER).expect("there is no deadline")
    }

    /// Takes a permit if there is one now.
    pub fn try_acquire(&self) -> Option<SemaphoreGuard<'_>> {
        self.acquire_timeout(Duration::ZERO)
    }

    /// Waits for a permit, at most for `timeout`.
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<SemaphoreGuard<'_>> {
        acquire(self.machine(), Deadline::after::<System>(timeout))
    }

    /// Adds a permit, which nobody needs to have acquired.
    ///
    /// # Panics
    /// There are `u32::MAX` free permits.
    pub fn release(&self) {
        self.machine().add().expect("there are less than 2³² permits");
    }

    /// How many permits are free at this moment. Those of a process that has died count when somebody who
    /// waits has noticed its death.
    pub fn value(&self) -> u32 {
        self.machine().value()
    }

    fn machine(&self) -> &Machine<System> {
        self.handle.machine()
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("value", &self.value()).finish()
    }
}

/// A [`Semaphore`] that never has more free permits than at first.
///
/// Everything else, also [when a process is killed](Semaphore#when-a-process-is-killed), is as there.
///
/// # Examples
/// ```
/// # fn main() -> Result<(), procession::Error> {
/// let semaphore = procession::sync::BoundedSemaphore::new(1)?;
/// let permit = semaphore.try_acquire().unwrap();
/// assert!(semaphore.try_acquire().is_none());
/// drop(permit);
/// assert!(semaphore.release().is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct BoundedSemaphore {
    handle: Handle<BoundedSemaphore>,
}

impl Shared for BoundedSemaphore {
    type Machine = Machine<System>;
    const KIND: Kind = Kind::BoundedSemaphore;
    const NAME: &'static str = "a bounded semaphore";
}

impl BoundedSemaphore {
    /// A semaphore of so many free permits, and never more.
    ///
    /// # Errors
    /// There is no memory, or there are too many shared objects.
    pub fn new(permits: u32) -> Result<Self, Error> {
        let this = Self { handle: Handle::create(permits.into())? };
        this.machine().init(permits, Some(permits));
        Ok(this)
    }

    /// Waits for a permit. It is given back when the guard is dropped.
    pub fn acquire(&self) -> SemaphoreGuard<'_> {
        acquire(self.machine(), Deadline::NEVER).expect("there is no deadline")
    }

    /// Takes a permit if there is one now.
    pub fn try_acquire(&self) -> Option<SemaphoreGuard<'_>> {
        self.acquire_timeout(Duration::ZERO)
    }

    /// Waits for a permit, at most for `timeout`.
    pub fn acquire_timeout(&self, timeout: Duration) -> Option<SemaphoreGuard<'_>> {
        acquire(self.machine(), Deadline::after::<System>(timeout))
    }

    /// Adds a permit in place of one that was [forgotten](SemaphoreGuard::forget).
    ///
    /// # Errors
    /// All permits are free: it was released more often than acquired. Nothing has changed.
    pub fn release(&self) -> Result<(), Error> {
        let bound = self.handle.number();
        self.machine().add().map_err(|_| {
            Error::usage(format!(
                "the semaphore was released too often: all of its permits ({bound}) are free"
            ))
        })
    }

    /// As [`Semaphore::value`].
    pub fn value(&self) -> u32 {
        self.machine().value()
    }

    fn machine(&self) -> &Machine<System> {
        self.handle.machine()
    }
}

impl fmt::Debug for BoundedSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("BoundedSemaphore");
        text.field("value", &self.value()).field("bound", &self.handle.number()).finish()
    }
}

fn acquire(of: &Machine<System>, deadline: Deadline) -> Option<SemaphoreGuard<'_>> {
    // Not `then_some`: a guard that isn't meant gives back a permit, too.
    of.acquire(deadline).then(|| SemaphoreGuard { of })
}

/// A permit of a [`Semaphore`] or [`BoundedSemaphore`], given back on drop.
#[must_use = "if unused, the permit is given back at once"]
pub struct SemaphoreGuard<'a> {
    of: &'a Machine<System>,
}

impl SemaphoreGuard<'_> {
    /// The permit is nobody's from now on: neither this guard nor the end of this process gives it back.
    /// Somebody else may, by a `release`.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let items = procession::sync::Semaphore::new(0)?;
    /// items.release(); // an item is there
    /// items.acquire().forget(); // and taken
    /// assert_eq!(items.value(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn forget(self) {
        self.of.forget().expect("this process owns a permit for each guard");
        mem::forget(self);
    }
}

impl Drop for SemaphoreGuard<'_> {
    fn drop(&mut self) {
        // There may be no room for it below the bound, if somebody has released too often meanwhile.
        // Then it is gone.
        if self.of.release().is_err() {
            let _ = self.of.forget();
        }
    }
}

impl fmt::Debug for SemaphoreGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphoreGuard").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_come_back_with_their_guards() {
        let semaphore = Semaphore::new(2).unwrap();
        let first = semaphore.acquire();
        let second = semaphore.try_acquire().unwrap();
        assert!(semaphore.try_acquire().is_none());
        assert!(semaphore.acquire_timeout(Duration::from_millis(2)).is_none());
        drop(first);
        assert_eq!(semaphore.value(), 1);
        second.forget();
        assert_eq!(semaphore.value(), 1);
        semaphore.release();
        semaphore.release();
        assert_eq!(semaphore.value(), 3);
    }

    #[test]
    fn y1_a_bound_is_kept() {
        let semaphore = BoundedSemaphore::new(2).unwrap();
        let error = semaphore.release().unwrap_err().to_string();
        assert!(error.contains("released too often"), "{error}");
        semaphore.acquire().forget();
        semaphore.release().unwrap();
        // Too many releases while a permit is out: there is no room for that one when it comes back.
        let permit = semaphore.acquire();
        semaphore.release().unwrap();
        drop(permit);
        assert_eq!(semaphore.value(), 2);
        let both = (semaphore.acquire(), semaphore.acquire());
        assert!(semaphore.try_acquire().is_none());
        drop(both);
        let none = BoundedSemaphore::new(0).unwrap();
        assert!(none.release().is_err() && none.try_acquire().is_none());
    }
}

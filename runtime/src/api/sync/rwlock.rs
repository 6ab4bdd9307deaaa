//! A lock for many readers or one writer.

use std::fmt;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::handle::{Handle, Shared};
use crate::api::poison::{Poisoned, TryLockError};
use crate::error::Error;
use crate::shm::heap::Kind;
use crate::shm::platform::Deadline;
use crate::shm::sync::claims::{Claim, Claims, Mode};
use crate::shm::system::System;

/// All that there is to claim.
const ALL: Range<u64> = 0..1;

/// A lock that many hold at a time to read, or one holds to write.
///
/// Whoever waits to write goes before those who come later to read. It is not reentrant: a thread that
/// has a guard and waits for another may wait for itself for ever, also if both are to read. At most 512
/// hold it, or wait to write, at a time; more wait until there is room.
///
/// # Poisoning
/// If a writer dies, or drops its guard in a panic, the next guards, to read or to write, are
/// [`Poisoned`], until somebody calls [`clear_poison`](Self::clear_poison). A reader that dies has changed
/// nothing: its claim is given back, and nobody is told. Those who wait see a death within some 50 ms.
///
/// # Examples
/// ```
/// use procession::sync::RwLock;
/// use procession::{Pool, task};
///
/// #[task]
/// fn look_up(lock: RwLock, path: String) -> String {
///     let _guard = lock.read().unwrap();
///     std::fs::read_to_string(path).unwrap()
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let pool = Pool::builder().processes(2).build()?;
/// let lock = RwLock::new()?;
/// let path = std::env::temp_dir().join(format!("rwlock-{}", std::process::id()));
/// {
///     let _guard = lock.write()?;
///     std::fs::write(&path, "42").unwrap();
/// }
/// let text = path.display().to_string();
/// let found = pool.starmap(look_up, (0..4).map(|_| (lock.clone(), text.clone())))?;
/// assert_eq!(found, ["42"; 4]);
/// # std::fs::remove_file(path).unwrap();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct RwLock {
    handle: Handle<RwLock>,
}

impl Shared for RwLock {
    type Machine = Claims<System>;
    const KIND: Kind = Kind::RwLock;
    const NAME: &'static str = "a read-write lock";
}

impl RwLock {
    /// A free lock.
    ///
    /// # Errors
    /// There is no memory, or there are too many shared objects.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { handle: Handle::create(0)? })
    }

    /// Waits until nobody writes, nor waits to write, and keeps it so until the guard is dropped.
    ///
    /// # Errors
    /// It is [poisoned](Self#poisoning). The guard is in the error.
    pub fn read(&self) -> Result<RwLockReadGuard<'_>, Poisoned<RwLockReadGuard<'_>>> {
        self.read_until(Deadline::NEVER).expect("there is no deadline")
    }

    /// As [`read`](Self::read), without waiting.
    ///
    /// # Errors
    /// Somebody writes, or waits to write, or it is [poisoned](Self#poisoning).
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_>, TryLockError<RwLockReadGuard<'_>>> {
        self.read_timeout(Duration::ZERO)
    }

    /// As [`read`](Self::read), at most for `timeout`.
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read).
    pub fn read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockReadGuard<'_>, TryLockError<RwLockReadGuard<'_>>> {
        TryLockError::check(self.read_until(Deadline::after::<System>(timeout)))
    }

    /// Waits until nobody reads or writes, and keeps it so until the guard is dropped.
    ///
    /// # Errors
    /// It is [poisoned](Self#poisoning). The guard is in the error.
    pub fn write(&self) -> Result<RwLockWriteGuard<'_>, Poisoned<RwLockWriteGuard<'_>>> {
        self.write_until(Deadline::NEVER).expect("there is no deadline")
    }

    /// As [`write`](Self::write), without waiting.
    ///
    /// # Errors
    /// Somebody reads or writes, or it is [poisoned](Self#poisoning).
    pub fn try_write(&self) -> Result<RwLockWriteGuard<'_>, TryLockError<RwLockWriteGuard<'_>>> {
        self.write_timeout(Duration::ZERO)
    }

    /// As [`write`](Self::write), at most for `timeout`.
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write).
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RwLockWriteGuard<'_>, TryLockError<RwLockWriteGuard<'_>>> {
        TryLockError::check(self.write_until(Deadline::after::<System>(timeout)))
    }

    fn read_until(
        &self,
        deadline: Deadline,
    ) -> Option<Result<RwLockReadGuard<'_>, Poisoned<RwLockReadGuard<'_>>>> {
        let claim = self.line().claim(&ALL, Mode::Read, deadline)?;
        let is_poisoned = claim.is_poisoned();
        Some(Poisoned::check(RwLockReadGuard { claim }, is_poisoned))
    }

    fn write_until(
        &self,
        deadline: Deadline,
    ) -> Option<Result<RwLockWriteGuard<'_>, Poisoned<RwLockWriteGuard<'_>>>> {
        let claim = self.line().claim(&ALL, Mode::Write, deadline)?;
        let is_poisoned = claim.is_poisoned();
        let was_panicking = thread::panicking();
        Some(Poisoned::check(RwLockWriteGuard { claim, was_panicking }, is_poisoned))
    }

    /// Whether a writer has died, or panicked, as far as is known; see [there](Self#poisoning).
    pub fn is_poisoned(&self) -> bool {
        self.line().is_poisoned()
    }

    /// What it guards is as it should be again: the next guards are ordinary ones.
    pub fn clear_poison(&self) {
        self.line().clear_poison();
    }

    fn line(&self) -> &Claims<System> {
        self.handle.machine()
    }
}

impl fmt::Debug for RwLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("RwLock");
        text.field("is_poisoned", &self.is_poisoned()).finish_non_exhaustive()
    }
}

/// The right to read what an [`RwLock`] guards, until it is dropped.
#[must_use = "if unused, the lock is given back at once"]
pub struct RwLockReadGuard<'a> {
    #[expect(dead_code, reason = "its drop counts")]
    claim: Claim<'a, System>,
}

impl fmt::Debug for RwLockReadGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLockReadGuard").finish_non_exhaustive()
    }
}

/// The right to change what an [`RwLock`] guards, until it is dropped.
#[must_use = "if unused, the lock is given back at once"]
pub struct RwLockWriteGuard<'a> {
    claim: Claim<'a, System>,
    was_panicking: bool,
}

impl Drop for RwLockWriteGuard<'_> {
    fn drop(&mut self) {
        if thread::panicking() && !self.was_panicking {
            self.claim.poison();
        }
    }
}

impl fmt::Debug for RwLockWriteGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RwLockWriteGuard").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn many_read_or_one_writes() {
        let lock = RwLock::new().unwrap();
        let readers = (lock.read().unwrap(), lock.try_read().unwrap());
        assert!(matches!(lock.try_write(), Err(TryLockError::WouldBlock)));
        let late = lock.write_timeout(Duration::from_millis(2)).unwrap_err();
        assert!(Error::from(late).is_timeout());
        drop(readers);
        let writer = lock.write().unwrap();
        assert!(matches!(lock.try_read(), Err(TryLockError::WouldBlock)));
        assert!(matches!(
            lock.read_timeout(Duration::from_millis(2)),
            Err(TryLockError::WouldBlock)
        ));
        drop(writer);
        drop(lock.try_write().unwrap());
    }

    #[test]
    fn a_writers_panic_poisons_and_a_readers_does_not() {
        let lock = RwLock::new().unwrap();
        let fail_with = |write: bool| {
            let failed = catch_unwind(AssertUnwindSafe(|| {
                let _guards = (!write).then(|| lock.read().unwrap());
                let _guard = write.then(|| lock.write().unwrap());
                panic!("on purpose");
            }));
            assert!(failed.is_err());
        };
        fail_with(false);
        assert!(!lock.is_poisoned());
        fail_with(true);
        assert!(lock.is_poisoned() && lock.read().is_err() && lock.write().is_err());
        lock.clear_poison();
        drop(lock.write().unwrap());
    }
}

//! A lock that one holds at a time.

use std::fmt;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::handle::{Handle, Shared};
use crate::api::poison::{Poisoned, TryLockError};
use crate::error::Error;
use crate::shm::heap::Kind;
use crate::shm::lock::Held;
use crate::shm::platform::Deadline;
use crate::shm::sync::lock::Lock as Machine;
use crate::shm::system::System;

/// A lock that one thread of one process holds at a time.
///
/// It guards what the program means it to guard: a file, a device, a [`SharedValue`](crate::SharedValue)
/// that is read and then set. Data that a lock should own lie in a [`SharedArray`](crate::SharedArray)
/// or a `SharedValue`, which have guards of their own.
///
/// It is not reentrant: a thread that takes it twice waits for itself for ever. An [`RLock`](super::RLock)
/// is. Nor is it fair: whoever comes when it is free has it.
///
/// # Poisoning
/// If its holder dies, or drops the guard in a panic, the next one gets the lock as a [`Poisoned`] guard,
/// and so does everyone after, until somebody calls [`clear_poison`](Self::clear_poison). Those who wait
/// see a death within 50 ms.
///
/// # Examples
/// ```
/// use procession::sync::Lock;
/// use procession::{Pool, SharedValue, task};
///
/// #[task]
/// fn deposit(lock: Lock, balance: SharedValue<u64>, amount: u64) {
///     let _guard = lock.lock().unwrap();
///     let before = balance.get();
///     balance.set(before + amount);
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let pool = Pool::builder().processes(2).build()?;
/// let (lock, balance) = (Lock::new()?, SharedValue::new(0)?);
/// pool.starmap(deposit, (1..=100).map(|amount| (lock.clone(), balance.clone(), amount)))?;
/// assert_eq!(balance.get(), 5050);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Lock {
    handle: Handle<Lock>,
}

impl Shared for Lock {
    type Machine = Machine<System>;
    const KIND: Kind = Kind::Lock;
    const NAME: &'static str = "a lock";
}

impl Lock {
    /// A free lock.
    ///
    /// # Errors
    /// There is no memory, or there are too many shared objects.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { handle: Handle::create(0)? })
    }

    /// Waits until nobody else holds it, and holds it until the guard is dropped.
    ///
    /// # Errors
    /// It is [poisoned](Self#poisoning). The guard is in the error.
    #[inline]
    pub fn lock(&self) -> Result<LockGuard<'_>, Poisoned<LockGuard<'_>>> {
        let held = self.machine().acquire(Deadline::NEVER).expect("there is no deadline");
        self.guard(held)
    }

    /// As [`lock`](Self::lock), without waiting.
    ///
    /// # Errors
    /// Somebody else holds it, or it is [poisoned](Self#poisoning).
    #[inline]
    pub fn try_lock(&self) -> Result<LockGuard<'_>, TryLockError<LockGuard<'_>>> {
        TryLockError::check(self.machine().try_acquire().map(|held| self.guard(held)))
    }

    /// As [`lock`](Self::lock), at most for `timeout`.
    ///
    /// # Errors
    /// As [`try_lock`](Self::try_lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<LockGuard<'_>, TryLockError<LockGuard<'_>>> {
        let held = self.machine().acquire(Deadline::after::<System>(timeout));
        TryLockError::check(held.map(|held| self.guard(held)))
    }

    /// Whether somebody holds it at this moment.
    pub fn is_locked(&self) -> bool {
        self.machine().is_held()
    }

    /// Whether a holder has died, or panicked, as far as is known; see [there](Self#poisoning).
    pub fn is_poisoned(&self) -> bool {
        self.machine().is_poisoned()
    }

    /// What it guards is as it should be again: the next guards are ordinary ones.
    pub fn clear_poison(&self) {
        self.machine().clear_poison();
    }

    #[inline]
    fn guard(&self, held: Held) -> Result<LockGuard<'_>, Poisoned<LockGuard<'_>>> {
        let lock = self.machine();
        let guard = LockGuard { lock, held: Some(held), was_panicking: thread::panicking() };
        Poisoned::check(guard, lock.is_poisoned())
    }

    #[inline]
    fn machine(&self) -> &Machine<System> {
        self.handle.machine()
    }

    /// The same number for all handles on it, and for no other lock.
    pub(super) fn id(&self) -> u64 {
        self.handle.id()
    }

    /// Whether a guard is one of this lock.
    pub(super) fn is_of(&self, guard: &LockGuard<'_>) -> bool {
        std::ptr::eq(self.machine(), guard.lock)
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock")
            .field("is_locked", &self.is_locked())
            .field("is_poisoned", &self.is_poisoned())
            .finish()
    }
}

/// What holds a [`Lock`] until it is dropped.
#[must_use = "if unused, the lock is given back at once"]
pub struct LockGuard<'a> {
    lock: &'a Machine<System>,
    /// None while a [`Condition`](super::Condition) waits, or after it was given back.
    held: Option<Held>,
    was_panicking: bool,
}

impl LockGuard<'_> {
    /// Gives the lock back for the time that `wait` takes, which is told how to give it back and how to
    /// take it again.
    pub(super) fn without<R>(
        &mut self,
        wait: impl FnOnce(Held, &dyn Fn(Held), &dyn Fn() -> Held) -> (Held, R),
    ) -> R {
        let lock = self.lock;
        let take = || lock.acquire(Deadline::NEVER).expect("there is no deadline");
        let held = self.held.take().expect("it is none inside of this function only");
        let (held, result) = wait(held, &|held| lock.release(held), &take);
        self.held = Some(held);
        result
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.lock.is_poisoned()
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        if thread::panicking() && !self.was_panicking {
            self.lock.poison();
        }
        self.lock.release(held);
    }
}

impl fmt::Debug for LockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn it_is_held_until_the_guard_is_dropped() {
        let lock = Lock::new().unwrap();
        let guard = lock.lock().unwrap();
        assert!(lock.is_locked() && lock.clone().is_locked());
        assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
        let late = lock.lock_timeout(Duration::from_millis(2)).unwrap_err();
        assert!(Error::from(late).is_timeout());
        drop(guard);
        assert!(!lock.is_locked());
        drop(lock.try_lock().unwrap());
        drop(lock.lock_timeout(Duration::ZERO).unwrap());
        assert_eq!(format!("{lock:?}"), "Lock { is_locked: false, is_poisoned: false }");
    }

    #[test]
    fn a_panic_poisons_until_that_is_cleared() {
        let lock = Lock::new().unwrap();
        let failed = catch_unwind(AssertUnwindSafe(|| {
            let _guard = lock.lock().unwrap();
            panic!("on purpose");
        }));
        assert!(failed.is_err() && lock.is_poisoned() && !lock.is_locked());
        assert!(matches!(lock.try_lock(), Err(TryLockError::Poisoned(_))));
        let guard = lock.lock().unwrap_or_else(|poisoned| {
            // It counts at once, not only when the guard is gone.
            lock.clear_poison();
            poisoned.into_inner()
        });
        assert!(!lock.is_poisoned());
        drop(guard);
        drop(lock.lock().unwrap());
    }
}

//! Waiting, under a lock, for something to change.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::handle::{Handle, Shared};
use super::lock::{Lock, LockGuard};
use crate::api::poison::Poisoned;
use crate::error::Error;
use crate::shm::heap::Kind;
use crate::shm::platform::Deadline;
use crate::shm::sync::condition::{Condition as Machine, TooManyWaiters};
use crate::shm::system::System;

/// A [`Lock`], and a place to wait, without it, until somebody who holds it says that something has
/// changed.
///
/// Those who wait are notified in the order in which they came. No notification is lost to a waiter whose
/// time is over, and there are no wakes for nothing; but by the time that a waiter has the lock again,
/// another one may have changed things back: so wait in a loop, or with [`wait_for`](Self::wait_for).
/// All methods that need the lock take its guard, so they can't be called without.
///
/// # When a process is killed
/// One that holds the lock: as with any [`Lock`](Lock#poisoning). One that waits is passed over; one
/// that was notified, but hadn't yet the lock again, has used up its notification.
///
/// # Examples
/// ```
/// use procession::sync::Condition;
/// use procession::{Process, SharedValue, task};
///
/// #[task]
/// fn consume(condition: Condition, items: SharedValue<u32>) {
///     let guard = condition.lock().unwrap();
///     let (_guard, _) = condition.wait_for(guard, || items.get() > 0, None).unwrap();
///     items.fetch_sub(1);
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let (condition, items) = (Condition::new()?, SharedValue::new(0)?);
/// let consumer = Process::new(consume, (condition.clone(), items.clone())).start()?;
/// {
///     let guard = condition.lock()?;
///     items.fetch_add(1);
///     condition.notify_one(&guard);
/// }
/// consumer.join()?;
/// assert_eq!(items.get(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Condition {
    lock: Lock,
    handle: Handle<Condition>,
}

impl Shared for Condition {
    type Machine = Machine<System>;
    const KIND: Kind = Kind::Condition;
    const NAME: &'static str = "a condition";
}

impl Condition {
    /// A condition with a lock of its own.
    ///
    /// # Errors
    /// There is no memory, or there are too many shared objects.
    pub fn new() -> Result<Self, Error> {
        Self::with_lock(&Lock::new()?)
    }

    /// A condition with this lock, which other conditions may have as well.
    ///
    /// # Errors
    /// There is no memory, or there are too many shared objects.
    ///
    /// # Examples
    /// ```
    /// use procession::sync::{Condition, Lock};
    ///
    /// # fn main() -> Result<(), procession::Error> {
    /// let lock = Lock::new()?;
    /// let (not_empty, not_full) = (Condition::with_lock(&lock)?, Condition::with_lock(&lock)?);
    /// let guard = lock.lock()?;
    /// not_empty.notify_one(&guard);
    /// not_full.notify_all(&guard);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_lock(lock: &Lock) -> Result<Self, Error> {
        // Every handle knows which lock it belongs to, and whoever decodes one compares.
        Ok(Self { lock: lock.clone(), handle: Handle::create(lock.id())? })
    }

    /// Takes its lock, as [`Lock::lock`].
    ///
    /// # Errors
    /// The lock is poisoned. The guard is in the error.
    pub fn lock(&self) -> Result<LockGuard<'_>, Poisoned<LockGuard<'_>>> {
        self.lock.lock()
    }

    /// Gives the lock back, waits to be notified, and takes the lock again.
    ///
    /// # Errors
    /// The lock is poisoned when it is taken again. The guard is in the error.
    ///
    /// # Panics
    /// The guard is one of another lock, or 1000 wait already.
    #[track_caller]
    pub fn wait<'g>(&self, guard: LockGuard<'g>) -> Result<LockGuard<'g>, Poisoned<LockGuard<'g>>> {
        let (guard, _) = self.wait_until(guard, Deadline::NEVER);
        let is_poisoned = guard.is_poisoned();
        Poisoned::check(guard, is_poisoned)
    }

    /// As [`wait`](Self::wait), at most for `timeout`, and as long as it takes to get the lock again. True:
    /// it was notified.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_timeout<'g>(
        &self,
        guard: LockGuard<'g>,
        timeout: Duration,
    ) -> Result<(LockGuard<'g>, bool), Poisoned<(LockGuard<'g>, bool)>> {
        let waited = self.wait_until(guard, Deadline::after::<System>(timeout));
        let is_poisoned = waited.0.is_poisoned();
        Poisoned::check(waited, is_poisoned)
    }

    /// Waits until `predicate`, which is called with the lock held, gives true, or `timeout` is over.
    /// Gives what it gave last.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), at the first wait after which the lock is poisoned; `predicate` isn't called
    /// again.
    ///
    /// # Panics
    /// As [`wait`](Self::wait), or if `predicate` does.
    #[track_caller]
    pub fn wait_for<'g>(
        &self,
        mut guard: LockGuard<'g>,
        mut predicate: impl FnMut() -> bool,
        timeout: Option<Duration>,
    ) -> Result<(LockGuard<'g>, bool), Poisoned<(LockGuard<'g>, bool)>> {
        let deadline = Deadline::of::<System>(timeout);
        while !predicate() {
            if deadline.has_passed::<System>() {
                return Ok((guard, false));
            }
            (guard, _) = self.wait_until(guard, deadline);
            if guard.is_poisoned() {
                return Err(Poisoned::new((guard, false)));
            }
        }
        Ok((guard, true))
    }

    #[track_caller]
    fn wait_until<'g>(
        &self,
        mut guard: LockGuard<'g>,
        deadline: Deadline,
    ) -> (LockGuard<'g>, bool) {
        self.check(&guard);
        let waited = guard.without(|held, release, acquire| {
            self.machine().wait(held, deadline, release, acquire)
        });
        match waited {
            Ok(notified) => (guard, notified),
            Err(TooManyWaiters(most)) => {
                // Nothing is half done: that shall not poison the lock.
                drop(guard);
                panic!("{most} wait for the condition already, which is as many as can");
            }
        }
    }

    /// Wakes the `count` who have waited longest, or all if there are less. They go on when they get the
    /// lock.
    ///
    /// # Panics
    /// The guard is one of another lock.
    #[track_caller]
    pub fn notify(&self, guard: &LockGuard<'_>, count: usize) {
        self.check(guard);
        self.machine().notify(count);
    }

    /// Wakes the one who has waited longest, if there is one.
    ///
    /// # Panics
    /// The guard is one of another lock.
    #[track_caller]
    pub fn notify_one(&self, guard: &LockGuard<'_>) {
        self.notify(guard, 1);
    }

    /// Wakes all who wait.
    ///
    /// # Panics
    /// The guard is one of another lock.
    #[track_caller]
    pub fn notify_all(&self, guard: &LockGuard<'_>) {
        self.check(guard);
        self.machine().notify_all();
    }

    /// Whether the lock is poisoned, as [`Lock::is_poisoned`].
    pub fn is_poisoned(&self) -> bool {
        self.lock.is_poisoned()
    }

    /// Clears the lock's poison, as [`Lock::clear_poison`].
    pub fn clear_poison(&self) {
        self.lock.clear_poison();
    }

    #[track_caller]
    fn check(&self, guard: &LockGuard<'_>) {
        assert!(self.lock.is_of(guard), "the guard is one of another lock than the condition's");
    }

    fn machine(&self) -> &Machine<System> {
        self.handle.machine()
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("lock", &self.lock).finish_non_exhaustive()
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.lock, &self.handle).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (lock, handle) = <(Lock, Handle<Self>)>::deserialize(deserializer)?;
        if handle.number() != lock.id() {
            return Err(D::Error::custom("the handle of a condition with another lock"));
        }
        Ok(Self { lock, handle })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Instant;

    use super::*;

    #[test]
    fn y2_only_the_own_locks_guard_will_do() {
        let (condition, other) = (Condition::new().unwrap(), Lock::new().unwrap());
        let guard = other.lock().unwrap();
        let notify = AssertUnwindSafe(|| condition.notify_all(&guard));
        assert!(catch_unwind(notify).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| condition.wait(guard))).is_err());
        // A clone is the same.
        let lock = Lock::new().unwrap();
        let condition = Condition::with_lock(&lock).unwrap().clone();
        condition.notify_one(&lock.clone().lock().unwrap());
    }

    #[test]
    fn y2_wait_for_gives_the_predicates_last_value() {
        let condition = Condition::new().unwrap();
        let calls = Cell::new(0);
        let count = |enough: u32| {
            calls.set(calls.get() + 1);
            calls.get() >= enough
        };
        let guard = condition.lock().unwrap();
        let (guard, is_true) = condition.wait_for(guard, || count(1), None).unwrap();
        assert!(is_true && calls.get() == 1);
        let soon = Some(Duration::from_millis(2));
        let (guard, is_true) = condition.wait_for(guard, || count(9), soon).unwrap();
        assert!(!is_true && calls.get() == 3);
        let (guard, is_true) = condition.wait_for(guard, || count(5), soon).unwrap();
        assert!(is_true && calls.get() == 5);
        let start = Instant::now();
        let (_guard, notified) = condition.wait_timeout(guard, Duration::from_millis(2)).unwrap();
        assert!(!notified && start.elapsed() >= Duration::from_millis(2));
    }
}

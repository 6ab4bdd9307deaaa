//! A lock that its holder can take again.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::handle::{Handle, Shared};
use crate::api::poison::{Poisoned, TryLockError};
use crate::error::Error;
use crate::shm::heap::Kind;
use crate::shm::platform::Deadline;
use crate::shm::sync::rlock::RLock as Machine;
use crate::shm::system::System;

/// A lock that one thread of one process holds at a time, and can take again and again while it does.
///
/// It is free when the holder has dropped all its guards. A guard stays in the thread that has taken it,
/// so no other can give it back: `RLockGuard` isn't `Send`.
///
/// # Poisoning
/// As that of a [`Lock`](super::Lock#poisoning). A guard that is dropped in a panic poisons the lock, an
/// inner one too.
///
/// # Examples
/// ```
/// use procession::sync::RLock;
/// use procession::{Poisoned, Process, task};
///
/// fn append(lock: &RLock, line: &str) {
///     let _guard = lock.lock().unwrap_or_else(Poisoned::into_inner);
///     println!("{line}");
/// }
///
/// #[task]
/// fn report(lock: RLock) {
///     // Nothing comes between the two lines.
///     let _guard = lock.lock().unwrap_or_else(Poisoned::into_inner);
///     append(&lock, "one");
///     append(&lock, "two");
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let lock = RLock::new()?;
/// let other = Process::new(report, (lock.clone(),)).start()?;
/// report(lock);
/// other.join()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct RLock {
    handle: Handle<RLock>,
}

impl Shared for RLock {
    type Machine = Machine<System>;
    const KIND: Kind = Kind::RLock;
    const NAME: &'static str = "an rlock";
}

impl RLock {
    /// A free lock.
    ///
    /// # Errors
    /// There is no memory, or there are too many shared objects.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { handle: Handle::create(0)? })
    }

    /// Waits until no other thread holds it, and holds it until the guard is dropped.
    ///
    /// # Errors
    /// It is [poisoned](Self#poisoning). The guard is in the error.
    ///
    /// # Panics
    /// This thread holds it 2³² - 1 times.
    #[inline]
    pub fn lock(&self) -> Result<RLockGuard<'_>, Poisoned<RLockGuard<'_>>> {
        self.lock_until(Deadline::NEVER).expect("there is no deadline")
    }

    /// As [`lock`](Self::lock), without waiting.
    ///
    /// # Errors
    /// Another thread holds it, or it is [poisoned](Self#poisoning).
    ///
    /// # Panics
    /// As [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<RLockGuard<'_>, TryLockError<RLockGuard<'_>>> {
        self.lock_timeout(Duration::ZERO)
    }

    /// As [`lock`](Self::lock), at most for `timeout`.
    ///
    /// # Errors
    /// As [`try_lock`](Self::try_lock).
    ///
    /// # Panics
    /// As [`lock`](Self::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<RLockGuard<'_>, TryLockError<RLockGuard<'_>>> {
        TryLockError::check(self.lock_until(Deadline::after::<System>(timeout)))
    }

    #[inline]
    fn lock_until(
        &self,
        deadline: Deadline,
    ) -> Option<Result<RLockGuard<'_>, Poisoned<RLockGuard<'_>>>> {
        let lock = self.machine();
        let thread = this_thread();
        if !lock.acquire(thread, deadline) {
            return None;
        }
        let was_panicking = thread::panicking();
        let guard = RLockGuard { lock, thread, was_panicking, stays_here: PhantomData };
        Some(Poisoned::check(guard, lock.lock().is_poisoned()))
    }

    /// Whether somebody holds it at this moment.
    pub fn is_locked(&self) -> bool {
        self.machine().lock().is_held()
    }

    /// How many guards this thread has on it.
    pub fn depth(&self) -> usize {
        self.machine().depth(this_thread()) as usize
    }

    /// Whether a holder has died, or panicked, as far as is known; see [there](Self#poisoning).
    pub fn is_poisoned(&self) -> bool {
        self.machine().lock().is_poisoned()
    }

    /// What it guards is as it should be again: the next guards are ordinary ones.
    pub fn clear_poison(&self) {
        self.machine().lock().clear_poison();
    }

    #[inline]
    fn machine(&self) -> &Machine<System> {
        self.handle.machine()
    }
}

/// A number that no other thread of this process has had among the last 2³².
#[inline]
fn this_thread() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    thread_local! {
        static NUMBER: u32 = NEXT.fetch_add(1, Relaxed);
    }
    NUMBER.with(|number| *number)
}

impl fmt::Debug for RLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLock")
            .field("is_locked", &self.is_locked())
            .field("is_poisoned", &self.is_poisoned())
            .finish()
    }
}

/// What holds an [`RLock`] until it, and every other one of its thread, is dropped.
///
/// It can't go to another thread:
/// ```compile_fail,E0277
/// let lock = procession::sync::RLock::new().unwrap();
/// let guard = lock.lock().unwrap();
/// std::thread::scope(|scope| {
///     scope.spawn(move || drop(guard));
/// });
/// ```
#[must_use = "if unused, the lock is given back at once"]
pub struct RLockGuard<'a> {
    lock: &'a Machine<System>,
    thread: u32,
    was_panicking: bool,
    stays_here: PhantomData<*const ()>,
}

impl Drop for RLockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if thread::panicking() && !self.was_panicking {
            self.lock.lock().poison();
        }
        self.lock.release(self.thread).expect("this thread has taken it once for each guard");
    }
}

impl fmt::Debug for RLockGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RLockGuard").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn y1_it_belongs_to_the_thread_that_has_taken_it() {
        let lock = RLock::new().unwrap();
        let is_free = || thread::scope(|s| s.spawn(|| lock.try_lock().is_ok()).join().unwrap());
        let outer = lock.lock().unwrap();
        let inner = lock.lock_timeout(Duration::ZERO).unwrap();
        assert_eq!(lock.depth(), 2);
        assert!(!is_free());
        // In whatever order they are dropped.
        drop(outer);
        assert!(lock.is_locked() && lock.depth() == 1 && !is_free());
        drop(inner);
        assert!(!lock.is_locked() && lock.depth() == 0 && is_free());
    }

    #[test]
    fn a_panic_poisons_the_inner_and_the_outer_one() {
        let lock = RLock::new().unwrap();
        let outer = lock.lock().unwrap();
        let failed = catch_unwind(AssertUnwindSafe(|| {
            let _inner = lock.lock().unwrap();
            panic!("on purpose");
        }));
        assert!(failed.is_err() && lock.is_poisoned() && lock.depth() == 1);
        assert!(matches!(lock.try_lock(), Err(TryLockError::Poisoned(_))));
        drop(outer);
        lock.clear_poison();
        drop(lock.lock().unwrap());
    }
}

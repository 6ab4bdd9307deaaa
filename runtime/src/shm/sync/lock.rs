//! A lock that remembers whether a holder has failed.
//!
//! Beside the [`RawLock`] stands the *poison*: a word that is set by a holder that fails, or by the successor
//! of a holder that has died, and stays until anybody clears it. It is not a flag in the lock's own word, so
//! that it can be cleared while the lock is held.
//!
//! The successor sets it before it says that it has seen the death: if it dies in between, the next one
//! succeeds a dead holder again.

use std::sync::atomic::Ordering::{Acquire, Release};

use crate::shm::lock::{Held, RawLock};
use crate::shm::platform::{Deadline, Platform, Word};

/// See the file's head. All zeros: free, and not poisoned.
#[repr(C)]
pub(crate) struct Lock<P: Platform> {
    raw: RawLock<P>,
    poisoned: P::U32,
}

impl<P: Platform> Lock<P> {
    /// For models, which don't have zeroed memory.
    #[cfg(test)]
    pub(super) fn new(word: P::U32, poisoned: P::U32) -> Self {
        Self { raw: RawLock::new(word), poisoned }
    }

    /// Waits for it. None: the deadline has passed.
    #[inline]
    pub(crate) fn acquire(&self, deadline: Deadline) -> Option<Held> {
        let held = self.raw.acquire(deadline)?;
        Some(self.succeed(held))
    }

    /// Takes it if it is free, or if its holder is known to be dead.
    #[inline]
    pub(crate) fn try_acquire(&self) -> Option<Held> {
        let held = self.raw.try_acquire()?;
        Some(self.succeed(held))
    }

    #[inline]
    fn succeed(&self, mut held: Held) -> Held {
        if held.is_poisoned() {
            self.poison();
            held.set_poisoned(false);
        }
        held
    }

    /// Gives it back. It is this lock's own `Held` that is given, and no other's.
    #[inline]
    pub(crate) fn release(&self, held: Held) {
        self.raw.release(held);
    }

    /// Whether a living process holds it, at some moment.
    pub(crate) fn is_held(&self) -> bool {
        self.raw.owner().is_some_and(P::is_alive)
    }

    /// A holder has failed.
    pub(crate) fn poison(&self) {
        self.poisoned.store(1, Release);
    }

    /// Whether a holder has failed or died, as far as is known.
    #[inline]
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Acquire) != 0
    }

    pub(crate) fn clear_poison(&self) {
        self.poisoned.store(0, Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::shm::model::{Model, Word32, be, explore, explore_deaths, mortal, process};

    fn lock() -> Arc<Lock<Model>> {
        Arc::new(Lock::new(Word32::default(), Word32::default()))
    }

    #[test]
    fn poison_can_be_cleared_by_the_holder_and_by_others() {
        explore(|| {
            let lock = lock();
            be(1, || {
                let held = lock.acquire(Deadline::NEVER).unwrap();
                lock.poison();
                lock.clear_poison();
                lock.release(held);
                assert!(!lock.is_poisoned());
                let held = lock.try_acquire().unwrap();
                assert!(lock.is_held() && lock.try_acquire().is_none());
                lock.poison();
                lock.release(held);
            });
            be(2, || {
                assert!(lock.is_poisoned() && !lock.is_held());
                lock.clear_poison();
                assert!(!lock.is_poisoned());
            });
        });
    }

    /// Counts to two inside; says whether it was poisoned.
    fn pass(lock: &Lock<Model>, count: &Word32) -> bool {
        let held = lock.acquire(Deadline::NEVER).unwrap();
        let poisoned = lock.is_poisoned();
        count.store(count.load(Relaxed) + 1, Relaxed);
        count.store(count.load(Relaxed) + 1, Relaxed);
        lock.release(held);
        poisoned
    }

    #[test]
    fn every_death_inside_is_told() {
        explore_deaths(|steps| {
            let (lock, count) = (lock(), Arc::new(Word32::default()));
            let (clone, counted) = (Arc::clone(&lock), Arc::clone(&count));
            let first = mortal(1, steps, move || pass(&clone, &counted));
            let (clone, counted) = (Arc::clone(&lock), Arc::clone(&count));
            let second = process(2, move || pass(&clone, &counted));
            let poisoned = second.join().unwrap();
            let died = first.join().is_none();
            be(3, || {
                let poisoned = pass(&lock, &count) || poisoned;
                assert!(died || !poisoned);
                assert!(count.load(Relaxed) % 2 == 0 || poisoned);
            });
        });
    }
}

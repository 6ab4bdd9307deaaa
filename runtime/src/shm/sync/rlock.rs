//! A lock that its owner can take again.
//!
//! The owner is a thread of a process. Beside the [`Lock`] stand the holder (process and thread) and
//! how often it has taken the lock. Only who has the lock writes them, and the holder's word can be equal
//! to a thread's own only if that thread wrote it: so one look tells a thread whether it is the holder.
//!
//! ```text
//! FREE ---acquire---> HELD, depth 1 <---acquire, release---> HELD, depth 2 …
//! ```
//!
//! A dead holder's lock is taken over as every [`Lock`] is: poisoned. Its holder's word names nobody who
//! could look any more, and is overwritten.

use std::sync::atomic::Ordering::Relaxed;

use super::lock::Lock;
use crate::shm::lock::Held;
use crate::shm::platform::{Deadline, Platform, Word};

/// See the file's head. All zeros: free.
#[repr(C)]
pub(crate) struct RLock<P: Platform> {
    holder: P::U64,
    lock: Lock<P>,
    depth: P::U32,
}

/// The lock isn't this thread's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NotHolder;

impl<P: Platform> RLock<P> {
    /// Takes it once more. `thread` numbers the threads of this process. False: the deadline has passed.
    #[inline]
    pub(crate) fn acquire(&self, thread: u32, deadline: Deadline) -> bool {
        if self.is_held_by(thread) {
            let depth = self.depth.load(Relaxed).checked_add(1);
            self.depth.store(depth.expect("an RLock is taken less than 2³² times"), Relaxed);
            return true;
        }
        // The proof is made again when it is needed: what stands in the words is as good.
        let is_taken = self.lock.acquire(deadline).is_some();
        if is_taken {
            self.depth.store(1, Relaxed);
            self.holder.store(Self::holder(thread), Relaxed);
        }
        is_taken
    }

    /// Gives it back once.
    #[inline]
    pub(crate) fn release(&self, thread: u32) -> Result<(), NotHolder> {
        if !self.is_held_by(thread) {
            return Err(NotHolder);
        }
        let depth = self.depth.load(Relaxed);
        if depth > 1 {
            self.depth.store(depth - 1, Relaxed);
        } else {
            self.holder.store(0, Relaxed);
            self.lock.release(Held::again(false));
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn is_held_by(&self, thread: u32) -> bool {
        self.holder.load(Relaxed) == Self::holder(thread)
    }

    /// How often its holder has taken it, if this thread is that.
    pub(crate) fn depth(&self, thread: u32) -> u32 {
        if self.is_held_by(thread) { self.depth.load(Relaxed) } else { 0 }
    }

    /// Whom it belongs to, and whether it is poisoned.
    pub(crate) fn lock(&self) -> &Lock<P> {
        &self.lock
    }

    fn holder(thread: u32) -> u64 {
        u64::from(P::me().bits()) << 32 | u64::from(thread)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::shm::model::{Model, Word32, Word64, be, explore, explore_deaths, mortal, process};

    fn lock() -> Arc<RLock<Model>> {
        Arc::new(RLock {
            holder: Word64::default(),
            lock: Lock::new(Word32::default(), Word32::default()),
            depth: Word32::default(),
        })
    }

    fn soon() -> Deadline {
        Deadline::after::<Model>(Duration::ZERO)
    }

    #[test]
    fn it_is_free_after_as_many_releases() {
        explore(|| {
            let lock = lock();
            be(1, || {
                assert_eq!(lock.release(7), Err(NotHolder));
                assert!(lock.acquire(7, Deadline::NEVER));
                assert!(lock.acquire(7, soon()));
                assert_eq!((lock.depth(7), lock.depth(8)), (2, 0));
                assert!(!lock.acquire(8, soon()));
                assert_eq!(lock.release(8), Err(NotHolder));
                assert_eq!(lock.release(7), Ok(()));
                assert!(!lock.acquire(8, soon()));
                assert_eq!(lock.release(7), Ok(()));
                assert_eq!(lock.release(7), Err(NotHolder));
                assert!(lock.acquire(8, soon()));
                assert_eq!(lock.release(8), Ok(()));
            });
        });
    }

    /// Takes the lock twice, and counts inside; says whether it was poisoned.
    fn pass(lock: &RLock<Model>, thread: u32, count: &Word32) -> bool {
        assert!(lock.acquire(thread, Deadline::NEVER));
        let poisoned = lock.lock().is_poisoned();
        count.store(count.load(Relaxed) + 1, Relaxed);
        assert!(lock.acquire(thread, Deadline::NEVER));
        count.store(count.load(Relaxed) + 1, Relaxed);
        lock.release(thread).unwrap();
        lock.release(thread).unwrap();
        poisoned
    }

    #[test]
    fn threads_and_processes_take_turns() {
        explore(|| {
            let (lock, count) = (lock(), Arc::new(Word32::default()));
            // Two threads of one process, and a thread with the same number of another.
            let others = [(1, 2), (2, 2)].map(|(number, thread)| {
                let (lock, count) = (Arc::clone(&lock), Arc::clone(&count));
                process(number, move || pass(&lock, thread, &count))
            });
            be(1, || pass(&lock, 1, &count));
            assert_eq!(others.map(|other| other.join()), [Some(false); 2]);
            assert_eq!(count.load(Relaxed), 6);
        });
    }

    #[test]
    fn the_dead_are_succeeded() {
        explore_deaths(|steps| {
            let (lock, count) = (lock(), Arc::new(Word32::default()));
            let (clone, counted) = (Arc::clone(&lock), Arc::clone(&count));
            let first = mortal(1, steps, move || pass(&clone, 1, &counted));
            let (clone, counted) = (Arc::clone(&lock), Arc::clone(&count));
            let second = process(2, move || pass(&clone, 1, &counted));
            let poisoned = second.join().unwrap();
            let died = first.join().is_none();
            be(3, || {
                let poisoned = pass(&lock, 1, &count) || poisoned;
                assert!(died || !poisoned);
                // Who has died half way through is reported.
                assert!(count.load(Relaxed) % 2 == 0 || poisoned);
            });
        });
    }
}

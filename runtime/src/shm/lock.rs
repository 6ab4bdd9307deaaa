//! The lock under everything: one word that survives its owner.
//!
//! ```text
//! FREE ---acquire---> HELD by an owner ---release---> FREE
//!                        |
//!                        +---the owner dies; a waiter takes over---> HELD by the waiter, POISONED
//! ```
//!
//! The word holds the owner (no bits: free), the flag WAITERS (somebody may sleep on it: the release
//! wakes one) and the flag POISONED (an owner died inside; it stays until an owner clears it). Anybody
//! moves it FREE to HELD by compare-and-swap; only the owner moves it to FREE; a waiter moves it from a
//! dead owner to itself, also by compare-and-swap, so that only one does.
//!
//! A sleeper looks at the word again every [`Platform::PATIENCE`], so that it needs no wake from a process
//! that was killed between its release and the wake.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::platform::{Deadline, Owner, Platform, Word};

const WAITERS: u32 = 1 << 31;
const POISONED: u32 = 1 << 30;

/// See the file's head. All zeros: free.
#[repr(C)]
pub(crate) struct RawLock<P: Platform> {
    word: P::U32,
}

/// Proof that the lock is held, by this process. It has to be given back: see [`RawLock::release`].
#[must_use]
#[derive(Debug)]
pub(crate) struct Held {
    poisoned: bool,
}

impl Held {
    /// For who holds the lock without having kept its proof.
    pub(super) fn again(poisoned: bool) -> Self {
        Self { poisoned }
    }

    /// Whether an owner has died inside since the poison was last cleared.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// The next owner will find it as this one wants it.
    pub(crate) fn set_poisoned(&mut self, poisoned: bool) {
        self.poisoned = poisoned;
    }
}

impl<P: Platform> RawLock<P> {
    /// For models and tests, which don't have zeroed memory.
    #[cfg(test)]
    pub(crate) fn new(word: P::U32) -> Self {
        Self { word }
    }

    /// Takes it if it is free, or if its owner is known to be dead.
    #[inline]
    pub(crate) fn try_acquire(&self) -> Option<Held> {
        let me = P::me().bits();
        if self.word.compare_exchange(0, me, Acquire, Relaxed).is_ok() {
            return Some(Held { poisoned: false });
        }
        self.try_slowly(0, true)
    }

    /// Waits for it. None: the deadline has passed.
    #[inline]
    pub(crate) fn acquire(&self, deadline: Deadline) -> Option<Held> {
        let me = P::me().bits();
        if self.word.compare_exchange(0, me, Acquire, Relaxed).is_ok() {
            return Some(Held { poisoned: false });
        }
        self.acquire_slowly(deadline)
    }

    /// Waits for it as long as it takes.
    #[inline]
    pub(crate) fn acquire_patiently(&self) -> Held {
        self.acquire(Deadline::NEVER).expect("this deadline doesn't pass")
    }

    #[cold]
    fn acquire_slowly(&self, deadline: Deadline) -> Option<Held> {
        let mut round = 0;
        while P::spin(round) {
            round += 1;
            if Owner::in_word(self.word.load(Relaxed)).is_none()
                && let Some(held) = self.try_slowly(0, false)
            {
                return Some(held);
            }
        }
        let mut patient = true;
        loop {
            // Others may sleep as well: whoever has slept says so, to be on the safe side.
            if let Some(held) = self.try_slowly(WAITERS, !patient) {
                return Some(held);
            }
            if deadline.has_passed::<P>() {
                // Who doesn't sleep looks at once whether the owner is alive.
                return self.try_slowly(0, true);
            }
            let word = self.word.load(Relaxed);
            if Owner::in_word(word).is_none() {
                continue;
            }
            let sleeping = word | WAITERS;
            if word == sleeping
                || self.word.compare_exchange(word, sleeping, Relaxed, Relaxed).is_ok()
            {
                P::wait(&self.word, sleeping, Some(deadline.nap::<P>()));
                // Nothing has happened for so long: is the owner still there?
                patient = self.word.load(Relaxed) != sleeping;
            }
        }
    }

    /// One try. `check` asks whether the owner is alive.
    #[cold]
    fn try_slowly(&self, flags: u32, check: bool) -> Option<Held> {
        let me = P::me().bits();
        let mut word = self.word.load(Relaxed);
        loop {
            let poisoned = match Owner::in_word(word) {
                None => word & POISONED,
                Some(owner) if check && !P::is_alive(owner) => POISONED,
                Some(_) => return None,
            };
            let next = me | poisoned | (word & WAITERS) | flags;
            match self.word.compare_exchange(word, next, Acquire, Relaxed) {
                Ok(_) => return Some(Held { poisoned: poisoned != 0 }),
                Err(now) => word = now,
            }
        }
    }

    /// Gives it back. It is this lock's own `Held` that is given, and no other's.
    #[inline]
    pub(crate) fn release(&self, held: Held) {
        let word = if held.poisoned { POISONED } else { 0 };
        if self.word.swap(word, Release) & WAITERS != 0 {
            P::wake(&self.word, 1);
        }
    }

    /// The process that holds it now.
    pub(crate) fn owner(&self) -> Option<Owner> {
        Owner::in_word(self.word.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::shm::model::{Model, Word32, be, explore, explore_deaths, mortal, process};

    /// A lock, and what it guards: who is inside, and a count.
    struct Guarded {
        lock: RawLock<Model>,
        inside: Word32,
        count: Word32,
    }

    impl Guarded {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                lock: RawLock::new(Word32::default()),
                inside: Word32::default(),
                count: Word32::default(),
            })
        }

        /// One pass. True: somebody had died inside.
        fn pass(&self) -> bool {
            let held = self.lock.acquire(Deadline::NEVER).unwrap();
            let me = Model::me();
            assert_eq!(self.lock.owner(), Some(me));
            let before = self.inside.swap(me.bits(), Relaxed);
            if let Some(before) = Owner::in_word(before) {
                assert!(held.is_poisoned() && !Model::is_alive(before));
            }
            // Not one operation: it counts wrong if two are inside, or don't see each other's changes.
            self.count.store(self.count.load(Relaxed) + 1, Relaxed);
            assert_eq!(self.inside.swap(0, Relaxed), me.bits());
            let poisoned = held.is_poisoned();
            self.lock.release(held);
            poisoned
        }
    }

    #[test]
    fn one_at_a_time_is_inside() {
        explore(|| {
            let guarded = Guarded::new();
            let others = [2, 3].map(|number| {
                let guarded = Arc::clone(&guarded);
                process(number, move || guarded.pass())
            });
            assert!(!be(1, || guarded.pass()));
            assert_eq!(others.map(|other| other.join()), [Some(false); 2]);
            assert_eq!(guarded.count.load(Relaxed), 3);
            assert_eq!(guarded.lock.owner(), None);
        });
    }

    #[test]
    fn the_dead_are_succeeded() {
        explore_deaths(|steps| {
            let guarded = Guarded::new();
            let clone = Arc::clone(&guarded);
            let first = mortal(1, steps, move || clone.pass());
            let clone = Arc::clone(&guarded);
            let second = process(2, move || clone.pass());
            be(3, || guarded.pass());
            second.join();
            let died = first.join().is_none();
            // It may have died after all others had passed.
            let poisoned = be(3, || guarded.pass());
            assert!(died || !poisoned);
            // Poison stays until an owner clears it.
            be(3, || {
                let mut held = guarded.lock.try_acquire().unwrap();
                assert_eq!(held.is_poisoned(), poisoned);
                held.set_poisoned(false);
                guarded.lock.release(held);
            });
            assert!(!be(3, || guarded.pass()));
        });
    }

    #[test]
    fn whoever_gives_up_leaves_the_lock_to_others() {
        explore(|| {
            let guarded = Guarded::new();
            let clone = Arc::clone(&guarded);
            let impatient = process(2, move || {
                let deadline = Deadline::after::<Model>(Duration::from_secs(1));
                if let Some(held) = clone.lock.acquire(deadline) {
                    clone.lock.release(held);
                }
            });
            let clone = Arc::clone(&guarded);
            let patient = process(3, move || clone.pass());
            be(1, || guarded.pass());
            impatient.join();
            patient.join();
            assert_eq!(guarded.count.load(Relaxed), 2);
        });
    }

    #[test]
    fn poison_can_be_set_and_cleared_by_the_owner() {
        explore(|| {
            let guarded = Guarded::new();
            be(1, || {
                let mut held = guarded.lock.try_acquire().unwrap();
                assert!(guarded.lock.try_acquire().is_none());
                held.set_poisoned(true);
                guarded.lock.release(held);
                let mut held = guarded.lock.try_acquire().unwrap();
                assert!(held.is_poisoned());
                held.set_poisoned(false);
                guarded.lock.release(held);
                assert!(!guarded.lock.try_acquire().unwrap().is_poisoned());
            });
        });
    }
}

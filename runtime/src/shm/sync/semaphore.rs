//! Permits that come back when their owner dies.
//!
//! Under a [`RawLock`] stand the number of free permits, and a table: how many permits each process owns.
//! A permit is in one of four places, and moves only under the lock:
//!
//! ```text
//! nowhere ---add---> FREE ---acquire---> OWNED by a process ---forget---> nowhere
//!                     ^                    |
//!                     +---release, or the owner dies and a waiter or its slot's next process sees it
//! ```
//!
//! A process has the slot of the table that the low bits of its [`Owner`] name. The slot's word has the
//! whole owner, so that the permits of a dead process aren't taken for those of the slot's next one.
//!
//! Most moves change both the free permits and a slot. They are written into a *redo record* first; one
//! store makes it valid, and with that the move has happened. Then both are changed, and the record is
//! made invalid. Who takes the lock over from a dead process redoes what is valid. All stores are Release,
//! so that they are seen in their order.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::shm::bell::Bell;
use crate::shm::lock::{Held, RawLock};
use crate::shm::platform::{Deadline, Owner, Platform, Word};

/// As many as there are values of the bits in an [`Owner`] that are its slot.
const ALL_SLOTS: usize = 1024;

/// See the file's head. All zeros: no permits, and no bound.
#[repr(C)]
pub(crate) struct Semaphore<P: Platform, const SLOTS: usize = ALL_SLOTS> {
    lock: RawLock<P>,
    bell: Bell<P>,
    free: P::U32,
    /// The complement of the bound, so that zero is none.
    not_bound: P::U32,
    /// The redo record: 0 is invalid, otherwise the slot plus one.
    redo: P::U32,
    next_free: P::U32,
    next_owned: P::U64,
    owned: [P::U64; SLOTS],
}

/// Why a permit can't be given back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Surplus {
    /// This process owns none.
    NotOwned,
    /// There would be more free permits than the bound allows.
    AboveBound,
}

/// The permits of one process, as they stand in its slot.
#[derive(Clone, Copy)]
struct Owned {
    /// The bits of the owner.
    owner: u32,
    count: u32,
}

impl Owned {
    fn pack(self) -> u64 {
        u64::from(self.owner) << 32 | u64::from(self.count)
    }

    fn unpack(word: u64) -> Self {
        Self { owner: (word >> 32) as u32, count: word as u32 }
    }
}

impl<P: Platform, const SLOTS: usize> Semaphore<P, SLOTS> {
    /// Before it is shared. The bound is of the free permits; none is as many as a `u32` holds.
    pub(crate) fn init(&self, value: u32, bound: Option<u32>) {
        self.free.store(value, Relaxed);
        self.not_bound.store(!bound.unwrap_or(u32::MAX), Relaxed);
    }

    /// How many permits are free, at some moment.
    pub(crate) fn value(&self) -> u32 {
        self.free.load(Relaxed)
    }

    /// Takes a permit for this process. False: the deadline has passed.
    pub(crate) fn acquire(&self, deadline: Deadline) -> bool {
        self.take(false) || {
            let take = |look| self.take(look).then_some(());
            self.bell.watch_until(deadline, take).is_some()
        }
    }

    /// Gives a permit of this process back.
    pub(crate) fn release(&self) -> Result<(), Surplus> {
        let held = self.enter();
        let result = self.own().and_then(|(slot, owned)| {
            let free = self.one_more()?;
            self.commit(free, slot, Owned { count: owned.count - 1, ..owned });
            Ok(())
        });
        self.leave(held, u32::from(result.is_ok()));
        result
    }

    /// A permit of this process is nobody's from now on: its death doesn't bring it back.
    pub(crate) fn forget(&self) -> Result<(), Surplus> {
        let held = self.enter();
        let result = self.own().map(|(slot, owned)| {
            self.commit(self.free.load(Relaxed), slot, Owned { count: owned.count - 1, ..owned });
        });
        self.leave(held, 0);
        result
    }

    /// Makes a permit out of nothing.
    pub(crate) fn add(&self) -> Result<(), Surplus> {
        let held = self.enter();
        let result = self.one_more().map(|free| self.free.store(free, Release));
        self.leave(held, u32::from(result.is_ok()));
        result
    }

    /// One try. `look` asks whether those who own permits are alive.
    fn take(&self, look: bool) -> bool {
        let slot = Self::slot();
        // The permits of the slot's dead process are as good as free.
        let nothing = || {
            let owned = Owned::unpack(self.owned[slot].load(Relaxed));
            self.free.load(Relaxed) == 0 && (owned.owner == P::me().bits() || owned.count == 0)
        };
        if !look && nothing() {
            return false;
        }
        let held = self.enter();
        let mut given_back = if look { self.bury() } else { 0 };
        let me = P::me().bits();
        let mut owned = Owned::unpack(self.owned[slot].load(Relaxed));
        let mut free = self.free.load(Relaxed);
        if owned.owner != me {
            given_back = given_back.saturating_add(owned.count);
            free = self.with(owned.count);
            owned = Owned { owner: me, count: 0 };
        }
        let taken = free > 0;
        if taken {
            self.commit(free - 1, slot, Owned { count: owned.count + 1, ..owned });
        }
        self.leave(held, given_back.saturating_sub(u32::from(taken)));
        taken
    }

    /// Gives the permits of the dead back; says how many.
    fn bury(&self) -> u32 {
        let mut count = 0_u32;
        for slot in 0..SLOTS {
            let owned = Owned::unpack(self.owned[slot].load(Relaxed));
            let Some(owner) = Owner::in_word(owned.owner) else { continue };
            if owned.count > 0 && !P::is_alive(owner) {
                self.commit(self.with(owned.count), slot, Owned { owner: 0, count: 0 });
                count = count.saturating_add(owned.count);
            }
        }
        count
    }

    fn slot() -> usize {
        P::me().bits() as usize % ALL_SLOTS
    }

    fn bound(&self) -> u32 {
        !self.not_bound.load(Relaxed)
    }

    /// What is free when so many come back.
    fn with(&self, count: u32) -> u32 {
        self.free.load(Relaxed).saturating_add(count).min(self.bound())
    }

    fn one_more(&self) -> Result<u32, Surplus> {
        let free = self.free.load(Relaxed);
        if free < self.bound() { Ok(free + 1) } else { Err(Surplus::AboveBound) }
    }

    /// This process's slot, if it owns anything.
    fn own(&self) -> Result<(usize, Owned), Surplus> {
        let slot = Self::slot();
        let owned = Owned::unpack(self.owned[slot].load(Relaxed));
        let is_mine = owned.owner == P::me().bits() && owned.count > 0;
        if is_mine { Ok((slot, owned)) } else { Err(Surplus::NotOwned) }
    }

    fn enter(&self) -> Held {
        let mut held = self.lock.acquire_patiently();
        if held.is_poisoned() {
            self.redo();
            held.set_poisoned(false);
        }
        held
    }

    /// Wakes who may take one of so many permits.
    fn leave(&self, held: Held, permits: u32) {
        self.lock.release(held);
        if permits > 0 {
            self.bell.ring(permits);
        }
    }

    fn commit(&self, free: u32, slot: usize, owned: Owned) {
        self.next_free.store(free, Release);
        self.next_owned.store(owned.pack(), Release);
        self.redo.store(slot as u32 + 1, Release);
        self.redo();
    }

    fn redo(&self) {
        let slot = (self.redo.load(Acquire) as usize).checked_sub(1);
        if let Some(owned) = slot.and_then(|slot| self.owned.get(slot)) {
            self.free.store(self.next_free.load(Relaxed), Release);
            owned.store(self.next_owned.load(Relaxed), Release);
            self.redo.store(0, Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::array::from_fn;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::shm::model::{
        Model, Word32, Word64, be, explore, explore_deaths, explore_with, mortal, process,
    };

    type Small = Semaphore<Model, 4>;

    fn semaphore(value: u32, bound: Option<u32>) -> Arc<Small> {
        let semaphore = Semaphore {
            lock: RawLock::new(Word32::default()),
            bell: Bell::new(Word32::default()),
            free: Word32::default(),
            not_bound: Word32::default(),
            redo: Word32::default(),
            next_free: Word32::default(),
            next_owned: Word64::default(),
            owned: from_fn(|_| Word64::default()),
        };
        semaphore.init(value, bound);
        Arc::new(semaphore)
    }

    /// A try, which also brings back what the dead have owned.
    fn try_acquire(semaphore: &Small) -> bool {
        semaphore.acquire(Deadline::after::<Model>(Duration::ZERO))
    }

    #[test]
    fn permits_are_counted() {
        explore(|| {
            let semaphore = semaphore(2, Some(2));
            be(1, || {
                assert_eq!(semaphore.release(), Err(Surplus::NotOwned));
                assert_eq!(semaphore.add(), Err(Surplus::AboveBound));
                assert!(try_acquire(&semaphore));
                assert!(semaphore.acquire(Deadline::NEVER));
                assert!(!try_acquire(&semaphore));
                assert!(!semaphore.acquire(Deadline::after::<Model>(Duration::from_secs(1))));
                assert_eq!(semaphore.release(), Ok(()));
                assert_eq!(semaphore.value(), 1);
                assert_eq!(semaphore.forget(), Ok(()));
                assert_eq!(semaphore.forget(), Err(Surplus::NotOwned));
                assert_eq!(semaphore.value(), 1);
                assert_eq!(semaphore.add(), Ok(()));
                assert_eq!(semaphore.value(), 2);
            });
            be(2, || assert_eq!(semaphore.release(), Err(Surplus::NotOwned)));
        });
    }

    #[test]
    fn a_freed_permit_reaches_who_waits() {
        explore(|| {
            let semaphore = semaphore(1, None);
            let inside = Arc::new(Word32::default());
            let pass = |semaphore: &Small, inside: &Word32| {
                assert!(semaphore.acquire(Deadline::NEVER));
                assert_eq!(inside.swap(1, Relaxed), 0);
                assert_eq!(inside.swap(0, Relaxed), 1);
                semaphore.release().unwrap();
            };
            let (clone, guarded) = (Arc::clone(&semaphore), Arc::clone(&inside));
            let other = process(2, move || pass(&clone, &guarded));
            be(1, || pass(&semaphore, &inside));
            other.join();
            assert_eq!(semaphore.value(), 1);
        });
    }

    #[test]
    fn who_adds_wakes_who_waits() {
        explore_with(1, || {
            let semaphore = semaphore(0, None);
            let waiters = [2, 3].map(|number| {
                let semaphore = Arc::clone(&semaphore);
                process(number, move || semaphore.acquire(Deadline::NEVER))
            });
            be(1, || {
                semaphore.add().unwrap();
                semaphore.add().unwrap();
            });
            assert_eq!(waiters.map(|waiter| waiter.join()), [Some(true); 2]);
            assert_eq!(semaphore.value(), 0);
        });
    }

    #[test]
    fn the_permits_of_the_dead_come_back() {
        explore_deaths(|steps| {
            let semaphore = semaphore(1, Some(1));
            let clone = Arc::clone(&semaphore);
            let first = mortal(1, steps, move || {
                assert!(clone.acquire(Deadline::NEVER));
                clone.release().unwrap();
            });
            let clone = Arc::clone(&semaphore);
            let second = process(2, move || {
                assert!(clone.acquire(Deadline::NEVER));
                clone.release().unwrap();
            });
            second.join();
            first.join();
            be(3, || {
                assert!(try_acquire(&semaphore));
                assert!(!try_acquire(&semaphore));
                semaphore.release().unwrap();
            });
        });
    }

    #[test]
    fn the_slots_next_process_gives_the_permits_back() {
        explore_deaths(|steps| {
            let semaphore = semaphore(1, None);
            let clone = Arc::clone(&semaphore);
            let first = mortal(1, steps, move || {
                assert!(clone.acquire(Deadline::NEVER));
                clone.release().unwrap();
            });
            if first.join().is_none() {
                be(1 + ALL_SLOTS as u32, || {
                    assert!(semaphore.acquire(Deadline::NEVER));
                    assert_eq!(semaphore.value(), 0);
                    assert_eq!(semaphore.release(), Ok(()));
                    assert_eq!(semaphore.value(), 1);
                });
            }
        });
    }

    #[test]
    fn a_permit_is_forgotten_altogether_or_not_at_all() {
        explore_deaths(|steps| {
            let semaphore = semaphore(1, None);
            let clone = Arc::clone(&semaphore);
            let first = mortal(1, steps, move || {
                assert!(clone.acquire(Deadline::NEVER));
                clone.forget().unwrap();
                clone.add().unwrap();
            });
            let lives = first.join().is_some();
            be(2, || {
                let free = u32::from(try_acquire(&semaphore)) + semaphore.value();
                assert!(if lives { free == 1 } else { free <= 1 });
            });
        });
    }
}

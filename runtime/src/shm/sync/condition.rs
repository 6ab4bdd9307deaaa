//! Waiting, without a lock that one holds, until somebody else says that something has changed.
//!
//! Each waiter has a record in a table: owner, state and ticket. Tickets are in the order of arrival, and
//! notifications go in that order.
//!
//! ```text
//! FREE ---wait---> WAITING ---notify---> NOTIFIED ---the waiter returns true---> FREE
//!                     |
//!                     +---the deadline passes, the waiter returns false---> FREE
//! ```
//!
//! Every move is made under the lock that the callers hold, a [`RawLock`](crate::shm::lock::RawLock) or an
//! RLock; this file only gives it back and takes it again. A waiter whose deadline has passed finds out
//! under the lock whether it has been notified meanwhile, and then it has: no notification is lost. It
//! returns true for nothing else.
//!
//! The record of a waiter that has died is passed over, and is free. One that dies after it was notified
//! has used that notification up, as if it had died right after its wait.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::shm::platform::{Deadline, Owner, Platform, Word};

const WAITING: u32 = 0;
const NOTIFIED: u32 = 1;

/// How many can wait at once: a waiter for every process, or several in fewer. The table takes under
/// 16 KiB.
const RECORDS: usize = 1000;

/// See the file's head. All zeros: nobody waits.
#[repr(C)]
pub(crate) struct Condition<P: Platform, const N: usize = RECORDS> {
    next_ticket: P::U64,
    /// All records from here on are free.
    high: P::U32,
    records: [Record<P>; N],
}

#[repr(C)]
struct Record<P: Platform> {
    ticket: P::U64,
    /// The record is free if there is none. Written last on a wait.
    owner: P::U32,
    /// The word to sleep on.
    state: P::U32,
}

/// There are so many waiters already that there is no room for another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooManyWaiters(pub(crate) usize);

impl<P: Platform, const N: usize> Condition<P, N> {
    /// Waits until it is notified, without the lock. The lock is given back by `release`, which is given
    /// `held`, and is held again when this returns, by `acquire`. False: the deadline has passed.
    pub(crate) fn wait<H>(
        &self,
        held: H,
        deadline: Deadline,
        release: impl FnOnce(H),
        acquire: impl FnOnce() -> H,
    ) -> (H, Result<bool, TooManyWaiters>) {
        let Some(record) = self.enlist() else {
            return (held, Err(TooManyWaiters(N)));
        };
        release(held);
        while record.state.load(Acquire) == WAITING && !deadline.has_passed::<P>() {
            P::wait(&record.state, WAITING, Some(deadline.nap::<P>()));
        }
        let held = acquire();
        let notified = record.state.load(Relaxed) != WAITING;
        record.owner.store(0, Relaxed);
        self.shrink();
        (held, Ok(notified))
    }

    /// Notifies the `count` who have waited longest, or as many as there are. The caller holds the lock.
    pub(crate) fn notify(&self, count: usize) {
        for _ in 0..count {
            let Some(record) = self.first() else { return };
            record.notify();
        }
    }

    /// Notifies all who wait. The caller holds the lock.
    pub(crate) fn notify_all(&self) {
        self.records().iter().filter(|record| record.waits()).for_each(Record::notify);
    }

    /// Makes a record for this thread.
    fn enlist(&self) -> Option<&Record<P>> {
        let high = self.high();
        let is_free = |record: &Record<P>| record.owner.load(Relaxed) == 0;
        let vacant = self.records().iter().position(is_free);
        let index = match vacant {
            Some(index) => index,
            None if high < N => high,
            None => {
                self.records().iter().for_each(Record::free_if_dead);
                self.records().iter().position(is_free)?
            }
        };
        if index >= high {
            self.high.store(index as u32 + 1, Relaxed);
        }
        let record = &self.records[index];
        let ticket = self.next_ticket.load(Relaxed);
        self.next_ticket.store(ticket.wrapping_add(1), Relaxed);
        record.ticket.store(ticket, Relaxed);
        record.state.store(WAITING, Relaxed);
        record.owner.store(P::me().bits(), Release);
        Some(record)
    }

    /// The living waiter that has waited longest.
    fn first(&self) -> Option<&Record<P>> {
        loop {
            let waiting = self.records().iter().filter(|record| record.waits());
            let first = waiting.min_by_key(|record| record.ticket.load(Relaxed))?;
            first.free_if_dead();
            if first.waits() {
                return Some(first);
            }
        }
    }

    /// Forgets free records at the end, which nobody needs to look through.
    fn shrink(&self) {
        let last = self.records().iter().rposition(|record| record.owner.load(Relaxed) != 0);
        self.high.store(last.map_or(0, |last| last as u32 + 1), Relaxed);
    }

    fn high(&self) -> usize {
        (self.high.load(Relaxed) as usize).min(N)
    }

    fn records(&self) -> &[Record<P>] {
        &self.records[..self.high()]
    }
}

impl<P: Platform> Record<P> {
    fn waits(&self) -> bool {
        self.owner.load(Relaxed) != 0 && self.state.load(Relaxed) == WAITING
    }

    fn notify(&self) {
        self.state.store(NOTIFIED, Release);
        P::wake(&self.state, 1);
    }

    fn free_if_dead(&self) {
        if Owner::in_word(self.owner.load(Relaxed)).is_some_and(|owner| !P::is_alive(owner)) {
            self.owner.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::array::from_fn;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::shm::lock::{Held, RawLock};
    use crate::shm::model::{Model, Word32, Word64, be, explore, explore_deaths, mortal, process};

    /// A condition, its lock, and a number of things that have happened.
    struct Guarded<const N: usize> {
        lock: RawLock<Model>,
        condition: Condition<Model, N>,
        things: Word32,
    }

    impl<const N: usize> Guarded<N> {
        fn new() -> Arc<Self> {
            let condition = Condition {
                next_ticket: Word64::default(),
                high: Word32::default(),
                records: from_fn(|_| Record {
                    ticket: Word64::default(),
                    owner: Word32::default(),
                    state: Word32::default(),
                }),
            };
            let lock = RawLock::new(Word32::default());
            Arc::new(Self { lock, condition, things: Word32::default() })
        }

        fn lock(&self) -> Held {
            self.lock.acquire_patiently()
        }

        fn wait(&self, held: Held, deadline: Deadline) -> (Held, Result<bool, TooManyWaiters>) {
            self.condition.wait(held, deadline, |held| self.lock.release(held), || self.lock())
        }

        /// Waits until it can take one of the things.
        fn take(&self) {
            let mut held = self.lock();
            while self.things.load(Relaxed) == 0 {
                let notified;
                (held, notified) = self.wait(held, Deadline::NEVER);
                assert_eq!(notified, Ok(true));
            }
            self.things.store(self.things.load(Relaxed) - 1, Relaxed);
            self.lock.release(held);
        }

        fn happen(&self, count: u32, notify: impl FnOnce(&Condition<Model, N>)) {
            let held = self.lock();
            self.things.store(self.things.load(Relaxed) + count, Relaxed);
            notify(&self.condition);
            self.lock.release(held);
        }
    }

    fn takers(guarded: &Arc<Guarded<2>>) -> [crate::shm::model::Process<()>; 2] {
        [2, 3].map(|number| {
            let guarded = Arc::clone(guarded);
            process(number, move || guarded.take())
        })
    }

    #[test]
    fn each_notification_wakes_one() {
        explore(|| {
            let guarded = Guarded::new();
            let takers = takers(&guarded);
            be(1, || {
                guarded.happen(1, |condition| condition.notify(1));
                guarded.happen(1, |condition| condition.notify(1));
            });
            assert_eq!(takers.map(|taker| taker.join()), [Some(()); 2]);
            assert_eq!(guarded.condition.high.load(Relaxed), 0);
        });
    }

    #[test]
    fn all_can_be_notified() {
        explore(|| {
            let guarded = Guarded::new();
            let takers = takers(&guarded);
            be(1, || guarded.happen(2, Condition::notify_all));
            assert_eq!(takers.map(|taker| taker.join()), [Some(()); 2]);
        });
    }

    #[test]
    fn the_first_to_wait_is_the_first_to_be_notified() {
        explore(|| {
            let guarded = Guarded::<3>::new();
            be(1, || {
                let held = guarded.lock();
                let condition = &guarded.condition;
                let first = condition.enlist().unwrap();
                let second = condition.enlist().unwrap();
                condition.notify(1);
                assert!(!first.waits() && second.waits());
                first.owner.store(0, Relaxed);
                let third = condition.enlist().unwrap();
                let fourth = condition.enlist().unwrap();
                condition.notify(2);
                assert!(!second.waits() && !third.waits() && fourth.waits());
                assert!(condition.enlist().is_none());
                let (held, refused) = guarded.wait(held, Deadline::NEVER);
                assert_eq!(refused, Err(TooManyWaiters(3)));
                guarded.lock.release(held);
            });
        });
    }

    #[test]
    fn who_was_notified_has_not_timed_out() {
        explore(|| {
            let guarded = Guarded::<2>::new();
            let clone = Arc::clone(&guarded);
            let waiter = process(2, move || {
                let held = clone.lock();
                let soon = Deadline::after::<Model>(Duration::from_secs(1));
                let (held, notified) = clone.wait(held, soon);
                clone.lock.release(held);
                notified
            });
            let found = be(1, || {
                let held = guarded.lock();
                let found = guarded.condition.first().is_some();
                guarded.condition.notify(1);
                guarded.lock.release(held);
                found
            });
            assert_eq!(waiter.join(), Some(Ok(found)));
        });
    }

    #[test]
    fn the_dead_are_passed_over() {
        explore_deaths(|steps| {
            let guarded = Guarded::<2>::new();
            let clone = Arc::clone(&guarded);
            let first = mortal(1, steps, move || {
                let held = clone.lock();
                let _ = clone.condition.enlist().unwrap();
                clone.lock.release(held);
                // It sleeps, and wakes in nobody's sight.
            });
            let lives = first.join().is_some();
            be(2, || {
                let held = guarded.lock();
                let mine = guarded.condition.enlist().unwrap();
                guarded.condition.notify(1);
                assert_eq!(mine.waits(), lives);
                mine.owner.store(0, Relaxed);
                // There is room for two again, as far as nobody living is there.
                assert!(guarded.condition.enlist().is_some());
                assert_eq!(guarded.condition.enlist().is_some(), !lives);
                guarded.lock.release(held);
            });
        });
    }

    #[test]
    fn a_notifier_may_die() {
        explore_deaths(|steps| {
            let guarded = Guarded::<2>::new();
            let clone = Arc::clone(&guarded);
            let taker = process(2, move || clone.take());
            let clone = Arc::clone(&guarded);
            let notifier = mortal(1, steps, move || clone.happen(1, |all| all.notify(1)));
            if notifier.join().is_none() {
                be(3, || guarded.happen(1, Condition::notify_all));
            }
            taker.join();
        });
    }
}

//! A place where processes wait for each other.
//!
//! Each that waits has a record in a table: its owner, and what has become of its wait. One word holds the
//! barrier's state:
//!
//! ```text
//! OPEN ---the last party arrives---> ACTING (names that party) ---the action is done---> RELEASING ---> OPEN
//!   |                                  |
//!   +------------+---------------------+---a time-out, a death, a panic, abort---> BROKEN ---reset---> OPEN
//! ```
//!
//! The state moves under a [`RawLock`]; the action itself runs without it. RELEASING and BROKEN are each
//! one store with which the matter is decided. Then the records of all who wait are marked accordingly;
//! who takes the lock over from a process that died meanwhile goes on with that. A waiter knows its fate
//! from its own record alone, so it doesn't matter how late it looks, or whether the next round has begun.
//! It frees its record itself.
//!
//! Whoever waits looks now and then whether the others who wait, and the one who acts, are alive, and so
//! does the last one to arrive: a death breaks the barrier.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::shm::bell::Bell;
use crate::shm::lock::{Held, RawLock};
use crate::shm::platform::{Deadline, Owner, Platform, Word};

const OPEN: u32 = 0;
const BROKEN: u32 = 1 << 30;
const RELEASING: u32 = 1 << 31;

/// In a record's word, beside its owner: the wait is over.
const RELEASED: u32 = 1 << 30;
/// In a record's word, beside its owner: the barrier broke.
const FAILED: u32 = 1 << 31;

/// A party for every process that there can be, and as many that are on their way out. The table takes
/// 8 KiB.
const RECORDS: usize = 2048;

/// See the file's head. All zeros: without parties, to be initialised.
#[repr(C)]
pub(crate) struct Barrier<P: Platform, const N: usize = RECORDS> {
    lock: RawLock<P>,
    bell: Bell<P>,
    parties: P::U32,
    state: P::U32,
    /// Counts the times that the last party has arrived, so that it knows its own ACTING.
    round: P::U32,
    /// All records from here on are free.
    high: P::U32,
    records: [P::U32; N],
}

/// The barrier is broken, or was reset while this party waited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Broken;

/// How a party has arrived.
enum Arrival {
    /// It waits in this record, and is the so-manyth.
    Waits { record: usize, index: u32 },
    /// It was the last, and acts in this round.
    Acts { round: u32 },
}

impl<P: Platform, const N: usize> Barrier<P, N> {
    /// The most parties that a barrier can have.
    pub(crate) const MOST_PARTIES: usize = N / 2;

    /// Before it is shared. There is at least one party, and at most [`MOST_PARTIES`](Self::MOST_PARTIES).
    pub(crate) fn init(&self, parties: u32) {
        assert!(
            (1..=Self::MOST_PARTIES).contains(&(parties as usize)),
            "the caller has checked it"
        );
        self.parties.store(parties, Relaxed);
    }

    pub(crate) fn parties(&self) -> u32 {
        self.parties.load(Relaxed)
    }

    /// How many wait, at some moment.
    pub(crate) fn n_waiting(&self) -> u32 {
        self.waiting().count() as u32
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.state.load(Acquire) == BROKEN
    }

    /// Waits for the other parties. The last one to arrive runs `action`, before all are released; a panic
    /// in it breaks the barrier, and goes on. Each gets another index below the number of parties.
    pub(crate) fn wait(&self, deadline: Deadline, action: impl FnOnce()) -> Result<u32, Broken> {
        // Whoever comes while a round ends waits for that first.
        let Some(arrival) = self.bell.watch_until(deadline, |look| self.arrive(look)) else {
            self.abort();
            return Err(Broken);
        };
        match arrival? {
            Arrival::Waits { record, index } => {
                let fate = self.bell.watch_until(deadline, |look| self.fate(record, look));
                let fate = fate.unwrap_or_else(|| self.give_up(record));
                self.records[record].store(0, Release);
                // Somebody may wait for the record.
                self.bell.ring(u32::MAX);
                fate.map(|()| index)
            }
            Arrival::Acts { round } => self.act(round, action),
        }
    }

    /// Breaks the barrier, for those who wait and all who come, until it is reset.
    pub(crate) fn abort(&self) {
        let held = self.enter();
        self.break_up();
        self.leave(held);
    }

    /// Lets it begin anew. For those who wait now it breaks.
    pub(crate) fn reset(&self) {
        let held = self.enter();
        self.break_up();
        self.state.store(OPEN, Release);
        self.leave(held);
    }

    /// None: the round before has to end first.
    fn arrive(&self, look: bool) -> Option<Result<Arrival, Broken>> {
        let may_arrive = |state| matches!(state, OPEN | BROKEN);
        if !look && !may_arrive(self.state.load(Relaxed)) {
            return None;
        }
        let held = self.enter();
        // Nobody is released together with one who is known to be dead.
        let is_last = self.n_waiting() + 1 >= self.parties();
        let has_changed = look && self.bury(|owner| !P::is_alive(owner))
            || is_last && self.bury(P::is_known_dead);
        let me = P::me().bits();
        let arrival = match self.state.load(Relaxed) {
            OPEN => {
                let index = self.n_waiting();
                if is_last {
                    let round = self.round.load(Relaxed).wrapping_add(1);
                    self.round.store(round, Release);
                    self.state.store(me, Release);
                    Some(Ok(Arrival::Acts { round }))
                } else {
                    self.vacant().map(|record| {
                        self.records[record].store(me, Release);
                        Ok(Arrival::Waits { record, index })
                    })
                }
            }
            BROKEN => Some(Err(Broken)),
            _ => None,
        };
        self.lock.release(held);
        if has_changed {
            self.bell.ring(u32::MAX);
        }
        arrival
    }

    /// What has become of the wait in this record, if that is known.
    fn fate(&self, record: usize, look: bool) -> Option<Result<(), Broken>> {
        let known = || {
            let word = self.records[record].load(Acquire);
            match word & (RELEASED | FAILED) {
                0 => None,
                RELEASED => Some(Ok(())),
                _ => Some(Err(Broken)),
            }
        };
        if look && known().is_none() {
            let held = self.enter();
            let has_changed = self.bury(|owner| !P::is_alive(owner));
            self.lock.release(held);
            // A ring for nothing would keep the others from looking themselves.
            if has_changed {
                self.bell.ring(u32::MAX);
            }
        }
        known()
    }

    /// The deadline has passed. That breaks the barrier, unless it is too late for that.
    fn give_up(&self, record: usize) -> Result<(), Broken> {
        let held = self.enter();
        let is_released = self.records[record].load(Relaxed) & RELEASED != 0;
        if !is_released {
            self.break_up();
        }
        self.leave(held);
        if is_released { Ok(()) } else { Err(Broken) }
    }

    fn act(&self, round: u32, action: impl FnOnce()) -> Result<u32, Broken> {
        let outcome = catch_unwind(AssertUnwindSafe(action));
        let held = self.enter();
        // It may have been broken, reset, and begun anew meanwhile.
        let goes_on =
            self.state.load(Relaxed) == P::me().bits() && self.round.load(Relaxed) == round;
        if goes_on && outcome.is_ok() {
            self.state.store(RELEASING, Release);
            self.mark_all();
        } else if goes_on {
            self.break_up();
        }
        self.leave(held);
        match outcome {
            Ok(()) if goes_on => Ok(self.parties() - 1),
            Ok(()) => Err(Broken),
            Err(payload) => resume_unwind(payload),
        }
    }

    fn enter(&self) -> Held {
        let mut held = self.lock.acquire_patiently();
        if held.is_poisoned() {
            self.mark_all();
            held.set_poisoned(false);
        }
        held
    }

    /// Something has changed for those who wait.
    fn leave(&self, held: Held) {
        self.lock.release(held);
        self.bell.ring(u32::MAX);
    }

    fn break_up(&self) {
        self.state.store(BROKEN, Release);
        self.mark_all();
    }

    /// Tells all who wait what the state has decided. It can be done again.
    fn mark_all(&self) {
        let state = self.state.load(Relaxed);
        let mark = match state {
            RELEASING => RELEASED,
            BROKEN => FAILED,
            _ => return,
        };
        for record in self.waiting() {
            // Only the owner changes it otherwise, and not while it waits.
            record.store(record.load(Relaxed) | mark, Release);
        }
        if state == RELEASING {
            self.state.store(OPEN, Release);
        }
    }

    /// Looks after the dead: who waited or acted breaks the barrier, and all leave their records. Says
    /// whether that has changed anything.
    fn bury(&self, is_dead: impl Fn(Owner) -> bool) -> bool {
        let is_dead = |word| Owner::in_word(word).is_some_and(&is_dead);
        let mut breaks = is_dead(self.state.load(Relaxed));
        let dead = || self.records().iter().filter(|record| is_dead(record.load(Relaxed)));
        breaks |= dead().any(|record| waits(record.load(Relaxed)));
        if breaks {
            self.break_up();
        }
        let freed = dead().map(|record| record.store(0, Release)).count();
        breaks || freed > 0
    }

    fn vacant(&self) -> Option<usize> {
        let high = self.records().len();
        let vacant = self.records().iter().position(|record| record.load(Acquire) == 0);
        let vacant = vacant.or((high < N).then_some(high))?;
        if vacant >= high {
            self.high.store(vacant as u32 + 1, Release);
        }
        Some(vacant)
    }

    fn waiting(&self) -> impl Iterator<Item = &P::U32> {
        self.records().iter().filter(|record| waits(record.load(Relaxed)))
    }

    fn records(&self) -> &[P::U32] {
        &self.records[..(self.high.load(Relaxed) as usize).min(N)]
    }
}

/// Whether a record's word is one of somebody who waits.
fn waits(word: u32) -> bool {
    word != 0 && word & (RELEASED | FAILED) == 0
}

#[cfg(test)]
mod tests {
    use std::array::from_fn;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::shm::model::{
        Model, Word32, be, explore, explore_deaths_with, explore_with, mortal, process,
    };

    type Small = Barrier<Model, 6>;

    fn barrier(parties: u32) -> Arc<Small> {
        let barrier = Barrier {
            lock: RawLock::new(Word32::default()),
            bell: Bell::new(Word32::default()),
            parties: Word32::default(),
            state: Word32::default(),
            round: Word32::default(),
            high: Word32::default(),
            records: from_fn(|_| Word32::default()),
        };
        barrier.init(parties);
        Arc::new(barrier)
    }

    fn soon() -> Deadline {
        Deadline::after::<Model>(Duration::from_secs(1))
    }

    fn wait(barrier: &Small) -> Result<u32, Broken> {
        barrier.wait(Deadline::NEVER, || ())
    }

    #[test]
    fn one_party_waits_for_nobody() {
        explore(|| {
            let barrier = barrier(1);
            be(1, || {
                assert_eq!(wait(&barrier), Ok(0));
                assert_eq!(wait(&barrier), Ok(0));
                assert_eq!(barrier.n_waiting(), 0);
            });
        });
    }

    #[test]
    fn all_are_released_once_the_action_is_done() {
        explore_with(1, || {
            let (barrier, done) = (barrier(3), Arc::new(Word32::default()));
            let pass = |barrier: &Small, done: &Word32| {
                let act = || done.store(done.load(Relaxed) + 1, Relaxed);
                let index = barrier.wait(Deadline::NEVER, act).unwrap();
                assert_eq!(done.load(Relaxed), 1);
                index
            };
            let others = [2, 3].map(|number| {
                let (barrier, done) = (Arc::clone(&barrier), Arc::clone(&done));
                process(number, move || pass(&barrier, &done))
            });
            let mine = be(1, || pass(&barrier, &done));
            let mut indices = others.map(|other| other.join().unwrap()).to_vec();
            indices.push(mine);
            indices.sort_unstable();
            assert_eq!(indices, [0, 1, 2]);
        });
    }

    #[test]
    fn rounds_do_not_mix() {
        explore(|| {
            let (barrier, done) = (barrier(2), Arc::new(Word32::default()));
            let pass = |barrier: &Small, done: &Word32| {
                for round in 1..=2 {
                    let act = || done.store(done.load(Relaxed) + 1, Relaxed);
                    barrier.wait(Deadline::NEVER, act).unwrap();
                    // The other may be in the next round already, but no further.
                    assert!((round..=round + 1).contains(&done.load(Relaxed)));
                }
            };
            let (clone, counted) = (Arc::clone(&barrier), Arc::clone(&done));
            let other = process(2, move || pass(&clone, &counted));
            be(1, || pass(&barrier, &done));
            other.join();
            assert_eq!(done.load(Relaxed), 2);
        });
    }

    #[test]
    fn a_time_out_breaks_it_for_all_until_it_is_reset() {
        explore(|| {
            let barrier = barrier(3);
            let clone = Arc::clone(&barrier);
            let other = process(2, move || wait(&clone));
            be(1, || {
                assert_eq!(barrier.wait(soon(), || ()), Err(Broken));
                assert!(barrier.is_broken());
                assert_eq!(wait(&barrier), Err(Broken));
            });
            assert_eq!(other.join(), Some(Err(Broken)));
            be(1, || {
                barrier.reset();
                assert!(!barrier.is_broken());
                assert_eq!(barrier.n_waiting(), 0);
            });
        });
    }

    #[test]
    fn a_time_out_comes_before_the_release_or_not_at_all() {
        explore(|| {
            let barrier = barrier(2);
            let clone = Arc::clone(&barrier);
            let other = process(2, move || clone.wait(soon(), || ()));
            let mine = be(1, || barrier.wait(soon(), || ()));
            assert_eq!(other.join().unwrap().is_ok(), mine.is_ok());
            assert_eq!(barrier.is_broken(), mine.is_err());
        });
    }

    #[test]
    fn a_reset_breaks_it_for_those_who_wait() {
        explore(|| {
            let barrier = barrier(2);
            let clone = Arc::clone(&barrier);
            let other = process(2, move || wait(&clone));
            be(1, || {
                while barrier.n_waiting() == 0 {
                    loom::thread::yield_now();
                }
                barrier.reset();
            });
            assert_eq!(other.join(), Some(Err(Broken)));
            let clone = Arc::clone(&barrier);
            let other = process(2, move || wait(&clone));
            assert!(be(1, || wait(&barrier)).is_ok());
            assert!(other.join().unwrap().is_ok());
        });
    }

    #[test]
    fn an_action_that_outlives_its_round_releases_nobody() {
        explore(|| {
            let barrier = barrier(1);
            be(1, || {
                let outcome = barrier.wait(Deadline::NEVER, || {
                    barrier.abort();
                    barrier.reset();
                    assert_eq!(wait(&barrier), Ok(0));
                });
                assert_eq!(outcome, Err(Broken));
                assert!(!barrier.is_broken());
            });
        });
    }

    #[test]
    fn a_panic_in_the_action_breaks_it() {
        explore(|| {
            let barrier = barrier(2);
            let clone = Arc::clone(&barrier);
            let pass = |barrier: &Small| {
                let wait = || barrier.wait(Deadline::NEVER, || resume_unwind(Box::new("panic")));
                catch_unwind(AssertUnwindSafe(wait))
            };
            let other = process(2, move || pass(&clone).is_err());
            let panicked = be(1, || pass(&barrier).is_err());
            assert_ne!(other.join(), Some(panicked));
            assert!(barrier.is_broken());
        });
    }

    #[test]
    fn a_party_may_die() {
        explore_deaths_with(1, |steps| {
            let barrier = barrier(2);
            let clone = Arc::clone(&barrier);
            let first = mortal(1, steps, move || clone.wait(soon(), || ()));
            let mine = be(2, || barrier.wait(soon(), || ()));
            // It may have died before it came, or after it went.
            if let Some(outcome) = first.join() {
                assert_eq!(outcome.is_ok(), mine.is_ok());
            }
            be(3, || {
                barrier.reset();
                assert_eq!(barrier.n_waiting(), 0);
                assert!(!barrier.is_broken());
            });
        });
    }

    #[test]
    fn the_death_of_one_who_waits_breaks_it() {
        explore_deaths_with(1, |steps| {
            let barrier = barrier(3);
            let clone = Arc::clone(&barrier);
            let first = mortal(1, steps, move || clone.wait(soon(), || ()));
            let clone = Arc::clone(&barrier);
            let second = process(2, move || wait(&clone));
            if first.join().is_none() {
                let has_come = barrier
                    .records()
                    .iter()
                    .any(|record| Owner::in_word(record.load(Relaxed)).map(Owner::bits) == Some(1));
                // Otherwise the other waits for a third and a fourth, and rightly so.
                if !has_come {
                    be(3, || barrier.abort());
                }
            }
            assert_eq!(second.join(), Some(Err(Broken)));
        });
    }

    #[test]
    fn nobody_is_released_together_with_the_dead() {
        explore_deaths_with(1, |steps| {
            let barrier = barrier(2);
            let clone = Arc::clone(&barrier);
            let first = mortal(1, steps, move || clone.wait(soon(), || ()));
            let has_died = first.join().is_none();
            be(2, || {
                if has_died && barrier.n_waiting() == 1 {
                    assert_eq!(wait(&barrier), Err(Broken));
                    assert!(barrier.is_broken() && barrier.n_waiting() == 0);
                }
            });
        });
    }

    #[test]
    fn the_death_of_the_last_party_leaves_nobody_waiting() {
        explore_deaths_with(1, |steps| {
            let barrier = barrier(2);
            let clone = Arc::clone(&barrier);
            let first = process(1, move || wait(&clone));
            let clone = Arc::clone(&barrier);
            let last = mortal(2, steps, move || {
                while clone.n_waiting() == 0 {
                    loom::thread::yield_now();
                }
                wait(&clone)
            });
            let outcome = last.join();
            // Who has died before it came isn't missed.
            if outcome.is_none() && barrier.state.load(Relaxed) == OPEN {
                be(3, || barrier.abort());
            }
            let first = first.join().unwrap();
            assert!(outcome.is_none_or(|last| last == Ok(1) && first == Ok(0)));
        });
    }
}

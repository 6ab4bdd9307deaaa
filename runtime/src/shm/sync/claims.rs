//! Claims on ranges of a line: many may read a range, or one may write it.
//!
//! A claim is a record in a table: owner, mode and range. The owner's word alone says whether the record
//! is valid; it is written last on a claim, and first on a release. Records are made under a [`RawLock`],
//! and given back without it.
//!
//! ```text
//! FREE ---claim, nothing conflicts---------------------------> READING or WRITING ---release---> FREE
//!   |                                                              ^
//!   +---claim to write, something conflicts---> WAITING to write --+---gives up---> FREE
//!                                               (if nothing conflicts)
//! ```
//!
//! Only the owner moves its record; but a dead owner's record is freed by anybody who waits, under the
//! lock. If it was WRITING then, the whole line is poisoned: what was written may be half done.
//!
//! A record that waits to write holds off new readers of its range, so that writers don't starve.

use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::shm::bell::Bell;
use crate::shm::lock::RawLock;
use crate::shm::platform::{Deadline, Owner, Platform, Word};

/// In the owner's word: it writes, or wants to.
const WRITES: u32 = 1 << 30;
/// In the owner's word, beside [`WRITES`]: it doesn't yet.
const WAITS: u32 = 1 << 31;

/// How many ranges can be claimed at once; whoever finds no room waits for it. The table takes 12 KiB.
const RECORDS: usize = 512;

/// See the file's head. All zeros: nothing is claimed.
#[repr(C)]
pub(crate) struct Claims<P: Platform, const N: usize = RECORDS> {
    lock: RawLock<P>,
    bell: Bell<P>,
    poisoned: P::U32,
    /// All records from here on are free.
    high: P::U32,
    records: [Record<P>; N],
}

#[repr(C)]
struct Record<P: Platform> {
    owner: P::U32,
    start: P::U64,
    end: P::U64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Read,
    Write,
}

/// A claim that was granted, given back on drop.
#[must_use = "if unused, the claim is given back at once"]
pub(crate) struct Claim<'a, P: Platform, const N: usize = RECORDS> {
    claims: &'a Claims<P, N>,
    index: usize,
    poisoned: bool,
}

impl<P: Platform, const N: usize> Claim<'_, P, N> {
    /// Whether somebody had died writing, when the claim was granted.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// What was written under it is half done.
    pub(crate) fn poison(&self) {
        self.claims.poison();
    }
}

impl<P: Platform, const N: usize> Drop for Claim<'_, P, N> {
    fn drop(&mut self) {
        self.claims.free(self.index);
    }
}

/// What a look at the table gives.
struct Look {
    conflicts: bool,
    /// A record to use.
    vacant: Option<usize>,
    /// Whether the dead had to be removed.
    buried: bool,
}

impl<P: Platform, const N: usize> Claims<P, N> {
    /// Claims a range. None: the deadline has passed.
    pub(crate) fn claim(
        &self,
        range: &Range<u64>,
        mode: Mode,
        deadline: Deadline,
    ) -> Option<Claim<'_, P, N>> {
        let mut waiting = None;
        if let Some(claimed) = self.attempt(range, mode, &mut waiting, false) {
            return Some(claimed);
        }
        let attempt = |look| self.attempt(range, mode, &mut waiting, look);
        let claimed = self.bell.watch_until(deadline, attempt);
        if claimed.is_none()
            && let Some(index) = waiting
        {
            self.free(index);
        }
        claimed
    }

    fn poison(&self) {
        self.poisoned.store(1, Release);
    }

    pub(crate) fn clear_poison(&self) {
        self.poisoned.store(0, Release);
    }

    /// Whether somebody has died writing, as far as is known.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Acquire) != 0
    }

    /// One try. `waiting` is the record that waits to write, if there is one, or is made one. `look` asks
    /// whether those who are in the way are alive.
    fn attempt(
        &self,
        range: &Range<u64>,
        mode: Mode,
        waiting: &mut Option<usize>,
        look: bool,
    ) -> Option<Claim<'_, P, N>> {
        let mut held = self.lock.acquire_patiently();
        // Whoever died inside has left no record half made: its owner is written last.
        held.set_poisoned(false);
        let found = self.look(range, mode, *waiting, look);
        let flags = match mode {
            Mode::Read => 0,
            Mode::Write => WRITES,
        };
        let mut claimed = None;
        if let Some(index) = found.vacant {
            if !found.conflicts {
                self.record(index, range, flags);
                claimed = Some(Claim { claims: self, index, poisoned: self.is_poisoned() });
                *waiting = None;
            } else if mode == Mode::Write && waiting.is_none() {
                self.record(index, range, WRITES | WAITS);
                *waiting = Some(index);
            }
        }
        self.lock.release(held);
        if found.buried {
            self.bell.ring(u32::MAX);
        }
        claimed
    }

    fn look(&self, range: &Range<u64>, mode: Mode, waiting: Option<usize>, look: bool) -> Look {
        let mut found = Look { conflicts: false, vacant: waiting, buried: false };
        let high = (self.high.load(Relaxed) as usize).min(N);
        let mut used = 0;
        for (index, record) in self.records[..high].iter().enumerate() {
            let word = record.owner.load(Acquire);
            let is_mine = waiting == Some(index);
            let mut is_free = word == 0;
            if let Some(owner) = Owner::in_word(word)
                && look
                && !is_mine
                && !P::is_alive(owner)
            {
                if word & (WRITES | WAITS) == WRITES {
                    self.poison();
                }
                record.owner.store(0, Release);
                found.buried = true;
                is_free = true;
            }
            if is_free {
                found.vacant = found.vacant.or(Some(index));
                continue;
            }
            used = index + 1;
            found.conflicts |= !is_mine && record.is_in_the_way(word, range, mode);
        }
        if used < high {
            self.high.store(used as u32, Relaxed);
        }
        if found.vacant.is_none() && high < N {
            found.vacant = Some(high);
        }
        found
    }

    fn record(&self, index: usize, range: &Range<u64>, flags: u32) {
        if self.high.load(Relaxed) as usize <= index {
            self.high.store(index as u32 + 1, Relaxed);
        }
        let record = &self.records[index];
        record.start.store(range.start, Relaxed);
        record.end.store(range.end, Relaxed);
        record.owner.store(P::me().bits() | flags, Release);
    }

    fn free(&self, index: usize) {
        self.records[index].owner.store(0, Release);
        self.bell.ring(u32::MAX);
    }
}

impl<P: Platform> Record<P> {
    /// Whether a claim of `range` has to wait for this record.
    fn is_in_the_way(&self, word: u32, range: &Range<u64>, mode: Mode) -> bool {
        let (start, end) = (self.start.load(Relaxed), self.end.load(Relaxed));
        let overlaps = start.max(range.start) < end.min(range.end);
        let conflicts = match mode {
            Mode::Read => word & WRITES != 0,
            // Who only waits to write may be overtaken by others who do.
            Mode::Write => word & WAITS == 0,
        };
        overlaps && conflicts
    }
}

#[cfg(test)]
mod tests {
    use std::array::from_fn;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::shm::model::{
        Model, Word32, Word64, be, explore, explore_deaths, explore_deaths_with, explore_with,
        mortal, process,
    };

    fn claims<const N: usize>() -> Arc<Claims<Model, N>> {
        Arc::new(Claims {
            lock: RawLock::new(Word32::default()),
            bell: Bell::new(Word32::default()),
            poisoned: Word32::default(),
            high: Word32::default(),
            records: from_fn(|_| Record {
                owner: Word32::default(),
                start: Word64::default(),
                end: Word64::default(),
            }),
        })
    }

    fn soon() -> Deadline {
        Deadline::after::<Model>(Duration::ZERO)
    }

    #[test]
    fn only_overlapping_writes_conflict() {
        explore(|| {
            let claims = claims::<4>();
            be(1, || {
                let attempt = |range, mode| claims.claim(&range, mode, soon());
                let read = attempt(2..6, Mode::Read).unwrap();
                let other = attempt(5..9, Mode::Read).unwrap();
                assert!(attempt(4..5, Mode::Write).is_none());
                let write = attempt(9..20, Mode::Write).unwrap();
                assert!(attempt(10..11, Mode::Read).is_none());
                assert!(attempt(19..25, Mode::Write).is_none());
                let nothing = attempt(12..12, Mode::Write).unwrap();
                drop(read);
                drop(nothing);
                let before = attempt(2..5, Mode::Write).unwrap();
                for claimed in [other, write, before] {
                    assert!(!claimed.is_poisoned());
                    drop(claimed);
                }
                let all = attempt(0..u64::MAX, Mode::Write).unwrap();
                drop(all);
                assert_eq!(claims.look(&(0..1), Mode::Read, None, false).vacant, Some(0));
                assert_eq!(claims.high.load(Relaxed), 0);
            });
        });
    }

    #[test]
    fn who_waits_to_write_holds_off_new_readers() {
        explore(|| {
            let claims = claims::<4>();
            let read = be(1, || claims.claim(&(0..5), Mode::Read, soon()).unwrap());
            be(2, || {
                let mut waiting = None;
                assert!(claims.attempt(&(0..5), Mode::Write, &mut waiting, false).is_none());
                be(3, || {
                    assert!(claims.claim(&(4..6), Mode::Read, soon()).is_none());
                    let beside = claims.claim(&(5..6), Mode::Read, soon()).unwrap();
                    drop(beside);
                });
                be(1, || drop(read));
                let write = claims.attempt(&(0..5), Mode::Write, &mut waiting, false).unwrap();
                assert_eq!(waiting, None);
                drop(write);
            });
            be(1, || {
                let read = claims.claim(&(0..5), Mode::Read, soon()).unwrap();
                // Who has given up holds nobody off.
                assert!(claims.claim(&(0..5), Mode::Write, soon()).is_none());
                let other = claims.claim(&(0..5), Mode::Read, soon()).unwrap();
                drop(read);
                drop(other);
            });
        });
    }

    /// Adds one, not in one operation. Says whether the line was poisoned.
    fn add(claims: &Claims<Model, 4>, count: &Word32) -> bool {
        let claimed = claims.claim(&(0..1), Mode::Write, Deadline::NEVER).unwrap();
        count.store(count.load(Relaxed) + 1, Relaxed);
        count.store(count.load(Relaxed) + 1, Relaxed);
        let poisoned = claimed.is_poisoned();
        drop(claimed);
        poisoned
    }

    #[test]
    fn one_writes_at_a_time_and_readers_see_it_whole() {
        explore_with(1, || {
            let (claims, count) = (claims(), Arc::new(Word32::default()));
            let (clone, counted) = (Arc::clone(&claims), Arc::clone(&count));
            let writer = process(2, move || add(&clone, &counted));
            let (clone, counted) = (Arc::clone(&claims), Arc::clone(&count));
            let reader = process(3, move || {
                let claimed = clone.claim(&(0..1), Mode::Read, Deadline::NEVER).unwrap();
                assert_eq!(counted.load(Relaxed) % 2, 0);
                drop(claimed);
            });
            be(1, || add(&claims, &count));
            writer.join();
            reader.join();
            assert_eq!(count.load(Relaxed), 4);
        });
    }

    #[test]
    fn a_full_table_is_waited_for() {
        explore(|| {
            let claims = claims::<1>();
            let clone = Arc::clone(&claims);
            let other = process(2, move || {
                let claimed = clone.claim(&(0..1), Mode::Write, Deadline::NEVER).unwrap();
                drop(claimed);
            });
            be(1, || {
                let claimed = claims.claim(&(5..6), Mode::Read, Deadline::NEVER).unwrap();
                drop(claimed);
            });
            other.join();
        });
    }

    #[test]
    fn a_dead_writer_poisons_the_line() {
        explore_deaths(|steps| {
            let (claims, count) = (claims(), Arc::new(Word32::default()));
            let (clone, counted) = (Arc::clone(&claims), Arc::clone(&count));
            let first = mortal(1, steps, move || add(&clone, &counted));
            let read = |claims: &Claims<Model, 4>, count: &Word32| {
                let claimed = claims.claim(&(0..1), Mode::Read, Deadline::NEVER).unwrap();
                assert!(count.load(Relaxed) % 2 == 0 || claimed.is_poisoned());
                let poisoned = claimed.is_poisoned();
                drop(claimed);
                poisoned
            };
            let (clone, counted) = (Arc::clone(&claims), Arc::clone(&count));
            let second = process(2, move || read(&clone, &counted));
            let poisoned = second.join().unwrap();
            let died = first.join().is_none();
            be(3, || {
                let poisoned = read(&claims, &count) || poisoned;
                assert!(died || !poisoned);
                claims.clear_poison();
                let claimed = claims.claim(&(0..1), Mode::Read, soon()).unwrap();
                assert!(!claimed.is_poisoned());
                drop(claimed);
            });
        });
    }

    #[test]
    fn a_dead_reader_or_waiting_writer_poisons_nothing() {
        explore_deaths_with(1, |steps| {
            let claims = claims::<4>();
            let clone = Arc::clone(&claims);
            let first = mortal(1, steps, move || {
                let read = clone.claim(&(0..1), Mode::Read, soon()).unwrap();
                // This one waits for itself, in vain.
                assert!(clone.claim(&(0..1), Mode::Write, soon()).is_none());
                drop(read);
            });
            let clone = Arc::clone(&claims);
            let second = process(2, move || {
                let read = clone.claim(&(0..1), Mode::Read, Deadline::NEVER).unwrap();
                drop(read);
            });
            second.join();
            first.join();
            be(3, || {
                let write = claims.claim(&(0..1), Mode::Write, Deadline::NEVER).unwrap();
                assert!(!write.is_poisoned());
                drop(write);
            });
        });
    }
}

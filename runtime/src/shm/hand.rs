//! What a worker has in hand of the work on a [board](super::board).
//!
//! In each worker's own page. A range in hand has a serial number, and its items are counted from 1.
//!
//! ```text
//! IDLE ---about to claim---> CLAIMING ---got a range---> HOLDING ---its results are counted---> IDLE
//! ```
//!
//! Only the worker moves between these. While it holds a range there are two more words:
//!
//! ```text
//! begun:  (serial, k)           the worker alone: it begins item k, unless the limit is below
//! limit:  (serial, n)           the worker sets it with a new range
//!         (serial, n, CUTTING)  the parent, and then at once
//!         (serial, m)           the parent: the items after m are its own again
//! ```
//!
//! The worker stores `begun` and loads `limit`; the parent stores CUTTING and loads `begun`, with fences
//! between. So either the worker sees CUTTING, and waits for what the parent decides, or the parent sees
//! that the item has begun, and leaves it. Items are thus begun or taken back, exactly one of the two,
//! and an item costs its worker a store, a load and no locked instruction. A store of a new range's limit
//! makes the parent's second move fail: the range was over, and every item of it had begun.
//!
//! A parent that is about to kill a worker for a late item *condemns* it: it sets a word that the worker
//! looks at, after a fence, when it takes a range, and CUTTING, and then looks whether the item is still the
//! same. If it is, the worker begins nothing any more. If it isn't, the parent takes both back.
//!
//! When a worker has died, HOLDING says what it had, `begun` which item it was at. If it was CLAIMING,
//! nobody knows whether it had got something; what is nobody's when all others are done was its own.
//! `filled` counts the bytes of results that it has written behind its last publication. Where each item
//! makes as many bytes, that an item begins says that the one before it is done: while `filled` says that
//! it *grows*, `begun` counts the results from the item `first` on, and nothing else has to be stored.
//!
//! Nothing here is trusted: see [`Hand::last`].

use std::ops::Range;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::platform::{Platform, Word};

const IDLE: u32 = 0;
const CLAIMING: u32 = 1;
const HOLDING: u32 = 2;

const CUTTING: u64 = 1 << 32;

/// Places in a room are less than 2^15.
const GROWS: u64 = 1 << 31;

const SERIALS: u32 = 1 << 31;

fn pack(serial: u32, count: u32) -> u64 {
    u64::from(serial) << 33 | u64::from(count)
}

fn serial_of(word: u64) -> u32 {
    (word >> 33) as u32
}

/// See the file's head.
#[repr(C, align(128))]
pub(crate) struct Hand<P: Platform> {
    begun: P::U64,
    /// The position of the room in the worker's stream, its lowest 32 bits, and a [`Filled`]; or, if it
    /// grows, where the latest run begins, how long its head is, and the bytes of each result.
    filled: P::U64,
    /// When the item began that `timed` names.
    since: P::U64,
    timed: P::U64,
    /// Which work it is about.
    work: P::U64,
    start: P::U32,
    phase: P::U32,
    /// The number of the first item whose result is counted by `begun`.
    first: P::U32,
    line: Line<P>,
}

/// Of its own, since the parent writes here.
#[repr(C, align(128))]
struct Line<P: Platform> {
    limit: P::U64,
    /// Counts the parent's decisions, for a worker that sleeps until one comes.
    cuts: P::U32,
    /// Not 0 while the worker must begin nothing.
    condemned: P::U32,
}

/// A range in a worker's hand, as the worker knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding {
    serial: u32,
    /// The limit as it was seen last.
    limit: u64,
}

impl Holding {
    /// How many items of the range are the worker's.
    pub(crate) fn count(&self) -> u32 {
        self.limit as u32
    }
}

/// How much of a room holds results, in bytes, and where in it the latest run of them begins.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Filled {
    pub(crate) run: u16,
    pub(crate) bytes: u16,
}

/// How a room is filled by items that begin one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Growth {
    /// Where in the room the run of these results begins.
    pub(crate) run: u16,
    /// How many bytes stand before the results of a run.
    pub(crate) head: u8,
    /// How many bytes each result takes.
    pub(crate) each: u8,
}

/// An item that a worker has begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Running {
    pub(crate) work: u64,
    pub(crate) item: u32,
    /// The nanoseconds at which it began, if that was told.
    pub(crate) since: Option<u64>,
    /// Tells it from any other item of this worker.
    mark: u64,
}

/// What was in the hand of a worker that has died.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Last {
    Nothing,
    /// Perhaps a range of this work.
    Unknown(u64),
    /// Items of this work that had begun, and some that had not.
    Range {
        work: u64,
        begun: Range<u32>,
        unbegun: Range<u32>,
    },
}

impl Running {
    pub(crate) fn mark(&self) -> u64 {
        self.mark
    }
}

impl<P: Platform> Hand<P> {
    /// The worker is about to claim something of this work.
    #[inline]
    pub(crate) fn claiming(&self, work: u64) {
        self.work.store(work, Relaxed);
        self.phase.store(CLAIMING, Release);
    }

    /// The worker has claimed these items; `serial` is another number than last time.
    #[inline]
    pub(crate) fn hold(&self, serial: u32, items: &Range<u32>) -> Holding {
        let serial = serial % SERIALS;
        let limit = pack(serial, items.end - items.start);
        self.start.store(items.start, Relaxed);
        self.begun.store(pack(serial, 0), Relaxed);
        self.line.limit.store(limit, Release);
        self.phase.store(HOLDING, Release);
        P::light_fence();
        if self.line.condemned.load(Acquire) != 0 {
            self.wait_while(|| self.line.condemned.load(Acquire) != 0);
        }
        Holding { serial, limit }
    }

    /// Waits until the parent has decided; it is between two instructions, or about to kill this process. If
    /// it has died, so will this process.
    #[cold]
    fn wait_while(&self, is_open: impl Fn() -> bool) {
        let mut round = 0;
        loop {
            let cuts = self.line.cuts.load(Acquire);
            if !is_open() {
                return;
            }
            if !P::spin(round) {
                P::wait(&self.line.cuts, cuts, Some(P::PATIENCE));
            }
            round = round.saturating_add(1);
        }
    }

    /// The worker begins the item with this number in its range, from 1. False: it isn't the worker's any
    /// more, nor is any after it.
    #[inline]
    pub(crate) fn begin(&self, holding: &mut Holding, number: u32) -> bool {
        self.begun.store(pack(holding.serial, number), Release);
        P::light_fence();
        if self.line.limit.load(Acquire) != holding.limit {
            self.see(holding);
        }
        number <= holding.count()
    }

    /// The limit has changed.
    #[cold]
    fn see(&self, holding: &mut Holding) {
        self.wait_while(|| self.line.limit.load(Acquire) & CUTTING != 0);
        let limit = self.line.limit.load(Acquire);
        // Only what a parent writes is believed: the same range, made shorter.
        if serial_of(limit) == holding.serial && limit as u32 <= holding.count() {
            holding.limit = limit;
        }
    }

    /// The worker tells when the item began that it has just begun.
    #[inline]
    pub(crate) fn set_start(&self, holding: &Holding, number: u32, nanos: u64) {
        self.since.store(nanos, Release);
        self.timed.store(pack(holding.serial, number), Release);
    }

    /// The worker has written to the room at this position of its stream.
    #[inline]
    pub(crate) fn fill(&self, position: u64, filled: Filled) {
        let Filled { run, bytes } = filled;
        self.filled.store(position << 32 | u64::from(run) << 16 | u64::from(bytes), Release);
    }

    /// From the item with this number on, the worker writes a result before it begins the next item, each as
    /// `growth` says. That ends with the next [`fill`](Self::fill), which counts the last one, too.
    #[inline]
    pub(crate) fn fill_by_begun(&self, position: u64, first: u32, growth: Growth) {
        let Growth { run, head, each } = growth;
        self.first.store(first, Release);
        let how = u64::from(run) << 16 | u64::from(head) << 8 | u64::from(each);
        self.filled.store(position << 32 | GROWS | how, Release);
    }

    /// The number in its range of the item that the worker has begun last, as the worker itself may ask.
    pub(crate) fn latest(&self) -> u32 {
        self.begun.load(Relaxed) as u32
    }

    /// The worker holds nothing, and has published all.
    #[inline]
    pub(crate) fn rest(&self) {
        self.phase.store(IDLE, Release);
    }

    /// The item that a worker has begun last.
    pub(crate) fn running(&self) -> Option<Running> {
        if self.phase.load(Acquire) != HOLDING {
            return None;
        }
        let mark = self.begun.load(Acquire);
        let number = mark as u32;
        let item = self.start.load(Acquire).checked_add(number.checked_sub(1)?)?;
        let is_timed = self.timed.load(Acquire) == mark;
        let since = is_timed.then(|| self.since.load(Acquire));
        Some(Running { work: self.work.load(Acquire), item, since, mark })
    }

    /// The parent sees to it that the worker begins nothing after this item, as it is about to be killed.
    /// False: it has gone on already, and may.
    pub(crate) fn condemn(&self, running: Running) -> bool {
        let limit = self.line.limit.load(Acquire);
        let is_held = serial_of(limit) == serial_of(running.mark) && limit & CUTTING == 0;
        self.line.condemned.store(1, Release);
        let is_cut = is_held
            && self.line.limit.compare_exchange(limit, limit | CUTTING, AcqRel, Relaxed).is_ok();
        let is_stopped = is_cut && P::heavy_fence() && self.begun.load(Acquire) == running.mark;
        if !is_stopped {
            if is_cut {
                let _ = self.line.limit.compare_exchange(limit | CUTTING, limit, AcqRel, Relaxed);
            }
            self.line.condemned.store(0, Release);
            self.decided();
        }
        is_stopped
    }

    /// Whether there is a decision of the parent's, as it looks when it has none under way: only a worker that
    /// isn't one writes that.
    pub(crate) fn is_forged(&self) -> bool {
        self.line.limit.load(Acquire) & CUTTING != 0 || self.line.condemned.load(Acquire) != 0
    }

    /// Wakes a worker that waits for a decision.
    fn decided(&self) {
        self.line.cuts.store(self.line.cuts.load(Relaxed).wrapping_add(1), Release);
        P::wake(&self.line.cuts, 1);
    }

    /// Tells the item of a board that the worker has begun from all its others; none, if it is at none.
    pub(crate) fn mark(&self) -> Option<u64> {
        (self.phase.load(Acquire) == HOLDING).then(|| self.begun.load(Acquire))
    }

    /// How many items of its range a worker hasn't begun.
    pub(crate) fn unbegun(&self) -> u32 {
        let (limit, begun) = (self.line.limit.load(Acquire), self.begun.load(Acquire));
        if self.phase.load(Acquire) != HOLDING || serial_of(limit) != serial_of(begun) {
            return 0;
        }
        (limit as u32).saturating_sub(begun as u32)
    }

    /// The parent takes items of this work back that the worker hasn't begun, all but at most `leave`.
    pub(crate) fn cut(&self, work: u64, leave: u32) -> Option<Range<u32>> {
        let limit = self.line.limit.load(Acquire);
        let (serial, count) = (serial_of(limit), limit as u32);
        let begun = self.begun.load(Acquire);
        let is_of_work = self.phase.load(Acquire) == HOLDING && self.work.load(Acquire) == work;
        if !is_of_work || serial_of(begun) != serial || limit & CUTTING != 0 {
            return None;
        }
        let start = self.start.load(Acquire);
        if (begun as u32).saturating_add(leave) >= count {
            return None;
        }
        self.line.limit.compare_exchange(limit, limit | CUTTING, AcqRel, Relaxed).ok()?;
        let is_fenced = P::heavy_fence();
        let begun = self.begun.load(Acquire);
        // In a later range already: then the second move fails.
        let begun = if serial_of(begun) == serial { begun as u32 } else { count };
        let kept = if is_fenced { begun.saturating_add(leave).min(count) } else { count };
        let decided = pack(serial, kept);
        let is_cut =
            self.line.limit.compare_exchange(limit | CUTTING, decided, AcqRel, Relaxed).is_ok();
        self.decided();
        if !is_cut {
            return None;
        }
        let taken = start.checked_add(kept)?..start.checked_add(count)?;
        (!taken.is_empty()).then_some(taken)
    }

    /// What was in hand at the worker's death. Nobody has checked it: the caller sees to it that the work
    /// is one that the worker took part in, and that it has these items.
    pub(crate) fn last(&self) -> Last {
        let work = self.work.load(Acquire);
        match self.phase.load(Acquire) {
            IDLE => Last::Nothing,
            HOLDING => {
                let (limit, begun) = (self.line.limit.load(Acquire), self.begun.load(Acquire));
                let start = self.start.load(Acquire);
                let at = |number: u64| start.checked_add(number as u32);
                let is_sound = serial_of(limit) == serial_of(begun);
                match (at(begun), at(limit)) {
                    (Some(now), Some(end)) if is_sound => {
                        // It may have announced the item after the last that was left to it.
                        let now = now.min(end);
                        Last::Range { work, begun: start..now, unbegun: now..end }
                    }
                    _ => Last::Unknown(work),
                }
            }
            _ => Last::Unknown(work),
        }
    }

    /// What the worker has written to the room at this position of its stream; nothing, if it goes on at
    /// this very moment.
    pub(crate) fn filled(&self, position: u64) -> Filled {
        let word = self.filled.load(Acquire);
        if word >> 32 != position & u64::from(u32::MAX) {
            return Filled::default();
        }
        if word & GROWS == 0 {
            return Filled { run: (word >> 16) as u16, bytes: word as u16 };
        }
        let run = (word >> 16) as u16 & (u16::MAX >> 1);
        let (head, each) = ((word >> 8) as u8, word as u8);
        let begun = self.begun.load(Acquire);
        let done = (begun as u32).saturating_sub(self.first.load(Acquire));
        // All of this is about one range, and one run.
        let is_same = serial_of(self.begun.load(Acquire)) == serial_of(begun);
        let bytes = u64::from(run) + u64::from(head) + u64::from(done) * u64::from(each);
        match u16::try_from(bytes) {
            Ok(bytes) if is_same && self.filled.load(Acquire) == word => Filled { run, bytes },
            _ => Filled::default(),
        }
    }
}

#[cfg(test)]
mod tests;

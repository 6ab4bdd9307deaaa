//! How many items go to a worker at once.
//!
//! Two chunks are with a worker, the one that runs and the next, so that it never waits for the parent.
//! A chunk is as large as pays for its message and no larger: at most [`TARGET`] of work by the mean
//! time observed so far, at most half of an equal share of what is left (so that all workers end
//! together), and at most [`BYTES`]. Before anything is known it is one item. What a worker holds and
//! has not begun can be taken back, so a wrong guess costs a message and no waiting.

use std::collections::HashMap;

use crate::transport::message::CalleeBytes;

/// Work in one chunk, in nanoseconds: a message costs both sides about 10 µs, 2 % of this.
pub(super) const TARGET: u64 = 500_000;

/// Less work than this is not divided further, in nanoseconds: it is what two messages cost.
const LEAST: u64 = 20_000;

/// Bytes in one chunk: more than a socket's buffer takes is of no use.
pub(super) const BYTES: usize = 256 * 1024;

/// What is known about a callable's time for one item.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Pace {
    /// Nanoseconds; 0 until something was observed.
    mean: u64,
}

impl Pace {
    /// Takes in that `items` took `nanos`. A quarter of the new mean, so that it follows a change
    /// within a few chunks and one outlier doesn't rule it.
    pub(super) fn observe(&mut self, items: u32, nanos: u64) {
        let sample = (nanos / u64::from(items.max(1))).max(1);
        self.mean = if self.mean == 0 { sample } else { (self.mean / 4) * 3 + sample / 4 }.max(1);
    }

    /// The mean time of an item in nanoseconds; 0 while nothing is known.
    pub(super) fn mean(self) -> u64 {
        self.mean
    }

    /// The expected time of some items, for comparing workers. Unknown counts as more than half a
    /// chunk, so that a worker gets two such items and no more.
    pub(super) fn cost(self, items: usize) -> u64 {
        let each = if self.mean == 0 { TARGET } else { self.mean };
        each.saturating_mul(items as u64)
    }

    /// How many items to send next.
    pub(super) fn chunk(self, left: usize, workers: usize) -> usize {
        if self.mean == 0 {
            return 1;
        }
        let by_time = usize::try_from(TARGET / self.mean).unwrap_or(usize::MAX);
        let least = usize::try_from(LEAST / self.mean).unwrap_or(usize::MAX);
        by_time.min((left / (2 * workers.max(1))).max(least)).max(1)
    }
}

/// What is known about all callables.
#[derive(Default)]
pub(super) struct Paces {
    all: HashMap<CalleeBytes, Pace>,
    /// The callable that was asked for last: mostly the next one, too. What is known of it stands here alone.
    latest: Option<(CalleeBytes, Pace)>,
}

impl Paces {
    #[inline]
    pub(super) fn get(&mut self, callee: &CalleeBytes) -> Pace {
        match self.latest {
            Some((latest, pace)) if latest == *callee => pace,
            _ => self.look_up(callee),
        }
    }

    fn look_up(&mut self, callee: &CalleeBytes) -> Pace {
        let pace = self.all.get(callee).copied().unwrap_or_default();
        if let Some((before, pace)) = self.latest.replace((*callee, pace)) {
            self.all.insert(before, pace);
        }
        pace
    }

    /// Takes in that `items` of a callable took `nanos`.
    pub(super) fn observe(&mut self, callee: &CalleeBytes, items: u32, nanos: u64) {
        let mut pace = self.get(callee);
        pace.observe(items, nanos);
        self.latest = Some((*callee, pace));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_known_is_one_item() {
        assert_eq!(Pace::default().chunk(1_000_000, 2), 1);
        assert!(Pace::default().cost(2) >= 2 * TARGET);
    }

    #[test]
    fn tiny_items_go_by_the_thousand_and_taper_off_to_some_microseconds() {
        let mut pace = Pace::default();
        pace.observe(10, 1_000);
        assert_eq!(pace.chunk(100_000, 2), 5_000);
        assert_eq!(pace.chunk(1_000, 2), 250);
        assert_eq!(pace.chunk(100, 2), 200);
    }

    #[test]
    fn long_items_go_one_by_one() {
        let mut pace = Pace::default();
        pace.observe(1, 10 * TARGET);
        assert_eq!(pace.chunk(1_000, 2), 1);
    }

    #[test]
    fn each_callable_has_its_own() {
        let mut paces = Paces::default();
        let (one, other) = ([1; 17], [2; 17]);
        paces.observe(&one, 1, 100);
        paces.observe(&other, 1, 200);
        assert_eq!((paces.get(&one).mean(), paces.get(&other).mean()), (100, 200));
        assert_eq!(paces.get(&[3; 17]).mean(), 0);
    }

    #[test]
    fn a_change_is_followed() {
        let mut pace = Pace::default();
        pace.observe(1, 100);
        for _ in 0..20 {
            pace.observe(1, 1_000_000);
        }
        assert!(pace.cost(1) > 900_000);
    }
}

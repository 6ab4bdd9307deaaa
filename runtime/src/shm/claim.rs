//! Who may run an item: one word that the worker and the parent both change.
//!
//! Items go to a worker in *epochs* and are numbered from 1 in each. The word holds the epoch and the
//! number of the last item that the worker has started in it.
//!
//! ```text
//! worker:  (epoch, n - 1) -> (epoch, n)       starts item n; fails if the epoch has passed
//! parent:  (epoch, n)     -> (epoch + 1, 0)   takes back all items after n
//! ```
//!
//! Both moves are compare-and-swap, so each item is either started by the worker or taken back by the
//! parent, never both, and after a worker's death the word names the one item that it had started.
//! The epoch is the word's generation: an item of a passed epoch can't be started, however late the
//! worker reads it. Nobody else writes the word.

use std::sync::atomic::{AtomicU64, Ordering};

/// A place in the sequence of items that went to one worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Position {
    pub(crate) epoch: u32,
    /// The number of the item, from 1; 0 before the first.
    pub(crate) number: u32,
}

impl Position {
    /// As one word, which is 0 for none.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.epoch) << 32 | u64::from(self.number)
    }

    fn unpack(word: u64) -> Self {
        Self { epoch: (word >> 32) as u32, number: word as u32 }
    }
}

/// The claim word, and since when the claimed item runs.
#[repr(C, align(128))]
#[derive(Default)]
pub(crate) struct Claim {
    word: AtomicU64,
    /// The position that `since` belongs to; written after it.
    timed: AtomicU64,
    since: AtomicU64,
    /// How often the worker has done what comes before items and is none of them.
    prepared: AtomicU64,
}

impl Claim {
    /// The worker starts an item. False: it has been taken back and must not run.
    pub(crate) fn start(&self, item: Position) -> bool {
        let before = Position { number: item.number.wrapping_sub(1), ..item };
        self.word
            .compare_exchange(before.pack(), item.pack(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// The worker tells when it started `item`, in nanoseconds of the monotonic clock.
    pub(crate) fn set_start(&self, item: Position, nanos: u64) {
        self.since.store(nanos, Ordering::Release);
        self.timed.store(item.pack(), Ordering::Release);
    }

    /// The worker has decoded bound arguments, or dropped some, which may have taken long.
    pub(crate) fn has_prepared(&self) {
        self.prepared.fetch_add(1, Ordering::Release);
    }

    /// How often it has.
    pub(crate) fn prepared(&self) -> u64 {
        self.prepared.load(Ordering::Acquire)
    }

    /// The last item that was started.
    pub(crate) fn current(&self) -> Position {
        Position::unpack(self.word.load(Ordering::Acquire))
    }

    /// The start of `item`, if it was the last whose start was told.
    ///
    /// While the worker goes on to the next item it may be that one's start, which is later: a time
    /// limit that is reckoned from it is never cut short.
    pub(crate) fn start_of(&self, item: Position) -> Option<u64> {
        if self.timed.load(Ordering::Acquire) != item.pack() {
            return None;
        }
        Some(self.since.load(Ordering::Acquire))
    }

    /// The parent takes back every item of the current epoch that hasn't been started. Returns the
    /// last one that was; numbering goes on at 1 in the next epoch.
    pub(crate) fn take_back(&self) -> Position {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let last = Position::unpack(word);
            let next = Position { epoch: last.epoch.wrapping_add(1), number: 0 };
            match self.word.compare_exchange_weak(
                word,
                next.pack(),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return last,
                Err(now) => word = now,
            }
        }
    }

    /// The parent takes back everything after `current`, but only while that is where the worker is.
    pub(crate) fn take_back_after(&self, current: Position) -> bool {
        let next = Position { epoch: current.epoch.wrapping_add(1), number: 0 };
        self.word
            .compare_exchange(current.pack(), next.pack(), Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u32, number: u32) -> Position {
        Position { epoch, number }
    }

    #[test]
    fn items_start_in_order() {
        let claim = Claim::default();
        assert!(claim.start(at(0, 1)));
        assert!(claim.start(at(0, 2)));
        assert!(!claim.start(at(0, 2)));
        assert!(!claim.start(at(0, 4)));
        assert_eq!(claim.current(), at(0, 2));
    }

    #[test]
    fn what_was_taken_back_can_not_start() {
        let claim = Claim::default();
        assert!(claim.start(at(0, 1)));
        assert_eq!(claim.take_back(), at(0, 1));
        assert!(!claim.start(at(0, 2)));
        assert!(claim.start(at(1, 1)));
    }

    #[test]
    fn taking_back_after_an_item_fails_once_the_next_runs() {
        let claim = Claim::default();
        assert!(claim.start(at(0, 1)));
        assert!(claim.start(at(0, 2)));
        assert!(!claim.take_back_after(at(0, 1)));
        assert!(claim.take_back_after(at(0, 2)));
        assert!(!claim.start(at(0, 3)));
    }

    #[test]
    fn a_start_time_belongs_to_its_item() {
        let claim = Claim::default();
        assert!(claim.start(at(0, 1)));
        assert_eq!(claim.start_of(at(0, 1)), None);
        claim.set_start(at(0, 1), 42);
        assert_eq!(claim.start_of(at(0, 1)), Some(42));
        assert!(claim.start(at(0, 2)));
        assert_eq!(claim.start_of(at(0, 2)), None);
        claim.set_start(at(0, 2), 43);
        assert_eq!(claim.start_of(at(0, 1)), None);
    }

    /// Each item is run or taken back, exactly one of the two, whatever the interleaving.
    #[test]
    fn every_item_has_one_owner() {
        for round in 0..200_u32 {
            let claim = Claim::default();
            let (started, last) = std::thread::scope(|scope| {
                let worker =
                    scope.spawn(|| (1..=100).take_while(|n| claim.start(at(0, *n))).count());
                for _ in 0..round {
                    std::hint::spin_loop();
                }
                let last = claim.take_back();
                (worker.join().expect("the worker doesn't panic"), last)
            });
            assert_eq!(started as u32, last.number);
        }
    }
}

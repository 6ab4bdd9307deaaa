//! Where the ends of a ring are.
//!
//! Each end counts its messages, and keeps its position twice: the one that holds after message `n` is
//! `positions[n & 1]`. So a move writes the position that doesn't hold, and commits by adding one to
//! the count. Only the owner of the end's lock moves it; others may [`look`](End::look).
//!
//! A position is a number that only grows, `at`, and the buffer that this number lies in. A buffer of `S`
//! bytes is circular: number `at` is its byte `at % S`. The stay in a buffer begins at a multiple of its
//! size, `start`; so whatever is in flight there lies between `max(start, at of the head)` and `at` of
//! the tail.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::RingError;
use super::record::HEAD;
use crate::shm::lock::RawLock;
use crate::shm::platform::{Platform, Word};

/// A page: what an idle ring takes.
const FIRST_SIZE: u64 = 4096;

/// 4 GiB: as much again is in the buffers before it.
pub(crate) const LAST_BUFFER: u32 = 20;

/// How often to try for a look between two moves of an end.
const LOOKS: u32 = 64;

/// The bytes in buffer `k`.
pub(crate) fn buffer_size(k: u32) -> u64 {
    FIRST_SIZE << k.min(LAST_BUFFER)
}

/// See the file's head. All zeros: at the start of buffer 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Position {
    pub(super) at: u64,
    /// Where the stay in this buffer began.
    pub(super) start: u64,
    pub(super) buffer: u32,
    /// No buffer above this one is in use. (Those below this one's may be, while the other end is there.)
    pub(super) ceiling: u32,
    /// What all messages up to here weigh.
    pub(super) total: u64,
}

/// Where a record goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Here,
    /// To the buffer's start, where the next lap begins.
    Around,
    /// Nowhere in this buffer.
    Out,
}

impl Position {
    /// The lowest bits of `start`, which are 0, hold the buffer and the ceiling.
    const BITS: u32 = 6;
    const MASK: u64 = (1 << Self::BITS) - 1;

    fn to_words(self) -> [u64; 3] {
        let place = self.start | u64::from(self.ceiling) << Self::BITS | u64::from(self.buffer);
        [self.at, place, self.total]
    }

    fn from_words([at, place, total]: [u64; 3]) -> Result<Self, RingError> {
        let start = place & !(FIRST_SIZE - 1);
        let buffer = (place & Self::MASK) as u32;
        let ceiling = ((place >> Self::BITS) & Self::MASK) as u32;
        let is_valid = buffer <= ceiling
            && ceiling <= LAST_BUFFER
            && start.is_multiple_of(buffer_size(buffer))
            && start <= at
            && at.is_multiple_of(8);
        if !is_valid {
            return Err(RingError::Corrupt);
        }
        Ok(Self { at, start, buffer, ceiling, total })
    }

    /// The byte of the buffer.
    pub(super) fn offset(self) -> usize {
        (self.at & (buffer_size(self.buffer) - 1)) as usize
    }

    /// How many bytes are left up to the buffer's end.
    pub(super) fn left(self) -> usize {
        buffer_size(self.buffer) as usize - self.offset()
    }

    /// How many bytes of this buffer are in use when this is the tail, and the head is at `head`.
    pub(super) fn used(self, head: u64) -> Result<u64, RingError> {
        let used = self.at.checked_sub(head.max(self.start)).ok_or(RingError::Corrupt)?;
        if used > buffer_size(self.buffer) {
            return Err(RingError::Corrupt);
        }
        Ok(used)
    }

    /// Where a record of `size` bytes goes, when this is the tail and the head is at `head`. It leaves room
    /// for a hop.
    pub(super) fn way(self, head: u64, size: usize) -> Result<Way, RingError> {
        let laps = self.at != self.start && (self.offset() == 0 || self.left() < size);
        let skipped = if self.left() < size { self.left() } else { 0 };
        let needed = self.used(head)? + (skipped + size + HEAD) as u64;
        Ok(match laps {
            _ if needed > buffer_size(self.buffer) => Way::Out,
            true => Way::Around,
            false => Way::Here,
        })
    }

    /// At the buffer's start, when a record wouldn't fit here.
    pub(super) fn skipped(self) -> Self {
        Self { at: self.at.wrapping_add(self.left() as u64), ..self }
    }

    /// At the start of another buffer, after the hop that stands here.
    pub(super) fn hopped(self, buffer: u32, ceiling: u32) -> Self {
        let size = buffer_size(buffer);
        let at = self.at.wrapping_add(HEAD as u64 + size - 1) & !(size - 1);
        Self { at, start: at, buffer, ceiling, total: self.total }
    }

    /// After a message.
    pub(super) fn passed(self, size: usize, weight: u64) -> Self {
        let (at, total) = (self.at.wrapping_add(size as u64), self.total.wrapping_add(weight));
        Self { at, total, ..self }
    }
}

/// One end of a ring: its lock, its count and its positions. All zeros: nothing has passed.
#[repr(C)]
pub(super) struct End<P: Platform> {
    pub(super) lock: RawLock<P>,
    /// Used at the tail only: no message comes any more.
    pub(super) closed: P::U32,
    count: P::U64,
    positions: [[P::U64; 3]; 2],
    /// The processor on which it was moved last, plus 1.
    cpu: P::U32,
}

impl<P: Platform> End<P> {
    #[cfg(test)]
    pub(super) fn new(word: impl Fn() -> P::U32, long: impl Fn() -> P::U64) -> Self {
        let position = || [long(), long(), long()];
        Self {
            lock: RawLock::new(word()),
            closed: word(),
            count: long(),
            positions: [position(), position()],
            cpu: word(),
        }
    }

    /// Whether it was moved last on this processor. Then who moves it can't run while the caller spins.
    pub(super) fn is_near(&self) -> bool {
        self.cpu.load(Relaxed) == P::cpu().wrapping_add(1)
    }

    /// How many messages have passed. What their owners did before is visible.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Acquire)
    }

    fn words(&self, count: u64) -> [u64; 3] {
        self.positions[(count & 1) as usize].each_ref().map(|word| word.load(Acquire))
    }

    /// Where it is after `count` messages, for the owner of the lock, who knows the count.
    #[inline]
    pub(super) fn position(&self, count: u64) -> Result<Position, RingError> {
        Position::from_words(self.words(count))
    }

    /// One message more has passed, and `position` is what holds now. For the owner of the lock.
    #[inline]
    pub(super) fn commit(&self, count: u64, position: Position) {
        let words = &self.positions[(count & 1) as usize];
        for (word, value) in words.iter().zip(position.to_words()) {
            // Whoever sees it sees as well that the position before the last doesn't hold any more:
            // that is what `look` stands on.
            word.store(value, Release);
        }
        self.count.store(count, Release);
        self.cpu.store(P::cpu().wrapping_add(1), Relaxed);
    }

    /// Count and position, for those who don't have the lock. None: the end moves too fast.
    pub(super) fn look(&self) -> Result<Option<(u64, Position)>, RingError> {
        for _ in 0..LOOKS {
            let count = self.count();
            let words = self.words(count);
            if self.count.load(Relaxed) == count {
                return Ok(Some((count, Position::from_words(words)?)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Position = Position { at: 0, start: 0, buffer: 0, ceiling: 0, total: 0 };

    #[test]
    fn words_keep_a_position() {
        assert_eq!(NEW.to_words(), [0; 3]);
        let position = NEW.passed(64, 60).hopped(LAST_BUFFER, LAST_BUFFER).passed(8, u64::MAX);
        assert_eq!(Position::from_words(position.to_words()).unwrap(), position);
        assert_eq!((position.start, position.offset(), position.total), (1 << 32, 8, 59));
        for words in
            [[4, 0, 0], [0, 4096, 0], [8192, 4096 | 65, 0], [0, 21 | 21 << 6, 0], [0, 1, 0]]
        {
            assert!(Position::from_words(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_record_goes_where_it_fits_with_a_hop_behind_it() {
        assert_eq!(NEW.way(0, 4088).unwrap(), Way::Here);
        assert_eq!(NEW.way(0, 4096).unwrap(), Way::Out);
        let tail = NEW.passed(4000, 0);
        assert_eq!(tail.way(0, 88).unwrap(), Way::Here);
        assert_eq!(tail.way(0, 96).unwrap(), Way::Out);
        assert_eq!(tail.way(8, 96).unwrap(), Way::Here);
        assert_eq!(tail.way(104, 104).unwrap(), Way::Out);
        assert_eq!(tail.way(112, 104).unwrap(), Way::Around);
        assert_eq!(tail.skipped().offset(), 0);
        assert_eq!(tail.passed(96, 0).way(4000, 8).unwrap(), Way::Around);
        assert!(tail.way(4008, 8).is_err());
        assert!(NEW.passed(8000, 0).way(0, 8).is_err());
    }

    #[test]
    fn a_stay_begins_at_a_multiple_of_the_size() {
        let there = NEW.passed(4088, 0).hopped(1, 1);
        assert_eq!((there.at, there.start, there.offset()), (8192, 8192, 0));
        // What is in flight before this stay takes no room in it.
        assert_eq!(there.passed(16, 0).used(0).unwrap(), 16);
        let back = there.passed(8, 0).hopped(0, 1);
        assert_eq!((back.at, back.buffer, back.ceiling), (12288, 0, 1));
    }
}

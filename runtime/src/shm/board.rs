//! Work that many workers share: a board on which they claim ranges of items by themselves. What each of
//! them has claimed is in its [hand](super::hand).
//!
//! One word, in memory that all workers map: a generation, and the first item that nobody has claimed.
//!
//! ```text
//! worker:  (g, i) -> (g, i + n)     claims the items i to i + n
//! parent:  (g, i) -> (g + 1, 0)     closes: what is unclaimed stays so
//! ```
//!
//! All moves are compare-and-swap. The generation belongs to the work, so a worker that comes late
//! claims nothing of what comes next in the same memory.

use std::ops::Range;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::platform::{Platform, Word};

const INDEX_BITS: u32 = 40;
const INDEX: u64 = (1 << INDEX_BITS) - 1;

/// What a generation is counted modulo.
pub(crate) const GENERATIONS: u32 = 1 << (64 - INDEX_BITS);

/// See the file's head.
#[repr(C, align(128))]
pub(crate) struct Board<P: Platform> {
    next: P::U64,
}

impl<P: Platform> Board<P> {
    #[cfg(test)]
    pub(crate) fn new(next: P::U64) -> Self {
        Self { next }
    }

    /// That of the work that it is, or was, open for.
    pub(crate) fn generation(&self) -> u32 {
        (self.next.load(Relaxed) >> INDEX_BITS) as u32
    }

    /// The parent opens it for new work.
    pub(crate) fn open(&self, generation: u32) {
        self.next.store(u64::from(generation) << INDEX_BITS, Release);
    }

    /// The parent closes it. Returns the first item that nobody has claimed.
    pub(crate) fn close(&self, generation: u32) -> u64 {
        let after = u64::from(generation.wrapping_add(1) % GENERATIONS) << INDEX_BITS;
        let last = self.next.swap(after, AcqRel);
        if last >> INDEX_BITS == u64::from(generation) { last & INDEX } else { 0 }
    }

    /// The first item that nobody has claimed; none when it is closed.
    pub(crate) fn unclaimed(&self, generation: u32) -> Option<u64> {
        let next = self.next.load(Acquire);
        (next >> INDEX_BITS == u64::from(generation)).then_some(next & INDEX)
    }

    /// A worker claims what `wanted` says, given how many items are left; there are `items` in all.
    pub(crate) fn claim(
        &self,
        generation: u32,
        items: u32,
        wanted: impl Fn(u32) -> u32,
    ) -> Option<Range<u32>> {
        let mut next = self.next.load(Relaxed);
        loop {
            let index = next & INDEX;
            if next >> INDEX_BITS != u64::from(generation) || index >= u64::from(items) {
                return None;
            }
            let start = index as u32;
            let count = wanted(items - start).clamp(1, items - start);
            match self.next.compare_exchange(next, next + u64::from(count), AcqRel, Relaxed) {
                Ok(_) => return Some(start..start + count),
                Err(now) => next = now,
            }
        }
    }
}

//! What a value may cost: one account, used by both sides, so that they agree.

use super::error::Cause;

/// How many levels a value may nest: structs, tuples, sequences, maps, newtypes, enum variants that
/// hold something, and `Some` are one level each.
///
/// It is serde_json's default. All 128 levels of small types fit into 256 KiB of stack in a debug
/// build; a thread of std has 2 MiB.
pub(super) const MAX_DEPTH: u32 = 128;

/// How many elements of sequences and maps may take no bytes, in one value: for each of them, what
/// its length has above the bytes of its elements, together.
///
/// A sequence of `()` is nothing but its length, so a few forged bytes would cost as much time (or
/// memory, if the fields of the element are skipped) as the length says. A million is more than
/// programs send, and takes less than 20 ms even if each is 32 bytes of memory.
pub(super) const MAX_EMPTY_ELEMENTS: usize = 1 << 20;

/// What is left for one value.
pub(super) struct Limits {
    depth: u32,
    empty_elements: usize,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self { depth: MAX_DEPTH, empty_elements: MAX_EMPTY_ELEMENTS }
    }

    /// One level down.
    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), Cause> {
        self.depth = self.depth.checked_sub(1).ok_or_else(Cause::too_deep)?;
        Ok(())
    }

    /// One level up. After an error the walk is over, and nobody need come up again.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.depth += 1;
    }

    /// Whether a sequence or map of `len` elements is possible in at most `bytes`.
    ///
    /// Asked before the first element, it refuses a forged length before that costs anything.
    #[inline]
    pub(super) fn allow(&self, len: usize, bytes: usize) -> Result<(), Cause> {
        self.without(len, bytes).map(drop)
    }

    /// Takes account of a sequence or map of `len` elements that took `bytes`.
    ///
    /// This needs no look at each element, and still bounds the work: a sequence has no more
    /// elements than it has bytes and was charged for.
    #[inline]
    pub(super) fn charge(&mut self, len: usize, bytes: usize) -> Result<(), Cause> {
        self.empty_elements = self.without(len, bytes)?;
        Ok(())
    }

    #[inline]
    fn without(&self, len: usize, bytes: usize) -> Result<usize, Cause> {
        self.empty_elements
            .checked_sub(len.saturating_sub(bytes))
            .ok_or_else(|| Cause::too_many_empty(len, bytes))
    }
}

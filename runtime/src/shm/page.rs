//! The memory that a parent and one worker share.

#![expect(unsafe_code, reason = "the type vouches for its fields")]

use super::claim::Claim;
use super::note::Note;
use super::outbox::Outbox;
use crate::os::memory::Shareable;

/// Each part begins on cache lines of its own.
#[repr(C)]
pub(crate) struct Page {
    pub(crate) claim: Claim,
    pub(crate) note: Note,
    pub(crate) outbox: Outbox,
}

// SAFETY: all fields are atomics or arrays of atomics, for which every bit pattern is a value.
unsafe impl Shareable for Page {}

//! The memory that a parent and one worker share.

#![expect(unsafe_code, reason = "the type vouches for its fields")]

use std::mem::offset_of;
use std::sync::atomic::AtomicU32;

use super::alarm::Alarm;
use super::claim::Claim;
use super::hand::Hand;
use super::note::Note;
use super::orders::Orders;
use super::outbox::Outbox;
use super::stream::{CAPACITY, Stream};
use super::system::System;
use crate::os::memory::Shareable;
use crate::os::mirror::LARGEST_PAGE;
use crate::os::robust::Robust;

/// Each part begins on cache lines of its own. Parent and worker use the lines or the outbox, as the way
/// of their frames is.
#[repr(C)]
pub(crate) struct Page {
    pub(crate) claim: Claim,
    pub(crate) note: Note,
    pub(crate) lines: Lines,
    pub(crate) hand: Hand<System>,
    /// Held by the thread that runs the tasks, whose end is seen in it.
    pub(crate) pulse: Robust,
    /// In a fork server's page: the process that it made last, or 0 while the kernel makes one. The kernel
    /// writes it, so that it is known even if the server dies at once.
    pub(crate) forked: AtomicU32,
    pub(crate) orders: Orders,
    pub(crate) outbox: Outbox,
}

/// How much of the page a single process gets: its one result is mostly short, and each 4 KiB more would be
/// a microsecond or two of its start.
pub(crate) const BRIEF: usize = 8192;

/// How much of the outbox lies in a brief page. What is longer goes through the socket at once.
pub(crate) const BRIEF_OUTBOX: usize = BRIEF - offset_of!(Page, outbox) - Outbox::BYTES_AT;

/// The words of the two rings that lie behind the page.
#[repr(C, align(128))]
pub(crate) struct Lines {
    /// From the parent to the worker.
    pub(crate) down: Stream<System>,
    /// From the worker to the parent.
    pub(crate) up: Stream<System>,
    pub(crate) alarm: Alarm<System>,
    /// For how many nanoseconds the worker may spin; the parent writes it. Each change also says that what
    /// was learnt of spinning doesn't hold any more.
    pub(crate) spin: AtomicU32,
    /// On which processor the worker was when it had slept last, plus 1; it isn't to be believed.
    pub(crate) processor: AtomicU32,
}

/// Where the ring from parent to worker begins in the page's file, if it has rings.
pub(crate) const DOWN_AT: usize = size_of::<Page>().next_multiple_of(LARGEST_PAGE);

/// Where the other one begins.
pub(crate) const UP_AT: usize = DOWN_AT + CAPACITY;

/// The length of a file with rings.
pub(crate) const WITH_RINGS: usize = UP_AT + CAPACITY;

// SAFETY: all fields are `Shareable` or made of atomics, for which every bit pattern is a value.
unsafe impl Shareable for Page {}

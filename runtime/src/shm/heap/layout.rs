//! What lies where in the shared heap.
//!
//! ```text
//! 0        header: the lock, the free lists, the table of processes
//! 1 MiB    entries, 512 bytes each: who holds the object, what it is, 256 bytes of its own
//! 64 TiB   blocks of 4 KiB;  128 TiB: blocks of 8 KiB; and so on, one region for each class
//! ```
//!
//! Addresses in the file cost nothing, memory is taken where something is written: so each size has a
//! region that never runs out, and an entry keeps its block, also from one object to the next.

#![expect(unsafe_code, reason = "the types vouch for their fields")]

use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::os::memory::Shareable;
use crate::shm::lock::RawLock;
use crate::shm::system::System;

pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"procsn\x01\x04");

/// How many processes can use the heap at the same time.
pub(crate) const PROCESSES: usize = 1024;

/// How many objects there can be at the same time.
pub(super) const ENTRIES: usize = 1 << 20;
pub(super) const ENTRY: usize = 512;
const ENTRIES_AT: u64 = 1 << 20;

/// Entries are mapped, and their memory is taken, so many at a time.
pub(super) const ENTRIES_A_WINDOW: usize = 4096;
pub(super) const ENTRIES_A_STEP: usize = 128;

/// Bytes of an object that lie in its entry.
pub(crate) const INLINE: usize = 256;

pub(super) const PAGE: u64 = 4096;

/// Class 0 has no block, class `c` has blocks of `PAGE << (c - 1)` bytes.
const SIZES: u32 = 34;
/// There are two regions of each size. The second one is for what never changes once it is shared: no
/// process maps it writable.
pub(super) const CLASSES: usize = 2 * SIZES as usize;
const REGION_BITS: u32 = 46;

/// The length of the file.
pub(super) const LENGTH: u64 = (CLASSES as u64) << REGION_BITS;

/// The class for so many bytes; none if no block is so long.
pub(super) fn class_of(bytes: u64, immutable: bool) -> Option<u32> {
    if bytes == 0 {
        return Some(0);
    }
    let size = bytes.max(PAGE).checked_next_power_of_two()?;
    let class = size.trailing_zeros() - PAGE.trailing_zeros() + 1;
    (class < SIZES).then_some(if immutable { class + SIZES } else { class })
}

/// How long the blocks of a class are.
pub(super) fn size_of_class(class: u32) -> u64 {
    match class % SIZES {
        0 => 0,
        class => PAGE << (class - 1),
    }
}

/// Whether blocks of the class may be mapped writable.
pub(super) fn is_writable(class: u32) -> bool {
    class < SIZES
}

/// Where a block begins; none if there can't be such a block.
pub(super) fn block_at(class: u32, block: u64) -> Option<u64> {
    let within = block.checked_mul(size_of_class(class))?;
    let is_inside = class.is_multiple_of(SIZES) || within >> REGION_BITS == 0;
    ((class as usize) < CLASSES && is_inside).then(|| (u64::from(class) << REGION_BITS) + within)
}

pub(super) fn entry_at(index: usize) -> u64 {
    ENTRIES_AT + (index * ENTRY) as u64
}

/// The beginning of the heap.
#[repr(C)]
pub(super) struct Header {
    pub(super) magic: AtomicU64,
    /// In which numbering of processes its users live; 0 if that isn't known.
    pub(super) namespace: AtomicU64,
    _apart: [AtomicU64; 14],
    /// Held for every change of entries, free lists and counts.
    pub(super) lock: RawLock<System>,
    /// How many entries have ever been used; those behind are all zeros.
    pub(super) top: AtomicU32,
    /// Counts how often somebody let go of a value that a manager owns, so that nobody but its server
    /// holds it, maybe.
    pub(super) unclaimed: AtomicU32,
    /// When somebody last looked for dead orphans, in milliseconds of the monotonic clock.
    pub(super) swept: AtomicU64,
    /// Bytes that free entries keep.
    pub(super) kept: AtomicU64,
    /// The free entries of each class: the first one's index plus 1.
    pub(super) free: [AtomicU32; CLASSES],
    /// How many blocks of each class have ever been used.
    pub(super) blocks: [AtomicU64; CLASSES],
    pub(super) processes: [Process; PROCESSES],
}

/// A slot of the table of processes.
#[repr(C)]
pub(super) struct Process {
    /// `pid << 32 | epoch << 1 | is used`.
    pub(super) state: AtomicU64,
    /// When the process was started; 0 while it isn't told yet, or not known.
    pub(super) start: AtomicU64,
    /// The process that has started it, as an owner; 0 for the first of the family.
    pub(super) parent: AtomicU64,
    /// When it was last seen alive, by anybody, in milliseconds.
    pub(super) seen: AtomicU64,
}

/// An object, or room for one. The fields are changed under the heap's lock; `state` is written last
/// when it comes, and first when it goes.
#[repr(C)]
pub(super) struct Entry {
    /// `generation << 8 | phase`.
    pub(super) state: AtomicU64,
    /// The next free entry of the class, plus 1.
    pub(super) next: AtomicU32,
    pub(super) class: AtomicU32,
    pub(super) block: AtomicU64,
    /// Bytes of the block that have memory.
    pub(super) committed: AtomicU64,
    pub(super) kind: AtomicU32,
    /// The process that has made it.
    pub(super) creator: AtomicU32,
    /// What its contents are made of: see [`layout_of`](super::object::layout_of).
    pub(super) layout: AtomicU64,
    /// How many items it has, in units of its own.
    pub(super) length: AtomicU64,
    /// How many bytes were asked for.
    pub(super) bytes: AtomicU64,
    /// The object that it is a part of, and that may hold it: 0 for none.
    pub(super) parent: AtomicU64,
    /// Whether the parent holds it.
    pub(super) attached: AtomicU32,
    /// How many parts it has.
    pub(super) parts: AtomicU32,
    /// How many parcels refer to it.
    pub(super) parcels: AtomicU32,
    _padding: AtomicU32,
    /// A parcel's place in its queue.
    pub(super) number: AtomicU64,
    _apart: [AtomicU64; 4],
    /// One bit for each process that holds it.
    pub(super) holders: [AtomicU64; PROCESSES / 64],
    pub(super) inline: [AtomicU64; INLINE / 8],
}

const _: () = assert!(size_of::<Entry>() == ENTRY);
const _: () = assert!(size_of::<Header>() <= ENTRIES_AT as usize);

// SAFETY: all fields are atomics or arrays of them, for which every bit pattern is a value.
unsafe impl Shareable for Header {}
// SAFETY: as above.
unsafe impl Shareable for Entry {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_large_enough_and_apart() {
        assert_eq!(class_of(0, false), Some(0));
        for bytes in [1, 4096, 4097, 1 << 20, (1 << 20) + 1, 1 << 44] {
            for immutable in [false, true] {
                let class = class_of(bytes, immutable).unwrap();
                let size = size_of_class(class);
                assert!(size >= bytes && (size < 2 * bytes || size == 4096));
                assert_eq!(is_writable(class), !immutable);
                assert_eq!(block_at(class, 3).unwrap() - block_at(class, 2).unwrap(), size);
            }
        }
        assert_eq!(class_of(u64::MAX, false), None);
        assert_eq!(block_at(1, 1 << 34), None);
        assert!(LENGTH <= i64::MAX as u64);
    }
}

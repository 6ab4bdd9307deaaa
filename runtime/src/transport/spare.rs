//! Long buffers that have been used, for the next long bodies.
//!
//! The first touch of fresh memory costs several times what a copy into it does, and the system takes long
//! memory back with each free. So what a long body was sent from is what the next one arrives in: in a
//! conversation of long bodies no memory is touched for the first time. It is given back when nothing has
//! been said for a while ([`release`]).
//!
//! This holds no memory that wasn't in use just before, and never more than [`KEPT`] in a process.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::frame::LONG;
use crate::os::memory;

/// So many bytes are kept: both directions of a call of 64 MiB.
const KEPT: usize = 128 << 20;

/// Addresses reserved at once for a body that claims to be so long. It takes memory only as it arrives.
const RESERVED: usize = 256 << 20;

struct Spare {
    kept: Mutex<Kept>,
    /// Whether any buffer is kept, as far as is known without the lock.
    is_any: AtomicBool,
}

#[derive(Default)]
struct Kept {
    /// All of them empty, the latest last.
    buffers: Vec<Vec<u8>>,
    /// How many will see to it that these are given back. While there is none, nothing is kept.
    keepers: usize,
}

static SPARE: Spare = Spare {
    kept: Mutex::new(Kept { buffers: Vec::new(), keepers: 0 }),
    is_any: AtomicBool::new(false),
};

/// One that gives back what is kept when nothing has been said for a while, and at its end.
pub(crate) struct Keeper(());

impl Keeper {
    pub(crate) fn new() -> Self {
        SPARE.lock().keepers += 1;
        Self(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        SPARE.lock().keepers -= 1;
        release();
    }
}

impl Spare {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, length: usize) -> Vec<u8> {
        // Whoever is given the body shouldn't hold much more than that.
        let fits = |buffer: &Vec<u8>| (length..=length + length / 4).contains(&buffer.capacity());
        let mut spare = self.lock();
        if let Some(at) = spare.buffers.iter().rposition(fits) {
            let buffer = spare.buffers.remove(at);
            self.is_any.store(!spare.buffers.is_empty(), Relaxed);
            return buffer;
        }
        drop(spare);
        let mut fresh = Vec::new();
        memory::reserve_long(&mut fresh, length.min(RESERVED));
        fresh
    }

    fn give(&self, mut buffer: Vec<u8>) {
        if !(LONG..=KEPT).contains(&buffer.capacity()) {
            return;
        }
        buffer.clear();
        let mut dropped = Vec::new();
        let mut spare = self.lock();
        if spare.keepers == 0 {
            return;
        }
        spare.buffers.push(buffer);
        self.is_any.store(true, Relaxed);
        let mut bytes: usize = spare.buffers.iter().map(Vec::capacity).sum();
        while bytes > KEPT {
            let oldest = spare.buffers.remove(0);
            bytes -= oldest.capacity();
            dropped.push(oldest);
        }
        // Giving memory back takes its time.
        drop(spare);
    }
}

/// An empty buffer for a body of so many bytes, if that many come.
pub(super) fn take(length: usize) -> Vec<u8> {
    SPARE.take(length)
}

/// Whether any buffer is kept.
pub(crate) fn is_any() -> bool {
    SPARE.is_any.load(Relaxed)
}

/// Gives back all that is kept.
pub(crate) fn release() {
    let mut spare = SPARE.lock();
    let kept = std::mem::take(&mut spare.buffers);
    SPARE.is_any.store(false, Relaxed);
    drop(spare);
    drop(kept);
}

/// Bytes whose buffer is kept when they aren't needed any more.
pub(crate) struct Reused(pub(crate) Vec<u8>);

impl AsRef<[u8]> for Reused {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Reused {
    fn drop(&mut self) {
        SPARE.give(std::mem::take(&mut self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Spare {
        let kept = Kept { buffers: Vec::new(), keepers: 1 };
        Spare { kept: Mutex::new(kept), is_any: AtomicBool::new(false) }
    }

    #[test]
    fn a_buffer_is_used_again_for_what_is_about_as_long() {
        let spare = nothing();
        let mut bytes: Vec<u8> = Vec::with_capacity(1 << 20);
        bytes.push(1);
        let (at, capacity) = (bytes.as_ptr(), bytes.capacity());
        spare.give(bytes);
        for length in [capacity + 1, capacity / 2] {
            assert_ne!(
                spare.take(length).capacity(),
                capacity,
                "it is too short, or much too long"
            );
        }
        let again = spare.take(capacity - 1000);
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
        assert!(spare.lock().buffers.is_empty());
        let other = spare.take(capacity - 1000);
        assert_ne!(other.as_ptr(), at, "it is taken");
    }

    #[test]
    fn neither_short_nor_endless_memory_is_kept() {
        let spare = nothing();
        spare.give(Vec::with_capacity(LONG / 2));
        spare.give(Vec::with_capacity(KEPT + 1));
        assert!(spare.lock().buffers.is_empty());
        for _ in 0..20 {
            spare.give(Vec::with_capacity(KEPT / 10));
        }
        let kept: usize = spare.lock().buffers.iter().map(Vec::capacity).sum();
        assert!(kept > KEPT / 2 && kept <= KEPT, "{kept}");
    }

    #[test]
    fn nothing_is_kept_that_nobody_gives_back() {
        let spare = Spare { kept: Mutex::default(), is_any: AtomicBool::new(false) };
        spare.give(Vec::with_capacity(1 << 20));
        assert!(spare.lock().buffers.is_empty());
    }

    #[test]
    fn a_length_that_is_claimed_is_not_allocated() {
        assert!(nothing().take(usize::MAX / 2).capacity() <= RESERVED);
    }
}

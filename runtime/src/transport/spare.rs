//! Long buffers that have been used, for the next long bodies.
//!
//! The first touch of fresh memory costs several times what a copy into it does, and the system takes long
//! memory back with each free. So what a long text or vector of bytes was sent from is what the next long bytes
//! arrive in; what a caller, or a task, makes and drops itself is its own affair. A vector of wider numbers is
//! sent from memory that no vector of bytes may take over, because of its alignment. Nor is kept what such a
//! vector came in: the allocator has that at hand for the next vector that is decoded, which then needs none.
//!
//! ```text
//! in use --nobody needs it any more--> kept --the next long body--> in use
//!                                       |
//!                                       +--not used for IDLE, or no keeper is left--> given back
//! ```
//!
//! Memory is kept only while there is a [`Keeper`]: somebody who has had long bytes, and will see to it that
//! what is kept is given back. It is never more than [`KEPT`] in a process, and was all in use just before.
//! Giving it back takes its time, so who may hold a lock is handed it instead.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::frame::LONG;
use crate::os::{clock, memory};

/// So many bytes are kept: both directions of a call of 64 MiB.
const KEPT: usize = 128 << 20;

/// Addresses reserved at once for a body that claims to be so long. It takes memory only as it arrives.
const RESERVED: usize = 256 << 20;

/// What wasn't used for so long, in nanoseconds, is given back: another conversation may be using the rest.
const IDLE: u64 = 1_000_000_000;

struct Spare {
    kept: Mutex<Kept>,
    /// Whether any buffer is kept, as far as is known without the lock.
    is_any: AtomicBool,
}

#[derive(Default)]
struct Kept {
    /// All of them empty, the latest last, each with the nanosecond since which it is kept.
    buffers: Vec<(u64, Vec<u8>)>,
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

    /// Hands out what is to be given back when this one keeps nothing any more.
    pub(super) fn release(self) -> Vec<Vec<u8>> {
        std::mem::forget(self);
        SPARE.leave(clock::nanos())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(SPARE.leave(clock::nanos()));
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
        if let Some(at) = spare.buffers.iter().rposition(|(_, buffer)| fits(buffer)) {
            let (_, buffer) = spare.buffers.remove(at);
            self.is_any.store(!spare.buffers.is_empty(), Relaxed);
            return buffer;
        }
        drop(spare);
        let mut fresh = Vec::new();
        memory::reserve_long(&mut fresh, length.min(RESERVED));
        fresh
    }

    fn give(&self, mut buffer: Vec<u8>, now: u64) {
        if !(LONG..=KEPT).contains(&buffer.capacity()) {
            return;
        }
        buffer.clear();
        let mut dropped = Vec::new();
        let mut spare = self.lock();
        if spare.keepers == 0 {
            return;
        }
        spare.buffers.push((now, buffer));
        self.is_any.store(true, Relaxed);
        let mut bytes: usize = spare.buffers.iter().map(|(_, buffer)| buffer.capacity()).sum();
        while bytes > KEPT {
            let (_, oldest) = spare.buffers.remove(0);
            bytes -= oldest.capacity();
            dropped.push(oldest);
        }
        // Without the lock: giving memory back takes its time.
        drop(spare);
    }

    /// There is one keeper less: hands out what is old, or all if nobody is left to look after it.
    fn leave(&self, now: u64) -> Vec<Vec<u8>> {
        let mut spare = self.lock();
        spare.keepers -= 1;
        let since = if spare.keepers == 0 { u64::MAX } else { now.saturating_sub(IDLE) };
        self.take_old(&mut spare, since)
    }

    /// Takes out what is kept since then or longer.
    fn take_old(&self, spare: &mut Kept, since: u64) -> Vec<Vec<u8>> {
        let old = spare.buffers.extract_if(.., |(at, _)| *at <= since);
        let old = old.map(|(_, buffer)| buffer).collect();
        self.is_any.store(!spare.buffers.is_empty(), Relaxed);
        old
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

/// Gives back what is kept and wasn't used for a while.
pub(crate) fn release() {
    let since = clock::nanos().saturating_sub(IDLE);
    let old = SPARE.take_old(&mut SPARE.lock(), since);
    drop(old);
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
        if self.0.capacity() >= LONG {
            SPARE.give(std::mem::take(&mut self.0), clock::nanos());
        }
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
        spare.give(bytes, 0);
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
        spare.give(Vec::with_capacity(LONG / 2), 0);
        spare.give(Vec::with_capacity(KEPT + 1), 0);
        assert!(spare.lock().buffers.is_empty());
        for _ in 0..20 {
            spare.give(Vec::with_capacity(KEPT / 10), 0);
        }
        let kept: usize = spare.lock().buffers.iter().map(|(_, buffer)| buffer.capacity()).sum();
        assert!(kept > KEPT / 2 && kept <= KEPT, "{kept}");
    }

    #[test]
    fn nothing_is_kept_that_nobody_gives_back() {
        let spare = Spare { kept: Mutex::default(), is_any: AtomicBool::new(false) };
        spare.give(Vec::with_capacity(1 << 20), 0);
        assert!(spare.lock().buffers.is_empty());
    }

    /// What another conversation uses stays; the last keeper leaves nothing behind.
    #[test]
    fn what_was_not_used_for_a_while_is_given_back() {
        let spare = nothing();
        spare.lock().keepers = 2;
        spare.give(Vec::with_capacity(1 << 20), 0);
        spare.give(Vec::with_capacity(2 << 20), IDLE / 2);
        let capacities =
            |buffers: Vec<Vec<u8>>| -> Vec<usize> { buffers.iter().map(Vec::capacity).collect() };
        assert_eq!(capacities(spare.leave(IDLE)), [1 << 20]);
        assert!(spare.is_any.load(Relaxed));
        assert_eq!(capacities(spare.leave(IDLE)), [2 << 20]);
        assert!(!spare.is_any.load(Relaxed) && spare.lock().buffers.is_empty());
    }

    #[test]
    fn a_length_that_is_claimed_is_not_allocated() {
        assert!(nothing().take(usize::MAX / 2).capacity() <= RESERVED);
    }
}

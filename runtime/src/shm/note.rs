//! The crash note: the last words of a worker.
//!
//! Two slots, for what a panic said and for how the end began, each with the states
//!
//! ```text
//! EMPTY -> WRITING -> WRITTEN -> EMPTY (when the next item starts)
//! ```
//!
//! In each the first writer wins, so that a panic's note isn't overwritten by one that follows from
//! it. The worker writes, also from a signal handler; the parent reads after the worker's death.

use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::os::memory::{copy_in, copy_out};

/// Room for a panic's message and place; a longer one is cut.
const TEXT: usize = 2048;

const EMPTY: u32 = 0;
const WRITING: u32 = 1;
const WRITTEN: u32 = 2;

const SIGNAL: u32 = 1;
const OVERFLOW: u32 = 2;
const EXIT: u32 = 3;

/// How a worker's end began, as it saw it itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// A fatal signal and the address of the fault.
    Signal { number: i32, address: u64 },
    /// A signal from touching the guard of the task's stack.
    StackOverflow { address: u64 },
    /// `exit` was called.
    Exit,
}

#[repr(C, align(128))]
pub(crate) struct Note {
    ending: AtomicU32,
    kind: AtomicU32,
    signal: AtomicI32,
    panicking: AtomicU32,
    address: AtomicU64,
    length: AtomicU32,
    text: [AtomicU8; TEXT],
}

impl Note {
    /// Tells how the end begins. Async-signal-safe.
    pub(crate) fn end(&self, end: End) {
        if !begin(&self.ending) {
            return;
        }
        let (kind, signal, address) = match end {
            End::Signal { number, address } => (SIGNAL, number, address),
            End::StackOverflow { address } => (OVERFLOW, 0, address),
            End::Exit => (EXIT, 0, 0),
        };
        self.kind.store(kind, Ordering::Relaxed);
        self.signal.store(signal, Ordering::Relaxed);
        self.address.store(address, Ordering::Relaxed);
        self.ending.store(WRITTEN, Ordering::Release);
    }

    /// Tells of a panic that may be the end.
    pub(crate) fn panic(&self, text: &str) {
        if !begin(&self.panicking) {
            return;
        }
        let text = &text.as_bytes()[..text.len().min(TEXT)];
        copy_in(&self.text, text);
        self.length.store(text.len() as u32, Ordering::Relaxed);
        self.panicking.store(WRITTEN, Ordering::Release);
    }

    /// Forgets the notes of an item that is over; reads only when there are none.
    pub(crate) fn clear(&self) {
        for state in [&self.ending, &self.panicking] {
            if state.load(Ordering::Relaxed) == WRITTEN {
                // Only a finished one: a thread that the task has left may be writing.
                let _ = state.compare_exchange(WRITTEN, EMPTY, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    /// How the end began.
    pub(crate) fn read_end(&self) -> Option<End> {
        if self.ending.load(Ordering::Acquire) != WRITTEN {
            return None;
        }
        let address = self.address.load(Ordering::Relaxed);
        match self.kind.load(Ordering::Relaxed) {
            SIGNAL => Some(End::Signal { number: self.signal.load(Ordering::Relaxed), address }),
            OVERFLOW => Some(End::StackOverflow { address }),
            EXIT => Some(End::Exit),
            _ => None,
        }
    }

    /// What the first panic said.
    pub(crate) fn read_panic(&self) -> Option<String> {
        if self.panicking.load(Ordering::Acquire) != WRITTEN {
            return None;
        }
        let length = (self.length.load(Ordering::Relaxed) as usize).min(TEXT);
        let mut text = Vec::with_capacity(length);
        copy_out(&self.text[..length], &mut text);
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}

fn begin(state: &AtomicU32) -> bool {
    state.compare_exchange(EMPTY, WRITING, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        Note {
            ending: AtomicU32::new(0),
            kind: AtomicU32::new(0),
            signal: AtomicI32::new(0),
            panicking: AtomicU32::new(0),
            address: AtomicU64::new(0),
            length: AtomicU32::new(0),
            text: [const { AtomicU8::new(0) }; TEXT],
        }
    }

    #[test]
    fn the_first_note_wins() {
        let note = note();
        assert_eq!((note.read_panic(), note.read_end()), (None, None));
        note.panic("at a.rs:1: no");
        note.panic("at b.rs:1: again");
        note.end(End::Signal { number: 6, address: 0 });
        note.end(End::Exit);
        assert_eq!(note.read_panic().as_deref(), Some("at a.rs:1: no"));
        assert_eq!(note.read_end(), Some(End::Signal { number: 6, address: 0 }));
        note.clear();
        assert_eq!((note.read_panic(), note.read_end()), (None, None));
        note.end(End::Exit);
        assert_eq!(note.read_end(), Some(End::Exit));
    }

    #[test]
    fn a_long_message_is_cut() {
        let note = note();
        note.panic(&"é".repeat(TEXT));
        assert!(note.read_panic().is_some_and(|text| text.starts_with('é')));
    }

    #[test]
    fn a_half_written_or_forged_note_is_none() {
        let note = note();
        note.ending.store(WRITING, Ordering::Relaxed);
        assert_eq!(note.read_end(), None);
        note.ending.store(WRITTEN, Ordering::Relaxed);
        note.kind.store(99, Ordering::Relaxed);
        assert_eq!(note.read_end(), None);
        note.panicking.store(WRITTEN, Ordering::Relaxed);
        note.length.store(u32::MAX, Ordering::Relaxed);
        assert_eq!(note.read_panic().map(|text| text.len()), Some(TEXT));
    }
}

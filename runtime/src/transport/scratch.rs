//! A buffer for one message, used again for the next one of the same thread.

use std::cell::Cell;

/// A buffer above this is given back.
const KEPT: usize = 4 << 20;

/// Runs `f` with an empty buffer.
pub(crate) fn with<R>(f: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    thread_local! {
        static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    }
    // Within `f` there may be another message: it finds nothing here, and has a buffer of its own.
    // Nor is there one any more where a thread's end runs the user's code.
    let mut buffer = SCRATCH.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    let result = f(&mut buffer);
    if buffer.capacity() <= KEPT {
        let _ = SCRATCH.try_with(|scratch| scratch.set(buffer));
    }
    result
}

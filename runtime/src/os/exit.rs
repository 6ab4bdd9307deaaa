//! The two ends of `exit`: a function that runs at it, and leaving without it.

#![expect(unsafe_code, reason = "atexit and _exit are C")]

use nix::libc;

/// Runs `f` when the process exits normally.
pub(crate) fn at_exit(f: extern "C" fn()) {
    // SAFETY: `f` is a function without arguments that lives as long as the program.
    unsafe { libc::atexit(f) };
}

/// Ends the process now; nothing is flushed, nothing else runs.
pub(crate) fn leave(code: i32) -> ! {
    // SAFETY: the call takes an integer and doesn't return.
    unsafe { libc::_exit(code) }
}

/// Whether this program runs with rights that its caller doesn't have (set-user-id and the like).
pub(crate) fn is_privileged() -> bool {
    // SAFETY: the call takes an integer and returns one.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

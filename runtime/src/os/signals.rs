//! Signal dispositions of workers and of the supervisor thread.

#![expect(unsafe_code, reason = "sigaction is a C interface")]

use std::ffi::c_int;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Makes Ctrl-C a matter of the parent. A handler that does nothing, not `SIG_IGN`: programs that a
/// task starts get the default back.
pub(crate) fn leave_interrupts_to_the_parent() {
    let action =
        SigAction::new(SigHandler::Handler(do_nothing), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: the handler does nothing, which is async-signal-safe.
    let _ = unsafe { sigaction(Signal::SIGINT, &action) };
}

/// Ends the block of SIGINT with which a pool's worker starts, so that Ctrl-C can't end it before the
/// handler above stands.
pub(crate) fn let_interrupts_in() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    let _ = set.thread_unblock();
}

/// Forgets an interrupt that came while they were blocked, and was for somebody else.
pub(crate) fn forget_interrupts() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring a signal runs no code; what waits is dropped by that.
    if let Ok(before) = unsafe { sigaction(Signal::SIGINT, &ignore) } {
        // SAFETY: the action was in force before.
        let _ = unsafe { sigaction(Signal::SIGINT, &before) };
    }
}

/// Makes a write to a closed pipe an error, as std's start-up does, which a worker that takes over
/// before `main` doesn't get to.
pub(crate) fn ignore_broken_pipes() {
    let action = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring a signal runs no code.
    let _ = unsafe { sigaction(Signal::SIGPIPE, &action) };
}

/// Keeps the user's signal handlers off the calling thread.
pub(crate) fn block_all_on_this_thread() {
    let _ = SigSet::all().thread_block();
}

extern "C" fn do_nothing(_: c_int) {}

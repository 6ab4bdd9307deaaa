//! What signals do in the process of a test, whoever has started it.

#![expect(unsafe_code, reason = "a handler of signals could be anything")]

use std::sync::Once;

use nix::sys::signal::{SigHandler, Signal, signal};

/// Lets the signals end processes again that shells and `nohup` have ignored in what they start in the
/// background: it is inherited, and tests send these signals.
pub(crate) fn set_to_defaults() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for kind in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
            // SAFETY: the default runs no handler.
            unsafe { signal(kind, SigHandler::SigDfl) }.expect("these can be set");
        }
    });
}

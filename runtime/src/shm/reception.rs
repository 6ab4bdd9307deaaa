//! What clients and the server of a manager tell each other besides messages: two bells, and who serves.
//!
//! It lies in the inline bytes of an object, whose block has the ring in which connections are offered.
//! Every process of the family can write to it. A false ring is a look in vain; but whoever says that the
//! manager has gone ends the server.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::bell::Bell;
use super::platform::{Owner, Platform, Word};

/// See the file's head. All zeros: nobody serves.
#[repr(C)]
pub(crate) struct Reception<P: Platform> {
    /// Rung after each message to the server. The thread that serves listens when it has nothing to do.
    pub(crate) arrivals: Bell<P>,
    /// Rung by who has waited for an answer for a while.
    pub(crate) alarm: Bell<P>,
    /// The process that serves; 0 as long as it hasn't begun.
    server: P::U32,
    /// Whether the manager has gone, so that the server is to end.
    closing: P::U32,
    /// Whether somebody could not say what it has let go, so that the server has to look for itself.
    missed: P::U32,
    /// Whether the server has found the ring of messages damaged: then nobody can connect any more.
    damaged: P::U32,
    /// Counts requests, for clients who wonder what others did with a processor.
    served: P::U32,
}

impl<P: Platform> Reception<P> {
    /// This process serves from now on.
    pub(crate) fn serve(&self) {
        self.server.store(P::me().bits(), Release);
    }

    /// Who serves; none as long as nobody does.
    pub(crate) fn server(&self) -> Option<Owner> {
        Owner::in_word(self.server.load(Acquire))
    }

    /// Asks the server to end.
    pub(crate) fn close(&self) {
        self.closing.store(1, Release);
        self.alarm.ring(u32::MAX);
    }

    /// Whether the server was asked to end.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Acquire) != 0
    }

    /// The ring of messages is damaged.
    pub(crate) fn damage(&self) {
        self.damaged.store(1, Release);
    }

    /// Whether the server has found it damaged.
    pub(crate) fn is_damaged(&self) -> bool {
        self.damaged.load(Acquire) != 0
    }

    /// The server begins with its next request.
    pub(crate) fn count_request(&self) {
        // Nobody else writes it.
        self.served.store(self.served.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// How many requests were served, modulo 2^32.
    pub(crate) fn served(&self) -> u32 {
        self.served.load(Relaxed)
    }

    /// The server is to look for what nobody holds any more: whoever knows could not say.
    pub(crate) fn miss(&self) {
        self.missed.store(1, Release);
        self.arrivals.ring(1);
    }

    /// Whether it was asked to, since the last time.
    pub(crate) fn take_missed(&self) -> bool {
        self.missed.load(Relaxed) != 0 && self.missed.swap(0, Acquire) != 0
    }
}

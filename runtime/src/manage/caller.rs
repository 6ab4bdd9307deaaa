//! A connection, as the server sees it.
//!
//! ```text
//! IDLE ---look: a request is there---> BUSY ---answer---> IDLE
//!   |                                    |
//!   +----- the client has gone ------> ENDED <--- end: a breach
//! ```
//!
//! Only the leader looks. Whoever executes the request moves BUSY on. An ended connection is taken off the
//! list at the next look, and closed when nobody has it any more.

use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::protocol::{self, Breach, Fault};
use crate::shm::channel::Patience;
use crate::shm::heap::{Object, parcel};
use crate::shm::ring::RingError;
use crate::transport::pipe::Pipe;

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const ENDED: u8 = 2;

/// See the file's head.
pub(crate) struct Caller {
    pipe: Box<Pipe>,
    state: AtomicU8,
}

/// What a look has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// No request, or one is executed.
    Nothing,
    /// A request, which is the caller's to execute.
    Request,
    /// There will be none any more.
    End,
}

impl Caller {
    pub(crate) fn new(pipe: Box<Pipe>) -> Self {
        Self { pipe, state: AtomicU8::new(IDLE) }
    }

    /// Whether a [look](Self::look) would find something.
    pub(crate) fn has_news(&self) -> bool {
        match self.state.load(Acquire) {
            IDLE => self.pipe.incoming().ring().ready_to_get(),
            BUSY => false,
            _ => true,
        }
    }

    /// Looks for a request.
    pub(crate) fn look(&self) -> Found {
        if !self.has_news() {
            return Found::Nothing;
        }
        if self.state.load(Relaxed) == ENDED || self.pipe.incoming().ring().len() == 0 {
            return Found::End;
        }
        self.state.store(BUSY, Relaxed);
        Found::Request
    }

    /// Whether the client waits for its answer still.
    pub(crate) fn is_there(&self) -> bool {
        !self.pipe.incoming().ring().is_closed()
    }

    /// Receives the request into `to`; what is returned holds the handles in it.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn receive(&self, to: &mut Vec<u8>) -> Result<Option<Object>, Breach> {
        to.clear();
        let parcel = self.pipe.incoming().receive(to, Patience::None).map_err(|_| Breach)?;
        if let Some(parcel) = &parcel {
            parcel::bytes(parcel, to).map_err(|_| Breach)?;
        }
        Ok(parcel)
    }

    /// Answers the request.
    pub(crate) fn answer(&self, reply: &[u8], handles: &[Object]) {
        // First: the next request may be there before this thread runs again, and the leader must see it.
        self.state.store(IDLE, Release);
        let send = |reply: &[u8], handles: &[Object]| {
            self.pipe.outgoing().send(reply, handles, Patience::None)
        };
        let sent = match send(reply, handles) {
            Err(RingError::Memory(error)) => {
                let text = format!("its result can't be sent, and is lost: {error}");
                let mut refusal = Vec::new();
                protocol::reply(&mut refusal, |_| Err::<(), _>(Fault::Refused(text)));
                send(&refusal, &[])
            }
            sent => sent,
        };
        if sent.is_err() {
            self.end();
        }
    }

    /// It is served no longer.
    pub(crate) fn end(&self) {
        self.state.store(ENDED, Release);
    }
}

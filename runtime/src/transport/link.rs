//! A duplex way of messages between two processes: what a connection stands on.
//!
//! A backend is one file that implements [`Link`]; all of them pass the suite in `link_conformance.rs`.
//! A link knows bytes. What they mean is settled above it.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use super::pipe::Pipe;

/// One end of a duplex way of messages. Dropping it ends the way in both directions.
///
/// - Messages arrive whole, in order, and apart; an empty one is a message.
/// - Any number of threads may send and receive at once. One that waits to receive holds up nobody that
///   sends, and the other way round; a message is received by one thread.
/// - A deadline ends a wait, never a message that can be had without waiting. None: wait for ever.
/// - Nothing that the peer sends claims more memory than it has sent, but for a fixed amount.
pub(crate) trait Link: Send + Sync {
    /// Sends the parts as one message.
    ///
    /// # Errors
    /// [`LinkError::Disconnected`], [`LinkError::TimedOut`], [`LinkError::System`]. The peer doesn't
    /// receive the message then, not even part of it.
    fn send(&self, parts: &[&[u8]], deadline: Option<Instant>) -> Result<(), LinkError>;

    /// Receives one message.
    ///
    /// # Errors
    /// All of them. After [`LinkError::TimedOut`] nothing is lost: what has arrived of a message is
    /// there for the next call. After [`LinkError::TooLong`] the message is skipped, and the next call
    /// receives the one after it. After [`LinkError::Malformed`] nothing is received any more.
    fn receive(&self, limit: u64, deadline: Option<Instant>) -> Result<Vec<u8>, LinkError>;

    /// Waits until [`receive`](Self::receive) with this limit would not block: there is a whole message,
    /// or an error that isn't [`LinkError::TimedOut`]. False: the deadline has passed first.
    fn poll(&self, limit: u64, deadline: Option<Instant>) -> bool;

    /// A copy of its socket, for another process to go on with; none for what is no socket.
    ///
    /// # Errors
    /// A part of a message has been received, or the system refuses.
    fn copy(&self) -> Option<io::Result<OwnedFd>> {
        None
    }

    /// The pipe that it is, if it is one: handles on shared objects can go through it.
    fn as_pipe(&self) -> Option<&Pipe> {
        None
    }

    /// What is readable when something has arrived, or the peer has gone: a whole message, or less.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// Why a message was not sent or received.
#[derive(Debug)]
pub(crate) enum LinkError {
    /// The peer has gone, and nothing that it sent before is left.
    Disconnected,
    /// The deadline has passed.
    TimedOut,
    /// The message is longer than the receiver allows.
    TooLong { length: u64, limit: u64 },
    /// What the peer sends is no message.
    Malformed,
    /// The system refuses.
    System(io::Error),
}

impl From<io::Error> for LinkError {
    /// A peer that has gone shows in several ways.
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkUnreachable,
            NotConnected, TimedOut,
        };
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | HostUnreachable
            | NetworkUnreachable | NotConnected | TimedOut => Self::Disconnected,
            _ => Self::System(error),
        }
    }
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("the peer has closed the connection"),
            Self::TimedOut => f.write_str("the time is over"),
            Self::TooLong { length, limit } => {
                write!(f, "a message of {length} bytes is longer than the limit of {limit}")
            }
            Self::Malformed => f.write_str("the peer sends what is no message"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LinkError {}

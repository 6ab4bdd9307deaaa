//! The way of frames between a parent and one worker, and of messages between any two processes.
//!
//! `transport` knows frames, not tasks: what is in a frame is settled between `sched` and `worker`.
//! A backend is one file that implements the two traits below; all of them pass the suite in
//! `conformance.rs`. The way of messages has its trait in `link.rs` and its suite in
//! `link_conformance.rs`.

pub(crate) mod auth;
pub(crate) mod codec;
#[cfg(test)]
mod conformance;
pub(crate) mod desk;
pub(crate) mod door;
pub(crate) mod frame;
pub(crate) mod hello;
mod inflow;
pub(crate) mod link;
#[cfg(test)]
mod link_conformance;
pub(crate) mod message;
pub(crate) mod pipe;
pub(crate) mod scratch;
pub(crate) mod socket;
pub(crate) mod stream;

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use frame::{Body, Header, Malformed};

/// Bytes that frames may refer to instead of copying them.
pub(crate) type SharedBytes = Arc<Vec<u8>>;

/// What a call of [`ParentEnd::receive`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Received {
    /// Something; there may be more.
    Some,
    /// Nothing for now.
    Nothing,
    /// The end of the stream.
    End,
}

/// The parent's end. Nothing here ever blocks.
pub(crate) trait ParentEnd: Send {
    /// Adds bytes to what is to be sent.
    fn queue(&mut self, bytes: &[u8]);

    /// Adds a range of shared bytes, without copying it if it is long.
    fn queue_shared(&mut self, bytes: &SharedBytes, range: Range<usize>);

    /// Sends what can be sent. True: nothing is left.
    ///
    /// # Errors
    /// The worker has gone, or the system refuses.
    fn flush(&mut self) -> io::Result<bool>;

    /// Takes in some of what has arrived.
    ///
    /// # Errors
    /// The system refuses.
    fn receive(&mut self) -> io::Result<Received>;

    /// The next whole frame of what was taken in.
    ///
    /// # Errors
    /// The bytes are no frame; the stream can't be used any more.
    fn next(&mut self) -> Result<Option<(Header, Body<'_>)>, Malformed>;

    /// All bytes that were taken in and not handled; tiny results are taken from here.
    fn bytes(&self) -> &[u8];

    /// Skips bytes that were handled.
    fn skip(&mut self, count: usize);

    /// How many bytes of the worker's stream have been taken in.
    fn received(&self) -> u64;

    /// Takes in bytes of the stream that came another way; they are skipped where it delivers them.
    fn take_in(&mut self, bytes: &[u8]);

    /// What to wait on.
    fn as_fd(&self) -> BorrowedFd<'_>;
}

/// What a worker reads from. It blocks.
pub(crate) trait WorkerInput: Send {
    /// Whether [`next`](Self::next) would not block.
    fn is_ready(&self) -> bool;

    /// The next frame; none when the parent has gone.
    ///
    /// # Errors
    /// The system refuses, or the bytes are no frame.
    fn next(&mut self) -> io::Result<Option<(Header, &[u8])>>;
}

/// What a worker writes to. It blocks.
pub(crate) trait WorkerOutput: Send {
    /// Sends all of the parts.
    ///
    /// # Errors
    /// The parent has gone.
    fn send(&mut self, parts: [&[u8]; 2]) -> io::Result<()>;
}

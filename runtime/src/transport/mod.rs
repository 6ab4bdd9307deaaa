//! The way of frames between a parent and one worker, and of messages between any two processes.
//!
//! `transport` knows frames, not tasks: what is in a frame is settled between `sched` and `worker`.
//! A backend is one file that implements the two traits below; all of them pass the suite in
//! `conformance.rs`. The way of messages has its trait in `link.rs` and its suite in
//! `link_conformance.rs`.

pub(crate) mod auth;
pub(crate) mod board;
pub(crate) mod codec;
#[cfg(test)]
mod conformance;
pub(crate) mod desk;
pub(crate) mod door;
pub(crate) mod duplex;
pub(crate) mod frame;
pub(crate) mod hello;
mod inflow;
pub(crate) mod link;
#[cfg(test)]
mod link_conformance;
pub(crate) mod message;
mod outgoing;
pub(crate) mod pipe;
pub(crate) mod place;
pub(crate) mod ring;
pub(crate) mod scratch;
pub(crate) mod socket;
pub(crate) mod spare;
pub(crate) mod stream;
pub(crate) mod tls;

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use frame::{Body, Header, Malformed};
use ring::Watch;

use self::hello::{Hello, Role};
use crate::os::epoll::Interest;
use crate::os::memory::{Shared, copy_in};
use crate::shm::outbox;
use crate::shm::page::{BRIEF_OUTBOX, Page};

/// Bytes that frames may refer to instead of copying them.
pub(crate) type SharedBytes = Arc<Vec<u8>>;

/// Long bytes in the memory of the value that they were, to be sent from there.
pub(crate) type LongBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Memory that nobody needs any more. To be dropped where no lock is held: giving long memory back takes its
/// time.
pub(crate) type Freed = Vec<Box<dyn Send>>;

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

    /// Adds long bytes, without copying them.
    fn queue_long(&mut self, bytes: &LongBytes);

    /// Sends what can be sent. True: nothing is left.
    ///
    /// # Errors
    /// The worker has gone, or the system refuses.
    fn flush(&mut self) -> io::Result<bool>;

    /// How many bytes were ever queued.
    fn queued(&self) -> u64;

    /// How many of them have left.
    fn sent(&self) -> u64;

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

    /// Takes in what the worker has published and nobody was told of yet. True: there was something.
    fn look(&mut self) -> bool;

    /// The first bytes of the room behind what the worker has published ([`WorkerOutput::room`]). To be
    /// asked for when the worker is dead and everything that it has published was taken in.
    fn unpublished(&self, count: usize) -> Vec<u8>;

    /// Whether it holds, or keeps for others, memory that only long frames need.
    fn is_grown(&self) -> bool;

    /// Gives that memory back, if it isn't in use.
    fn shrink(&mut self);

    /// Gives back all long memory: nothing is to be sent any more, nor to be received.
    fn give_up(&mut self);

    /// Takes the long memory that has come free here: what was sent, and what was given back.
    fn take_freed(&mut self) -> Freed;

    /// What to wait on, for something to have arrived.
    fn as_fd(&self) -> BorrowedFd<'_>;

    /// What to wait for there while something couldn't be sent.
    fn waits_for_room(&self) -> Interest;

    /// What to look at, without this end's lock, and what to tell before a wait; none if the descriptor is
    /// enough.
    fn watch(&self) -> Option<Arc<Watch>>;
}

/// What a worker reads from. It blocks.
pub(crate) trait WorkerInput: Send {
    /// Whether [`next`](Self::next) would not block, as far as that can be told without a system call.
    fn is_ready(&mut self) -> bool;

    /// Whether [`next`](Self::next) would not block.
    fn poll(&mut self) -> bool {
        self.is_ready()
    }

    /// Waits until something has come, or for so long. False: nothing has.
    fn wait(&mut self, limit: Duration) -> bool;

    /// The next frame; none when the parent has gone.
    ///
    /// # Errors
    /// The system refuses, or the bytes are no frame.
    fn next(&mut self) -> io::Result<Option<(Header, Body<'_>)>>;
}

/// A worker's ends, of the backend that its parent has chosen.
///
/// # Errors
/// The memory can't be mapped.
pub(crate) fn worker_ends(
    hello: &Hello,
    socket: Arc<UnixStream>,
    page: Arc<Shared<Page>>,
    memory: BorrowedFd<'_>,
) -> io::Result<(Box<dyn WorkerInput>, Box<dyn WorkerOutput>)> {
    if hello.with_rings {
        let (input, output) = ring::worker_ends(socket, page, memory)?;
        Ok((Box::new(input), Box::new(output)))
    } else {
        let (input, output) = socket::worker_ends(socket, page, outbox_of(hello.role));
        Ok((Box::new(input), Box::new(output)))
    }
}

/// How many bytes of its outbox the parent reserves for a worker.
pub(crate) fn outbox_of(role: Role) -> usize {
    if matches!(role, Role::Process { .. }) { BRIEF_OUTBOX } else { outbox::CAPACITY }
}

/// So much room there is at most to write in before it is published.
pub(crate) const ROOM: usize = 32 * 1024;

const _: () = assert!(ROOM <= u16::MAX as usize, "places in it are told in 16 bits");

/// What a worker writes to: a stream of bytes. What is published will reach the parent, even if this
/// process dies at that moment. It blocks.
pub(crate) trait WorkerOutput: Send {
    /// Bytes behind what was published, at least `least` of them, in one piece. The parent can see what is
    /// written there when this process is dead.
    ///
    /// # Errors
    /// The parent has gone.
    ///
    /// # Panics
    /// More than [`most`](Self::most) is wanted.
    fn room(&mut self, least: usize) -> io::Result<&[AtomicU8]>;

    /// How much room there can be: at most, and for pools always, [`ROOM`].
    fn most(&self) -> usize {
        ROOM
    }

    /// Publishes the first `count` bytes of the room.
    ///
    /// # Errors
    /// The parent has gone.
    fn publish(&mut self, count: usize) -> io::Result<()>;

    /// Publishes bytes that are longer than the room.
    ///
    /// # Errors
    /// The parent has gone.
    fn stream(&mut self, parts: [&[u8]; 2]) -> io::Result<()>;

    /// Tells the parent of all that was published.
    ///
    /// # Errors
    /// The parent has gone.
    fn flush(&mut self) -> io::Result<()>;

    /// Whether it holds memory that only long frames need.
    fn is_grown(&self) -> bool;

    /// Gives that memory back, if it isn't in use.
    fn shrink(&mut self);

    /// Publishes all of the parts.
    ///
    /// # Errors
    /// The parent has gone.
    fn write(&mut self, parts: [&[u8]; 2]) -> io::Result<()> {
        let [first, second] = parts;
        let length = first.len() + second.len();
        if length > self.most() {
            return self.stream(parts);
        }
        let room = self.room(length)?;
        copy_in(room, first);
        copy_in(&room[first.len()..], second);
        self.publish(length)
    }
}

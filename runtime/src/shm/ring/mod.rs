//! The core of queues and pipes: messages in shared memory, from many producers to many consumers.
//!
//! ```text
//!            head                      tail
//!  gets ------v------- in flight -------v---- puts
//!             | message | message | ... |
//!  consumers take here                  producers put here
//! ```
//!
//! Each end has a lock, a count and a position (see [`position`]). A producer writes a record behind the
//! tail, and commits it by one store of `puts`; a consumer copies the record at the head, and commits
//! that by one store of `gets`. Who is killed before its commit has changed nothing: the next owner of
//! the lock goes on from the position that holds. Who is killed after it has put, or taken, its message.
//! A message that was taken by a process which is killed then is gone with it.
//!
//! Records lie in circular buffers, of which buffer `k` has 4 KiB << `k`. The ring is in buffer 0 at first.
//! Where a record doesn't fit though the bounds allow it, the producer writes a hop, and goes on in a
//! larger buffer; the consumers follow when they have got everything before the hop, and give the buffer
//! that they leave back. A producer that comes to the end of a buffer, of which little is in use, hops to
//! a smaller one. So what is hot stays small, and a burst's memory is given back.
//!
//! - A buffer is entered only when it isn't in use: any one when the consumers have `cleared` all
//!   buffers before the tail's, else only one above the `ceiling` of those that may be in use.
//! - What an end remembers of the other (`seen`) only lags behind, so it only errs towards waiting.
//! - A message with a parcel is `pending` from before the parcel is attached to after the commit. The next
//!   owner of a dead producer's lock finds it there, and abandons the parcel if the message isn't put.
//! - Nothing that is read from shared memory is trusted: positions, lengths and numbers are checked, and
//!   what can't be is [`RingError::Corrupt`].
//! - Forbidden: to move an end without its lock; to wait for anything, or to call the user, under a lock;
//!   to hold both locks.

mod consumer;
mod position;
mod producer;
mod record;
mod store;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use position::{End, Position};

pub(crate) use position::{LAST_BUFFER, buffer_size};
pub(crate) use record::MOST_INLINE;
pub(crate) use store::{Parcel, Store};

use super::bell::Bell;
use super::lock::{Held, RawLock};
use super::platform::{Deadline, Platform, Word};

/// Why a message could not be put or got.
#[derive(Debug)]
pub(crate) enum RingError {
    /// There was no room, or no message, or somebody else had the lock, until the time was over.
    TimedOut,
    /// The ring is closed, and for a consumer it is empty as well.
    Closed,
    /// There is no memory for a buffer, or it or a parcel could not be had in this process.
    Memory(io::Error),
    /// The shared memory doesn't hold what the ring writes there.
    Corrupt,
}

/// A message that was got, besides its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Got {
    /// The message's number, from 1, in the order of putting.
    pub(crate) number: u64,
    pub(crate) parcel: Option<Parcel>,
}

/// See the file's head. All zeros: new and empty, without bounds.
#[repr(C)]
pub(crate) struct Ring<P: Platform> {
    tail: Tail<P>,
    head: Head<P>,
    calls: Calls<P>,
    work: Work<P>,
}

/// What producers write. The parts stand 128 bytes apart, since processors fetch lines in pairs.
#[repr(C, align(128))]
struct Tail<P: Platform> {
    end: End<P>,
    /// The head as a producer has last seen it; behind what it is now, if anything.
    seen_gets: P::U64,
    seen_at: P::U64,
    seen_total: P::U64,
    /// The message that is being put with a parcel; 0: none. The parcel is written before it.
    pending: P::U64,
    parcel: P::U64,
}

/// What consumers write.
#[repr(C, align(128))]
struct Head<P: Platform> {
    end: End<P>,
    /// The count of the tail as a consumer has last seen it.
    seen_puts: P::U64,
    /// The start of the stay before which all buffers have been given back.
    cleared: P::U64,
}

/// Who sleeps, and the bounds: everybody reads this, hardly anybody writes it.
#[repr(C, align(128))]
struct Calls<P: Platform> {
    arrivals: Bell<P>,
    room: Bell<P>,
    most_items: P::U64,
    most_bytes: P::U64,
}

/// For those who wait until every message has been worked on.
#[repr(C, align(128))]
struct Work<P: Platform> {
    dones: P::U64,
    finished: Bell<P>,
}

impl<P: Platform> Ring<P> {
    /// For models and tests, which don't have zeroed memory.
    #[cfg(test)]
    pub(crate) fn new(word: impl Fn() -> P::U32, long: impl Fn() -> P::U64) -> Self {
        let tail = Tail {
            end: End::new(&word, &long),
            seen_gets: long(),
            seen_at: long(),
            seen_total: long(),
            pending: long(),
            parcel: long(),
        };
        let head = Head { end: End::new(&word, &long), seen_puts: long(), cleared: long() };
        let calls = Calls {
            arrivals: Bell::new(word()),
            room: Bell::new(word()),
            most_items: long(),
            most_bytes: long(),
        };
        let work = Work { dones: long(), finished: Bell::new(word()) };
        Self { tail, head, calls, work }
    }

    /// Sets the bounds; 0: none. To be called before the ring is shared.
    ///
    /// A message counts for its bytes, its record's head (8 bytes, 24 with a parcel), rounded up to 8, and
    /// what the parcel weighs. One message always goes into an empty ring.
    pub(crate) fn init(&self, most_items: u64, most_bytes: u64) {
        self.calls.most_items.store(most_items, Relaxed);
        self.calls.most_bytes.store(most_bytes, Relaxed);
    }

    /// No message can be put any more. Consumers get what is there, then they are told.
    pub(crate) fn close(&self, store: &impl Store) {
        let lock = &self.tail.end.lock;
        if let Some(mut held) = lock.acquire(Deadline::NEVER) {
            if held.is_poisoned() {
                self.settle(store);
                held.set_poisoned(false);
            }
            self.tail.end.closed.store(1, Release);
            lock.release(held);
        }
        self.calls.arrivals.ring(u32::MAX);
        self.calls.room.ring(u32::MAX);
    }

    /// As [`close`](Self::close), for a ring that nobody is left to put into, or to get from: it takes no
    /// lock, so it can be called where one is held.
    pub(crate) fn hang_up(&self) {
        self.tail.end.closed.store(1, Release);
        self.calls.arrivals.ring(u32::MAX);
        self.calls.room.ring(u32::MAX);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.tail.end.closed.load(Acquire) != 0
    }

    /// How many messages were ever put.
    pub(crate) fn puts(&self) -> u64 {
        self.tail.end.count()
    }

    /// How many messages were ever got. The message of a higher number is not put yet, or in the ring.
    pub(crate) fn gets(&self) -> u64 {
        self.head.end.count()
    }

    /// How many messages are in the ring.
    pub(crate) fn len(&self) -> u64 {
        // In this order: the head never passes the tail.
        let gets = self.gets();
        self.puts().saturating_sub(gets)
    }

    /// Whether the last message was put by somebody on the processor that this thread runs on: then whoever
    /// puts can't run while this thread spins.
    pub(crate) fn was_put_here(&self) -> bool {
        self.tail.end.is_near()
    }

    /// Whether a get would not wait, as things are.
    pub(crate) fn ready_to_get(&self) -> bool {
        self.len() > 0 || self.is_closed()
    }

    /// Rings when [`ready_to_get`](Self::ready_to_get) may have become true, for those who wait for
    /// several things at once.
    pub(crate) fn arrivals(&self) -> &Bell<P> {
        &self.calls.arrivals
    }

    /// A message has been worked on.
    ///
    /// # Errors
    /// All that were put have been worked on already.
    pub(crate) fn task_done(&self) -> Result<(), ()> {
        let dones = &self.work.dones;
        let mut done = dones.load(Acquire);
        loop {
            if done >= self.puts() {
                return Err(());
            }
            match dones.compare_exchange(done, done + 1, AcqRel, Acquire) {
                Ok(_) => break,
                Err(now) => done = now,
            }
        }
        if self.unfinished() == 0 {
            self.work.finished.ring(u32::MAX);
        }
        Ok(())
    }

    /// How many messages have been put, but not been worked on.
    pub(crate) fn unfinished(&self) -> u64 {
        // In this order: there are never more that are done.
        let dones = self.work.dones.load(Acquire);
        self.puts().saturating_sub(dones)
    }

    /// Waits until every message that was put has been worked on. False: the deadline has passed.
    pub(crate) fn join(&self, deadline: Deadline) -> bool {
        let is_finished = || (self.unfinished() == 0).then_some(());
        self.work.finished.wait_until(deadline, is_finished).is_some()
    }
}

/// Waits for the other end to be moved.
fn wait<P: Platform>(
    bell: &Bell<P>,
    other: &End<P>,
    deadline: Deadline,
    mut ready: impl FnMut() -> Option<()>,
) -> Result<(), RingError> {
    let done = if other.is_near() {
        bell.sleep_until(deadline, |_| ready())
    } else {
        bell.wait_until(deadline, ready)
    };
    done.ok_or(RingError::TimedOut)
}

/// Takes an end's lock. Without a deadline it waits as well, since nobody has it for long, but not for
/// ever: its owner may have been stopped.
#[inline]
fn enter<P: Platform>(lock: &RawLock<P>, deadline: Option<Deadline>) -> Option<Held> {
    match deadline {
        Some(deadline) => lock.acquire(deadline),
        None => lock.try_acquire().or_else(|| lock.acquire(Deadline::after::<P>(P::PATIENCE))),
    }
}

/// The buffer of a position.
#[inline]
fn buffer(store: &impl Store, position: Position) -> Result<&[AtomicU8], RingError> {
    let buffer = store.buffer(position.buffer).map_err(RingError::Memory)?;
    buffer.get(..buffer_size(position.buffer) as usize).ok_or(RingError::Corrupt)
}

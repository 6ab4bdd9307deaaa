//! The backend on two rings in memory behind the worker's page, with a socket to wait on.
//!
//! ```text
//! parent  --- down: frames -------------->  worker     the worker sleeps on a futex in its page
//!         <-- up: frames -----------------
//!         <-- socket: kicks, and its end -             the parent waits on many sockets at once
//! ```
//!
//! A byte is copied in by the one and copied out by the other. No system call stands between them, unless
//! somebody sleeps: `shm/alarm.rs` says who wakes whom. What a byte in the socket is doesn't matter; it
//! says that there is something to look at in the rings.
//!
//! What is longer than a ring streams through it in pieces, copied in and copied out at the same time. A
//! parent never waits for that: what doesn't fit it keeps, and is kicked when there is room. A worker waits.
//!
//! Memory is reserved before it is written, as far as the ring was ever used. When there is none the
//! sender makes do with what it has.

mod parent;
mod worker;

use std::io::{self, ErrorKind};
use std::mem::offset_of;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

pub(crate) use self::parent::{ParentRing, Watch};
pub(crate) use self::worker::worker_ends;
use super::frame::Incoming;
use crate::os::futex;
use crate::os::memory::{Shared, copy_in};
use crate::os::mirror::{LARGEST_PAGE, Mirror};
use crate::shm::alarm::Alarm;
use crate::shm::page::{DOWN_AT, Lines, Page, UP_AT, WITH_RINGS};
use crate::shm::stream::{Breach, CAPACITY, Consumer, Producer, Stream};
use crate::shm::system::System;

/// Copied at once: so long that a publication costs nothing beside it, so short that the other side can
/// begin soon.
const PIECE: usize = 128 * 1024;

/// Whoever waits for room is told when so much of the ring is free.
const HALF: usize = CAPACITY / 2;

/// Reserved at first, and in steps of this. Conversations stay within it.
const FIRST: usize = LARGEST_PAGE;

/// Both rings, as one process sees them.
pub(crate) struct Memory {
    page: Arc<Shared<Page>>,
    down: Mirror,
    up: Mirror,
}

impl Memory {
    /// Makes the memory for one worker; gives its file out, too.
    ///
    /// # Errors
    /// The system refuses memory of this kind, or futexes.
    pub(crate) fn create() -> io::Result<(Self, OwnedFd)> {
        if !futex::works() {
            return Err(io::Error::from(ErrorKind::Unsupported));
        }
        // The outbox belongs to the other backend.
        let reserved = offset_of!(Page, outbox);
        let (page, fd) = Shared::<Page>::create_in(c"procession", reserved, WITH_RINGS)?;
        let memory = Self::map(Arc::new(page), fd.as_fd())?;
        // Also shows whether the kernel can do that.
        memory.down.reserve(0..FIRST)?;
        Ok((memory, fd))
    }

    pub(crate) fn page(&self) -> &Arc<Shared<Page>> {
        &self.page
    }

    fn map(page: Arc<Shared<Page>>, fd: BorrowedFd<'_>) -> io::Result<Self> {
        let down = Mirror::map(fd, DOWN_AT, CAPACITY)?;
        let up = Mirror::map(fd, UP_AT, CAPACITY)?;
        Ok(Self { page, down, up })
    }

    fn lines(&self) -> &Lines {
        &self.page.lines
    }

    fn alarm(&self) -> &Alarm<System> {
        &self.lines().alarm
    }
}

/// The direction of a ring.
#[derive(Clone, Copy)]
enum Way {
    Down,
    Up,
}

impl Way {
    fn of(self, memory: &Memory) -> (&Stream<System>, &Mirror) {
        match self {
            Self::Down => (&memory.lines().down, &memory.down),
            Self::Up => (&memory.lines().up, &memory.up),
        }
    }
}

/// The end of a ring that is written.
struct Writer {
    memory: Arc<Memory>,
    way: Way,
    producer: Producer,
    /// How many bytes stand behind the tail and go with the next publication.
    waiting: usize,
    /// How much memory has been reserved, from the ring's beginning.
    reserved: usize,
}

impl Writer {
    fn new(memory: Arc<Memory>, way: Way) -> Self {
        Self { memory, way, producer: Producer::default(), waiting: 0, reserved: 0 }
    }

    /// Room behind all that was written, as far as there is memory for it: `wanted` bytes or more, if there
    /// is so much room and memory.
    fn room(&mut self, wanted: usize) -> Result<&[AtomicU8], Breach> {
        let (stream, ring) = self.way.of(&self.memory);
        let span = self.producer.room(stream, (self.waiting + wanted).min(CAPACITY))?;
        let wanted_end = span.offset + span.length.min(self.waiting + wanted);
        if wanted_end.min(CAPACITY) > self.reserved {
            let least = wanted_end.max(2 * self.reserved);
            let end = least.next_multiple_of(FIRST).min(CAPACITY);
            if ring.reserve(self.reserved..end).is_ok() {
                self.reserved = end;
            }
        }
        let backed = if self.reserved == CAPACITY {
            span.length
        } else {
            span.length.min(self.reserved.saturating_sub(span.offset))
        };
        Ok(ring.bytes(span.offset, span.length).get(self.waiting..backed).unwrap_or(&[]))
    }

    /// The first bytes of the room behind all that was published. That there are so many, and memory for them,
    /// [`room`](Self::room) has said since.
    fn behind(&self, count: usize) -> &[AtomicU8] {
        let (_, ring) = self.way.of(&self.memory);
        ring.bytes(self.producer.place(), count)
    }

    /// Writes as much of the bytes as there is room for, to be published later; says how much.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Breach> {
        let room = self.room(bytes.len())?;
        let count = bytes.len().min(room.len());
        copy_in(room, &bytes[..count]);
        self.waiting += count;
        if self.waiting == 0 {
            self.producer.give_back();
        }
        Ok(count)
    }

    /// Publishes what was written, and `count` bytes of the room behind it.
    fn publish(&mut self, count: usize) {
        let (stream, _) = self.way.of(&self.memory);
        self.producer.publish(stream, self.waiting + count);
        self.waiting = 0;
    }

    /// How many bytes were published.
    fn published(&self) -> u64 {
        self.producer.tail()
    }

    fn is_grown(&self) -> bool {
        self.reserved > FIRST
    }

    /// Gives back the memory that goes beyond a conversation's, if the ring is empty.
    fn shrink(&mut self) {
        let (stream, ring) = self.way.of(&self.memory);
        let is_empty = self.waiting == 0 && self.producer.rewind(stream).unwrap_or(false);
        if is_empty && self.reserved > FIRST && ring.give_back(FIRST..self.reserved).is_ok() {
            self.reserved = FIRST;
        }
    }
}

/// The end of a ring that is read.
struct Reader {
    memory: Arc<Memory>,
    way: Way,
    consumer: Consumer,
}

impl Reader {
    fn new(memory: Arc<Memory>, way: Way) -> Self {
        Self { memory, way, consumer: Consumer::default() }
    }

    /// Takes some of what is there; says how much that was, and how much is left.
    fn take(&mut self, incoming: &mut Incoming) -> Result<(usize, usize), Breach> {
        let (stream, ring) = self.way.of(&self.memory);
        let span = self.consumer.published(stream)?;
        if span.length == 0 {
            return Ok((0, 0));
        }
        let most = span.length.min(PIECE);
        let bytes = ring.bytes(span.offset, most);
        let mut count = 0;
        while count < most && !(count > 0 && incoming.has_tail()) {
            // First the beginning of what may be long: then it is known where the rest of it goes.
            let part = incoming.wanted().min(most - count);
            incoming.append_shared(&bytes[count..count + part]);
            count += part;
        }
        self.consumer.take(stream, count);
        Ok((count, span.length - count))
    }

    #[inline]
    fn is_empty(&self) -> bool {
        let (stream, _) = self.way.of(&self.memory);
        stream.tail() == self.consumer.taken()
    }
}

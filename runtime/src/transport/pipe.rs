//! The way of messages between processes of one family: two rings in shared memory.
//!
//! A pipe has two ends, each an object of its own, which is held by whoever has that end. When nobody does
//! any more, the heap closes both rings ([`Ring::hang_up`](crate::shm::ring::Ring::hang_up)): who receives
//! at the other end gets what is there, and then the end.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::link::{Link, LinkError};
use super::scratch;
use crate::shm::channel::{self, Channel, Patience};
use crate::shm::heap::{Fill, Kind, Object, Request, parcel};
use crate::shm::ring::RingError;

/// How many bytes may be on the way before a sender waits. One message is always taken.
const ROOM: u64 = 256 << 10;

/// One end.
pub(crate) struct Pipe {
    end: Object,
    outgoing: Channel,
    incoming: Channel,
}

impl Pipe {
    /// Both ends of a new pipe. `layouts` tell what is sent from either.
    ///
    /// # Errors
    /// There is no memory.
    pub(crate) fn pair(layouts: [u64; 2]) -> io::Result<[Self; 2]> {
        let pipe = Object::create(Request {
            bytes: channel::bytes(2),
            fill: Fill::Zeros,
            ..Request::small(Kind::Pipe)
        })?;
        let end = |number: usize| {
            let end = Object::create(Request {
                layout: layouts[number],
                length: number as u64,
                parent: Some(pipe.id()),
                ..Request::small(Kind::PipeEnd)
            })?;
            Self::new(end, &pipe)
        };
        let ends = [end(0)?, end(1)?];
        ends.iter().for_each(|end| end.outgoing.ring().init(0, ROOM));
        Ok(ends)
    }

    /// From the two objects that an end consists of.
    ///
    /// # Errors
    /// They aren't an end and its pipe.
    pub(crate) fn new(end: Object, pipe: &Object) -> io::Result<Self> {
        if !pipe.is(Kind::Pipe, 0) || end.length() > 1 || !end.is_part_of(pipe) {
            return Err(io::Error::other("the handle is not one of a pipe's end"));
        }
        let number = end.length() as usize;
        let outgoing = Channel::new(pipe.clone(), number)?;
        let incoming = Channel::new(pipe.clone(), 1 - number)?;
        Ok(Self { end, outgoing, incoming })
    }

    /// The two objects.
    pub(crate) fn objects(&self) -> (&Object, &Object) {
        (&self.end, self.outgoing.object())
    }

    /// Where messages go out.
    pub(crate) fn outgoing(&self) -> &Channel {
        &self.outgoing
    }

    /// Where messages come in.
    pub(crate) fn incoming(&self) -> &Channel {
        &self.incoming
    }

    /// Sends a message, and holds the handles in it until it has been received.
    pub(crate) fn send_with(
        &self,
        bytes: &[u8],
        handles: &[Object],
        deadline: Option<Instant>,
    ) -> Result<(), LinkError> {
        self.outgoing.send(bytes, handles, patience(deadline)).map_err(error)
    }

    /// Receives a message into `to`, and what holds the handles in it.
    pub(crate) fn receive_into(
        &self,
        to: &mut Vec<u8>,
        limit: u64,
        deadline: Option<Instant>,
    ) -> Result<Option<Object>, LinkError> {
        let parcel = self.incoming.receive(to, patience(deadline)).map_err(error)?;
        let system = LinkError::System;
        let in_parcel = match &parcel {
            Some(parcel) => parcel::length(parcel).map_err(system)?,
            None => 0,
        };
        let length = (to.len() + in_parcel) as u64;
        if length > limit {
            return Err(LinkError::TooLong { length, limit });
        }
        if let Some(parcel) = &parcel {
            parcel::bytes(parcel, to).map_err(system)?;
        }
        Ok(parcel)
    }
}

impl Link for Pipe {
    fn send(&self, parts: &[&[u8]], deadline: Option<Instant>) -> Result<(), LinkError> {
        match parts {
            [bytes] => self.send_with(bytes, &[], deadline),
            _ => scratch::with(|bytes| {
                parts.iter().for_each(|part| bytes.extend_from_slice(part));
                self.send_with(bytes, &[], deadline)
            }),
        }
    }

    fn receive(&self, limit: u64, deadline: Option<Instant>) -> Result<Vec<u8>, LinkError> {
        let mut bytes = Vec::new();
        // Bytes that are asked for as bytes may hold handles; nobody will ask for these.
        self.receive_into(&mut bytes, limit, deadline).map(|_| bytes)
    }

    fn poll(&self, _limit: u64, deadline: Option<Instant>) -> bool {
        let ring = self.incoming.ring();
        let Patience::Until(deadline) = patience(deadline) else { return ring.ready_to_get() };
        let ready = || ring.ready_to_get().then_some(());
        let is_ready = ring.arrivals().wait_until(deadline, ready).is_some();
        // The wake was for somebody who takes the message.
        ring.arrivals().ring(1);
        is_ready
    }

    fn as_pipe(&self) -> Option<&Pipe> {
        Some(self)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn patience(deadline: Option<Instant>) -> Patience {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    if left == Some(Duration::ZERO) { Patience::None } else { Patience::of(left) }
}

fn error(error: RingError) -> LinkError {
    match error {
        RingError::TimedOut => LinkError::TimedOut,
        RingError::Closed => LinkError::Disconnected,
        RingError::Memory(error) => LinkError::System(error),
        RingError::Corrupt => LinkError::Malformed,
    }
}

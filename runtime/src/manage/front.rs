//! The way to a server: where connections are offered, and its bells.
//!
//! It is an object of the family's heap: the [`Reception`] lies in its entry, and a ring of messages in its
//! block. Whoever has a proxy has it.
//!
//! ```text
//! message   0 u8 | one end of a pipe, encoded      a client wants to be served
//!           1 u8 | object u64                      its process holds the object no longer
//! ```

use std::io;
use std::time::Duration;

use crate::shm::channel::{self, Channel, Patience};
use crate::shm::heap::{Fill, Id, Kind, Object, Request, parcel};
use crate::shm::platform::{Owner, Platform};
use crate::shm::reception::Reception;
use crate::shm::ring::RingError;
use crate::shm::system::System;
use crate::transport::codec::{self, passing};
use crate::transport::pipe::Pipe;

const CONNECT: u8 = 0;
const LET_GO: u8 = 1;

/// How long to wait for the ring's lock, which nobody has for long.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the file's head.
pub(crate) struct Front {
    channel: Channel,
}

/// What was found there.
pub(crate) enum News {
    Connection(Box<Pipe>),
    LetGo(Id),
    /// What no client sends.
    Garbage,
}

impl Front {
    /// A new one, where nobody serves yet.
    ///
    /// # Errors
    /// There is no memory.
    pub(crate) fn create() -> io::Result<Self> {
        Self::open(Object::create(Request {
            bytes: channel::bytes(1),
            fill: Fill::Zeros,
            ..Request::small(Kind::Reception)
        })?)
    }

    /// # Errors
    /// The object is no reception.
    pub(crate) fn open(object: Object) -> io::Result<Self> {
        if !object.is(Kind::Reception, 0) {
            return Err(io::Error::other("the handle is not one of a manager's server"));
        }
        Ok(Self { channel: Channel::new(object, 0)? })
    }

    pub(crate) fn object(&self) -> &Object {
        self.channel.object()
    }

    pub(crate) fn reception(&self) -> &Reception<System> {
        self.object().inline()
    }

    /// Whether the server has begun, and ended since.
    pub(crate) fn is_lost(&self) -> bool {
        self.channel.ring().is_closed() || self.server().is_some_and(System::is_known_dead)
    }

    /// As [`is_lost`](Self::is_lost), with a look at the system's table of processes.
    pub(crate) fn is_lost_by_now(&self) -> bool {
        self.is_lost() || self.server().is_some_and(|server| !System::is_alive(server))
    }

    fn server(&self) -> Option<Owner> {
        self.reception().server()
    }

    /// Offers a connection; gives the client's end.
    ///
    /// # Errors
    /// There is no memory, the server has gone, or a process has damaged the way to it.
    pub(crate) fn connect(&self) -> io::Result<Pipe> {
        if self.reception().is_damaged() {
            let text = "a process of the program has damaged the way to the manager's server";
            return Err(io::Error::other(text));
        }
        let [mine, its] = Pipe::pair([0; 2])?;
        let mut bytes = vec![CONNECT];
        let (encoded, handles) = passing::collecting(|| codec::encode(&its.objects(), &mut bytes));
        encoded.map_err(io::Error::other)?;
        let sent = self.channel.send(&bytes, &handles, Patience::of(Some(PATIENCE)));
        sent.map_err(|error| match error {
            RingError::Memory(error) => error,
            _ => io::ErrorKind::BrokenPipe.into(),
        })?;
        self.reception().arrivals.ring(1);
        Ok(mine)
    }

    /// Tells that this process holds an object no longer. It never waits.
    pub(crate) fn let_go(&self, object: Id) {
        if self.is_lost() {
            return;
        }
        let mut bytes = [LET_GO; 9];
        bytes[1..].copy_from_slice(&object.to_bits().to_le_bytes());
        match self.channel.send(&bytes, &[], Patience::None) {
            Ok(()) => self.reception().arrivals.ring(1),
            Err(_) => self.reception().miss(),
        }
    }

    /// Whether there may be something.
    pub(crate) fn has_news(&self) -> bool {
        self.channel.ring().len() > 0 && !self.reception().is_damaged()
    }

    /// The next message; `bytes` is room for it.
    pub(crate) fn next(&self, bytes: &mut Vec<u8>) -> Option<News> {
        bytes.clear();
        // Whatever is wrong with a message, the next one may be better.
        let parcel = match self.channel.receive(bytes, Patience::None) {
            Ok(parcel) => parcel,
            // Its sender is gone, and it is past.
            Err(RingError::Memory(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Some(News::Garbage);
            }
            // The system refuses: it is tried again.
            Err(RingError::Memory(error)) if error.raw_os_error().is_some() => return None,
            Err(RingError::Corrupt | RingError::Memory(_)) => {
                self.reception().damage();
                return None;
            }
            Err(_) => return None,
        };
        if let Some(parcel) = &parcel
            && parcel::bytes(parcel, bytes).is_err()
        {
            return Some(News::Garbage);
        }
        Some(parse(bytes).unwrap_or(News::Garbage))
    }

    /// Sends what no client sends.
    #[cfg(test)]
    pub(super) fn send(&self, bytes: &[u8]) {
        self.channel.send(bytes, &[], Patience::None).expect("there is room");
        self.reception().arrivals.ring(1);
    }

    /// Nothing can be sent any more.
    pub(crate) fn close(&self) {
        // Without a lock, which a process that was stopped may have.
        self.channel.ring().hang_up();
    }
}

fn parse(bytes: &[u8]) -> Option<News> {
    match bytes.split_first()? {
        (&CONNECT, ends) => {
            let ends = passing::receiving(|| codec::decode::<(Object, Object)>(ends));
            let (end, pipe) = ends.ok()?;
            let pipe = Pipe::new(end, &pipe).ok()?;
            Some(News::Connection(Box::new(pipe)))
        }
        (&LET_GO, id) => {
            let id = u64::from_le_bytes(*id.first_chunk()?);
            Id::from_bits(id).map(News::LetGo)
        }
        _ => None,
    }
}

//! A stream to another process, in both directions: a socket as it is, or with [TLS](super::tls) over it.
//!
//! It never blocks: who wants to wait waits for its descriptor. With TLS there may be bytes that the
//! descriptor says nothing of, because they came with others: [`has_more`](Duplex::has_more) tells.

use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::inflow::Source;
use super::tls;
use crate::os::socket;

/// See the file's head.
#[derive(Debug)]
pub(crate) enum Duplex {
    /// Any stream socket: reading, writing and closing are the same for TCP.
    Plain(UnixStream),
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "there can't be one"))]
    Tls(Box<tls::Stream>),
}

impl Duplex {
    /// # Errors
    /// The descriptor can't be made non-blocking: it is no socket.
    pub(crate) fn plain(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        let socket = UnixStream::from(socket.into());
        socket.set_nonblocking(true)?;
        Ok(Self::Plain(socket))
    }

    /// Sends some of these bytes: how many.
    ///
    /// # Errors
    /// There is no room for any; the peer has gone; or the system refuses.
    pub(crate) fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket::send(socket, pieces, &[]),
            Self::Tls(stream) => stream.send(pieces),
        }
    }

    /// What was sent is on its way: nothing is left in this process.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) fn flush(&self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }

    /// Whether there is something to read, or an end, that the descriptor doesn't tell of.
    pub(crate) fn has_more(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.has_more(),
        }
    }

    /// Ends the stream, for both sides.
    pub(crate) fn close(&self) {
        // It fails if the peer has gone, which comes to the same.
        let _ = self.socket().shutdown(Shutdown::Both);
    }

    /// The socket, which another process can go on with.
    ///
    /// # Errors
    /// What is known of the stream stays in this process.
    pub(crate) fn copy(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Plain(socket) => socket.as_fd().try_clone_to_owned(),
            Self::Tls(_) => Err(io::Error::other("a connection with TLS stays in its process")),
        }
    }

    fn socket(&self) -> &UnixStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.socket(),
        }
    }
}

impl AsFd for Duplex {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

impl Read for &Duplex {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Duplex::Plain(socket) => (&*socket).read(buffer),
            Duplex::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Source for &Duplex {
    fn peek(&mut self) -> io::Result<Option<u8>> {
        match self {
            Duplex::Plain(socket) => {
                let mut byte = [0];
                Ok((socket::peek(socket.as_fd(), &mut byte)? > 0).then_some(byte[0]))
            }
            Duplex::Tls(stream) => stream.peek(),
        }
    }
}

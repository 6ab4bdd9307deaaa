//! The link over a stream socket, Unix or TCP, maybe with TLS.
//!
//! The socket doesn't block. Who receives takes in what is there, under a lock that is never held while
//! waiting ([`Inflow`] keeps what is no whole message yet), and then waits for the descriptor. Who sends
//! has the sending side to itself until the message is out:
//!
//! ```text
//! Free --a sender--> Busy --it is done, or nothing of its message is out--> Free
//!                     |
//!                     +--part of its message is out, and there is no way on--> Closed
//! ```
//!
//! A message that was begun and can't be ended would be read as one with the next. So a deadline that
//! passes in the middle of one closes the connection. The peer sees the end of the stream and drops the
//! part; what had arrived here can still be received.
//!
//! Nobody closes one direction alone: a peer that doesn't send any more doesn't receive, either.

use std::io::{self, ErrorKind, IoSlice};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::duplex::Duplex;
use super::inflow::{self, Inflow, Prospect, Received};
use super::link::{Link, LinkError};
use crate::os::wait;

/// The system takes at most so many pieces at once (`IOV_MAX`).
const MOST_PIECES: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outflow {
    Free,
    Busy,
    Closed,
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct StreamLink {
    stream: Duplex,
    inflow: Mutex<Inflow>,
    outflow: Mutex<Outflow>,
    /// Rung when the outflow is no longer busy.
    freed: Condvar,
}

impl StreamLink {
    /// # Errors
    /// The descriptor can't be made non-blocking: it is no socket.
    pub(crate) fn new(socket: impl Into<OwnedFd>) -> io::Result<Self> {
        Duplex::plain(socket).map(Self::over)
    }

    pub(crate) fn over(stream: Duplex) -> Self {
        Self {
            stream,
            inflow: Mutex::default(),
            outflow: Mutex::new(Outflow::Free),
            freed: Condvar::new(),
        }
    }

    fn inflow(&self) -> MutexGuard<'_, Inflow> {
        self.inflow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outflow(&self) -> MutexGuard<'_, Outflow> {
        self.outflow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the sending side.
    fn begin(&self, deadline: Option<Instant>) -> Result<Sending<'_>, LinkError> {
        let mut outflow = self.outflow();
        loop {
            match *outflow {
                Outflow::Free => {
                    *outflow = Outflow::Busy;
                    return Ok(Sending { link: self, after: Outflow::Free });
                }
                Outflow::Closed => return Err(closed()),
                Outflow::Busy => {}
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            outflow = match left {
                Some(left) if left.is_zero() => return Err(LinkError::TimedOut),
                Some(left) => {
                    let woken = self.freed.wait_timeout(outflow, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.freed.wait(outflow).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// The same socket, as a link takes it: small messages go at once, not when more have gathered.
pub(crate) fn from_tcp(socket: TcpStream) -> UnixStream {
    // If the peer has gone already, the next operation says so.
    let _ = socket.set_nodelay(true);
    UnixStream::from(OwnedFd::from(socket))
}

fn closed() -> LinkError {
    let text = "an earlier message was sent only in part, because its time was over or the system \
                refused, so nothing more can be sent on this connection";
    LinkError::System(io::Error::other(text))
}

/// The sending side, until it is dropped.
struct Sending<'a> {
    link: &'a StreamLink,
    after: Outflow,
}

impl Sending<'_> {
    fn write(&mut self, pieces: &[&[u8]], deadline: Option<Instant>) -> Result<(), LinkError> {
        let mut slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut rest = &mut slices[..];
        loop {
            let most = rest.len().min(MOST_PIECES);
            let sent = self.link.stream.send(&rest[..most]).and_then(|count| {
                IoSlice::advance_slices(&mut rest, count);
                self.after = Outflow::Closed;
                if rest.is_empty() { self.link.stream.flush() } else { Ok(()) }
            });
            match sent {
                Ok(()) if rest.is_empty() => {
                    self.after = Outflow::Free;
                    return Ok(());
                }
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if !wait::writable(self.link.stream.as_fd(), deadline)? {
                        return Err(LinkError::TimedOut);
                    }
                }
                Err(error) => {
                    let error = LinkError::from(error);
                    if matches!(error, LinkError::Disconnected) {
                        // There is nothing to close, and the next sender finds out by itself.
                        self.after = Outflow::Free;
                    }
                    return Err(error);
                }
            }
        }
    }
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if self.after == Outflow::Closed {
            self.link.stream.close();
        }
        *self.link.outflow() = self.after;
        self.link.freed.notify_all();
    }
}

impl StreamLink {
    /// As [`Link::send`], to a peer that waits for it: whether it has gone isn't looked at, so that over TCP
    /// it may be that nobody tells.
    pub(crate) fn answer(
        &self,
        parts: &[&[u8]],
        deadline: Option<Instant>,
    ) -> Result<(), LinkError> {
        self.begin(deadline)?.write(&with_head(parts, &mut [0; inflow::HEAD]), deadline)
    }

    /// Waits until something has come, or the end. False: the deadline has passed.
    ///
    /// # Errors
    /// The system can't wait.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> io::Result<bool> {
        if self.stream.has_more() {
            return Ok(true);
        }
        wait::readable(self.stream.as_fd(), deadline)
    }
}

/// The pieces of a message.
fn with_head<'a>(parts: &[&'a [u8]], head: &'a mut [u8; inflow::HEAD]) -> Vec<&'a [u8]> {
    *head = inflow::head(parts.iter().map(|part| part.len() as u64).sum());
    std::iter::once(&head[..]).chain(parts.iter().copied()).collect()
}

impl Link for StreamLink {
    fn send(&self, parts: &[&[u8]], deadline: Option<Instant>) -> Result<(), LinkError> {
        let mut sending = self.begin(deadline)?;
        // TCP would take a message for a peer that has closed, and drop it.
        if wait::has_hung_up(self.stream.as_fd())? {
            return Err(LinkError::Disconnected);
        }
        sending.write(&with_head(parts, &mut [0; inflow::HEAD]), deadline)
    }

    fn receive(&self, limit: u64, deadline: Option<Instant>) -> Result<Vec<u8>, LinkError> {
        loop {
            let received = self.inflow().receive(&mut &self.stream, limit)?;
            let go_on = match received {
                Received::Message(bytes) => return Ok(bytes),
                Received::Blocked => wait::readable(self.stream.as_fd(), deadline)?,
                Received::Busy => is_before(deadline),
            };
            if !go_on {
                return Err(LinkError::TimedOut);
            }
        }
    }

    fn poll(&self, limit: u64, deadline: Option<Instant>) -> bool {
        loop {
            let prospect = self.inflow().look(&mut &self.stream, limit);
            let go_on = match prospect {
                Prospect::Good => return true,
                Prospect::Blocked => wait::readable(self.stream.as_fd(), deadline),
                Prospect::Busy => Ok(is_before(deadline)),
            };
            match go_on {
                Ok(true) => {}
                Ok(false) => return false,
                // `receive` says what is wrong.
                Err(_) => return true,
            }
        }
    }

    fn copy(&self) -> Option<io::Result<OwnedFd>> {
        if !self.inflow().is_between_messages() {
            let text = "a part of a message has been received already, which stays in this process";
            return Some(Err(io::Error::other(text)));
        }
        Some(self.stream.copy())
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.stream.as_fd())
    }
}

fn is_before(deadline: Option<Instant>) -> bool {
    deadline.is_none_or(|deadline| Instant::now() < deadline)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn link() -> (StreamLink, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (StreamLink::new(ours).unwrap(), theirs)
    }

    #[test]
    fn a_peer_that_dies_in_the_middle_of_a_message_is_gone() {
        let whole = [&inflow::head(100)[..], &[1; 100]].concat();
        for cut in 1..whole.len() {
            let (link, mut peer) = link();
            peer.write_all(&whole[..cut]).unwrap();
            assert!(matches!(
                link.receive(u64::MAX, Some(Instant::now())),
                Err(LinkError::TimedOut)
            ));
            drop(peer);
            assert!(link.poll(u64::MAX, None));
            assert!(matches!(link.receive(u64::MAX, None), Err(LinkError::Disconnected)));
        }
    }

    #[test]
    fn a_peer_that_speaks_something_else_is_found_out() {
        let (link, mut peer) = link();
        peer.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        assert!(link.poll(u64::MAX, None));
        assert!(matches!(link.receive(u64::MAX, None), Err(LinkError::Malformed)));
        assert!(matches!(link.receive(u64::MAX, None), Err(LinkError::Malformed)));
    }

    #[test]
    fn a_deadline_in_the_middle_of_a_message_closes_the_connection() {
        let (link, peer) = link();
        let peer = StreamLink::new(peer).unwrap();
        peer.send(&[b"before"], None).unwrap();
        link.send(&[b"whole"], None).unwrap();
        let deadline = Some(Instant::now() + Duration::from_millis(5));
        let late = link.send(&[&[0; 16 << 20]], deadline);
        assert!(matches!(late, Err(LinkError::TimedOut)), "{late:?}");
        match link.send(&[b"after"], None) {
            Err(LinkError::System(error)) => assert!(error.to_string().contains("in part")),
            other => panic!("{other:?}"),
        }
        assert_eq!(link.receive(u64::MAX, None).unwrap(), b"before");
        assert!(matches!(link.receive(u64::MAX, None), Err(LinkError::Disconnected)));
        assert_eq!(peer.receive(u64::MAX, None).unwrap(), b"whole");
        assert!(matches!(peer.receive(u64::MAX, None), Err(LinkError::Disconnected)));
        assert!(matches!(peer.send(&[b"x"], None), Err(LinkError::Disconnected)));
    }

    #[test]
    fn senders_that_wait_for_their_turn_see_the_close() {
        let (link, _peer) = link();
        let deadline = Some(Instant::now() + Duration::from_millis(50));
        thread::scope(|scope| {
            let first = scope.spawn(|| link.send(&[&[0; 16 << 20]], deadline));
            while *link.outflow() == Outflow::Free {
                thread::yield_now();
            }
            let second = link.send(&[b"after"], None);
            assert!(matches!(first.join().unwrap(), Err(LinkError::TimedOut)));
            assert!(matches!(second, Err(LinkError::System(_))), "{second:?}");
        });
    }
}

//! The backend on a Unix stream socket pair.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::frame::{Body, Header, Incoming, Malformed};
use super::{ParentEnd, Received, SharedBytes, WorkerInput, WorkerOutput};
use crate::os::socket;

/// Shorter ranges are copied: a system call's cost for one more part is that of copying about this.
const WORTH_SHARING: usize = 4 * 1024;

/// Parts for one system call.
const PARTS: usize = 64;

enum Part {
    Owned(Vec<u8>),
    Shared(SharedBytes, Range<usize>),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes, range) => &bytes[range.clone()],
        }
    }
}

/// The parent's end of the pair.
pub(crate) struct ParentSocket {
    socket: UnixStream,
    outgoing: VecDeque<Part>,
    /// How much of the first part has been sent.
    sent: usize,
    incoming: Incoming,
    received: u64,
    /// How many bytes that the socket will deliver have come another way already.
    ahead: u64,
}

impl ParentSocket {
    /// `socket` is non-blocking.
    pub(crate) fn new(socket: UnixStream) -> Self {
        let incoming = Incoming::default();
        Self { socket, outgoing: VecDeque::new(), sent: 0, incoming, received: 0, ahead: 0 }
    }

    fn forget_sent(&mut self, mut count: usize) {
        while let Some(first) = self.outgoing.front() {
            let left = first.bytes().len() - self.sent;
            if count < left {
                self.sent += count;
                return;
            }
            count -= left;
            self.sent = 0;
            self.outgoing.pop_front();
        }
    }
}

impl ParentEnd for ParentSocket {
    fn queue(&mut self, bytes: &[u8]) {
        match self.outgoing.back_mut() {
            Some(Part::Owned(last)) => last.extend_from_slice(bytes),
            _ => self.outgoing.push_back(Part::Owned(bytes.to_vec())),
        }
    }

    fn queue_shared(&mut self, bytes: &SharedBytes, range: Range<usize>) {
        if range.len() < WORTH_SHARING {
            self.queue(&bytes[range]);
        } else {
            self.outgoing.push_back(Part::Shared(SharedBytes::clone(bytes), range));
        }
    }

    fn flush(&mut self) -> io::Result<bool> {
        while !self.outgoing.is_empty() {
            let skip = self.sent;
            let parts: Vec<IoSlice<'_>> = self
                .outgoing
                .iter()
                .take(PARTS)
                .enumerate()
                .map(|(i, part)| IoSlice::new(&part.bytes()[if i == 0 { skip } else { 0 }..]))
                .collect();
            match socket::send(&self.socket, &parts, &[]) {
                Ok(count) => self.forget_sent(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn receive(&mut self) -> io::Result<Received> {
        let mut socket = &self.socket;
        let mut known = [0; 4096];
        let result = if self.ahead > 0 {
            let room = known.len().min(usize::try_from(self.ahead).unwrap_or(usize::MAX));
            socket.read(&mut known[..room]).inspect(|count| self.ahead -= *count as u64)
        } else {
            let result = self.incoming.fill(|buffer| socket.read(buffer));
            result.inspect(|count| self.received += *count as u64)
        };
        match result {
            Ok(0) => Ok(Received::End),
            Ok(_) => Ok(Received::Some),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(Received::Nothing),
                // What a worker that died with unread input has sent comes before this error.
                ErrorKind::ConnectionReset => Ok(Received::End),
                _ => Err(error),
            },
        }
    }

    fn next(&mut self) -> Result<Option<(Header, Body<'_>)>, Malformed> {
        self.incoming.next()
    }

    fn bytes(&self) -> &[u8] {
        self.incoming.bytes()
    }

    fn skip(&mut self, count: usize) {
        self.incoming.skip(count);
    }

    fn received(&self) -> u64 {
        self.received
    }

    fn take_in(&mut self, bytes: &[u8]) {
        self.incoming.append(bytes);
        self.received += bytes.len() as u64;
        self.ahead += bytes.len() as u64;
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a worker reads from its end of the pair.
pub(crate) struct SocketInput {
    socket: Arc<UnixStream>,
    incoming: Incoming,
}

/// What a worker writes to its end of the pair.
pub(crate) struct SocketOutput {
    socket: Arc<UnixStream>,
}

/// The two halves of a worker's end. `socket` blocks.
pub(crate) fn worker_ends(socket: Arc<UnixStream>) -> (SocketInput, SocketOutput) {
    (
        SocketInput { socket: Arc::clone(&socket), incoming: Incoming::default() },
        SocketOutput { socket },
    )
}

impl WorkerInput for SocketInput {
    fn is_ready(&self) -> bool {
        self.incoming.is_ready()
    }

    fn next(&mut self) -> io::Result<Option<(Header, &[u8])>> {
        while !self.incoming.is_ready() {
            let mut socket = &*self.socket;
            match self.incoming.fill(|buffer| socket.read(buffer)) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        self.incoming.next_bytes().map_err(|malformed| io::Error::other(malformed.to_string()))
    }
}

impl WorkerOutput for SocketOutput {
    fn send(&mut self, parts: [&[u8]; 2]) -> io::Result<()> {
        let [mut first, mut second] = parts;
        while !first.is_empty() || !second.is_empty() {
            let slices = [IoSlice::new(first), IoSlice::new(second)];
            let count = socket::send(&self.socket, &slices, &[])?;
            let of_first = count.min(first.len());
            first = &first[of_first..];
            second = &second[count - of_first..];
        }
        Ok(())
    }
}

//! The backend on a Unix stream socket pair.
//!
//! What a worker publishes gathers in the shared outbox first, where it is safe from the worker's death,
//! and goes through the socket many results at a time.

use std::io::{self, ErrorKind, IoSlice, Read};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::{Duration, Instant};

use super::frame::{Body, Header, Incoming, Malformed};
use super::outgoing::Outgoing;
use super::ring::Watch;
use super::{
    Freed, LongBytes, ParentEnd, ROOM, Received, SharedBytes, WorkerInput, WorkerOutput, spare,
};
use crate::os::epoll::Interest;
use crate::os::memory::{Shared, copy_owned, read_onto};
use crate::os::{socket, wait};
use crate::shm::outbox;
use crate::shm::page::Page;

/// Parts for one system call.
const PARTS: usize = 64;

/// The parent's end of the pair.
pub(crate) struct ParentSocket {
    socket: UnixStream,
    page: Arc<Shared<Page>>,
    /// How many bytes of the outbox there are.
    capacity: usize,
    outgoing: Outgoing,
    /// How many bytes were ever queued, and how many of them have been sent.
    queued: u64,
    sent: u64,
    incoming: Incoming,
    received: u64,
    /// How many bytes that the socket will deliver have come another way already.
    ahead: u64,
    /// Since long bytes have gone or come: their memory is kept for the next ones.
    keeper: Option<spare::Keeper>,
}

impl ParentSocket {
    /// `socket` is non-blocking. Of the outbox there are the first `capacity` bytes.
    pub(crate) fn new(socket: UnixStream, page: Arc<Shared<Page>>, capacity: usize) -> Self {
        let incoming = Incoming::default();
        let outgoing = Outgoing::default();
        Self {
            socket,
            page,
            capacity,
            outgoing,
            queued: 0,
            sent: 0,
            incoming,
            received: 0,
            ahead: 0,
            keeper: None,
        }
    }
}

impl ParentEnd for ParentSocket {
    fn queue(&mut self, bytes: &[u8]) {
        self.queued += bytes.len() as u64;
        self.outgoing.push(bytes);
    }

    fn queue_shared(&mut self, bytes: &SharedBytes, range: Range<usize>) {
        self.queued += range.len() as u64;
        self.outgoing.push_shared(bytes, range);
    }

    fn queue_long(&mut self, bytes: &LongBytes) {
        self.queued += (**bytes).as_ref().len() as u64;
        self.keeper.get_or_insert_with(spare::Keeper::new);
        self.outgoing.push_long(bytes);
    }

    fn flush(&mut self) -> io::Result<bool> {
        while !self.outgoing.is_empty() {
            match socket::send(&self.socket, &self.outgoing.slices(PARTS), &[]) {
                Ok(count) => {
                    self.outgoing.forget(count);
                    self.sent += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn queued(&self) -> u64 {
        self.queued
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn receive(&mut self) -> io::Result<Received> {
        let mut known = [0; 4096];
        let result = if self.ahead > 0 {
            let room = known.len().min(usize::try_from(self.ahead).unwrap_or(usize::MAX));
            (&self.socket).read(&mut known[..room]).inspect(|count| self.ahead -= *count as u64)
        } else {
            let result = self.incoming.fill(|to, most| read_onto(self.socket.as_fd(), to, most));
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
        if self.incoming.has_tail() {
            self.keeper.get_or_insert_with(spare::Keeper::new);
        }
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

    fn look(&mut self) -> bool {
        let mut bytes = Vec::new();
        self.page.outbox.read_after(self.received, self.capacity, &mut bytes);
        self.incoming.append(&bytes);
        self.received += bytes.len() as u64;
        // The socket will bring them, too.
        self.ahead += bytes.len() as u64;
        !bytes.is_empty()
    }

    fn unpublished(&self, count: usize) -> Vec<u8> {
        let room = self.page.outbox.room_within(self.capacity);
        let mut bytes = Vec::new();
        copy_owned(&room[..count.min(room.len())], &mut bytes);
        bytes
    }

    /// The kernel's buffers are its own affair.
    fn is_grown(&self) -> bool {
        self.keeper.is_some()
    }

    fn shrink(&mut self) {
        self.outgoing.free(self.incoming.shrink());
        self.outgoing.free(self.keeper.take().map(spare::Keeper::release));
    }

    fn give_up(&mut self) {
        self.outgoing.give_up();
        self.outgoing.free(Some(std::mem::take(&mut self.incoming)));
        self.outgoing.free(self.keeper.take().map(spare::Keeper::release));
    }

    fn take_freed(&mut self) -> Freed {
        std::mem::take(&mut self.outgoing.freed)
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn waits_for_room(&self) -> Interest {
        Interest::ReadWrite
    }

    fn watch(&self) -> Option<Arc<Watch>> {
        None
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
    page: Arc<Shared<Page>>,
    /// How many bytes of the outbox there are.
    capacity: usize,
    /// What is being sent, kept for its memory.
    sending: Vec<u8>,
}

/// Sent when this much has gathered, so that the parent can work while the worker goes on.
const ENOUGH: usize = outbox::CAPACITY / 2;

/// The two halves of a worker's end. `socket` blocks.
pub(crate) fn worker_ends(
    socket: Arc<UnixStream>,
    page: Arc<Shared<Page>>,
    capacity: usize,
) -> (SocketInput, SocketOutput) {
    (
        SocketInput { socket: Arc::clone(&socket), incoming: Incoming::default() },
        SocketOutput { socket, page, capacity, sending: Vec::new() },
    )
}

impl WorkerInput for SocketInput {
    fn is_ready(&mut self) -> bool {
        self.incoming.is_ready()
    }

    fn poll(&mut self) -> bool {
        // An end or an error is for `next` to find.
        self.is_ready()
            || wait::ready(&[self.socket.as_fd()], Some(Duration::ZERO))
                .is_ok_and(|ready| !ready.is_empty())
    }

    fn wait(&mut self, limit: Duration) -> bool {
        let until = Instant::now().checked_add(limit);
        self.incoming.is_ready() || wait::readable(self.socket.as_fd(), until).unwrap_or(true)
    }

    fn next(&mut self) -> io::Result<Option<(Header, Body<'_>)>> {
        while !self.incoming.is_ready() {
            let socket = self.socket.as_fd();
            match self.incoming.fill(|to, most| read_onto(socket, to, most)) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        self.incoming.next().map_err(|malformed| io::Error::other(malformed.to_string()))
    }
}

impl WorkerOutput for SocketOutput {
    fn room(&mut self, least: usize) -> io::Result<&[AtomicU8]> {
        assert!(least <= ROOM.min(self.capacity), "the room has its limit");
        if self.page.outbox.room_within(self.capacity).len() < least {
            self.flush()?;
        }
        Ok(self.page.outbox.room_within(self.capacity))
    }

    fn most(&self) -> usize {
        ROOM.min(self.capacity)
    }

    fn publish(&mut self, count: usize) -> io::Result<()> {
        self.page.outbox.push(count);
        if self.page.outbox.len() >= ENOUGH { self.flush() } else { Ok(()) }
    }

    fn stream(&mut self, parts: [&[u8]; 2]) -> io::Result<()> {
        self.flush()?;
        send_all(&self.socket, parts)?;
        self.page.outbox.sent(parts.iter().map(|part| part.len()).sum());
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.page.outbox.len() == 0 {
            return Ok(());
        }
        self.sending.clear();
        self.page.outbox.copy_to(&mut self.sending);
        send_all(&self.socket, [&self.sending, &[]])?;
        self.page.outbox.sent(self.sending.len());
        Ok(())
    }

    fn is_grown(&self) -> bool {
        false
    }

    fn shrink(&mut self) {}
}

/// Sends all of the parts through a socket that blocks.
fn send_all(socket: &UnixStream, parts: [&[u8]; 2]) -> io::Result<()> {
    let [mut first, mut second] = parts;
    while !first.is_empty() || !second.is_empty() {
        let slices = [IoSlice::new(first), IoSlice::new(second)];
        let count = socket::send(socket, &slices, &[])?;
        let of_first = count.min(first.len());
        first = &first[of_first..];
        second = &second[count - of_first..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::shm::page::{BRIEF, BRIEF_OUTBOX};

    /// Where nothing is reserved each look would take memory, of which there may be none.
    #[test]
    fn a_forged_length_leads_the_parent_no_further_than_there_is_memory() {
        let (page, fd) = Shared::<Page>::create_in(c"brief", BRIEF, size_of::<Page>()).unwrap();
        let page = Arc::new(page);
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut parent = ParentSocket::new(ours, Arc::clone(&page), BRIEF_OUTBOX);
        assert_eq!(parent.unpublished(usize::MAX).len(), BRIEF_OUTBOX);
        page.outbox.push(outbox::CAPACITY);
        assert!(parent.look());
        assert_eq!(parent.received(), BRIEF_OUTBOX as u64);
        assert!(parent.unpublished(usize::MAX).is_empty());
        assert!(!parent.look());
        let taken = File::from(fd).metadata().unwrap().blocks() * 512;
        assert_eq!(taken, BRIEF as u64);
    }
}

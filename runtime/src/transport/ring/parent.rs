//! The parent's end, and what may be known of it without holding it.

use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::{HALF, Memory, PIECE, Reader, Way, Writer};
use crate::os::epoll::Interest;
use crate::os::memory::copy_owned;
use crate::os::processor;
use crate::shm::alarm::{Alarm, Lack};
use crate::shm::stream::{Breach, CAPACITY};
use crate::shm::system::System;
use crate::transport::frame::{Body, Header, Incoming, Malformed};
use crate::transport::outgoing::Outgoing;
use crate::transport::{Freed, LongBytes, ParentEnd, Received, SharedBytes, spare};

/// What threads that don't hold the parent's end may know of it: whether there is anything to do, and how
/// to have it told.
///
/// A worker can forge what its words say; what the parent has done is noted here.
pub(crate) struct Watch {
    memory: Arc<Memory>,
    /// How many bytes the parent has taken.
    taken: AtomicU64,
    /// Whether something waits to be sent, and what the worker must have taken before it can be.
    is_blocked: AtomicBool,
    goes_at: AtomicU64,
    /// Whether the worker has written what no worker writes.
    is_broken: AtomicBool,
    /// Whether there is nothing more to look for: its end, or that, was noticed.
    is_over: AtomicBool,
    is_armed: AtomicBool,
    /// Whether a kick has come or will come.
    is_kicked: AtomicBool,
}

impl Watch {
    /// Whether there is something to take in, or room for what couldn't be sent.
    pub(crate) fn has_news(&self) -> bool {
        let lines = self.memory.lines();
        let is_new = lines.up.tail() != self.taken.load(Relaxed);
        (is_new || self.has_room() || self.is_broken.load(Relaxed)) && !self.is_over.load(Relaxed)
    }

    fn has_room(&self) -> bool {
        let missing = || self.goes_at.load(Relaxed).wrapping_sub(self.memory.lines().down.head());
        self.is_blocked.load(Relaxed) && missing().cast_signed() <= 0
    }

    /// Whether the worker, when it had slept last, was on the processor on which this thread is now.
    pub(crate) fn shares_processor(&self) -> bool {
        let theirs = self.memory.lines().processor.load(Relaxed);
        theirs != 0 && processor::here().is_some_and(|here| here == theirs - 1)
    }

    /// What the worker has learnt of spinning doesn't hold any more.
    pub(crate) fn let_spin_anew(&self) {
        // One nanosecond more or less; 0 stays, as it means not at all.
        let spin = &self.memory.lines().spin;
        let now = spin.load(Relaxed);
        spin.store(if now == 0 { 0 } else { now ^ 1 }, Relaxed);
    }

    /// Before a wait: from now on the worker kicks. After the fence that follows,
    /// [`has_news`](Self::has_news) must be asked once more.
    pub(crate) fn arm(&self) {
        self.is_armed.store(true, Relaxed);
        self.memory.alarm().arm();
    }

    /// After a wait.
    pub(crate) fn disarm(&self) {
        if self.is_armed.load(Relaxed) {
            self.is_armed.store(false, Relaxed);
            if self.memory.alarm().disarm() {
                self.is_kicked.store(true, Relaxed);
            }
        }
    }
}

/// The parent's end.
pub(crate) struct ParentRing {
    socket: UnixStream,
    watch: Arc<Watch>,
    writer: Writer,
    reader: Reader,
    outgoing: Outgoing,
    /// How many bytes were ever queued.
    queued: u64,
    incoming: Incoming,
    /// Whether the worker has closed its end of the socket.
    has_ended: bool,
    /// Since long bytes have gone or come: their memory is kept for the next ones.
    keeper: Option<spare::Keeper>,
}

/// How far it has come with what couldn't be sent.
enum Drained {
    All,
    NoRoom,
    Enough,
}

impl ParentRing {
    /// `socket` is non-blocking. The worker may spin for so many nanoseconds.
    pub(crate) fn new(socket: UnixStream, memory: Memory, spin: u64) -> Self {
        let nanos = u32::try_from(spin).unwrap_or(u32::MAX);
        memory.lines().spin.store(nanos, Relaxed);
        let memory = Arc::new(memory);
        let watch = Watch {
            memory: Arc::clone(&memory),
            taken: AtomicU64::new(0),
            is_blocked: AtomicBool::new(false),
            goes_at: AtomicU64::new(0),
            is_broken: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            is_armed: AtomicBool::new(false),
            is_kicked: AtomicBool::new(false),
        };
        Self {
            socket,
            watch: Arc::new(watch),
            writer: Writer::new(Arc::clone(&memory), Way::Down),
            reader: Reader::new(memory, Way::Up),
            outgoing: Outgoing::default(),
            queued: 0,
            incoming: Incoming::default(),
            has_ended: false,
            keeper: None,
        }
    }

    fn alarm(&self) -> &Alarm<System> {
        self.watch.memory.alarm()
    }

    /// The worker isn't to be believed any more: [`next`](ParentEnd::next) says so.
    fn break_off(&self) {
        self.watch.is_broken.store(true, Relaxed);
    }

    fn is_broken(&self) -> bool {
        self.watch.is_broken.load(Relaxed)
    }

    fn publish(&mut self) {
        if self.writer.waiting > 0 {
            self.writer.publish(0);
            self.alarm().wake(Lack::Input);
        }
    }

    /// Moves what couldn't be sent into the ring, at most a ring full: while the worker takes it out at the other
    /// end there may always be room, and whoever holds this end has others to see to.
    fn drain(&mut self) -> Result<Drained, Breach> {
        let mut left = CAPACITY;
        while !self.outgoing.is_empty() {
            if left == 0 {
                return Ok(Drained::Enough);
            }
            let first = self.outgoing.first();
            let count = self.writer.write(&first[..first.len().min(PIECE).min(left)])?;
            if count == 0 {
                return Ok(Drained::NoRoom);
            }
            left -= count;
            self.outgoing.forget(count);
            self.publish();
        }
        Ok(Drained::All)
    }

    /// There is room as far as is known, and something to go on with.
    fn go_on_soon(&self) {
        self.watch.goes_at.store(self.watch.memory.lines().down.head(), Relaxed);
        self.watch.is_blocked.store(true, Relaxed);
    }

    /// Has the worker kick when there is room. False: there is some already.
    fn wait_for_room(&mut self) -> Result<bool, Breach> {
        // Half a ring, unless there is memory for less: then all of that.
        let used = self.writer.producer.used();
        let allowed = if self.writer.reserved == CAPACITY { used.min(HALF) } else { 0 };
        let goes_at = self.writer.published().wrapping_sub(allowed as u64);
        self.watch.goes_at.store(goes_at, Relaxed);
        self.watch.is_blocked.store(true, Relaxed);
        self.alarm().ask_for_room();
        let memory = &self.watch.memory;
        self.writer.producer.look(&memory.lines().down)?;
        Ok(!self.watch.has_room())
    }

    /// Takes the kicks out of the socket. True: there were some, or its end.
    fn take_kicks(&mut self) -> io::Result<bool> {
        if self.has_ended {
            return Ok(false);
        }
        match (&self.socket).read(&mut [0; 64]) {
            Ok(0) => self.has_ended = true,
            Ok(_) => {}
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => return Ok(false),
                // A worker that died with unread kicks of ours would be one; we send none.
                ErrorKind::ConnectionReset => self.has_ended = true,
                _ => return Err(error),
            },
        }
        Ok(true)
    }

    /// Takes a piece of the worker's stream, or several of a long result: as long as some come, and not so
    /// many that the others would wait for long.
    fn take_some(&mut self) -> bool {
        let is_some = self.take();
        let mut left = CAPACITY / PIECE;
        while left > 0 && self.incoming.is_arriving() && self.take() {
            left -= 1;
        }
        is_some
    }

    /// Takes a piece of the worker's stream.
    fn take(&mut self) -> bool {
        if self.is_broken() {
            return false;
        }
        match self.reader.take(&mut self.incoming) {
            Ok((0, _)) => return false,
            Ok((_, left)) => {
                self.watch.taken.store(self.reader.consumer.taken(), Relaxed);
                if left <= HALF {
                    self.alarm().wake(Lack::Room);
                }
            }
            // It is news, too.
            Err(Breach) => self.break_off(),
        }
        true
    }
}

impl ParentEnd for ParentRing {
    fn queue(&mut self, bytes: &[u8]) {
        let mut count = 0;
        self.queued += bytes.len() as u64;
        if self.outgoing.is_empty() && !self.is_broken() {
            match self.writer.write(bytes) {
                Ok(written) => count = written,
                Err(Breach) => self.break_off(),
            }
        }
        self.outgoing.push(&bytes[count..]);
    }

    fn queue_shared(&mut self, bytes: &SharedBytes, range: Range<usize>) {
        if range.len() <= PIECE && self.outgoing.is_empty() {
            self.queue(&bytes[range]);
        } else {
            self.queued += range.len() as u64;
            self.outgoing.push_shared(bytes, range);
        }
    }

    fn queue_long(&mut self, bytes: &LongBytes) {
        self.queued += (**bytes).as_ref().len() as u64;
        self.keeper.get_or_insert_with(spare::Keeper::new);
        self.outgoing.push_long(bytes);
    }

    fn flush(&mut self) -> io::Result<bool> {
        self.publish();
        if self.outgoing.is_empty() {
            self.watch.is_blocked.store(false, Relaxed);
            return Ok(true);
        }
        if self.is_broken() {
            return Err(io::Error::from(ErrorKind::BrokenPipe));
        }
        loop {
            match self.drain() {
                Ok(Drained::All) => {
                    self.watch.is_blocked.store(false, Relaxed);
                    return Ok(true);
                }
                Ok(Drained::Enough) => {
                    self.go_on_soon();
                    return Ok(false);
                }
                Ok(Drained::NoRoom) => {}
                Err(Breach) => break,
            }
            match self.wait_for_room() {
                Ok(true) => {
                    // A worker that has gone makes no room.
                    self.take_kicks()?;
                    return if self.has_ended {
                        Err(io::Error::from(ErrorKind::BrokenPipe))
                    } else {
                        Ok(false)
                    };
                }
                Ok(false) => {}
                Err(Breach) => break,
            }
        }
        self.break_off();
        Err(io::Error::from(ErrorKind::BrokenPipe))
    }

    fn queued(&self) -> u64 {
        self.queued
    }

    fn sent(&self) -> u64 {
        self.writer.published()
    }

    fn receive(&mut self) -> io::Result<Received> {
        if self.is_broken() {
            // The caller asks for the next frame now.
            self.watch.is_over.store(true, Relaxed);
        }
        if self.watch.is_kicked.load(Relaxed) && self.take_kicks()? {
            self.watch.is_kicked.store(false, Relaxed);
        }
        if self.take_some() {
            return Ok(Received::Some);
        }
        if self.take_kicks()? && !self.has_ended {
            return Ok(Received::Some);
        }
        // What came before the end was published before it.
        if self.has_ended && self.take() {
            return Ok(Received::Some);
        }
        if self.has_ended {
            self.watch.is_over.store(true, Relaxed);
            return Ok(Received::End);
        }
        Ok(Received::Nothing)
    }

    fn next(&mut self) -> Result<Option<(Header, Body<'_>)>, Malformed> {
        if self.is_broken() {
            return Err(Malformed::Position);
        }
        if self.incoming.has_tail() {
            self.keeper.get_or_insert_with(spare::Keeper::new);
        }
        self.incoming.next()
    }

    fn bytes(&self) -> &[u8] {
        if self.is_broken() { &[] } else { self.incoming.bytes() }
    }

    fn skip(&mut self, count: usize) {
        self.incoming.skip(count);
    }

    fn received(&self) -> u64 {
        self.reader.consumer.taken()
    }

    fn look(&mut self) -> bool {
        // As far as it had come by now: one that writes on and on would keep us here.
        let tail = self.watch.memory.lines().up.tail();
        let is_left = |taken: u64| tail.wrapping_sub(taken).cast_signed() > 0;
        let mut is_new = false;
        while is_left(self.reader.consumer.taken()) && self.take() {
            is_new = true;
        }
        is_new
    }

    fn unpublished(&self, count: usize) -> Vec<u8> {
        let span = self.reader.consumer.unpublished(&self.watch.memory.lines().up);
        let mut bytes = Vec::new();
        let count = count.min(span.length);
        copy_owned(self.watch.memory.up.bytes(span.offset, count), &mut bytes);
        bytes
    }

    fn is_grown(&self) -> bool {
        self.writer.is_grown() || self.keeper.is_some()
    }

    fn shrink(&mut self) {
        self.outgoing.free(self.incoming.shrink());
        self.outgoing.free(self.keeper.take().map(spare::Keeper::release));
        self.writer.shrink();
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
        Interest::Read
    }

    fn watch(&self) -> Option<Arc<Watch>> {
        Some(Arc::clone(&self.watch))
    }
}

impl Drop for ParentRing {
    fn drop(&mut self) {
        self.watch.is_over.store(true, Relaxed);
        self.alarm().close();
    }
}

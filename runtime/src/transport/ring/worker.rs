//! The worker's ends.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU32};
use std::time::Duration;

use super::{HALF, Memory, PIECE, Reader, Way, Writer};
use crate::os::memory::Shared;
use crate::os::spin::Spinner;
use crate::os::{processor, socket};
use crate::shm::alarm::{Alarm, Lack};
use crate::shm::page::Page;
use crate::shm::stream::{Breach, CAPACITY};
use crate::shm::system::System;
use crate::transport::frame::{Body, Header, Incoming, Malformed};
use crate::transport::{ROOM, WorkerInput, WorkerOutput};

/// How long a worker waits for memory before it asks for it again.
const PAUSE: Duration = Duration::from_millis(5);

/// What both of a worker's ends have.
struct WorkerEnd {
    memory: Arc<Memory>,
    socket: Arc<UnixStream>,
    spinner: Spinner,
    /// The time that this worker may spin, as it was last seen.
    spin: AtomicU32,
}

impl WorkerEnd {
    fn alarm(&self) -> &Alarm<System> {
        self.memory.alarm()
    }

    fn kick(&self) -> io::Result<()> {
        socket::kick(&self.socket)
    }

    /// Spins, and then sleeps, until there is what this worker lacks, or for so long.
    fn wait_for(&self, lack: Lack, limit: Option<Duration>, is_there: impl Fn() -> bool) {
        let lines = self.memory.lines();
        let spin = lines.spin.load(Relaxed);
        if self.spin.swap(spin, Relaxed) != spin {
            self.spinner.forget();
        }
        let is_over = || is_there() || self.alarm().is_closed();
        if !self.spinner.spin(u64::from(spin), is_over) {
            self.alarm().sleep(lack, limit, is_there);
            let here = processor::here().map_or(0, |here| here.saturating_add(1));
            lines.processor.store(here, Relaxed);
        }
    }
}

/// What a worker reads from.
pub(crate) struct RingInput {
    end: WorkerEnd,
    reader: Reader,
    incoming: Incoming,
}

/// What a worker writes to.
pub(crate) struct RingOutput {
    end: WorkerEnd,
    writer: Writer,
    /// How many bytes were published when the parent was last told of them.
    told: u64,
    /// Whether [`ROOM`] bytes of room were given out since the last publication.
    is_open: bool,
}

/// The two halves of a worker's end, in the memory that the parent has made.
///
/// # Errors
/// It can't be mapped.
pub(crate) fn worker_ends(
    socket: Arc<UnixStream>,
    page: Arc<Shared<Page>>,
    fd: BorrowedFd<'_>,
) -> io::Result<(RingInput, RingOutput)> {
    let memory = Arc::new(Memory::map(page, fd)?);
    let end = || WorkerEnd {
        memory: Arc::clone(&memory),
        socket: Arc::clone(&socket),
        spinner: Spinner::default(),
        spin: AtomicU32::new(0),
    };
    let reader = Reader::new(Arc::clone(&memory), Way::Down);
    let writer = Writer::new(Arc::clone(&memory), Way::Up);
    Ok((
        RingInput { end: end(), reader, incoming: Incoming::default() },
        RingOutput { end: end(), writer, told: 0, is_open: false },
    ))
}

fn breach(_: Breach) -> io::Error {
    io::Error::other(Malformed::Position.to_string())
}

impl RingInput {
    /// Takes a piece of the stream, if there is one.
    fn take(&mut self) -> io::Result<bool> {
        if self.reader.is_empty() {
            return Ok(false);
        }
        let (count, left) = self.reader.take(&mut self.incoming).map_err(breach)?;
        if count > 0 && left <= HALF && self.end.alarm().must_tell_of_room() {
            // A parent that has gone is noticed when there is nothing left to read.
            let _ = self.end.kick();
        }
        Ok(count > 0)
    }
}

impl WorkerInput for RingInput {
    fn is_ready(&mut self) -> bool {
        while !self.incoming.is_ready() {
            match self.take() {
                Ok(true) => {}
                Ok(false) => return false,
                // `next` says it.
                Err(_) => return true,
            }
        }
        true
    }

    fn wait(&mut self, limit: Duration) -> bool {
        let is_there = || !self.reader.is_empty() || self.end.alarm().is_closed();
        if !self.incoming.is_ready() {
            self.end.wait_for(Lack::Input, Some(limit), is_there);
        }
        self.incoming.is_ready() || is_there()
    }

    fn next(&mut self) -> io::Result<Option<(Header, Body<'_>)>> {
        while !self.incoming.is_ready() {
            let is_closed = self.end.alarm().is_closed();
            if self.take()? {
                continue;
            }
            // All that it had published came before it closed.
            if is_closed {
                return Ok(None);
            }
            self.end.wait_for(Lack::Input, None, || !self.reader.is_empty());
        }
        self.incoming.next().map_err(|malformed| io::Error::other(malformed.to_string()))
    }
}

impl RingOutput {
    fn gone() -> io::Error {
        io::Error::from(ErrorKind::BrokenPipe)
    }

    /// Waits until there is room for `least` bytes, and memory.
    fn make_room(&mut self, least: usize) -> io::Result<()> {
        loop {
            if self.end.alarm().is_closed() {
                return Err(Self::gone());
            }
            if self.writer.room(least).map_err(breach)?.len() >= least {
                return Ok(());
            }
            self.flush()?;
            let head = || self.writer.way.of(&self.end.memory).0.head();
            let published = self.writer.published();
            let has_room = || published.wrapping_sub(head()) as usize + least <= CAPACITY;
            if has_room() {
                // It is memory that is missing: some comes back when the parent has taken all, or others
                // need less.
                std::thread::sleep(PAUSE);
            } else {
                self.end.wait_for(Lack::Room, None, has_room);
            }
        }
    }
}

impl WorkerOutput for RingOutput {
    fn room(&mut self, least: usize) -> io::Result<&[AtomicU8]> {
        assert!(least <= ROOM, "the room has its limit");
        // The same as before: results are added to it one after the other.
        if !self.is_open {
            self.make_room(least)?;
            self.is_open = self.writer.room(least).map_err(breach)?.len() >= ROOM;
        }
        let count = if self.is_open { ROOM } else { least };
        Ok(self.writer.behind(count))
    }

    fn publish(&mut self, count: usize) -> io::Result<()> {
        self.is_open = false;
        self.writer.publish(count);
        if self.writer.producer.used() > HALF {
            let (stream, _) = self.writer.way.of(&self.writer.memory);
            self.writer.producer.look(stream).map_err(breach)?;
            if self.writer.producer.used() > HALF {
                return self.flush();
            }
        }
        Ok(())
    }

    fn stream(&mut self, parts: [&[u8]; 2]) -> io::Result<()> {
        self.is_open = false;
        for mut part in parts {
            while !part.is_empty() {
                let piece = part.len().min(PIECE);
                let count = self.writer.write(&part[..piece]).map_err(breach)?;
                if count == 0 {
                    self.make_room(piece.min(ROOM))?;
                }
                part = &part[count..];
                self.publish(0)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.end.alarm().is_closed() {
            return Err(Self::gone());
        }
        let published = self.writer.published();
        if published != self.told {
            self.told = published;
            if self.end.alarm().must_kick() {
                self.end.kick()?;
            }
        }
        Ok(())
    }

    fn is_grown(&self) -> bool {
        self.writer.is_grown()
    }

    fn shrink(&mut self) {
        self.writer.shrink();
    }
}

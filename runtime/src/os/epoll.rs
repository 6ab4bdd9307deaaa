//! One epoll set, and a bell that anyone may ring to end its wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::time::Duration;

use nix::sys::epoll::{self, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// What a descriptor in the set is watched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interest {
    Read,
    ReadWrite,
    /// Reported once, then silent until it is changed again.
    Once,
    Never,
}

/// A set of watched descriptors, and a bell.
///
/// A word says how it stands with the bell, so that ringing costs a system call only while somebody
/// waits:
///
/// ```text
/// IDLE --wait--> WAITED --(it returns)--> IDLE
///   |               |
///   +-----ring------+----> RUNG --wait, at its beginning or end--> IDLE
/// ```
///
/// At most one thread waits at a time.
pub(crate) struct Epoll {
    set: epoll::Epoll,
    bell: EventFd,
    word: AtomicU32,
}

const BELL: u64 = u64::MAX;

const IDLE: u32 = 0;
const WAITED: u32 = 1;
const RUNG: u32 = 2;

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        let set = epoll::Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let bell =
            EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        set.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        Ok(Self { set, bell, word: AtomicU32::new(IDLE) })
    }

    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        Ok(self.set.add(fd, EpollEvent::new(flags(interest), token))?)
    }

    pub(crate) fn change(
        &self,
        fd: BorrowedFd<'_>,
        token: u64,
        interest: Interest,
    ) -> io::Result<()> {
        Ok(self.set.modify(fd, &mut EpollEvent::new(flags(interest), token))?)
    }

    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(self.set.delete(fd)?)
    }

    /// Ends the wait of whoever waits now, or the next one.
    pub(crate) fn ring(&self) {
        if self.word.swap(RUNG, AcqRel) == WAITED {
            // A full counter is a bell that rings already.
            let _ = self.bell.write(1);
        }
    }

    /// Whether the bell has rung since the last wait. Who asks waits afterwards in any case.
    pub(crate) fn is_rung(&self) -> bool {
        self.word.load(Relaxed) == RUNG
    }

    /// Waits and gives the tokens of all descriptors that are ready. An interrupted wait and a rung bell give an empty list.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<u64>> {
        let mut events = [EpollEvent::empty(); 64];
        let is_rung = self.word.swap(WAITED, AcqRel) == RUNG;
        let timeout = if is_rung { Some(Duration::ZERO) } else { timeout };
        let waited = self.set.wait(&mut events, super::wait::poll_timeout(timeout));
        self.word.store(IDLE, Release);
        let count = match waited {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let mut ready = Vec::with_capacity(count);
        for event in &events[..count] {
            if event.data() == BELL {
                let _ = self.bell.read();
            } else {
                ready.push(event.data());
            }
        }
        Ok(ready)
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.0.as_fd()
    }
}

fn flags(interest: Interest) -> EpollFlags {
    match interest {
        Interest::Read => EpollFlags::EPOLLIN,
        Interest::ReadWrite => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
        Interest::Once => EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT,
        Interest::Never => EpollFlags::EPOLLONESHOT,
    }
}

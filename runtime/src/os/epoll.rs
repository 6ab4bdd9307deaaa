//! One epoll set, and a bell that anyone may ring to end its wait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
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

/// A set of watched descriptors.
pub(crate) struct Epoll {
    set: epoll::Epoll,
    bell: EventFd,
}

const BELL: u64 = u64::MAX;

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        let set = epoll::Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let bell =
            EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        set.add(&bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        Ok(Self { set, bell })
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
        // A full counter is a bell that rings already.
        let _ = self.bell.write(1);
    }

    /// Waits and gives the tokens of all descriptors that are ready. An interrupted wait and a rung bell give an empty list.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<Vec<u64>> {
        let mut events = [EpollEvent::empty(); 64];
        let count = match self.set.wait(&mut events, super::wait::poll_timeout(timeout)) {
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

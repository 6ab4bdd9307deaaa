//! Descriptors that are watched by the supervisor for somebody who sleeps on words in memory.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::supervisor;
use crate::error::Error;
use crate::os::epoll::{Epoll, Interest};
use crate::os::futex;

/// A set of descriptors with a word that changes when one is ready.
pub(crate) struct FdWatch {
    set: Epoll,
    word: Arc<AtomicU32>,
    token: u64,
}

impl FdWatch {
    /// # Errors
    /// The system refuses.
    pub(crate) fn new(fds: &[BorrowedFd<'_>]) -> Result<Self, Error> {
        let failed = |error| Error::system("can't wait", &error);
        let set = Epoll::new().map_err(failed)?;
        for (token, fd) in (0..).zip(fds) {
            match set.add(*fd, token, Interest::Read) {
                // The same one twice is watched once.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                result => result.map_err(failed)?,
            }
        }
        let word = Arc::new(AtomicU32::new(0));
        let token = supervisor::get()?.watch_set(set.as_fd(), Arc::clone(&word)).map_err(failed)?;
        Ok(Self { set, word, token })
    }

    /// The word to sleep on, and its value until a descriptor is ready next.
    pub(crate) fn arm(&self) -> (&AtomicU32, u32) {
        let value = self.word.load(Ordering::Acquire);
        if let Ok(supervisor) = supervisor::get() {
            supervisor.watch_set_again(self.set.as_fd(), self.token);
        }
        (&self.word, value)
    }
}

impl Drop for FdWatch {
    fn drop(&mut self) {
        if let Ok(supervisor) = supervisor::get() {
            supervisor.forget_set(self.set.as_fd(), self.token);
        }
    }
}

/// Something is ready.
pub(super) fn tell(word: &AtomicU32) {
    word.fetch_add(1, Ordering::Release);
    futex::wake(word, u32::MAX);
}

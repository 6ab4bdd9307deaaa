//! Files that one process has at a time: `flock`.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A file that no other process has meanwhile. The end of the process ends that, however it comes.
pub(crate) type Locked = Flock<File>;

/// Takes a file, if nobody has it.
///
/// # Errors
/// Its file system has no locks.
pub(crate) fn try_lock(file: File) -> io::Result<Option<Locked>> {
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => Ok(Some(locked)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

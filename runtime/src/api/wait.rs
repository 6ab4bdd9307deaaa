//! Waiting for several things at once.
//!
//! Some have a descriptor (a process, a connection over a socket), others a word in shared memory (a queue,
//! a pipe). Only descriptors: one `poll`. Only words: one `futex_waitv`. Both: the supervisor watches the
//! descriptors, as one set, and changes a word of this process when one is ready.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::error::Error;
use crate::os::{self, futex};
use crate::sched::FdWatch;
use crate::shm::platform::{Deadline, Platform as _};
use crate::shm::ring::Ring;
use crate::shm::system::System;
use crate::transport::link::Link;

/// What [`wait`] can wait for: a process to end, a queue or a connection to have something to be got
/// (or its end), a descriptor to be readable.
#[diagnostic::on_unimplemented(
    message = "`wait` can't wait for `{Self}`",
    label = "this is neither a process, nor a queue or a connection, nor has it a descriptor"
)]
pub trait Waitable {
    #[doc(hidden)]
    fn source(&self) -> Source<'_>;
}

/// Where it shows that something is ready.
#[doc(hidden)]
pub struct Source<'a>(Kind<'a>);

enum Kind<'a> {
    Fd(BorrowedFd<'a>),
    /// A descriptor that is readable when there is a part of a message already, and a limit on messages.
    Link(BorrowedFd<'a>, &'a dyn Link, u64),
    Ring(&'a Ring<System>),
}

impl<'a> Source<'a> {
    pub(super) fn of_ring(ring: &'a Ring<System>) -> Self {
        Self(Kind::Ring(ring))
    }

    pub(super) fn of_link(fd: BorrowedFd<'a>, link: &'a dyn Link, limit: u64) -> Self {
        Self(Kind::Link(fd, link, limit))
    }

    fn fd(&self) -> Option<BorrowedFd<'a>> {
        match self.0 {
            Kind::Fd(fd) | Kind::Link(fd, ..) => Some(fd),
            Kind::Ring(_) => None,
        }
    }

    fn ring(&self) -> Option<&'a Ring<System>> {
        match self.0 {
            Kind::Ring(ring) => Some(ring),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source(..)")
    }
}

/// Processes, and whatever else has a descriptor.
impl<T: AsFd> Waitable for T {
    fn source(&self) -> Source<'_> {
        Source(Kind::Fd(self.as_fd()))
    }
}

/// Waits until at least one of the objects is ready, and gives the indices of all that are: a process that
/// has ended, a queue or a connection that has something to be got, or is closed, a descriptor that is
/// readable. No `timeout` waits for ever; when the time is over, the list is empty.
///
/// ```
/// # use procession::{Process, Queue, task, wait};
/// #[task]
/// fn nothing() {}
///
/// # fn main() -> Result<(), procession::Error> {
/// let (process, queue) = (Process::new(nothing, ()).start()?, Queue::unbounded()?);
/// assert_eq!(wait(&[&queue, &process], None)?, [1]);
/// queue.put("hello".to_owned())?;
/// assert_eq!(wait(&[&queue, &process], None)?, [0, 1]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The system refuses.
pub fn wait(objects: &[&dyn Waitable], timeout: Option<Duration>) -> Result<Vec<usize>, Error> {
    let sources: Vec<Source<'_>> = objects.iter().map(|object| object.source()).collect();
    let deadline = Deadline::of::<System>(timeout);
    let failed = |error| Error::system("can't wait", &error);
    // Looking costs less than preparing to sleep.
    let ready = ready_now(&sources).map_err(failed)?;
    if !ready.is_empty() || deadline.has_passed::<System>() {
        return Ok(ready);
    }
    let fds: Vec<_> = sources.iter().filter_map(Source::fd).collect();
    let rings: Vec<_> = sources.iter().filter_map(Source::ring).collect();
    let watch = match (rings.is_empty(), fds.is_empty()) {
        (false, false) => Some(FdWatch::new(&fds)?),
        _ => None,
    };
    loop {
        if rings.is_empty() {
            let left = deadline.left::<System>();
            os::wait::ready(&fds, left).map_err(failed)?;
        }
        let mut words: Vec<(&AtomicU32, u32)> = Vec::with_capacity(rings.len() + 1);
        for ring in &rings {
            let heard = ring.arrivals().listen();
            words.push((ring.arrivals().word(), heard.value()));
        }
        words.extend(watch.as_ref().map(FdWatch::arm));
        let ready = ready_now(&sources).map_err(failed)?;
        if !ready.is_empty() || deadline.has_passed::<System>() {
            // A wake may have come here that was for somebody who takes the message.
            ready.iter().filter_map(|index| sources[*index].ring()).for_each(|ring| {
                ring.arrivals().ring(1);
            });
            return Ok(ready);
        }
        if !words.is_empty() {
            sleep(&words, deadline);
        }
    }
}

/// Sleeps on all words, for a nap. Without the system call for that, it sleeps on one, for a moment.
fn sleep(words: &[(&AtomicU32, u32)], deadline: Deadline) {
    const MOMENT: Duration = Duration::from_millis(1);
    let nap = deadline.nap::<System>();
    let fits = words.len() <= futex::MOST_WORDS;
    if !fits || futex::wait_any(words, Some(nap)).is_err() {
        futex::wait(words[0].0, words[0].1, Some(nap.min(MOMENT)));
    }
    System::look_around();
}

/// The indices of what is ready at this moment.
fn ready_now(sources: &[Source<'_>]) -> std::io::Result<Vec<usize>> {
    let with_fd: Vec<usize> =
        (0..sources.len()).filter(|index| sources[*index].fd().is_some()).collect();
    let fds: Vec<BorrowedFd<'_>> = sources.iter().filter_map(Source::fd).collect();
    let mut is_ready = vec![false; sources.len()];
    if !fds.is_empty() {
        for at in os::wait::ready(&fds, Some(Duration::ZERO))? {
            is_ready[with_fd[at]] = true;
        }
    }
    for (is_ready, source) in is_ready.iter_mut().zip(sources) {
        match source.0 {
            Kind::Fd(_) => {}
            // What has been read already is no longer in the descriptor, and what is may be a part.
            Kind::Link(_, link, limit) => {
                *is_ready = link.poll(limit, Some(std::time::Instant::now()));
            }
            Kind::Ring(ring) => *is_ready = ring.ready_to_get(),
        }
    }
    Ok((0..sources.len()).filter(|index| is_ready[*index]).collect())
}

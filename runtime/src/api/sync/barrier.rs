//! A place where processes wait for each other.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::handle::{Handle, Shared};
use crate::error::{Error, Kind as ErrorKind};
use crate::shm::heap::Kind;
use crate::shm::platform::Deadline;
use crate::shm::sync::barrier::Barrier as Machine;
use crate::shm::system::System;

/// A place where a number of parties wait until all of them are there, again and again.
///
/// # When a party is killed
/// If one that waits is killed, or the one that runs the action, the barrier breaks: within some 50 ms
/// all others get [`BrokenBarrier`] instead of waiting for ever, and so does everyone after, until
/// somebody calls [`reset`](Self::reset). One that is killed between two waits isn't missed, since a barrier
/// doesn't know who its parties are, only how many: wait with a [time-out](Self::wait_timeout).
///
/// # Examples
/// ```
/// use procession::sync::Barrier;
/// use procession::{Process, task};
///
/// #[task]
/// fn party(barrier: Barrier) -> usize {
///     // Load something; then begin at the same time as the others.
///     barrier.wait().unwrap()
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let barrier = Barrier::new(3)?;
/// let start = |_| Process::new(party, (barrier.clone(),)).start();
/// let others = (0..2).map(start).collect::<Result<Vec<_>, _>>()?;
/// let mut indices = vec![barrier.wait()?];
/// for other in others {
///     indices.push(other.join()?);
/// }
/// indices.sort();
/// assert_eq!(indices, [0, 1, 2]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Barrier {
    handle: Handle<Barrier>,
}

impl Shared for Barrier {
    type Machine = Machine<System>;
    const KIND: Kind = Kind::Barrier;
    const NAME: &'static str = "a barrier";
}

impl Barrier {
    /// A barrier for so many parties, from 1 to 1024.
    ///
    /// # Errors
    /// There are no parties, or too many; or there is no memory, or too many shared objects.
    pub fn new(parties: usize) -> Result<Self, Error> {
        let most = Machine::<System>::MOST_PARTIES;
        if !(1..=most).contains(&parties) {
            return Err(Error::usage(format!(
                "a barrier is for 1 to {most} parties, and not for {parties}"
            )));
        }
        let this = Self { handle: Handle::create(0)? };
        this.machine().init(parties as u32);
        Ok(this)
    }

    /// Waits until all parties do. Each gets another number, from 0; the last one to come has the
    /// greatest.
    ///
    /// # Errors
    /// The barrier is broken, or it breaks or is reset meanwhile.
    pub fn wait(&self) -> Result<usize, BrokenBarrier> {
        self.wait_with(|| ())
    }

    /// As [`wait`](Self::wait), at most for `timeout`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait); or not all have come in time. That breaks the barrier, for the others too.
    pub fn wait_timeout(&self, timeout: Duration) -> Result<usize, BrokenBarrier> {
        self.wait_until(Deadline::after::<System>(timeout), || ())
    }

    /// As [`wait`](Self::wait); the last one to come runs its `action` before any party goes on. Those of
    /// the others are not run.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    /// `action` does; that breaks the barrier.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let barrier = procession::sync::Barrier::new(1)?;
    /// let mut rounds = 0;
    /// barrier.wait_with(|| rounds += 1)?;
    /// assert_eq!(rounds, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_with(&self, action: impl FnOnce()) -> Result<usize, BrokenBarrier> {
        self.wait_until(Deadline::NEVER, action)
    }

    fn wait_until(
        &self,
        deadline: Deadline,
        action: impl FnOnce(),
    ) -> Result<usize, BrokenBarrier> {
        let index = self.machine().wait(deadline, action);
        index.map(|index| index as usize).map_err(|_| BrokenBarrier(()))
    }

    /// Breaks it: who waits, and everyone who comes before the next [`reset`](Self::reset), gets
    /// [`BrokenBarrier`].
    pub fn abort(&self) {
        self.machine().abort();
    }

    /// Begins anew, also when it was broken. Those who wait now get [`BrokenBarrier`].
    pub fn reset(&self) {
        self.machine().reset();
    }

    /// For how many it is.
    pub fn parties(&self) -> usize {
        self.machine().parties() as usize
    }

    /// How many wait at this moment.
    pub fn n_waiting(&self) -> usize {
        self.machine().n_waiting() as usize
    }

    /// Whether it is broken at this moment.
    pub fn is_broken(&self) -> bool {
        self.machine().is_broken()
    }

    fn machine(&self) -> &Machine<System> {
        self.handle.machine()
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("n_waiting", &self.n_waiting())
            .field("is_broken", &self.is_broken())
            .finish()
    }
}

/// A [`Barrier`] was broken: a party was late, was killed or panicked, or somebody has called
/// [`abort`](Barrier::abort) or [`reset`](Barrier::reset).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BrokenBarrier(());

const BROKEN: &str = "the barrier is broken: a party was late, was killed or panicked, or somebody has \
     aborted or reset it";

impl fmt::Display for BrokenBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BROKEN)
    }
}

impl std::error::Error for BrokenBarrier {}

/// So that `?` works in a function that returns this crate's error.
impl From<BrokenBarrier> for Error {
    fn from(_: BrokenBarrier) -> Self {
        Self::new(ErrorKind::Broken(BROKEN))
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn y2_a_time_out_a_panic_and_abort_break_it() {
        let barrier = Barrier::new(2).unwrap();
        let late = barrier.wait_timeout(Duration::from_millis(2)).unwrap_err();
        assert!(Error::from(late).to_string().contains("broken"));
        assert!(barrier.is_broken() && barrier.wait().is_err());
        barrier.reset();
        barrier.abort();
        assert!(barrier.is_broken() && barrier.n_waiting() == 0);
        let alone = Barrier::new(1).unwrap();
        let failed = catch_unwind(AssertUnwindSafe(|| alone.wait_with(|| panic!("on purpose"))));
        assert!(failed.is_err() && alone.is_broken());
        alone.reset();
        assert_eq!((alone.wait(), alone.parties()), (Ok(0), 1));
    }

    #[test]
    fn no_parties_and_too_many_are_errors() {
        for parties in [0, 1025, usize::MAX] {
            let error = Barrier::new(parties).unwrap_err().to_string();
            assert!(error.contains("1 to 1024 parties"), "{error}");
        }
        assert_eq!(Barrier::new(1024).unwrap().parties(), 1024);
    }
}

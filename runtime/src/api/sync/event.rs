//! A flag to wait for.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::handle::{Handle, Shared};
use crate::error::Error;
use crate::shm::heap::Kind;
use crate::shm::platform::Deadline;
use crate::shm::sync::event::Event as Machine;
use crate::shm::system::System;

/// A flag that processes set, clear and wait for.
///
/// What a process did before it set the flag is seen by those who see it set. Everyone who waits when it
/// is set is released, also if it is cleared at once.
///
/// # When a process is killed
/// Nothing: it has set or cleared the flag, or it hasn't. That the one who should set it has died is not
/// told; wait with a time-out, or [`wait`](crate::wait) for the process as well.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use procession::sync::Event;
/// use procession::{Process, task};
///
/// #[task]
/// fn runner(ready: Event, start: Event) -> bool {
///     ready.set();
///     start.wait_timeout(Duration::from_secs(60))
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let (ready, start) = (Event::new()?, Event::new()?);
/// let process = Process::new(runner, (ready.clone(), start.clone())).start()?;
/// ready.wait();
/// start.set();
/// assert!(process.join()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Serialize, Deserialize)]
pub struct Event {
    handle: Handle<Event>,
}

impl Shared for Event {
    type Machine = Machine<System>;
    const KIND: Kind = Kind::Event;
    const NAME: &'static str = "an event";
}

impl Event {
    /// An event that isn't set.
    ///
    /// # Errors
    /// There is no memory, or there are too many shared objects.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { handle: Handle::create(0)? })
    }

    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        self.machine().is_set()
    }

    /// Sets it, and releases all who wait. Setting it again is fine.
    pub fn set(&self) {
        self.machine().set();
    }

    /// Clears it: who comes from now on waits.
    pub fn clear(&self) {
        self.machine().clear();
    }

    /// Waits until it is set; not at all if it is.
    pub fn wait(&self) {
        self.machine().wait(Deadline::NEVER);
    }

    /// As [`wait`](Self::wait), at most for `timeout`. False: it wasn't set in time.
    #[must_use = "it may not have been set"]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.machine().wait(Deadline::after::<System>(timeout))
    }

    fn machine(&self) -> &Machine<System> {
        self.handle.machine()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("is_set", &self.is_set()).finish()
    }
}

//! A flag that many processes wait for.

use std::time::Duration;

use super::builtin::{builtin, deadline};
use crate::manage::class::Failure;
use crate::manage::waiting::Awaited;

/// The flag, in the server.
pub(super) struct Flag(Awaited<bool>);

impl From<()> for Flag {
    fn from((): ()) -> Self {
        Self(Awaited::new(false))
    }
}

fn is_set_until(event: &Flag, limit: Option<Duration>) -> bool {
    event.0.wait_until(deadline(limit), |is_set| is_set.then_some(())).is_some()
}

builtin! {
    /// A flag that a [`Manager`](crate::Manager) owns, and that processes wait for.
    ///
    /// Within one family of processes [`sync::Event`](crate::sync::Event) is faster by far.
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let go = manager.event()?;
    /// assert!(!go.is_set()?);
    /// go.set()?;
    /// go.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub struct Event<>, EventBatch of Flag
    where [];

    /// Sets it: all who wait go on, and nobody waits until it is cleared.
    shared fn set(event) -> () {
        *event.0.lock() = true;
        event.0.changed_for_all();
    }

    /// Clears it.
    shared fn clear(event) -> () {
        *event.0.lock() = false;
    }

    /// Whether it is set.
    shared fn is_set(event) -> bool {
        *event.0.lock()
    }

    /// Waits until it is set.
    shared fn wait(event) -> () {
        if !is_set_until(event, None) {
            return Err(Failure::Abandoned);
        }
    }

    /// Waits so long until it is set. False: it isn't.
    shared fn wait_timeout(event, limit: Duration) -> bool {
        is_set_until(event, Some(limit))
    }
}

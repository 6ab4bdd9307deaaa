//! A flag that many processes wait for.

use std::time::Duration;

use super::builtin::{builtin, deadline};
use crate::manage::class::Failure;
use crate::manage::waiting::Awaited;

/// The flag, in the server.
pub(super) struct Flag(Awaited<State>);

#[derive(Default)]
struct State {
    is_set: bool,
    /// How often it was set: who waits and runs only when it is clear again sees by this that it may go on.
    sets: u64,
}

impl From<()> for Flag {
    fn from((): ()) -> Self {
        Self(Awaited::default())
    }
}

fn is_set_until(event: &Flag, limit: Option<Duration>) -> bool {
    let before = event.0.lock().sets;
    let may_go = |state: &mut State| (state.is_set || state.sets != before).then_some(());
    event.0.wait_until(deadline(limit), may_go).is_some()
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

    /// Sets it: all who wait go on, even if it is cleared at once, and nobody waits until it is cleared.
    shared fn set(event) -> () {
        let mut state = event.0.lock();
        state.is_set = true;
        state.sets += 1;
        drop(state);
        event.0.changed_for_all();
    }

    /// Clears it.
    shared fn clear(event) -> () {
        event.0.lock().is_set = false;
    }

    /// Whether it is set.
    shared fn is_set(event) -> bool {
        event.0.lock().is_set
    }

    /// Waits until it is set, or has been meanwhile.
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

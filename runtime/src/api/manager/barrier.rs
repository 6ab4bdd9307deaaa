//! Barriers in a server.

use std::mem;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::builtin::{builtin, deadline};
use crate::manage::waiting::Awaited;

/// A barrier, in the server.
pub(super) struct Gate {
    state: Awaited<State>,
    parties: usize,
}

#[derive(Default)]
struct State {
    waiting: usize,
    /// What those who wait now wait for: whether all came. It is set once, and then others wait for another.
    round: Arc<OnceLock<bool>>,
    is_broken: bool,
}

impl State {
    /// Ends the round.
    fn end(&mut self, all_came: bool) {
        self.waiting = 0;
        let _ = mem::take(&mut self.round).set(all_came);
    }
}

impl From<usize> for Gate {
    fn from(parties: usize) -> Self {
        Self { state: Awaited::new(State::default()), parties }
    }
}

impl Gate {
    /// Waits for the others, until a time. None: one of them didn't come.
    fn come(&self, limit: Option<Duration>) -> Option<usize> {
        let mut state = self.state.lock();
        if state.is_broken {
            return None;
        }
        let index = state.waiting;
        state.waiting += 1;
        if state.waiting == self.parties {
            state.end(true);
            drop(state);
            self.state.changed_for_all();
            return Some(index);
        }
        let round = Arc::clone(&state.round);
        drop(state);
        let ended = self.state.wait_until(deadline(limit), |_| round.get().copied());
        if ended.is_none() {
            self.abandon(&round);
        }
        round.get().is_some_and(|all_came| *all_came).then_some(index)
    }

    /// Who gives up, or has died, breaks it for all, unless all had come before.
    fn abandon(&self, round: &OnceLock<bool>) {
        let mut state = self.state.lock();
        if round.get().is_none() {
            state.is_broken = true;
            state.end(false);
            drop(state);
            self.state.changed_for_all();
        }
    }

    fn end(&self, is_broken: bool) {
        let mut state = self.state.lock();
        state.is_broken = is_broken;
        if state.waiting > 0 {
            state.end(false);
        }
        drop(state);
        self.state.changed_for_all();
    }
}

builtin! {
    /// A barrier that a [`Manager`](crate::Manager) owns: so many wait until all have come.
    ///
    /// One that gives up, or whose process dies, breaks it for the others, until it is reset. Within one
    /// family of processes [`sync::Barrier`](crate::sync::Barrier) is faster by far.
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let barrier = manager.barrier(2)?;
    /// let indices = std::thread::scope(|scope| {
    ///     let other = scope.spawn(|| barrier.wait());
    ///     Ok::<_, procession::Error>([barrier.wait()?, other.join().unwrap()?])
    /// })?;
    /// assert!(indices == [Some(0), Some(1)] || indices == [Some(1), Some(0)]);
    /// # Ok(())
    /// # }
    /// ```
    pub struct Barrier<>, BarrierBatch of Gate
    where [];

    /// Waits for all others, and gives a number that no other of them has, from 0. None: it is broken.
    shared fn wait(barrier) -> Option<usize> {
        barrier.come(None)
    }

    /// As [`wait`](Barrier::wait); breaks it after this time.
    shared fn wait_timeout(barrier, limit: Duration) -> Option<usize> {
        barrier.come(Some(limit))
    }

    /// Breaks it: all who wait go on at once.
    shared fn abort(barrier) -> () {
        barrier.end(true);
    }

    /// Makes it as new. To those who wait it is broken.
    shared fn reset(barrier) -> () {
        barrier.end(false);
    }

    /// How many it waits for.
    shared fn parties(barrier) -> usize {
        barrier.parties
    }

    /// How many wait.
    shared fn n_waiting(barrier) -> usize {
        barrier.state.lock().waiting
    }

    /// Whether it is broken.
    shared fn is_broken(barrier) -> bool {
        barrier.state.lock().is_broken
    }
}

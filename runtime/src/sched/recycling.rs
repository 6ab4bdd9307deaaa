//! Which workers are replaced though they work: those that have become old, or large.
//!
//! ```text
//! SERVES ---too many tasks, too old, too much memory---> RETIRES ---what it has begun is done---> told to go
//!    |                                                      |
//!    +------------more memory than it may have--------------+---> killed, and the item that it runs is lost
//! ```
//!
//! Who retires is given nothing more, gives back what it hasn't begun, and leaves the boards that it takes part in:
//! a word in its page says so. One that doesn't look there only makes itself useful for longer. How many tasks a
//! worker may run is counted as they are given: [`Worker::allowance`](super::staff::Worker).
//!
//! Memory is looked at by the clock. Where none of this is asked for it costs nothing.

use std::time::Duration;

use super::core::Core;
use super::staff::Worker;
use crate::error::{Limit, LimitBreach};
use crate::os::{clock, usage};

/// How often the memory of a worker is looked at that has something to do, and of one that hasn't, in nanoseconds.
const LOOK: u64 = 50_000_000;
const IDLE_LOOK: u64 = 250_000_000;

/// When a pool's workers are replaced, but for the number of their tasks.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Recycling {
    pub(crate) max_age: Option<Duration>,
    /// Bytes of its own memory above which a worker is replaced.
    pub(crate) max_memory: Option<u64>,
    /// Those above which it is killed.
    pub(crate) most_memory: Option<u64>,
}

impl Recycling {
    /// Whether a worker may have to go though nothing has come from it.
    pub(super) fn is_some(&self) -> bool {
        self.max_age.is_some() || self.looks()
    }

    fn looks(&self) -> bool {
        self.max_memory.is_some() || self.most_memory.is_some()
    }
}

/// What is known of a worker for this.
#[derive(Debug)]
pub(super) struct Life {
    /// When it was started.
    pub(super) born: u64,
    /// When its memory is looked at next.
    look_at: u64,
    pub(super) retires: bool,
}

impl Life {
    pub(super) fn new(now: u64) -> Self {
        Self { born: now, look_at: now.saturating_add(LOOK), retires: false }
    }
}

impl Worker {
    /// It is given so many items more, or back.
    pub(super) fn allow(&mut self, items: usize) {
        if !self.life.retires {
            self.allowance = self.allowance.saturating_add(items);
        }
    }

    /// When there is something to do here, if nothing comes from it.
    pub(super) fn recycle_at(&self, recycling: &Recycling) -> Option<u64> {
        let Life { born, look_at, retires } = self.life;
        let old_at = |age: &Duration| born.saturating_add(clock::nanos_of(*age));
        let old_at = recycling.max_age.as_ref().filter(|_| !retires).map(old_at);
        [old_at, recycling.looks().then_some(look_at)].into_iter().flatten().min()
    }

    /// The memory of its own that it has, in bytes, when it is time to look.
    fn memory(&mut self, now: u64) -> Option<u64> {
        if self.life.look_at > now {
            return None;
        }
        let pause = if self.has_nothing() { IDLE_LOOK } else { LOOK };
        self.life.look_at = now.saturating_add(pause);
        usage::private_memory(self.pid)
    }
}

impl Core {
    /// Sees to a worker's age and size. True: it goes, now or when it has done what it has begun.
    pub(super) fn recycle(&mut self, id: u64, now: u64) -> bool {
        let recycling = self.plan.recycling;
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.serves()) else {
            return false;
        };
        let bytes = if recycling.looks() { worker.memory(now) } else { None };
        let is_above = |most: Option<u64>| bytes.zip(most).filter(|(bytes, most)| bytes > most);
        if let Some((used, value)) = is_above(recycling.most_memory) {
            worker.breach = Some(LimitBreach { limit: Limit::Resident, value, used: Some(used) });
            worker.kill(None);
            return true;
        }
        let age = Duration::from_nanos(now.saturating_sub(worker.life.born));
        let is_old = recycling.max_age.is_some_and(|most| age >= most);
        if worker.life.retires || !is_old && is_above(recycling.max_memory).is_none() {
            return false;
        }
        self.retire(id);
        true
    }

    /// Has a worker go when it has done what it has begun.
    fn retire(&mut self, id: u64) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.life.retires = true;
        worker.allowance = 0;
        worker.page.orders.leave();
        let runs = worker.take_back();
        let boards: Vec<u64> = worker.parts.iter().map(|part| part.board).collect();
        self.put_back(runs);
        for board in boards {
            self.cut(id, board, |_| 0);
        }
    }
}

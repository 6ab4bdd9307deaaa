//! What a pool and its workers have done.

use std::time::Duration;

use super::core::Core;
use super::staff::Worker;
use crate::error::{Error, Usage};
use crate::os::{clock, usage};

/// What a pool has done: see [`Pool::stats`](crate::Pool::stats).
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct PoolStats {
    /// How many tasks have ended, well or with an error of their own, in all workers that there ever were. As far
    /// as has come here: a worker tells of tiny ones together.
    pub tasks: u64,
    /// How many workers have died, or were killed.
    pub lost: u64,
    /// How many were replaced because they had done enough, or were too old or too large; also those that were
    /// sent home at the end.
    pub retired: u64,
    /// The workers that there are.
    pub workers: Vec<WorkerStats>,
}

/// What a worker has done.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct WorkerStats {
    /// Its process id.
    pub pid: u32,
    /// How many tasks have ended in it.
    pub tasks: u64,
    /// For how long it has been there.
    pub age: Duration,
    /// What it has used, as the system shows it.
    pub usage: Usage,
    /// The last error of a task in it: those that end a worker end its statistics, too.
    pub last_error: Option<Error>,
}

/// What is left of the workers that have gone.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Totals {
    tasks: u64,
    lost: u64,
    retired: u64,
}

impl Totals {
    /// A worker has gone.
    pub(super) fn add(&mut self, worker: &Worker) {
        self.tasks += worker.record.answers();
        self.lost += u64::from(!worker.was_dismissed);
        self.retired += u64::from(worker.was_dismissed);
    }
}

impl Core {
    /// What this process knows. What the system knows is still to be asked: [`PoolStats::complete`].
    pub(super) fn stats(&self) -> PoolStats {
        let now = clock::nanos();
        let workers = self.workers.values().map(|worker| WorkerStats {
            pid: worker.pid,
            tasks: worker.record.answers(),
            age: Duration::from_nanos(now.saturating_sub(worker.life.born)),
            usage: Usage::default(),
            last_error: worker.last_error.clone(),
        });
        let workers: Vec<_> = workers.collect();
        let Totals { tasks, lost, retired } = self.totals;
        let tasks = tasks + workers.iter().map(|worker| worker.tasks).sum::<u64>();
        PoolStats { tasks, lost, retired, workers }
    }
}

impl PoolStats {
    /// Asks the system for what it knows of the workers.
    pub(super) fn complete(mut self) -> Self {
        for worker in &mut self.workers {
            worker.usage = usage::of(worker.pid).unwrap_or_default();
        }
        self
    }
}

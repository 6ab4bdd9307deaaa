//! Items that had better end, and are told so: the task sees it, if it looks. Those that nobody wants any more,
//! and those that have run for longer than their soft limit.

use std::collections::BTreeMap;

use super::core::Core;
use super::queue::JobKey;
use super::spec::Spec;
use super::staff::Worker;
use crate::os::clock;

/// The soft limits of open jobs, and how many have each, in nanoseconds. Mostly none has one.
#[derive(Default)]
pub(super) struct SoftLimits(BTreeMap<u64, usize>);

impl SoftLimits {
    pub(super) fn come(&mut self, spec: &Spec) {
        if let Some(limit) = spec.soft_limit {
            *self.0.entry(clock::nanos_of(limit)).or_default() += 1;
        }
    }

    pub(super) fn go(&mut self, spec: &Spec) {
        let Some(limit) = spec.soft_limit.map(clock::nanos_of) else { return };
        if let Some(count) = self.0.get_mut(&limit) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&limit);
            }
        }
    }

    fn shortest(&self) -> Option<u64> {
        self.0.first_key_value().map(|(limit, _)| *limit)
    }

    pub(super) fn are_there(&self) -> bool {
        !self.0.is_empty()
    }
}

/// An item that a worker has begun.
struct Begun {
    key: JobKey,
    item: u32,
    since: Option<u64>,
    name: Name,
}

/// What the worker knows it by.
#[derive(Clone, Copy)]
enum Name {
    Held(u64),
    Sent(u64),
}

impl Worker {
    /// Tells it that this item had better end. False: it was told before.
    fn warn(&self, name: Name) -> bool {
        match name {
            Name::Held(mark) => self.page.orders.stop_held(mark),
            Name::Sent(item) => self.page.orders.stop_sent(item),
        }
    }

    fn is_warned(&self, name: Name) -> bool {
        match name {
            Name::Held(mark) => self.page.orders.stops_held(mark),
            Name::Sent(item) => self.page.orders.stops_sent(item),
        }
    }
}

impl Core {
    /// What a worker is at, by its own account.
    fn begun(&self, worker: &Worker) -> Option<Begun> {
        if let Some(running) = worker.page.hand.running() {
            let key = self.boards.get(&running.work)?.key;
            let name = Name::Held(running.mark());
            return Some(Begun { key, item: running.item, since: running.since, name });
        }
        let position = worker.ledger.running(worker.page.claim.current());
        let (key, item, _) = worker.ledger.at(position)?;
        let since = worker.page.claim.start_of(position);
        Some(Begun { key, item, since, name: Name::Sent(position.pack()) })
    }

    /// Nobody wants the items of a job any more, from an index on.
    pub(super) fn warn_all(&self, key: JobKey, from: u32) {
        for worker in self.workers.values() {
            if let Some(begun) = self.begun(worker)
                && begun.key == key
                && begun.item >= from
            {
                worker.warn(begun.name);
            }
        }
    }

    /// The workers that have begun something of a job.
    pub(super) fn all_at(&self, key: JobKey) -> Vec<u64> {
        let is_at = |worker: &Worker| self.begun(worker).is_some_and(|begun| begun.key == key);
        self.workers.iter().filter(|(_, worker)| is_at(worker)).map(|(id, _)| *id).collect()
    }

    /// Tells a worker if its item has run for too long.
    pub(super) fn warn_late(&mut self, id: u64, now: u64) {
        if self.warn_at(id, now).is_none_or(|at| at > now) {
            return;
        }
        let Some(worker) = self.workers.get(&id) else { return };
        if let Some(begun) = self.begun(worker) {
            worker.warn(begun.name);
        }
    }

    /// When a worker is to be told something, or to be looked at for that.
    pub(super) fn warn_at(&self, id: u64, now: u64) -> Option<u64> {
        let shortest = self.soft_limits.shortest()?;
        let worker = self.workers.get(&id).filter(|worker| !worker.has_nothing())?;
        // At least a millisecond, so that a limit of zero is no busy loop.
        let later = now.saturating_add(shortest.max(1_000_000));
        let Some(begun) = self.begun(worker) else { return Some(later) };
        let spec = self.jobs.look(begun.key).map(|work| &work.job.spec);
        let limit = spec.and_then(|spec| spec.soft_limit).map(clock::nanos_of);
        match limit.zip(begun.since) {
            Some((limit, since)) if !worker.is_warned(begun.name) => {
                Some(since.saturating_add(limit))
            }
            _ => Some(later),
        }
    }
}

//! The open jobs of a pool, and the order in which those with pending items are served.

use std::collections::{BTreeMap, VecDeque};

use super::job::Work;

/// Names an open job; the name of one that is done is never given again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct JobKey {
    pub(super) slot: usize,
    /// Never 0.
    pub(super) serial: u64,
}

impl JobKey {
    /// Whether it was submitted earlier.
    pub(super) fn is_before(self, other: Self) -> bool {
        self.serial < other.serial
    }

    #[cfg(test)]
    pub(super) const fn for_test(number: u64) -> Self {
        Self { slot: number as usize, serial: number }
    }
}

/// All open jobs.
#[derive(Default)]
pub(super) struct Jobs {
    slots: Vec<Option<(u64, Box<Work>)>>,
    free: Vec<usize>,
    open: usize,
    last_serial: u64,
    /// Keys by priority, first come first served; may name jobs that are done or have nothing pending.
    ready: BTreeMap<i32, VecDeque<JobKey>>,
}

impl Jobs {
    /// Takes a job on, to be served in its turn once it is [waiting](Self::wait).
    pub(super) fn insert(&mut self, work: Box<Work>) -> JobKey {
        self.last_serial += 1;
        let serial = self.last_serial;
        self.open += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let key = JobKey { slot, serial };
        work.job.set_key(key);
        self.slots[slot] = Some((serial, work));
        key
    }

    /// A job, if it is open.
    pub(super) fn look(&self, key: JobKey) -> Option<&Work> {
        let (serial, work) = self.slots.get(key.slot)?.as_ref()?;
        (*serial == key.serial).then_some(&**work)
    }

    /// Puts a job behind its equals, if something of it is pending.
    pub(super) fn wait(&mut self, key: JobKey) {
        let Some(work) = self.get(key).filter(|work| work.has_pending()) else { return };
        let priority = work.job.spec.priority;
        self.ready.entry(priority).or_default().push_back(key);
    }

    pub(super) fn get(&mut self, key: JobKey) -> Option<&mut Work> {
        self.slots[key.slot]
            .as_mut()
            .filter(|(serial, _)| *serial == key.serial)
            .map(|(_, work)| &mut **work)
    }

    pub(super) fn remove(&mut self, key: JobKey) -> Option<Box<Work>> {
        self.get(key)?;
        self.open -= 1;
        self.free.push(key.slot);
        self.slots[key.slot].take().map(|(_, work)| work)
    }

    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// All open jobs' keys.
    pub(super) fn keys(&self) -> Vec<JobKey> {
        let open = self.slots.iter().enumerate();
        open.filter_map(|(slot, work)| {
            work.as_ref().map(|(serial, _)| JobKey { slot, serial: *serial })
        })
        .collect()
    }

    /// The job to serve next.
    pub(super) fn first(&mut self) -> Option<JobKey> {
        loop {
            let entry = self.ready.last_entry()?;
            let Some(key) = entry.get().front().copied() else {
                entry.remove();
                continue;
            };
            if self.get(key).is_some_and(|work| work.has_pending()) {
                return Some(key);
            }
            let mut entry = self.ready.last_entry()?;
            entry.get_mut().pop_front();
        }
    }

    /// Serves a job first among its equals: some of its items have come back.
    pub(super) fn serve_first(&mut self, key: JobKey) {
        let Some(work) = self.get(key) else { return };
        let priority = work.job.spec.priority;
        let queue = self.ready.entry(priority).or_default();
        if queue.front() != Some(&key) {
            queue.push_front(key);
        }
    }
}

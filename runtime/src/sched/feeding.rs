//! Giving work out: which worker gets which items, and when they are sent.
//!
//! The least loaded worker is served first. It holds two chunks, the one that it runs and the next. What
//! a worker holds and hasn't begun is no one's yet: it is taken back for one that has nothing to do.

use super::chunk::{BYTES, TARGET};
use super::core::{Core, State};
use super::queue::JobKey;
use super::staff::{LEAVE_LIMIT, Phase, Worker};
use crate::os::clock;
use crate::os::epoll::{Epoll, Interest};
use crate::transport::hello::Role;

/// At most this many runs with one worker: more don't make it faster, and can't be served elsewhere.
const ENTRIES: usize = 1024;

/// Calls that go to one worker in a row, where the least loaded has so many at hand already.
const IN_A_ROW: u32 = 32;
const ENOUGH: usize = 64;

impl Core {
    /// Gives pending items to workers that have room, the least loaded first, and sends them.
    pub(super) fn feed(&mut self, epoll: &Epoll) {
        self.is_calm = false;
        self.has_answers = false;
        self.favourite = None;
        self.renumber();
        loop {
            self.invite();
            self.hand_out();
            self.level_boards();
            self.hand_out();
            self.level();
            self.dismiss(epoll);
            if !self.flush(epoll) {
                break;
            }
        }
    }

    /// Gives pending items to workers that have room, the least loaded first.
    fn hand_out(&mut self) {
        while let Some(key) = self.jobs.first() {
            if self.has_to_wait(key) {
                return;
            }
            let Some(id) = self.least_loaded(key, &[]) else { return };
            self.give(key, id, usize::MAX);
        }
    }

    /// Begins a new epoch with workers that have used up the numbers of theirs.
    pub(super) fn renumber(&mut self) {
        let full = |worker: &Worker| worker.serves() && worker.ledger.room() == 0;
        let ids: Vec<u64> =
            self.workers.iter().filter(|(_, worker)| full(worker)).map(|(id, _)| *id).collect();
        for id in ids {
            let runs = self.workers.get_mut(&id).expect("the key is from the map").take_back();
            self.put_back(runs);
        }
    }

    /// Gives at most so many items of a job to a worker.
    pub(super) fn give(&mut self, key: JobKey, id: u64, most: usize) {
        let workers = self.workers.len();
        let worker = self.workers.get_mut(&id).expect("the worker was just found");
        let work = self.jobs.get(key).expect("the job was just found");
        let spec = &work.job.spec;
        let pace = self.paces.get(&spec.callee);
        let (count, bytes) = match spec.chunk {
            Some(forced) => (forced, usize::MAX),
            None => (pace.chunk(work.pending(), workers), BYTES),
        };
        let count = count.min(most).min(worker.allowance).min(worker.ledger.room() as usize);
        if let Some(items) = work.take(count, bytes) {
            worker.give(key, work, items, pace);
        }
    }

    /// The worker to be given something next: one with nothing, or with less than two chunks. One whose
    /// socket is full must read first what it was sent, also when all of that has been taken back.
    pub(super) fn least_loaded(&mut self, key: JobKey, except: &[u64]) -> Option<u64> {
        let priority = self.jobs.get(key).map_or(0, |work| work.job.spec.priority);
        let mut best: Option<(u64, (u64, bool, bool, bool))> = None;
        for (id, worker) in &self.workers {
            let is_engaged = || self.is_engaged(worker, key, priority);
            if !has_room(worker) || except.contains(id) || is_engaged() {
                continue;
            }
            // Who claims items from a board comes after who has nothing to do; of these, one that may still
            // be awake comes first. Who isn't ready yet comes after those who are.
            let is_late = worker.phase != Phase::Ready;
            let takes_part = !worker.parts.is_empty();
            let rank = (worker.ledger.load(), is_late, takes_part, worker.permit.is_none());
            if best.is_none_or(|(_, least)| rank < least) {
                best = Some((*id, rank));
            }
        }
        best.map(|(id, _)| id)
    }

    /// While a worker has nothing to do and nothing is pending: takes back what another one, which is
    /// busy or not ready yet, hasn't begun. It goes to other workers first, and not more than half of it
    /// at once: what merely changed its place would be taken back again.
    pub(super) fn level(&mut self) {
        let mut asked = Vec::new();
        while self.jobs.first().is_none() && self.workers.values().any(Worker::is_idle) {
            let mut holder: Option<(u64, u64)> = None;
            for (id, worker) in &self.workers {
                // Who is at an item of a board has begun nothing of what it was sent.
                let is_elsewhere = !worker.parts.is_empty() && worker.page.hand.running().is_some();
                let begun = usize::from(worker.is_at_work() && !is_elsewhere);
                let spare = worker.ledger.items() > begun;
                if spare && !asked.contains(id) && worker.phase != Phase::Doomed {
                    let load = worker.ledger.load();
                    if holder.is_none_or(|(_, most)| load > most) {
                        holder = Some((*id, load));
                    }
                }
            }
            let Some((id, _)) = holder else { return };
            asked.push(id);
            let runs = self.workers.get_mut(&id).expect("the worker was just found").take_back();
            self.put_back(runs);
            while let Some(key) = self.jobs.first() {
                let id = self.least_loaded(key, &asked).or_else(|| self.least_loaded(key, &[]));
                let Some(id) = id else { break };
                let half = self.jobs.get(key).map_or(1, |work| work.pending().div_ceil(2));
                self.give(key, id, half);
            }
        }
    }

    /// Sends home workers that may take no more items, and all of them when the work of a closed pool
    /// is done.
    pub(super) fn dismiss(&mut self, epoll: &Epoll) {
        if self.plan.role != Role::Pool {
            return;
        }
        let all = matches!(self.state, State::Closed) && self.jobs.open() == 0;
        let until = clock::nanos() + LEAVE_LIMIT;
        let mut dismissed = false;
        for worker in self.workers.values_mut().filter(|worker| worker.serves()) {
            if worker.has_nothing() && (all || worker.allowance == 0) {
                worker.queue_exit();
                worker.phase = Phase::Leaving { until };
                worker.was_dismissed = true;
                dismissed = true;
            }
        }
        if dismissed && !all {
            self.hire(epoll);
        }
    }

    /// Sends what can be sent. True: a worker takes something again that couldn't before.
    pub(super) fn flush(&mut self, epoll: &Epoll) -> bool {
        self.has_unsent = false;
        let Self { workers, news, .. } = self;
        workers.iter_mut().fold(false, |any, (id, worker)| {
            let takes_again = flush(*id, worker, epoll);
            news.freed.append(&mut worker.end.take_freed());
            any | takes_again
        })
    }

    /// The short way of a single call, where it is the only one that waits and no worker claims items for
    /// itself: to a worker that has room, without a look at what others do. False: none has room.
    pub(super) fn give_at_once(&mut self, key: JobKey, epoll: &Epoll) -> bool {
        let Some(id) = self.favourite(key) else { return false };
        let peek_at = |worker: &Worker| worker.peek_at.filter(|_| worker.has_hidden_results());
        let dues = |worker: &Worker| (peek_at(worker), worker.shrink_at);
        let before = self.workers.get(&id).map(dues);
        self.give(key, id, 1);
        let worker = self.workers.get_mut(&id).expect("the worker was just found");
        flush(id, worker, epoll);
        self.news.freed.append(&mut worker.end.take_freed());
        let is_limited = worker.ledger.shortest_limit().is_some() || self.soft_limits.are_there();
        self.is_calm &= !is_limited && !worker.blocked && before == Some(dues(worker));
        true
    }

    /// The least loaded worker; some times in a row the same, where all have enough to do.
    fn favourite(&mut self, key: JobKey) -> Option<u64> {
        if let Some((id, left)) = self.favourite.take()
            && left > 0
            && let Some(worker) = self.workers.get(&id)
            && has_room(worker)
            && worker.ledger.items() >= ENOUGH
        {
            self.favourite = Some((id, left - 1));
            return Some(id);
        }
        let id = self.least_loaded(key, &[])?;
        let items = self.workers.get(&id).map_or(0, |worker| worker.ledger.items());
        self.favourite = (items >= ENOUGH).then_some((id, IN_A_ROW));
        Some(id)
    }
}

/// Whether a worker may be given something.
fn has_room(worker: &Worker) -> bool {
    let ledger = &worker.ledger;
    let can_take = worker.serves() && worker.open && !worker.blocked;
    let has_little =
        || ledger.items() < 2 || (ledger.load() < 2 * TARGET && ledger.entries() < ENTRIES);
    can_take && worker.allowance > 0 && ledger.room() > 0 && has_little()
}

/// Sends what can be sent. True: the worker takes something again, and couldn't before.
fn flush(id: u64, worker: &mut Worker, epoll: &Epoll) -> bool {
    if !worker.open {
        return false;
    }
    let blocked = worker.flush();
    if blocked == worker.blocked {
        return false;
    }
    worker.blocked = blocked;
    let for_room = worker.end.waits_for_room();
    if for_room != Interest::Read {
        let interest = if blocked { for_room } else { Interest::Read };
        let _ = epoll.change(worker.end.as_fd(), id, interest);
    }
    !blocked
}

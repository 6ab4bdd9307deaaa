//! What is due at a time: time limits, starts and departures that take too long, results that are
//! overdue, starts that are tried again. Whoever leads, or the supervisor, calls [`Core::tick`].

use std::time::Duration;

use super::core::Core;
use super::staff::Phase;
use crate::error::{Error, Kind as Cause};
use crate::os::epoll::Epoll;

/// What comes back for as long as a worker says so is looked at after a pause, in nanoseconds.
const A_MOMENT: u64 = 1_000_000;

/// Whether a worker waits for a decision that its parent never made is seen within this time, in nanoseconds,
/// if nothing else is due: it costs a wake a second.
const BETWEEN_LOOKS: u64 = 1_000_000_000;

impl Core {
    /// Does what is due: limits, overdue results, starts that are tried again.
    pub(super) fn tick(&mut self, now: u64, epoll: &Epoll) {
        let ids: Vec<u64> = self.workers.keys().copied().collect();
        let mut changed = false;
        for id in ids {
            changed |= self.tick_worker(id, now);
        }
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = None;
            self.news.staff_changed = true;
            self.hire(epoll);
            changed = true;
        }
        changed |= self.end_pauses(now);
        changed |= self.level_at.is_some_and(|at| at <= now);
        if changed {
            self.feed(epoll);
        }
    }

    pub(super) fn tick_worker(&mut self, id: u64, now: u64) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        match worker.phase {
            Phase::Starting { until } if until <= now => {
                // A process says that it is ready together with its result.
                if worker.end.look() {
                    self.take_in(id);
                    return true;
                }
                let limit = self.plan.start_limit;
                let text = format!(
                    "a worker (pid {}) took no task within {limit:?} of its start",
                    worker.pid
                );
                worker.kill(Some(Error::new(Cause::Start(text)).by_worker(worker.pid)));
                return true;
            }
            Phase::Leaving { until } if until <= now => {
                worker.kill(None);
                return true;
            }
            _ if worker.gone_by.is_some_and(|by| by <= now) => {
                let what = "an end of its results, without ending itself".to_owned();
                worker.kill(Some(Error::new(Cause::Protocol(what)).by_worker(worker.pid)));
                return true;
            }
            Phase::Doomed => {
                if worker.kill_at.take_if(|at| *at <= now).is_some() {
                    worker.kill(None);
                }
                return false;
            }
            _ => {}
        }
        let peeks = worker.peek_at.is_some_and(|at| at <= now);
        if worker.shrink(now) {
            self.news.freed.append(&mut worker.end.take_freed());
        }
        let changed = worker.peek(now);
        if changed {
            self.take_in(id);
        }
        if peeks {
            self.look_into_hand(id);
        }
        self.warn_late(id, now);
        changed | self.enforce(id, now) | self.look(id, now) | self.recycle(id, now)
    }

    /// Kills a worker whose item is too late, so that only this item can be hit: the worker can't
    /// begin another one once the rest has been taken back.
    pub(super) fn enforce(&mut self, id: u64, now: u64) -> bool {
        if let Some((limit, grace)) = self.condemn_late(id, now) {
            let worker = self.workers.get_mut(&id).expect("it was just looked at");
            let error = time_limit(limit).by_worker(worker.pid);
            worker.ask_to_end(error, grace);
            return true;
        }
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        let current = worker.page.claim.current();
        if worker.deadline(now).is_none_or(|at| at > now) {
            return false;
        }
        let running = worker.ledger.at(worker.ledger.running(current));
        let Some((key, _, Some(limit))) = running else { return false };
        let grace = self.jobs.look(key).map_or(Duration::ZERO, |work| work.job.spec.grace);
        if !worker.page.claim.take_back_after(current) {
            return false;
        }
        let runs = worker.ledger.take_back(current);
        let runs = worker.forgive(runs);
        worker.ask_to_end(time_limit(limit).by_worker(worker.pid), grace);
        self.put_back(runs);
        true
    }

    /// Kills a worker that is late whatever it says, and one that says what only its parent may.
    fn look(&mut self, id: u64, now: u64) -> bool {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.is_at_work()) else {
            return false;
        };
        if worker.page.hand.is_forged() {
            self.distrust(id, "a decision of its parent's".to_owned());
            return true;
        }
        if worker.look_at().is_none_or(|at| at > now) {
            return false;
        }
        let is_new = worker.end.look();
        self.take_in(id);
        self.look_into_hand(id);
        let Some(worker) = self.workers.get_mut(&id) else { return is_new };
        let Some(limit) = worker.is_silent(now) else { return is_new };
        let error = time_limit(limit);
        worker.kill(Some(error.by_worker(worker.pid)));
        worker.record.is_given_up = true;
        true
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub(super) fn next_tick(&self, now: u64) -> Option<u64> {
        let mut next =
            [self.restart_at, self.level_at, self.pauses.next()].into_iter().flatten().min();
        for (id, worker) in &self.workers {
            let by_phase = match worker.phase {
                Phase::Starting { until } | Phase::Leaving { until } => Some(until),
                Phase::Doomed => {
                    next = [next, worker.kill_at].into_iter().flatten().min();
                    continue;
                }
                _ => None,
            };
            let peek = worker.peek_at.filter(|_| worker.has_hidden_results());
            let limits = [worker.deadline(now), worker.late_at(now), worker.look_at()];
            // What has passed and is still there is looked at again: a worker can forge it.
            let of_items = limits.map(|at| Some(at?.max(now.saturating_add(A_MOMENT))));
            // What its hand says is to be looked at, also without a limit.
            let has_hand = !worker.parts.is_empty();
            let of_hand = has_hand.then(|| now.saturating_add(BETWEEN_LOOKS));
            let recycle = worker.recycle_at(&self.plan.recycling);
            let warn = self.warn_at(*id, now);
            let of_worker =
                [by_phase, worker.gone_by, worker.shrink_at, peek, of_hand, recycle, warn];
            next = of_worker.into_iter().chain(of_items).chain([next]).flatten().min();
        }
        next
    }
}

fn time_limit(limit: u64) -> Error {
    Error::new(Cause::TimeLimit { limit: Duration::from_nanos(limit), used: None })
}

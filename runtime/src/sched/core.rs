//! The state machine of a pool (and of a single process, which is a pool of one that is not replaced).
//!
//! ```text
//! OPEN ---close---> CLOSED ---work done---> workers told to go ---> empty
//!   |                 |
//!   +---terminate-----+---> OVER(why) ---> workers killed ---> empty
//!   +---workers die before working---> OVER(cause)
//! ```
//!
//! The file is long because these moves share one state, and whoever reads one must see the others.
//!
//! Everything here happens under the pool's lock, never blocks and calls no user code. Who holds the
//! lock, who waits, and who is told afterwards is [`crew`](super::crew)'s affair.
//!
//! The way of an item: [`submit`](Core::submit) puts it into the queue of jobs, `feeding.rs` gives it to a
//! worker, `answers.rs` settles it with the worker's answer. `turnover.rs` settles or puts back the items
//! of a worker that died, `deadlines.rs` does what is due at a time.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::process::ExitStatus;
use std::sync::Arc;
use std::task::Waker;

use super::arena::Arena;
use super::boards::Posting;
use super::chunk::Paces;
use super::crew::Identity;
use super::job::{Job, Work};
use super::ledger::Run;
use super::outcome::Answer;
use super::parts::Part;
use super::queue::{JobKey, Jobs};
use super::retrial::Pauses;
use super::spec::Bound;
use super::spin::{AtWork, Watches};
use super::staff::{Plan, Worker};
use super::stats::Totals;
use super::warning::SoftLimits;
use crate::error::{Account, Error, Kind as Cause};
use crate::os::epoll::Epoll;
use crate::os::memory::Shared;
use crate::shm::page::Page;
use crate::transport::Freed;
use crate::transport::hello::Role;
use crate::transport::message::Inputs;

pub(super) enum State {
    Open,
    Closed,
    Over(Error),
}

/// Who is told what, once the lock is released.
#[derive(Default)]
pub(super) struct News {
    pub(super) wakers: Vec<Waker>,
    /// Jobs that are done.
    pub(super) done: Vec<Arc<Job>>,
    /// What these had to work on.
    pub(super) inputs: Vec<Inputs>,
    /// Memory that is not in use any more: what other calls can use, and what is given back.
    pub(super) arenas: Vec<Arena>,
    pub(super) freed: Freed,
    /// Workers that were started, for the supervisor to watch.
    pub(super) started: Vec<Newcomer>,
    /// Processes that were reaped here, whose part in shared memory is to be taken back.
    pub(super) reaped: Vec<u32>,
    /// Whether a worker has become ready, whose end will be told early from now on.
    pub(super) is_ready: bool,
    /// Whether it was the one worker of a process that has gone.
    pub(super) is_over: bool,
    /// Whether a worker has gone or the pool has changed its state.
    pub(super) staff_changed: bool,
}

impl News {
    pub(super) fn is_empty(&self) -> bool {
        self.done.is_empty() && self.freed.is_empty() && self.can_wait()
    }

    /// Has long memory dropped when the lock is released.
    pub(super) fn free(&mut self, memory: Option<impl Send + 'static>) {
        self.freed.extend(memory.map(|memory| Box::new(memory) as Box<dyn Send>));
    }

    /// Whether there is nothing but freed memory, and jobs that are done, with nobody to be called for these, and
    /// nothing in them whose drop runs the user's code or takes its time.
    pub(super) fn can_wait(&self) -> bool {
        let Self {
            wakers,
            done,
            inputs,
            arenas,
            freed: _,
            started,
            reaped,
            is_ready,
            is_over,
            staff_changed,
        } = self;
        let are_empty =
            wakers.is_empty() && arenas.is_empty() && started.is_empty() && reaped.is_empty();
        let are_plain = || inputs.is_empty() && done.iter().all(|job| !job.is_urgent());
        are_empty && !is_ready && !is_over && !staff_changed && are_plain()
    }
}

/// A process that the supervisor is to watch.
pub(super) struct Newcomer {
    pub(super) worker: u64,
    pub(super) pid: u32,
    pub(super) pidfd: Arc<OwnedFd>,
    /// Where its end is seen early: a pool's alone.
    pub(super) page: Option<Arc<Shared<Page>>>,
}

/// A process that is still ending, of which all else is done.
pub(super) struct Corpse {
    pub(super) pidfd: Arc<OwnedFd>,
    pub(super) account: Account,
}

pub(super) struct Core {
    pub(super) plan: Plan,
    pub(super) state: State,
    pub(super) workers: BTreeMap<u64, Worker>,
    /// What of them can be looked at without the lock.
    pub(super) watches: Arc<Watches>,
    /// What is left of workers that were buried early.
    pub(super) corpses: BTreeMap<u64, Corpse>,
    pub(super) news: News,
    pub(super) jobs: Jobs,
    pub(super) paces: Paces,
    pub(super) next_worker: u64,
    /// Work that workers claim for themselves, by number.
    pub(super) boards: BTreeMap<u64, Posting>,
    pub(super) next_board: u64,
    /// Boards that a worker which has just died took part in.
    pub(super) to_leave: Vec<u64>,
    /// When to look whether somebody is stuck while others have nothing to do.
    pub(super) level_at: Option<u64>,
    /// How many open jobs call somebody back.
    pub(super) urgent_jobs: usize,
    /// The worker that is given single calls, and how many more of them.
    pub(super) favourite: Option<(u64, u32)>,
    /// Whether nothing has changed for a while but that single calls came and went, so that what was found
    /// out of what is due, and of whom to tell, still holds.
    pub(super) is_calm: bool,
    /// Whether something is in a queue, though nothing was given.
    pub(super) has_unsent: bool,
    /// Whether workers have answered since they were last fed.
    pub(super) has_answers: bool,
    pub(super) soft_limits: SoftLimits,
    /// The items that are to be tried again, and not yet.
    pub(super) pauses: Pauses,
    pub(super) early_deaths: u32,
    /// Whether a worker has ever been ready.
    pub(super) has_worked: bool,
    /// How many workers in a row have died with items at hand and none begun.
    pub(super) barren_deaths: u32,
    pub(super) restart_at: Option<u64>,
    /// Who is to be woken when no worker is left.
    pub(super) gone_waker: Option<Waker>,
    /// The first worker, which may have ended.
    pub(super) first_started: Option<Identity>,
    pub(super) totals: Totals,
    /// How the last worker ended.
    pub(super) last_status: Option<ExitStatus>,
}

impl Core {
    pub(super) fn new(plan: Plan) -> Self {
        Self {
            plan,
            state: State::Open,
            workers: BTreeMap::new(),
            watches: Arc::default(),
            corpses: BTreeMap::new(),
            news: News::default(),
            jobs: Jobs::default(),
            paces: Paces::default(),
            next_worker: 0,
            boards: BTreeMap::new(),
            next_board: 1,
            to_leave: Vec::new(),
            level_at: None,
            urgent_jobs: 0,
            favourite: None,
            is_calm: false,
            has_unsent: false,
            has_answers: false,
            soft_limits: SoftLimits::default(),
            pauses: Pauses::default(),
            early_deaths: 0,
            has_worked: false,
            barren_deaths: 0,
            restart_at: None,
            gone_waker: None,
            first_started: None,
            totals: Totals::default(),
            last_status: None,
        }
    }

    /// What is to be told; nothing then is.
    pub(super) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Takes a job on, or ends it at once where no work is taken. True: it is a single call that was given to a
    /// worker, or waits with others, without a look at all workers.
    pub(super) fn submit(
        &mut self,
        job: Arc<Job>,
        inputs: Inputs,
        failed: Vec<(u32, Error)>,
        arena: Option<Arena>,
        epoll: &Epoll,
    ) -> bool {
        let refusal = match &self.state {
            State::Open => None,
            State::Closed => Some(Error::new(Cause::Closed("the pool is closed"))),
            State::Over(why) => Some(why.clone()),
        };
        let work = Work::new(job, inputs, failed);
        if refusal.is_some() || work.is_settled() {
            self.news.arenas.extend(arena);
            let task = work.job.spec.task.clone();
            self.conclude(work, refusal.map(|why| why.of_task(&task)));
            return false;
        }
        let is_urgent = work.job.is_urgent();
        self.urgent_jobs += usize::from(is_urgent);
        // Who is called back waits for the supervisor to attend.
        self.is_calm &= !is_urgent;
        let is_single = work.items() == 1 && arena.is_none() && self.boards.is_empty();
        let waits = self.has_more();
        self.soft_limits.come(&work.job.spec);
        let key = self.jobs.insert(work);
        if is_single && !waits && self.give_at_once(key, epoll) {
            return true;
        }
        self.jobs.wait(key);
        if is_single && waits {
            // Nobody had room for those before it, either.
            return true;
        }
        if let Some(arena) = arena {
            self.post(key, arena);
        }
        self.feed(epoll);
        false
    }

    /// Ends a job before its time; `kill`: also the workers that have begun something of it. False: it was done
    /// already.
    pub(super) fn cancel(&mut self, job: &Arc<Job>, kill: bool, epoll: &Epoll) -> bool {
        let Some(key) = job.key() else { return false };
        if self.jobs.get(key).is_none() {
            return false;
        }
        let error = Error::new(Cause::Cancelled).of_task(&job.spec.task);
        let kills = if kill { self.all_at(key) } else { Vec::new() };
        self.warn_all(key, 0);
        self.end_job(key, Some(error));
        self.recall(key, 0);
        for id in kills {
            self.workers.get_mut(&id).into_iter().for_each(|worker| worker.kill(None));
        }
        self.feed(epoll);
        true
    }

    /// Whether no process is left, and none will come for work that is left.
    pub(super) fn is_deserted(&self) -> bool {
        let is_over = matches!(self.state, State::Over(_)) || self.jobs.open() == 0;
        self.workers.is_empty() && self.corpses.is_empty() && (is_over || self.restart_at.is_none())
    }

    /// Whether a worker may send something, or its end is seen here.
    pub(super) fn expects_something(&self) -> bool {
        let is_pool = self.plan.role == Role::Pool;
        let is_limited = self.plan.is_replacing();
        self.workers.values().any(|worker| {
            let is_over =
                |part: &Part| self.boards.get(&part.board).is_none_or(|posting| posting.is_over());
            // That it leaves a board which is done is no news, unless it may run no more then.
            let claims = is_limited || !worker.parts.iter().all(is_over);
            let owes = worker.ledger.items() > 0 || !worker.parts.is_empty() && claims;
            !is_pool || worker.open && (owes || worker.blocked || !worker.is_at_work())
        })
    }

    /// The workers that have something to do.
    pub(super) fn at_work(&self) -> AtWork {
        let mut busy = self.workers.iter().filter(|(_, worker)| !worker.has_nothing());
        let first = busy.next().map(|(id, _)| *id);
        let workers = usize::from(first.is_some()) + busy.count();
        AtWork { workers, only: first.filter(|_| workers == 1) }
    }

    /// Whether what arrives has to be seen at once: somebody is to be called back, or a worker is to be
    /// sent the rest.
    pub(super) fn is_urgent(&self) -> bool {
        self.plan.role != Role::Pool
            || self.urgent_jobs > 0
            || self.workers.values().any(|worker| worker.blocked)
    }

    /// Whether there is work for workers that run dry.
    pub(super) fn has_more(&mut self) -> bool {
        self.jobs.first().is_some()
    }

    /// Whether nothing is open and nothing queued, so that there is nobody to feed or to see off.
    pub(super) fn has_nothing_to_give(&self) -> bool {
        self.jobs.open() == 0
            && self.boards.is_empty()
            && !self.has_unsent
            && matches!(self.state, State::Open)
            && !self.plan.is_replacing()
    }

    pub(super) fn end_job(&mut self, key: JobKey, rest: Option<Error>) {
        if let Some(work) = self.jobs.remove(key) {
            self.urgent_jobs -= usize::from(work.job.is_urgent());
            self.soft_limits.go(&work.job.spec);
            if work.posted.is_some() {
                self.board_is_done(key, rest.is_none() && work.is_whole());
            }
            if let Some(bound) = work.job.spec.bound.as_ref().filter(|_| work.job.spec.bound_once) {
                self.workers.values_mut().for_each(|worker| worker.forget(bound.number));
                self.has_unsent = true;
            }
            self.conclude(work, rest);
        }
    }

    pub(super) fn forget(&mut self, bound: &Bound, epoll: &Epoll) {
        self.workers.values_mut().for_each(|worker| worker.forget(bound.number));
        self.flush(epoll);
    }

    pub(super) fn conclude(&mut self, work: Box<Work>, rest: Option<Error>) {
        self.news.staff_changed |= self.workers.is_empty();
        let (wakers, job, inputs, arena) = work.finish(rest);
        self.news.wakers.extend(wakers);
        self.news.arenas.extend(arena);
        self.news.done.push(job);
        if !inputs.is_trivial() {
            self.news.inputs.push(inputs);
        }
    }

    /// Settles an item and what follows from it.
    pub(super) fn settle(&mut self, key: JobKey, item: u32, answer: Answer<'_>) {
        let Some(work) = self.jobs.get(key) else { return };
        match answer {
            Answer::Failed(_) => {}
            Answer::Large(_, tail) if !work.is_open(item) => return self.news.free(Some(tail)),
            _ => self.news.free(work.let_go(item)),
        }
        let cut = work.settle(item, answer);
        if work.is_settled() {
            self.end_job(key, None);
        } else if cut {
            self.close_board(key);
        }
        if cut {
            self.warn_all(key, item + 1);
            self.recall(key, item + 1);
        }
    }

    /// Takes back the items of a job from an index on, from all workers to which some were sent.
    pub(super) fn recall(&mut self, key: JobKey, from: u32) {
        let ids: Vec<u64> = self.workers.keys().copied().collect();
        for id in ids {
            let worker = self.workers.get_mut(&id).expect("the key is from the map");
            if worker.ledger.runs().any(|run| run.job == key && run.items.end > from) {
                let runs = worker.take_back();
                self.put_back(runs);
            }
        }
    }

    pub(super) fn put_back(&mut self, runs: Vec<Run>) {
        for run in runs.into_iter().rev() {
            if let Some(work) = self.jobs.get(run.job) {
                work.put_back(run.items);
                self.jobs.serve_first(run.job);
            }
        }
    }

    /// Gives up: every open job fails with `why`, all workers are killed.
    pub(super) fn end(&mut self, why: Error) {
        if matches!(self.state, State::Over(_)) {
            return;
        }
        self.state = State::Over(why.clone());
        self.news.staff_changed = true;
        for key in self.jobs.keys() {
            let task =
                self.jobs.get(key).map(|work| work.job.spec.task.clone()).unwrap_or_default();
            self.end_job(key, Some(why.clone().of_task(&task)));
        }
        self.workers.values_mut().for_each(|worker| worker.kill(None));
        self.end_server();
    }

    pub(super) fn close(&mut self, epoll: &Epoll) {
        if matches!(self.state, State::Open) {
            self.state = State::Closed;
            self.news.staff_changed = true;
            self.feed(epoll);
        }
    }
}

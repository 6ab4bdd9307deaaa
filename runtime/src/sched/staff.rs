//! One worker as its parent sees it.
//!
//! ```text
//! STARTING ---ready---> INITIALIZING ---done---> READY ---told to go---> LEAVING ---> (reaped)
//!     |                      |                     |                        |
//!     +----------------------+---------------------+------------------------+--kill--> DOOMED ---> (reaped)
//! ```
//!
//! A worker without an initializer skips INITIALIZING. Items are sent in any state before LEAVING: they
//! wait on its way, and come back if the worker never gets to them. Only the pool's state machine
//! ([`core`](super::core)) moves a worker, always under the pool's lock; whoever sees its end first
//! reaps it, under the lock as well. One whose end is seen to begin is gone at once, in any state before
//! LEAVING and in DOOMED; only its pidfd is kept until the process that is left is reaped.

use std::collections::HashSet;
use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::libc;

use super::breaker::Breaker;
use super::chunk::Pace;
use super::forkserver::ForkServer;
use super::job::Work;
use super::ledger::{Ledger, Run, Terms};
use super::parts::Part;
use super::queue::JobKey;
use super::recycling::{Life, Recycling};
use super::silence::Record;
use super::spec::{Bound, Spec};
use super::spin::Permit;
use super::start::{Started, Surroundings};
use crate::error::{Error, LimitBreach};
use crate::os::limits::Kept;
use crate::os::memory::Shared;
use crate::os::{clock, wait};
use crate::shm::page::Page;
use crate::transport::ParentEnd;
use crate::transport::frame::{Header, Kind};
use crate::transport::hello::Role;
use crate::transport::message::{CalleeBytes, Inputs, Span, TaskHead};

/// What is settled when a pool or a process is made.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) workers: usize,
    pub(crate) initializer: Option<Task>,
    pub(crate) max_tasks: Option<usize>,
    pub(crate) recycling: Recycling,
    pub(crate) breaker: Option<Breaker>,
    /// How long a worker may take until it takes tasks, its initializer not counted.
    pub(crate) start_limit: std::time::Duration,
    pub(crate) surroundings: Surroundings,
    /// What the kernel is to keep each worker within.
    pub(crate) limits: Kept,
    /// What makes the workers; none: they are spawned.
    pub(crate) server: Option<Arc<ForkServer>>,
}

impl Plan {
    /// Whether workers are replaced though they work.
    pub(super) fn is_replacing(&self) -> bool {
        self.max_tasks.is_some() || self.recycling.is_some()
    }
}

/// A callable with its arguments.
pub(crate) struct Task {
    pub(crate) callee: CalleeBytes,
    pub(crate) name: String,
    pub(crate) bound: Option<Arc<Bound>>,
    pub(crate) arguments: Inputs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Until when it must be ready, on the monotonic clock.
    Starting {
        until: u64,
    },
    Initializing,
    Ready,
    /// Until when it must have gone.
    Leaving {
        until: u64,
    },
    Doomed,
}

pub(super) struct Worker {
    pub(super) pid: u32,
    pub(super) pidfd: Arc<OwnedFd>,
    pub(super) end: Box<dyn ParentEnd>,
    pub(super) page: Arc<Shared<Page>>,
    /// Whether it spins before it sleeps, and so is soon at work.
    pub(super) permit: Option<Permit>,
    pub(super) ledger: Ledger,
    /// The boards that it was told of and hasn't left.
    pub(super) parts: Vec<Part>,
    /// The board's item that it was at when somebody looked, and since when that is known.
    pub(super) at_work_on: Option<((u64, u32), u64)>,
    pub(super) phase: Phase,
    /// Why it was killed, or refused to serve: what its item's error will say.
    pub(super) doom: Option<Error>,
    /// The items that it may still be given.
    pub(super) allowance: usize,
    pub(super) life: Life,
    /// The limit that it has broken and was killed for, if it was.
    pub(super) breach: Option<LimitBreach>,
    /// The last of a task's own errors.
    pub(super) last_error: Option<Error>,
    /// When its outbox is looked into next, and how long after that.
    pub(super) peek_at: Option<u64>,
    pub(super) peek_delay: u64,
    /// When its outgoing memory is given back, if it has nothing to do then.
    pub(super) shrink_at: Option<u64>,
    /// The callable whose items it answered last, for its report of the time spent.
    pub(super) latest: Option<CalleeBytes>,
    /// Whether its socket is watched for room to write.
    pub(super) blocked: bool,
    /// Whether it ever got as far as taking tasks, or was told to go.
    pub(super) was_ready: bool,
    pub(super) was_dismissed: bool,
    /// Whether the thread that runs its tasks has ended, and it itself had not been seen to.
    pub(super) lost_its_thread: bool,
    pub(super) record: Record,
    /// When it is killed, if it hasn't done what it was asked to: to end.
    pub(super) kill_at: Option<u64>,
    /// When it is killed because its stream has ended, which it should not survive.
    pub(super) gone_by: Option<u64>,
    /// Calls of one callable that follow each other and leave as one frame: with the next flush.
    staged: Staged,
    /// How many items are staged or in its queue since the last flush.
    unsent: usize,
    /// Whether its stream can still bring something.
    pub(super) open: bool,
    bound: HashSet<u64>,
}

/// Tiny arguments of single calls, put together. Their number is 0 when there are none.
struct Staged {
    head: TaskHead,
    first: u32,
    bytes: Vec<u8>,
}

/// So many bytes are staged at most.
const STAGED: usize = 4 * 1024;

/// The first look into a silent worker's outbox, and the longest pause between two: a result is never
/// late by more than that, whatever slow item follows it in its chunk.
const FIRST_PEEK: u64 = 3_000_000;
const LONGEST_PEEK: u64 = 50_000_000;

/// How long a worker must have had nothing to do, at least, until memory is given back that only long
/// arguments need.
pub(super) const IDLE: u64 = 1_000_000_000;

/// How long a worker that was told to go may take before it is killed: exit handlers run.
pub(super) const LEAVE_LIMIT: u64 = 10_000_000_000;

/// Work for about as long as it takes the parent to wake and answer, at 300 ns for the tiniest call.
const AT_HAND: usize = 128;

impl Worker {
    pub(super) fn new(started: Started, plan: &Plan, now: u64) -> Self {
        let Started { pid, pidfd, end, page, permit } = started;
        let limit = clock::nanos_of(plan.start_limit);
        let until = now.saturating_add(limit);
        let mut worker = Self {
            pid,
            pidfd,
            end,
            page,
            permit,
            ledger: Ledger::default(),
            parts: Vec::new(),
            at_work_on: None,
            phase: Phase::Starting { until },
            doom: None,
            allowance: plan.max_tasks.unwrap_or(usize::MAX),
            life: Life::new(now),
            breach: None,
            last_error: None,
            peek_at: None,
            peek_delay: FIRST_PEEK,
            shrink_at: None,
            latest: None,
            blocked: false,
            was_ready: false,
            was_dismissed: false,
            lost_its_thread: false,
            record: Record::default(),
            kill_at: None,
            gone_by: None,
            staged: Staged { head: head(&[0; 17], None), first: 0, bytes: Vec::new() },
            unsent: 0,
            open: true,
            bound: HashSet::new(),
        };
        if let Some(task) = &plan.initializer {
            queue_task(&mut *worker.end, task);
            if let Some(bound) = &task.bound {
                worker.bound.insert(bound.number);
                worker.prepares();
            }
        }
        worker
    }

    /// Whether it will take more items some day.
    pub(super) fn serves(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. } | Phase::Initializing | Phase::Ready)
    }

    /// Whether it has got as far as taking tasks.
    pub(super) fn is_at_work(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Leaving { .. })
    }

    /// Puts items of a job into its queue; they leave with the next flush.
    pub(super) fn give(&mut self, key: JobKey, work: &Work, items: Range<u32>, pace: Pace) {
        let spec: &Spec = &work.job.spec;
        self.owes_from_now();
        self.queue_bound(spec.bound.as_deref(), &spec.callee);
        let at = self.ledger.next_position();
        let head = TaskHead {
            timed: spec.is_timed(),
            typed: spec.typed,
            epoch: at.epoch,
            ..head(&spec.callee, spec.bound.as_deref())
        };
        self.allowance -= items.len();
        self.unsent += items.len();
        let limit = spec.time_limit.map(clock::nanos_of);
        let cost = pace.cost(1);
        let mut rest = items;
        while !rest.is_empty() {
            let (end, attempt) = work.trials.end_of_attempt(rest.clone());
            let run = rest.start..work.inputs.end_of_frame(rest.start..end);
            let head = TaskHead { attempt, ..head };
            rest.start = run.end;
            let range = run.start as usize..run.end as usize;
            let number = self.ledger.next_position().number;
            let whole_at = if let Span::Few(bytes) = work.inputs.span(range.clone()) {
                self.stage(number, head, bytes);
                // Not before what follows has begun to leave.
                self.end.queued() + 1
            } else {
                self.unstage();
                queue_items(&mut *self.end, Kind::Tasks, number, head, &work.inputs, range);
                self.end.queued()
            };
            self.ledger.sent(Run { job: key, items: run }, Terms { cost, limit, whole_at });
        }
        if self.peek_at.is_none() && self.has_hidden_results() {
            self.look_from(clock::nanos());
        }
    }

    /// Adds an item to those that leave together.
    fn stage(&mut self, number: u32, head: TaskHead, item: &[u8]) {
        let staged = &self.staged;
        let count = staged.head.count;
        let follows = staged.first.checked_add(count) == Some(number)
            && staged.head == TaskHead { count, ..head }
            && staged.bytes.len() < STAGED;
        if count == 0 || !follows {
            self.unstage();
            self.staged.first = number;
            self.staged.head = head;
        }
        self.staged.head.count += 1;
        self.staged.bytes.extend_from_slice(item);
    }

    /// Puts what is staged into the queue, before anything else is.
    fn unstage(&mut self) {
        let Staged { head, first, bytes } = &mut self.staged;
        if head.count > 0 {
            let length = TaskHead::SIZE + bytes.len();
            self.end.queue(&Header::new(Kind::Tasks, *first, length).to_bytes());
            self.end.queue(&head.to_bytes());
            self.end.queue(bytes);
            head.count = 0;
            bytes.clear();
        }
    }

    /// Puts a frame into its queue.
    pub(super) fn queue(&mut self, kind: Kind, body: &[u8]) {
        self.unstage();
        self.end.queue(&Header::new(kind, 0, body.len()).to_bytes());
        self.end.queue(body);
    }

    /// Looks for results that it doesn't tell of, from now on.
    pub(super) fn look_from(&mut self, now: u64) {
        if self.peek_at.is_none() {
            self.peek_delay = FIRST_PEEK;
            self.peek_at = Some(now + FIRST_PEEK);
        }
    }

    /// Whether it may have results that it will tell of later.
    pub(super) fn has_hidden_results(&self) -> bool {
        self.ledger.items() + self.parts.len() > 1 || self.parts.iter().any(|part| part.reports)
    }

    /// Sends what can be sent, unless the worker has so much at hand that it will answer, and so have
    /// the rest sent, before it runs dry: many small calls share a system call that way. True: its
    /// socket is full.
    pub(super) fn flush(&mut self) -> bool {
        let at_hand = self.ledger.items().saturating_sub(self.unsent);
        if !self.blocked && at_hand >= AT_HAND && self.unsent < 2 * AT_HAND {
            return false;
        }
        self.unsent = 0;
        self.unstage();
        let flushed = self.end.flush();
        self.shrink_later();
        match flushed {
            Ok(all_sent) => !all_sent,
            // It is dying, and its death tells the rest.
            Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset) => false,
            // Out of memory for the socket: tried again with the next event.
            Err(_) => true,
        }
    }

    /// Takes back what it hasn't begun.
    pub(super) fn take_back(&mut self) -> Vec<Run> {
        let started = self.page.claim.take_back();
        let runs = self.ledger.take_back(started);
        self.forgive(runs)
    }

    /// Items that were taken back don't count as given.
    pub(super) fn forgive(&mut self, runs: Vec<Run>) -> Vec<Run> {
        let items: usize = runs.iter().map(|run| run.items.len()).sum();
        self.allow(items);
        runs
    }

    /// Takes in what waits in its outbox, if it has been silent for long. True: there was something.
    pub(super) fn peek(&mut self, now: u64) -> bool {
        if self.peek_at.is_none_or(|at| at > now) {
            return false;
        }
        self.peek_delay = (self.peek_delay * 2).min(LONGEST_PEEK);
        // A worker sends the result of its last item at once.
        self.peek_at = self.has_hidden_results().then_some(now + self.peek_delay);
        self.end.look()
    }

    /// Has memory given back when there was nothing to do for a while. True: nobody was to see to that yet.
    pub(super) fn shrink_later(&mut self) -> bool {
        let is_new = self.shrink_at.is_none() && self.end.is_grown();
        if is_new {
            self.shrink_at = Some(clock::nanos().saturating_add(IDLE));
        }
        is_new
    }

    /// Gives memory back when it is time to. True: it was.
    pub(super) fn shrink(&mut self, now: u64) -> bool {
        let is_time = self.shrink_at.take_if(|at| *at <= now).is_some();
        if is_time {
            if self.ledger.items() == 0 {
                self.end.shrink();
            }
            self.shrink_at = self.end.is_grown().then(|| now.saturating_add(IDLE));
        }
        is_time
    }

    /// When the item that it runs, or has not begun yet, may be late.
    pub(super) fn deadline(&self, now: u64) -> Option<u64> {
        let shortest = self.ledger.shortest_limit()?;
        let item = self.ledger.running(self.page.claim.current());
        let running = self
            .ledger
            .at(item)
            .and_then(|(_, _, limit)| Some(self.page.claim.start_of(item)?.saturating_add(limit?)));
        // An item that hasn't begun can't be late before its whole limit has passed from now.
        // At least a millisecond, so that a limit of zero is no busy loop.
        Some(running.unwrap_or(now.saturating_add(shortest.max(1_000_000))))
    }

    pub(super) fn queue_exit(&mut self) {
        self.queue(Kind::Exit, &[]);
    }

    /// Has it forget the bound arguments of a job that is done.
    pub(super) fn forget(&mut self, number: u64) {
        if self.bound.remove(&number) {
            self.queue(Kind::Forget, &number.to_le_bytes());
            self.prepares();
        }
    }

    pub(super) fn kill(&mut self, doom: Option<Error>) {
        self.phase = Phase::Doomed;
        self.doom = self.doom.take().or(doom);
        // The supervisor sees the death; a worker that is gone already is dead, too.
        let _ = wait::signal(self.pidfd.as_fd(), libc::SIGKILL);
    }

    /// Asks it to end, and kills it if it hasn't done so after a time.
    pub(super) fn ask_to_end(&mut self, doom: Error, grace: Duration) {
        if grace.is_zero() {
            return self.kill(Some(doom));
        }
        self.phase = Phase::Doomed;
        self.doom = self.doom.take().or(Some(doom));
        self.kill_at = Some(clock::nanos().saturating_add(clock::nanos_of(grace)));
        let _ = wait::signal(self.pidfd.as_fd(), libc::SIGTERM);
    }

    pub(super) fn queue_bound(&mut self, bound: Option<&Bound>, callee: &CalleeBytes) {
        if let Some(bound) = bound.filter(|bound| self.bound.insert(bound.number)) {
            self.unstage();
            queue_bound(&mut *self.end, bound, callee);
            self.prepares();
        }
    }
}

/// Puts a task that is to run once, before all others, into the queue.
pub(super) fn queue_task(end: &mut dyn ParentEnd, task: &Task) {
    if let Some(bound) = &task.bound {
        queue_bound(end, bound, &task.callee);
    }
    let items = 0..task.arguments.len();
    let head = head(&task.callee, task.bound.as_deref());
    queue_items(end, Kind::Init, 0, head, &task.arguments, items);
}

fn queue_bound(end: &mut dyn ParentEnd, bound: &Bound, callee: &CalleeBytes) {
    let length = 8 + callee.len() + bound.bytes.len();
    end.queue(&Header::new(Kind::Bind, 0, length).to_bytes());
    end.queue(&bound.number.to_le_bytes());
    end.queue(callee);
    end.queue_shared(&bound.bytes, 0..bound.bytes.len());
}

fn queue_items(
    end: &mut dyn ParentEnd,
    kind: Kind,
    number: u32,
    head: TaskHead,
    inputs: &Inputs,
    items: Range<usize>,
) {
    let head = TaskHead { count: items.len() as u32, ..head };
    let tail = inputs.tail(items.start);
    let span = inputs.span(items);
    let length = TaskHead::SIZE + span.len();
    let header = match tail {
        None => Header::new(kind, number, length),
        Some(tail) => Header::with_tail(kind, number, length, (**tail).as_ref().len()),
    };
    end.queue(&header.to_bytes());
    end.queue(&head.to_bytes());
    match span {
        Span::Shared(bytes, range) => end.queue_shared(bytes, range),
        span => end.queue(&span.bytes()),
    }
    if let Some(tail) = tail {
        end.queue_long(tail);
    }
}

fn head(callee: &CalleeBytes, bound: Option<&Bound>) -> TaskHead {
    let bound = bound.map_or(0, |bound| bound.number);
    TaskHead { callee: *callee, timed: false, typed: false, epoch: 0, bound, count: 0, attempt: 0 }
}

//! A pool's workers behind their lock, and who waits for them.
//!
//! Callers that wait follow the leader-followers pattern (Schmidt et al., "Leader/Followers", 2000): no
//! thread stands between a worker and its caller.
//!
//! ```text
//! FREE   nobody waits on the pool's descriptors; while items are out, the supervisor attends to them
//! LED    one caller, the leader, waits on them without holding the lock, and handles what arrives,
//!        for the others, too
//! ```
//!
//! Everybody who releases the lock sees to it ([`Crew::settle`]) that, when the lead is free, a waiting
//! caller is woken to take it, or, when there is none, the supervisor is told. A caller that leaves,
//! for whatever reason, does the same, so the lead is never lost. Whoever completes something that the
//! leader may wait for, or brings a deadline nearer, rings the bell.
//!
//! For a call that takes the short way (`Core::give_at_once`) all that would cost more than the call. So what
//! the last full look has found is remembered:
//!
//! ```text
//! CALM      nothing is due sooner, and nobody else has to be told, than the supervisor knows already
//! DISTURBED anything may be: whoever releases the lock without leading looks fully, which makes it calm
//! ```
//!
//! Single calls and their results leave a calm pool calm. Everything else that changes the pool disturbs it:
//! a descriptor that is ready, a frame other than a result, work given in the long way, a worker that comes
//! or goes or has no room left in its ring, a call with a time limit or a callback, a leader that takes the pool
//! out of the supervisor's hands.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::arena::{Arena, Arenas};
use super::children;
use super::core::{Core, News, State};
use super::job::{Inputs, Job};
use super::obituary;
use super::spec::Bound;
use super::spin::Watches;
use super::staff::Plan;
use super::stats::PoolStats;
use super::supervisor::{self, Supervisor};
use super::turnover::cant_start;
use super::waiting::{Waiter, What};
use crate::error::{Error, Kind};
use crate::os::epoll::Epoll;
use crate::os::{clock, oom};
use crate::shm::heap::Object;
use crate::transport::hello::Role;

/// While nobody waits, the supervisor takes results in so late, many at once: in nanoseconds. The
/// shortest time that its wait knows, and many times what waking it costs everybody.
const GATHER: u64 = 1_000_000;

/// Whoever submits many calls takes results in meanwhile, once for so many calls.
const OFTEN: u32 = 256;

/// Who leads without a rest, because results keep coming, sees to what is due as often as this.
const MOST_LEADS: u32 = 8;

/// A pool's workers, or the one worker of a process.
pub(crate) struct Crew {
    inner: Mutex<Inner>,
    epoll: Epoll,
    arenas: Arenas,
    /// Whether workers may claim items for themselves.
    shares_work: bool,
    supervisor: &'static Supervisor,
    token: OnceLock<u64>,
}

struct Inner {
    core: Core,
    led: bool,
    /// When the leader looks up at the latest.
    leads_until: Option<u64>,
    waiting: Vec<Arc<Waiter>>,
    /// Whether the supervisor will see what arrives.
    attended: bool,
    /// Whether results are coming in or about to, so that the supervisor does better to let some gather.
    busy: bool,
    /// When the supervisor will look.
    tick: Option<u64>,
    /// Whether that is soon enough for results that gather.
    is_soon: bool,
    /// Calls that were submitted since whoever submits them last took results in.
    submitted: u32,
    /// Whether somebody who submits calls takes results in meanwhile.
    is_helped: bool,
    /// How often somebody has led since it was last seen to what is due.
    leads: u32,
}

impl Inner {
    /// Whether nobody has to be told of anything, and somebody will take in what arrives.
    fn is_looked_after(&self) -> bool {
        let is_expected = || self.waiting.is_empty() && (self.attended || self.is_soon);
        self.core.is_calm && self.core.news.is_empty() && (self.led || is_expected())
    }
}

/// A process as its parent knows it, also after its end.
#[derive(Clone)]
pub(crate) struct Identity {
    /// Among all children of this process.
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) pidfd: Arc<OwnedFd>,
}

impl Crew {
    /// Starts all workers of a plan.
    ///
    /// # Errors
    /// One of them can't be started; none is left then.
    pub(crate) fn start(plan: Plan) -> Result<Arc<Self>, Error> {
        oom::watch();
        let supervisor = supervisor::get()?;
        let epoll = Epoll::new().map_err(|error| Error::system("can't make a pool", &error))?;
        let workers = plan.workers;
        let is_pool = plan.role == Role::Pool;
        let inner = Inner {
            core: Core::new(plan),
            led: false,
            leads_until: None,
            waiting: Vec::new(),
            attended: false,
            busy: false,
            tick: None,
            is_soon: false,
            submitted: 0,
            is_helped: false,
            leads: 0,
        };
        let crew = Arc::new(Self {
            inner: Mutex::new(inner),
            epoll,
            arenas: Arenas::default(),
            shares_work: is_pool,
            supervisor,
            token: OnceLock::new(),
        });
        let token = supervisor.add(&crew)?;
        let _ = crew.token.set(token);

        if !is_pool {
            children::add(&crew);
        }
        let mut inner = crew.lock();
        let mut result = Ok(());
        for _ in 0..workers {
            result = inner.core.start_one(&crew.epoll);
            if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                // Its fork server has just been killed: the rest is hired when the next one serves.
                inner.core.restart_at = Some(clock::nanos());
                result = Ok(());
                break;
            }
            if let Err(error) = &result {
                inner.core.end(cant_start(error));
                break;
            }
        }
        crew.settle(inner);
        if let Err(error) = result {
            children::remove(&crew);
            crew.wait_for(&What::NoWorkers, Some(Duration::from_secs(1)));
            return Err(cant_start(&error));
        }
        Ok(crew)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something under the lock.
    pub(super) fn with<R>(self: &Arc<Self>, f: impl FnOnce(&mut Core, &Epoll) -> R) -> R {
        let mut inner = self.lock();
        inner.core.is_calm = false;
        let result = f(&mut inner.core, &self.epoll);
        self.settle(inner);
        result
    }

    /// Releases the lock: see the top of the file. All that must be told is told here.
    fn settle(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner>) {
        let news = inner.core.take_news();
        self.tell(&mut inner, &news);
        self.pass_the_lead_on(&mut inner);
        drop(inner);
        self.after(news);
    }

    /// Wakes the waiting callers whom the news concern.
    fn tell(&self, inner: &mut Inner, news: &News) {
        if news.done.is_empty() && !news.staff_changed {
            return;
        }
        inner.waiting.iter().filter(|waiter| waiter.what.is_in(news)).for_each(|waiter| {
            waiter.wake.notify_one();
        });
        if inner.led {
            self.epoll.ring();
        }
    }

    fn pass_the_lead_on(&self, inner: &mut Inner) {
        let is_quiet = inner.core.has_nothing_to_give() && inner.waiting.is_empty() && !inner.led;
        if is_quiet && inner.core.is_calm {
            return;
        }
        let now = clock::nanos();
        let next = inner.core.next_tick(now);
        if inner.led {
            let sooner = |tick| inner.leads_until.is_none_or(|until| tick < until);
            if next.is_some_and(sooner) {
                self.epoll.ring();
            }
            return;
        }
        if let Some(waiter) = inner.waiting.first() {
            waiter.wake.notify_one();
            return;
        }
        let token = *self.token.get().expect("set before anything can happen");
        let mut next = next;
        if inner.core.expects_something() && !inner.attended {
            let gathers = inner.busy && !inner.core.is_urgent();
            if gathers && (inner.is_helped || !inner.core.has_more()) {
                next = Some(next.map_or(now + GATHER, |next| next.min(now + GATHER)));
            } else if inner.core.watches.arm() {
                // There is something already.
                next = Some(now);
            } else {
                self.supervisor.attend_to(self, token);
                inner.attended = true;
            }
        }
        let sooner = |tick| inner.tick.is_none_or(|known| tick < known);
        if next.is_some_and(sooner) {
            self.supervisor.attend_at(token, next);
            inner.tick = next;
        }
        inner.is_soon = inner.tick.is_some_and(|tick| tick <= now + GATHER);
        inner.core.is_calm = true;
    }

    /// What may only be done without the lock.
    fn after(self: &Arc<Self>, news: News) {
        for newcomer in news.started {
            self.supervisor.watch(self, newcomer);
        }
        news.reaped.into_iter().for_each(|pid| self.supervisor.child_ended(pid));
        if news.is_ready {
            obituary::look();
        }
        if news.is_over {
            children::remove(self);
        }
        news.arenas.into_iter().for_each(|arena| self.arenas.give_back(arena));
        for waker in news.wakers {
            // The user's code: its panic must not take the lead or the supervisor with it.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                std::mem::forget(payload);
            }
        }
        // Last: it takes long.
        drop(news.freed);
    }

    /// Waits; false when the time is over first. The caller leads where nobody else does.
    pub(crate) fn wait_for(self: &Arc<Self>, what: &What, timeout: Option<Duration>) -> bool {
        let deadline = timeout.map(|time| clock::nanos().saturating_add(clock::nanos_of(time)));
        self.wait_until(self.lock(), what, deadline)
    }

    fn wait_until<'a>(
        self: &'a Arc<Self>,
        mut inner: MutexGuard<'a, Inner>,
        what: &What,
        deadline: Option<u64>,
    ) -> bool {
        let done = loop {
            if what.is_done(&inner.core) {
                break true;
            }
            if deadline.is_some_and(|deadline| deadline <= clock::nanos()) {
                break false;
            }
            inner = if inner.led {
                self.follow(inner, what, deadline)
            } else {
                self.lead(inner, deadline)
            };
        };
        self.settle(inner);
        done
    }

    /// Waits on the workers themselves, once, and handles what comes.
    fn lead<'a>(
        self: &'a Arc<Self>,
        mut inner: MutexGuard<'a, Inner>,
        deadline: Option<u64>,
    ) -> MutexGuard<'a, Inner> {
        let news = inner.core.take_news();
        self.tell(&mut inner, &news);
        inner.led = true;
        // It looks up by itself, before anything can be due.
        inner.leads_until = Some(0);
        inner.leads += 1;
        if inner.attended {
            self.supervisor.leave_alone(self, *self.token.get().expect("set at the start"));
            inner.attended = false;
            inner.core.is_calm = false;
        }
        let (watches, at_work) = (Arc::clone(&inner.core.watches), inner.core.at_work());
        drop(inner);
        self.after(news);

        let (mut inner, events) = if watches.spin(at_work, deadline, &self.epoll) {
            let events = match watches.are_all() {
                true => Vec::new(),
                // Workers without rings must not wait for those with.
                false => self.epoll.wait(Some(Duration::ZERO)).unwrap_or_default(),
            };
            (self.lock(), events)
        } else {
            let mut inner = self.lock();
            let due = inner.core.next_tick(clock::nanos());
            let until = [deadline, due].into_iter().flatten().min();
            inner.leads_until = until;
            inner.leads = MOST_LEADS;
            drop(inner);
            let events = self.rest(&watches, until);
            (self.lock(), events)
        };
        inner.led = false;
        inner.core.handle(&events, &self.epoll);
        if inner.leads >= MOST_LEADS {
            inner.leads = 0;
            inner.core.tick(clock::nanos(), &self.epoll);
        }
        if inner.waiting.is_empty() && inner.core.news.can_wait() {
            let freed = std::mem::take(&mut inner.core.news.freed);
            if freed.is_empty() {
                return inner;
            }
            // Nobody else needs to lead meanwhile: this thread goes on at once.
            drop(inner);
            drop(freed);
            return self.lock();
        }
        let news = inner.core.take_news();
        self.tell(&mut inner, &news);
        // Without the lock: also the drop of a job may run the user's code, for however long.
        self.pass_the_lead_on(&mut inner);
        drop(inner);
        self.after(news);
        self.lock()
    }

    /// Sleeps until a descriptor is ready, the bell has rung, or the time has come.
    fn rest(&self, watches: &Watches, until: Option<u64>) -> Vec<u64> {
        let is_new = watches.arm();
        let left = |until: u64| Duration::from_nanos(until.saturating_sub(clock::nanos()));
        let timeout = if is_new { Some(Duration::ZERO) } else { until.map(left) };
        let mut events = self.epoll.wait(timeout).unwrap_or_default();
        if events.is_empty() && until.is_some_and(|until| until <= clock::nanos()) {
            // This process may have been stopped meanwhile: what has arrived comes before what is due.
            events = self.epoll.wait(Some(Duration::ZERO)).unwrap_or_default();
        }
        watches.disarm();
        events
    }

    /// Waits for the leader to bring it, or to leave.
    fn follow<'a>(
        &'a self,
        mut inner: MutexGuard<'a, Inner>,
        what: &What,
        deadline: Option<u64>,
    ) -> MutexGuard<'a, Inner> {
        let waiter = Arc::new(Waiter { what: what.clone(), wake: Condvar::new() });
        inner.waiting.push(Arc::clone(&waiter));
        let mut inner = match deadline {
            None => waiter.wake.wait(inner).unwrap_or_else(PoisonError::into_inner),
            Some(deadline) => {
                let left = Duration::from_nanos(deadline.saturating_sub(clock::nanos()));
                waiter.wake.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        inner.waiting.retain(|other| !Arc::ptr_eq(other, &waiter));
        inner
    }

    /// The supervisor's turn: something has arrived, or is due.
    pub(super) fn attend(self: &Arc<Self>) {
        let mut inner = self.lock();
        inner.attended = false;
        inner.tick = None;
        inner.is_soon = false;
        inner.is_helped = false;
        inner.core.is_calm = false;
        if !inner.led {
            let events = self.epoll.wait(Some(Duration::ZERO)).unwrap_or_default();
            inner.core.watches.disarm();
            inner.busy = !events.is_empty() || inner.core.watches.have_news();
            inner.core.handle(&events, &self.epoll);
            inner.core.tick(clock::nanos(), &self.epoll);
        }
        self.settle(inner);
    }

    /// The supervisor's word that a worker has ended.
    /// False: it hasn't.
    pub(super) fn bury(self: &Arc<Self>, worker: u64) -> bool {
        self.with(|core, epoll| core.bury(worker, epoll))
    }

    /// The early word that a worker is ending.
    pub(super) fn bury_early(self: &Arc<Self>, worker: u64) {
        self.with(|core, epoll| core.bury_early(worker, epoll));
    }

    /// Does what is due.
    pub(super) fn tick(self: &Arc<Self>) {
        self.with(|core, epoll| core.tick(clock::nanos(), epoll));
    }

    // ---- what the verbs of the API come down to -----------------------------------------------------

    /// Takes a job on. `failed` are items that couldn't be encoded, in order.
    pub(crate) fn submit(
        self: &Arc<Self>,
        job: Arc<Job>,
        mut inputs: Inputs,
        failed: Vec<(u32, Error)>,
    ) {
        let arena = self.arena_for(&job, &mut inputs, &failed);
        let mut inner = self.lock();
        let is_short = inner.core.submit(job, inputs, failed, arena, &self.epoll);
        inner.busy = true;
        inner.submitted = inner.submitted.saturating_add(1);
        if is_short && inner.submitted >= OFTEN && !inner.led {
            inner.submitted = 0;
            inner.is_helped = true;
            inner.core.handle(&[], &self.epoll);
        }
        if !inner.is_looked_after() {
            self.settle(inner);
        }
    }

    /// Memory with the inputs in it, for workers to claim from, if the items of a job are shared in this way.
    fn arena_for(&self, job: &Job, inputs: &mut Inputs, failed: &[(u32, Error)]) -> Option<Arena> {
        let is_shared = self.shares_work && job.spec.shared && failed.is_empty();
        if is_shared {
            return self.arenas.fill(inputs);
        }
        inputs.fetch();
        None
    }

    /// Memory for so many inputs of this size, to be written behind a board; none where it is better to write
    /// them elsewhere.
    pub(crate) fn memory_for(&self, count: usize, size: usize) -> Option<Object> {
        if self.shares_work { self.arenas.memory_for(count, size) } else { None }
    }

    /// Has `waker` woken when no worker is left. False: none is.
    pub(crate) fn wake_when_gone(&self, waker: &Waker) -> bool {
        let waker = waker.clone();
        let mut inner = self.lock();
        let is_left = !inner.core.workers.is_empty();
        // A process is one future, so only the latest waker counts.
        let dropped = if is_left { inner.core.gone_waker.replace(waker) } else { Some(waker) };
        drop(inner);
        // The user's code, outside of the lock.
        drop(dropped);
        is_left
    }

    /// Has results taken in as they arrive: somebody will be woken by them.
    pub(crate) fn hurry(self: &Arc<Self>) {
        let mut inner = self.lock();
        inner.busy = false;
        inner.core.is_calm = false;
        self.settle(inner);
    }

    /// Takes a job on and waits for it, without telling the supervisor in between.
    pub(crate) fn run(
        self: &Arc<Self>,
        job: &Arc<Job>,
        mut inputs: Inputs,
        failed: Vec<(u32, Error)>,
    ) {
        let arena = self.arena_for(job, &mut inputs, &failed);
        let mut inner = self.lock();
        inner.core.submit(Arc::clone(job), inputs, failed, arena, &self.epoll);
        if inner.led {
            // The leader may have to be told.
            self.settle(inner);
            inner = self.lock();
        }
        self.wait_until(inner, &What::Job(Arc::clone(job)), None);
    }

    pub(crate) fn cancel(self: &Arc<Self>, job: &Arc<Job>, kill: bool) -> bool {
        self.with(|core, epoll| core.cancel(job, kill, epoll))
    }

    /// Has workers forget bound arguments that no job will use any more.
    pub(crate) fn forget(self: &Arc<Self>, bound: &Bound) {
        self.with(|core, epoll| core.forget(bound, epoll));
    }

    pub(crate) fn close(self: &Arc<Self>) {
        self.with(|core, epoll| core.close(epoll));
    }

    /// Ends everything now.
    pub(crate) fn terminate(self: &Arc<Self>) {
        self.with(|core, _| core.end(Error::new(Kind::Closed("the pool was terminated"))));
    }

    pub(super) fn is_pool(&self) -> bool {
        self.lock().core.plan.role == Role::Pool
    }

    /// Whether it takes no more work.
    pub(crate) fn is_closed(&self) -> bool {
        !matches!(self.lock().core.state, State::Open)
    }

    /// The cause, when the pool has failed rather than been closed.
    pub(crate) fn failure(&self) -> Option<Error> {
        match &self.lock().core.state {
            State::Over(why) if !why.is_closed() => Some(why.clone()),
            _ => None,
        }
    }

    /// The process ids of the workers that serve.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let inner = self.lock();
        let serving = inner.core.workers.values().filter(|worker| worker.serves());
        serving.map(|worker| worker.pid).collect()
    }

    /// What it has done.
    pub(crate) fn stats(&self) -> PoolStats {
        let stats = self.lock().core.stats();
        stats.complete()
    }

    /// Whether any worker is left, and how the last one ended.
    pub(crate) fn last_status(&self) -> (bool, Option<std::process::ExitStatus>) {
        let inner = self.lock();
        (!inner.core.workers.is_empty(), inner.core.last_status)
    }

    /// Which process the one worker of a process is.
    pub(crate) fn identity(&self) -> Identity {
        self.lock().core.first_started.clone().expect("a crew is made by starting a worker")
    }

    /// Whether it is a process that must not outlive this one.
    pub(crate) fn is_daemon(&self) -> bool {
        self.lock().core.plan.role == Role::Process { daemon: true }
    }

    pub(crate) fn name(&self) -> String {
        self.lock().core.plan.name.clone()
    }
}

impl AsFd for Crew {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if let Some(token) = self.token.get() {
            self.supervisor.remove(*token);
        }
    }
}

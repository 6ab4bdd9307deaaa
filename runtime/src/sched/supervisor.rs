//! The one thread that looks after what nobody waits for: deaths, deadlines, and results that nobody
//! is asking for yet.
//!
//! It watches the pidfd of every child, and the descriptor of every pool that has asked for it because
//! no caller waits there ([`Supervisor::attend_to`]). It never calls user code. That a pool's worker begins to
//! end is told earlier, by other threads ([`obituary`](super::obituary)); it is reaped here all the same.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::core::Newcomer;
use super::crew::Crew;
use super::fd_watch;
use super::forkserver::Server;
use super::obituary::{self, Tell, Watch};
use crate::error::Error;
use crate::os::epoll::{Epoll, Interest};
use crate::os::wait::{self, Ended};
use crate::os::{clock, signals};
use crate::shm::heap;

pub(super) struct Supervisor {
    epoll: Epoll,
    watched: Mutex<Watched>,
    next_token: AtomicU64,
}

#[derive(Default)]
struct Watched {
    children: HashMap<u64, Child>,
    crews: HashMap<u64, CrewEntry>,
    alone: HashMap<u64, Alone>,
    /// The words of [`FdWatch`](super::fd_watch::FdWatch)es.
    sets: HashMap<u64, Arc<AtomicU32>>,
    /// When to look for shared memory of orphans.
    sweep_at: Option<u64>,
    /// Until when the thread sleeps, if it does.
    sleeps_until: Option<u64>,
}

struct Child {
    crew: Arc<Crew>,
    worker: u64,
    pid: u32,
    pidfd: Arc<OwnedFd>,
    /// Tells of its end before the pidfd does, where it can.
    _watch: Option<Watch>,
}

/// Who is told early of a worker's end.
struct Kin {
    crew: Weak<Crew>,
    worker: u64,
}

impl Tell for Kin {
    fn tell(&self) {
        if let Some(crew) = self.crew.upgrade() {
            crew.bury_early(self.worker);
        }
    }

    fn go_on(&self) {
        if let Some(crew) = self.crew.upgrade() {
            crew.tick();
        }
    }
}

/// A child that works for no crew: a fork server, or what one has made and nobody needs (yet).
struct Alone {
    pid: u32,
    pidfd: Arc<OwnedFd>,
    server: Option<Arc<Server>>,
}

impl Alone {
    /// False: it hasn't ended.
    fn bury(&self) -> bool {
        match &self.server {
            Some(server) => server.bury(),
            None => !matches!(wait::reap(self.pidfd.as_fd()), Ok(Ended::Not)),
        }
    }
}

struct CrewEntry {
    crew: Weak<Crew>,
    /// When it has something to do.
    tick: Option<u64>,
}

/// How long orphans have to notice, in nanoseconds.
const SWEEP_AFTER: u64 = 200_000_000;

/// How often it is looked after those that live on.
const SWEEP_AGAIN: u64 = 1_000_000_000;

/// The supervisor of this process; its thread starts with the first call and never ends.
pub(super) fn get() -> Result<&'static Supervisor, Error> {
    static SUPERVISOR: OnceLock<Supervisor> = OnceLock::new();
    static RUNS: Mutex<bool> = Mutex::new(false);
    let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
    let failed = |error| Error::system("can't start the supervisor", &error);
    let supervisor = match SUPERVISOR.get() {
        Some(supervisor) => supervisor,
        None => {
            let epoll = Epoll::new().map_err(failed)?;
            SUPERVISOR.get_or_init(|| Supervisor {
                epoll,
                watched: Mutex::default(),
                next_token: AtomicU64::new(0),
            })
        }
    };
    if !*runs {
        let thread = thread::Builder::new().name("procession".into());
        let run = || {
            // Without it nothing would ever be noticed again: better an end that is seen.
            let Err(_) = catch_unwind(|| supervisor.run());
            eprintln!("procession: the supervisor has panicked, which is a bug in procession");
            std::process::abort();
        };
        thread.spawn(run).map_err(failed)?;
        *runs = true;
    }
    Ok(supervisor)
}

/// Ends all pools of this process.
pub(super) fn terminate_pools() {
    let Ok(supervisor) = get() else { return };
    let crews: Vec<_> =
        supervisor.watched().crews.values().filter_map(|entry| entry.crew.upgrade()).collect();
    crews.iter().filter(|crew| crew.is_pool()).for_each(Crew::terminate);
}

impl Supervisor {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn token(&self) -> u64 {
        self.next_token.fetch_add(1, Ordering::Relaxed)
    }

    /// Gets to know a pool. Returns the token that names it.
    pub(super) fn add(&self, crew: &Arc<Crew>) -> Result<u64, Error> {
        let token = self.token();
        let entry = CrewEntry { crew: Arc::downgrade(crew), tick: None };
        self.watched().crews.insert(token, entry);
        self.epoll.add(crew.as_fd(), token, Interest::Never).map_err(|error| {
            self.watched().crews.remove(&token);
            Error::system("can't watch a pool", &error)
        })?;
        Ok(token)
    }

    /// Forgets a pool; the kernel has forgotten its descriptor when it was closed.
    pub(super) fn remove(&self, token: u64) {
        self.watched().crews.remove(&token);
    }

    /// Watches a child until it has ended, and tells the pool then; one with a page, from when it begins to
    /// end, which the pool is told, too.
    pub(super) fn watch(&self, crew: &Arc<Crew>, newcomer: Newcomer) {
        let Newcomer { worker, pid, pidfd, page } = newcomer;
        let token = self.token();
        let kin = Kin { crew: Arc::downgrade(crew), worker };
        let _watch = page.and_then(|page| obituary::watch(&page, Box::new(kin)));
        let child =
            Child { crew: Arc::clone(crew), worker, pid, pidfd: Arc::clone(&pidfd), _watch };
        self.watched().children.insert(token, child);
        if self.epoll.add(pidfd.as_fd(), token, Interest::Read).is_err() {
            // No memory for one more watch: a thread waits instead.
            self.watched().children.remove(&token);
            let crew = Arc::clone(crew);
            let wait = move || {
                let _ = wait::ready(&[pidfd.as_fd()], None);
                crew.bury(worker);
                heap::child_ended(pid);
            };
            let _ = thread::Builder::new().name("procession wait".into()).spawn(wait);
        }
    }

    /// Watches a child that works for no crew until it ends, and reaps it then. Returns the token that
    /// names it.
    pub(super) fn watch_alone(
        &self,
        pid: u32,
        pidfd: Arc<OwnedFd>,
        server: Option<Arc<Server>>,
    ) -> u64 {
        let token = self.token();
        let alone = Alone { pid, pidfd: Arc::clone(&pidfd), server };
        self.watched().alone.insert(token, alone);
        if self.epoll.add(pidfd.as_fd(), token, Interest::Read).is_err()
            && let Some(alone) = self.watched().alone.remove(&token)
        {
            // No memory for one more watch: a thread waits instead.
            let wait = move || {
                let _ = wait::ready(&[pidfd.as_fd()], None);
                alone.bury();
                heap::child_ended(pid);
            };
            let _ = thread::Builder::new().name("procession wait".into()).spawn(wait);
        }
        token
    }

    /// Leaves a child to a crew.
    pub(super) fn leave(&self, token: u64) {
        self.forget(&mut self.watched(), token);
    }

    /// Under the lock: once it is released the descriptor may be watched for somebody else.
    fn forget(&self, watched: &mut Watched, token: u64) {
        if let Some(alone) = watched.alone.remove(&token) {
            let _ = self.epoll.remove(alone.pidfd.as_fd());
        }
    }

    /// Takes back what a child held that has ended, all that it has sent being received.
    pub(super) fn child_ended(&self, pid: u32) {
        if heap::child_ended(pid) {
            self.sweep_in(SWEEP_AFTER);
        }
    }

    /// Looks for dead orphans' shared memory after so many nanoseconds.
    fn sweep_in(&self, nanos: u64) {
        let at = clock::nanos().saturating_add(nanos);
        let mut watched = self.watched();
        let at = *watched.sweep_at.get_or_insert(at);
        if watched.sleeps_until.is_some_and(|until| at < until) {
            self.epoll.ring();
        }
    }

    /// Looks after a pool the next time something arrives there: once.
    pub(super) fn attend_to(&self, crew: &Crew, token: u64) {
        let _ = self.epoll.change(crew.as_fd(), token, Interest::Once);
    }

    /// Leaves a pool to a caller that waits there.
    pub(super) fn leave_alone(&self, crew: &Crew, token: u64) {
        let _ = self.epoll.change(crew.as_fd(), token, Interest::Never);
    }

    /// Changes `word` once when something in the set is ready. Returns the token that names it.
    pub(super) fn watch_set(&self, set: BorrowedFd<'_>, word: Arc<AtomicU32>) -> io::Result<u64> {
        let token = self.token();
        self.watched().sets.insert(token, word);
        self.epoll.add(set, token, Interest::Never).inspect_err(|_| {
            self.watched().sets.remove(&token);
        })?;
        Ok(token)
    }

    /// Changes the word once more, the next time.
    pub(super) fn watch_set_again(&self, set: BorrowedFd<'_>, token: u64) {
        let _ = self.epoll.change(set, token, Interest::Once);
    }

    pub(super) fn forget_set(&self, set: BorrowedFd<'_>, token: u64) {
        let _ = self.epoll.remove(set);
        self.watched().sets.remove(&token);
    }

    /// Looks after a pool at a time.
    pub(super) fn attend_at(&self, token: u64, tick: Option<u64>) {
        let mut watched = self.watched();
        if let Some(entry) = watched.crews.get_mut(&token) {
            entry.tick = tick;
        }
        let too_late = |tick| watched.sleeps_until.is_some_and(|until| tick < until);
        if tick.is_some_and(too_late) {
            self.epoll.ring();
        }
    }

    fn run(&self) -> Infallible {
        signals::block_all_on_this_thread();
        loop {
            let now = clock::nanos();
            if self.watched().sweep_at.take_if(|at| *at <= now).is_some() && heap::sweep() {
                self.sweep_in(SWEEP_AGAIN);
            }
            let (due, sleep) = self.due(now);
            due.iter().for_each(|crew| crew.attend());
            // Deaths are looked at in every turn, however busy the pools are.
            let sleep = if due.is_empty() { sleep } else { Some(Duration::ZERO) };
            drop(due);
            // Only closed descriptors or lost memory can make the wait fail; then there is nothing
            // that this thread could do but try again, slowly.
            let events = self.epoll.wait(sleep).unwrap_or_else(|_| {
                thread::sleep(Duration::from_millis(100));
                Vec::new()
            });
            self.watched().sleeps_until = None;
            for token in events {
                self.turn_to(token);
            }
        }
    }

    /// The pools that are due, or how long there is nothing to do.
    fn due(&self, now: u64) -> (Vec<Arc<Crew>>, Option<Duration>) {
        let mut watched = self.watched();
        let mut due = Vec::new();
        let mut next = watched.sweep_at;
        for entry in watched.crews.values_mut() {
            match entry.tick {
                Some(tick) if tick <= now => {
                    entry.tick = None;
                    due.extend(entry.crew.upgrade());
                }
                Some(tick) => next = Some(next.map_or(tick, |next: u64| next.min(tick))),
                None => {}
            }
        }
        watched.sleeps_until = if due.is_empty() { Some(next.unwrap_or(u64::MAX)) } else { None };
        (due, next.map(|next| Duration::from_nanos(next - now)))
    }

    fn turn_to(&self, token: u64) {
        let watched = self.watched();
        if let Some(child) = watched.children.get(&token) {
            let (crew, pidfd) = (Arc::clone(&child.crew), Arc::clone(&child.pidfd));
            let (worker, pid) = (child.worker, child.pid);
            drop(watched);
            if crew.bury(worker) {
                let _ = self.epoll.remove(pidfd.as_fd());
                let child = self.watched().children.remove(&token);
                // Outside of the lock: it may be the last to know the pool.
                drop(child);
                self.child_ended(pid);
            }
        } else if let Some(alone) = watched.alone.get(&token) {
            let (pid, server) = (alone.pid, alone.server.clone());
            let (has_ended, mut watched) = match server {
                // It asks for its own lock, under which children are left and watched.
                Some(server) => {
                    drop(watched);
                    (server.bury(), self.watched())
                }
                // Not one that is being left: its end is the crew's affair, as is its descriptor.
                None => (alone.bury(), watched),
            };
            if has_ended {
                self.forget(&mut watched, token);
                drop(watched);
                self.child_ended(pid);
            }
        } else if let Some(word) = watched.sets.get(&token) {
            fd_watch::tell(word);
        } else if let Some(entry) = watched.crews.get(&token) {
            let crew = entry.crew.upgrade();
            drop(watched);
            if let Some(crew) = crew {
                crew.attend();
            }
        }
    }
}

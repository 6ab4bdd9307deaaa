//! Workers come and go: starting them, burying them, and knowing when to give up.
//!
//! A death costs the item that the worker had begun. Its other items go back into the queue, and
//! another worker takes its place, unless workers die again and again without having worked.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc;

use super::core::{Core, Corpse, Newcomer, State};
use super::crew::Identity;
use super::inquest::{self, Death};
use super::ledger::Run;
use super::obituary::PAUSE;
use super::staff::{Phase, Plan, Worker};
use super::start::{self, Surroundings};
use crate::error::{Account, Error, Kind as Cause};
use crate::os::clock;
use crate::os::ending::{self, Ending};
use crate::os::epoll::{Epoll, Interest};
use crate::os::wait::{self, Ended};
use crate::transport::Received;
use crate::transport::hello::Role;
use crate::worker::identity;

/// So many workers in a row that die before they have worked fail the pool.
const EARLY_DEATHS: u32 = 3;

/// So many where others have worked before: at the pace of [`START_PAUSE`], a second or more.
const LATER_DEATHS: u32 = 20;

/// Marks the token of a worker's pidfd.
pub(super) const PIDFD: u64 = 1 << 62;

/// Reads, of up to 64 KiB each, from the socket of a worker that has died.
const LAST_READS: usize = 64;

/// The pause before a worker that couldn't be started is tried again.
const START_PAUSE: u64 = 50_000_000;

impl Core {
    /// Starts as many workers as are missing.
    pub(super) fn hire(&mut self, epoll: &Epoll) {
        let wanted = match self.state {
            State::Open => self.plan.workers,
            State::Closed if self.jobs.open() > 0 => self.plan.workers,
            _ => 0,
        };
        if wanted == 0 {
            self.end_server();
        }
        while self.workers.values().filter(|worker| worker.serves()).count() < wanted {
            if let Err(error) = self.start_one(epoll) {
                // A fork server that isn't ready yet is no failure.
                if self.workers.is_empty() && error.kind() != ErrorKind::WouldBlock {
                    self.early_death(cant_start(&error));
                }
                self.restart_at = Some(clock::nanos() + START_PAUSE);
                return;
            }
        }
    }

    /// Ends the pool's own fork server: no worker will be started any more.
    pub(super) fn end_server(&self) {
        if let Some(server) = self.plan.server.as_ref().filter(|_| self.plan.role == Role::Pool) {
            server.end();
        }
    }

    /// Starts one worker.
    pub(super) fn start_one(&mut self, epoll: &Epoll) -> io::Result<()> {
        let number = next_child_number();
        let mut lineage = identity::lineage().to_vec();
        lineage.push(number);
        let name = match self.plan.role {
            Role::Pool | Role::Server => format!("{}:{}", self.plan.name, self.next_worker + 1),
            Role::Process { .. } if self.plan.name.is_empty() => {
                let numbers: Vec<String> = lineage.iter().map(u32::to_string).collect();
                self.plan.name = format!("Process-{}", numbers.join(":"));
                self.plan.name.clone()
            }
            Role::Process { .. } => self.plan.name.clone(),
        };
        let Plan { role, surroundings, limits, .. } = &self.plan;
        let hello = start::hello(&name, lineage, *role, surroundings, limits);
        let started = match &self.plan.server {
            None => start::spawn(&hello, &self.plan.surroundings)?,
            Some(server) => server.start(hello, &self.plan.surroundings)?,
        };
        let id = self.next_worker;
        self.next_worker += 1;
        let mut worker = Worker::new(started, &self.plan, clock::nanos());
        self.first_started.get_or_insert_with(|| Identity {
            number,
            name,
            pid: worker.pid,
            pidfd: Arc::clone(&worker.pidfd),
        });
        if self.plan.role != Role::Pool {
            // Nobody else is started with these streams: the other ends see when the child closes them.
            self.plan.surroundings = Surroundings::default();
        }
        let is_pool = self.plan.role == Role::Pool;
        let watched = epoll.add(worker.end.as_fd(), id, Interest::Read);
        // The end of a process wakes one thread alone: who joins it, or the supervisor while nobody does.
        if is_pool || epoll.add(worker.pidfd.as_fd(), id | PIDFD, Interest::Read).is_err() {
            let page = is_pool.then(|| Arc::clone(&worker.page));
            let (pid, pidfd) = (worker.pid, Arc::clone(&worker.pidfd));
            self.news.started.push(Newcomer { worker: id, pid, pidfd, page });
        }
        if watched.is_err() {
            worker.open = false;
            worker.kill(None);
        }
        self.workers.insert(id, worker);
        self.watch_anew();
        self.news.staff_changed = true;
        watched
    }

    /// The staff has changed.
    pub(super) fn watch_anew(&mut self) {
        let open = self.workers.iter().filter(|(_, worker)| worker.open);
        self.watches = Arc::new(open.map(|(id, worker)| (*id, worker.end.watch())).collect());
        self.is_calm = false;
    }

    /// A worker has ended, and is reaped: its last results are taken in, the item that it ran is lost, the
    /// others go back into the queue, and another worker takes its place, unless all that was done before.
    ///
    /// False: it hasn't ended. It is reaped under the pool's lock, so that of all who see its end only
    /// one gets the status.
    pub(super) fn bury(&mut self, id: u64, epoll: &Epoll) -> bool {
        let of_corpse = || self.corpses.get(&id).map(|corpse| &corpse.pidfd);
        let pidfd = self.workers.get(&id).map(|worker| &worker.pidfd).or_else(of_corpse);
        let Some(pidfd) = pidfd else { return true };
        let (status, usage) = match wait::reap(pidfd.as_fd()) {
            Ok(Ended::Not) => return false,
            Ok(Ended::With(status, usage)) => (Some(status), Some(usage)),
            // Something else in this process has taken it.
            Ok(Ended::Unknown) | Err(_) => (None, None),
        };
        self.last_status = status;
        if self.plan.role != Role::Pool {
            let pid = self.workers.get(&id).map(|worker| worker.pid);
            self.news.reaped.extend(pid);
        }
        if let Some(corpse) = self.corpses.remove(&id) {
            usage.into_iter().for_each(|usage| corpse.account.close(usage));
            self.news.staff_changed = true;
        } else {
            let account = Account::new(usage.unwrap_or_default());
            self.clear_away(id, &Death { status, account }, epoll);
            if self.restart_at.is_none() {
                self.hire(epoll);
            }
            self.feed(epoll);
        }
        true
    }

    /// The thread that runs a worker's tasks has ended, and so nothing more comes from it. Its process may
    /// take long to follow, for its memory is freed first, but how it ends is settled: what is to be done
    /// after its death is done now, and the process that is left is reaped when it has gone.
    ///
    /// Another worker is due after [`PAUSE`], so that who waits for the lost item needn't wait for its start.
    pub(super) fn bury_early(&mut self, id: u64, epoll: &Epoll) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if matches!(worker.phase, Phase::Leaving { .. }) {
            return;
        }
        let (ending, usage) = ending::of(worker.pid).unzip();
        if !matches!(wait::ended(worker.pidfd.as_fd()), Ok(false)) {
            // What was seen may have been of another process with the same number.
            self.bury(id, epoll);
            return;
        }
        if !matches!(ending, Some(Ending::Somehow) | None) {
            // Where only the one thread has ended, or is said to have, the others must follow. To a process
            // that ends already this changes nothing.
            let _ = wait::signal(worker.pidfd.as_fd(), libc::SIGKILL);
        }
        match ending {
            Some(Ending::With(status)) => {
                let account = Account::new(usage.unwrap_or_default());
                let (pidfd, status) = (Arc::clone(&worker.pidfd), Some(status));
                self.corpses.insert(id, Corpse { pidfd, account: account.clone() });
                self.clear_away(id, &Death { status, account }, epoll);
                self.restart_at.get_or_insert(clock::nanos() + clock::nanos_of(PAUSE));
            }
            other => {
                worker.lost_its_thread = other == Some(Ending::Not);
                self.drain(id);
                self.hang_up(id, epoll);
                if let Some(worker) = self.workers.get_mut(&id).filter(|_| other.is_some()) {
                    // It has been killed or ends by itself, however long that takes.
                    worker.gone_by = None;
                }
            }
        }
        self.feed(epoll);
    }

    /// Takes in all that a worker has sent and published, which was its last.
    fn drain(&mut self, id: u64) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if worker.open {
            // What the kernel holds for it is less; a copy that it has forked may go on writing.
            for _ in 0..LAST_READS {
                if !matches!(worker.end.receive(), Ok(Received::Some)) {
                    break;
                }
            }
        }
        worker.end.look();
        self.take_in(id);
    }

    fn clear_away(&mut self, id: u64, death: &Death, epoll: &Epoll) {
        self.drain(id);
        let is_given_up = self.workers.get(&id).is_some_and(|worker| worker.record.is_given_up);
        let suspect = if is_given_up { self.suspect(id) } else { None };
        let of_hand = self.empty_hand(id);
        let Some(mut worker) = self.workers.remove(&id) else { return };
        if worker.open {
            let _ = epoll.remove(worker.end.as_fd());
        }
        worker.end.give_up();
        self.news.freed.append(&mut worker.end.take_freed());
        self.mourn(&mut worker, of_hand, suspect, death, epoll);
    }

    /// What follows from the death of a worker, which had these items of boards in hand. The suspect is the
    /// item to blame if it says that it has begun nothing.
    fn mourn(
        &mut self,
        worker: &mut Worker,
        of_hand: Vec<Run>,
        suspect: Option<Run>,
        death: &Death,
        epoll: &Epoll,
    ) {
        self.watch_anew();
        self.totals.add(worker);
        self.news.staff_changed = true;
        if self.workers.is_empty() {
            self.news.wakers.extend(self.gone_waker.take());
        }
        let (lost, unstarted) = worker.ledger.close(worker.page.claim.take_back());
        let error = inquest::verdict(worker, death, &self.plan.limits);
        let cause = || error.clone();
        for run in lost.iter().chain(&of_hand) {
            self.lose(run, &cause);
        }
        if self.plan.role != Role::Pool {
            unstarted.iter().for_each(|run| self.lose(run, &cause));
            // Nobody comes after it: work that is given later ends with the same cause.
            self.news.is_over = true;
            let _ = epoll.remove(worker.pidfd.as_fd());
            return self.end(cause());
        }
        let first_unstarted = unstarted.first().cloned();
        self.put_back(unstarted);
        let mut is_to_blame = !lost.is_empty() || !of_hand.is_empty();
        if let Some(run) = suspect.filter(|_| !is_to_blame) {
            // Put back, it would hang again and again.
            self.blame(&run, &cause);
            is_to_blame = true;
        }
        let is_barren = !is_to_blame
            && worker.was_ready
            && !worker.record.has_answered
            && !worker.was_dismissed;
        // What has no place by now was claimed by somebody in his last instant.
        for board in std::mem::take(&mut self.to_leave) {
            if is_barren && self.barren_deaths + 1 >= EARLY_DEATHS {
                // They die of what comes before the first claim. Sent, an item can be blamed for it.
                self.withdraw(board);
            }
            self.one_less(board);
        }
        if matches!(self.state, State::Over(_)) {
            return;
        }
        if !is_to_blame && !worker.was_dismissed {
            if !worker.was_ready {
                self.early_death(inquest::describe_early_death(worker, &cause()));
            } else if !worker.record.has_answered {
                self.barren_death(first_unstarted, &cause);
            }
        }
        if !worker.was_dismissed
            && let Some(why) = self.plan.breaker.as_mut().and_then(|it| it.count(clock::nanos()))
        {
            let text = format!("{why}, the last of them so: {error}");
            self.end(Error::new(Cause::Start(text)).by_worker(worker.pid));
        }
    }

    /// A worker has died before it began anything, with items at hand: perhaps of reading them. After
    /// a few the first item is to blame, so that they don't die for ever.
    pub(super) fn barren_death(&mut self, first: Option<Run>, cause: &impl Fn() -> Error) {
        self.barren_deaths += 1;
        let Some(Run { job, items }) = first else {
            if self.barren_deaths >= EARLY_DEATHS {
                self.restart_at = Some(clock::nanos() + START_PAUSE);
            }
            return;
        };
        if self.barren_deaths >= EARLY_DEATHS {
            self.barren_deaths = 0;
            self.blame(&Run { job, items: items.start..items.start + 1 }, cause);
        } else {
            self.restart_at = Some(clock::nanos() + START_PAUSE);
        }
    }

    /// Loses an item that was put back.
    fn blame(&mut self, run: &Run, cause: &impl Fn() -> Error) {
        if let Some(work) = self.jobs.get(run.job) {
            work.withdraw(run.items.start);
        }
        self.lose(run, cause);
    }

    /// A pool whose workers have never worked fails soon; one whose workers have is given time, for
    /// what kills them may pass.
    pub(super) fn early_death(&mut self, cause: Error) {
        if self.has_worked && self.restart_at.is_some() {
            // Several may have been started at once; they count as one.
            return;
        }
        self.early_deaths += 1;
        if self.early_deaths >= if self.has_worked { LATER_DEATHS } else { EARLY_DEATHS } {
            self.end(cause);
        } else if self.early_deaths >= EARLY_DEATHS {
            self.restart_at = Some(clock::nanos() + START_PAUSE);
        }
    }
}

/// The error for a worker that the system doesn't let us start.
pub(super) fn cant_start(error: &io::Error) -> Error {
    use nix::libc::{EAGAIN, EMFILE, ENFILE, ENOENT};

    let remedy = match error.raw_os_error() {
        Some(EMFILE | ENFILE) => "; each worker takes two descriptors: see `ulimit -n`",
        Some(EAGAIN) => "; no more processes are allowed: see `ulimit -u`, or use fewer workers",
        Some(ENOENT) => "; is /proc mounted, and does the current directory exist?",
        _ => "",
    };
    Error::new(Cause::Start(format!("can't start a worker: {error}{remedy}")))
}

/// The number of the next child of this process.
fn next_child_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

//! Who may spin, and for how long: looking again and again for what is about to come, instead of sleeping.
//!
//! A sleeper is woken after tens of microseconds, a spinner sees the word after a tenth of one. But who spins
//! takes a processor away from those who could work. So never more threads spin or work, as far as this
//! process knows, than it has processors: of its workers all but one may spin when they run dry, and a
//! caller that waits spins while its workers leave it a processor. With one processor nobody does.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize, fence};
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::os::clock;
use crate::os::epoll::Epoll;
use crate::os::processor;
use crate::os::spin::{self, Spinner};
use crate::transport::ring::Watch;

/// Nanoseconds between two looks whether a caller has a processor together with its worker.
const APART: u64 = 1_000_000;

/// The processors that this process may use, by its affinity and its control group.
pub(super) fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

static PERMITS: AtomicUsize = AtomicUsize::new(0);

/// A worker's permit to spin; another one gets it when this is dropped.
pub(super) struct Permit(());

impl Permit {
    /// None: so many workers as this process may have spin already.
    pub(super) fn take() -> Option<Self> {
        let most = processors() - 1;
        let one_more = |taken| (taken < most).then_some(taken + 1);
        PERMITS.fetch_update(Relaxed, Relaxed, one_more).ok().map(|_| Self(()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        PERMITS.fetch_sub(1, Relaxed);
    }
}

/// What can be looked at of a pool's workers without its lock.
#[derive(Default)]
pub(super) struct Watches {
    all: Vec<(u64, Arc<Watch>)>,
    /// Whether every worker can be looked at.
    are_all: bool,
    spinner: Spinner,
    /// When it is looked again whether this thread has a processor together with the worker it waits for.
    part_at: AtomicU64,
}

impl FromIterator<(u64, Option<Arc<Watch>>)> for Watches {
    fn from_iter<I: IntoIterator<Item = (u64, Option<Arc<Watch>>)>>(watches: I) -> Self {
        let mut are_all = true;
        let watch = |(id, watch): (u64, Option<Arc<Watch>>)| {
            are_all &= watch.is_some();
            Some((id, watch?))
        };
        let all = watches.into_iter().filter_map(watch).collect();
        Self { all, are_all, ..Self::default() }
    }
}

impl Watches {
    pub(super) fn iter(&self) -> impl Iterator<Item = &(u64, Arc<Watch>)> {
        self.all.iter()
    }

    /// Whether every worker can be looked at.
    pub(super) fn are_all(&self) -> bool {
        self.are_all
    }

    /// Whether there is something to take in or to send.
    pub(super) fn have_news(&self) -> bool {
        self.all.iter().any(|(_, watch)| watch.has_news())
    }

    /// Before a wait: the workers will kick. True: there are news already.
    pub(super) fn arm(&self) -> bool {
        self.all.iter().for_each(|(_, watch)| watch.arm());
        fence(SeqCst);
        self.have_news()
    }

    /// After a wait.
    pub(super) fn disarm(&self) {
        self.all.iter().for_each(|(_, watch)| watch.disarm());
    }

    /// Spins until there are news, the bell of the pool's descriptors rings, or the time has passed: at
    /// most as long as it pays, and not at all where it doesn't. True: there are news.
    pub(super) fn spin(&self, at_work: AtWork, until: Option<u64>, epoll: &Epoll) -> bool {
        if at_work.workers == 0 || self.all.is_empty() {
            return self.have_news();
        }
        let Some(_leading) = Leading::begin(at_work.workers) else { return self.have_news() };
        let most = spin::limit();
        let limit = until.map_or(most, |until| until.saturating_sub(clock::nanos()).min(most));
        let is_over = || self.have_news() || epoll.is_rung();
        let is_seen = self.spinner.spin(limit, is_over)
            || at_work
                .only
                .is_some_and(|worker| self.part_from(worker) && self.spinner.spin(limit, is_over));
        is_seen && self.have_news()
    }

    /// Leaves the processor to the one worker that this thread waits for, if it is there that it runs. Looks
    /// seldom: it costs as much as a wake.
    fn part_from(&self, worker: u32) -> bool {
        let now = clock::nanos();
        if now < self.part_at.load(Relaxed) {
            return false;
        }
        self.part_at.store(now + APART, Relaxed);
        let has_parted = processor::part_from(worker);
        if has_parted {
            self.spinner.forget();
        }
        has_parted
    }
}

/// The workers that have something to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AtWork {
    pub(super) workers: usize,
    /// Its process, if there is just one.
    pub(super) only: Option<u32>,
}

static LEADERS: AtomicUsize = AtomicUsize::new(0);

/// This thread spins, waiting for its workers.
struct Leading(());

impl Leading {
    /// None: with so many workers at work, and the other threads that spin, no processor is left.
    fn begin(at_work: usize) -> Option<Self> {
        let leading = Self(());
        let others = LEADERS.fetch_add(1, Relaxed);
        (at_work + others < processors()).then_some(leading)
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        LEADERS.fetch_sub(1, Relaxed);
    }
}

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

/// A caller leaves its worker's processor when it has waited for it there, again and again, for so many
/// nanoseconds: about as long as leaving takes. A pause as long as that ends a conversation.
const TOGETHER: u64 = 100_000;

/// Nanoseconds after a caller has left the processor of its worker until it may do so again, at first. Each
/// time that they have met again soon it is twice as long, up to the second number: the system has its reasons,
/// such as another process on the other processor.
const APART: u64 = 1_000_000;
const APART_AT_MOST: u64 = 8 * APART;

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
    parting: Parting,
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
        if let Some(worker) = at_work.only {
            self.part_from(worker);
        }
        let most = spin::limit();
        let limit = until.map_or(most, |until| until.saturating_sub(clock::nanos()).min(most));
        let is_over = || self.have_news() || epoll.is_rung();
        self.spinner.spin(limit, is_over) && self.have_news()
    }

    /// Leaves the processor to the one worker that this thread waits for, if it is there that it runs. Seldom,
    /// and not for one call after a pause: it takes longer than that.
    fn part_from(&self, worker: u64) {
        let watch = self.all.iter().find(|(id, _)| *id == worker).map(|(_, watch)| watch);
        let Some(watch) = watch.filter(|watch| watch.shares_processor()) else { return };
        if self.parting.is_due(clock::nanos()) && processor::leave() {
            self.spinner.forget();
            watch.let_spin_anew();
        }
    }
}

/// When callers leave their worker's processor. Threads that use it at the same time may disturb each other.
#[derive(Default)]
struct Parting {
    /// Since when they have waited there, and when that was seen last.
    together: AtomicU64,
    seen: AtomicU64,
    /// When they may leave, and how long after that.
    part_at: AtomicU64,
    apart: AtomicU64,
}

impl Parting {
    /// A caller is about to wait on its worker's processor. True: it should leave.
    fn is_due(&self, now: u64) -> bool {
        if now.saturating_sub(self.seen.swap(now, Relaxed)) > TOGETHER {
            self.together.store(now, Relaxed);
        }
        let part_at = self.part_at.load(Relaxed);
        if now < part_at || now.saturating_sub(self.together.load(Relaxed)) < TOGETHER {
            return false;
        }
        let before = self.apart.load(Relaxed);
        let is_soon = now - part_at < before;
        let apart = if is_soon { (2 * before).min(APART_AT_MOST) } else { APART };
        self.apart.store(apart, Relaxed);
        self.part_at.store(now + apart, Relaxed);
        true
    }
}

/// The workers that have something to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct AtWork {
    pub(super) workers: usize,
    /// The worker, if there is just one.
    pub(super) only: Option<u64>,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// How many nanoseconds of calls, one each 10 µs from `start` on, go by until a caller leaves.
    fn until_left(parting: &Parting, start: u64) -> u64 {
        (0..).step_by(10_000).find(|after| parting.is_due(start + after)).unwrap()
    }

    #[test]
    fn calls_after_pauses_leave_nothing() {
        let parting = Parting::default();
        assert!((1..1000).all(|call| !parting.is_due(call * 5_000_000)));
    }

    #[test]
    fn calls_that_go_on_leave_and_more_and_more_seldom() {
        let (parting, start) = (Parting::default(), 1_000_000_000);
        assert_eq!(until_left(&parting, start), TOGETHER);
        let mut now = start + TOGETHER;
        for times in [1, 2, 4, 8, 8, 8] {
            let pause = until_left(&parting, now + 10_000) + 10_000;
            assert_eq!(pause, times * APART);
            now += pause;
        }
        // Long apart, and together again.
        now += 100 * APART;
        assert_eq!(until_left(&parting, now), TOGETHER);
        assert_eq!(until_left(&parting, now + TOGETHER + 10_000) + 10_000, APART);
    }
}

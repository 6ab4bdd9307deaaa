//! A job: one call of a verb, with all its items.
//!
//! ```text
//! OPEN    items are pending, with a worker, or settled (each in exactly one of the three)
//! DONE    the outcome is set, once, and never changes; answers that come later are dropped
//! ```
//!
//! [`Job`] is what the caller holds; [`Work`] is what the pool holds while the job is open. A job whose
//! first error counts (`map`) has a cut-off: the lowest index that has failed. Items above it don't
//! matter any more, items below it are still run, so the error is always that of the lowest index.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use smallvec::SmallVec;

use super::arena::Arena;
use super::callbacks;
use super::outcome::{Answer, Outcome};
use super::queue::JobKey;
use super::retrial::Trials;
use super::spec::Spec;
use crate::error::Error;
use crate::transport::LongBytes;
pub(crate) use crate::transport::message::Inputs;

/// A report of how far a job is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// How many items have a result or an error.
    pub done: usize,
    /// How many items there are.
    pub total: usize,
}

type ProgressCallback = Box<dyn FnMut(Progress) + Send>;

struct ProgressReport {
    callback: Arc<Mutex<ProgressCallback>>,
    /// Whether a report is on its way that will see the latest count.
    under_way: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
}

/// The jobs of one `imap_unordered`, in the order in which they were done.
#[derive(Default)]
pub(crate) struct Group {
    done: Mutex<VecDeque<usize>>,
}

impl Group {
    /// The number of a job that is done and hasn't been taken yet.
    pub(crate) fn take(&self) -> Option<usize> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

type Callback = Box<dyn FnOnce(&Job) + Send>;

/// A call, as its caller sees it.
pub(crate) struct Job {
    pub(crate) spec: Arc<Spec>,
    /// The index of the first item, where errors name one.
    pub(crate) first_index: Option<usize>,
    told: Option<Box<Told>>,
    outcome: OnceLock<Outcome>,
    /// Whether somebody may be in `wakers`.
    is_awaited: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
    /// The key's parts, written once, and read, under the pool's lock. 0: it has none.
    serial: AtomicU64,
    slot: AtomicUsize,
}

/// Who is told of a job, besides those who wait for it. Most jobs have nobody.
#[derive(Default)]
struct Told {
    /// Under which number a group has it.
    group: Option<(Arc<Group>, usize)>,
    callback: Mutex<Option<Callback>>,
    calls_back: bool,
    progress: Option<ProgressReport>,
}

impl Job {
    pub(crate) fn new(spec: Arc<Spec>, first_index: Option<usize>) -> Self {
        Self {
            spec,
            first_index,
            told: None,
            outcome: OnceLock::new(),
            is_awaited: AtomicBool::new(false),
            wakers: Mutex::default(),
            serial: AtomicU64::new(0),
            slot: AtomicUsize::new(0),
        }
    }

    /// Whether somebody is called back when it is done, or on the way there.
    pub(super) fn is_urgent(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.calls_back || told.progress.is_some())
    }

    /// Under which name the pool has it, once it was taken on.
    pub(super) fn key(&self) -> Option<JobKey> {
        let serial = self.serial.load(Ordering::Relaxed);
        (serial != 0).then(|| JobKey { slot: self.slot.load(Ordering::Relaxed), serial })
    }

    pub(super) fn set_key(&self, key: JobKey) {
        self.slot.store(key.slot, Ordering::Relaxed);
        self.serial.store(key.serial, Ordering::Relaxed);
    }

    pub(crate) fn in_group(mut self, group: &Arc<Group>, number: usize) -> Self {
        self.told().group = Some((Arc::clone(group), number));
        self
    }

    /// Whether it is one of this group.
    pub(super) fn is_in(&self, group: &Arc<Group>) -> bool {
        let known = self.told.as_ref().and_then(|told| told.group.as_ref());
        known.is_some_and(|(other, _)| Arc::ptr_eq(other, group))
    }

    fn told(&mut self) -> &mut Told {
        self.told.get_or_insert_default()
    }

    /// Runs when the job is done, on the thread for callbacks.
    pub(crate) fn then(mut self, callback: impl FnOnce(&Self) + Send + 'static) -> Self {
        self.told().callback = Mutex::new(Some(Box::new(callback)));
        self.told().calls_back = true;
        self
    }

    pub(crate) fn reporting(mut self, callback: Option<ProgressCallback>) -> Self {
        if let Some(callback) = callback {
            self.told().progress = Some(ProgressReport {
                callback: Arc::new(Mutex::new(callback)),
                under_way: Arc::default(),
                done: Arc::default(),
            });
        }
        self
    }

    /// The outcome, when the job is done.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    /// The outcome, if the job is done, for its only holder.
    pub(crate) fn into_outcome(self) -> Option<Outcome> {
        self.outcome.into_inner()
    }

    /// Has `waker` woken when the job is done. Afterwards the caller takes the pool's lock once, under
    /// which jobs are finished, and then looks at the outcome once more.
    pub(crate) fn wake_when_done(&self, waker: &Waker) {
        self.is_awaited.store(true, Ordering::Relaxed);
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    /// Sets the outcome and hands out who is to be told. Called once.
    fn finish(self: &Arc<Self>, outcome: Outcome) -> Vec<Waker> {
        let was_unset = self.outcome.set(outcome).is_ok();
        debug_assert!(was_unset, "a job is done once");
        if let Some(told) = &self.told {
            if let Some((group, number)) = &told.group {
                group.done.lock().unwrap_or_else(PoisonError::into_inner).push_back(*number);
            }
            let callback = told.callback.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(callback) = callback {
                let job = Arc::clone(self);
                callbacks::run_later(Box::new(move || callback(&job)));
            }
        }
        if !self.is_awaited.load(Ordering::Relaxed) {
            return Vec::new();
        }
        std::mem::take(&mut *self.wakers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn report(&self, done: usize, total: usize) {
        let progress = self.told.as_ref().and_then(|told| told.progress.as_ref());
        let Some(progress) = progress else { return };
        progress.done.store(done, Ordering::Release);
        if progress.under_way.swap(true, Ordering::AcqRel) {
            return;
        }
        let callback = Arc::clone(&progress.callback);
        let under_way = Arc::clone(&progress.under_way);
        let done = Arc::clone(&progress.done);
        callbacks::run_later(Box::new(move || {
            under_way.store(false, Ordering::Release);
            let done = done.load(Ordering::Acquire);
            callback.lock().unwrap_or_else(PoisonError::into_inner)(Progress { done, total });
        }));
    }
}

/// An open job, as the pool sees it.
pub(super) struct Work {
    pub(super) job: Arc<Job>,
    pub(super) inputs: Inputs,
    /// The items that are with no worker and not settled, in runs, in input order.
    pending: SmallVec<[Range<u32>; 1]>,
    outcome: Outcome,
    /// How many items that matter are not settled.
    left: usize,
    cut_off: u32,
    pub(super) trials: Trials,
    /// The items that may have made a worker late which said nothing of it. Mostly none have.
    suspects: BTreeSet<u32>,
    /// The number of the board on which it was posted.
    pub(super) posted: Option<u64>,
    /// The memory of this board, when nobody takes part in it any more: inputs that are to be sent may lie there.
    arena: Option<Arena>,
}

impl Work {
    /// `failed` are items that couldn't even be encoded.
    pub(super) fn new(job: Arc<Job>, inputs: Inputs, failed: Vec<(u32, Error)>) -> Box<Self> {
        let items = u32::try_from(inputs.len()).expect("checked when the job was submitted");
        // A single result is held as it comes.
        let results = job.spec.results.filter(|_| items > 1);
        let outcome = Outcome::new(items as usize, results);
        let mut work = Box::new(Self {
            job,
            inputs,
            pending: SmallVec::new(),
            outcome,
            left: items as usize,
            cut_off: u32::MAX,
            trials: Trials::default(),
            suspects: BTreeSet::new(),
            posted: None,
            arena: None,
        });
        let mut start = 0;
        for (item, _) in &failed {
            work.put_back(start..*item);
            start = item + 1;
        }
        work.put_back(start..items);
        for (item, error) in failed {
            work.settle(item, Answer::Failed(error));
        }
        work
    }

    /// Whether every item that matters is settled.
    pub(super) fn is_settled(&self) -> bool {
        self.left == 0
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Puts all items on the board with this number: they are pending no more.
    pub(super) fn post(&mut self, board: u64) {
        self.pending.clear();
        self.posted = Some(board);
    }

    /// Keeps the memory of its board to its end.
    pub(super) fn keep(&mut self, arena: Option<Arena>) {
        self.arena = arena;
    }

    /// How many items there are.
    pub(super) fn items(&self) -> u32 {
        self.outcome.items() as u32
    }

    /// Whether nothing has failed that keeps others from being run.
    pub(super) fn is_whole(&self) -> bool {
        self.cut_off == u32::MAX
    }

    /// Whether an answer to this item would matter.
    pub(super) fn is_open(&self, item: u32) -> bool {
        item <= self.cut_off && !self.outcome.is_answered(item)
    }

    /// Lets go of the long end of an item's arguments, which are of no use once it is answered: the memory may
    /// serve for a result to come. On a board a worker may have an item sent once more.
    pub(super) fn let_go(&mut self, item: u32) -> Option<LongBytes> {
        if self.posted.is_some() { None } else { self.inputs.let_go(item as usize) }
    }

    pub(super) fn is_answered(&self, item: u32) -> bool {
        self.outcome.is_answered(item)
    }

    /// How many items that matter have no answer.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// Whether an answer to this item still matters.
    pub(super) fn wants(&self, item: u32) -> bool {
        item <= self.cut_off && item < self.items() && !self.is_answered(item)
    }

    /// Makes those items pending that matter and that nobody has, given what workers have. Runs may overlap,
    /// and have been answered, where a worker has forged what it had.
    pub(super) fn find_lost(&mut self, with_workers: &[Range<u32>]) {
        let end = self.items().min(self.cut_off.saturating_add(1));
        let mut runs: Vec<_> = self.pending.iter().chain(with_workers).cloned().collect();
        runs.sort_unstable_by_key(|run| run.start);
        runs.push(end..end);
        let mut gaps = Vec::new();
        let (mut reached, mut somewhere) = (0, 0);
        for run in runs {
            let start = run.start.clamp(reached, end);
            gaps.push(reached..start);
            reached = run.end.min(end).max(start);
            somewhere += (start..reached).filter(|item| !self.is_answered(*item)).count();
        }
        // The usual case: no look at every item there is.
        if somewhere == self.left {
            return;
        }
        for gap in gaps {
            self.put_back_unanswered(gap);
        }
    }

    /// Makes those of these items pending that have no answer.
    pub(super) fn put_back_unanswered(&mut self, items: Range<u32>) {
        let end = items.end.min(self.items());
        let mut run = items.start.min(end)..items.start.min(end);
        for item in run.start..end {
            if self.is_answered(item) {
                self.put_back(run);
                run = item + 1..item + 1;
            } else {
                run.end = item + 1;
            }
        }
        self.put_back(run);
    }

    /// How many items are pending.
    pub(super) fn pending(&self) -> usize {
        self.pending.iter().map(|run| run.len()).sum()
    }

    /// Takes at most `count` consecutive items that make at most `bytes` (one item is always taken).
    pub(super) fn take(&mut self, count: usize, bytes: usize) -> Option<Range<u32>> {
        let run = self.pending.first_mut()?;
        let mut end = run.start + count.clamp(1, run.len()) as u32;
        let size = |end: u32| self.inputs.length(run.start as usize..end as usize);
        if size(end) > bytes {
            // The span grows with its end, so the longest that fits is found by halving.
            let (mut fits, mut too_long) = (run.start + 1, end);
            while too_long - fits > 1 {
                let middle = fits + (too_long - fits) / 2;
                if size(middle) > bytes { too_long = middle } else { fits = middle }
            }
            end = fits;
        }
        let taken = run.start..end;
        run.start = end;
        if end == run.end {
            self.pending.remove(0);
        }
        Some(taken)
    }

    /// Makes items pending that a worker had and hasn't begun.
    pub(super) fn put_back(&mut self, run: Range<u32>) {
        let run = run.start..run.end.min(self.cut_off.saturating_add(1));
        if run.start >= run.end {
            return;
        }
        let at = self.pending.partition_point(|other| other.start < run.start);
        self.pending.insert(at, run);
    }

    /// Makes a pending item not pending, to be settled.
    pub(super) fn withdraw(&mut self, item: u32) {
        let Some(at) = self.pending.iter().position(|run| run.contains(&item)) else { return };
        let run = self.pending.remove(at);
        self.put_back(run.start..item);
        self.put_back(item + 1..run.end);
    }

    /// Whether an item that may have made its worker late may have done so before; notes that it may have.
    pub(super) fn is_suspected_again(&mut self, item: u32) -> bool {
        !self.suspects.insert(item)
    }

    /// The index that an error names.
    pub(super) fn index(&self, item: u32) -> Option<usize> {
        self.job.first_index.map(|first| first + item as usize)
    }

    /// Notes an item's answer; one that doesn't matter any more is dropped. True: the cut-off fell, and
    /// what lies above it should be taken back from the workers.
    pub(super) fn settle(&mut self, item: u32, answer: Answer<'_>) -> bool {
        if !self.is_open(item) {
            return false;
        }
        self.left -= 1;
        let failed = self.outcome.set(item, answer);
        self.report();
        let cuts = failed && self.job.spec.first_error_counts;
        if cuts {
            self.cut(item);
        }
        cuts
    }

    /// Notes the tiny results that `bytes` begin with, for the items from `items.start` on, whose first
    /// has this number. One loop and one copy for all of them. Returns how many there were, and their
    /// bytes.
    pub(super) fn settle_tiny(
        &mut self,
        items: Range<u32>,
        number: u32,
        bytes: &[u8],
    ) -> (u32, usize) {
        let (count, length, answered) = self.outcome.set_tiny(items, number, bytes, self.cut_off);
        self.left -= answered;
        if count > 0 {
            self.report();
        }
        (count, length)
    }

    /// Notes the results of consecutive items, all of one size, that follow each other.
    pub(super) fn settle_run(&mut self, items: Range<u32>, results: &[u8]) {
        let end = items.end.min(self.cut_off.saturating_add(1));
        self.left -= self.outcome.set_run(items.start..end.max(items.start), results);
        self.report();
    }

    fn report(&self) {
        if self.job.told.is_some() {
            self.job.report(self.outcome.items() - self.left, self.outcome.items());
        }
    }

    fn cut(&mut self, item: u32) {
        self.cut_off = item;
        for run in &mut self.pending {
            run.end = run.end.min(item);
        }
        self.pending.retain(|run| run.start < run.end);
        self.left = (0..item).filter(|item| !self.outcome.is_answered(*item)).count();
    }

    /// Ends the job; items without an answer get `rest`. Returns who is to be woken, and the job, its inputs
    /// and the memory of its board, to be dropped where no lock is held: that takes its time, and other locks.
    pub(super) fn finish(
        self,
        rest: Option<Error>,
    ) -> (Vec<Waker>, Arc<Job>, Inputs, Option<Arena>) {
        let Self { job, inputs, mut outcome, cut_off, arena, .. } = self;
        outcome.end(rest, cut_off);
        (job.finish(outcome), job, inputs, arena)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Kind;

    fn work(items: usize, first_error_counts: bool) -> Box<Work> {
        let mut inputs = Inputs::default();
        for item in 0..items {
            inputs
                .push(|out| {
                    out.extend_from_slice(&vec![0; item]);
                    Ok::<(), ()>(())
                })
                .unwrap();
        }
        let spec = Spec {
            callee: [0; 17],
            task: "t".into(),
            bound: None,
            time_limit: None,
            soft_limit: None,
            grace: Duration::ZERO,
            retries: 1,
            backoff: None,
            chunk: None,
            priority: 0,
            bound_once: true,
            first_error_counts,
            typed: false,
            results: None,
            shared: false,
        };
        Work::new(Arc::new(Job::new(Arc::new(spec), Some(0))), inputs, Vec::new())
    }

    fn failure() -> Answer<'static> {
        Answer::Failed(Error::new(Kind::Cancelled))
    }

    #[test]
    fn items_are_taken_in_order_and_by_bytes() {
        let mut work = work(100, false);
        assert_eq!(work.take(3, usize::MAX), Some(0..3));
        assert_eq!(work.take(1000, 8 * 10 + (3..13).sum::<usize>()), Some(3..13));
        assert_eq!(work.take(1000, 0), Some(13..14));
        work.put_back(1..3);
        assert_eq!(work.take(1000, usize::MAX), Some(1..3));
        assert_eq!(work.take(1000, usize::MAX), Some(14..100));
        assert_eq!(work.take(1, usize::MAX), None);
    }

    #[test]
    fn the_lowest_failing_index_counts() {
        let mut work = work(10, true);
        assert_eq!(work.take(8, usize::MAX), Some(0..8));
        assert!(work.settle(6, failure()));
        assert!(!work.has_pending());
        work.put_back(2..8);
        assert_eq!(work.take(8, usize::MAX), Some(2..7));
        assert!(!work.settle(7, Answer::Value(b"late")));
        for item in [0, 1, 2, 4, 5] {
            work.settle(item, Answer::Value(b""));
        }
        assert!(!work.is_settled());
        assert!(work.settle(3, failure()));
        assert!(work.is_settled());
    }

    #[test]
    fn without_a_cut_off_each_item_has_its_own() {
        let mut work = work(2, false);
        assert!(!work.settle(0, failure()));
        assert!(!work.settle(1, Answer::Value(b"ab")));
        assert!(work.is_settled());
        let job = Arc::clone(&work.job);
        work.finish(None);
        let outcome = job.outcome().unwrap();
        assert!(outcome.get(0).is_err());
        assert_eq!(*outcome.get(1).unwrap(), *b"ab");
    }

    /// Whatever workers have forged: an item that is pending twice, or with somebody though it has an answer,
    /// makes up for none that nobody has.
    #[test]
    fn what_nobody_has_is_found() {
        let mut work = work(100, false);
        assert_eq!(work.take(100, usize::MAX), Some(0..100));
        for item in 20..90 {
            work.settle(item, Answer::Value(b""));
        }
        work.put_back(95..100);
        work.put_back(93..100);
        // 20 to 36 have their answers, 95 to 100 are there twice or more: as many in all as have no answer.
        work.find_lost(&[20..36, 98..100]);
        let taken = |work: &mut Work| work.take(usize::MAX, usize::MAX);
        let runs: Vec<_> = std::iter::from_fn(|| taken(&mut work)).collect();
        assert_eq!(runs, [0..20, 90..93, 93..100, 95..100]);
        work.put_back(0..20);
        work.find_lost(&[90..95, 95..100]);
        assert_eq!(taken(&mut work), Some(0..20));
        assert_eq!(taken(&mut work), None);
    }
}

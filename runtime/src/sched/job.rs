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

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::callbacks;
use super::queue::JobKey;
use crate::error::Error;
use crate::shm::heap::{Object, parcel};
use crate::transport::SharedBytes;
use crate::transport::frame::Small;
use crate::transport::message::CalleeBytes;
pub(crate) use crate::transport::message::Inputs;

/// What a call asks for.
pub(crate) struct Spec {
    pub(crate) callee: CalleeBytes,
    pub(crate) task: Cow<'static, str>,
    pub(crate) bound: Option<Arc<Bound>>,
    /// Hard, for each item, from its own start.
    pub(crate) time_limit: Option<Duration>,
    /// How often an item runs again after its worker was lost.
    pub(crate) retries: u32,
    pub(crate) chunk: Option<usize>,
    /// Higher goes first.
    pub(crate) priority: i32,
    /// Whether the bound arguments are for this job alone, and may be forgotten when it is done.
    pub(crate) bound_once: bool,
    /// Whether the error of the lowest failing index is the outcome of all.
    pub(crate) first_error_counts: bool,
}

/// Arguments that go to each worker once.
pub(crate) struct Bound {
    /// Never 0, and never used again in this process.
    pub(crate) number: u64,
    pub(crate) bytes: SharedBytes,
    /// The handles in them, held for the workers that have yet to decode them.
    _handles: Vec<Object>,
}

impl Bound {
    pub(crate) fn new(bytes: Vec<u8>, handles: Vec<Object>) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed) as u64;
        Self { number, bytes: SharedBytes::new(bytes), _handles: handles }
    }
}

/// What became of the items.
pub(crate) struct Outcome {
    slots: Vec<Slot>,
    packed: Vec<u8>,
    /// What the items without a result of their own ended with.
    rest: Option<Error>,
}

/// For at most so many results room is made on the size of the first ones.
const MOST_EXPECTED: usize = 1 << 20;

enum Slot {
    Empty,
    /// Where the result lies in `packed`.
    Packed(usize, usize),
    /// A result with handles in it, and what holds these: it may be decoded any number of times.
    Parcel(Object),
    /// A large result in the buffer in which it arrived, and where it begins.
    Large(Box<(Vec<u8>, usize)>),
    Failed(Error),
}

impl Outcome {
    fn new(items: usize) -> Self {
        let slots = std::iter::repeat_with(|| Slot::Empty).take(items).collect();
        Self { slots, packed: Vec::new(), rest: None }
    }

    pub(crate) fn items(&self) -> usize {
        self.slots.len()
    }

    /// The encoded result of an item.
    #[inline]
    pub(crate) fn get(&self, item: usize) -> Result<Cow<'_, [u8]>, Error> {
        match &self.slots[item] {
            Slot::Packed(at, length) => Ok(Cow::Borrowed(&self.packed[*at..*at + *length])),
            Slot::Large(body) => Ok(Cow::Borrowed(&body.0[body.1..])),
            Slot::Parcel(parcel) => open(parcel).map(Cow::Owned),
            Slot::Failed(error) => Err(error.clone()),
            Slot::Empty => Err(self.rest.clone().expect("a job without a result has an error")),
        }
    }

    /// How many bytes the encoded result of an item has, with what holds its handles.
    pub(crate) fn size(&self, item: usize) -> usize {
        match &self.slots[item] {
            Slot::Packed(_, length) => *length,
            Slot::Large(body) => body.0.len() - body.1,
            Slot::Parcel(parcel) => parcel.bytes(),
            Slot::Failed(_) | Slot::Empty => 0,
        }
    }

    fn error(&self, item: usize) -> Option<&Error> {
        match &self.slots[item] {
            Slot::Failed(error) => Some(error),
            Slot::Empty => Some(self.rest.as_ref().expect("a job without a result has an error")),
            _ => None,
        }
    }

    /// Whether an item failed.
    pub(crate) fn first_error(&self) -> Option<Error> {
        (0..self.items()).find_map(|item| self.error(item).cloned())
    }
}

/// The bytes of a result with handles in it.
#[cold]
fn open(parcel: &Object) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let opened = parcel::bytes(parcel, &mut bytes);
    opened.map_err(|error| Error::system("a result's memory can't be used", &error))?;
    Ok(bytes)
}

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

type Callback = Box<dyn FnOnce(&Outcome) + Send>;

/// A call, as its caller sees it.
pub(crate) struct Job {
    pub(crate) spec: Arc<Spec>,
    /// The index of the first item, where errors name one.
    pub(crate) first_index: Option<usize>,
    pub(crate) group: Option<(Arc<Group>, usize)>,
    outcome: OnceLock<Outcome>,
    wakers: Mutex<Vec<Waker>>,
    callbacks: Mutex<Vec<Callback>>,
    calls_back: bool,
    progress: Option<ProgressReport>,
    key: OnceLock<JobKey>,
}

impl Job {
    pub(crate) fn new(spec: Arc<Spec>, first_index: Option<usize>) -> Self {
        Self {
            spec,
            first_index,
            group: None,
            outcome: OnceLock::new(),
            wakers: Mutex::default(),
            callbacks: Mutex::default(),
            calls_back: false,
            progress: None,
            key: OnceLock::new(),
        }
    }

    /// Whether somebody is called back when it is done, or on the way there.
    pub(super) fn is_urgent(&self) -> bool {
        self.calls_back || self.progress.is_some()
    }

    /// Under which name the pool has it, once it was taken on.
    pub(super) fn key(&self) -> Option<JobKey> {
        self.key.get().copied()
    }

    pub(super) fn set_key(&self, key: JobKey) {
        let _ = self.key.set(key);
    }

    pub(crate) fn in_group(mut self, group: &Arc<Group>, number: usize) -> Self {
        self.group = Some((Arc::clone(group), number));
        self
    }

    /// Runs when the job is done, on the thread for callbacks.
    pub(crate) fn then(mut self, callback: impl FnOnce(&Outcome) + Send + 'static) -> Self {
        self.callbacks.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(callback));
        self.calls_back = true;
        self
    }

    pub(crate) fn reporting(mut self, callback: Option<ProgressCallback>) -> Self {
        self.progress = callback.map(|callback| ProgressReport {
            callback: Arc::new(Mutex::new(callback)),
            under_way: Arc::default(),
            done: Arc::default(),
        });
        self
    }

    /// The outcome, when the job is done.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    /// Has `waker` woken when the job is done; the caller looks at the outcome once more afterwards.
    pub(crate) fn wake_when_done(&self, waker: &Waker) {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    /// Sets the outcome and hands out who is to be told. Called once.
    fn finish(self: &Arc<Self>, outcome: Outcome) -> Vec<Waker> {
        let was_unset = self.outcome.set(outcome).is_ok();
        debug_assert!(was_unset, "a job is done once");
        if let Some((group, number)) = &self.group {
            group.done.lock().unwrap_or_else(PoisonError::into_inner).push_back(*number);
        }
        let waiting =
            std::mem::take(&mut *self.callbacks.lock().unwrap_or_else(PoisonError::into_inner));
        for callback in waiting {
            let job = Arc::clone(self);
            callbacks::run_later(Box::new(move || {
                callback(job.outcome().expect("callbacks follow the outcome"));
            }));
        }
        std::mem::take(&mut *self.wakers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn report(&self, done: usize, total: usize) {
        let Some(progress) = &self.progress else { return };
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

/// An answer to one item.
pub(super) enum Answer<'a> {
    Value(&'a [u8]),
    Large(Vec<u8>, usize),
    /// A result with handles in it, in what holds these.
    Parcel(Object),
    Failed(Error),
}

/// An open job, as the pool sees it.
pub(super) struct Work {
    pub(super) job: Arc<Job>,
    pub(super) inputs: Inputs,
    /// The items that are with no worker and not settled, in runs, in input order.
    pending: VecDeque<Range<u32>>,
    outcome: Outcome,
    /// How many items that matter are not settled.
    left: usize,
    cut_off: u32,
    attempts: HashMap<u32, u32>,
}

impl Work {
    /// `failed` are items that couldn't even be encoded.
    pub(super) fn new(job: Arc<Job>, inputs: Inputs, failed: Vec<(u32, Error)>) -> Self {
        let items = u32::try_from(inputs.len()).expect("checked when the job was submitted");
        let mut work = Self {
            job,
            inputs,
            pending: VecDeque::new(),
            outcome: Outcome::new(items as usize),
            left: items as usize,
            cut_off: u32::MAX,
            attempts: HashMap::new(),
        };
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

    /// How many items are pending.
    pub(super) fn pending(&self) -> usize {
        self.pending.iter().map(|run| run.len()).sum()
    }

    /// Takes at most `count` consecutive items that make at most `bytes` (one item is always taken).
    pub(super) fn take(&mut self, count: usize, bytes: usize) -> Option<Range<u32>> {
        let run = self.pending.front_mut()?;
        let mut end = run.start + count.clamp(1, run.len()) as u32;
        let size = |end: u32| self.inputs.span(run.start as usize..end as usize).1.len();
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
            self.pending.pop_front();
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
        let run = self.pending.remove(at).expect("it was just found");
        self.put_back(run.start..item);
        self.put_back(item + 1..run.end);
    }

    /// Whether an item whose worker was lost may run once more; counts the attempt.
    pub(super) fn may_retry(&mut self, item: u32) -> bool {
        let attempts = self.attempts.entry(item).or_default();
        *attempts += 1;
        *attempts <= self.job.spec.retries
    }

    /// The index that an error names.
    pub(super) fn index(&self, item: u32) -> Option<usize> {
        self.job.first_index.map(|first| first + item as usize)
    }

    /// Notes an item's answer; one that doesn't matter any more is dropped. True: the cut-off fell, and
    /// what lies above it should be taken back from the workers.
    pub(super) fn settle(&mut self, item: u32, answer: Answer<'_>) -> bool {
        let slot = &mut self.outcome.slots[item as usize];
        if item > self.cut_off || !matches!(slot, Slot::Empty) {
            return false;
        }
        self.left -= 1;
        let mut failed = false;
        *slot = match answer {
            Answer::Value(bytes) => {
                let at = self.outcome.packed.len();
                self.outcome.packed.extend_from_slice(bytes);
                Slot::Packed(at, bytes.len())
            }
            Answer::Large(buffer, start) => Slot::Large(Box::new((buffer, start))),
            Answer::Parcel(parcel) => Slot::Parcel(parcel),
            Answer::Failed(error) => {
                failed = true;
                Slot::Failed(error)
            }
        };
        if self.job.progress.is_some() {
            self.job.report(self.outcome.items() - self.left, self.outcome.items());
        }
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
        let base = self.outcome.packed.len();
        let (mut count, mut at) = (0, 0);
        for slot in &mut self.outcome.slots[items.start as usize..items.end as usize] {
            let Some((got, length)) = Small::parse(&bytes[at..]) else { break };
            let start = at + Small::SIZE;
            let due = number.wrapping_add(count) & Small::NUMBER;
            if got != due || bytes.len() - start < length {
                break;
            }
            if matches!(slot, Slot::Empty) && items.start + count <= self.cut_off {
                // What was there is empty: nothing to drop, which the compiler can't see.
                std::mem::forget(std::mem::replace(slot, Slot::Packed(base + start, length)));
                self.left -= 1;
            }
            count += 1;
            at = start + length;
        }
        if base == 0 && count > 0 {
            // The others are likely to be of this size, too.
            let each = at / count as usize + 1;
            self.outcome.packed.reserve(each * self.outcome.slots.len().min(MOST_EXPECTED));
        }
        self.outcome.packed.extend_from_slice(&bytes[..at]);
        if self.job.progress.is_some() && count > 0 {
            self.job.report(self.outcome.items() - self.left, self.outcome.items());
        }
        (count, at)
    }

    fn cut(&mut self, item: u32) {
        self.cut_off = item;
        for run in &mut self.pending {
            run.end = run.end.min(item);
        }
        self.pending.retain(|run| !run.is_empty());
        let matter = &self.outcome.slots[..item as usize];
        self.left = matter.iter().filter(|slot| matches!(slot, Slot::Empty)).count();
    }

    /// Ends the job; items without an answer get `rest`. Returns who is to be woken, and the inputs, to
    /// be dropped where no lock is held: that takes its time, and other locks.
    pub(super) fn finish(self, rest: Option<Error>) -> (Vec<Waker>, Inputs) {
        let Self { job, inputs, mut outcome, cut_off, .. } = self;
        outcome.rest = rest;
        if outcome.rest.is_none() && cut_off != u32::MAX {
            outcome.rest = outcome.error(cut_off as usize).cloned();
        }
        (job.finish(outcome), inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn work(items: usize, first_error_counts: bool) -> Work {
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
            retries: 1,
            chunk: None,
            priority: 0,
            bound_once: true,
            first_error_counts,
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

    #[test]
    fn retries_are_counted() {
        let mut work = work(1, false);
        assert!(work.may_retry(0));
        assert!(!work.may_retry(0));
    }
}

//! Results as a stream, from inputs as a stream: lazy and bounded.

use std::collections::{HashMap, VecDeque};
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::target;
use crate::error::Error;
use crate::sched::{Crew, Group, Inputs, Job, Spec, What};

/// At most so many items are under way when the buffer adapts: enough to keep workers busy with the
/// tiniest items while the caller is away for a millisecond.
const MOST_ITEMS: usize = 1024;

/// And about so many bytes of arguments and results.
const MOST_BYTES: usize = 16 << 20;

type Next<'a> = Box<dyn FnMut(&mut Inputs) -> Option<Result<(), Error>> + 'a>;

/// The part that both iterators share: the input, and how far it is taken ahead.
pub(super) struct Stream<'a> {
    crew: Arc<Crew>,
    spec: Arc<Spec>,
    next: Next<'a>,
    /// What the caller has asked for.
    buffer: Option<usize>,
    /// How many items may be under way now.
    window: usize,
    under_way: usize,
    /// The bytes of an item's arguments and result, smoothed.
    item_bytes: usize,
    /// How many items have been taken from the input.
    taken: usize,
    failure: Option<Error>,
    /// The size of an item's arguments, if all have one.
    item_size: Option<usize>,
    ended: bool,
}

impl<'a> Stream<'a> {
    pub(super) fn new(
        crew: Arc<Crew>,
        spec: Arc<Spec>,
        buffer: Option<usize>,
        failure: Option<Error>,
        item_size: Option<usize>,
        next: Next<'a>,
    ) -> Self {
        let window = 2 * crew.pids().len().max(1);
        Self {
            crew,
            spec,
            next,
            buffer,
            window,
            under_way: 0,
            item_bytes: 0,
            taken: 0,
            failure,
            item_size,
            ended: false,
        }
    }

    fn chunk(&self) -> usize {
        self.spec.chunk.unwrap_or(1)
    }

    /// Whether more input may be taken.
    fn has_room(&self) -> bool {
        let window = self.buffer.unwrap_or(self.window).max(self.chunk());
        let bytes = self.under_way.saturating_mul(self.item_bytes);
        let fits = self.buffer.is_some() || self.under_way == 0 || bytes < MOST_BYTES;
        !self.ended && fits && self.under_way + self.chunk() <= window
    }

    /// The workers had nothing left to do: more of the input may be under way, within memory.
    fn grow(&mut self) {
        let by_bytes = MOST_BYTES / self.item_bytes.max(1);
        self.window = (self.window * 2).min(MOST_ITEMS).min(by_bytes).max(self.window);
    }

    /// Takes a chunk of the input on; none when the input has ended.
    fn take(&mut self, group: Option<(&Arc<Group>, usize)>) -> Option<Arc<Job>> {
        let mut inputs = Inputs::of_size(self.item_size);
        let mut failed = Vec::new();
        let first = self.taken;
        while inputs.len() < self.chunk() {
            let at = inputs.len();
            match (self.next)(&mut inputs) {
                None => {
                    self.ended = true;
                    break;
                }
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    let index = Some(first + at);
                    failed.push((at as u32, error.of_task(&self.spec.task).at_index(index)));
                    inputs.push_gap();
                }
            }
        }
        if inputs.len() == 0 {
            return None;
        }
        self.observe(inputs.bytes() / inputs.len());
        self.taken += inputs.len();
        self.under_way += inputs.len();
        let mut job = Job::new(Arc::clone(&self.spec), Some(first));
        if let Some((group, number)) = group {
            job = job.in_group(group, number);
        }
        let job = Arc::new(job);
        self.crew.submit(Arc::clone(&job), inputs, failed);
        Some(job)
    }

    /// Notes the size of an item's arguments, or of its result: smoothed over some, so that a single
    /// large one doesn't stop the flow, and counted for both, so that the greater one rules.
    fn observe(&mut self, bytes: usize) {
        self.item_bytes = self.item_bytes - self.item_bytes / 4 + bytes / 2;
    }

    /// Gives an item's result out.
    fn give<R: DeserializeOwned + 'static>(&mut self, job: &Job, item: usize) -> Result<R, Error> {
        self.under_way -= 1;
        let outcome = job.outcome().expect("only done jobs are given out");
        self.observe(outcome.size(item));
        let index = job.first_index.map(|first| first + item);
        let result = target::decode(&self.spec, outcome, item, index);
        if result.as_ref().is_err_and(|error| error.is_closed() || self.crew.failure().is_some()) {
            // Nothing will be taken on any more.
            self.ended = true;
        }
        result
    }
}

/// Results in input order: made by [`Pool::imap`](crate::Pool::imap).
///
/// Each item is a result or its own error; iteration goes on after an error. The input is taken as
/// results are taken out. Dropping the iterator gives up what hasn't begun.
#[must_use = "iterators are lazy: nothing runs until results are asked for"]
pub struct Imap<'a, R> {
    stream: Stream<'a>,
    /// The jobs under way, and how many items of the first were given out.
    jobs: VecDeque<Arc<Job>>,
    given: usize,
    result: PhantomData<fn() -> R>,
}

impl<'a, R> Imap<'a, R> {
    pub(super) fn new(stream: Stream<'a>) -> Self {
        Self { stream, jobs: VecDeque::new(), given: 0, result: PhantomData }
    }
}

impl<R: DeserializeOwned + 'static> Iterator for Imap<'_, R> {
    type Item = Result<R, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.stream.failure.take() {
            self.stream.ended = true;
            return Some(Err(error));
        }
        if self.jobs.back().is_some_and(|last| last.outcome().is_some()) {
            self.stream.grow();
        }
        while self.stream.has_room() {
            self.jobs.extend(self.stream.take(None));
        }
        let job = Arc::clone(self.jobs.front()?);
        if job.outcome().is_none() {
            self.stream.crew.wait_for(&What::Job(Arc::clone(&job)), None);
        }
        let result = self.stream.give(&job, self.given);
        self.given += 1;
        if job.outcome().is_some_and(|outcome| outcome.items() == self.given) {
            self.jobs.pop_front();
            self.given = 0;
        }
        Some(result)
    }
}

/// Has workers forget the bound arguments that all jobs of the stream have shared.
impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if let Some(bound) = &self.spec.bound {
            self.crew.forget(bound);
        }
    }
}

impl<R> Drop for Imap<'_, R> {
    fn drop(&mut self) {
        self.jobs.iter().for_each(|job| {
            self.stream.crew.cancel(job, false);
        });
    }
}

impl<R> std::fmt::Debug for Imap<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Imap").field("task", &self.stream.spec.task).finish_non_exhaustive()
    }
}

/// Results as they come: made by [`Pool::imap_unordered`](crate::Pool::imap_unordered).
///
/// As [`Imap`] otherwise. An error tells by its [index](Error::index) which input it is about.
#[must_use = "iterators are lazy: nothing runs until results are asked for"]
pub struct ImapUnordered<'a, R> {
    stream: Stream<'a>,
    group: Arc<Group>,
    /// The jobs under way, by number.
    jobs: HashMap<usize, Arc<Job>>,
    next_number: usize,
    /// The job whose items are being given out, and how many were.
    current: Option<(Arc<Job>, usize)>,
    result: PhantomData<fn() -> R>,
}

impl<'a, R> ImapUnordered<'a, R> {
    pub(super) fn new(stream: Stream<'a>) -> Self {
        Self {
            stream,
            group: Arc::default(),
            jobs: HashMap::new(),
            next_number: 0,
            current: None,
            result: PhantomData,
        }
    }

    fn fill(&mut self) {
        while self.stream.has_room() {
            let number = self.next_number;
            if let Some(job) = self.stream.take(Some((&self.group, number))) {
                self.jobs.insert(number, job);
                self.next_number += 1;
            }
        }
    }
}

impl<R: DeserializeOwned + 'static> Iterator for ImapUnordered<'_, R> {
    type Item = Result<R, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.stream.failure.take() {
            self.stream.ended = true;
            return Some(Err(error));
        }
        self.fill();
        if self.current.is_none() {
            if self.jobs.is_empty() {
                return None;
            }
            if self.jobs.values().all(|job| job.outcome().is_some()) {
                self.stream.grow();
                self.fill();
            }
            let number = loop {
                match self.group.take() {
                    Some(number) => break number,
                    None => self.stream.crew.wait_for(&What::Group(Arc::clone(&self.group)), None),
                };
            };
            let job = self.jobs.remove(&number).expect("a group has only jobs of this iterator");
            self.current = Some((job, 0));
        }
        let (job, item) = self.current.take()?;
        let result = self.stream.give(&job, item);
        if job.outcome().is_some_and(|outcome| outcome.items() > item + 1) {
            self.current = Some((job, item + 1));
        }
        Some(result)
    }
}

impl<R> Drop for ImapUnordered<'_, R> {
    fn drop(&mut self) {
        self.jobs.values().for_each(|job| {
            self.stream.crew.cancel(job, false);
        });
    }
}

impl<R> std::fmt::Debug for ImapUnordered<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImapUnordered")
            .field("task", &self.stream.spec.task)
            .finish_non_exhaustive()
    }
}

//! Items whose worker was lost, and that are tried again.
//!
//! ```text
//! with a worker ---lost---> LOST ---it was tried often enough---> settled, with the history of its losses
//!                            |
//!                            +---> WAITS ---its pause is over---> pending, to be sent alone
//! ```
//!
//! An item that waits is with nobody, and nobody's to find: only the clock makes it pending.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::ledger::Run;
use super::outcome::Answer;
use super::queue::JobKey;
use crate::error::Error;
use crate::os::clock;

/// How long an item waits before it is tried again, after its worker was lost: for
/// [`Call::backoff`](crate::Call::backoff).
///
/// ```
/// use std::time::Duration;
/// use procession::Backoff;
///
/// let second = Duration::from_secs(1);
/// let backoff = Backoff::exponential(second, 10 * second);
/// let pauses: Vec<u64> = (1..=6).map(|attempt| backoff.before(attempt).as_secs()).collect();
/// assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
}

impl Backoff {
    /// The same pause each time.
    pub fn constant(pause: Duration) -> Self {
        Self { first: pause, most: pause }
    }

    /// Twice as long each time, from `first` to `most`.
    pub fn exponential(first: Duration, most: Duration) -> Self {
        Self { first, most: most.max(first) }
    }

    /// The pause before an attempt. The first one, which none comes before, has the number 0, and no pause.
    pub fn before(&self, attempt: u32) -> Duration {
        let Some(doubled) = attempt.checked_sub(1) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doubled).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.most)
    }
}

/// The items of a job whose worker was lost. Mostly there are none.
#[derive(Default)]
pub(super) struct Trials(BTreeMap<u32, Trial>);

#[derive(Default)]
struct Trial {
    losses: Vec<Error>,
    waits: bool,
}

impl Trials {
    /// Notes that an item's worker was lost. Gives the number of its next attempt, if there is to be one.
    pub(super) fn lost(&mut self, item: u32, error: &Error, retries: u32) -> Option<u32> {
        let trial = self.0.entry(item).or_default();
        trial.losses.push(error.clone());
        let attempt = trial.losses.len() as u32;
        trial.waits = attempt <= retries;
        trial.waits.then_some(attempt)
    }

    /// Its pause is over. False: it didn't wait.
    fn go_on(&mut self, item: u32) -> bool {
        self.0.get_mut(&item).is_some_and(|trial| std::mem::take(&mut trial.waits))
    }

    /// What the losses before the last one were.
    fn history(&self, item: u32) -> &[Error] {
        let losses = self.0.get(&item).map_or(&[][..], |trial| &trial.losses);
        losses.split_last().map_or(&[], |(_, before)| before)
    }

    /// The items that wait.
    pub(super) fn waiting(&self) -> impl Iterator<Item = u32> {
        self.0.iter().filter(|(_, trial)| trial.waits).map(|(item, _)| *item)
    }

    /// How far some items can go in one frame, and the number of their attempt: one that is tried again goes alone.
    pub(super) fn end_of_attempt(&self, items: Range<u32>) -> (u32, u32) {
        let Some((item, trial)) = self.0.range(items.clone()).next() else { return (items.end, 0) };
        if *item == items.start { (item + 1, trial.losses.len() as u32) } else { (*item, 0) }
    }
}

/// The items that wait, by the time at which that is over.
#[derive(Default)]
pub(super) struct Pauses {
    until: BTreeMap<(u64, u64), (JobKey, u32)>,
    last: u64,
}

impl Pauses {
    fn add(&mut self, until: u64, key: JobKey, item: u32) {
        self.last += 1;
        self.until.insert((until, self.last), (key, item));
    }

    pub(super) fn next(&self) -> Option<u64> {
        self.until.first_key_value().map(|((until, _), _)| *until)
    }

    fn take_due(&mut self, now: u64) -> Option<(JobKey, u32)> {
        let first = self.until.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }
}

impl Core {
    /// The worker of some items was lost, with this cause: they are tried again, or settled.
    pub(super) fn lose(&mut self, run: &Run, cause: &impl Fn() -> Error) {
        for item in run.items.clone() {
            let Some(work) = self.jobs.get(run.job) else { return };
            let spec = Arc::clone(&work.job.spec);
            let error = cause().of_task(&spec.task).at_index(work.index(item));
            let retries = if error.is_worker_lost() { spec.retries } else { 0 };
            let pause =
                |attempt| spec.backoff.map_or(Duration::ZERO, |pauses| pauses.before(attempt));
            match work.trials.lost(item, &error, retries).map(pause) {
                Some(Duration::ZERO) => self.try_again(run.job, item),
                Some(pause) => {
                    let until = clock::nanos().saturating_add(clock::nanos_of(pause));
                    self.pauses.add(until, run.job, item);
                }
                None => {
                    let error = error.after(work.trials.history(item));
                    self.settle(run.job, item, Answer::Failed(error));
                }
            }
        }
    }

    /// Makes an item pending whose pause is over.
    fn try_again(&mut self, key: JobKey, item: u32) {
        if let Some(work) = self.jobs.get(key)
            && work.trials.go_on(item)
        {
            work.put_back(item..item + 1);
            self.jobs.serve_first(key);
        }
    }

    /// Makes those pending whose pause is over by now. True: there were some.
    pub(super) fn end_pauses(&mut self, now: u64) -> bool {
        let mut any = false;
        while let Some((key, item)) = self.pauses.take_due(now) {
            self.try_again(key, item);
            any = true;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn loss() -> Error {
        Error::new(Kind::WorkerLost { status: None, words: None, cause: None })
    }

    #[test]
    fn an_item_is_tried_as_often_as_it_may() {
        let mut trials = Trials::default();
        assert_eq!(trials.lost(7, &loss(), 2), Some(1));
        assert!(trials.waiting().eq([7]));
        assert!(trials.go_on(7) && !trials.go_on(7) && !trials.go_on(8));
        assert!(trials.waiting().eq([]));
        assert_eq!(trials.lost(7, &loss(), 2), Some(2));
        assert!(trials.go_on(7));
        assert_eq!(trials.lost(7, &loss(), 2), None);
        assert_eq!(trials.history(7).len(), 2);
        assert!(trials.history(8).is_empty() && trials.waiting().eq([]));
    }

    #[test]
    fn who_is_tried_again_goes_alone() {
        let mut trials = Trials::default();
        assert_eq!(trials.end_of_attempt(3..9), (9, 0));
        trials.lost(5, &loss(), 9);
        trials.lost(5, &loss(), 9);
        assert_eq!(trials.end_of_attempt(3..9), (5, 0));
        assert_eq!(trials.end_of_attempt(5..9), (6, 2));
        assert_eq!(trials.end_of_attempt(6..9), (9, 0));
    }

    #[test]
    fn pauses_end_in_their_order() {
        let mut pauses = Pauses::default();
        let key = JobKey::for_test(1);
        assert_eq!(pauses.next(), None);
        for (until, item) in [(30, 0), (10, 1), (10, 2)] {
            pauses.add(until, key, item);
        }
        assert_eq!(pauses.next(), Some(10));
        assert_eq!(pauses.take_due(9), None);
        assert_eq!(pauses.take_due(10), Some((key, 1)));
        assert_eq!(pauses.take_due(10), Some((key, 2)));
        assert_eq!(pauses.take_due(10), None);
        assert_eq!(pauses.next(), Some(30));
    }

    #[test]
    fn pauses_never_overflow() {
        let backoff = Backoff::exponential(Duration::from_secs(1), Duration::MAX);
        assert_eq!(backoff.before(0), Duration::ZERO);
        assert!(backoff.before(31) < backoff.before(32));
        assert!(backoff.before(u32::MAX) >= backoff.before(33));
        let long = Duration::from_secs(5);
        assert_eq!(Backoff::constant(long).before(9), long);
        assert_eq!(Backoff::exponential(long, Duration::ZERO).before(1), long);
    }
}

//! What one worker has been sent and has not answered yet, in the order in which it runs it.
//!
//! Pure: positions and job keys, no I/O. An entry is a run of consecutive items of one job. Entries of
//! a passed epoch hold only items that the worker had started before the rest was taken back.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::queue::JobKey;
use crate::shm::claim::Position;

/// A run of items of one job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) job: JobKey,
    pub(super) items: Range<u32>,
}

struct Entry {
    run: Run,
    /// The position of the first item that is left.
    at: Position,
    terms: Terms,
}

/// What was known of the items of a run when they were sent.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Terms {
    /// The expected nanoseconds of each.
    pub(super) cost: u64,
    /// The nanoseconds that each may take.
    pub(super) limit: Option<u64>,
    /// How many bytes must have been sent until the worker has the first one whole.
    pub(super) whole_at: u64,
}

/// The record of one worker.
#[derive(Default)]
pub(super) struct Ledger {
    entries: VecDeque<Entry>,
    items: usize,
    load: u64,
    /// How many items have a time limit.
    limited: usize,
    /// How many have which: calls are looked through at each tick for theirs, and mostly share one.
    limits: BTreeMap<u64, usize>,
    /// The position of the item that was sent last.
    last: Position,
}

impl Ledger {
    /// How many items are unanswered.
    pub(super) fn items(&self) -> usize {
        self.items
    }

    /// The expected nanoseconds of all unanswered items.
    pub(super) fn load(&self) -> u64 {
        self.load
    }

    /// How many runs the unanswered items make.
    pub(super) fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Where the next run will begin.
    pub(super) fn next_position(&self) -> Position {
        Position { number: self.last.number + 1, ..self.last }
    }

    /// How many items the epoch still has numbers for.
    pub(super) fn room(&self) -> u32 {
        u32::MAX - self.last.number - 1
    }

    /// Notes a run that is being sent.
    pub(super) fn sent(&mut self, run: Run, terms: Terms) {
        let at = self.next_position();
        self.count(&terms, run.items.len(), true);
        self.last.number += run.items.len() as u32;
        self.entries.push_back(Entry { run, at, terms });
    }

    fn count(&mut self, terms: &Terms, items: usize, come: bool) {
        let cost = terms.cost.saturating_mul(items as u64);
        if come {
            self.items += items;
            self.load = self.load.saturating_add(cost);
        } else {
            self.items -= items;
            self.load = self.load.saturating_sub(cost);
        }
        if let Some(limit) = terms.limit {
            self.count_limited(limit, items, come);
        }
    }

    fn count_limited(&mut self, limit: u64, items: usize, come: bool) {
        let count = self.limits.entry(limit).or_default();
        if come {
            self.limited += items;
            *count += items;
        } else {
            self.limited -= items;
            *count -= items;
        }
        if *count == 0 {
            self.limits.remove(&limit);
        }
    }

    /// The run whose answers are due, and the number of its first item.
    pub(super) fn due(&self) -> Option<(&Run, u32)> {
        self.entries.front().map(|entry| (&entry.run, entry.at.number))
    }

    /// What was known of the run whose answers are due.
    pub(super) fn due_terms(&self) -> Option<Terms> {
        self.entries.front().map(|entry| entry.terms)
    }

    /// How many bytes must have been sent until the worker has that one whole; 0 if there is none.
    pub(super) fn due_whole_at(&self) -> u64 {
        self.entries.front().map_or(0, |entry| entry.terms.whole_at)
    }

    /// Strikes off the first items of the run that is due.
    pub(super) fn answered_many(&mut self, items: u32) {
        let Some(entry) = self.entries.front_mut() else { return };
        let terms = entry.terms;
        entry.run.items.start += items;
        entry.at.number += items;
        if entry.run.items.is_empty() {
            self.entries.pop_front();
        }
        self.count(&terms, items as usize, false);
    }

    /// Strikes off the item that an answer is about: it must be the oldest.
    pub(super) fn answered(&mut self, number: u32) -> Option<(JobKey, u32)> {
        let entry = self.entries.front_mut().filter(|entry| entry.at.number == number)?;
        let item = entry.run.items.start;
        let (job, terms) = (entry.run.job, entry.terms);
        entry.run.items.start += 1;
        entry.at.number += 1;
        if entry.run.items.is_empty() {
            self.entries.pop_front();
        }
        self.count(&terms, 1, false);
        Some((job, item))
    }

    /// Follows [`Claim::take_back`](crate::shm::claim::Claim::take_back): removes what came after
    /// `started`, in order, and goes on in the next epoch.
    pub(super) fn take_back(&mut self, started: Position) -> Vec<Run> {
        let mut taken = Vec::new();
        for entry in &mut self.entries {
            if entry.at.epoch != started.epoch {
                continue;
            }
            let kept = started.number.saturating_add(1).saturating_sub(entry.at.number);
            let kept = kept.min(entry.run.items.len() as u32);
            let cut = entry.run.items.start + kept;
            if cut < entry.run.items.end {
                let run = Run { job: entry.run.job, items: cut..entry.run.items.end };
                taken.push((run, entry.terms));
                entry.run.items.end = cut;
            }
        }
        self.entries.retain(|entry| !entry.run.items.is_empty());
        for (run, terms) in &taken {
            self.count(terms, run.items.len(), false);
        }
        self.last = Position { epoch: started.epoch.wrapping_add(1), number: 0 };
        taken.into_iter().map(|(run, _)| run).collect()
    }

    /// The item at a position, if it is unanswered, and the nanoseconds that it may take.
    pub(super) fn at(&self, position: Position) -> Option<(JobKey, u32, Option<u64>)> {
        // They are in order. Epochs go round, so they are counted from the first one's.
        let first = self.entries.front()?.at.epoch;
        let place = |at: Position| (at.epoch.wrapping_sub(first), at.number);
        let after = self.entries.partition_point(|entry| place(entry.at) <= place(position));
        let entry = self.entries.get(after.checked_sub(1)?)?;
        let offset = position.number.checked_sub(entry.at.number)?;
        let item = entry.run.items.start.checked_add(offset)?;
        let is_there = entry.at.epoch == position.epoch && item < entry.run.items.end;
        is_there.then_some((entry.run.job, item, entry.terms.limit))
    }

    /// The position of the unanswered item that the worker runs or ran last, given its claim: when it
    /// has begun nothing in this epoch, that is the last one of those before.
    pub(super) fn running(&self, claimed: Position) -> Position {
        if claimed.number > 0 {
            return claimed;
        }
        // Those of the latest epoch are the last.
        let earlier = self.entries.partition_point(|entry| entry.at.epoch != claimed.epoch);
        let earlier = earlier.checked_sub(1).and_then(|last| self.entries.get(last));
        earlier.map_or(claimed, |entry| {
            let items = entry.run.items.len() as u32;
            Position { number: entry.at.number + items - 1, ..entry.at }
        })
    }

    /// The shortest time limit of an unanswered item.
    pub(super) fn shortest_limit(&self) -> Option<u64> {
        self.limits.first_key_value().map(|(limit, _)| *limit)
    }

    /// The longest time limit of an unanswered item, if all of them have one; 0 if there is none.
    pub(super) fn longest_limit(&self) -> Option<u64> {
        if self.limited < self.items {
            return None;
        }
        Some(self.limits.last_key_value().map_or(0, |(limit, _)| *limit))
    }

    /// All runs that are unanswered, oldest first.
    pub(super) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.entries.iter().map(|entry| &entry.run)
    }

    /// Gives up: what the worker had started, and what it had not, given the last claim.
    pub(super) fn close(&mut self, started: Position) -> (Vec<Run>, Vec<Run>) {
        let unstarted = self.take_back(started);
        let lost = self.entries.drain(..).map(|entry| entry.run).collect();
        (self.items, self.load, self.limited) = (0, 0, 0);
        self.limits.clear();
        (lost, unstarted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobKey = JobKey::for_test(1);
    const OTHER: JobKey = JobKey::for_test(2);

    fn run(job: JobKey, items: Range<u32>) -> Run {
        Run { job, items }
    }

    fn at(epoch: u32, number: u32) -> Position {
        Position { epoch, number }
    }

    #[test]
    fn answers_come_in_order() {
        let mut ledger = Ledger::default();
        ledger.sent(run(JOB, 5..7), Terms::default());
        ledger.sent(run(OTHER, 0..1), Terms::default());
        assert_eq!(ledger.answered(2), None);
        assert_eq!(ledger.answered(1), Some((JOB, 5)));
        assert_eq!(ledger.answered(2), Some((JOB, 6)));
        assert_eq!(ledger.answered(3), Some((OTHER, 0)));
        assert_eq!((ledger.answered(4), ledger.items()), (None, 0));
    }

    #[test]
    fn taking_back_splits_the_run_that_is_under_way() {
        let mut ledger = Ledger::default();
        ledger.sent(run(JOB, 0..10), Terms::default());
        ledger.sent(run(OTHER, 0..2), Terms::default());
        assert_eq!(ledger.answered(1), Some((JOB, 0)));
        let taken = ledger.take_back(at(0, 4));
        assert_eq!(taken, [run(JOB, 4..10), run(OTHER, 0..2)]);
        assert_eq!(ledger.items(), 3);
        assert_eq!(ledger.next_position(), at(1, 1));
        ledger.sent(run(OTHER, 0..1), Terms::default());
        for number in 2..=4 {
            assert_eq!(ledger.answered(number), Some((JOB, number - 1)));
        }
        assert_eq!(ledger.answered(1), Some((OTHER, 0)));
    }

    #[test]
    fn a_death_costs_the_started_item_alone() {
        let mut ledger = Ledger::default();
        ledger.sent(run(JOB, 0..10), Terms::default());
        for number in 1..=3 {
            ledger.answered(number);
        }
        let (lost, unstarted) = ledger.close(at(0, 4));
        assert_eq!(lost, [run(JOB, 3..4)]);
        assert_eq!(unstarted, [run(JOB, 4..10)]);
    }

    #[test]
    fn a_death_between_items_costs_none() {
        let mut ledger = Ledger::default();
        ledger.sent(run(JOB, 0..2), Terms::default());
        ledger.answered(1);
        let (lost, unstarted) = ledger.close(at(0, 1));
        assert_eq!((lost, unstarted), (vec![], vec![run(JOB, 1..2)]));
    }

    #[test]
    fn a_death_after_taking_back_costs_what_ran() {
        let mut ledger = Ledger::default();
        ledger.sent(run(JOB, 0..3), Terms::default());
        assert_eq!(ledger.take_back(at(0, 1)), [run(JOB, 1..3)]);
        assert_eq!(ledger.running(at(1, 0)), at(0, 1));
        ledger.sent(run(OTHER, 0..1), Terms::default());
        assert_eq!(ledger.running(at(1, 0)), at(0, 1));
        assert_eq!(ledger.running(at(1, 1)), at(1, 1));
        let (lost, unstarted) = ledger.close(at(1, 0));
        assert_eq!((lost, unstarted), (vec![run(JOB, 0..1)], vec![run(OTHER, 0..1)]));
    }

    #[test]
    fn loads_and_limits_are_summed_up() {
        let mut ledger = Ledger::default();
        let terms = |cost, limit| Terms { cost, limit, whole_at: 0 };
        assert_eq!(ledger.longest_limit(), Some(0));
        ledger.sent(run(JOB, 0..10), terms(5, None));
        ledger.sent(run(JOB, 0..2), terms(7, Some(3)));
        assert_eq!(ledger.longest_limit(), None);
        assert_eq!((ledger.load(), ledger.shortest_limit()), (64, Some(3)));
        ledger.answered(1);
        ledger.take_back(at(0, 2));
        assert_eq!((ledger.load(), ledger.shortest_limit()), (5, None));
        ledger.answered(2);
        assert_eq!((ledger.load(), ledger.items(), ledger.entries()), (0, 0, 0));
    }

    #[test]
    fn the_limits_are_those_of_what_is_left() {
        let mut ledger = Ledger::default();
        let terms = |limit| Terms { limit: Some(limit), ..Terms::default() };
        ledger.sent(run(JOB, 0..2), terms(9));
        ledger.sent(run(OTHER, 0..3), terms(4));
        ledger.sent(run(JOB, 2..4), terms(6));
        let limits = |ledger: &Ledger| (ledger.shortest_limit(), ledger.longest_limit());
        assert_eq!(limits(&ledger), (Some(4), Some(9)));
        ledger.answered_many(2);
        assert_eq!(limits(&ledger), (Some(4), Some(6)));
        ledger.take_back(at(0, 3));
        assert_eq!(limits(&ledger), (Some(4), Some(4)));
        ledger.sent(run(JOB, 4..5), terms(2));
        ledger.close(at(1, 0));
        assert_eq!(limits(&ledger), (None, Some(0)));
    }

    /// Whatever epochs and runs it is sent in, and also where epochs go round.
    #[test]
    fn every_item_is_found_among_many() {
        let mut ledger = Ledger { last: at(u32::MAX - 1, 0), ..Ledger::default() };
        ledger.sent(run(JOB, 0..3), Terms::default());
        for (round, epoch) in [u32::MAX - 1, u32::MAX, 0, 1].into_iter().enumerate() {
            let begin = 10 * round as u32;
            ledger.sent(run(OTHER, begin..begin + 5), Terms::default());
            ledger.sent(run(JOB, begin + 5..begin + 6), Terms::default());
            let started = ledger.last;
            assert_eq!(started.epoch, epoch);
            assert_eq!(ledger.running(at(epoch.wrapping_add(1), 0)), started);
            ledger.take_back(started);
        }
        for entry in &ledger.entries {
            for item in entry.run.items.clone() {
                let number = entry.at.number + item - entry.run.items.start;
                let found = ledger.at(Position { number, ..entry.at });
                assert_eq!(found, Some((entry.run.job, item, None)));
            }
        }
        for missing in [at(0, 0), at(0, 7), at(u32::MAX - 1, 10), at(2, 1), at(77, 1)] {
            assert_eq!(ledger.at(missing), None, "{missing:?}");
        }
    }

    #[test]
    fn an_item_is_found_by_its_position() {
        let mut ledger = Ledger::default();
        ledger.sent(run(JOB, 4..6), Terms::default());
        ledger.answered(1);
        assert_eq!(ledger.at(at(0, 1)), None);
        assert_eq!(ledger.at(at(0, 2)), Some((JOB, 5, None)));
        assert_eq!(ledger.at(at(0, 3)), None);
        assert_eq!(ledger.at(at(1, 2)), None);
    }
}

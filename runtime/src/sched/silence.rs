//! Time limits by the parent's own clock, against workers that deny everything.
//!
//! When an item has begun its worker says, in memory that its tasks can write to (see `deadlines.rs`). What
//! is here rests on nothing that a worker says, but on what the parent itself has sent to it and settled for
//! it:
//!
//! ```text
//! OWING    something that it was given has a time limit and is due; since when is counted from the last time
//!          that something was settled for it, or that it was given something when it had nothing
//! OVERDUE  the limit has passed; from then on the parent looks, [`LOOKS`] times with [`PAUSE`] between, into
//!          all that may have come from it
//! SILENT   nothing has: it is late, whatever it says of its beginning
//! ```
//!
//! Looks are counted, and no nanoseconds: of the time for which this process, or the whole machine, was
//! stopped, no more than one pause counts.
//!
//! What is due:
//!
//! - What was sent is answered in its order. So it is the oldest that is due, with its own limit.
//! - Who claims items from boards is known to be at one of these, or at what it was sent, but not at which. So
//!   the longest limit of all that it has holds, and none if it has anything without one: then its page is
//!   believed. (To keep such work apart would cost those who trust their tasks: a map would have to be given up
//!   by its workers for each call with another limit.)
//! - What has not been sent whole can't be answered. But then each [`STEP`] of it that leaves is like an answer.
//! - Decoding bound arguments, or dropping them, is no item's time. While some of it is left to do, before what
//!   is due, [`PREPARATION`] is added: the worker itself says how much it has done. Not for what it was told
//!   when nothing had been settled for longer than [`PAUSE`]: then it was in something else, and when that is
//!   over, this is counted from there.

use std::collections::VecDeque;

use super::core::Core;
use super::ledger::Run;
use super::staff::Worker;
use crate::os::clock;
use crate::shm::hand::Last;

/// So often a worker is looked at, after its limit, before it is late although it says that it is not, and
/// with such pauses, in nanoseconds. The five seconds in between are much more than the system takes to let a
/// worker begin, and many a loaded machine.
const LOOKS: u32 = 6;
const PAUSE: u64 = 1_000_000_000;

/// How much of what is too long for its ring a worker has to take, to be given its limit once more: what it
/// takes in a millisecond, if it takes anything.
const STEP: u64 = 1 << 20;

/// How much longer than its limit something may take if bound arguments are to be decoded before, in
/// nanoseconds: long enough for a model to be loaded in there, and not for ever.
const PREPARATION: u64 = 600_000_000_000;

/// What a parent knows of a worker by itself.
#[derive(Default)]
pub(super) struct Record {
    /// How many answers, and leaves, were accepted from it.
    settled: u64,
    /// How many of these were leaves.
    left: u64,
    /// What it hasn't done yet of decoding bound arguments and dropping some.
    preparations: VecDeque<Preparation>,
    /// How often it has done it.
    prepared: u64,
    silence: Option<Silence>,
    /// Whether it has ever answered.
    pub(super) has_answered: bool,
    /// Whether it was killed for its silence.
    pub(super) is_given_up: bool,
}

/// Something that a worker is told to do that takes the user's time and is no item.
struct Preparation {
    /// How much had been queued for it then.
    queued: u64,
    told_at: u64,
}

/// What has to be settled for a worker next.
#[derive(Clone, Copy)]
struct Due {
    /// Within which time, in nanoseconds.
    limit: u64,
    /// How much must have been sent until it has all that it needs for that.
    whole_at: u64,
}

struct Silence {
    /// What it had to its credit.
    credit: (u64, u64),
    /// Since when.
    since: u64,
    /// How often it was looked at since its limit has passed, and when that was last.
    looks: u32,
    looked_at: u64,
}

impl Record {
    /// It has answered for what it had whole after so many bytes. Of that so many were accepted, each of
    /// something that had no answer.
    pub(super) fn has_settled(
        &mut self,
        answers: usize,
        whole_at: u64,
        barren_deaths: &mut u32,
        has_answers: &mut bool,
    ) {
        self.has_answered = true;
        self.settled += answers as u64;
        while answers > 0 && self.preparations.front().is_some_and(|next| next.queued < whole_at) {
            self.preparations.pop_front();
            self.prepared += 1;
        }
        *barren_deaths = 0;
        *has_answers = true;
    }

    /// It has left a board.
    pub(super) fn has_left(&mut self) {
        self.settled += 1;
        self.left += 1;
    }

    /// How many answers were accepted from it.
    pub(super) fn answers(&self) -> u64 {
        self.settled - self.left
    }

    /// It is told to do something that takes the user's time and is no item, when so much was queued for it.
    fn prepares(&mut self, queued: u64, now: u64) {
        self.preparations.push_back(Preparation { queued, told_at: now });
    }

    /// When it is to be looked at next, if this is due.
    fn look_at(&self, due: Due) -> u64 {
        let Some(silence) = &self.silence else { return 0 };
        // Before the limit, too: what is settled meanwhile is to be noticed soon.
        let at = silence.looked_at.saturating_add(PAUSE);
        if silence.looks == 0 { at.min(self.over_at(silence.since, due)) } else { at }
    }

    /// It is looked at: by its own account it has done so many preparations, and it is so far with taking in
    /// what is due. Gives out the limit for which it is late, if it is.
    fn look(&mut self, now: u64, due: Option<Due>, done: u64, steps: u64) -> Option<u64> {
        while self.prepared < done && self.preparations.pop_front().is_some() {
            self.prepared += 1;
        }
        let credit = (self.settled + self.prepared, steps);
        let before = self.silence.take().filter(|silence| silence.credit == credit);
        let due = due?;
        let mut silence = before.unwrap_or(Silence { credit, since: now, looks: 0, looked_at: 0 });
        silence.looked_at = now;
        silence.looks += u32::from(now >= self.over_at(silence.since, due));
        let is_silent = silence.looks >= LOOKS;
        self.silence = Some(silence);
        is_silent.then_some(due.limit)
    }

    /// When the time for something has passed, counted from `since`.
    fn over_at(&self, since: u64, due: Due) -> u64 {
        // What was told in the pause before the next look it may have begun at once.
        let latest = since.saturating_add(PAUSE);
        let next = self.preparations.front();
        let prepares =
            next.is_some_and(|next| next.queued < due.whole_at && next.told_at <= latest);
        let preparation = if prepares { PREPARATION } else { 0 };
        since.saturating_add(due.limit).saturating_add(preparation)
    }
}

impl Worker {
    /// It has been told to do something that takes the user's time and is no item.
    pub(super) fn prepares(&mut self) {
        self.record.prepares(self.end.queued(), clock::nanos());
    }

    /// It is given something: what it did before says nothing of that.
    pub(super) fn owes_from_now(&mut self) {
        if self.has_nothing() {
            self.record.silence = None;
        }
    }

    /// When it is to be looked at next.
    pub(super) fn look_at(&self) -> Option<u64> {
        Some(self.record.look_at(self.due()?))
    }

    /// It is looked at: all that has come from it was taken in. Gives out the limit for which it is late, if
    /// it is.
    pub(super) fn is_silent(&mut self, now: u64) -> Option<u64> {
        let (due, steps) = (self.due(), self.steps());
        self.record.look(now, due, self.page.claim.prepared(), steps)
    }

    /// What must be settled for it, if that has a limit.
    fn due(&self) -> Option<Due> {
        if !self.is_at_work() {
            return None;
        }
        if self.parts.is_empty() {
            let due = self.ledger.due_terms()?;
            return Some(Due { limit: due.limit?, whole_at: due.whole_at });
        }
        let of_parts = self.parts.iter().map(|part| part.limit);
        let mut limits = of_parts.chain([self.ledger.longest_limit()]);
        let limit = limits.try_fold(0, |most, limit| Some(limit?.max(most)))?;
        // What it was told to drop since, it may never get to: that is told when others are done.
        let told_at = self.parts.iter().map(|part| part.whole_at).max().unwrap_or(0);
        Some(Due { limit, whole_at: told_at.max(self.ledger.due_whole_at()) })
    }

    /// How far it is with taking in what is due; 0 when it has that.
    fn steps(&self) -> u64 {
        let sent = self.end.sent();
        let of_parts = self.parts.iter().map(|part| part.whole_at);
        let whole_at = of_parts.chain(self.ledger.due_terms().map(|terms| terms.whole_at)).min();
        if whole_at.is_some_and(|at| at > sent) { 1 + sent / STEP } else { 0 }
    }
}

impl Core {
    /// The item that a worker is most likely to be at which says nothing of it: by its hand, or the first that
    /// it was sent. None, where it may as well be at an item of a board that it doesn't tell of: then what it
    /// was sent is tried once more, with somebody else, and is to blame if it comes to that again.
    pub(super) fn suspect(&mut self, id: u64) -> Option<Run> {
        let worker = self.workers.get(&id)?;
        if let Last::Range { work: number, begun, unbegun } = worker.page.hand.last()
            && worker.parts.iter().any(|part| part.board == number)
            && let Some(posting) = self.boards.get(&number)
            && let Some(work) = self.jobs.get(posting.key)
        {
            let last = begun.end.checked_sub(1).filter(|item| begun.contains(item));
            let likely = [last, unbegun.into_iter().next()].into_iter().flatten();
            if let Some(item) = likely.into_iter().find(|item| work.wants(*item)) {
                return Some(Run { job: posting.key, items: item..item + 1 });
            }
        }
        let (run, _) = worker.ledger.due()?;
        let (key, item) = (run.job, run.items.start);
        let is_likely = worker.parts.is_empty();
        let is_to_blame = is_likely || self.jobs.get(key)?.is_suspected_again(item);
        is_to_blame.then_some(Run { job: key, items: item..item + 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = PAUSE / 4;

    /// Due as soon as it was sent so much.
    fn due(whole_at: u64) -> Due {
        Due { limit: LIMIT, whole_at }
    }

    /// Looks as often as it asks for, from a time on, until it is late for what is due, which takes so long.
    fn is_late_after(record: &mut Record, due: Due, start: u64) -> u64 {
        let done = record.prepared;
        let mut now = start;
        loop {
            if let Some(limit) = record.look(now, Some(due), done, 0) {
                assert_eq!(limit, due.limit);
                return now - start;
            }
            let next = record.look_at(due);
            assert!(now < next && next <= now + PAUSE);
            now = next;
        }
    }

    /// The time of all looks at something that takes no preparation.
    const WITHOUT: u64 = LIMIT + (LOOKS as u64 - 1) * PAUSE;

    /// Before its limit it is looked at once in each pause: it is late by no more than that.
    fn is_beyond(least: u64, time: u64) -> bool {
        (least..least + PAUSE).contains(&time)
    }

    fn settles(record: &mut Record, whole_at: u64) {
        record.has_settled(1, whole_at, &mut 0, &mut false);
    }

    #[test]
    fn a_limit_has_passed_for_some_looks() {
        let mut record = Record::default();
        assert_eq!(is_late_after(&mut record, due(100), 7), WITHOUT);
    }

    #[test]
    fn what_is_settled_begins_the_time_anew() {
        let mut record = Record::default();
        assert_eq!(record.look(0, Some(due(1)), 0, 0), None);
        for round in 1..1000 {
            settles(&mut record, 1);
            assert_eq!(record.look(round * 2 * LIMIT, Some(due(1)), 0, 0), None);
        }
        assert_eq!(record.look(2000 * LIMIT, Some(due(1)), 0, 1), None);
        assert_eq!(is_late_after(&mut record, due(1), 4000 * LIMIT), WITHOUT);
    }

    #[test]
    fn a_preparation_has_its_time_and_no_more() {
        let mut record = Record::default();
        record.prepares(50, 0);
        record.prepares(60, 0);
        let time = is_late_after(&mut record, due(100), 0);
        assert!(is_beyond(PREPARATION + WITHOUT, time), "{time}");
    }

    #[test]
    fn what_was_prepared_takes_no_more_time() {
        let mut record = Record::default();
        record.prepares(50, 0);
        assert_eq!(record.look(0, Some(due(100)), 0, 0), None);
        assert_eq!(record.look(PREPARATION / 2, Some(due(100)), 1, 0), None);
        let now = PREPARATION / 2 + 1;
        assert_eq!(is_late_after(&mut record, due(100), now), WITHOUT - 1);
        // Nor does what it denies to have prepared, and must have.
        let mut record = Record::default();
        record.prepares(50, 0);
        settles(&mut record, 100);
        assert_eq!(record.look(0, Some(due(200)), 0, 0), None);
        assert_eq!(is_late_after(&mut record, due(200), 1), WITHOUT - 1);
    }

    #[test]
    fn a_preparation_for_what_comes_later_adds_nothing() {
        let mut record = Record::default();
        record.prepares(150, 0);
        assert_eq!(is_late_after(&mut record, due(100), 0), WITHOUT);
    }

    #[test]
    fn a_preparation_told_to_who_is_silent_adds_nothing_until_it_answers() {
        let mut record = Record::default();
        assert_eq!(record.look(0, Some(due(100)), 0, 0), None);
        record.prepares(150, PAUSE + 1);
        assert_eq!(record.look(PAUSE + 1, Some(due(200)), 0, 0), None);
        let mut denying = Record { silence: record.silence.take(), ..Record::default() };
        denying.prepares(150, PAUSE + 1);
        assert!(is_late_after(&mut denying, due(200), PAUSE + 2) < WITHOUT);
        // It was at something long, and begins only now.
        settles(&mut record, 100);
        let time = is_late_after(&mut record, due(200), 3 * PAUSE);
        assert!(is_beyond(PREPARATION + WITHOUT, time), "{time}");
    }

    #[test]
    fn a_preparation_told_before_the_next_look_has_its_time() {
        let mut record = Record::default();
        assert_eq!(record.look(0, Some(due(100)), 0, 0), None);
        record.prepares(150, PAUSE);
        let time = is_late_after(&mut record, due(200), PAUSE);
        assert!(time >= PREPARATION, "{time}");
    }
}

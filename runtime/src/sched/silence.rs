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
//!   is due, [`PREPARATION`] is added: the worker itself says how much it has done.

use std::collections::VecDeque;

use super::core::Core;
use super::ledger::Run;
use super::staff::Worker;
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
    /// How much had been queued when it was told to decode bound arguments, or to drop some, for what it
    /// hasn't done yet.
    preparations: VecDeque<u64>,
    /// How often it has done it.
    prepared: u64,
    silence: Option<Silence>,
    /// Whether it has ever answered.
    pub(super) has_answered: bool,
    /// Whether it was killed for its silence.
    pub(super) is_given_up: bool,
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
        while answers > 0 && self.preparations.front().is_some_and(|at| *at < whole_at) {
            self.preparations.pop_front();
            self.prepared += 1;
        }
        *barren_deaths = 0;
        *has_answers = true;
    }

    /// It has left a board.
    pub(super) fn has_left(&mut self) {
        self.settled += 1;
    }
}

impl Worker {
    /// It has been told to do something that takes the user's time and is no item.
    pub(super) fn prepares(&mut self) {
        self.record.preparations.push_back(self.end.queued());
    }

    /// It is given something: what it did before says nothing of that.
    pub(super) fn owes_from_now(&mut self) {
        if self.has_nothing() {
            self.record.silence = None;
        }
    }

    /// When it is to be looked at next.
    pub(super) fn look_at(&self) -> Option<u64> {
        let limit = self.owed_within()?;
        let Some(silence) = &self.record.silence else { return Some(0) };
        // Before the limit, too: what is settled meanwhile is to be noticed soon.
        let at = silence.looked_at.saturating_add(PAUSE);
        let over_at = silence.since.saturating_add(limit);
        Some(if silence.looks == 0 { at.min(over_at) } else { at })
    }

    /// It is looked at: all that has come from it was taken in. Gives out the limit for which it is late, if
    /// it is.
    pub(super) fn is_silent(&mut self, now: u64) -> Option<u64> {
        let Record { settled, preparations, prepared, .. } = &mut self.record;
        let done = self.page.claim.prepared();
        while *prepared < done && preparations.pop_front().is_some() {
            *prepared += 1;
        }
        let credit = (*settled + *prepared, self.steps());
        let Some(limit) = self.owed_within() else {
            self.record.silence = None;
            return None;
        };
        let before = self.record.silence.take().filter(|silence| silence.credit == credit);
        let mut silence = before.unwrap_or(Silence { credit, since: now, looks: 0, looked_at: 0 });
        silence.looked_at = now;
        silence.looks += u32::from(now >= silence.since.saturating_add(limit));
        let is_silent = silence.looks >= LOOKS;
        self.record.silence = Some(silence);
        is_silent.then_some(limit)
    }

    /// The time within which something must be settled for it.
    fn owed_within(&self) -> Option<u64> {
        if !self.is_at_work() {
            return None;
        }
        let (limit, whole_at) = if self.parts.is_empty() {
            let due = self.ledger.due_terms()?;
            (due.limit?, due.whole_at)
        } else {
            let of_parts = self.parts.iter().map(|part| part.limit);
            let mut limits = of_parts.chain([self.ledger.longest_limit()]);
            let limit = limits.try_fold(0, |most, limit| Some(limit?.max(most)))?;
            // What it was told to drop since, it may never get to: that is told when others are done.
            let told_at = self.parts.iter().map(|part| part.whole_at).max().unwrap_or(0);
            (limit, told_at.max(self.ledger.due_whole_at()))
        };
        let comes_before = |at: &u64| *at < whole_at;
        let prepares = self.record.preparations.front().is_some_and(comes_before);
        Some(if prepares { limit.saturating_add(PREPARATION) } else { limit })
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

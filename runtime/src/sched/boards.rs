//! Work that workers claim for themselves: telling them of it, and what comes back.
//!
//! ```text
//! OPEN ---nothing is left to claim, or the job is done---> CLOSED ---all who were told have left---> gone
//! ```
//!
//! A job's items on a board are nobody's, or claimed by a worker, or answered; the parent learns of a
//! claim only when a result comes. What it takes back from a worker, or finds in a dead one's hand,
//! becomes pending and is sent to somebody. When all have left and an item is still missing, it had been
//! claimed by a worker in its last instant, and becomes pending then.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::fence;
use std::time::Duration;

use super::arena::Arena;
use super::core::Core;
use super::job::Work;
use super::ledger::Run;
use super::outcome::Answer;
use super::parts::Part;
use super::queue::{JobKey, Jobs};
use super::staff::Worker;
use crate::error::Error;
use crate::os::clock;
use crate::shm::hand::{Filled, Last};
use crate::transport::board::{self, APART, HEAD, Join, Runs, Values};
use crate::transport::frame::{Header, Kind};

/// Work for which it pays to wake one more worker, in nanoseconds.
const WORTH_A_WAKE: u64 = 25_000;

/// Less than this isn't taken from a worker for another one, in nanoseconds.
const WORTH_A_CUT: u64 = 100_000;

/// An item that takes longer than this, in nanoseconds, holds up those behind it.
const STUCK: u64 = 1_000_000;

/// A board, as the parent knows it.
pub(super) struct Posting {
    pub(super) key: JobKey,
    /// Whether there is something to claim, as far as is known.
    pub(super) is_open: bool,
    /// None once no worker looks into it any more.
    arena: Option<Arena>,
    join: Join,
    /// How many workers should be told.
    wanted: usize,
    /// How many have been told and haven't left.
    taking_part: usize,
    /// When it was posted, in nanoseconds.
    since: u64,
}

impl Posting {
    /// Whether its items have all been run.
    pub(super) fn is_over(&self) -> bool {
        self.arena.is_none()
    }

    /// Whether all of a pool's workers are wanted here.
    fn takes_all(&self, workers: usize) -> bool {
        self.wanted > self.taking_part || self.wanted >= workers
    }

    /// Whether its items come before those of another job, of this priority.
    fn comes_before(&self, key: JobKey, priority: i32) -> bool {
        self.is_open
            && self.key != key
            && (self.join.priority > priority
                || self.join.priority == priority && self.key.is_before(key))
    }
}

impl Core {
    /// Puts a job on a board.
    pub(super) fn post(&mut self, key: JobKey, arena: Arena) {
        let pool = self.plan.workers;
        let Some(work) = self.jobs.get(key) else { return };
        let number = self.next_board;
        self.next_board += 1;
        work.post(number);
        let spec = &work.job.spec;
        let pace = self.paces.get(&spec.callee);
        let items = work.items();
        let wanted = match pace.mean() {
            0 => pool,
            mean => usize::try_from(mean.saturating_mul(u64::from(items)) / WORTH_A_WAKE)
                .unwrap_or(usize::MAX)
                .clamp(1, pool),
        };
        let join = Join {
            work: number,
            callee: spec.callee,
            bound: spec.bound.as_ref().map_or(0, |bound| bound.number),
            typed: spec.typed,
            timed: spec.is_timed(),
            arena: arena.name(),
            generation: arena.generation(),
            items,
            bytes: work.inputs.bytes() as u64,
            starts: arena.starts(),
            priority: spec.priority,
            workers: pool as u32,
            told: wanted as u32,
            chunk: spec.chunk.map(|chunk| u32::try_from(chunk).unwrap_or(u32::MAX)),
            mean: pace.mean(),
            budget: 0,
        };
        let arena = Some(arena);
        let since = clock::nanos();
        let posting = Posting { key, is_open: true, arena, join, wanted, taking_part: 0, since };
        self.boards.insert(number, posting);
    }

    /// Tells as many workers of open boards as are wanted there.
    pub(super) fn invite(&mut self) {
        for (number, posting) in &mut self.boards {
            let Some(arena) = posting.arena.as_ref().filter(|_| posting.is_open) else { continue };
            let unclaimed = arena.board().unclaimed(arena.generation());
            posting.is_open =
                unclaimed.is_some_and(|unclaimed| unclaimed < u64::from(posting.join.items));
            if !posting.is_open || posting.taking_part >= posting.wanted {
                continue;
            }
            let Some(work) = self.jobs.get(posting.key) else { continue };
            // Those who have nothing to do first, and of them who may still be awake.
            for rank in 0..3 {
                for worker in self.workers.values_mut() {
                    let can_take = worker.serves()
                        && worker.open
                        && !worker.blocked
                        && worker.allowance > 0
                        && worker.parts.iter().all(|part| part.board != *number)
                        && rank == worker.rank();
                    if can_take && posting.taking_part < posting.wanted {
                        worker.take_part(&posting.join, work, clock::nanos());
                        posting.taking_part += 1;
                    }
                }
            }
        }
    }

    /// Whether a job has to wait until the items of an earlier one have all been claimed.
    pub(super) fn has_to_wait(&mut self, key: JobKey) -> bool {
        if self.boards.is_empty() {
            return false;
        }
        let priority = self.jobs.get(key).map_or(0, |work| work.job.spec.priority);
        let workers = self.plan.workers;
        self.boards
            .values()
            .any(|posting| posting.takes_all(workers) && posting.comes_before(key, priority))
    }

    /// Whether a worker has claimed, or may claim, items that come before a job's.
    pub(super) fn is_engaged(&self, worker: &Worker, key: JobKey, priority: i32) -> bool {
        let posting = |part: &Part| self.boards.get(&part.board);
        worker.parts.iter().filter_map(posting).any(|posting| posting.comes_before(key, priority))
    }

    /// Ends the claiming on a job's board, and takes back what is claimed and hasn't begun.
    pub(super) fn close_board(&mut self, key: JobKey) {
        let Some((number, posting)) = self.boards.iter_mut().find(|(_, p)| p.key == key) else {
            return;
        };
        posting.is_open = false;
        if let Some(arena) = &posting.arena {
            arena.board().close(arena.generation());
        }
        let number = *number;
        let is_left = self.jobs.get(key).is_some();
        let ids: Vec<u64> = self.workers.keys().copied().collect();
        for id in ids {
            self.cut(id, number, |_| 0);
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            if let Some(part) = worker.parts.iter_mut().find(|part| part.board == number)
                && is_left
            {
                // The results that still matter may be hidden behind a slow item that doesn't.
                part.reports = true;
                worker.look_from(clock::nanos());
            }
        }
        self.forget_if_left(number);
    }

    /// Forgets a board that nobody takes part in any more. What is then with nobody becomes pending; the
    /// memory is the job's to its end.
    fn forget_if_left(&mut self, number: u64) {
        let is_left = |posting: &Posting| posting.taking_part == 0 && !posting.is_open;
        if !self.boards.get(&number).is_some_and(is_left) {
            return;
        }
        let Some(posting) = self.boards.remove(&number) else { return };
        let key = posting.key;
        if let Some(work) = self.jobs.get(key) {
            let sent = self.workers.values().flat_map(|worker| worker.ledger.runs());
            let with_workers = sent.filter(|run| run.job == key).map(|run| run.items.clone());
            let waiting = work.trials.waiting().map(|item| item..item + 1);
            let somewhere: Vec<Range<u32>> = with_workers.chain(waiting).collect();
            work.keep(posting.arena);
            work.find_lost(&somewhere);
            self.jobs.serve_first(key);
        } else {
            self.news.arenas.extend(posting.arena);
        }
    }

    /// The job of a board is done, so that nobody begins anything of it any more. `is_whole`: every item of
    /// it has its answer, so that nobody reads its inputs, either, if all who took part are honest.
    ///
    /// One that forges answers to another's items can bring it about that this one still reads while the memory
    /// is used for something else: it runs on other bytes then, and what it says of them comes to nothing. That
    /// is no more than whoever takes part can do to the others anyway, since all of them may write to the inputs.
    pub(super) fn board_is_done(&mut self, key: JobKey, is_whole: bool) {
        let Some((number, posting)) = self.boards.iter_mut().find(|(_, p)| p.key == key) else {
            return;
        };
        let number = *number;
        if !is_whole {
            return self.close_board(key);
        }
        posting.is_open = false;
        // A worker may have answered for others: then these have yet to see that it is over.
        if let Some(arena) = posting.arena.take_if(|arena| {
            arena.board().close(arena.generation()) >= u64::from(posting.join.items)
        }) {
            self.news.arenas.push(arena);
        }
        self.forget_if_left(number);
    }

    /// Takes items back that a worker has claimed and hasn't begun, but for as many as `leave` says.
    pub(super) fn cut(&mut self, id: u64, board: u64, leave: impl Fn(u32) -> u32) -> bool {
        let Some(worker) = self.workers.get(&id) else { return false };
        let Some(posting) = self.boards.get(&board) else { return false };
        if worker.parts.iter().all(|part| part.board != board) {
            return false;
        }
        let hand = &worker.page.hand;
        let Some(items) = hand.cut(board, leave(hand.unbegun())) else { return false };
        self.take_over(posting.key, items);
        true
    }

    /// Makes items pending that were on a board. The numbers come from a worker.
    fn take_over(&mut self, key: JobKey, items: Range<u32>) {
        let Some(work) = self.jobs.get(key) else { return };
        work.put_back_unanswered(items);
        self.jobs.serve_first(key);
    }

    /// While a worker has nothing to do and nothing is pending: takes from those who have claimed more than
    /// they can do soon. Says when to look again, if somebody may be stuck.
    pub(super) fn level_boards(&mut self) {
        self.level_at = None;
        if self.boards.is_empty() {
            return;
        }
        if let Some(key) = self.jobs.first()
            && !self.has_to_wait(key)
        {
            return;
        }
        let idle = self.workers.values().filter(|worker| worker.is_idle()).count();
        if idle == 0 {
            return;
        }
        let now = clock::nanos();
        for posting in self.boards.values_mut().filter(|posting| posting.is_open) {
            // Those who were told may be held up by what nobody has expected.
            if now - posting.since >= STUCK {
                posting.wanted = self.plan.workers;
            }
            self.level_at = Some(now + STUCK);
        }
        let ids: Vec<u64> = self.workers.keys().copied().collect();
        for id in ids {
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            let unbegun = worker.page.hand.unbegun();
            let Some(running) = worker.page.hand.running() else { continue };
            let (board, item) = (running.work, running.item);
            if unbegun == 0 || worker.parts.iter().all(|part| part.board != board) {
                continue;
            }
            let since = match worker.at_work_on {
                Some((known, since)) if known == (board, item) => since,
                _ => now,
            };
            worker.at_work_on = Some(((board, item), since));
            let is_stuck = now - since >= STUCK;
            let posting = self.boards.get(&board);
            let callee = posting.map(|posting| posting.join.callee);
            let pace = callee.map(|callee| self.paces.get(&callee)).unwrap_or_default();
            if is_stuck {
                self.cut(id, board, |_| 0);
            } else if pace.mean() > 0 && pace.cost(unbegun as usize) > WORTH_A_CUT {
                self.cut(id, board, |unbegun| unbegun / 2);
            } else {
                self.level_at = Some(now + STUCK);
            }
        }
    }

    /// A worker has left a board.
    pub(super) fn left(&mut self, id: u64, run: u32, body: &[u8]) -> Result<(), String> {
        let (number, nanos) = board::split(body).ok_or("half a leave")?;
        let nanos = nanos.first_chunk().ok_or("half a report of time")?;
        let worker = self.workers.get_mut(&id).expect("the caller has just had it");
        let at = worker.parts.iter().position(|part| part.board == number);
        let at = at.ok_or("a leave from where it wasn't")?;
        let budget = worker.parts[at].budget;
        let rest = budget.checked_sub(run as usize).ok_or("more than it may run")?;
        // Only who is believed has left: the others are seen to at their death.
        worker.parts.swap_remove(at);
        worker.record.has_left();
        worker.allow(rest);
        let retires = worker.life.retires;
        if let Some(posting) = self.boards.get(&number)
            && run > 0
        {
            self.paces.observe(&posting.join.callee, run, u64::from_le_bytes(*nanos));
        }
        if run == 0 && !retires {
            self.withdraw(number);
        }
        self.one_less(number);
        Ok(())
    }

    /// Workers leave without running anything though there is something, since they can't reach the memory,
    /// or die of it: what is left is sent.
    pub(super) fn withdraw(&mut self, number: u64) {
        let Some(posting) = self.boards.get_mut(&number).filter(|posting| posting.is_open) else {
            return;
        };
        let Some(arena) = &posting.arena else { return };
        let items = posting.join.items;
        let unclaimed = arena.board().unclaimed(arena.generation());
        if unclaimed.is_none_or(|unclaimed| unclaimed >= u64::from(items)) {
            return;
        }
        posting.is_open = false;
        let unclaimed = u32::try_from(arena.board().close(arena.generation())).unwrap_or(u32::MAX);
        let key = posting.key;
        self.take_over(key, unclaimed.min(items)..items);
    }

    /// There is more work on a board than those who were told can do soon.
    pub(super) fn call_more(&mut self, body: &[u8]) -> Result<(), String> {
        let (number, _) = board::split(body).ok_or("half a call for more")?;
        if let Some(posting) = self.boards.get_mut(&number) {
            posting.wanted = self.plan.workers;
        }
        Ok(())
    }

    /// One of those who were told of a board has left or died.
    pub(super) fn one_less(&mut self, number: u64) {
        let Some(posting) = self.boards.get_mut(&number) else { return };
        posting.taking_part = posting.taking_part.saturating_sub(1);
        let unclaimed =
            posting.arena.as_ref().and_then(|arena| arena.board().unclaimed(arena.generation()));
        posting.is_open &=
            unclaimed.is_some_and(|unclaimed| unclaimed < u64::from(posting.join.items));
        self.forget_if_left(number);
    }

    /// Takes in what came about one item of a board, apart from others: the head, and what follows.
    pub(super) fn hear_apart(
        &mut self,
        id: u64,
        item: u32,
        head: [u8; APART],
        long: Vec<u8>,
    ) -> Result<(), String> {
        let (number, kind) = board::split(&head).expect("it is as long as a head");
        let kind = Kind::from_byte(kind[0]).ok_or("a result of no kind")?;
        let worker = self.workers.get_mut(&id).expect("the caller has just had it");
        let part = worker.parts.iter().find(|part| part.board == number);
        let Some(&Part { whole_at, .. }) = part else {
            return Err(format!("a result for work {number}, which it has no part in"));
        };
        let pid = worker.pid;
        let answer = match kind {
            Kind::Value => Ok(Answer::Large(Vec::new(), long)),
            other => super::answers::verdict(other, &long)?,
        };
        let key = self.boards.get(&number).map(|posting| posting.key);
        let Some((key, work)) = key.and_then(|key| Some((key, self.jobs.get(key)?))) else {
            // It comes late, and may be long.
            self.news.free(Some(answer));
            return Ok(());
        };
        if item >= work.items() {
            return Err(format!("a result for item {item} of {}", work.items()));
        }
        let is_wanted = usize::from(work.wants(item));
        let Self { barren_deaths, has_answers, .. } = self;
        worker.record.has_settled(is_wanted, whole_at, barren_deaths, has_answers);
        let answer = answer.unwrap_or_else(|cause| {
            let error = Error::new(cause).of_task(&work.job.spec.task);
            let error = error.at_index(work.index(item)).by_worker(pid);
            worker.last_error = Some(error.clone());
            Answer::Failed(error)
        });
        self.settle(key, item, answer);
        Ok(())
    }

    /// A worker has died: takes in what it had written and not published, and what it had in hand.
    /// Gives out the items that are lost with it.
    pub(super) fn empty_hand(&mut self, id: u64) -> Vec<Run> {
        let mut lost = Vec::new();
        let Some(worker) = self.workers.get_mut(&id) else { return lost };
        let written = worker.page.hand.filled(worker.end.received());
        let bytes = worker.end.unpublished(usize::from(written.bytes));
        self.take_unpublished(id, &bytes, written);
        let boards: Vec<u64> = match self.workers.get(&id) {
            Some(worker) => worker.parts.iter().map(|part| part.board).collect(),
            None => return lost,
        };
        // As if it lived: its death may have been forged.
        for board in boards {
            self.cut(id, board, |_| 0);
        }
        let Some(worker) = self.workers.get_mut(&id) else { return lost };
        let parts = std::mem::take(&mut worker.parts);
        if let Last::Range { work: number, begun, unbegun } = worker.page.hand.last()
            && parts.iter().any(|part| part.board == number)
            && let Some(posting) = self.boards.get(&number)
        {
            let key = posting.key;
            self.take_over(key, unbegun);
            if let Some(work) = self.jobs.get(key) {
                let begun = begun.start..begun.end.min(work.items());
                let unanswered = begun.filter(|item| !work.is_answered(*item));
                lost.extend(unanswered.map(|item| Run { job: key, items: item..item + 1 }));
            }
        }
        // What is lost is put back, if it is to be tried again, before anybody looks for what is missing.
        self.to_leave.extend(parts.iter().map(|part| part.board));
        lost
    }

    /// Takes in what a living worker has written and not published.
    pub(super) fn look_into_hand(&mut self, id: u64) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| !worker.parts.is_empty())
        else {
            return;
        };
        let position = worker.end.received();
        let written = worker.page.hand.filled(position);
        let bytes = worker.end.unpublished(usize::from(written.bytes));
        // While it was read it may have been published, and something else written there.
        fence(Acquire);
        if worker.page.hand.filled(position).bytes < written.bytes {
            return;
        }
        self.take_unpublished(id, &bytes, written);
    }

    /// Takes in results that were written and not published. What makes no sense there comes again in a
    /// frame, or in the hand of the dead; then its items are run once more, or lost.
    fn take_unpublished(&mut self, id: u64, bytes: &[u8], written: Filled) {
        let Some((body, run)) = open_frame(bytes, written) else { return };
        let Self { workers, boards, jobs, barren_deaths, has_answers, .. } = self;
        let Some(worker) = workers.get_mut(&id) else { return };
        let Ok(taken) = take_runs(&worker.parts, boards, jobs, body, Some(run)) else { return };
        worker.record.has_settled(taken.answers, taken.whole_at, barren_deaths, has_answers);
        if let Some(settled) = taken.settled {
            self.end_job(settled, None);
        }
    }
}

/// What results have come to.
#[derive(Default)]
pub(super) struct Taken {
    /// How many items had no answer before.
    pub(super) answers: usize,
    /// How much the worker had been sent when it had been told of the board.
    pub(super) whole_at: u64,
    /// The job, if that was the last it waited for.
    pub(super) settled: Option<JobKey>,
}

/// Takes in results by runs, of a worker with these parts: the body of a frame; `open` is where its last run
/// begins, if it was never published.
pub(super) fn take_runs(
    parts: &[Part],
    boards: &BTreeMap<u64, Posting>,
    jobs: &mut Jobs,
    body: &[u8],
    open: Option<usize>,
) -> Result<Taken, String> {
    let (number, body) = board::split(body).ok_or("half a frame of results")?;
    let part = parts.iter().find(|part| part.board == number);
    let Some(&Part { whole_at, .. }) = part else {
        return Err(format!("results for work {number}, which it has no part in"));
    };
    let Some(posting) = boards.get(&number) else { return Ok(Taken::default()) };
    let Some(work) = jobs.get(posting.key) else { return Ok(Taken::default()) };
    let before = work.left();
    let result = settle_runs(work, body, open);
    let answers = before.saturating_sub(work.left());
    if work.is_settled() {
        // Nothing waits for what else the frame may have said.
        return Ok(Taken { answers, whole_at, settled: Some(posting.key) });
    }
    result.map(|()| Taken { answers, whole_at, settled: None })
}

/// The body of a frame that was not published, and where behind the work's number its last run begins.
fn open_frame(bytes: &[u8], written: Filled) -> Option<(&[u8], usize)> {
    let run = usize::from(written.run).checked_sub(HEAD)?;
    let (_, body) = bytes.split_at_checked(Header::SIZE)?;
    Some((body, run))
}

/// The loop over results: for those of one size it is a copy for each run.
fn settle_runs(work: &mut Work, body: &[u8], open: Option<usize>) -> Result<(), String> {
    let slot = work.job.spec.results.map(|shape| shape.size.max(1));
    let mut runs = Runs::new(body, slot, open);
    // What is taken in early comes again when it is published; what is answered stays what it is.
    while let Some(run) = runs.next()? {
        if run.items.end > work.items() {
            return Err(format!("results for items up to {} of {}", run.items.end, work.items()));
        }
        if slot.is_some() {
            work.settle_run(run.items, run.results);
            continue;
        }
        let mut values = Values::new(run.results);
        for item in run.items {
            let value = values.next().ok_or("half a result")?;
            work.settle(item, Answer::Value(value));
        }
    }
    Ok(())
}

impl Core {
    /// Condemns a worker whose item from a board is too late, so that only this item can be hit. Gives out
    /// the item's limit.
    pub(super) fn condemn_late(&mut self, id: u64, now: u64) -> Option<(u64, Duration)> {
        let worker = self.workers.get(&id)?;
        let running = worker.page.hand.running()?;
        let limit = worker.limit_of(running)?;
        if running.since?.saturating_add(limit) > now {
            return None;
        }
        self.cut(id, running.work, |_| 0);
        let worker = self.workers.get(&id)?;
        // If it has gone on to another item meanwhile, it was in time after all, or nearly so.
        let key = self.boards.get(&running.work).map(|posting| posting.key);
        let work = key.and_then(|key| self.jobs.look(key));
        let grace = work.map_or(Duration::ZERO, |work| work.job.spec.grace);
        worker.page.hand.condemn(running).then_some((limit, grace))
    }
}

//! The boards that a worker claims items from, and its way through a range.
//!
//! ```text
//! JOINED ---nothing is left to claim, or the budget is used up---> left; the parent is told
//! ```
//!
//! The worker goes on between two ranges only as long as nothing has come in from its parent. Which
//! items it has, begins and has done stands in its hand (`shm/hand.rs`) before and after each of them.

use std::ops::Range;
use std::sync::atomic::AtomicU8;

use super::dispatch::{Args, Ran, Run, RunError, Sizes};
use super::kill_points::{Point, pass};
use super::panics;
use super::sheet::Sheet;
use super::shift::Shift;
use super::tasks::{KEPT, Prepared, Runner};
use crate::error::PanicInfo;
use crate::os::clock;
use crate::os::memory::{append, copy_owned};
use crate::shm::board::Board;
use crate::shm::hand::{Hand, Holding};
use crate::shm::heap::{Id, Kind as ObjectKind, Object};
use crate::shm::system::System;
use crate::transport::board::{self, INPUTS, Join, LARGEST_KEPT};
use crate::transport::frame::Kind;
use crate::transport::{WorkerInput, codec};

/// Work to claim at once, in nanoseconds. A claim costs some 50 ns, and what is claimed can be taken
/// back.
const TARGET: u64 = 50_000;

/// Less work than this isn't divided further, in nanoseconds: it is what some claims cost.
const LEAST: u64 = 1_000;

/// So much work for each of those who were told is worth waking others, in nanoseconds.
const WORTH_A_WAKE: u64 = 100_000;

/// The parent is told of failures at most so often, in nanoseconds.
const PATIENCE: u64 = 200_000;

#[derive(Default)]
pub(super) struct Boards {
    joined: Vec<Joined>,
    sheet: Sheet,
    /// The arena that was used last, and is likely to be used again.
    arena: Option<Object>,
    inputs: Vec<u8>,
    result: Vec<u8>,
    serial: u32,
    /// When the parent was told of a failure.
    told: u64,
}

struct Joined {
    join: Join,
    /// None: it can't be reached any more, and neither can the items.
    arena: Option<Object>,
    /// The nanoseconds that an item takes; 0 until something was observed.
    mean: u64,
    claimed: u64,
    run: u64,
    nanos: u64,
    has_called: bool,
}

impl Joined {
    /// How many items to claim when so many are left.
    fn chunk(&self, left: u32) -> u32 {
        let Join { chunk, workers, budget, .. } = self.join;
        let budget = u32::try_from(budget - self.claimed).unwrap_or(u32::MAX);
        let wanted = match chunk {
            Some(forced) => u64::from(forced),
            None if self.mean == 0 => 1,
            None => {
                let share = u64::from(left / workers.saturating_mul(2).max(1));
                (TARGET / self.mean).min(share.max(LEAST / self.mean)).max(1)
            }
        };
        u32::try_from(wanted).unwrap_or(u32::MAX).min(budget)
    }

    fn observe(&mut self, items: u32, nanos: u64) {
        self.run += u64::from(items);
        self.nanos += nanos;
        if items > 0 {
            let sample = (nanos / u64::from(items)).max(1);
            self.mean =
                if self.mean == 0 { sample } else { u64::midpoint(self.mean, sample) }.max(1);
        }
    }
}

/// What lies in an arena.
struct Memory<'a> {
    board: &'a Board<System>,
    inputs: &'a [AtomicU8],
}

impl<'a> Memory<'a> {
    /// That of an arena with so many bytes of inputs; none if it can't be reached.
    fn of(arena: &'a Object, bytes: u64) -> Option<Self> {
        let end = INPUTS.checked_add(usize::try_from(bytes).ok()?)?;
        Some(Self { board: arena.get(0).ok()?, inputs: arena.atomics(INPUTS..end).ok()? })
    }
}

/// A callable whose arguments and results have fixed sizes.
#[derive(Clone, Copy)]
struct Tiny<'r> {
    run: &'r dyn Run,
    size: usize,
    slot: usize,
}

impl<'r> Tiny<'r> {
    fn of(run: &'r dyn Run) -> Option<Self> {
        let sizes = run.sizes();
        Some(Self { run, size: sizes.args?, slot: sizes.slot()? })
    }
}

/// A range in this worker's hand.
struct InHand<'h> {
    hand: &'h Hand<System>,
    holding: Holding,
    /// As it was claimed: less of it may be left to this worker.
    items: Range<u32>,
}

impl InHand<'_> {
    /// The item with this number in the range, from 1.
    fn item(&self, number: u32) -> u32 {
        self.items.start + number - 1
    }
}

impl Boards {
    pub(super) fn is_empty(&self) -> bool {
        self.joined.is_empty()
    }

    /// Takes part in what a frame tells of. None: the frame makes no sense.
    pub(super) fn join(&mut self, body: &[u8]) -> Option<()> {
        let join: Join = codec::decode(body).ok()?;
        let id = Id::from_bits(join.arena)?;
        if self.arena.as_ref().is_none_or(|known| known.id() != id) {
            self.arena = Object::receive(id).ok().filter(|object| object.is(ObjectKind::Arena, 0));
        }
        let at = self.joined.partition_point(|other| other.join.priority >= join.priority);
        let (arena, mean) = (self.arena.clone(), join.mean);
        let joined = Joined { join, arena, mean, claimed: 0, run: 0, nanos: 0, has_called: false };
        self.joined.insert(at, joined);
        Some(())
    }

    /// Claims ranges from the first board and runs them, until something comes in or there is nothing left
    /// to claim; then it leaves that board.
    pub(super) fn work(&mut self, runner: &mut Runner, input: &mut dyn WorkerInput) {
        let page = runner.page();
        let hand = &page.hand;
        let Join { callee, bound, chunk, typed, bytes, .. } = self.joined[0].join;
        let prepared = runner.take_prepared(&callee, bound);
        let arena = self.joined[0].arena.clone();
        let memory = arena.as_ref().and_then(|arena| Memory::of(arena, bytes));
        let tiny = prepared.as_ref().ok().filter(|_| typed).and_then(|run| Tiny::of(&**run));
        page.note.clear();
        let mut since = clock::nanos();
        let mut uncounted = 0;
        let is_over = loop {
            if page.orders.has_to_leave() {
                break true;
            }
            let Some(items) = self.claim(hand, memory.as_ref()) else { break true };
            let claimed = items.end;
            self.serial = self.serial.wrapping_add(1);
            let mut range = InHand { hand, holding: hand.hold(self.serial, &items), items };
            pass(Point::InHand);
            uncounted += match (tiny, &memory) {
                (Some(tiny), Some(memory)) => self.run(&mut range, |own, range, next| {
                    own.run_tiny(runner, range, next, tiny, memory.inputs)
                }),
                _ => self.run(&mut range, |own, range, next| {
                    own.run_one(runner, range, next, &prepared)
                }),
            };
            hand.rest();
            pass(Point::Resting);
            // Where it is said how much to claim, nobody has to know the time.
            if chunk.is_none() {
                self.observe(&mut since, &mut uncounted);
                self.call_for_more(runner, claimed);
            }
            if input.poll() {
                // What has come may take long. A parent whom these results don't matter any more takes the
                // leave as a sign that their item is over.
                break !self.has_more(memory.as_ref());
            }
        };
        self.observe(&mut since, &mut uncounted);
        runner.put_back_prepared(callee, bound, prepared);
        if is_over {
            self.leave(runner);
        }
    }

    /// Whether there may be something left to claim.
    fn has_more(&self, memory: Option<&Memory<'_>>) -> bool {
        let Join { generation, items, .. } = self.joined[0].join;
        let unclaimed = memory.and_then(|memory| memory.board.unclaimed(generation));
        unclaimed.is_some_and(|unclaimed| unclaimed < u64::from(items))
    }

    fn observe(&mut self, since: &mut u64, items: &mut u32) {
        let now = clock::nanos();
        self.joined[0].observe(std::mem::take(items), now.saturating_sub(*since));
        *since = now;
    }

    fn claim(&self, hand: &Hand<System>, memory: Option<&Memory<'_>>) -> Option<Range<u32>> {
        let joined = &self.joined[0];
        let Join { work, generation, items, budget, .. } = joined.join;
        let board = memory.filter(|_| joined.claimed < budget)?.board;
        hand.claiming(work);
        pass(Point::Claiming);
        let claimed = board.claim(generation, items, |left| joined.chunk(left));
        if claimed.is_some() {
            pass(Point::Claimed);
        }
        if claimed.is_none() {
            hand.rest();
        }
        claimed
    }

    /// Runs the items of a range that nobody takes back, as `some` does with one or more from a number on.
    /// Says how many.
    fn run<'h>(
        &mut self,
        range: &mut InHand<'h>,
        mut some: impl FnMut(&mut Self, &mut InHand<'h>, u32) -> u32,
    ) -> u32 {
        self.joined[0].claimed += range.items.len() as u64;
        let mut next = 1;
        while next <= range.holding.count() {
            let before = next;
            next = some(self, range, next);
            if next == before {
                break;
            }
        }
        // What was taken back was not run, and may be claimed by the budget.
        self.joined[0].claimed -= range.items.len() as u64 - u64::from(next - 1);
        next - 1
    }

    /// Runs items of fixed sizes until one fails or there are many results. Gives out the number of the
    /// next.
    fn run_tiny(
        &mut self,
        runner: &mut Runner,
        range: &mut InHand<'_>,
        first: u32,
        Tiny { run, size, slot }: Tiny<'_>,
        inputs: &[AtomicU8],
    ) -> u32 {
        let Join { work, timed, .. } = self.joined[0].join;
        let start = range.item(first);
        let count = (range.holding.count() - first + 1).min(Sheet::fits(size, slot));
        let InHand { hand, holding, .. } = range;
        let at = start as usize * size;
        let Some(inputs) = inputs.get(at..at + count as usize * size) else {
            if !hand.begin(holding, first) {
                return first;
            }
            return self.fail(runner, start, Kind::BadArguments, UNREACHABLE, first);
        };
        self.inputs.clear();
        copy_owned(inputs, &mut self.inputs);
        let outlet = runner.outlet();
        let room = self.sheet.begin_run(outlet, hand, (work, start), first, (count, slot));
        let (numbers, inputs) = (first..first + count, &self.inputs[..]);
        let mut shift = Shift { hand, holding, numbers, inputs, room, timed };
        let ended = panics::catch(|| run.run_shift(&mut shift));
        // What it has known of itself a panic has taken with it.
        let next = if ended.is_ok() { shift.numbers.start } else { hand.latest() + 1 };
        let has_failed = !matches!(ended, Ok(Ok(())));
        self.sheet.end_run(hand, next - first - u32::from(has_failed), slot);
        if !has_failed {
            pass(Point::Counted);
        }
        let failed = || range.item(next - 1);
        match ended {
            Ok(Ok(())) => next,
            Ok(Err(error)) => {
                self.fail(runner, failed(), Kind::BadArguments, &error.to_string(), next - 1)
            }
            Err(panic) => self.panicked(runner, failed(), &panic, next - 1),
        }
    }

    /// Runs one item of any kind. Gives out the number of the next, or the same one if it isn't this
    /// worker's any more.
    fn run_one(
        &mut self,
        runner: &mut Runner,
        range: &mut InHand<'_>,
        number: u32,
        prepared: &Prepared,
    ) -> u32 {
        let Join { work, timed, typed, .. } = self.joined[0].join;
        let item = range.item(number);
        let InHand { hand, holding, .. } = range;
        if !hand.begin(holding, number) {
            return number;
        }
        pass(Point::Begun);
        if timed {
            hand.set_start(holding, number, clock::nanos());
        }
        runner.clear_note();
        let run = match prepared {
            Ok(run) => run,
            Err(why) => return self.fail(runner, item, Kind::BadArguments, why, number),
        };
        let sizes = if typed { run.sizes() } else { Sizes::default() };
        let is_there = match self.place(item, sizes.args) {
            Some(range) => self.read_inputs(range.start, range.len()),
            None => false,
        };
        if !is_there {
            return self.fail(runner, item, Kind::BadArguments, UNREACHABLE, number);
        }
        let mut result = std::mem::take(&mut self.result);
        result.clear();
        let inputs = &self.inputs;
        let ended = panics::catch(|| run.run(Args::Whole(inputs), typed, &mut result));
        pass(Point::Called);
        let next = match ended {
            Ok(Ok(Ran { handles, tail })) if handles.is_empty() => {
                if let Some(tail) = tail {
                    append((*tail).as_ref(), &mut result);
                }
                let dense = sizes.slot();
                result.resize(result.len().max(dense.unwrap_or(0)), 0);
                if result.len() <= Sheet::LONGEST {
                    let outlet = runner.outlet();
                    self.sheet.write(outlet, hand, (work, item), &result, dense.is_some());
                } else {
                    self.apart(runner, item, Kind::Value, &result);
                }
                number + 1
            }
            Ok(Ok(Ran { handles, .. })) => match runner.parcel(&handles, &result) {
                Ok(parcel) => {
                    self.apart(runner, item, Kind::Parcel, &parcel.id().to_bits().to_le_bytes());
                    number + 1
                }
                Err(error) => self.fail(runner, item, Kind::BadResult, &error.to_string(), number),
            },
            Ok(Err(RunError::Args(error))) => {
                self.fail(runner, item, Kind::BadArguments, &error.to_string(), number)
            }
            Ok(Err(RunError::Result(error))) => {
                self.fail(runner, item, Kind::BadResult, &error.to_string(), number)
            }
            Err(panic) => self.panicked(runner, item, &panic, number),
        };
        if result.capacity() <= KEPT {
            self.result = result;
        }
        if self.inputs.capacity() > KEPT {
            self.inputs = Vec::new();
        }
        next
    }

    /// Where an item's arguments lie, from the inputs' beginning.
    fn place(&self, item: u32, size: Option<usize>) -> Option<Range<usize>> {
        let Joined { join, arena, .. } = &self.joined[0];
        let item = item as usize;
        if join.starts == 0 {
            let size = size?;
            return Some(item * size..(item + 1) * size);
        }
        let at = usize::try_from(join.starts).ok()?.checked_add(4 * item)?;
        let ends = arena.as_ref()?.atomics(at..at.checked_add(8)?).ok()?;
        let mut bytes = Vec::with_capacity(8);
        copy_owned(ends, &mut bytes);
        let (start, end) = bytes.split_at(4);
        let number = |bytes: &[u8]| Some(u32::from_le_bytes(*bytes.first_chunk()?) as usize);
        // Before the arguments stands their length, which is known by now.
        Some(number(start)?.checked_add(8)?..number(end)?)
    }

    /// Copies some of the inputs to where nobody else writes.
    fn read_inputs(&mut self, start: usize, length: usize) -> bool {
        let Joined { join, arena, .. } = &self.joined[0];
        self.inputs.clear();
        let is_inside = start.checked_add(length).is_some_and(|end| end as u64 <= join.bytes);
        let range = INPUTS + start..INPUTS + start + length;
        match arena.as_ref().filter(|_| is_inside).map(|arena| arena.atomics(range)) {
            Some(Ok(bytes)) => {
                copy_owned(bytes, &mut self.inputs);
                true
            }
            _ => false,
        }
    }

    /// Tells why an item has no result. Gives out the number of the next.
    fn fail(&mut self, runner: &mut Runner, item: u32, kind: Kind, why: &str, number: u32) -> u32 {
        self.apart(runner, item, kind, why.as_bytes());
        self.tell_soon(runner);
        number + 1
    }

    fn panicked(&mut self, runner: &mut Runner, item: u32, panic: &PanicInfo, number: u32) -> u32 {
        let mut body = Vec::new();
        codec::encode(panic, &mut body).expect("texts can be encoded");
        self.apart(runner, item, Kind::Panicked, &body);
        self.tell_soon(runner);
        // What comes next is not to blame for it.
        runner.clear_note();
        number + 1
    }

    /// Tells the parent of a failure, which may end the whole call; of many at once, now and then.
    fn tell_soon(&mut self, runner: &mut Runner) {
        let now = clock::nanos();
        if now.saturating_sub(self.told) > PATIENCE {
            runner.outlet().flush();
            self.told = now;
        }
    }

    fn apart(&mut self, runner: &mut Runner, item: u32, kind: Kind, body: &[u8]) {
        self.publish(runner);
        let work = self.joined[0].join.work;
        runner.outlet().put_parts(Kind::Apart, item, &board::apart(work, kind), body);
    }

    /// Tells the parent, once, that others should be woken.
    fn call_for_more(&mut self, runner: &mut Runner, claimed: u32) {
        let joined = &mut self.joined[0];
        let Join { work, items, workers, told, .. } = joined.join;
        if joined.has_called || told >= workers {
            return;
        }
        let left = u64::from(items - claimed).saturating_mul(joined.mean);
        if left > WORTH_A_WAKE * u64::from(told) {
            joined.has_called = true;
            self.publish(runner);
            runner.outlet().put(Kind::More, 0, &work.to_le_bytes());
            runner.outlet().flush();
        }
    }

    fn leave(&mut self, runner: &mut Runner) {
        self.publish(runner);
        let joined = self.joined.remove(0);
        // A large one isn't used again.
        if self.arena.as_ref().is_some_and(|arena| arena.bytes() > LARGEST_KEPT) {
            self.arena = None;
        }
        let run = u32::try_from(joined.run).unwrap_or(u32::MAX);
        let (work, nanos) = (joined.join.work.to_le_bytes(), joined.nanos.to_le_bytes());
        runner.outlet().put_parts(Kind::Left, run, &work, &nanos);
        pass(Point::Left);
        // Somebody may wait for it, and there may be much to do before the input is empty.
        runner.outlet().flush();
    }

    /// Publishes the results that there are.
    pub(super) fn publish(&mut self, runner: &mut Runner) {
        let page = runner.page();
        self.sheet.close(runner.outlet(), &page.hand);
    }
}

const UNREACHABLE: &str = "they can't be read from shared memory any more";

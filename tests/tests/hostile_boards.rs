//! Workers that write garbage where boards are worked on: into their own hand, into the arena that all of
//! them share, and into frames about results. What belongs to other calls, and the pool, stays whole.
//!
//! A worker that takes part in a call may spoil that call's results, as it shares its memory, but it can't
//! make the parent wait for ever, and what comes in a frame that makes no sense costs the worker alone.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fmt::Debug;
use std::process;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use procession::{Error, Pool, bind, task};
use procession_tests::forge::{
    HOLDING, INPUTS, arena, frame, inject, kind, place, uses_sockets, word,
};
use procession_tests::{alone, is_running, wait_until};
use serde::{Deserialize, Serialize};

const ITEMS: u64 = 200;
const CHUNK: usize = 10;
/// The item whose task does what it must not.
const HOSTILE: u64 = 57;
/// Far longer than any item takes that isn't meant to hang.
const LIMIT: Duration = Duration::from_millis(250);

/// The inputs of a call, which no other call has, so that its arena can be found.
fn inputs(round: u64) -> std::ops::Range<u64> {
    let first = 0x0005_eed0_0000_0000 + round * 0x1000;
    first..first + ITEMS
}

fn mix(x: u64) -> u64 {
    x.rotate_left(7) ^ 0x5555
}

fn pool(workers: usize) -> Pool {
    Pool::builder().processes(workers).build().unwrap()
}

/// Other calls come out right, on workers that claim from the very same memory.
#[track_caller]
fn works(pool: &Pool) {
    for count in [2, ITEMS, 3000] {
        let results = pool.map(mix, 0..count).unwrap();
        assert!(results.into_iter().eq((0..count).map(mix)));
    }
    assert_eq!(pool.apply(mix, (5,)).unwrap(), mix(5));
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Deed {
    /// Words of the page, and what is written there.
    Hand(Vec<(usize, u64)>),
    /// The same for words of the arena.
    Arena(Vec<(usize, u64)>),
    /// The board's word: what is added to the generation, and the first item that nobody has claimed.
    Board(u64, u64),
    /// A frame about the call's work: kind, number, what is added to the work's number, and the rest.
    Told(u8, u32, u64, Vec<u8>),
    /// Any other.
    Sent(u8, u32, Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Then {
    GoOn,
    Die,
    Hang,
}

/// This worker's hand: the work, the range's first item, the item that has begun, and the limit.
fn hand() -> (u64, u32, u32, u32) {
    let of = |place| word(place).load(SeqCst);
    let (start, begun, limit) = (of(place::START), of(place::BEGUN), of(place::LIMIT));
    assert_eq!(start & !u64::from(u32::MAX), HOLDING, "the hand lies where it is looked for");
    assert_eq!(begun >> 33, limit >> 33, "the hand lies where it is looked for");
    (of(place::WORK), start as u32, begun as u32, limit as u32)
}

/// The memory of a call, where this worker takes part in it.
fn board_of(round: u64) -> Option<&'static [AtomicU64]> {
    arena(INPUTS, inputs(round).start)
}

fn do_it(deed: &Deed, round: u64) {
    match deed {
        Deed::Hand(words) => {
            for (place, number) in words {
                word(*place).store(*number, SeqCst);
            }
        }
        Deed::Arena(words) => {
            for (place, number) in words {
                board_of(round).inspect(|arena| arena[*place].store(*number, SeqCst));
            }
        }
        Deed::Board(generations, index) => {
            // An item that was given back may have been sent to one who takes no part.
            let Some(arena) = board_of(round) else { return };
            let generation = (arena[0].load(SeqCst) >> 40).wrapping_add(*generations);
            arena[0].store(generation << 40 | index, SeqCst);
        }
        Deed::Told(kind, number, further, rest) => {
            let body = [&(hand().0.wrapping_add(*further)).to_le_bytes()[..], rest].concat();
            inject(&frame(*kind, *number, body.len() as u64, &body));
        }
        Deed::Sent(kind, number, body) => {
            inject(&frame(*kind, *number, body.len() as u64, body));
        }
    }
}

#[task]
fn hostile(deed: Deed, then: Then, round: u64, x: u64) -> u64 {
    if x == inputs(round).start + HOSTILE {
        do_it(&deed, round);
        match then {
            Then::GoOn => {}
            Then::Die => process::abort(),
            Then::Hang => thread::sleep(Duration::from_secs(3600)),
        }
    }
    mix(x)
}

/// A call in which one item does something, with its results.
fn call(pool: &Pool, deed: &Deed, then: Then, round: u64) -> Vec<Result<u64, Error>> {
    let task = bind(hostile, (deed.clone(), then, round));
    pool.call(task).chunksize(CHUNK).timeout(LIMIT).try_map(inputs(round))
}

#[task]
fn look_at(round: u64, x: u64) -> (u32, u32, u32, u64, u64) {
    let (_, start, begun, limit) = hand();
    let arena = board_of(round).unwrap();
    let index = (x - inputs(round).start) as usize;
    (start, begun, limit, arena[INPUTS + index].load(SeqCst), arena[0].load(SeqCst) % (1 << 40))
}

/// Else the others would write to somewhere else, and show nothing.
#[test]
fn hand_and_arena_lie_where_they_are_looked_for() {
    alone(|| {
        let pool = pool(1);
        let seen = pool.call(bind(look_at, (0,))).chunksize(CHUNK).map(inputs(0)).unwrap();
        for ((i, x), seen) in (0..).zip(inputs(0)).zip(seen) {
            let (start, chunk) = (i / CHUNK as u32 * CHUNK as u32, CHUNK as u32);
            assert_eq!(seen, (start, i - start + 1, chunk, x, u64::from(start + chunk)));
        }
    });
}

/// Whatever is in a hand, the call ends, no result is wrong, and the pool works.
fn hands_are_forged(then: Then) {
    alone(|| {
        let pool = pool(2);
        let mut round = 0;
        let cutting = 1 << 32;
        let numbers =
            [0, 1, u64::MAX, cutting, cutting | 5, HOLDING, 1 << 33 | 3, 0x1234_5678_9abc_def0];
        for place in place::WORDS_OF_HAND {
            for number in numbers {
                // That tells the worker itself to wait for its parent's decision, for ever.
                if place == place::LIMIT && number & cutting != 0
                    || place == place::CUTS && number >= cutting
                {
                    continue;
                }
                round += 1;
                let deed = Deed::Hand(vec![(place, number)]);

                let results = call(&pool, &deed, then, round);
                for (x, result) in inputs(round).zip(results) {
                    match result {
                        // It says here how much of its stream holds results.
                        Ok(_) if place == place::FILLED => {}
                        Ok(y) => assert_eq!(y, mix(x), "{deed:?}"),
                        Err(error) => assert!(
                            error.is_worker_lost() || error.is_timeout(),
                            "{deed:?}: {error}"
                        ),
                    }
                }
                works(&pool);
            }
        }
    });
}

#[test]
fn a_forged_hand_of_a_task_that_goes_on() {
    hands_are_forged(Then::GoOn);
}

#[test]
fn a_forged_hand_of_a_task_that_dies() {
    hands_are_forged(Then::Die);
}

/// A time limit holds whatever a hanging worker has in its hand, and where it has told itself to wait.
#[test]
fn a_time_limit_of_a_worker_with_a_forged_hand() {
    let cutting = 1 << 32;
    let cases = [
        (Then::Hang, place::SINCE, u64::MAX),
        (Then::Hang, place::TIMED, 0),
        (Then::Hang, place::BEGUN, 0),
        (Then::Hang, place::WORK, 0),
        (Then::Hang, place::START, 0),
        (Then::Hang, place::LIMIT, cutting),
        (Then::GoOn, place::LIMIT, u64::MAX),
        (Then::GoOn, place::CUTS, cutting),
    ];
    all_end_in_time(&cases, |(then, place, number), round, pool| {
        let deed = Deed::Hand(vec![(place, number)]);
        let call = pool.call(bind(hostile, (deed, then, round))).chunksize(CHUNK);
        call.timeout(LIMIT).map_async(inputs(round)).wait_timeout(ENOUGH)
    });
}

/// The same for a single call, whose start stands beside the claim word at the page's beginning.
#[test]
fn a_time_limit_of_a_worker_with_a_forged_start() {
    // Which item its start belongs to, and when that was.
    let cases = [(8, u64::MAX), (16, u64::MAX)];
    all_end_in_time(&cases, |(place, number), _, pool| {
        let deed = Deed::Hand(vec![(place, number)]);
        let call = pool.call(hostile).timeout(LIMIT);
        let call = call.apply_async((deed, Then::Hang, 0, inputs(0).start + HOSTILE));
        call.wait_timeout(ENOUGH)
    });
}

/// Far above what a limit takes to be enforced against a worker that denies everything.
const ENOUGH: Duration = Duration::from_secs(60);

/// Runs all cases at the same time, each with a pool of its own.
fn all_end_in_time<C: Copy + Sync + Debug>(
    cases: &[C],
    ends: impl Fn(C, u64, &Pool) -> bool + Sync,
) {
    alone(|| {
        let run = |(round, case): (u64, &C)| {
            let pool = pool(2);
            let has_ended = ends(*case, round, &pool);
            pool.terminate();
            assert!(has_ended, "{case:x?} outlives its limit");
        };
        std::thread::scope(|scope| {
            for case in (8000..).zip(cases) {
                scope.spawn(move || run(case));
            }
        });
    });
}

/// A range that isn't its own, which may be claimed by another or answered: however the sums come out,
/// what nobody has is found.
#[test]
fn a_hand_that_claims_what_belongs_to_others() {
    alone(|| {
        let pool = pool(2);
        let mut round = 1000;
        for (start, begun, count) in [
            (0, 1, ITEMS),
            (0, 0, 20),
            (60, 5, 25),
            (150, 1, 51),
            (195, 1, 500),
            (u32::MAX.into(), 1, 3),
        ] {
            for left in [100, ITEMS] {
                round += 1;
                let hand = [
                    (place::START, HOLDING | start),
                    (place::BEGUN, 77 << 33 | begun),
                    (place::LIMIT, 77 << 33 | count),
                ];
                for then in [Then::GoOn, Then::Die] {
                    round += 1;
                    let task = bind(two_deeds, (hand.to_vec(), left, then, round));
                    let call = pool.call(task).chunksize(CHUNK).timeout(LIMIT);
                    let results = call.try_map(inputs(round));
                    for (x, result) in inputs(round).zip(results) {
                        match result {
                            Ok(y) => assert_eq!(y, mix(x)),
                            Err(error) => {
                                assert!(error.is_worker_lost() || error.is_timeout(), "{error}");
                            }
                        }
                    }
                    works(&pool);
                }
            }
        }
    });
}

/// Also takes items from everybody, which nobody will run.
#[task]
fn two_deeds(hand: Vec<(usize, u64)>, index: u64, then: Then, round: u64, x: u64) -> u64 {
    if x == inputs(round).start + HOSTILE {
        do_it(&Deed::Board(0, index), round);
    }
    hostile(Deed::Hand(hand), then, round, x)
}

/// What nobody has claimed, or everybody, or of which call: the call ends, with all that can be known.
#[test]
fn a_forged_board() {
    alone(|| {
        let pool = pool(2);
        let mut round = 2000;
        for generations in [0, 1, u64::MAX, 77] {
            for index in [0, 1, HOSTILE, ITEMS - 1, ITEMS, ITEMS + 1, (1 << 40) - 1] {
                for then in [Then::GoOn, Then::Die] {
                    round += 1;
                    let results = call(&pool, &Deed::Board(generations, index), then, round);
                    for ((i, x), result) in (0..).zip(inputs(round)).zip(results) {
                        match result {
                            Ok(y) => assert!(y == mix(x) && (i != HOSTILE || then == Then::GoOn)),
                            // Who puts the item on the board again dies of it again and again, and in the end
                            // an innocent item of the same call may be blamed.
                            Err(error) => {
                                assert!(
                                    then == Then::Die && error.is_worker_lost(),
                                    "{i}: {error}"
                                );
                            }
                        }
                    }
                    works(&pool);
                }
            }
        }
    });
}

/// Very many items that nobody has are found in one go.
#[test]
fn a_forged_board_that_loses_very_many() {
    const MANY: u64 = 200_000;

    alone(|| {
        let pool = pool(2);
        let (round, all) = (3_000_000, Deed::Board(0, MANY));
        let first = inputs(round).start;
        let call = pool.call(bind(hostile, (all, Then::GoOn, round)));
        let results = call.map(first..first + MANY).unwrap();
        assert!(results.into_iter().eq((first..first + MANY).map(mix)));
        works(&pool);
    });
}

/// Others compute with inputs that they have not been given, in this call.
#[test]
fn forged_inputs() {
    alone(|| {
        let pool = pool(2);
        for round in 3000..3010 {
            let words = (INPUTS..INPUTS + ITEMS as usize).map(|place| (place, 7)).collect();
            let task = bind(hostile, (Deed::Arena(words), Then::GoOn, round));
            // None of them is late, not on the busiest machine either.
            let call = pool.call(task).chunksize(CHUNK).timeout(ENOUGH);
            for result in call.try_map(inputs(round)) {
                assert!(result.is_ok(), "{result:?}");
            }
            works(&pool);
        }
    });
}

#[task]
fn scribbles(round: u64, text: String) -> usize {
    if text.starts_with(&format!("{round:07}00000020")) {
        let mut first = [15; 8];
        first[1..].copy_from_slice(&text.as_bytes()[..7]);
        // Before the first input stands its length, and it begins with that of the text.
        let arena = arena(INPUTS + 1, u64::from_le_bytes(first)).unwrap();
        let mut random = round;
        for word in &arena[INPUTS..] {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            word.store(if round == 0 { u64::MAX } else { random >> (random % 64) }, SeqCst);
        }
    }
    text.len()
}

/// Where each input begins stands there, too.
#[test]
fn forged_places_of_inputs() {
    alone(|| {
        let pool = pool(2);
        for round in 0..40 {
            let text = |i| format!("{round:07}{i:08}{}", "text".repeat(i as usize % 7));
            let call = pool.call(bind(scribbles, (round,))).chunksize(CHUNK).timeout(LIMIT);
            for result in call.try_map((0..ITEMS).map(text)) {
                let says = "arguments can't be decoded";
                assert!(result.map_or_else(|error| error.to_string().contains(says), |_| true));
            }
            works(&pool);
        }
    });
}

/// A frame that costs the worker and the items that it had in hand and had begun, and nothing else.
fn are_refused(cases: &[(Deed, &str)]) {
    alone(|| {
        let pool = Pool::builder().processes(2).max_tasks_per_child(1_000_000).build().unwrap();
        for (round, (deed, says)) in (5000..).zip(cases) {
            let before = pool.worker_pids();
            let mut lost = Vec::new();
            let results = call(&pool, deed, Then::Hang, round);
            for ((i, x), result) in (0..).zip(inputs(round)).zip(results) {
                match result {
                    Ok(y) => assert!(y == mix(x) && i != HOSTILE, "{deed:?}: {i}"),
                    // The results before it, which had not been published, are written over.
                    Err(error) => {
                        let text = error.to_string();
                        assert!((50..=HOSTILE).contains(&i), "{deed:?}: {text}");
                        assert_eq!(error.index(), Some(i as usize));
                        assert!(text.contains(says) || uses_sockets(), "{deed:?}: {text}");
                        assert!(text.contains("was killed") || uses_sockets(), "{text}");
                        lost.push(error.pid().expect(&text));
                    }
                }
            }
            lost.dedup();
            assert_eq!(lost.len(), 1, "{deed:?}");
            wait_until("it has gone", || !is_running(lost[0]));
            let survivor = before.into_iter().find(|pid| *pid != lost[0]).unwrap();
            assert!(pool.worker_pids().contains(&survivor), "{deed:?}");
            works(&pool);
        }
    });
}

fn run(start: u32, count: u32, results: &[u8]) -> Vec<u8> {
    [&start.to_le_bytes()[..], &count.to_le_bytes(), results].concat()
}

#[test]
fn results_that_are_none() {
    let told = |further, rest| Deed::Told(kind::VALUES, 0, further, rest);
    let last = ITEMS as u32 - 1;
    are_refused(&[
        (Deed::Sent(kind::VALUES, 0, vec![1; 3]), "half a frame of results"),
        (told(1000, run(0, 1, &[0; 8])), "which it has no part in"),
        (told(u64::MAX, run(0, 1, &[0; 8])), "which it has no part in"),
        (told(0, vec![0; 5]), "half a run"),
        (told(0, run(0, 0, &[])), "a run of nothing"),
        (told(0, run(HOSTILE as u32, 2, &[0; 8])), "half a run"),
        (told(0, run(0, u32::MAX, &[0; 64])), "half a run"),
        (told(0, run(last, 2, &[0; 16])), "results for items up to 201 of 200"),
        (told(0, run(last + 1, 1, &[0; 8])), "results for items up to 201 of 200"),
        (told(0, run(u32::MAX, 1, &[0; 8])), "items that there can't be"),
    ]);
}

#[test]
fn failures_that_are_none() {
    let told = |number, rest: &[u8]| Deed::Told(kind::APART, number, 0, rest.to_vec());
    let of = |kind: u8, rest: &[u8]| [&[kind, 0, 0, 0, 0, 0, 0, 0][..], rest].concat();
    are_refused(&[
        (Deed::Sent(kind::APART, 57, vec![1; 7]), "half a result"),
        (told(57, &[kind::VALUE; 3]), "half a result"),
        (told(57, &of(0, &[])), "a result of no kind"),
        (told(57, &of(kind::TASKS, &[])), "only parents send"),
        (told(57, &of(kind::READY, &[])), "only parents send"),
        (told(57, &of(kind::PANICKED, &[0xff; 9])), "a garbled panic"),
        (told(57, &of(kind::PARCEL, &[1; 3])), "half the name of a parcel"),
        (told(ITEMS as u32, &of(kind::VALUE, &[0; 8])), "a result for item 200 of 200"),
        (told(u32::MAX, &of(kind::VALUE, &[0; 8])), "a result for item 4294967295 of 200"),
        (Deed::Told(kind::APART, 57, 9, of(kind::VALUE, &[0; 8])), "which it has no part in"),
    ]);
}

#[test]
fn leaves_and_calls_that_are_none() {
    let left =
        |number, further, rest: &[u8]| Deed::Told(kind::LEFT, number, further, rest.to_vec());
    are_refused(&[
        (Deed::Sent(kind::LEFT, 1, vec![1; 7]), "half a leave"),
        (left(1, 0, &[1; 7]), "half a report of time"),
        (left(1, 3, &[1; 8]), "a leave from where it wasn't"),
        (left(u32::MAX, 0, &[1; 8]), "more than it may run"),
        (Deed::Sent(kind::MORE, 0, vec![1; 7]), "half a call for more"),
    ]);
}

/// Frames that make sense but aren't true: the call ends, wherever it was right before.
#[test]
fn frames_that_lie() {
    let (hostile, time) = (HOSTILE as u32, 1_u64.to_le_bytes());
    let twice = [run(50, 3, &[1; 24]), run(51, 2, &[2; 16]), run(0, 1, &[3; 8])].concat();
    let of_value = [kind::VALUE, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3];
    let deeds = [
        Deed::Told(kind::VALUES, 0, 0, twice),
        Deed::Told(kind::VALUES, 0, 0, run(0, ITEMS as u32, &[9; 8 * ITEMS as usize])),
        Deed::Told(kind::APART, hostile, 0, of_value.to_vec()),
        Deed::Told(kind::APART, 199, 0, of_value.to_vec()),
        Deed::Told(kind::LEFT, 0, 0, time.to_vec()),
        Deed::Told(kind::LEFT, 57, 0, u64::MAX.to_le_bytes().to_vec()),
        Deed::Told(kind::MORE, 0, 0, Vec::new()),
        Deed::Told(kind::MORE, 0, 5, Vec::new()),
    ];
    alone(|| {
        let mut round = 6000;
        for deed in &deeds {
            for then in [Then::GoOn, Then::Die, Then::Hang] {
                round += 1;
                let pool = Pool::builder().processes(2).max_tasks_per_child(3000).build().unwrap();
                // Of one who says that it has left, and then hangs, nobody can know that it does.
                if then == Then::Hang && matches!(deed, Deed::Told(kind::LEFT, ..)) {
                    continue;
                }
                let results = call(&pool, deed, then, round);
                assert_eq!(results.len() as u64, ITEMS);
                works(&pool);
            }
        }
    });
}

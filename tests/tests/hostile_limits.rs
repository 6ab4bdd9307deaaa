//! Time limits of workers whose tasks hide that they hang: by what they write into their own page, and by
//! what they go on to send. The limit holds, and what belongs to other calls is done.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fmt::Debug;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use procession::{AsyncResult, Error, Pool, bind, task};
use procession_tests::forge::{frame, inject, kind, place, small, word};
use procession_tests::scratch::Scratch;
use procession_tests::{alone, wait_until};
use serde::{Deserialize, Deserializer, Serialize};

/// Far longer than any item takes that isn't meant to hang.
const LIMIT: Duration = Duration::from_millis(250);

/// Far above what a limit takes to be enforced against a worker that denies everything.
const ENOUGH: Duration = Duration::from_secs(60);

/// What a task does before it hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Deed {
    /// Its item begins in the far future.
    BeginLater,
    /// Its item, one of a board, does.
    BeginLaterInHand,
    /// Its item has not begun.
    NeverBegin,
    /// The same, for one of a board.
    NeverBeginInHand,
    /// It goes on to count results that there aren't.
    Fill,
    /// It goes on to tell of this and that.
    Chat,
    /// It says that it is done.
    Answer,
    /// It says that it hasn't yet decoded what it was bound to.
    Unprepare,
    /// All of it.
    Everything,
}

fn repeat(deed: impl Fn(u64) + Send + 'static) {
    thread::spawn(move || {
        for round in 1.. {
            deed(round);
            thread::sleep(Duration::from_millis(50));
        }
    });
}

fn chat(round: u64) {
    inject(&frame(kind::MORE, 0, 8, &u64::MAX.to_le_bytes()));
    inject(&frame(kind::SPENT, round as u32, 8, &round.to_le_bytes()));
}

fn fill(round: u64) {
    let position = word(place::TAIL).load(SeqCst);
    word(place::FILLED).store(position << 32 | (round % 30_000), SeqCst);
}

fn commit(deed: Deed, is_of_board: bool) {
    match deed {
        Deed::BeginLater => word(place::CLAIM_SINCE).store(u64::MAX, SeqCst),
        Deed::BeginLaterInHand => word(place::SINCE).store(u64::MAX, SeqCst),
        Deed::NeverBegin => {
            word(place::CLAIM).fetch_sub(1, SeqCst);
        }
        Deed::NeverBeginInHand => {
            let begun = word(place::BEGUN);
            begun.store(begun.load(SeqCst) >> 33 << 33, SeqCst);
        }
        Deed::Fill => {
            commit(Deed::BeginLater, false);
            commit(Deed::BeginLaterInHand, true);
            repeat(fill);
        }
        Deed::Chat => {
            commit(Deed::BeginLater, false);
            commit(Deed::BeginLaterInHand, true);
            repeat(chat);
        }
        Deed::Answer => {
            commit(Deed::BeginLater, false);
            inject(&small(word(place::CLAIM).load(SeqCst) as u32, &[7]));
        }
        Deed::Unprepare => {
            commit(Deed::BeginLater, false);
            commit(Deed::BeginLaterInHand, true);
            word(place::PREPARED).store(0, SeqCst);
        }
        Deed::Everything => {
            commit(
                if is_of_board { Deed::NeverBeginInHand } else { Deed::NeverBegin },
                is_of_board,
            );
            repeat(|round| {
                fill(round);
                chat(round);
            });
        }
    }
}

#[task]
fn hang(deed: Deed) -> u64 {
    commit(deed, false);
    thread::sleep(Duration::from_secs(3600));
    0
}

const HOSTILE: u64 = 57;

#[task]
fn hang_at(deed: Deed, x: u64) -> u64 {
    if x == HOSTILE {
        commit(deed, true);
        thread::sleep(Duration::from_secs(3600));
    }
    x
}

#[task]
fn next(x: u64) -> u64 {
    x + 1
}

#[task]
fn length(bytes: Vec<u8>) -> usize {
    bytes.len()
}

#[task]
fn nap(millis: u64) -> u64 {
    thread::sleep(Duration::from_millis(millis));
    millis
}

fn pool(workers: usize) -> Pool {
    Pool::builder().processes(workers).build().unwrap()
}

/// Runs all cases at the same time, each with a pool of its own.
fn all_at_once<C: Copy + Sync + Debug>(workers: usize, cases: &[C], f: impl Fn(C, &Pool) + Sync) {
    alone(|| {
        let run = |case: C| {
            let pool = pool(workers);
            f(case, &pool);
            pool.terminate();
        };
        thread::scope(|scope| {
            for case in cases {
                scope.spawn(move || run(*case));
            }
        });
    });
}

/// That of a call which ends, however late.
#[track_caller]
fn end_of<T>(result: &AsyncResult<T>, case: impl Debug) -> Result<T, Error> {
    assert!(result.wait_timeout(ENOUGH), "{case:?} outlives its limit");
    result.get()
}

#[track_caller]
fn is_late<T: Debug>(result: &AsyncResult<T>, case: impl Debug) {
    let ended = end_of(result, &case);
    assert!(ended.as_ref().is_err_and(Error::is_timeout), "{case:?}: {ended:?}");
}

/// What can be denied of an item that was sent.
const OF_SENT: [Deed; 5] =
    [Deed::BeginLater, Deed::NeverBegin, Deed::Fill, Deed::Chat, Deed::Everything];

#[test]
fn a_time_limit_of_a_call() {
    all_at_once(1, &OF_SENT, |deed, pool| {
        is_late(&pool.call(hang).timeout(LIMIT).apply_async((deed,)), deed);
        assert_eq!(pool.apply(next, (1,)).unwrap(), 2);
    });
}

/// Those without are behind it or before it, and have nothing to do with it.
#[test]
fn a_time_limit_among_calls_without() {
    all_at_once(1, &OF_SENT, |deed, pool| {
        let before = pool.apply_async(nap, (50,));
        let late = pool.call(hang).timeout(LIMIT).apply_async((deed,));
        let after: Vec<_> = (0..10).map(|x| pool.apply_async(next, (x,))).collect();
        is_late(&late, deed);
        assert_eq!(before.get().unwrap(), 50);
        for (x, call) in (0..).zip(after) {
            assert_eq!(call.get().unwrap(), x + 1);
        }
    });
}

/// What waits for room in the worker's ring doesn't help it, either.
#[test]
fn a_time_limit_before_long_input() {
    const LONG: usize = 8 << 20;

    all_at_once(1, &OF_SENT, |deed, pool| {
        let late = pool.call(hang).timeout(LIMIT).apply_async((deed,));
        let after = pool.apply_async(length, (vec![1; LONG],));
        is_late(&late, deed);
        assert_eq!(end_of(&after, deed).unwrap(), LONG);
    });
}

/// Who answers for itself and hangs has the limits of what comes next.
#[test]
fn a_time_limit_behind_a_forged_answer() {
    const LONG: usize = 8 << 20;

    all_at_once(1, &[1, LONG], |bytes, pool| {
        let first = pool.call(hang).timeout(LIMIT).apply_async((Deed::Answer,));
        let next_one = pool.call(length).timeout(LIMIT).apply_async((vec![1; bytes],));
        let _ = end_of(&first, "the first");
        is_late(&next_one, bytes);
        assert_eq!(pool.apply(next, (1,)).unwrap(), 2);
    });
}

/// What can be denied of an item of a board.
const IN_HAND: [Deed; 6] = [
    Deed::BeginLaterInHand,
    Deed::NeverBeginInHand,
    Deed::Fill,
    Deed::Chat,
    Deed::Unprepare,
    Deed::Everything,
];

#[test]
fn a_time_limit_of_items_of_a_board() {
    all_at_once(2, &IN_HAND, |deed, pool| {
        let call = pool.call(bind(hang_at, (deed,))).chunksize(10).timeout(LIMIT);
        is_late(&call.map_async(0..200_u64), deed);
        assert!(pool.map(next, 0..1000).unwrap().into_iter().eq(1..=1000));
    });
}

/// Nor does it help to pretend to be at what has another one: then the longer one holds.
#[test]
fn a_time_limit_beside_a_board_with_another() {
    all_at_once(2, &IN_HAND, |deed, pool| {
        let other = pool.call(nap).timeout(10 * LIMIT).map_async([20; 400]);
        let call = pool.call(bind(hang_at, (deed,))).chunksize(10).timeout(LIMIT);
        let limited = call.priority(1).map_async(0..200_u64);
        let single = pool.call(hang).timeout(LIMIT).priority(1).apply_async((Deed::BeginLater,));
        is_late(&limited, deed);
        is_late(&single, deed);
        assert_eq!(end_of(&other, deed).unwrap(), [20; 400]);
    });
}

/// Says that it has nothing in hand, and then that it has come so far, in a file of this name.
#[task]
fn hide_at(file: String, x: u64) -> u64 {
    if x == HOSTILE {
        word(place::START).store(0, SeqCst);
        std::fs::write(file, []).unwrap();
        thread::sleep(Duration::from_secs(3600));
    }
    x
}

/// A `map` whose worker hangs and says that it has nothing in hand.
fn hidden(pool: &Pool, scratch: &Scratch) -> AsyncResult<Vec<u64>> {
    let file = scratch.path("hidden");
    let call = pool.call(bind(hide_at, (file.clone(),))).chunksize(10).timeout(LIMIT);
    let hidden = call.map_async(0..200_u64);
    wait_until("it hangs", || Path::new(&file).exists());
    hidden
}

/// What was sent to a worker that then is late, and had not begun it, is done by another one.
#[test]
fn who_hides_its_hand_blames_nobody_else() {
    all_at_once(1, &["one", "another"], |case, pool| {
        let scratch = Scratch::new();
        let hidden = hidden(pool, &scratch);
        let send = |x| pool.call(next).timeout(LIMIT).priority(1).apply_async((x,));
        let sent: Vec<_> = (0..3).map(send).collect();
        for (x, sent) in (0..).zip(sent) {
            assert_eq!(end_of(&sent, case).unwrap(), x + 1);
        }
        is_late(&hidden, case);
    });
}

#[task]
fn plus(x: u64, y: u64) -> u64 {
    x + y
}

/// Bound arguments that come when it has hung for a while are none that it could be decoding.
#[test]
fn a_time_limit_of_a_board_before_bound_arguments() {
    all_at_once(1, &["one", "another"], |case, pool| {
        let scratch = Scratch::new();
        let hidden = hidden(pool, &scratch);
        // Longer than it may take, and less than a worker is given that denies it.
        thread::sleep(Duration::from_millis(2500));
        let bound = pool.call(bind(plus, (7,))).timeout(LIMIT).map_async(0..100);
        is_late(&hidden, case);
        assert!(end_of(&bound, case).unwrap().into_iter().eq(7..107));
    });
}

/// It tells itself to wait for its parent, which hasn't said so.
#[task]
fn wait_for_the_parent(place: usize, x: u64) -> u64 {
    if x == HOSTILE {
        word(place).fetch_or(1 << 32, SeqCst);
    }
    x
}

#[test]
fn who_decides_for_its_parent_is_found_out() {
    all_at_once(1, &[place::LIMIT, place::CUTS], |place, pool| {
        let call = pool.call(bind(wait_for_the_parent, (place,))).chunksize(10);
        let results = call.try_map(0..200_u64);
        assert_eq!(results.len(), 200);
        for (x, result) in (0..).zip(results) {
            assert!(result.is_ok_and(|y| y == x) || (HOSTILE..60).contains(&x), "{place}: {x}");
        }
        assert!(pool.map(next, 0..1000).unwrap().into_iter().eq(1..=1000));
    });
}

/// Takes much longer to be decoded than a limit and what is waited beyond it, and to be dropped. Its copies
/// don't.
#[derive(Serialize)]
struct Slow {
    value: u64,
    #[serde(skip)]
    is_copy: bool,
}

const LONG_AFTER: Duration = Duration::from_secs(8);

impl<'de> Deserialize<'de> for Slow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        thread::sleep(LONG_AFTER);
        let (value,) = Deserialize::deserialize(deserializer)?;
        Ok(Self { value, is_copy: false })
    }
}

impl Clone for Slow {
    fn clone(&self) -> Self {
        Self { value: self.value, is_copy: true }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        if !self.is_copy && procession::parent_process().is_some() {
            thread::sleep(LONG_AFTER);
        }
    }
}

#[task]
fn slow_sum(slow: Slow, x: u64) -> u64 {
    slow.value + x
}

/// The limit is each item's own: what is decoded once for all of them doesn't count, nor does its drop.
#[test]
fn bound_arguments_take_their_time() {
    all_at_once(1, &[true, false], |shares, pool| {
        for round in 0..2 {
            let call =
                pool.call(bind(slow_sum, (Slow { value: round, is_copy: true },))).timeout(LIMIT);
            let results =
                if shares { call.map_async(0..50).get() } else { call.imap(0..50).collect() };
            assert!(results.unwrap().into_iter().eq(round..50 + round));
            // Behind the drop.
            assert_eq!(pool.call(next).timeout(LIMIT).apply((1,)).unwrap(), 2);
        }
    });
}

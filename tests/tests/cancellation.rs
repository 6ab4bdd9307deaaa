//! Tasks that are told to end: by soft limits, by a cancel, by what makes their result useless; and those that are
//! made to.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]
#![expect(unsafe_code, reason = "tasks handle and ignore signals")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use procession::{Pool, StartMethod, bind, cancelled, task};
use procession_tests::scratch::{Scratch, note, notes};
use procession_tests::{alone, is_running, wait_until};

fn with_pools(workers: usize, test: impl Fn(&Pool)) {
    alone(|| {
        for method in [StartMethod::Spawn, StartMethod::ForkServer] {
            test(&Pool::builder().processes(workers).start_method(method).build().unwrap());
        }
    });
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Runs until it is told to end; gives the milliseconds that this took.
#[task]
fn until_told() -> u64 {
    let start = Instant::now();
    while !cancelled() {
        thread::sleep(millis(1));
    }
    start.elapsed().as_millis() as u64
}

/// As some items do, and notes what it is told.
#[task]
fn some_until_told(file: String, x: u64) -> u64 {
    if x % 10 == 5 {
        note(&file, "begun");
        // On another thread, as tasks may have them.
        thread::spawn(until_told).join().unwrap();
        note(&file, "told");
    } else {
        assert!(!cancelled());
    }
    x
}

#[task]
fn is_told() -> bool {
    cancelled()
}

#[test]
fn a_soft_limit_is_told_to_each_item_from_its_own_start() {
    with_pools(2, |pool| {
        let times = pool.call(|_: u64| until_told()).soft_timeout(millis(60)).map(0..8).unwrap();
        assert!(times.iter().all(|time| (59..10_000).contains(time)), "{times:?}");
        let time = pool.call(until_told).soft_timeout(millis(30)).apply(()).unwrap();
        assert!((29..10_000).contains(&time), "{time}");
        // Neither for who comes next, nor for who has more time.
        assert!(!pool.apply(is_told, ()).unwrap());
        assert!(!pool.call(is_told).soft_timeout(millis(60_000)).apply(()).unwrap());
        let told = pool.call(|_: u64| is_told()).soft_timeout(millis(60_000)).map(0..1000);
        assert!(told.unwrap().into_iter().all(|told| !told));
        assert!(!cancelled());
    });
}

#[test]
fn a_soft_limit_comes_before_the_hard_one() {
    with_pools(1, |pool| {
        let call = pool.call(until_told).soft_timeout(millis(50)).timeout(millis(20_000));
        assert!(call.apply(()).unwrap() < 20_000);
        let call = pool.call(until_told).timeout(millis(50)).soft_timeout(millis(20_000));
        assert!(call.apply(()).unwrap_err().is_timeout());
    });
}

/// Items that wait behind others have their time from their own start.
#[test]
fn soft_limits_of_calls_in_a_row() {
    with_pools(1, |pool| {
        let calls: Vec<_> = (0..5)
            .map(|_| pool.call(until_told).soft_timeout(millis(40)).apply_async(()))
            .collect();
        let free = pool.apply_async(is_told, ());
        assert!(calls.into_iter().all(|call| call.get().unwrap() >= 39));
        assert!(!free.get().unwrap());
    });
}

#[test]
fn a_cancelled_call_is_told() {
    with_pools(2, |pool| {
        let scratch = Scratch::new();
        for (round, chunk) in [1, 100].into_iter().enumerate() {
            let file = scratch.path(&round.to_string());
            let call = pool.call(bind(some_until_told, (file.clone(),))).chunksize(chunk);
            let result = call.map_async(0..100);
            wait_until("both are at it", || notes(&file).iter().any(|note| note == "begun"));
            assert!(result.cancel());
            let count = |what: &str| notes(&file).iter().filter(|note| *note == what).count();
            wait_until("all are told", || count("told") == count("begun"));
            assert!(count("begun") <= 2);
        }
        let result = pool.apply_async(until_told, ());
        thread::sleep(millis(20));
        assert!(result.cancel());
        // Its worker goes on.
        assert!(pool.map(|x: u64| x, 0..100).is_ok());
        assert_eq!(pool.stats().lost, 0);
    });
}

/// The lowest index fails while others run.
#[task]
fn fails_late(file: String, x: u64) -> u64 {
    if x == 0 {
        wait_until("others have begun", || !notes(&file).is_empty());
        panic!("it fails");
    }
    note(&file, "begun");
    until_told();
    x
}

#[test]
fn who_is_of_no_use_any_more_is_told() {
    with_pools(2, |pool| {
        let scratch = Scratch::new();
        let file = scratch.path("map");
        let call = pool.call(bind(fails_late, (file.clone(),))).chunksize(1);
        assert_eq!(call.map(0..100).unwrap_err().index(), Some(0));
        let file = scratch.path("imap");
        let call = pool.call(bind(some_until_told, (file.clone(),))).chunksize(1).buffersize(20);
        let mut results = call.imap(0..100);
        assert_eq!(results.next().unwrap().unwrap(), 0);
        wait_until("one has begun", || !notes(&file).is_empty());
        drop(results);
        let count = |what: &str| notes(&file).iter().filter(|note| *note == what).count();
        wait_until("all are told", || count("told") == count("begun"));
        assert_eq!(pool.stats().lost, 0);
    });
}

#[task]
fn hang(file: String, x: u64) -> u64 {
    if x == 70 {
        note(&file, std::process::id());
        thread::sleep(millis(3_600_000));
    }
    x
}

#[test]
fn a_call_can_be_killed() {
    with_pools(2, |pool| {
        let scratch = Scratch::new();
        let file = scratch.path("pid");
        let call = pool.call(bind(hang, (file.clone(),))).map_async(0..100);
        let single = pool.apply_async(hang, (file.clone(), 70));
        wait_until("both hang", || notes(&file).len() == 2);
        for result in [call.kill(), single.kill()] {
            assert!(result);
        }
        assert!(call.get().unwrap_err().is_cancelled() && single.get().unwrap_err().is_cancelled());
        for pid in notes(&file) {
            wait_until("it is killed", || !is_running(pid.parse().unwrap()));
        }
        assert!(!call.kill());
        assert!(pool.map(|x: u64| x, 0..1000).unwrap().into_iter().eq(0..1000));
        // What hasn't begun costs nobody his life.
        let before = pool.worker_pids();
        let busy: Vec<_> = (0..2).map(|_| pool.apply_async(until_told, ())).collect();
        let waits = pool.apply_async(is_told, ());
        assert!(waits.kill() && pool.worker_pids() == before);
        assert!(busy.iter().all(|call| call.cancel()));
    });
}

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn asked(_: libc::c_int) {
    ASKED.store(true, Ordering::Relaxed);
}

fn handle(handler: SigHandler) {
    let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler stores to an atomic, if there is one.
    unsafe { sigaction(Signal::SIGTERM, &action) }.unwrap();
}

/// Overruns its limit, and does something when it is asked to end.
#[task]
fn overrun(file: String, how: u32) {
    match how {
        0 => {}
        1 => handle(SigHandler::Handler(asked)),
        _ => handle(SigHandler::SigIgn),
    }
    let start = Instant::now();
    while start.elapsed() < millis(3_600_000) {
        if ASKED.load(Ordering::Relaxed) {
            note(&file, "it has tidied up");
            std::process::exit(0);
        }
        thread::sleep(millis(1));
    }
}

#[test]
fn who_overruns_its_limit_may_be_asked_first() {
    with_pools(1, |pool| {
        let scratch = Scratch::new();
        let file = scratch.path("notes");
        for many in [false, true] {
            for (how, grace) in [(0, 3_600_000), (1, 3_600_000), (2, 200)] {
                let start = Instant::now();
                let error = if many {
                    let call = pool.call(bind(overrun, (file.clone(),))).timeout(millis(100));
                    call.grace(millis(grace)).map([how]).unwrap_err()
                } else {
                    let call = pool.call(overrun).timeout(millis(100)).grace(millis(grace));
                    call.apply((file.clone(), how)).unwrap_err()
                };
                assert!(error.is_timeout(), "{error}");
                if how == 2 {
                    assert!(start.elapsed() >= millis(300));
                }
            }
        }
        assert_eq!(notes(&file).len(), 2);
    });
}

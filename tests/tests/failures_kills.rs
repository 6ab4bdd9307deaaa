//! Workers and parents that are killed from outside, at any instant.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::process;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::{Pool, Process, task};
use procession_tests::scratch::{Scratch, note, notes, open, pass};
use procession_tests::{alone, children_of, is_running, wait_until};

const ITEMS: u64 = 20_000;

#[task]
fn mix(x: u64) -> u64 {
    // A little work, so that the kills meet it.
    (0..500).fold(x, |sum, i| sum.rotate_left(7) ^ i)
}

/// Kills a worker every few milliseconds while `f` runs; says how many.
fn under_fire<R>(pool: &Pool, pause: Duration, f: impl FnOnce() -> R) -> (R, usize) {
    let over = AtomicBool::new(false);
    let kills = AtomicUsize::new(0);
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            // A small linear congruential generator: the instants differ, the run can be repeated.
            let mut random = 1_u64;
            while !over.load(Ordering::Relaxed) {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let pids = pool.worker_pids();
                if let Some(pid) = pids.get((random >> 33) as usize % pids.len().max(1)) {
                    let _ = kill(Pid::from_raw(*pid as i32), Signal::SIGKILL);
                    kills.fetch_add(1, Ordering::Relaxed);
                }
                thread::sleep(pause + Duration::from_micros((random >> 40) % 5000));
            }
        });
        let result = f();
        over.store(true, Ordering::Relaxed);
        result
    });
    (result, kills.into_inner())
}

#[test]
fn with_retries_every_result_is_there_however_many_workers_die() {
    alone(|| {
        let pool = Pool::builder().processes(3).build().unwrap();
        pool.map(mix, 0..100).unwrap();
        let call = pool.call(mix).retries(1000);
        let pause = Duration::from_millis(10);
        let (results, kills) = under_fire(&pool, pause, || call.map(0..ITEMS));
        assert!(kills > 3, "only {kills} kills");
        assert_eq!(results.unwrap(), (0..ITEMS).map(mix).collect::<Vec<_>>());
        println!("{kills} kills");
    });
}

#[test]
fn without_retries_what_fails_is_lost_and_the_rest_is_right() {
    alone(|| {
        let pool = Pool::builder().processes(3).build().unwrap();
        pool.map(mix, 0..100).unwrap();
        let pause = Duration::from_millis(10);
        let (results, kills) = under_fire(&pool, pause, || pool.try_map(mix, 0..ITEMS));
        assert!(kills > 3, "only {kills} kills");
        assert_eq!(results.len() as u64, ITEMS);
        let mut lost = 0;
        for (i, result) in results.into_iter().enumerate() {
            match result {
                Ok(x) => assert_eq!(x, mix(i as u64)),
                Err(error) => {
                    assert!(error.is_worker_lost(), "{error}");
                    assert_eq!(error.index(), Some(i));
                    assert!(error.to_string().contains("SIGKILL"), "{error}");
                    lost += 1;
                }
            }
        }
        assert!(lost <= kills, "{lost} items lost by {kills} kills");
        println!("{kills} kills, {lost} items lost");
    });
}

#[test]
fn an_imap_under_fire_gives_one_result_for_each_item() {
    alone(|| {
        let pool = Pool::builder().processes(2).build().unwrap();
        pool.map(mix, 0..100).unwrap();
        let call = || pool.call(mix).retries(1000).chunksize(10);
        let pause = Duration::from_millis(10);
        let (results, _) = under_fire(&pool, pause, || {
            let in_order: Result<Vec<u64>, _> = call().imap(0..3000).collect();
            let unordered: Result<Vec<u64>, _> = call().imap_unordered(0..3000).collect();
            (in_order.unwrap(), unordered.unwrap())
        });
        let mut expected: Vec<u64> = (0..3000).map(mix).collect();
        assert_eq!(results.0, expected);
        let mut unordered = results.1;
        unordered.sort_unstable();
        expected.sort_unstable();
        assert_eq!(unordered, expected);
    });
}

#[task]
fn large(size: usize) -> String {
    "x".repeat(size)
}

/// The death meets half-sent results and half-read arguments.
#[test]
fn large_results_under_fire_are_whole() {
    alone(|| {
        const SIZE: usize = 3 << 20;
        let pool = Pool::builder().processes(2).build().unwrap();
        pool.apply(large, (1,)).unwrap();
        let call = pool.call(large).retries(1000);
        let pause = Duration::from_millis(20);
        let (results, _) = under_fire(&pool, pause, || call.map(vec![SIZE; 60]));
        assert!(results.unwrap().iter().all(|text| text.len() == SIZE));

        let input = vec!["y".repeat(SIZE); 60];
        let call = pool.call(|text: String| text.len()).retries(1000);
        let (results, _) = under_fire(&pool, pause, || call.map(input));
        assert_eq!(results.unwrap(), [SIZE; 60]);
    });
}

#[test]
fn an_idle_worker_that_is_killed_is_replaced() {
    alone(|| {
        let pool = Pool::builder().processes(2).build().unwrap();
        pool.map(mix, 0..100).unwrap();
        for _ in 0..5 {
            let before = pool.worker_pids();
            let _ = kill(Pid::from_raw(before[0] as i32), Signal::SIGKILL);
            wait_until("another one has come", || {
                let now = pool.worker_pids();
                now.len() == 2 && !now.contains(&before[0])
            });
            assert_eq!(pool.apply(mix, (7,)).unwrap(), mix(7));
        }
    });
}

#[test]
fn all_workers_may_die_at_once() {
    alone(|| {
        let pool = Pool::builder().processes(3).build().unwrap();
        pool.map(mix, 0..100).unwrap();
        for _ in 0..5 {
            for pid in pool.worker_pids() {
                let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
            }
            let results = pool.call(mix).retries(10).map(0..50).unwrap();
            assert_eq!(results, (0..50).map(mix).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_stopped_worker_holds_up_one_item_at_most() {
    alone(|| {
        let pool = Pool::builder().processes(2).build().unwrap();
        pool.map(mix, 0..100).unwrap();
        let stopped = Pid::from_raw(pool.worker_pids()[0] as i32);
        kill(stopped, Signal::SIGSTOP).unwrap();
        let results: Vec<_> = (0..100).map(|i| pool.apply_async(mix, (i,))).collect();
        wait_until("all but one are done", || {
            results.iter().filter(|result| result.ready()).count() >= 99
        });
        kill(stopped, Signal::SIGCONT).unwrap();
        for (i, result) in (0..).zip(results) {
            assert_eq!(result.get().unwrap(), mix(i));
        }
    });
}

#[task]
fn hold(gate: String, log: String) {
    note(&log, process::id());
    pass(&gate);
}

/// A parent with a pool that is busy.
#[task]
fn busy_parent(gate: String, log: String) {
    let pool = Pool::builder().processes(3).build().unwrap();
    let busy: Vec<_> =
        (0..6).map(|_| pool.apply_async(hold, (gate.clone(), log.clone()))).collect();
    busy.iter().for_each(|result| result.wait());
}

#[test]
fn nothing_is_left_when_a_parent_with_a_busy_pool_is_killed() {
    alone(|| {
        for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGABRT] {
            let scratch = Scratch::new();
            let (gate, log) = (scratch.path("gate"), scratch.path("log"));
            let parent = Process::new(busy_parent, (gate.clone(), log.clone())).start().unwrap();
            wait_until("all workers are busy", || notes(&log).len() == 3);
            let workers: Vec<u32> = notes(&log).iter().map(|pid| pid.parse().unwrap()).collect();
            // A fork server, and what it keeps ready, end with the others.
            let children = children_of(parent.pid()).into_iter().map(|pid| pid as u32);
            let children: Vec<u32> = children.collect();
            assert!(workers.iter().all(|worker| children.contains(worker)));
            kill(Pid::from_raw(parent.pid() as i32), signal).unwrap();
            let start = Instant::now();
            parent.join().unwrap_err();
            wait_until("its children have ended, too", || !children.iter().any(|c| is_running(*c)));
            println!("{signal}: gone after {:?}", start.elapsed());
            assert!(start.elapsed() < Duration::from_secs(5));
            open(&gate);
        }
    });
}

#[task]
fn nesting(depth: u32, gate: String, log: String) {
    note(&log, process::id());
    if depth == 0 {
        return pass(&gate);
    }
    let pool = Pool::builder().processes(2).build().unwrap();
    let below: Vec<_> =
        (0..2).map(|_| pool.apply_async(nesting, (depth - 1, gate.clone(), log.clone()))).collect();
    below.iter().for_each(|result| result.wait());
}

#[test]
fn nothing_is_left_of_nested_pools_when_the_outermost_is_terminated() {
    alone(|| {
        let scratch = Scratch::new();
        let (gate, log) = (scratch.path("gate"), scratch.path("log"));
        let pool = Pool::builder().processes(1).build().unwrap();
        let nested = pool.apply_async(nesting, (2, gate, log.clone()));
        wait_until("all are there", || notes(&log).len() == 1 + 2 + 4);
        let pids: Vec<u32> = notes(&log).iter().map(|pid| pid.parse().unwrap()).collect();
        pool.terminate();
        pool.join().unwrap();
        assert!(nested.get().unwrap_err().is_closed());
        wait_until("the workers' workers have ended", || !pids.iter().any(|p| is_running(*p)));
    });
}

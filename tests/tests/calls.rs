//! Single calls from many threads at once, in every way in which they can be made, waited for and given up,
//! while workers die: everybody gets their own result, in time.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::sync::Barrier;
use procession::{Pool, SharedValue, task};
use procession_tests::{alone, block_on, wait_until};

#[task]
fn next(x: u64) -> u64 {
    x + 1
}

#[task]
fn doubled(text: String) -> String {
    format!("{text}{text}")
}

#[task]
fn nap(micros: u64) -> u64 {
    thread::sleep(Duration::from_micros(micros));
    micros
}

#[task]
fn nap_long() {
    thread::sleep(Duration::from_secs(1000));
}

/// How long a storm takes: `PROCESSION_STORM` seconds.
fn storm() -> Duration {
    let seconds =
        std::env::var("PROCESSION_STORM").map_or(2.0, |seconds| seconds.parse().expect("seconds"));
    Duration::from_secs_f64(seconds)
}

type Caller = fn(&Pool, u64);

/// All that a thread can do with single calls, and with what shares the pool with them.
const CALLERS: [Caller; 11] = [
    |pool, x| assert_eq!(pool.call(next).retries(9).apply((x,)).expect("a result"), x + 1),
    |pool, x| {
        let text = "ab".repeat(x as usize % 100);
        assert_eq!(
            pool.call(doubled).retries(9).apply((text.clone(),)).expect("a result"),
            text.repeat(2)
        );
    },
    |pool, x| {
        let call = |y| pool.call(next).retries(9).apply_async((y,));
        let calls: Vec<_> = (0..x % 3000).map(call).collect();
        for (y, call) in (0..).zip(calls) {
            assert_eq!(call.get().expect("a result"), y + 1);
        }
    },
    |pool, x| {
        // Nobody asks for these.
        for y in 0..x % 50 {
            pool.apply_async(next, (y,));
        }
    },
    |pool, x| {
        let call = pool.call(nap).retries(9).apply_async((x % 700,));
        while call.get_timeout(Duration::from_micros(x % 90)).is_err_and(|error| error.is_timeout())
        {
        }
        assert_eq!(call.get().expect("a result"), x % 700);
    },
    |pool, x| {
        let calls: Vec<_> = (0..x % 20).map(|y| pool.apply_async(nap, (y * 50,))).collect();
        calls.iter().for_each(|call| {
            call.cancel();
        });
    },
    |pool, x| {
        let call = pool.call(next).retries(9).priority(1).apply_async((x,));
        assert_eq!(block_on(call.into_future()).expect("a result"), x + 1);
    },
    |pool, x| {
        let sum: u64 = pool.call(next).retries(9).map(0..x % 300).expect("a result").iter().sum();
        let items = x % 300;
        assert_eq!(sum, items * (items + 1) / 2);
    },
    |pool, x| {
        let results = pool.call(next).retries(9).imap(0..x % 500);
        let results: Vec<u64> = results.map(|result| result.expect("a result")).collect();
        assert!(results.into_iter().eq((0..x % 500).map(|y| y + 1)));
    },
    |pool, x| {
        let call = pool.call(next).retries(9).timeout(LONG).priority((x % 3) as i32 - 1);
        let results = call.map(0..x % 900).expect("a result");
        assert!(results.into_iter().eq((0..x % 900).map(|y| y + 1)));
    },
    |pool, x| {
        let limit = LONG + Duration::from_secs(x % 3);
        let call = pool.call(next).retries(9).timeout(limit).priority((x % 3) as i32 - 1);
        assert_eq!(call.apply((x,)).expect("a result"), x + 1);
    },
];

/// A limit that nothing reaches.
const LONG: Duration = Duration::from_secs(50);

/// All callers at once, for as long as a storm takes, while something is done to the pool again and again.
fn storm_of_calls(now_and_then: impl Fn(&Pool) + Sync) {
    alone(|| {
        let pool = Pool::builder().processes(3).build().expect("a pool");
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let began = Instant::now();
                while began.elapsed() < storm() {
                    thread::sleep(Duration::from_millis(20));
                    now_and_then(&pool);
                }
                over.store(true, Relaxed);
            });
            for (first, caller) in (0_u64..).zip(CALLERS) {
                let (pool, over) = (&pool, &over);
                scope.spawn(move || {
                    let mut x = first;
                    while !over.load(Relaxed) {
                        x = x
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        caller(pool, x >> 40);
                    }
                });
            }
        });
        assert_eq!(pool.apply(next, (1,)).expect("a result"), 2);
    });
}

#[test]
fn all_kinds_of_calls_at_once() {
    storm_of_calls(|_| {});
}

#[test]
fn all_kinds_of_calls_at_once_while_workers_die() {
    storm_of_calls(|pool| {
        if let Some(pid) = pool.worker_pids().first() {
            let _ = kill(Pid::from_raw(*pid as i32), Signal::SIGKILL);
        }
    });
}

/// What the slow one holds up is taken from its worker, though it had looked like a tiny one.
#[test]
fn a_slow_call_holds_up_none_of_those_behind_it() {
    alone(|| {
        let pool = Pool::builder().processes(2).build().unwrap();
        for _ in 0..1000 {
            pool.apply(nap, (0,)).unwrap();
        }
        let slow = pool.apply_async(nap, (60_000_000,));
        let others: Vec<_> = (0..500).map(|_| pool.apply_async(nap, (0,))).collect();
        for other in others {
            assert_eq!(other.get().unwrap(), 0);
        }
        assert!(!slow.ready());
        pool.terminate();
    });
}

/// Results come in while nobody waits, many calls share a frame, and the last ones aren't forgotten.
#[test]
fn calls_that_nobody_waits_for_are_done() {
    alone(|| {
        let pool = Pool::builder().processes(2).build().unwrap();
        for count in [1, 2, 3, 100, 127, 128, 129, 255, 256, 257, 300, 1000, 3000] {
            let calls: Vec<_> = (0..count).map(|x| pool.apply_async(next, (x,))).collect();
            wait_until("all are done", || calls.iter().all(|call| call.ready()));
        }
    });
}

/// Also behind calls that have none.
#[test]
fn a_time_limit_counts_among_calls_without() {
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        for _ in 0..100 {
            pool.apply(next, (1,)).unwrap();
        }
        let before: Vec<_> = (0..100).map(|x| pool.apply_async(next, (x,))).collect();
        let late = pool.call(nap_long).timeout(Duration::from_millis(30)).apply_async(());
        let after: Vec<_> = (0..100).map(|x| pool.apply_async(next, (x,))).collect();
        assert!(late.get().unwrap_err().is_timeout());
        for (x, call) in (0..).zip(before).chain((0..).zip(after)) {
            assert_eq!(call.get().unwrap(), x + 1);
        }
    });
}

#[task]
fn meet(barrier: Barrier) {
    barrier.wait().expect("all come");
}

/// What was known of the load of workers doesn't hold when it has gone.
#[test]
fn calls_after_a_burst_go_to_whoever_is_idle() {
    alone(|| {
        let pool = Pool::builder().processes(2).build().unwrap();
        let barrier = Barrier::new(2).unwrap();
        for _ in 0..10 {
            let calls: Vec<_> = (0..300).map(|x| pool.apply_async(next, (x,))).collect();
            wait_until("all are done", || calls.iter().all(|call| call.ready()));
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| pool.apply(meet, (barrier.clone(),)).unwrap());
                }
            });
        }
    });
}

/// Hangs in every worker but the first two.
#[task]
fn hang_later(workers: SharedValue<u64>) {
    if workers.fetch_add(1) >= 2 {
        thread::sleep(Duration::from_secs(1000));
    }
}

/// One that takes a dead one's place has nothing to do, either, but can't do anything yet.
#[test]
fn calls_go_to_workers_that_are_ready() {
    alone(|| {
        let started = SharedValue::new(0).unwrap();
        let builder = Pool::builder().processes(2).initializer(hang_later, (started.clone(),));
        let pool = builder.build().unwrap();
        wait_until("both have begun", || started.get() == 2);
        let barrier = Barrier::new(2).unwrap();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| pool.apply(meet, (barrier.clone(),)).unwrap());
            }
        });
        kill(Pid::from_raw(pool.worker_pids()[0] as i32), Signal::SIGKILL).unwrap();
        wait_until("another one has been started", || started.get() == 3);
        for x in 0..10 {
            assert_eq!(pool.apply(next, (x,)).unwrap(), x + 1);
        }
        pool.terminate();
    });
}

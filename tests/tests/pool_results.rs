//! Results that are asked for later: `AsyncResult` and its future.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::future::IntoFuture;
use std::thread::{self};
use std::time::{Duration, Instant};

use procession::{AsyncResult, Pool, task};
use procession_tests::scratch::{Scratch, note, notes, open, pass};
use procession_tests::{alone, block_on, wait_until};

#[task]
fn double(x: u64) -> u64 {
    assert!(x != 13, "not 13");
    2 * x
}

#[task]
fn hold(gate: String, log: String) -> String {
    note(&log, "started");
    pass(&gate);
    note(&log, "done");
    "held".to_owned()
}

fn pool(processes: usize) -> Pool {
    Pool::builder().processes(processes).build().unwrap()
}

#[test]
fn get_can_be_repeated() {
    alone(|| {
        let pool = pool(1);
        let result = pool.apply_async(double, (4,));
        assert_eq!((result.get().unwrap(), result.get().unwrap()), (8, 8));
        let failed = pool.apply_async(double, (13,));
        for _ in 0..2 {
            assert_eq!(failed.get().unwrap_err().panic().unwrap().message(), "not 13");
        }
        let all = pool.map_async(double, 0..3);
        assert_eq!(all.get().unwrap(), all.get().unwrap());
        // Also after the pool has gone.
        drop(pool);
        assert_eq!(result.get().unwrap(), 8);
    });
}

#[test]
fn l7_get_timeout_leaves_the_task_running() {
    alone(|| {
        let scratch = Scratch::new();
        let (gate, log) = (scratch.path("gate"), scratch.path("log"));
        let pool = pool(1);
        let result = pool.apply_async(hold, (gate.clone(), log.clone()));
        for patience in [Duration::ZERO, Duration::from_millis(30)] {
            let start = Instant::now();
            let error = result.get_timeout(patience).unwrap_err();
            assert!(start.elapsed() >= patience);
            assert!(error.is_timeout() && !error.is_worker_lost());
            assert!(error.to_string().contains("goes on"), "{error}");
            assert!(!result.wait_timeout(patience));
        }
        assert!(!result.ready());
        assert_eq!(result.successful(), None);
        open(&gate);
        assert_eq!(result.get_timeout(Duration::MAX).unwrap(), "held");
        assert_eq!(notes(&log), ["started", "done"]);
    });
}

#[test]
fn ready_and_successful_tell_without_waiting() {
    alone(|| {
        let pool = pool(1);
        let (good, bad) = (pool.apply_async(double, (1,)), pool.map_async(double, 12..15));
        good.wait();
        assert!(bad.wait_timeout(Duration::from_secs(60)));
        assert!(good.ready() && bad.ready());
        assert_eq!((good.successful(), bad.successful()), (Some(true), Some(false)));
        // It becomes ready without anybody who waits.
        let unasked = pool.apply_async(double, (1,));
        wait_until("it is ready", || unasked.ready());
    });
}

#[test]
fn a_cancelled_task_that_was_queued_never_runs() {
    alone(|| {
        let scratch = Scratch::new();
        let (gate, log) = (scratch.path("gate"), scratch.path("log"));
        let pool = pool(1);
        let held = pool.apply_async(hold, (gate.clone(), log.clone()));
        wait_until("it runs", || notes(&log).len() == 1);
        let (never, other) = (scratch.path("never"), scratch.path("other"));
        let queued: Vec<_> =
            (0..5).map(|_| pool.apply_async(hold, (gate.clone(), never.clone()))).collect();
        let kept = pool.apply_async(hold, (gate.clone(), other.clone()));
        for result in &queued {
            assert!(result.cancel());
            assert!(result.ready());
            let error = result.get().unwrap_err();
            assert!(error.is_cancelled() && !error.is_closed() && !error.is_timeout(), "{error}");
            assert!(!result.cancel(), "there is nothing left to cancel");
        }
        open(&gate);
        held.get().unwrap();
        kept.get().unwrap();
        assert!(notes(&never).is_empty());
        assert_eq!(notes(&other).len(), 2);
    });
}

#[test]
fn cancelling_a_running_task_drops_its_result_only() {
    alone(|| {
        let scratch = Scratch::new();
        let (gate, log) = (scratch.path("gate"), scratch.path("log"));
        let pool = pool(1);
        let pid = pool.apply(std::process::id, ()).unwrap();
        let running = pool.apply_async(hold, (gate.clone(), log.clone()));
        wait_until("it runs", || notes(&log).len() == 1);
        assert!(running.cancel());
        assert!(running.get().unwrap_err().is_cancelled());
        open(&gate);
        assert_eq!(pool.apply(std::process::id, ()).unwrap(), pid);
        assert_eq!(notes(&log), ["started", "done"], "it has run to its end");
        assert!(running.get().unwrap_err().is_cancelled());
        let done = pool.apply_async(double, (1,));
        done.wait();
        assert!(!done.cancel());
        assert_eq!(done.get().unwrap(), 2);
    });
}

#[test]
fn a_cancelled_map_frees_the_workers() {
    alone(|| {
        let scratch = Scratch::new();
        let (gate, log) = (scratch.path("gate"), scratch.path("log"));
        let pool = pool(2);
        let inputs = (0..1000).map(|_| (gate.clone(), log.clone()));
        let all = pool.call(hold).chunksize(100).starmap_async(inputs);
        wait_until("both run", || notes(&log).len() == 2);
        assert!(all.cancel());
        open(&gate);
        pool.close();
        pool.join().unwrap();
        assert_eq!(notes(&log).len(), 4, "two were running, the others never began");
    });
}

#[test]
fn a_dropped_handle_stops_nothing() {
    alone(|| {
        let scratch = Scratch::new();
        let (gate, log) = (scratch.path("gate"), scratch.path("log"));
        open(&gate);
        let pool = pool(2);
        for _ in 0..20 {
            drop(pool.apply_async(hold, (gate.clone(), log.clone())));
        }
        pool.close();
        pool.join().unwrap();
        assert_eq!(notes(&log).len(), 40);
    });
}

#[test]
fn l7_get_after_terminate_is_an_error() {
    alone(|| {
        let scratch = Scratch::new();
        let (gate, log) = (scratch.path("gate"), scratch.path("log"));
        let pool = pool(1);
        let done = pool.apply_async(double, (2,));
        done.wait();
        let results: Vec<AsyncResult<String>> =
            (0..3).map(|_| pool.apply_async(hold, (gate.clone(), log.clone()))).collect();
        let map = pool.map_async(double, 0..100);
        let waiting = thread::scope(|scope| {
            let waiting = scope.spawn(|| results[2].get());
            wait_until("the first runs", || notes(&log).len() == 1);
            pool.terminate();
            waiting.join().unwrap()
        });
        assert!(waiting.unwrap_err().is_closed());
        for result in &results {
            let error = result.get().unwrap_err();
            assert!(error.is_closed(), "{error}");
            assert_eq!(error.task(), Some("pool_results::hold"));
        }
        assert!(map.get().unwrap_err().is_closed());
        assert!(pool.apply(double, (1,)).unwrap_err().is_closed());
        assert_eq!(done.get().unwrap(), 4, "what was done stays");
        pool.join().unwrap();
    });
}

#[test]
fn a_result_can_be_awaited() {
    alone(|| {
        let scratch = Scratch::new();
        let (gate, log) = (scratch.path("gate"), scratch.path("log"));
        let pool = pool(2);
        assert_eq!(block_on(pool.apply_async(double, (2,)).into_future()).unwrap(), 4);
        assert!(block_on(pool.apply_async(double, (13,)).into_future()).is_err());
        let done = pool.apply_async(double, (3,));
        done.wait();
        assert_eq!(block_on(done.into_future()).unwrap(), 6);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let held = pool.apply_async(hold, (gate.clone(), log.clone()));
                    let both = async {
                        let sum = pool.map_async(double, 0..10).await.unwrap().iter().sum::<u64>();
                        (sum, held.await.unwrap())
                    };
                    let (sum, held) = block_on(both);
                    assert_eq!((sum, held.as_str()), (90, "held"));
                });
            }
            wait_until("two of them run", || notes(&log).len() == 2);
            open(&gate);
        });
    });
}

#[test]
fn a_future_is_woken_by_the_end_of_the_pool() {
    alone(|| {
        let scratch = Scratch::new();
        let (gate, log) = (scratch.path("gate"), scratch.path("log"));
        let pool = pool(1);
        let result = pool.apply_async(hold, (gate, log.clone()));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| block_on(result.into_future()));
            wait_until("it runs", || notes(&log).len() == 1);
            pool.terminate();
            assert!(waiting.join().unwrap().unwrap_err().is_closed());
        });
    });
}

#[test]
fn many_threads_may_wait_for_one_result() {
    alone(|| {
        let scratch = Scratch::new();
        let (gate, log) = (scratch.path("gate"), scratch.path("log"));
        let pool = pool(1);
        let result = pool.apply_async(hold, (gate.clone(), log.clone()));
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..8)
                .map(|i| {
                    let result = &result;
                    scope.spawn(move || match i % 2 {
                        0 => result.get(),
                        _ => loop {
                            match result.get_timeout(Duration::from_millis(i)) {
                                Err(error) if error.is_timeout() => {}
                                other => return other,
                            }
                        },
                    })
                })
                .collect();
            wait_until("it runs", || notes(&log).len() == 1);
            open(&gate);
            for thread in waiting {
                assert_eq!(thread.join().unwrap().unwrap(), "held");
            }
        });
    });
}

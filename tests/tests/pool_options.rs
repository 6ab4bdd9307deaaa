//! The options of one call: chunk size, time limit, retries, priority, callbacks, progress.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use procession::{Pool, Progress, task};
use procession_tests::alone;
use procession_tests::scratch::{Scratch, note, notes, open, pass};

#[task]
fn double(x: u64) -> u64 {
    2 * x
}

#[task]
fn noted(x: u64, log: String) -> u64 {
    note(&log, x);
    x
}

#[task]
fn hold(gate: String) {
    pass(&gate);
}

#[task]
fn fail(x: u64) -> u64 {
    panic!("item {x}")
}

#[task]
fn sleep(millis: u64) -> u64 {
    thread::sleep(Duration::from_millis(millis));
    millis
}

#[task]
fn die() {
    std::process::exit(1)
}

fn pool(processes: usize) -> Pool {
    Pool::builder().processes(processes).build().unwrap()
}

/// How often each of `count` items was noted.
fn runs(log: &str, count: u64) -> Vec<usize> {
    let noted = notes(log);
    (0..count).map(|item| noted.iter().filter(|line| **line == item.to_string()).count()).collect()
}

// ---- time limits ----------------------------------------------------------------------------------

#[test]
fn a_time_limit_kills_the_worker_that_overruns_it() {
    alone(|| {
        let limit = Duration::from_millis(200);
        let pool = pool(1);
        let pid = pool.apply(std::process::id, ()).unwrap();
        let start = Instant::now();
        let error = pool.call(sleep).timeout(limit).apply((3_600_000,)).unwrap_err();
        assert!(start.elapsed() >= limit);
        assert!(error.is_timeout() && !error.is_worker_lost(), "{error}");
        assert_eq!((error.task(), error.pid()), (Some("pool_options::sleep"), Some(pid)));
        assert!(error.to_string().contains("200ms"), "{error}");
        // The error doesn't wait for the kernel to take the process apart.
        procession_tests::wait_until("it has gone", || !procession_tests::is_running(pid));
        assert_ne!(pool.apply(std::process::id, ()).unwrap(), pid);
    });
}

#[task]
fn hang_at_4(item: (u64, String)) -> u64 {
    let (item, log) = item;
    note(&log, item);
    if item == 4 {
        thread::sleep(Duration::from_secs(3600));
    }
    item
}

#[test]
fn a_time_limit_in_the_middle_of_a_chunk_costs_that_item_alone() {
    alone(|| {
        for processes in [1, 2] {
            let scratch = Scratch::new();
            let (log, gate) = (scratch.path("log"), scratch.path("gate"));
            let pool = pool(processes + 1);
            let innocent = pool.apply_async(hold, (gate.clone(),));
            let inputs = (0..10).map(|item| (item, log.clone()));
            let limit = Duration::from_millis(300);
            let call = pool.call(hang_at_4).chunksize(10).timeout(limit);
            for (i, result) in call.try_map(inputs).into_iter().enumerate() {
                match result {
                    Ok(x) => assert_eq!(x, i as u64),
                    Err(error) => {
                        assert!(error.is_timeout(), "{error}");
                        assert_eq!((error.index(), i), (Some(4), 4));
                    }
                }
            }
            assert_eq!(runs(&log, 10), [1; 10], "each item ran exactly once");
            open(&gate);
            innocent.get().unwrap();
        }
    });
}

#[test]
fn a_time_limit_is_for_each_item_from_its_own_start() {
    alone(|| {
        let pool = pool(1);
        let limit = Duration::from_millis(600);
        let start = Instant::now();
        let results = pool.call(sleep).chunksize(10).timeout(limit).map([100; 10]);
        assert_eq!(results.unwrap(), [100; 10]);
        assert!(start.elapsed() >= Duration::from_secs(1), "longer than one limit together");
        // An item without a limit, queued beside others with one, has none.
        let unlimited = pool.apply_async(sleep, (700,));
        let limited = pool.call(sleep).timeout(limit).apply_async((1,));
        assert_eq!((unlimited.get().unwrap(), limited.get().unwrap()), (700, 1));
    });
}

#[test]
fn a_time_limit_is_enforced_while_nobody_waits() {
    alone(|| {
        let pool = pool(1);
        let (sender, receiver) = channel();
        let late = pool
            .call(sleep)
            .timeout(Duration::from_millis(100))
            .on_error(move |error| sender.send(error.is_timeout()).unwrap())
            .apply_async((3_600_000,));
        assert!(receiver.recv().unwrap());
        assert!(late.get().unwrap_err().is_timeout());
    });
}

#[test]
fn a_map_with_a_time_limit_names_the_late_item() {
    alone(|| {
        let pool = pool(2);
        let limit = Duration::from_millis(150);
        let error = pool.call(sleep).timeout(limit).map([1, 2, 3_600_000, 3]).unwrap_err();
        assert!(error.is_timeout());
        assert_eq!(error.index(), Some(2));
    });
}

// ---- retries --------------------------------------------------------------------------------------

/// Dies the first `deaths` times.
#[task]
fn die_at_first(item: (u64, usize, String)) -> u64 {
    let (item, deaths, log) = item;
    note(&log, item);
    if notes(&log).iter().filter(|line| **line == item.to_string()).count() <= deaths {
        std::process::exit(9);
    }
    item
}

#[test]
fn retries_run_an_item_again_after_its_worker_was_lost() {
    alone(|| {
        for chunk in [1, 4] {
            let scratch = Scratch::new();
            let log = scratch.path("log");
            let pool = pool(2);
            let inputs = |deaths| {
                (0..4).map({
                    let log = log.clone();
                    move |i| (i, if i == 2 { deaths } else { 0 }, log.clone())
                })
            };
            let call = pool.call(die_at_first).retries(2).chunksize(chunk);
            assert_eq!(call.map(inputs(2)).unwrap(), [0, 1, 2, 3]);
            assert_eq!(runs(&log, 4), [1, 1, 3, 1]);
        }
    });
}

#[test]
fn retries_come_to_an_end() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = pool(2);
        let inputs = (0..4).map(|i| (i, if i == 2 { 100 } else { 0 }, log.clone()));
        let error = pool.call(die_at_first).retries(3).map(inputs).unwrap_err();
        assert!(error.is_worker_lost());
        assert_eq!((error.index(), error.exit_status().unwrap().code()), (Some(2), Some(9)));
        assert_eq!(runs(&log, 3), [1, 1, 4]);
    });
}

#[task]
fn noted_panic(x: u64, log: String) -> u64 {
    note(&log, x);
    panic!("no")
}

#[task]
fn noted_hang(x: u64, log: String) {
    note(&log, x);
    thread::sleep(Duration::from_secs(3600));
}

#[test]
fn panics_and_time_limits_are_not_tried_again() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = pool(1);
        let error = pool.call(noted_panic).retries(5).apply((0, log.clone())).unwrap_err();
        assert!(error.panic().is_some());
        let limit = Duration::from_millis(100);
        let late = pool.call(noted_hang).retries(5).timeout(limit).apply((1, log.clone()));
        assert!(late.unwrap_err().is_timeout());
        assert_eq!(runs(&log, 2), [1, 1]);
    });
}

// ---- priority and chunk size ----------------------------------------------------------------------

#[test]
fn a_higher_priority_goes_first() {
    alone(|| {
        let scratch = Scratch::new();
        let (log, gate) = (scratch.path("log"), scratch.path("gate"));
        let pool = pool(1);
        let held = pool.apply_async(hold, (gate.clone(),));
        let later: Vec<_> = [(0..10, -1), (10..20, 0), (20..30, 7)]
            .into_iter()
            .flat_map(|(items, priority)| items.map(move |item| (item, priority)))
            .map(|(item, p)| pool.call(noted).priority(p).apply_async((item, log.clone())))
            .collect();
        open(&gate);
        held.get().unwrap();
        later.iter().for_each(|result| result.wait());
        let order: Vec<u64> = notes(&log).iter().map(|line| line.parse().unwrap()).collect();
        // What the worker has at hand already is not taken back: one item at most.
        let order = if order[0] == 0 { &order[1..] } else { &order[..] };
        assert_eq!(order[..10], (20..30).collect::<Vec<_>>());
        assert_eq!(order[10..20], (10..20).collect::<Vec<_>>());
        assert!(order[20..].iter().is_sorted());
    });
}

/// The first item waits until all the others have run.
#[task]
fn the_first_is_last(item: (u64, u64, String)) -> u64 {
    let (item, count, log) = item;
    if item == 0 {
        procession_tests::wait_until("the others have run", || {
            notes(&log).len() as u64 == count - 1
        });
    } else {
        note(&log, item);
    }
    item
}

#[test]
fn what_is_behind_a_blocked_item_runs_elsewhere() {
    alone(|| {
        for chunk in [Some(20), Some(7), None] {
            let scratch = Scratch::new();
            let inputs = (0..20).map(|i| (i, 20, scratch.path("log")));
            let pool = pool(2);
            let call = pool.call(the_first_is_last);
            let call = if let Some(chunk) = chunk { call.chunksize(chunk) } else { call };
            assert_eq!(call.map(inputs).unwrap(), (0..20).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_task_queued_behind_a_blocked_one_runs_on_an_idle_worker() {
    alone(|| {
        let scratch = Scratch::new();
        let (one, two) = (scratch.path("one"), scratch.path("two"));
        let pool = pool(2);
        let held = [&one, &two].map(|gate| pool.apply_async(hold, (gate.clone(),)));
        // One of them waits behind each, as workers have their next task at hand.
        let behind: Vec<_> = (0..4).map(|i| pool.apply_async(double, (i,))).collect();
        open(&one);
        for (i, result) in (0..).zip(behind) {
            assert_eq!(result.get().unwrap(), 2 * i);
        }
        assert!(held[0].get().is_ok() && !held[1].ready());
        open(&two);
        held[1].get().unwrap();
    });
}

#[test]
fn chunks_of_any_size_give_the_same() {
    alone(|| {
        let pool = pool(2);
        let expected: Vec<u64> = (0..100).map(|x| 2 * x).collect();
        for chunk in [0, 1, 3, 99, 100, 1000, usize::MAX] {
            assert_eq!(pool.call(double).chunksize(chunk).map(0..100).unwrap(), expected);
        }
        for chunk in [0, 1, 3, 1000] {
            let results: Result<Vec<u64>, _> =
                pool.call(double).chunksize(chunk).imap(0..100).collect();
            assert_eq!(results.unwrap(), expected);
        }
    });
}

// ---- callbacks ------------------------------------------------------------------------------------

#[test]
fn callbacks_get_what_get_gives() {
    alone(|| {
        let pool = pool(2);
        let (sender, receiver) = channel();
        let ok = sender.clone();
        let call = pool.call(double).on_success(move |x: u64| ok.send(format!("{x}")).unwrap());
        call.on_error(|error| panic!("{error}")).apply_async((4,)).get().unwrap();
        assert_eq!(receiver.recv().unwrap(), "8");

        let ok = sender.clone();
        let call =
            pool.call(double).on_success(move |x: Vec<u64>| ok.send(format!("{x:?}")).unwrap());
        call.map_async(0..3).get().unwrap();
        assert_eq!(receiver.recv().unwrap(), "[0, 2, 4]");

        let failed = sender.clone();
        let call = pool.call(fail).on_success(|_: Vec<u64>| panic!("it fails"));
        let call = call.on_error(move |e| failed.send(format!("{:?}", e.index())).unwrap());
        call.map(5..8).unwrap_err();
        assert_eq!(receiver.recv().unwrap(), "Some(0)");

        // Also without anybody who asks.
        let call = pool.call(double).on_success(move |x: u64| sender.send(format!("{x}")).unwrap());
        drop(call.apply_async((5,)));
        assert_eq!(receiver.recv().unwrap(), "10");
    });
}

#[test]
fn l8_the_callback_of_an_empty_map_is_called() {
    alone(|| {
        let pool = pool(1);
        let (sender, receiver) = channel();
        let call = pool.call(double).on_success(move |x: Vec<u64>| sender.send(x.len()).unwrap());
        let result = call.map_async([]);
        assert_eq!(receiver.recv().unwrap(), 0);
        assert_eq!(result.successful(), Some(true));
        assert!(result.get().unwrap().is_empty());
    });
}

#[test]
fn callbacks_are_told_of_a_closed_pool() {
    alone(|| {
        let pool = pool(1);
        let (sender, receiver) = channel();
        pool.close();
        let call = pool.call(double).on_error(move |e| sender.send(e.is_closed()).unwrap());
        drop(call.apply_async((1,)));
        assert!(receiver.recv().unwrap());
    });
}

#[test]
fn l8_a_callback_that_panics_harms_nothing_else() {
    alone(|| {
        let pool = pool(1);
        let (sender, receiver) = channel();
        for i in 0..3 {
            let call = pool.call(double).on_success(|x: u64| panic!("a callback panics at {x}"));
            let call = call.progress(|_| panic!("so does the progress"));
            assert_eq!(call.apply_async((i,)).get().unwrap(), 2 * i);
        }
        let call = pool.call(double).on_success(move |x: u64| sender.send(x).unwrap());
        call.apply((4,)).unwrap();
        assert_eq!(receiver.recv().unwrap(), 8);
    });
}

#[test]
fn a_callback_that_blocks_holds_up_no_work() {
    alone(|| {
        let pool = pool(1);
        let (release, blocked) = sync_channel::<()>(0);
        let call = pool.call(double).on_success(move |_: u64| blocked.recv().unwrap());
        assert_eq!(call.apply_async((1,)).get().unwrap(), 2);
        // Results, deaths and deadlines are still taken care of.
        assert_eq!(pool.map(double, 0..100).unwrap()[99], 198);
        assert!(pool.apply(die, ()).unwrap_err().is_worker_lost());
        let limit = Duration::from_millis(50);
        assert!(pool.call(sleep).timeout(limit).apply((3_600_000,)).unwrap_err().is_timeout());
        release.send(()).unwrap();
    });
}

#[test]
fn a_callback_may_use_the_pool() {
    alone(|| {
        let pool = pool(1);
        let (sender, receiver) = channel();
        let same = pool.clone();
        let call = pool.call(double).on_success(move |x: u64| {
            sender.send(same.apply(double, (x,)).unwrap()).unwrap();
        });
        call.apply((3,)).unwrap();
        assert_eq!(receiver.recv().unwrap(), 12);
    });
}

#[test]
fn a_callback_may_hold_the_last_handle() {
    alone(|| {
        let pool = pool(1);
        let (sender, receiver) = channel();
        let (go, gone) = channel::<()>();
        let same = pool.clone();
        let call = pool.call(double).on_success(move |_: u64| {
            gone.recv().unwrap();
            drop(same);
            sender.send(()).unwrap();
        });
        call.apply((3,)).unwrap();
        drop(pool);
        go.send(()).unwrap();
        receiver.recv().unwrap();
    });
}

#[test]
fn progress_rises_to_the_total() {
    alone(|| {
        let pool = pool(2);
        let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
        let (sender, receiver) = channel();
        let record = Arc::clone(&seen);
        let call = pool.call(double).progress(move |progress| {
            record.lock().unwrap().push(progress);
            if progress.done == progress.total {
                let _ = sender.send(());
            }
        });
        call.map(0..1000).unwrap();
        receiver.recv().unwrap();
        let seen = seen.lock().unwrap();
        assert!(seen.iter().all(|progress| progress.total == 1000));
        assert!(seen.iter().map(|progress| progress.done).is_sorted());
        assert_eq!(seen.last().unwrap().done, 1000);
    });
}

//! Items whose worker died and that are tried again, and pools whose workers die too often.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::process;
use std::time::{Duration, Instant};

use procession::{Backoff, Limits, Pool, StartMethod, attempt, bind, task};
use procession_tests::scratch::{Scratch, note, notes};
use procession_tests::{alone, wait_until};

fn with_pools(test: impl Fn(&Pool)) {
    alone(|| {
        for method in [StartMethod::Spawn, StartMethod::ForkServer] {
            let pool = Pool::builder().processes(2).start_method(method);
            test(&pool.limits(Limits::new().core_size(0)).build().unwrap());
        }
    });
}

/// Ends its worker on its first attempts at every hundredth item.
#[task]
fn unlucky(times: u32, x: u64) -> (u64, u32) {
    if x % 100 == 50 && attempt() < times {
        process::abort();
    }
    (x, attempt())
}

#[test]
fn a_task_knows_which_attempt_it_is() {
    with_pools(|pool| {
        let results = pool.call(bind(unlucky, (2,))).retries(2).map(0..500).unwrap();
        for (x, (y, attempt)) in (0..).zip(results) {
            assert_eq!((y, attempt), (x, if x % 100 == 50 { 2 } else { 0 }));
        }
        assert_eq!(pool.call(unlucky).retries(5).apply((5, 50)).unwrap(), (50, 5));
        // The next item of the same worker is none that was tried.
        assert_eq!(pool.apply(unlucky, (0, 50)).unwrap(), (50, 0));
        assert_eq!(attempt(), 0);
    });
}

#[test]
fn an_item_that_ends_every_worker_is_told_with_its_history() {
    with_pools(|pool| {
        let call = pool.call(bind(unlucky, (u32::MAX,))).retries(2);
        for (x, result) in (0..).zip(call.try_map(0..300)) {
            let Err(error) = result else {
                assert_ne!(x % 100, 50);
                continue;
            };
            assert!(error.is_quarantined() && error.is_worker_lost(), "{error}");
            assert_eq!((error.index(), error.history().len()), (Some(x), 2));
            let mut pids: Vec<_> = error.history().iter().map(|loss| loss.pid().unwrap()).collect();
            pids.push(error.pid().unwrap());
            pids.dedup();
            assert_eq!(pids.len(), 3, "another worker each time");
            assert!(
                error
                    .history()
                    .iter()
                    .all(|loss| loss.index() == Some(x) && !loss.is_quarantined())
            );
            assert!(error.to_string().contains("it was attempt 3"), "{error}");
        }
        let error = pool.apply(unlucky, (1, 50)).unwrap_err();
        assert!(!error.is_quarantined() && !error.to_string().contains("attempt"), "{error}");
    });
}

/// Notes when it is tried, in milliseconds since some time.
#[task]
fn noted(file: String, times: u32, x: u64) -> u64 {
    if x == 7 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        note(&file, now.as_millis());
        if attempt() < times {
            process::abort();
        }
    }
    x
}

#[test]
fn an_item_waits_for_longer_each_time() {
    with_pools(|pool| {
        let scratch = Scratch::new();
        let file = scratch.path("times");
        let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_millis(250));
        let call = pool.call(bind(noted, (file.clone(), 4))).retries(4).backoff(backoff);
        let start = Instant::now();
        let result = call.map_async(0..100);
        // Others aren't held up by that.
        wait_until("it has died once", || notes(&file).len() == 1);
        assert_eq!(pool.map(unlucky_not, 0..100).unwrap().len(), 100);
        assert!(result.get().unwrap().into_iter().eq(0..100));
        assert!(start.elapsed() >= Duration::from_millis(100 + 200 + 250 + 250));
        let times: Vec<u64> = notes(&file).iter().map(|time| time.parse().unwrap()).collect();
        let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(pauses.len(), 4);
        for (pause, least) in pauses.iter().zip([100, 200, 250, 250]) {
            assert!(*pause + 2 >= least, "{pauses:?}");
        }
    });
}

#[task]
fn unlucky_not(x: u64) -> u64 {
    x
}

#[test]
fn a_call_can_end_while_its_item_waits() {
    with_pools(|pool| {
        let scratch = Scratch::new();
        let long = Backoff::constant(Duration::from_secs(3600));
        let file = scratch.path("cancelled");
        let call = pool.call(bind(noted, (file.clone(), 1))).retries(1).backoff(long);
        let result = call.map_async(0..10);
        wait_until("it has died", || pool.stats().lost == 1);
        assert!(!result.ready() && result.cancel());
        assert!(result.get().unwrap_err().is_cancelled());
        assert_eq!(notes(&file).len(), 1);
        // What waits is work that a closed pool still does.
        let short = Backoff::constant(Duration::from_millis(300));
        let file = scratch.path("closed");
        let call = pool.call(noted).retries(1).backoff(short);
        let result = call.apply_async((file.clone(), 1, 7));
        wait_until("it has died", || pool.stats().lost == 2);
        pool.close();
        assert_eq!(result.get().unwrap(), 7);
        assert_eq!(notes(&file).len(), 2);
        pool.join().unwrap();
    });
}

#[task]
fn dies(x: u64) -> u64 {
    if x.is_multiple_of(10) {
        process::abort();
    }
    x
}

#[test]
fn a_pool_whose_workers_die_too_often_fails() {
    alone(|| {
        for method in [StartMethod::Spawn, StartMethod::ForkServer] {
            let pool = Pool::builder().processes(2).start_method(method);
            let pool = pool.limits(Limits::new().core_size(0));
            let pool = pool.max_restarts(3, Duration::from_secs(3600)).build().unwrap();
            // These are few enough.
            let results = pool.call(dies).chunksize(1).try_map(1..40);
            assert_eq!(results.iter().filter(|result| result.is_err()).count(), 3);
            let results = pool.call(dies).chunksize(1).try_map(0..1000);
            let errors: Vec<String> = results
                .iter()
                .filter_map(|result| Some(result.as_ref().err()?.to_string()))
                .collect();
            let tripped =
                |text: &&String| text.contains("more than 3 workers have died within 3600s");
            assert!(errors.iter().filter(tripped).count() > 900, "{errors:?}");
            assert!(errors[errors.len() - 1].contains("SIGABRT"), "{errors:?}");
            let error = pool.apply(dies, (1,)).unwrap_err();
            assert!(tripped(&&error.to_string()), "{error}");
        }
    });
}

#[test]
fn workers_that_are_replaced_are_no_deaths() {
    alone(|| {
        let pool = Pool::builder().processes(2).max_tasks_per_child(1);
        let pool = pool.max_restarts(0, Duration::from_secs(3600)).build().unwrap();
        assert!(pool.map(unlucky_not, 0..50).unwrap().into_iter().eq(0..50));
        assert!(pool.apply(dies, (0,)).is_err() && pool.apply(dies, (1,)).is_err());
    });
}

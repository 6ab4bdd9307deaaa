//! `imap` and `imap_unordered`: lazy, bounded, in order or as they come, and what ends them.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::cell::Cell;
use std::fs;
use std::thread;
use std::time::Duration;

use procession::{Pool, task};
use procession_tests::scratch::{Scratch, note, notes, open, pass};
use procession_tests::{alone, wait_until};

#[task]
fn double(x: u64) -> u64 {
    2 * x
}

#[task]
fn noted(item: (u64, String)) -> u64 {
    note(&item.1, item.0);
    item.0
}

#[task]
fn noted_slowly(item: (u64, String)) -> u64 {
    note(&item.1, item.0);
    thread::sleep(Duration::from_millis(20));
    item.0
}

/// The first item waits until the gate is open.
#[task]
fn first_is_held(item: (u64, String)) -> u64 {
    if item.0 == 0 {
        pass(&item.1);
    }
    item.0
}

#[task]
fn pad(x: usize) -> String {
    "x".repeat(x)
}

fn pool(processes: usize) -> Pool {
    Pool::builder().processes(processes).build().unwrap()
}

/// All numbers; counts how many were taken.
fn counted(taken: &Cell<u64>) -> impl Iterator<Item = u64> {
    (0..).inspect(|_| taken.set(taken.get() + 1))
}

#[test]
fn imap_keeps_the_order() {
    alone(|| {
        let pool = pool(3);
        for count in [0, 1, 7, 3000] {
            let results: Result<Vec<u64>, _> = pool.imap(double, 0..count).collect();
            assert_eq!(results.unwrap(), (0..count).map(|x| 2 * x).collect::<Vec<_>>());
        }
        let call = pool.call(double).chunksize(64);
        let results: Result<Vec<u64>, _> = call.imap(0..1000).collect();
        assert_eq!(results.unwrap(), (0..1000).map(|x| 2 * x).collect::<Vec<_>>());
    });
}

#[test]
fn imap_unordered_gives_each_result_once() {
    alone(|| {
        let pool = pool(3);
        for chunk in [1, 7, 64] {
            let results = pool.call(double).chunksize(chunk).imap_unordered(0..1000);
            let mut results: Vec<u64> = results.collect::<Result<_, _>>().unwrap();
            results.sort_unstable();
            assert_eq!(results, (0..1000).map(|x| 2 * x).collect::<Vec<_>>());
        }
    });
}

#[test]
fn imap_unordered_does_not_wait_for_a_slow_item() {
    alone(|| {
        let scratch = Scratch::new();
        let gate = scratch.path("gate");
        let pool = pool(2);
        let inputs = (0..50).map(|i| (i, gate.clone()));
        let mut results = pool.imap_unordered(first_is_held, inputs).map(Result::unwrap);
        let others: Vec<u64> = results.by_ref().take(49).collect();
        assert!(!others.contains(&0));
        open(&gate);
        assert_eq!(results.collect::<Vec<_>>(), [0]);
    });
}

#[test]
fn l10_imap_takes_its_input_only_as_far_as_the_buffer() {
    alone(|| {
        let pool = pool(2);
        for chunk in [1, 3, 8] {
            let taken = Cell::new(0);
            let call = pool.call(double).buffersize(8).chunksize(chunk);
            let mut results = call.imap(counted(&taken));
            assert_eq!(taken.get(), 0, "nothing is taken before a result is asked for");
            for given in 0..100 {
                assert_eq!(results.next().unwrap().unwrap(), 2 * given);
                assert!(taken.get() <= given + 8, "{} taken for {given}", taken.get());
            }
            drop(results);

            let taken = Cell::new(0);
            let call = pool.call(double).buffersize(8).chunksize(chunk);
            let mut results = call.imap_unordered(counted(&taken));
            assert_eq!(taken.get(), 0);
            for given in 0..100 {
                results.next().unwrap().unwrap();
                assert!(taken.get() <= given + 8, "{} taken for {given}", taken.get());
            }
        }
    });
}

#[test]
fn l10_a_buffer_smaller_than_a_chunk_is_one_chunk() {
    alone(|| {
        let pool = pool(2);
        let taken = Cell::new(0);
        let call = pool.call(double).buffersize(1).chunksize(5);
        assert_eq!(call.imap(counted(&taken)).nth(11).unwrap().unwrap(), 22);
        assert_eq!(taken.get(), 15);
    });
}

#[test]
fn l10_an_infinite_input_runs_in_constant_memory() {
    const RESULT: usize = 256 << 10;
    alone(|| {
        let pool = pool(2);
        let taken = Cell::new(0);
        let results = pool.imap(pad, counted(&taken).map(|_| RESULT));
        let before = resident();
        for result in results.take(1500) {
            assert_eq!(result.unwrap().len(), RESULT);
        }
        let grown = resident().saturating_sub(before);
        assert!(grown < 128 << 20, "{grown} bytes more for {} of results", 1500 * RESULT);
        assert!(taken.get() < 1500 + 4096);

        let results = pool.imap_unordered(pad, std::iter::repeat(RESULT));
        results.take(1000).for_each(|result| assert_eq!(result.unwrap().len(), RESULT));
        let grown = resident().saturating_sub(before);
        assert!(grown < 128 << 20, "{grown} bytes more for {} of results", 2500 * RESULT);
    });
}

/// The memory of this process that is resident, in bytes.
fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn l10_a_slow_consumer_slows_the_pool_down() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = pool(2);
        let call = pool.call(noted).buffersize(6);
        let mut results = call.imap((0..).map(|x| (x, log.clone())));
        assert_eq!(results.next().unwrap().unwrap(), 0);
        wait_until("the buffer is full", || notes(&log).len() == 6);
        // Nothing more runs, however long nobody asks.
        thread::sleep(Duration::from_millis(50));
        assert_eq!(notes(&log).len(), 6);
        assert_eq!(results.next().unwrap().unwrap(), 1);
        wait_until("one more has run", || notes(&log).len() == 7);
    });
}

#[test]
fn dropping_an_imap_gives_up_what_has_not_begun() {
    alone(|| {
        let scratch = Scratch::new();
        let (gate, log) = (scratch.path("gate"), scratch.path("log"));
        let pool = pool(1);
        let held = pool.apply_async(first_is_held, ((0, gate.clone()),));
        let log_of = log.clone();
        let mut results = pool
            .call(noted_slowly)
            .buffersize(100)
            .imap_unordered((0..).map(move |x| (x, log_of.clone())));
        // The input is taken and encoded by the first call of `next`, which another thread ends.
        thread::scope(|scope| {
            scope.spawn(|| open(&gate));
            results.next().unwrap().unwrap();
        });
        held.get().unwrap();
        drop(results);
        assert_eq!(pool.apply(double, (4,)).unwrap(), 8);
        let ran = notes(&log).len();
        assert!(ran < 100, "all {ran} items ran");
        assert_eq!(pool.apply(double, (5,)).unwrap(), 10);
        assert_eq!(notes(&log).len(), ran, "nothing of it runs after something later has");
    });
}

#[task]
fn some_fail(x: u32) -> u32 {
    match x % 10 {
        3 => panic!("item {x}"),
        7 => std::process::exit(7),
        _ => x,
    }
}

#[test]
fn l3_iteration_goes_on_after_an_error() {
    alone(|| {
        let pool = pool(2);
        for chunk in [1, 5] {
            let in_order: Vec<_> = pool.call(some_fail).chunksize(chunk).imap(0..40).collect();
            assert_eq!(in_order.len(), 40);
            for (i, result) in in_order.into_iter().enumerate() {
                match result {
                    Ok(x) => assert!(x as usize == i && !matches!(i % 10, 3 | 7)),
                    Err(error) if error.is_worker_lost() => {
                        assert_eq!((error.index(), i % 10), (Some(i), 7));
                    }
                    Err(error) => {
                        assert_eq!((error.index(), i % 10), (Some(i), 3));
                        assert_eq!(error.panic().unwrap().message(), format!("item {i}"));
                    }
                }
            }
            let unordered = pool.call(some_fail).chunksize(chunk).imap_unordered(0..40);
            let mut failed: Vec<_> =
                unordered.filter_map(Result::err).map(|error| error.index().unwrap()).collect();
            failed.sort_unstable();
            assert_eq!(failed, [3, 7, 13, 17, 23, 27, 33, 37]);
        }
    });
}

#[test]
fn imap_of_a_closed_pool_is_one_kind_of_error_and_ends() {
    alone(|| {
        let pool = pool(2);
        pool.close();
        let taken = Cell::new(0);
        let errors: Vec<_> = pool.imap(double, counted(&taken)).collect();
        assert!(!errors.is_empty() && errors.iter().all(|e| e.as_ref().unwrap_err().is_closed()));
        let errors: Vec<_> = pool.imap_unordered(double, counted(&taken)).collect();
        assert!(!errors.is_empty() && errors.iter().all(|e| e.as_ref().unwrap_err().is_closed()));
        pool.join().unwrap();
    });
}

#[test]
fn l10_close_and_join_end_after_partial_consumption() {
    alone(|| {
        for buffer in [1, 16] {
            let pool = pool(2);
            let mut ordered = pool.call(double).buffersize(buffer).imap(0..);
            let mut unordered = pool.call(double).buffersize(buffer).imap_unordered(0..);
            assert_eq!(ordered.next().unwrap().unwrap(), 0);
            unordered.next().unwrap().unwrap();
            pool.close();
            pool.join().unwrap();
            // What was taken on is done; what comes after it is refused, and that is the end.
            let rest: Vec<_> = ordered.collect();
            let good = rest.iter().take_while(|result| result.is_ok()).count();
            assert!(good + 1 >= buffer, "{good} results of {buffer} that were under way");
            assert!(rest[good..].iter().all(|e| e.as_ref().unwrap_err().is_closed()));
            assert!(unordered.filter_map(Result::err).all(|error| error.is_closed()));
        }
    });
}

#[test]
fn an_imap_outlives_its_pool_with_an_error() {
    alone(|| {
        let pool = pool(2);
        let mut results = pool.imap(double, 0..);
        assert_eq!(results.next().unwrap().unwrap(), 0);
        drop(pool);
        let mut errors = results.skip_while(Result::is_ok);
        assert!(errors.next().unwrap().unwrap_err().is_closed());
    });
}

#[test]
fn imap_may_borrow_its_input() {
    alone(|| {
        let pool = pool(1);
        let numbers = [1, 2, 3];
        let results: Result<Vec<u64>, _> = pool.imap(double, numbers.iter().copied()).collect();
        assert_eq!(results.unwrap(), [2, 4, 6]);
    });
}

#[test]
fn two_imaps_and_other_calls_take_turns() {
    alone(|| {
        let pool = pool(2);
        let mut a = pool.imap(double, 0..);
        let mut b = pool.imap_unordered(double, 0..100);
        for i in 0..50 {
            assert_eq!(a.next().unwrap().unwrap(), 2 * i);
            b.next().unwrap().unwrap();
            assert_eq!(pool.apply(double, (i,)).unwrap(), 2 * i);
        }
        assert_eq!(b.count(), 50);
    });
}

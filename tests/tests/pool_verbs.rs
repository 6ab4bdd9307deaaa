//! The verbs of a pool that wait or give a result to wait for: `apply`, `map`, `starmap`, `try_map` and
//! their kin, by function and by name.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use procession::{Pool, task};
use procession_tests::alone;
use procession_tests::scratch::{Scratch, note, notes, open, pass};
use serde::{Deserialize, Serialize};

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[task]
fn add(a: u32, b: u32, c: u32) -> u32 {
    a + b + c
}

#[task]
fn nothing() {}

#[task(name = "a name of its own")]
fn echo(text: String) -> String {
    text
}

mod one {
    #[procession::task(name = "twins")]
    pub(super) fn twin() -> u32 {
        1
    }
}

mod two {
    #[procession::task(name = "twins")]
    pub(super) fn twin() -> u32 {
        2
    }
}

#[task]
fn hold(gate: String) -> String {
    pass(&gate);
    gate
}

#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
struct Unit;

#[task]
fn same_unit(unit: Unit) -> Unit {
    unit
}

#[task]
fn same_list(list: Vec<Unit>) -> Vec<Unit> {
    list
}

fn pool(processes: usize) -> Pool {
    Pool::builder().processes(processes).build().unwrap()
}

#[test]
fn apply_gives_the_result() {
    alone(|| {
        let pool = pool(1);
        assert_eq!(pool.apply(square, (7,)).unwrap(), 49);
        assert_eq!(pool.apply(add, (1, 2, 3)).unwrap(), 6);
        pool.apply(nothing, ()).unwrap();
        assert_eq!(pool.apply(|x: i64, y: i64| x - y, (3, 5)).unwrap(), -2);
        assert_eq!(pool.apply(f64::sqrt, (9.0,)).unwrap(), 3.0);
    });
}

#[test]
fn apply_async_does_not_wait() {
    alone(|| {
        let scratch = Scratch::new();
        let gate = scratch.path("gate");
        let pool = pool(1);
        let held = pool.apply_async(hold, (gate.clone(),));
        let behind = pool.apply_async(square, (3,));
        assert!(!held.ready() && !behind.ready());
        open(&gate);
        assert_eq!(behind.get().unwrap(), 9);
        assert_eq!(held.get().unwrap(), gate);
    });
}

#[test]
fn apply_named_finds_a_task_by_its_name() {
    alone(|| {
        let pool = pool(1);
        assert_eq!(pool.apply_named::<u64>("pool_verbs::square", (5_u64,)).unwrap(), 25);
        let text = "text".to_owned();
        assert_eq!(pool.apply_named::<String>("a name of its own", (&text,)).unwrap(), text);
        pool.apply_named::<()>("pool_verbs::nothing", ()).unwrap();
    });
}

#[test]
fn apply_named_suggests_what_was_meant() {
    alone(|| {
        let pool = pool(1);
        for wrong in ["square", "pool_verbs::squar", "elsewhere::square"] {
            let error = pool.apply_named::<u64>(wrong, (5_u64,)).unwrap_err().to_string();
            assert!(error.contains(&format!("`{wrong}`")), "{error}");
            assert!(error.contains("did you mean `pool_verbs::square`?"), "{error}");
        }
        let error = pool.apply_named::<u64>("quite different", ()).unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    });
}

#[test]
fn apply_named_shows_all_places_of_an_ambiguous_name() {
    assert_eq!((one::twin(), two::twin()), (1, 2));
    alone(|| {
        let pool = pool(1);
        let error = pool.apply_named::<u32>("twins", ()).unwrap_err().to_string();
        assert!(error.contains("ambiguous"), "{error}");
        assert_eq!(error.matches("pool_verbs.rs:").count(), 2, "{error}");
        // As functions they are no names, and can be told apart.
        assert_eq!(pool.apply(one::twin, ()).unwrap(), 1);
        assert_eq!(pool.apply(two::twin, ()).unwrap(), 2);
    });
}

#[test]
fn apply_named_with_wrong_types_is_that_calls_error() {
    alone(|| {
        let pool = pool(1);
        let error = pool.apply_named::<u64>("pool_verbs::square", ("text",)).unwrap_err();
        assert!(error.to_string().contains("arguments can't be decoded"), "{error}");
        assert_eq!(error.task(), Some("pool_verbs::square"));
        assert_eq!(error.pid(), pool.worker_pids().first().copied());
        let error = pool.apply_named::<String>("pool_verbs::square", (9_u64,)).unwrap_err();
        assert!(error.to_string().contains("result can't be decoded"), "{error}");
        assert_eq!(error.task(), Some("pool_verbs::square"));
        let pids = pool.worker_pids();
        assert_eq!(pool.apply(square, (4,)).unwrap(), 16);
        assert_eq!(pool.worker_pids(), pids, "the worker is still the same");
    });
}

#[test]
fn map_keeps_the_order_of_the_input() {
    alone(|| {
        let pool = pool(3);
        for count in [0, 1, 2, 10, 5000] {
            let expected: Vec<u64> = (0..count).map(|x| x * x).collect();
            assert_eq!(pool.map(square, 0..count).unwrap(), expected);
            assert_eq!(pool.map_async(square, 0..count).get().unwrap(), expected);
            let all: Result<Vec<u64>, _> = pool.try_map(square, 0..count).into_iter().collect();
            assert_eq!(all.unwrap(), expected);
        }
    });
}

#[test]
fn starmap_takes_tuples() {
    alone(|| {
        let pool = pool(2);
        let inputs = || (0..100).map(|i| (i, 10 * i, 100 * i));
        let expected: Vec<u32> = (0..100).map(|i| 111 * i).collect();
        assert_eq!(pool.starmap(add, inputs()).unwrap(), expected);
        assert_eq!(pool.starmap_async(add, inputs()).get().unwrap(), expected);
        assert_eq!(pool.starmap(nothing, [(), ()]).unwrap(), [(), ()]);
    });
}

#[test]
fn payloads_may_be_empty() {
    alone(|| {
        let pool = pool(2);
        pool.map(|(): ()| (), [(); 1000]).unwrap();
        assert_eq!(pool.map(same_unit, [Unit; 1000]).unwrap(), [Unit; 1000]);
        assert_eq!(pool.apply(same_list, (vec![Unit; 100_000],)).unwrap().len(), 100_000);
        assert_eq!(pool.map(echo, vec![String::new(); 1000]).unwrap(), vec![String::new(); 1000]);
    });
}

#[test]
fn payloads_may_be_large() {
    const SIZE: usize = 64 << 20;
    alone(|| {
        let pool = pool(2);
        let large: String = "0123456789abcdef".repeat(SIZE / 16);
        assert_eq!(pool.apply(|text: String| text.len(), (large.clone(),)).unwrap(), SIZE);
        let result =
            pool.apply(|size: usize| "0123456789abcdef".repeat(size / 16), (SIZE,)).unwrap();
        assert!(result == large);
        assert!(pool.apply(echo, (large.clone(),)).unwrap() == large);
    });
}

#[test]
fn payloads_of_all_sizes_pass_side_by_side() {
    alone(|| {
        let pool = pool(2);
        let sizes = [0, 1, 4095, 4096, 65_535, 65_536, 262_143, 262_144, 262_145, 1 << 20, 3, 0];
        let inputs: Vec<String> = sizes.iter().cycle().take(120).map(|n| "x".repeat(*n)).collect();
        assert!(pool.map(echo, inputs.clone()).unwrap() == inputs);
        assert!(pool.call(echo).chunksize(7).map(inputs.clone()).unwrap() == inputs);
    });
}

/// Item 5 fails first in time, item 1 in order: it waits for item 5.
#[task]
fn fail_late_or_early(item: u32, failed: String) -> u32 {
    match item {
        1 => pass(&failed),
        5 => open(&failed),
        _ => return item,
    }
    panic!("item {item}");
}

#[test]
fn l2_map_fails_with_the_lowest_failing_index() {
    alone(|| {
        for chunk in [1, 3] {
            let scratch = Scratch::new();
            let pool = pool(2);
            let inputs = (0..8).map(|item| (item, scratch.path("failed")));
            let error = pool.call(fail_late_or_early).chunksize(chunk).starmap(inputs).unwrap_err();
            assert_eq!(error.index(), Some(1), "{error}");
            assert_eq!(error.panic().unwrap().message(), "item 1");
        }
    });
}

#[task]
fn fail_or_note(item: u32, log: String) {
    assert!(item != 3, "no");
    std::thread::sleep(std::time::Duration::from_millis(1));
    note(&log, item);
}

#[test]
fn l2_a_failed_map_cancels_what_has_not_begun() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = pool(2);
        let inputs = (0..5000).map(|item| (item, log.clone()));
        let error = pool.starmap(fail_or_note, inputs).unwrap_err();
        assert_eq!(error.index(), Some(3));
        // When both workers have done something else, none of them is at an item of the map.
        pool.close();
        pool.join().unwrap();
        let noted = notes(&log);
        assert!(noted.len() < 2500, "{} items ran", noted.len());
        for below in ["0", "1", "2"] {
            assert!(noted.iter().any(|item| item == below), "item {below} matters and has run");
        }
    });
}

#[task]
fn odd_ones_panic(x: u32) -> u32 {
    assert!(x.is_multiple_of(2), "{x} is odd");
    x
}

#[test]
fn l3_an_error_concerns_its_own_item_only() {
    alone(|| {
        let pool = pool(2);
        for chunk in [1, 4, 64] {
            let call = || pool.call(odd_ones_panic).chunksize(chunk);
            let in_order =
                [call().try_map(0..40), call().imap(0..40).collect(), unordered(call(), 40)];
            for results in in_order {
                assert_eq!(results.len(), 40);
                for (i, result) in results.into_iter().enumerate() {
                    match result {
                        Ok(x) => assert!(x as usize == i && i % 2 == 0),
                        Err(error) => {
                            assert_eq!(error.index(), Some(i));
                            let message = format!("{i} is odd");
                            assert_eq!(error.panic().unwrap().message(), message);
                        }
                    }
                }
            }
        }
    });
}

/// The results of `imap_unordered`, put in order.
fn unordered<F: procession::TaskFn<M, Args = (u32,), Output = u32>, M>(
    call: procession::Call<'_, F>,
    count: u32,
) -> Vec<Result<u32, procession::Error>> {
    let mut results: Vec<_> = call.imap_unordered(0..count).collect();
    results.sort_by_key(|result| match result {
        Ok(x) => *x as usize,
        Err(error) => error.index().unwrap(),
    });
    results
}

#[test]
fn l4_a_panic_in_the_input_iterator_reaches_the_caller() {
    alone(|| {
        let pool = pool(2);
        let input = || (0..100_u64).inspect(|x| assert!(*x != 50, "the input breaks"));
        let caught = [
            catch_unwind(AssertUnwindSafe(|| drop(pool.map(square, input())))),
            catch_unwind(AssertUnwindSafe(|| drop(pool.map_async(square, input())))),
            catch_unwind(AssertUnwindSafe(|| drop(pool.try_map(square, input())))),
            catch_unwind(AssertUnwindSafe(|| pool.imap(square, input()).for_each(drop))),
            catch_unwind(AssertUnwindSafe(|| pool.imap_unordered(square, input()).for_each(drop))),
            catch_unwind(AssertUnwindSafe(|| {
                drop(pool.call(square).chunksize(8).imap(input()).collect::<Vec<_>>());
            })),
        ];
        for payload in caught.map(Result::unwrap_err) {
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"the input breaks"));
        }
        assert_eq!(pool.apply(square, (6,)).unwrap(), 36);
        pool.close();
        pool.join().unwrap();
    });
}

/// The last quarter of the input takes time, the rest none.
#[task]
fn late_burst(item: u32) -> (u32, u32) {
    if item >= 300 {
        std::thread::sleep(std::time::Duration::from_millis(4));
    }
    (item, std::process::id())
}

#[test]
fn l1_a_late_burst_is_shared_between_the_workers() {
    alone(|| {
        let pool = pool(2);
        pool.map(square, 0..100).unwrap();
        let who = pool.map(late_burst, 0..400).unwrap();
        for pid in pool.worker_pids() {
            let share = who.iter().filter(|(item, by)| *item >= 300 && *by == pid).count();
            assert!(share >= 25, "worker {pid} did {share} of 100 slow items");
        }
    });
}

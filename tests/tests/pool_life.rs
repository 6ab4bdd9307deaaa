//! A pool from its making to its end: initializers, bound arguments, replaced workers, nesting, many
//! threads; `close`, `terminate`, `join` and drop; pools that can't be made.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::HashMap;
use std::fs;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};
use procession::{Pool, Process, bind, current_process, set_executable, task};
use procession_tests::scratch::{Scratch, note, notes, pass};
use procession_tests::{alone, children_of, is_running, wait_until};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

#[task]
fn double(x: u64) -> u64 {
    2 * x
}

#[task]
fn pid_of(_: u64) -> u32 {
    process::id()
}

#[task]
fn hold(gate: String) {
    pass(&gate);
}

#[task]
fn noted(x: u64, log: String) -> u64 {
    note(&log, x);
    x
}

fn pool(processes: usize) -> Pool {
    Pool::builder().processes(processes).build().unwrap()
}

// ---- close, terminate, join, drop -------------------------------------------------------------------

#[test]
fn l6_close_and_join_do_all_that_was_taken_on() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = pool(2);
        let results: Vec<_> = (0..500).map(|x| pool.apply_async(noted, (x, log.clone()))).collect();
        pool.close();
        pool.join().unwrap();
        assert_eq!(notes(&log).len(), 500);
        assert!(pool.worker_pids().is_empty());
        assert!((0..).zip(results).all(|(x, result)| result.get().unwrap() == x));
        pool.join().unwrap();
    });
}

#[test]
fn l6_a_closed_pool_takes_no_work() {
    alone(|| {
        let pool = pool(1);
        pool.close();
        pool.close();
        let errors = [
            pool.apply(double, (1,)).unwrap_err(),
            pool.apply_async(double, (1,)).get().unwrap_err(),
            pool.map(double, 0..3).unwrap_err(),
            pool.map_async(double, 0..3).get().unwrap_err(),
            pool.starmap(double, [(1,)]).unwrap_err(),
            pool.try_map(double, 0..1).pop().unwrap().unwrap_err(),
            pool.apply_named::<u64>("pool_life::double", (1_u64,)).unwrap_err(),
        ];
        for error in errors {
            assert!(error.is_closed(), "{error}");
            assert!(error.to_string().contains("closed"), "{error}");
            assert_eq!(error.task(), Some("pool_life::double"));
        }
        assert_eq!(pool.try_map(double, 0..3).len(), 3, "each item has its own error");
        pool.join().unwrap();
    });
}

#[test]
fn l6_join_comes_after_close_or_terminate() {
    alone(|| {
        let pool = pool(1);
        let error = pool.join().unwrap_err().to_string();
        assert!(error.contains("`close`") && error.contains("`terminate`"), "{error}");
        assert_eq!(pool.apply(double, (1,)).unwrap(), 2);
        pool.terminate();
        pool.terminate();
        pool.close();
        pool.join().unwrap();
    });
}

#[test]
fn l6_terminate_ends_a_closed_pool_that_is_busy() {
    alone(|| {
        let scratch = Scratch::new();
        let pool = pool(2);
        let held: Vec<_> =
            (0..5).map(|_| pool.apply_async(hold, (scratch.path("gate"),))).collect();
        pool.close();
        thread::scope(|scope| {
            let joining = scope.spawn(|| pool.join());
            pool.terminate();
            joining.join().unwrap().unwrap();
        });
        assert!(held.iter().all(|result| result.get().unwrap_err().is_closed()));
    });
}

#[test]
fn l6_drop_ends_at_once_with_10_000_tasks_queued() {
    #[task]
    fn slow(log: String) {
        note(&log, "");
        thread::sleep(Duration::from_millis(10));
    }

    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = pool(2);
        let clone = pool.clone();
        let results: Vec<_> = (0..10_000).map(|_| pool.apply_async(slow, (log.clone(),))).collect();
        let pids = pool.worker_pids();
        drop(pool);
        assert!(pids.iter().all(|pid| is_running(*pid)), "a clone is left");
        let start = Instant::now();
        drop(clone);
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(!pids.iter().any(|pid| is_running(*pid)));
        assert!(notes(&log).len() < 5000);
        assert!(results.last().unwrap().get().unwrap_err().is_closed());
    });
}

#[test]
fn a_pool_that_was_never_used_ends() {
    alone(|| {
        drop(pool(2));
        let pool = pool(2);
        pool.close();
        pool.join().unwrap();
    });
}

// ---- names and numbers ------------------------------------------------------------------------------

#[test]
fn workers_have_names_and_numbers() {
    alone(|| {
        let pool = Pool::builder().processes(2).name("render").build().unwrap();
        assert_eq!(pool.processes(), 2);
        let name = pool.apply(|| current_process().name().to_owned(), ()).unwrap();
        assert!(name == "render:1" || name == "render:2", "{name}");
        let mut pids: Vec<i32> = pool.worker_pids().iter().map(|pid| *pid as i32).collect();
        pids.sort_unstable();
        pids.dedup();
        let children = children_of(process::id());
        assert!(pids.len() == 2 && pids.iter().all(|pid| children.contains(pid)), "{pids:?}");
        let default = Pool::builder().processes(1).build().unwrap();
        let name = default.apply(|| current_process().name().to_owned(), ()).unwrap();
        assert!(name.starts_with("Pool-") && name.ends_with(":1"), "{name}");
    });
}

#[test]
fn a_worker_costs_four_descriptors_at_most() {
    fn open_descriptors() -> usize {
        fs::read_dir("/proc/self/fd").unwrap().count()
    }

    alone(|| {
        let one = pool(1);
        one.map(double, 0..10).unwrap();
        let with_one = open_descriptors();
        let nine = pool(8);
        nine.map(double, 0..100).unwrap();
        let each = (open_descriptors() - with_one).div_ceil(8);
        assert!(each <= 4, "{each} in the parent");
        // The standard streams, the directory that is read, and what the runtime has.
        let in_worker = one.apply(open_descriptors, ()).unwrap();
        assert!(in_worker <= 3 + 1 + 4, "{in_worker} in a worker");
    });
}

// ---- initializers -----------------------------------------------------------------------------------

#[task]
fn initialize(name: String, log: String) {
    note(&log, format!("{name} {}", process::id()));
}

#[test]
fn the_initializer_runs_once_in_each_worker() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let builder =
            Pool::builder().processes(2).initializer(initialize, ("a".into(), log.clone()));
        let pool = builder.build().unwrap();
        pool.map(double, 0..1000).unwrap();
        wait_until("both are initialized", || notes(&log).len() == 2);
        for pid in pool.worker_pids() {
            assert!(notes(&log).contains(&format!("a {pid}")));
        }
        // One that takes a dead one's place, too.
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pool.worker_pids()[0] as i32),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        wait_until("the third is initialized", || notes(&log).len() == 3);
        pool.map(double, 0..1000).unwrap();
        assert_eq!(notes(&log).len(), 3);
    });
}

#[task]
fn bad_initializer(how: String) {
    match how.as_str() {
        "panic" => panic!("no model"),
        "exit" => process::exit(5),
        "kill" => drop(nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL)),
        _ => process::abort(),
    }
}

#[test]
fn an_initializer_that_fails_fails_the_pool_with_the_cause() {
    alone(|| {
        let causes = [
            ("panic", "no model"),
            ("exit", "exit status: 5"),
            ("kill", "SIGKILL"),
            ("abort", "SIGABRT"),
        ];
        for (how, says) in causes {
            let start = Instant::now();
            let builder = Pool::builder().processes(2).initializer(bad_initializer, (how.into(),));
            let pool = builder.build().unwrap();
            let error = pool.apply(double, (1,)).unwrap_err();
            println!("{how}: {:?}: {error}", start.elapsed());
            assert!(start.elapsed() < Duration::from_secs(5));
            let text = error.to_string();
            assert!(text.contains(says) && text.contains("initializer"), "{text}");
            assert!(pool.map(double, 0..3).unwrap_err().to_string().contains(says));
            assert!(pool.join().unwrap_err().to_string().contains(says));
            assert!(pool.worker_pids().is_empty());
        }
    });
}

#[task]
fn fails_once(log: String) {
    note(&log, "");
    assert!(notes(&log).len() != 1, "the first time");
}

#[test]
fn an_initializer_that_fails_once_is_forgiven() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let builder = Pool::builder().processes(1).initializer(fails_once, (log.clone(),));
        let pool = builder.build().unwrap();
        assert_eq!(pool.map(double, 0..3).unwrap(), [0, 2, 4]);
        assert_eq!(notes(&log).len(), 2);
    });
}

// ---- max_tasks_per_child ----------------------------------------------------------------------------

#[test]
fn l5_max_tasks_per_child_counts_tasks() {
    alone(|| {
        for (limit, chunk) in [(1, None), (3, Some(10)), (3, Some(2)), (7, None)] {
            let pool = Pool::builder().processes(1).max_tasks_per_child(limit).build().unwrap();
            let call = pool.call(pid_of);
            let call = if let Some(chunk) = chunk { call.chunksize(chunk) } else { call };
            let pids = call.map(0..21).unwrap();
            for worker in pids.chunk_by(|a, b| a == b) {
                assert_eq!(worker.len(), limit.min(21), "limit {limit}, chunks of {chunk:?}");
            }
        }
        let pool = Pool::builder().processes(2).max_tasks_per_child(4).build().unwrap();
        let mut counts = HashMap::new();
        for pid in pool.call(pid_of).chunksize(3).map(0..40).unwrap() {
            *counts.entry(pid).or_insert(0) += 1;
        }
        assert!(counts.values().all(|count| *count <= 4), "{counts:?}");
    });
}

// ---- bind -------------------------------------------------------------------------------------------

/// Notes each time that it is decoded.
#[derive(Clone, Serialize)]
struct Model(String, String);

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (log, weights) = <(String, String)>::deserialize(deserializer)?;
        if weights == "broken" {
            return Err(D::Error::custom("the model is broken"));
        }
        note(&log, process::id());
        Ok(Self(log, weights))
    }
}

#[task]
fn apply_model(model: Model, x: usize) -> usize {
    model.1.len() + x
}

#[test]
fn bound_arguments_go_to_each_worker_once() {
    alone(|| {
        for size in [10, 16 << 20] {
            let scratch = Scratch::new();
            let log = scratch.path("log");
            let pool = pool(2);
            pool.map(double, 0..100).unwrap();
            let model = Model(log.clone(), "w".repeat(size));
            let f = bind(apply_model, (model,));
            let results = pool.call(f.clone()).chunksize(5).map(0..200).unwrap();
            assert_eq!(results, (0..200).map(|x| size + x).collect::<Vec<_>>());
            let decoded = notes(&log);
            assert!((1..=2).contains(&decoded.len()), "{decoded:?}");
            assert!(decoded.len() == 1 || decoded[0] != decoded[1]);
        }
    });
}

#[task]
fn apply_model_and_die(model: Model, x: usize) -> usize {
    if x == 5 && notes(&model.0).len() == 1 {
        process::abort();
    }
    model.1.len() + x
}

#[test]
fn bound_arguments_go_to_a_worker_that_replaces_another() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = pool(1);
        let f = bind(apply_model_and_die, (Model(log.clone(), "four".into()),));
        let results = pool.call(f).retries(1).map(0..20).unwrap();
        assert_eq!(results, (4..24).collect::<Vec<_>>());
        assert_eq!(notes(&log).len(), 2);
    });
}

#[test]
fn bound_arguments_that_can_not_be_decoded_are_each_items_error() {
    alone(|| {
        let scratch = Scratch::new();
        let pool = pool(1);
        let pids = pool.worker_pids();
        let f = bind(apply_model, (Model(scratch.path("log"), "broken".into()),));
        for error in pool.try_map(f, 0..5) {
            let text = error.unwrap_err().to_string();
            assert!(text.contains("the model is broken"), "{text}");
        }
        assert_eq!(pool.apply(double, (2,)).unwrap(), 4);
        assert_eq!(pool.worker_pids(), pids);
    });
}

// ---- nesting and threads ------------------------------------------------------------------------------

#[task]
fn nested(depth: u64, x: u64) -> u64 {
    if depth == 0 {
        return x;
    }
    let pool = Pool::builder().processes(2).build().unwrap();
    let inputs = (0..2).map(|i| (depth - 1, 2 * x + i));
    pool.starmap(nested, inputs).unwrap().iter().sum()
}

#[test]
fn pools_nest() {
    alone(|| {
        let pool = pool(2);
        // Leaves of a binary tree, numbered: 4 to 7 under 1, 8 to 11 under 2.
        let sums = pool.starmap(nested, [(2, 1), (2, 2)]).unwrap();
        assert_eq!(sums, [4 + 5 + 6 + 7, 8 + 9 + 10 + 11]);
    });
}

#[test]
fn many_threads_use_one_pool() {
    alone(|| {
        let pool = pool(3);
        thread::scope(|scope| {
            for thread in 0..8_u64 {
                let pool = pool.clone();
                scope.spawn(move || {
                    let expected: Vec<u64> = (0..50).map(|x| 2 * (x + thread)).collect();
                    let inputs = || (0..50).map(move |x| x + thread);
                    for round in 0..15 {
                        match (thread + round) % 6 {
                            0 => assert_eq!(pool.map(double, inputs()).unwrap(), expected),
                            1 => assert_eq!(pool.apply(double, (thread,)).unwrap(), 2 * thread),
                            2 => {
                                let all: Result<Vec<u64>, _> =
                                    pool.imap(double, inputs()).collect();
                                assert_eq!(all.unwrap(), expected);
                            }
                            3 => {
                                let all = pool.imap_unordered(double, inputs());
                                let sum: u64 = all.map(Result::unwrap).sum();
                                assert_eq!(sum, expected.iter().sum());
                            }
                            4 => {
                                let all = pool.map_async(double, inputs());
                                let cancelled = pool.map_async(double, inputs());
                                cancelled.cancel();
                                assert_eq!(all.get().unwrap(), expected);
                            }
                            _ => {
                                let each = inputs().map(|x| pool.apply_async(double, (x,)));
                                let each: Vec<_> = each.collect();
                                let all: Vec<u64> = each.iter().map(|r| r.get().unwrap()).collect();
                                assert_eq!(all, expected);
                            }
                        }
                    }
                });
            }
        });
    });
}

// ---- pools that can't be made ---------------------------------------------------------------------------

#[test]
fn l12_zero_of_anything_is_an_error() {
    alone(|| {
        let error = Pool::builder().processes(0).build().unwrap_err();
        assert!(error.to_string().contains("at least one process"), "{error}");
        let error = Pool::builder().processes(1).max_tasks_per_child(0).build().unwrap_err();
        assert!(error.to_string().contains("max_tasks_per_child"), "{error}");
    });
}

/// Makes a pool of workers that are started from `program`, and waits until nothing is left of it; says
/// what came of it.
#[task]
fn pool_from(program: String) -> String {
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    set_executable(&program).unwrap();
    let error = match Pool::builder().processes(3).build() {
        Err(error) => error,
        Ok(pool) => pool.apply(double, (1,)).unwrap_err(),
    };
    // The executable and the supervisor's two are kept. The supervisor may be the last one to let go of
    // the pool, a moment after the error.
    let left = || {
        let fds = fs::read_dir("/proc/self/fd").unwrap().count().saturating_sub(before + 3);
        (children_of(process::id()).len(), fds)
    };
    wait_until("nothing is left of the pool", || left() == (0, 0));
    error.to_string()
}

#[test]
fn l12_a_pool_that_can_not_start_leaves_nothing() {
    alone(|| {
        let programs = [("/etc/passwd", "can't start a worker"), ("/bin/true", "ended before it")];
        for (program, says) in programs {
            let helper = Process::new(pool_from, (program.to_owned(),)).start().unwrap();
            let error = helper.join().unwrap();
            assert!(error.contains(says), "{error}");
        }
    });
}

#[task]
fn too_few_descriptors() -> String {
    setrlimit(Resource::RLIMIT_NOFILE, 20, 20).unwrap();
    let error = Pool::builder().processes(30).build().unwrap_err();
    wait_until("nothing is left of the pool", || children_of(process::id()).is_empty());
    error.to_string()
}

#[test]
fn l12_a_pool_that_runs_out_of_descriptors_leaves_nothing() {
    alone(|| {
        let helper = Process::new(too_few_descriptors, ()).start().unwrap();
        let error = helper.join().unwrap();
        assert!(error.contains("can't start a worker") && error.contains("files"), "{error}");
    });
}

// ---- very many tasks --------------------------------------------------------------------------------------

#[task]
fn queue(count: u64) -> (u64, f64, f64) {
    setrlimit(Resource::RLIMIT_NOFILE, 256, 256).unwrap();
    let pool = Pool::builder().processes(2).build().unwrap();
    let start = Instant::now();
    let results: Vec<_> = (0..count).map(|x| pool.apply_async(double, (x,))).collect();
    let queued = start.elapsed().as_secs_f64();
    let sum = results.iter().map(|result| result.get().unwrap()).sum();
    (sum, queued, start.elapsed().as_secs_f64())
}

/// In a process that can't open many descriptors.
fn tasks_can_be_queued(count: u64) {
    alone(|| {
        let helper = Process::new(queue, (count,)).start().unwrap();
        let (sum, queued, all) = helper.join().unwrap();
        println!("queued in {queued:.1} s, done in {all:.1} s");
        assert_eq!(sum, (count - 1) * count);
    });
}

#[test]
fn a_hundred_thousand_tasks_can_be_queued() {
    tasks_can_be_queued(100_000);
}

#[test]
fn a_million_tasks_can_be_queued() {
    tasks_can_be_queued(1_000_000);
}

//! The fork server: what is preloaded, what its workers have and don't have, and what becomes of those that
//! are killed. All other promises are kept by both start methods: `PROCESSION_START_METHOD=forkserver` runs
//! the whole suite with this one.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::{
    Pool, PoolBuilder, Process, SharedArray, StartMethod, Stdio, bind, current_process,
    parent_process, sync, task,
};
use procession_tests::kills::{Count, Random};
use procession_tests::scratch::{Scratch, note, notes, open, pass};
use procession_tests::{alone_with_server as alone, children_of, is_running, wait_until};

fn forked() -> PoolBuilder {
    Pool::builder().start_method(StartMethod::ForkServer)
}

fn signal(pid: u32, signal: Signal) {
    // It may have ended meanwhile.
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

// ---- preload ----------------------------------------------------------------------------------------

/// What the preload task leaves: by whom, and how often.
static LOADED: OnceLock<(u32, String)> = OnceLock::new();
static LOADS: AtomicU64 = AtomicU64::new(0);

#[task]
fn load(log: String, text: String) {
    note(&log, process::id());
    LOADS.fetch_add(1, Ordering::Relaxed);
    LOADED.set((process::id(), text)).unwrap();
}

/// Who has loaded what, and who says so.
#[task]
fn loaded(item: u64) -> (u64, u32, u32) {
    let (by, text) = LOADED.get().unwrap();
    assert_eq!((text.as_str(), LOADS.load(Ordering::Relaxed)), ("model", 1));
    (item, *by, process::id())
}

#[test]
fn what_is_preloaded_once_is_in_all_workers() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = forked().processes(3).preload(load, (log.clone(), "model".to_owned()));
        let pool = pool.build().unwrap();
        let (_, by, _) = pool.apply(loaded, (0,)).unwrap();
        assert_eq!(notes(&log), [by.to_string()]);
        assert_ne!(by, process::id());
        let workers = pool.worker_pids();
        assert!(workers.len() == 3 && !workers.contains(&by));
        // Children of this process, all of them, the server, too.
        let children = children_of(process::id());
        assert!(workers.iter().chain([&by]).all(|pid| children.contains(&(*pid as i32))));
    });
}

#[test]
fn preload_takes_a_fork_server_without_being_told() {
    alone(|| {
        let scratch = Scratch::new();
        let pool = Pool::builder().processes(1);
        let pool = pool.preload(load, (scratch.path("log"), "model".to_owned())).build().unwrap();
        assert_eq!(pool.apply(loaded, (7,)).unwrap().0, 7);
        let spawned = Pool::builder().start_method(StartMethod::Spawn);
        let error = spawned.preload(load, (String::new(), String::new())).build().unwrap_err();
        assert!(error.to_string().contains("ForkServer"), "{error}");
    });
}

#[test]
fn bound_arguments_are_preloaded_too() {
    alone(|| {
        let scratch = Scratch::new();
        let task = bind(load, (scratch.path("log"),));
        let pool = forked().processes(1).preload(task, ("model".to_owned(),)).build().unwrap();
        assert_eq!(pool.apply(loaded, (1,)).unwrap().0, 1);
    });
}

#[task]
fn fail() {
    panic!("no model here");
}

#[task]
fn leave() {
    process::exit(7);
}

#[task]
fn die() {
    process::abort();
}

#[test]
fn a_preload_task_that_fails_is_the_cause() {
    alone(|| {
        let error = forked().processes(2).preload(fail, ()).build().unwrap_err();
        let panic = error.panic().unwrap();
        assert_eq!(panic.message(), "no model here");
        assert!(panic.location().unwrap().contains("forkserver.rs"));
        assert!(error.task().unwrap().ends_with("fail"));
        let error = forked().processes(2).preload(leave, ()).build().unwrap_err();
        assert!(error.to_string().contains("exit status: 7"), "{error}");
        let error = forked().processes(2).preload(die, ()).build().unwrap_err();
        assert!(error.to_string().contains("SIGABRT"), "{error}");
        assert!(error.to_string().contains("die"), "{error}");
    });
}

#[task]
fn start_a_thread(stays: bool) {
    let thread = thread::Builder::new().name("stayer".into()).spawn(move || {
        if stays {
            thread::sleep(Duration::from_secs(3600));
        }
    });
    if !stays {
        thread.unwrap().join().unwrap();
    }
}

#[test]
fn threads_that_preloading_leaves_are_refused() {
    alone(|| {
        let error = forked().processes(1).preload(start_a_thread, (true,)).build().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("threads") && text.contains("stayer"), "{text}");
        forked().processes(1).preload(start_a_thread, (false,)).build().unwrap();
    });
}

static COUNTER: OnceLock<(SharedArray<u64>, sync::Lock)> = OnceLock::new();

#[task]
fn make_a_counter() {
    COUNTER.set((SharedArray::new(1).unwrap(), sync::Lock::new().unwrap())).unwrap();
}

#[task]
fn count(_: u64) -> u64 {
    let (array, lock) = COUNTER.get().unwrap();
    let _guard = lock.lock().unwrap();
    let mut all = array.write().unwrap();
    all[0] += 1;
    all[0]
}

#[test]
fn shared_objects_that_are_preloaded_are_one_for_all() {
    alone(|| {
        let pool = forked().processes(2).max_tasks_per_child(3).preload(make_a_counter, ());
        let pool = pool.build().unwrap();
        let mut counts = pool.call(count).chunksize(1).map(0..60).unwrap();
        counts.sort_unstable();
        assert_eq!(counts, (1..=60).collect::<Vec<_>>());
    });
}

#[task]
fn say(text: String) {
    // Without an end of line it waits in the buffer.
    print!("{text}");
}

#[task]
fn preload_and_work(text: String) -> Vec<u64> {
    let pool = forked().processes(3).preload(say, (text,)).build().unwrap();
    pool.call(|x: u64| x + 1).chunksize(1).map(0..9).unwrap()
}

#[test]
fn what_is_preloaded_says_its_words_once() {
    alone(|| {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let process = Process::new(preload_and_work, ("only once".to_owned(),));
        let process = process.stdout(Stdio::from(writer)).start().unwrap();
        assert_eq!(process.join().unwrap(), (1..10).collect::<Vec<_>>());
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(said, "only once");
    });
}

// ---- workers that come and go -------------------------------------------------------------------------

#[test]
fn a_thousand_workers_one_after_the_other() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = forked().processes(2).max_tasks_per_child(1);
        let pool = pool.preload(load, (log.clone(), "model".to_owned())).build().unwrap();
        let results = pool.call(loaded).chunksize(1).map(0..1000).unwrap();
        let items: Vec<u64> = results.iter().map(|(item, _, _)| *item).collect();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
        let servers: BTreeSet<u32> = results.iter().map(|(_, by, _)| *by).collect();
        let workers: BTreeSet<u32> = results.iter().map(|(_, _, pid)| *pid).collect();
        assert_eq!(servers.len(), 1);
        assert!(workers.len() > 900, "{} processes", workers.len());
        assert_eq!(notes(&log).len(), 1);
    });
}

#[test]
fn a_server_that_is_killed_is_replaced() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = forked().processes(2);
        let pool = pool.preload(load, (log.clone(), "model".to_owned())).build().unwrap();
        for round in 1..=3 {
            let server: u32 = notes(&log).last().unwrap().parse().unwrap();
            signal(server, Signal::SIGKILL);
            wait_until("it is reaped", || !children_of(process::id()).contains(&(server as i32)));
            // Its workers go on without it.
            assert_eq!(pool.apply(loaded, (round,)).unwrap().1, server);
            assert_eq!(notes(&log).len(), round as usize);
            for worker in pool.worker_pids() {
                signal(worker, Signal::SIGKILL);
            }
            wait_until("there is another server", || notes(&log).len() > round as usize);
            wait_until("it works", || {
                pool.apply(loaded, (0,)).is_ok_and(|(_, by, _)| by != server)
            });
        }
    });
}

#[test]
fn servers_and_spares_are_killed_at_any_instant() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = forked().processes(2).max_tasks_per_child(2);
        let pool = pool.preload(load, (log.clone(), "model".to_owned())).build().unwrap();
        let (over, at_work) = (AtomicBool::new(false), AtomicU32::new(0));
        let (mut count, mut random) = (Count::new(), Random::new());
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let results = pool.call(loaded).chunksize(1).retries(1000).imap(0..50);
                    let items = results.map(|result| {
                        let (item, by, _) = result.unwrap();
                        at_work.store(by, Ordering::Relaxed);
                        item
                    });
                    assert!((0..50).eq(items));
                }
            });
            // A pool fails when three servers in a row are killed before they have preloaded.
            let (mut killed, mut early) = (BTreeSet::new(), 0);
            while count.one_more() {
                random.sleep(Duration::from_millis(8));
                wait_until("a server that lives has made a worker", || {
                    let lives = !killed.contains(&at_work.load(Ordering::Relaxed));
                    early = if lives { 0 } else { early };
                    early < 2
                });
                // Whoever is there: spares, workers and the server.
                let children = children_of(process::id());
                let any = children.get(count.kills() as usize / 3 % children.len().max(1));
                let server = notes(&log).last().map(|it| it.parse().unwrap());
                let is_any = count.kills().is_multiple_of(3);
                if let Some(victim) = if is_any { any.map(|it| *it as u32) } else { server } {
                    early += 1;
                    killed.insert(victim);
                    signal(victim, Signal::SIGKILL);
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        println!("{} kills, {} servers", count.kills(), notes(&log).len());
        assert!(notes(&log).len() > 3);
    });
}

#[test]
fn interrupts_are_the_parents() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = forked().processes(2);
        let pool = pool.preload(load, (log.clone(), "model".to_owned())).build().unwrap();
        assert_eq!(pool.apply(loaded, (1,)).unwrap().0, 1);
        for _ in 0..10 {
            for child in children_of(process::id()) {
                signal(child as u32, Signal::SIGINT);
            }
        }
        for worker in pool.worker_pids() {
            signal(worker, Signal::SIGKILL);
        }
        wait_until("others work", || pool.apply(loaded, (1,)).is_ok());
        assert_eq!(notes(&log).len(), 1, "the server is the first one");
    });
}

// ---- what a forked worker has ---------------------------------------------------------------------------

/// What the descriptors of this process are, by kind, but for the one by which it is looked.
#[task]
fn descriptors() -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default().display().to_string();
        let kind = target.split(':').next().unwrap_or_default().to_owned();
        if !kind.starts_with("/proc/") {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    kinds
}

#[test]
fn a_worker_has_the_descriptors_of_a_spawned_one() {
    alone(|| {
        let of_pool = |method| {
            // The last one to be made has the most to inherit.
            let pool = Pool::builder().processes(3).max_tasks_per_child(4).start_method(method);
            let pool = pool.build().unwrap();
            // Its first thread opens a descriptor of its parent while the second is at work.
            let mut found = BTreeMap::new();
            for _ in 0..20 {
                wait_until("it watches its parent", || {
                    found = pool.apply(descriptors, ()).unwrap();
                    found.contains_key("anon_inode")
                });
            }
            found
        };
        assert_eq!(of_pool(StartMethod::ForkServer), of_pool(StartMethod::Spawn));
        let of_process = |method| {
            Process::new(descriptors, ()).start_method(method).start().unwrap().join().unwrap()
        };
        assert_eq!(of_process(StartMethod::ForkServer), of_process(StartMethod::Spawn));
    });
}

#[task]
fn who() -> (String, u32, Option<String>, Option<u32>) {
    let parent = parent_process();
    let name = current_process().name().to_owned();
    (name, process::id(), parent.map(|p| p.name().to_owned()), parent.map(|p| p.pid()))
}

#[test]
fn a_worker_is_itself() {
    alone(|| {
        let process = Process::new(who, ()).name("it").start_method(StartMethod::ForkServer);
        let process = process.start().unwrap();
        let parent = (Some("MainProcess".to_owned()), Some(process::id()));
        let (name, pid, parent_name, parent_pid) = process.join().unwrap();
        assert_eq!((name.as_str(), pid), ("it", process.pid()));
        assert_eq!((parent_name, parent_pid), parent);
        assert!(process.exit_status().unwrap().success());
    });
}

#[task]
fn crash() {
    process::abort();
}

#[test]
fn a_crash_is_told_as_a_spawned_workers() {
    alone(|| {
        let process = Process::new(crash, ()).start_method(StartMethod::ForkServer);
        let error = process.start().unwrap().join().unwrap_err();
        assert!(error.is_worker_lost() && error.to_string().contains("SIGABRT"), "{error}");
    });
}

/// Threads and their locks work: the C library knows the new process's first thread.
#[task]
fn threads() -> usize {
    let handles: Vec<_> = (0..8).map(|i| thread::spawn(move || i)).collect();
    handles.into_iter().map(|handle| handle.join().unwrap()).sum()
}

#[task]
fn nest(depth: u32, log: String) -> Vec<u64> {
    let pool = forked().processes(2).preload(load, (log.clone(), "model".to_owned()));
    let pool = pool.build().unwrap();
    let mut found: Vec<u64> =
        pool.map(loaded, 0..4).unwrap().into_iter().map(|(item, _, _)| item).collect();
    if depth > 0 {
        found.extend(pool.apply(nest_plainly, (depth - 1,)).unwrap());
    }
    found
}

/// In a process that has the statics of `nest`'s.
#[task]
fn nest_plainly(depth: u32) -> Vec<u64> {
    let pool = forked().processes(2).build().unwrap();
    let mut found = pool.map(|x: u64| x + 10, 0..2).unwrap();
    if depth > 0 {
        found.extend(pool.apply(nest_plainly, (depth - 1,)).unwrap());
    }
    found
}

#[test]
fn pools_nest_and_threads_run() {
    alone(|| {
        let scratch = Scratch::new();
        let pool = forked().processes(2).build().unwrap();
        assert_eq!(pool.apply(threads, ()).unwrap(), 28);
        let found = pool.apply(nest, (2, scratch.path("log"))).unwrap();
        assert_eq!(found, [0, 1, 2, 3, 10, 11, 10, 11]);
    });
}

#[task]
fn directory_and_variable() -> (String, Option<String>, usize) {
    let directory = std::env::current_dir().unwrap().display().to_string();
    (directory, std::env::var("COLOUR").ok(), std::env::vars_os().count())
}

#[task]
fn move_and_start(to: String) -> Vec<(String, Option<String>, usize)> {
    let start = || Process::new(directory_and_variable, ()).start_method(StartMethod::ForkServer);
    let first = start().start().unwrap().join().unwrap();
    std::env::set_current_dir(&to).unwrap();
    let second = start().env("COLOUR", "red").start().unwrap().join().unwrap();
    let third = start().env_clear().current_dir("/").start().unwrap().join().unwrap();
    vec![first, second, third]
}

#[test]
fn surroundings_are_those_of_the_parent_at_the_start() {
    alone(|| {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path("there")).unwrap();
        let there = fs::canonicalize(scratch.path("there")).unwrap().display().to_string();
        let helper = Process::new(move_and_start, (there.clone(),)).env("COLOUR", "blue");
        let found = helper.start().unwrap().join().unwrap();
        assert_eq!(found[0].1.as_deref(), Some("blue"));
        assert_eq!((found[1].0.as_str(), found[1].1.as_deref()), (there.as_str(), Some("red")));
        assert_eq!((found[2].0.as_str(), found[2].1.as_deref(), found[2].2), ("/", None, 0));
        assert_ne!(found[0].0, there);
    });
}

#[task]
fn build() -> String {
    Pool::builder().processes(1).build().unwrap_err().to_string()
}

#[test]
fn a_start_method_that_nobody_knows_is_an_error() {
    alone(|| {
        let process = Process::new(build, ()).env("PROCESSION_START_METHOD", "magic");
        let error = process.start().unwrap().join().unwrap();
        assert!(error.contains("magic") && error.contains("forkserver"), "{error}");
    });
}

// ---- the end of the parent --------------------------------------------------------------------------------

#[task]
fn hold_a_pool(log: String, gate: String) {
    let pool = forked().processes(2).preload(load, (log.clone(), "model".to_owned()));
    let pool = pool.build().unwrap();
    assert_eq!(pool.apply(loaded, (0,)).unwrap().0, 0);
    note(&log, "built");
    pass(&gate);
}

#[task]
fn preload_for_ever(log: String, gate: String) {
    note(&log, process::id());
    pass(&gate);
}

#[task]
fn hold_a_preload(log: String, gate: String) {
    let _ = forked().processes(2).preload(preload_for_ever, (log, gate)).build();
}

#[test]
fn nothing_outlives_a_parent_that_is_killed() {
    alone(|| {
        for how in [Signal::SIGKILL, Signal::SIGTERM] {
            for (in_preload, line) in [(false, 2), (true, 1)] {
                let scratch = Scratch::new();
                let (log, gate) = (scratch.path("log"), scratch.path("gate"));
                let task = if in_preload {
                    Process::new(hold_a_preload, (log.clone(), gate.clone())).start().unwrap()
                } else {
                    Process::new(hold_a_pool, (log.clone(), gate.clone())).start().unwrap()
                };
                wait_until("it is at it", || notes(&log).len() == line);
                let children = children_of(task.pid());
                assert!(!children.is_empty());
                signal(task.pid(), how);
                task.join().unwrap_err();
                wait_until("all have ended", || {
                    !children.iter().any(|child| is_running(*child as u32))
                });
                open(&gate);
            }
        }
    });
}

//! What is noticed of a worker's death before the kernel has freed its memory, and what follows at once.
//!
//! That something was early is told by events, not by times: while the process can still be seen, nobody has
//! reaped it, and no pidfd has told of it. With `--nocapture` the times are printed.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]
#![expect(unsafe_code, reason = "tasks end their threads and processes on purpose")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;
use procession::{Pool, Process, task};
use procession_tests::kills::Random;
use procession_tests::scratch::{Scratch, note, notes, open, pass};
use procession_tests::{alone, wait_until};
use serde::{Deserialize, Serialize};

/// How often something that depends on who is faster is tried.
const TRIES: usize = 20;

/// Takes so much memory, for ever.
fn burden(mebibytes: usize) {
    let mut memory = vec![0_u8; mebibytes << 20];
    memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::mem::forget(std::hint::black_box(memory));
}

#[task]
fn carry(mebibytes: usize, log: String) {
    burden(mebibytes);
    note(&log, process::id());
    thread::sleep(Duration::from_secs(3600));
}

#[task]
fn pid() -> u32 {
    process::id()
}

#[task]
fn hold(gate: String) -> u32 {
    pass(&gate);
    process::id()
}

/// Whether a child hasn't been reaped, which the supervisor does as soon as a pidfd tells that it can.
fn is_left(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn sigkill(pid: u32) {
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Kills a worker that has so much memory; says which, with the time that its item's error took.
fn kill_a_worker_with(pool: &Pool, mebibytes: usize, log: &str) -> (u32, Duration) {
    let known = notes(log).len();
    let item = pool.apply_async(carry, (mebibytes, log.to_owned()));
    wait_until("it has its memory", || notes(log).len() > known);
    let victim: u32 = notes(log)[known].parse().unwrap();
    let start = Instant::now();
    sigkill(victim);
    let error = item.get().unwrap_err();
    let took = start.elapsed();
    assert_eq!((error.pid(), error.exit_status().unwrap().signal()), (Some(victim), Some(9)));
    (victim, took)
}

#[test]
fn all_that_follows_from_a_death_is_done_before_the_memory_is_freed() {
    alone(|| {
        let scratch = Scratch::new();
        let (log, gate) = (scratch.path("log"), scratch.path("gate"));
        let pool = Pool::builder().processes(2).build().unwrap();
        let innocent = pool.apply_async(hold, (gate.clone(),));
        let (mut early_errors, mut early_replacements) = (0, 0);
        for _ in 0..TRIES {
            let (victim, took) = kill_a_worker_with(&pool, 512, &log);
            let is_early = is_left(victim);
            early_errors += usize::from(is_early);
            // The other worker holds the innocent task, so this runs where the dead one's successor is.
            let successor = pool.apply(pid, ()).unwrap();
            let ran_early = is_left(victim);
            assert_ne!(successor, victim);
            wait_until("it is reaped", || !is_left(victim));
            early_replacements += usize::from(ran_early);
            println!("an error after {:.3} ms, early: {is_early}, {ran_early}", milliseconds(took));
            if early_errors >= 3 && early_replacements >= 1 {
                break;
            }
        }
        assert!(early_errors >= 3, "{early_errors} errors were early");
        assert!(early_replacements >= 1, "no replacement worked before the dead one had gone");
        open(&gate);
        assert!(pool.worker_pids().contains(&innocent.get().unwrap()));
    });
}

#[test]
fn the_time_from_a_death_to_its_error() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = Pool::builder().processes(2).build().unwrap();
        for mebibytes in [0, 512] {
            let mut times: Vec<Duration> = (0..9)
                .map(|_| {
                    let (victim, took) = kill_a_worker_with(&pool, mebibytes, &log);
                    wait_until("it is reaped", || !is_left(victim));
                    wait_until("another has come", || pool.worker_pids().len() == 2);
                    took
                })
                .collect();
            times.sort();
            let [least, median, most] = [0, 4, 8].map(|i| milliseconds(times[i]));
            println!("{mebibytes} MiB: {least:.3} to {most:.3} ms, median {median:.3} ms");
        }
    });
}

#[test]
fn a_time_limit_does_not_wait_for_the_memory_of_the_killed() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = Pool::builder().processes(1).build().unwrap();
        let is_early = (0..TRIES).any(|_| {
            let limited = pool.call(carry).timeout(Duration::from_secs(1));
            let error = limited.apply((512, log.clone())).unwrap_err();
            assert!(error.is_timeout(), "{error}");
            is_left(error.pid().unwrap())
        });
        assert!(is_early);
    });
}

#[test]
fn who_joins_a_pool_waits_for_the_last_remains() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = Pool::builder().processes(2).build().unwrap();
        let (victim, _) = kill_a_worker_with(&pool, 512, &log);
        pool.close();
        pool.join().unwrap();
        assert!(!is_left(victim));
    });
}

/// How a task ends its process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum End {
    By(i32),
    SegvWithoutCore,
    Abort,
    Exit(i32),
    UnderscoreExit(i32),
    ExitFromAnotherThread(i32),
    KilledFromOutside,
}

#[task]
fn meet(end: End, mebibytes: usize) {
    burden(mebibytes);
    match end {
        End::By(signal) => raise(Signal::try_from(signal).unwrap()).unwrap(),
        End::SegvWithoutCore => {
            setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
            let nowhere = std::ptr::without_provenance::<u32>(16);
            // SAFETY: it is not sound: the address is in the first page, which is never mapped.
            std::hint::black_box(unsafe { nowhere.read_volatile() });
        }
        End::Abort => process::abort(),
        End::Exit(code) => process::exit(code),
        // SAFETY: ends the process at once.
        End::UnderscoreExit(code) => unsafe { libc::_exit(code) },
        End::ExitFromAnotherThread(code) => {
            // SAFETY: as above.
            let _ = thread::spawn(move || unsafe { libc::_exit(code) }).join();
        }
        End::KilledFromOutside => {
            let killer = format!("kill -9 {}", process::id());
            Command::new("sh").args(["-c", &killer]).status().unwrap();
        }
    }
    thread::sleep(Duration::from_secs(3600));
}

#[test]
fn the_early_status_is_the_one_that_waitpid_gives() {
    alone(|| {
        use libc::{SIGBUS, SIGFPE, SIGKILL, SIGQUIT, SIGTERM, SIGTRAP, SIGUSR1, SIGXCPU};

        let signals = [SIGBUS, SIGFPE, SIGKILL, SIGQUIT, SIGTERM, SIGTRAP, SIGUSR1, SIGXCPU];
        let others = [
            End::SegvWithoutCore,
            End::Abort,
            End::Exit(0),
            End::Exit(1),
            End::Exit(255),
            End::UnderscoreExit(0),
            End::UnderscoreExit(9),
            End::ExitFromAnotherThread(0),
            End::ExitFromAnotherThread(7),
            End::KilledFromOutside,
        ];
        let pool = Pool::builder().processes(1).build().unwrap();
        for end in signals.map(End::By).into_iter().chain(others) {
            // A single process is not told of early.
            let process = Process::new(meet, (end, 1)).start().unwrap();
            process.join().unwrap_err();
            let expected = process.exit_status().unwrap();
            let mut early = 0;
            for _ in 0..3 {
                let error = pool.apply(meet, (end, 128)).unwrap_err();
                early += usize::from(is_left(error.pid().unwrap()));
                let status = error.exit_status().unwrap();
                assert_eq!(status.into_raw(), expected.into_raw(), "{end:?}: {error}");
                assert_eq!(
                    error.to_string().contains("called `exit`"),
                    matches!(end, End::Exit(_))
                );
            }
            println!("{end:?}: {expected}, {early} of 3 early");
        }
    });
}

const ENDS_ITS_THREAD: u32 = 3;

#[task]
fn end_a_thread(x: u32) -> u32 {
    if x == ENDS_ITS_THREAD {
        // SAFETY: it ends the thread without unwinding; nobody uses its stack afterwards.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    x
}

#[test]
fn a_worker_whose_thread_ends_alone_is_killed() {
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        let results = pool.call(end_a_thread).chunksize(4).try_map(0..10);
        for (x, result) in (0..).zip(results) {
            match result {
                Ok(value) => assert_eq!(value, x),
                Err(error) => {
                    assert_eq!(x, ENDS_ITS_THREAD, "{error}");
                    assert!(error.to_string().contains("an end of the thread"), "{error}");
                }
            }
        }
    });
}

#[task]
fn mix(x: u64) -> u64 {
    // A little work, so that the kills meet it.
    (0..500).fold(x, |sum, i| sum.rotate_left(7) ^ i)
}

#[test]
fn two_hundred_kills_cost_an_item_each_at_most() {
    const KILLS: usize = 200;
    const ITEMS: u64 = 5000;

    alone(|| {
        let pool = Pool::builder().processes(3).build().unwrap();
        let mut random = Random::new();
        let (mut kills, mut lost, mut rounds) = (0, 0, 0);
        while kills < KILLS {
            let results = thread::scope(|scope| {
                let work = scope.spawn(|| pool.try_map(mix, 0..ITEMS));
                while !work.is_finished() && kills < KILLS {
                    random.sleep(Duration::from_millis(5));
                    if let Some(pid) = pool.worker_pids().get(kills % 3) {
                        let _ = kill(Pid::from_raw(*pid as i32), Signal::SIGKILL);
                        kills += 1;
                    }
                }
                work.join().unwrap()
            });
            assert_eq!(results.len() as u64, ITEMS);
            for (i, result) in results.into_iter().enumerate() {
                match result {
                    Ok(x) => assert_eq!(x, mix(i as u64)),
                    Err(error) => {
                        assert_eq!(error.index(), Some(i), "{error}");
                        assert_eq!(error.exit_status().unwrap().signal(), Some(9), "{error}");
                        lost += 1;
                    }
                }
            }
            rounds += 1;
        }
        assert!(lost <= kills, "{lost} items lost by {kills} kills");
        println!("{kills} kills in {rounds} rounds, {lost} items lost");
    });
}

/// How often the threads that watch over workers have been woken.
fn wakes_of_the_watch() -> u64 {
    let mut wakes = None;
    for thread in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        if status.starts_with("Name:\tprocession end\n") {
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:"));
            *wakes.get_or_insert(0) +=
                line.unwrap().split('\t').nth(1).unwrap().parse::<u64>().unwrap();
        }
    }
    wakes.expect("there is such a thread")
}

#[test]
fn nothing_is_done_while_all_live() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = Pool::builder().processes(3).build().unwrap();
        let _items: Vec<_> = (0..3).map(|_| pool.apply_async(carry, (1, log.clone()))).collect();
        wait_until("all are at work", || notes(&log).len() == 3);
        let mut before = wakes_of_the_watch();
        wait_until("nothing happens any more", || {
            thread::sleep(Duration::from_millis(300));
            let now = wakes_of_the_watch();
            std::mem::replace(&mut before, now) == now
        });
        thread::sleep(Duration::from_millis(500));
        assert_eq!(wakes_of_the_watch(), before);
        sigkill(pool.worker_pids()[0]);
        wait_until("it is woken by a death", || wakes_of_the_watch() > before);
    });
}

/// More than one thread can watch.
#[test]
fn every_one_of_many_workers_is_watched() {
    const WORKERS: usize = 130;

    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let pool = Pool::builder().processes(WORKERS).build().unwrap();
        let items: Vec<_> =
            (0..WORKERS).map(|_| pool.apply_async(carry, (1, log.clone()))).collect();
        wait_until("all are at work", || notes(&log).len() == WORKERS);
        let victims = pool.worker_pids();
        victims.iter().for_each(|pid| sigkill(*pid));
        let start = Instant::now();
        pool.close();
        let mut lost: Vec<u32> =
            items.iter().map(|item| item.get().unwrap_err().pid().unwrap()).collect();
        println!("{WORKERS} errors after {:.1} ms", milliseconds(start.elapsed()));
        lost.sort_unstable();
        let mut expected = victims;
        expected.sort_unstable();
        assert_eq!(lost, expected);
        pool.join().unwrap();
    });
}

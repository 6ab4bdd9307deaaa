//! Whole programs that lack something from their start: processors, addresses, memory to share. What they
//! call works or is an error that says why; nothing hangs, and nothing dies of a signal.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::thread;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use procession_tests::alone;
use procession_tests::no_memory::NoMemory;
use procession_tests::program::{Ended, Program};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hooked");
const SCENARIO: &str = "a_little_of_everything";

/// What the program says of each verb, in this order.
const VERBS: [&str; 8] = [
    "apply",
    "map",
    "map of bytes",
    "long arguments",
    "map of long arguments",
    "imap",
    "queue",
    "process",
];

fn all_works(ended: &Ended) {
    let expected: String = VERBS.iter().map(|verb| format!("{verb} works\n")).collect();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(ended.stdout, expected + "the end\n", "{}", ended.stderr);
}

/// Runs the program from a thread that has first made its own surroundings, which the program inherits.
fn run_after(prepare: impl FnOnce() + Send + 'static) -> Ended {
    let thread = thread::spawn(|| {
        prepare();
        Program::start(PROGRAM, &[SCENARIO]).finish()
    });
    thread.join().unwrap()
}

#[test]
fn one_processor() {
    alone(|| {
        let ended = run_after(|| {
            let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
            let mut one = CpuSet::new();
            one.set((0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap()).unwrap()).unwrap();
            sched_setaffinity(Pid::from_raw(0), &one).unwrap();
        });
        all_works(&ended);
    });
}

/// As in a container that limits the addresses of each process, to so many MiB.
fn with_addresses(mebibytes: u64) -> Ended {
    let mut command = Command::new("sh");
    let limit = (mebibytes << 10).to_string();
    command.args(["-c", "ulimit -v $2 && exec $0 $1", PROGRAM, SCENARIO, &limit]);
    Program::start_command(command).finish()
}

#[test]
fn enough_addresses() {
    alone(|| all_works(&with_addresses(1024)));
}

#[test]
fn too_few_addresses() {
    alone(|| {
        for mebibytes in [4, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 96, 112, 128, 160, 192, 256] {
            let ended = with_addresses(mebibytes);
            assert_eq!(ended.status.signal(), None, "{mebibytes} MiB: {ended:?}");
            println!("{mebibytes} MiB: {ended:?}");
        }
    });
}

#[test]
fn no_memory_for_longer_rings() {
    alone(|| all_works(&run_after(|| NoMemory::InRings.begin())));
}

#[test]
fn no_memory_to_share() {
    alone(|| {
        let ended = run_after(|| NoMemory::AtAll.begin());
        assert!(ended.status.success() && ended.stdout.ends_with("the end\n"), "{ended:?}");
        println!("{ended:?}");
    });
}

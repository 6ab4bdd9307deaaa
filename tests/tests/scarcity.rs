//! Whole programs that lack something from their start: processors, addresses, memory to share. What they
//! call works or is an error that says why; nothing hangs, and nothing dies of a signal.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::thread;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
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

/// Where a program asks for memory itself and there is none, Rust ends it: that is the one signal. And it may
/// have no room for its own code.
#[test]
fn too_few_addresses() {
    alone(|| {
        let mut works = 0;
        for mebibytes in [8, 10, 12, 16, 20, 28, 40, 64, 150] {
            let ended = with_addresses(mebibytes);
            let is_rusts = ended.status.signal() == Some(Signal::SIGABRT as i32)
                && ended.stderr.contains("memory allocation of");
            let is_no_program = ended.stderr.contains("error while loading shared libraries");
            let is_whole = ended.status.success() && ended.stdout.ends_with("the end\n");
            assert!(is_rusts || is_no_program || is_whole, "{mebibytes} MiB: {ended:?}");
            works += usize::from(ended.stdout.contains("map works"));
        }
        assert!((1..9).contains(&works), "some limits are too tight, and some are not");
    });
}

/// Whether memory can be reserved at a place of a shared file.
fn can_reserve(offset: i64) -> bool {
    let file = memfd_create("procession-tests", MFdFlags::MFD_CLOEXEC).unwrap();
    fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, 4096).is_ok()
}

#[test]
fn no_memory_for_longer_rings() {
    alone(|| {
        let ended = run_after(|| {
            NoMemory::InRings.begin();
            let places =
                [0, 0x2_0000, 0x3_0000, 0x10_0000, 0x11_0000, 0x12_0000, 0x13_0000, 1 << 46];
            let can = places.map(can_reserve);
            assert_eq!(can, [true, true, false, true, false, true, false, true]);
        });
        all_works(&ended);
    });
}

#[test]
fn no_memory_to_share() {
    alone(|| {
        let ended = run_after(|| {
            NoMemory::AtAll.begin();
            assert!(!can_reserve(0));
        });
        assert!(ended.status.success(), "{ended:?}");
        let says: Vec<&str> = ended.stdout.lines().collect();
        let why = "can't start a worker: No space left on device (os error 28)";
        assert_eq!(says, [&format!("pool: {why}"), &format!("process: {why}"), "the end"]);
    });
}

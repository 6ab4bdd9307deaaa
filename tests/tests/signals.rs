//! Ctrl-C: S1 of the conformance list.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::{Pool, task};
use procession_tests::program::Program;
use procession_tests::scenarios::wait_for_file;
use procession_tests::{alone, is_running, wait_until};

#[test]
fn s1_ctrl_c_ends_the_program_without_orphans_and_without_a_word() {
    alone(|| {
        for path in [env!("CARGO_BIN_EXE_guarded"), env!("CARGO_BIN_EXE_hooked")] {
            let mut program = Program::start(path, &["busy"]);
            let workers: Vec<u32> = (0..3).map(|_| program.number("busy")).collect();
            // What a terminal does: everyone in the foreground gets it.
            program.signal_group(Signal::SIGINT);
            let status = program.wait();
            assert_eq!(status.signal(), Some(Signal::SIGINT as i32));
            for pid in workers {
                wait_until("no worker is left", || !is_running(pid));
            }
            let ended = program.finish();
            assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
        }
    });
}

#[task]
fn wait_for(gate: String, item: u32) -> (u32, u32) {
    fs::write(format!("{gate}-{item}"), "").unwrap();
    wait_for_file(&gate);
    (item, process::id())
}

#[test]
fn s1_an_interrupt_of_the_workers_alone_changes_nothing() {
    alone(|| {
        let gate = format!("{}/s1-{}", env!("CARGO_TARGET_TMPDIR"), process::id());
        let pool = Pool::builder().processes(2).build().unwrap();
        let workers: BTreeSet<u32> = pool.worker_pids().into_iter().collect();
        let items = (0..2).map(|item| (gate.clone(), item));
        let result = pool.call(wait_for).chunksize(1).starmap_async(items);
        for item in 0..2 {
            wait_for_file(&format!("{gate}-{item}"));
        }
        for pid in &workers {
            for _ in 0..3 {
                kill(Pid::from_raw(*pid as i32), Signal::SIGINT).unwrap();
            }
        }
        fs::write(&gate, "").unwrap();
        let (items, pids): (Vec<u32>, BTreeSet<u32>) = result.get().unwrap().into_iter().unzip();
        assert_eq!(items, [0, 1]);
        assert_eq!(pids, workers);
        assert_eq!(pool.worker_pids().into_iter().collect::<BTreeSet<u32>>(), workers);
        for path in [gate.clone(), format!("{gate}-0"), format!("{gate}-1")] {
            fs::remove_file(path).unwrap();
        }
    });
}

#[task]
fn interrupt_a_program() -> Option<i32> {
    let status = Command::new("sh").args(["-c", "kill -INT $$; exit 0"]).status().unwrap();
    status.signal()
}

/// What a worker does about Ctrl-C is not inherited by the programs that its tasks start.
#[test]
fn s1_programs_that_a_task_starts_can_be_interrupted() {
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        assert_eq!(pool.apply(interrupt_a_program, ()).unwrap(), Some(Signal::SIGINT as i32));
    });
}

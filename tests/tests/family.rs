//! What becomes of children when parents end, in whatever way: P5 and P7 of the conformance list.
//!
//! A helper program starts children of all kinds, and the test ends it.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{self, Command, Stdio};

use nix::sys::signal::Signal;
use procession_tests::program::Program;
use procession_tests::{alone, is_running, wait_until};

const PROGRAMS: [&str; 2] = [env!("CARGO_BIN_EXE_guarded"), env!("CARGO_BIN_EXE_hooked")];

/// The program and its descendants, all of them at work.
struct Family {
    program: Program,
    /// Daemons and workers of the program, and their daemons and workers.
    tied: Vec<u32>,
    /// Joined at a normal end.
    others: Vec<u32>,
    /// The daemon of one of the others.
    kept: u32,
}

impl Family {
    fn of(mut program: Program) -> Self {
        let (mut tied, mut others, mut kept) = (Vec::new(), Vec::new(), 0);
        for _ in 0..8 {
            let line = program.line();
            let (word, pid) = line.split_once(' ').expect("a word and a number");
            let pid = pid.parse().expect("a number");
            match word {
                "daemon" | "patriarch" | "grandchild" | "pooled" | "worker" => tied.push(pid),
                "other" | "independent" => others.push(pid),
                "kept" => kept = pid,
                _ => panic!("{line:?}"),
            }
        }
        assert_eq!((tied.len(), others.len()), (5, 2));
        Self { program, tied, others, kept }
    }

    fn wait_for_the_end_of_the_tied(&self) {
        for pid in &self.tied {
            wait_until("all that are tied to the program have ended", || !is_running(*pid));
        }
    }
}

#[test]
fn p5_children_of_a_killed_parent() {
    alone(|| {
        for path in PROGRAMS {
            for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGABRT] {
                let mut family = Family::of(Program::start(path, &["family", "wait"]));
                family.program.signal(signal);
                assert_eq!(family.program.wait().signal(), Some(signal as i32));
                family.wait_for_the_end_of_the_tied();
                // The others live on, and so does what is tied to them.
                for pid in family.others.iter().chain([&family.kept]) {
                    assert!(is_running(*pid), "{signal}");
                }
                let Family { program, others, kept, .. } = family;
                let ended = program.finish();
                assert_eq!(ended.stdout, "other done\n");
                assert_eq!(ended.stderr, "", "{signal}");
                for pid in others.into_iter().chain([kept]) {
                    wait_until("the others have ended", || !is_running(pid));
                }
            }
        }
    });
}

#[test]
fn p5_children_at_a_normal_end() {
    alone(|| {
        let ends = [("return", 0), ("exit", 7), ("panic", 101)];
        for (path, (end, code)) in PROGRAMS.into_iter().flat_map(|path| ends.map(|end| (path, end)))
        {
            let gate = format!("{}/p5-{}", env!("CARGO_TARGET_TMPDIR"), process::id());
            let _ = fs::remove_file(&gate);
            let mut command = Command::new(path);
            command.args(["family", "when_asked"]).env("GATE", &gate).env("END", end);
            command.stdin(Stdio::piped());
            let mut family = Family::of(Program::start_command(command));
            fs::write(&gate, "").unwrap();
            // The daemons are ended first; the program waits for the others.
            family.wait_for_the_end_of_the_tied();
            assert!(family.program.is_running() && is_running(family.kept), "{end}");
            family.program.close_stdin();
            assert_eq!(family.program.wait().code(), Some(code), "{end}");
            for pid in family.others.iter().chain([&family.kept]) {
                assert!(!is_running(*pid), "the program has ended before its child, by {end}");
            }
            assert_eq!(family.program.finish().stdout, "other done\n");
            fs::remove_file(&gate).unwrap();
        }
    });
}

#[test]
fn p7_the_parent_can_be_waited_for() {
    alone(|| {
        for path in PROGRAMS {
            let mut program = Program::start(path, &["orphan"]);
            assert_eq!(program.number("waits"), program.pid());
            program.signal(Signal::SIGKILL);
            assert_eq!(program.finish().stdout, "the parent is gone\n");
        }
    });
}

/// The system throws statuses away where SIGCHLD is ignored, and that is inherited.
#[test]
fn children_whose_status_is_lost_still_end() {
    alone(|| {
        // `dash` ignores the request to ignore it.
        let mut command = Command::new("bash");
        command.args(["-c", "trap '' CHLD; exec \"$0\" lost_statuses", PROGRAMS[1]]);
        command.stdin(Stdio::null());
        let ended = Program::start_command(command).finish();
        let lines: Vec<&str> = ended.stdout.lines().collect();
        assert_eq!(lines[0], "9 None", "{ended:?}");
        assert_eq!(lines[lines.len() - 2..], ["true None", "[1, 4, 9]"], "{ended:?}");
        assert!(ended.status.success());
    });
}

//! The processes that are forked ahead for [`Process`]: that they are used, and replaced when they are killed,
//! and that nobody else has to do with them.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::process;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::{Process, StartMethod};
use procession_tests::{alone_with_server as alone, children_of, is_running, wait_until};

fn signal(pid: u32, signal: Signal) {
    // It may have ended meanwhile.
    let _ = kill(Pid::from_raw(pid as i32), signal);
}

/// A process that runs to its end.
fn run_one() -> u32 {
    let process = Process::new(process::id, ()).start_method(StartMethod::ForkServer);
    let process = process.start().unwrap();
    assert_eq!(process.join().unwrap(), process.pid());
    process.pid()
}

/// The children of this process that are there while no process runs, when they are all there: the oldest one
/// is the server of single processes, the others are its spares.
fn server_and_spares() -> (u32, Vec<u32>) {
    let mut children = Vec::new();
    wait_until("there are spares", || {
        run_one();
        children = children_of(process::id());
        children.sort_by_key(|child| started_at(*child as u32));
        children.len() == 3
    });
    let mut children = children.into_iter().map(|child| child as u32);
    (children.next().unwrap(), children.collect())
}

/// In ticks since boot, and among those of one tick in the order of their numbers.
fn started_at(pid: u32) -> (u64, u32) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    (fields.split_ascii_whitespace().nth(19).map_or(0, |field| field.parse().unwrap()), pid)
}

#[test]
fn the_server_of_single_processes_stays_and_is_replaced() {
    alone(|| {
        let (first, _) = server_and_spares();
        assert_eq!(server_and_spares().0, first);
        assert!(procession::active_children().is_empty());
        for _ in 0..20 {
            let (server, spares) = server_and_spares();
            signal(server, Signal::SIGKILL);
            // It may be dying, or dead and not noticed yet.
            run_one();
            wait_until("its spares have gone with it", || {
                let children = children_of(process::id());
                !spares.iter().chain([&server]).any(|pid| children.contains(&(*pid as i32)))
            });
            assert_ne!(server_and_spares().0, server);
        }
        // One that is stopped is none: there are its spares, and then other servers.
        signal(server_and_spares().0, Signal::SIGSTOP);
        for _ in 0..4 {
            run_one();
        }
    });
}

#[test]
fn a_process_is_forked_ahead() {
    alone(|| {
        let (_, spares) = server_and_spares();
        assert!(procession::active_children().is_empty());
        assert!(spares.contains(&run_one()));
    });
}

#[test]
fn spares_that_are_killed_are_replaced() {
    alone(|| {
        for _ in 0..20 {
            let (server, spares) = server_and_spares();
            for spare in &spares {
                signal(*spare, Signal::SIGKILL);
            }
            wait_until("they have ended", || !spares.iter().any(|spare| is_running(*spare)));
            assert!(!spares.contains(&run_one()));
            assert_eq!(server_and_spares().0, server);
            wait_until("they are reaped", || {
                let children = children_of(process::id());
                !spares.iter().any(|spare| children.contains(&(*spare as i32)))
            });
        }
    });
}

#[test]
fn an_interrupt_before_its_start_is_not_a_processs_own() {
    alone(|| {
        let (_, spares) = server_and_spares();
        for spare in spares {
            signal(spare, Signal::SIGINT);
        }
        run_one();
        run_one();
    });
}

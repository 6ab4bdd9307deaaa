//! One process that runs one function: P1 to P4 and P7 of the conformance list, and what the handle
//! promises. What a process finds around it is in `surroundings.rs`, what becomes of children when
//! parents end in `family.rs`.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::future::Future;
use std::io::{Write, pipe, read_to_string};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::Pid;
use procession::{Process, Stdio, active_children, task};
use procession_tests::gate::{gated, until_the_gate_opens};
use procession_tests::{alone, block_on, children_of, is_running, wait_until};

#[task]
fn nothing() {}

// ---- P1: exit ---------------------------------------------------------------------------------------

#[task]
fn add(a: u32, b: u32) -> u32 {
    a + b
}

#[test]
fn p1_a_return_is_0() {
    alone(|| {
        let process = Process::new(add, (20, 22)).start().unwrap();
        assert_eq!(process.join().unwrap(), 42);
        assert_eq!(process.exit_status().unwrap().code(), Some(0));
    });
}

#[task]
fn fail(text: String) -> u32 {
    panic!("{text} happened")
}

#[test]
fn p1_a_panic_is_101_and_told_to_both_sides() {
    alone(|| {
        let (reader, writer) = pipe().unwrap();
        let process = Process::new(fail, ("this".into(),)).stderr(writer).start().unwrap();
        let error = process.join().unwrap_err();
        let panic = error.panic().expect("a panic is typed");
        assert_eq!(panic.message(), "this happened");
        assert!(panic.location().unwrap().contains("tests/process.rs:"), "{panic:?}");
        assert!(error.task().unwrap().ends_with("::fail"));
        assert_eq!(error.pid(), Some(process.pid()));
        assert!(!error.is_worker_lost() && !error.is_timeout());
        assert_eq!(process.exit_status().unwrap().code(), Some(101));
        let told = read_to_string(reader).unwrap();
        assert_eq!(told.matches("this happened").count(), 1, "{told}");
    });
}

#[task]
fn exit_with(code: i32) {
    process::exit(code)
}

#[test]
fn p1_exit_codes_are_taken_modulo_256() {
    alone(|| {
        for (code, status) in [(0, 0), (3, 3), (255, 255), (256, 0), (263, 7), (-1, 255)] {
            let process = Process::new(exit_with, (code,)).start().unwrap();
            let error = process.join().unwrap_err();
            assert!(error.is_worker_lost());
            assert_eq!(error.exit_status().unwrap().code(), Some(status), "exit({code})");
            assert_eq!(process.exit_status(), error.exit_status());
            assert!(error.to_string().contains("called `exit`"), "{error}");
        }
    });
}

#[task]
fn end_by(signal: i32) {
    raise(Signal::try_from(signal).unwrap()).unwrap();
}

#[test]
fn p1_a_signal_is_reported_as_that_signal() {
    alone(|| {
        use Signal::{SIGABRT, SIGINT, SIGKILL, SIGSEGV, SIGTERM, SIGUSR1};
        for signal in [SIGINT, SIGTERM, SIGKILL, SIGUSR1, SIGABRT, SIGSEGV] {
            let process = Process::new(end_by, (signal as i32,)).start().unwrap();
            let error = process.join().unwrap_err();
            assert!(error.is_worker_lost());
            assert_eq!(error.exit_status().unwrap().signal(), Some(signal as i32));
            assert_eq!(process.exit_status(), error.exit_status());
            assert!(error.to_string().contains(signal.as_str()), "{error}");
            assert!(error.to_string().contains(&process.pid().to_string()), "{error}");
        }
    });
}

// ---- P2: a builder is no process --------------------------------------------------------------------

#[test]
fn p2_a_builder_that_is_dropped_starts_nothing() {
    alone(|| {
        let before = children_of(process::id());
        let builder = Process::new(nothing, ()).name("never").daemon(true);
        assert!(format!("{builder:?}").contains("never"));
        drop(builder);
        assert_eq!(children_of(process::id()), before);
    });
}

// ---- P3: joining ------------------------------------------------------------------------------------

#[test]
fn p3_join_can_be_repeated_or_timed_out() {
    alone(|| {
        let (process, gate) = gated(Process::new(until_the_gate_opens, (5,)));
        for _ in 0..2 {
            let start = Instant::now();
            let error = process.join_timeout(Duration::from_millis(30)).unwrap_err();
            assert!(start.elapsed() >= Duration::from_millis(30));
            assert!(error.is_timeout() && !error.is_worker_lost(), "{error}");
            assert!(error.task().unwrap().ends_with("::until_the_gate_opens"));
            assert!(process.is_alive());
            assert_eq!(process.exit_status(), None);
        }
        assert!(process.join_timeout(Duration::ZERO).unwrap_err().is_timeout());
        drop(gate);
        assert_eq!(process.join().unwrap(), 5);
        assert_eq!(process.join().unwrap(), 5);
        assert_eq!(process.join_timeout(Duration::ZERO).unwrap(), 5);
        assert_eq!(process.join_timeout(Duration::MAX).unwrap(), 5);
        assert!(!process.is_alive());
    });
}

#[test]
fn p3_an_error_can_be_asked_for_again() {
    alone(|| {
        let process = Process::new(exit_with, (9,)).start().unwrap();
        let first = process.join().unwrap_err().to_string();
        assert_eq!(process.join().unwrap_err().to_string(), first);
        assert_eq!(process.join_timeout(Duration::ZERO).unwrap_err().to_string(), first);
    });
}

/// What each of many threads sees of one process must be the same.
fn observe_from_many_threads(process: &Process<u32>, end: impl FnOnce()) -> Vec<String> {
    thread::scope(|scope| {
        let mut observers = Vec::new();
        for i in 0..12 {
            observers.push(scope.spawn(move || {
                match i % 4 {
                    0 => {}
                    1 => {
                        while process
                            .join_timeout(Duration::from_millis(1))
                            .is_err_and(|e| e.is_timeout())
                        {}
                    }
                    2 => {
                        while process.is_alive() {
                            thread::yield_now();
                        }
                    }
                    _ => assert_eq!(procession::wait(&[process], None).unwrap(), [0]),
                }
                assert!(!process.is_alive() || i % 4 == 0);
                let result = process.join();
                assert!(!process.is_alive());
                let status = process.exit_status().expect("a joined process has a status");
                format!("{result:?} {status:?}")
            }));
        }
        thread::sleep(Duration::from_millis(5));
        end();
        observers.into_iter().map(|observer| observer.join().unwrap()).collect()
    })
}

#[test]
fn p3_joining_polling_and_waiting_from_many_threads_agree() {
    alone(|| {
        for round in 0..5 {
            let (process, gate) = gated(Process::new(until_the_gate_opens, (round,)));
            let mut seen = observe_from_many_threads(&process, || drop(gate));
            seen.dedup();
            assert_eq!(seen.len(), 1, "{seen:?}");
            assert!(seen[0].starts_with(&format!("Ok({round})")), "{seen:?}");

            let (process, _gate) = gated(Process::new(until_the_gate_opens, (round,)));
            let mut seen = observe_from_many_threads(&process, || process.kill().unwrap());
            seen.dedup();
            assert_eq!(seen.len(), 1, "{seen:?}");
            assert!(seen[0].contains("SIGKILL"), "{seen:?}");
        }
    });
}

// ---- P4: names and Debug ----------------------------------------------------------------------------

#[task]
fn own_name() -> String {
    procession::current_process().name().to_owned()
}

#[task]
fn names_of_children(count: u32) -> Vec<(String, String)> {
    let name = |_| {
        let child = Process::new(own_name, ()).start().unwrap();
        (child.name().to_owned(), child.join().unwrap())
    };
    (0..count).map(name).collect()
}

#[test]
fn p4_default_names_count_and_nest() {
    alone(|| {
        let number = |process: &Process<_>| -> u32 {
            process.name().strip_prefix("Process-").expect("a default name").parse().unwrap()
        };
        let first = Process::new(names_of_children, (2,)).start().unwrap();
        let second = Process::new(names_of_children, (0,)).start().unwrap();
        assert_eq!(number(&second), number(&first) + 1);
        let nested = [1, 2].map(|i| format!("{}:{i}", first.name()));
        let expected = nested.map(|name| (name.clone(), name));
        assert_eq!(first.join().unwrap(), expected);
    });
}

#[test]
fn p4_a_given_name_is_known_on_both_sides() {
    alone(|| {
        for name in ["worker-7", "größer (than) \"15\" bytes\nin two lines", "nul\0in it", "{}"] {
            let process = Process::new(own_name, ()).name(name).start().unwrap();
            assert_eq!(process.name(), name);
            assert_eq!(process.join().unwrap(), name);
        }
        assert_eq!(procession::current_process().name(), "MainProcess");
        assert_eq!(procession::current_process().pid(), process::id());
    });
}

#[test]
fn p4_debug_shows_name_pid_and_state() {
    alone(|| {
        let (process, gate) = gated(Process::new(until_the_gate_opens, (0,)).name("debugged"));
        let pid = process.pid();
        assert_eq!(format!("{process:?}"), format!("Process(debugged, pid {pid}, started)"));
        drop(gate);
        process.join().unwrap();
        assert_eq!(format!("{process:?}"), format!("Process(debugged, pid {pid}, exited(0))"));

        let process = Process::new(exit_with, (3,)).start().unwrap();
        let _ = process.join();
        assert!(format!("{process:?}").ends_with(", exited(3))"), "{process:?}");

        let (process, _gate) = gated(Process::new(until_the_gate_opens, (0,)));
        process.terminate().unwrap();
        let _ = process.join();
        assert!(format!("{process:?}").ends_with(", killed(SIGTERM))"), "{process:?}");
    });
}

// ---- P7: relatives ----------------------------------------------------------------------------------

#[test]
fn p7_active_children_are_those_that_have_not_ended() {
    alone(|| {
        let (one, _gate) = gated(Process::new(until_the_gate_opens, (1,)).name("one"));
        let (two, gate) = gated(Process::new(until_the_gate_opens, (2,)).name("two"));
        let names = || -> Vec<String> {
            active_children().iter().map(|child| child.name().to_owned()).collect()
        };
        assert_eq!(names(), ["one", "two"]);
        drop(gate);
        two.join().unwrap();
        assert_eq!(names(), ["one"]);

        let child = active_children().remove(0);
        assert_eq!(child.pid(), one.pid());
        assert!(child.is_alive());
        assert_eq!(format!("{child:?}"), format!("{one:?}"));
        child.terminate().unwrap();
        assert_eq!(procession::wait(&[&child], None).unwrap(), [0]);
        assert_eq!(child.join().unwrap().signal(), Some(Signal::SIGTERM as i32));
        assert!(one.join().unwrap_err().is_worker_lost());
        assert!(active_children().is_empty());
    });
}

#[test]
fn p7_active_children_reaps_what_nobody_joins() {
    alone(|| {
        let (process, _gate) = gated(Process::new(until_the_gate_opens, (1,)));
        let pid = Pid::from_raw(process.pid() as i32);
        // Behind the runtime's back.
        kill(pid, Signal::SIGKILL).unwrap();
        wait_until("it is gone", || active_children().is_empty());
        assert!(!children_of(process::id()).contains(&pid.as_raw()), "not even as a zombie");
    });
}

#[task]
fn parent_is() -> (u32, String, bool, bool) {
    let parent = procession::parent_process().unwrap();
    let start = Instant::now();
    let ended = parent.join_timeout(Some(Duration::from_millis(20)));
    assert!(start.elapsed() >= Duration::from_millis(20));
    (parent.pid(), parent.name().to_owned(), parent.is_alive(), ended)
}

#[task]
fn parent_of_a_child() -> (u32, String, bool, bool) {
    Process::new(parent_is, ()).start().unwrap().join().unwrap()
}

#[test]
fn p7_parent_process_is_none_in_the_first() {
    alone(|| {
        assert!(procession::parent_process().is_none());
        let child = Process::new(parent_is, ()).start().unwrap();
        assert_eq!(child.join().unwrap(), (process::id(), "MainProcess".into(), true, false));
        let child = Process::new(parent_of_a_child, ()).name("middle").start().unwrap();
        let pid = child.pid();
        assert_eq!(child.join().unwrap(), (pid, "middle".into(), true, false));
    });
}

// ---- the handle -------------------------------------------------------------------------------------

#[test]
fn terminate_and_kill_are_sigterm_and_sigkill() {
    alone(|| {
        let (process, _gate) = gated(Process::new(until_the_gate_opens, (0,)));
        process.terminate().unwrap();
        assert_eq!(process.join().unwrap_err().exit_status().unwrap().signal(), Some(15));
        let (process, _gate) = gated(Process::new(until_the_gate_opens, (0,)));
        process.kill().unwrap();
        assert_eq!(process.join().unwrap_err().exit_status().unwrap().signal(), Some(9));
        // Too late is no error.
        process.terminate().unwrap();
        process.kill().unwrap();
    });
}

#[test]
fn the_descriptor_is_readable_when_the_process_has_ended() {
    alone(|| {
        let (process, gate) = gated(Process::new(until_the_gate_opens, (0,)));
        let ready = |timeout| {
            let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
            poll(&mut polled, timeout).unwrap()
        };
        assert_eq!(ready(PollTimeout::ZERO), 0);
        assert!(process.as_fd().as_raw_fd() > 2);
        drop(gate);
        assert_eq!(ready(PollTimeout::NONE), 1);
        assert!(!process.is_alive());
        process.join().unwrap();
        assert_eq!(ready(PollTimeout::NONE), 1);
    });
}

#[test]
fn wait_gives_all_that_are_ready() {
    alone(|| {
        let (one, gate_1) = gated(Process::new(until_the_gate_opens, (1,)));
        let (two, _gate_2) = gated(Process::new(until_the_gate_opens, (2,)));
        let (three, gate_3) = gated(Process::new(until_the_gate_opens, (3,)));
        let (reader, mut writer) = pipe().unwrap();
        let wait = |timeout| procession::wait(&[&one, &two, &three, &reader], timeout).unwrap();

        let start = Instant::now();
        assert!(wait(Some(Duration::from_millis(30))).is_empty());
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert!(wait(Some(Duration::ZERO)).is_empty());

        drop(gate_1);
        assert_eq!(wait(None), [0]);
        drop(gate_3);
        three.join().unwrap();
        assert_eq!(wait(None), [0, 2]);
        writer.write_all(b"!").unwrap();
        assert_eq!(wait(Some(Duration::MAX)), [0, 2, 3]);
        two.kill().unwrap();
    });
}

#[test]
fn a_process_can_be_awaited() {
    alone(|| {
        let (mut process, gate) = gated(Process::new(until_the_gate_opens, (7,)));
        {
            // A poll by someone who is never heard of again.
            let poll = pin!(&mut process).poll(&mut Context::from_waker(Waker::noop()));
            assert!(poll.is_pending());
        }
        let opener = thread::spawn(move || {
            thread::sleep(Duration::from_millis(10));
            drop(gate);
        });
        assert_eq!(block_on(&mut process).unwrap(), 7);
        assert_eq!(block_on(&mut process).unwrap(), 7);
        assert_eq!(process.join().unwrap(), 7);
        opener.join().unwrap();

        let process = Process::new(fail, ("that".into(),)).stderr(Stdio::null()).start().unwrap();
        assert_eq!(block_on(process).unwrap_err().panic().unwrap().message(), "that happened");
        let process = Process::new(exit_with, (2,)).start().unwrap();
        assert_eq!(block_on(process).unwrap_err().exit_status().unwrap().code(), Some(2));
    });
}

#[task]
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| i as u8).collect()
}

/// Whether it fits into the shared page, or goes through the socket.
#[test]
fn results_of_any_length_come_back() {
    alone(|| {
        for count in (0..8192).step_by(1023).chain((15..23).map(|power| (1 << power) - 3)) {
            let process = Process::new(bytes, (count,)).start().unwrap();
            assert_eq!(process.join().unwrap(), bytes(count));
        }
    });
}

#[test]
fn a_dropped_handle_leaves_no_zombie_and_kills_nothing() {
    alone(|| {
        let (process, gate) = gated(Process::new(until_the_gate_opens, (0,)));
        let pid = process.pid();
        drop(process);
        assert!(is_running(pid));
        assert_eq!(active_children().len(), 1);
        drop(gate);
        // Nobody but the runtime is there to reap it.
        wait_until("it is reaped", || !children_of(process::id()).contains(&(pid as i32)));
    });
}

#[test]
fn many_processes_at_once_leave_nothing_behind() {
    alone(|| {
        let all: Vec<_> = (0..24).map(|i| Process::new(add, (i, 1)).start().unwrap()).collect();
        for (process, i) in all.iter().zip(1..) {
            assert_eq!(process.join().unwrap(), i);
        }
    });
}

/// A parent-death signal, say, would hit them: it comes when the starting *thread* ends.
#[test]
fn children_of_a_thread_that_ends_live_on() {
    alone(|| {
        for daemon in [false, true] {
            let start = move || gated(Process::new(until_the_gate_opens, (6,)).daemon(daemon));
            let (process, gate) = thread::spawn(start).join().unwrap();
            assert!(process.join_timeout(Duration::from_millis(100)).unwrap_err().is_timeout());
            drop(gate);
            assert_eq!(process.join().unwrap(), 6);
        }
    });
}

#[task]
fn nest(levels: u32) -> u32 {
    if levels == 0 {
        return 0;
    }
    Process::new(nest, (levels - 1,)).start().unwrap().join().unwrap() + 1
}

#[test]
fn processes_nest() {
    alone(|| assert_eq!(Process::new(nest, (4,)).start().unwrap().join().unwrap(), 4));
}

//! What a process finds around it: P6 and P8 of the conformance list, environment, directory, stack and
//! cores.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs::{self, File};
use std::io::{Read, Write, pipe, read_to_string};
use std::os::unix::process::ExitStatusExt;
use std::process;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use procession::{Process, ProcessBuilder, Stdio, active_children, task};
use procession_tests::alone;
use procession_tests::gate::{gated, until_the_gate_opens};

#[task]
fn nothing() {}

// ---- P6: standard streams ---------------------------------------------------------------------------

#[task]
fn streams() -> Vec<String> {
    let path = |i| fs::read_link(format!("/proc/self/fd/{i}")).unwrap().display().to_string();
    (0..3).map(path).collect()
}

#[task]
fn stdin_to_the_end() -> String {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn p6_stdin_is_dev_null_and_the_rest_inherited() {
    alone(|| {
        let process = Process::new(streams, ()).start().unwrap();
        let mut expected = streams();
        expected[0] = "/dev/null".into();
        assert_eq!(process.join().unwrap(), expected);
        let process = Process::new(stdin_to_the_end, ()).start().unwrap();
        assert_eq!(process.join().unwrap(), "");
    });
}

#[test]
fn p6_streams_can_be_null() {
    alone(|| {
        let process = Process::new(streams, ()).stdout(Stdio::null()).stderr(Stdio::null());
        assert_eq!(process.start().unwrap().join().unwrap(), ["/dev/null"; 3]);
    });
}

#[task]
fn echo() {
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        println!("out {line}");
        eprintln!("err {line}");
    }
}

#[test]
fn p6_streams_can_be_pipes() {
    alone(|| {
        let (stdout, out) = pipe().unwrap();
        let (stderr, err) = pipe().unwrap();
        let (process, mut gate) = gated(Process::new(echo, ()).stdout(out).stderr(err));
        gate.write_all(b"one\ntwo\n").unwrap();
        drop(gate);
        // The handle is still there: it must not keep the write ends open.
        assert_eq!(read_to_string(stdout).unwrap(), "out one\nout two\n");
        assert_eq!(read_to_string(stderr).unwrap(), "err one\nerr two\n");
        process.join().unwrap();
    });
}

#[test]
fn p6_one_stream_can_be_a_file() {
    alone(|| {
        let path = format!("{}/p6-{}.txt", env!("CARGO_TARGET_TMPDIR"), process::id());
        let file = File::create_new(&path).unwrap();
        Process::new(print, ("to a file".into(), false))
            .stdout(file)
            .start()
            .unwrap()
            .join()
            .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "to a file");
        fs::remove_file(path).unwrap();
    });
}

#[task]
fn print(text: String, and_exit: bool) {
    print!("{text}");
    if and_exit {
        process::exit(4);
    }
}

#[test]
fn p6_output_is_flushed_at_exit() {
    alone(|| {
        for and_exit in [false, true] {
            let (reader, writer) = pipe().unwrap();
            let process = Process::new(print, ("no end of line".into(), and_exit));
            let process = process.stdout(writer).start().unwrap();
            assert_eq!(process.join().is_err(), and_exit);
            assert_eq!(read_to_string(reader).unwrap(), "no end of line");
        }
    });
}

// ---- P8: descriptors --------------------------------------------------------------------------------

#[task]
fn descriptors() -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let mut all: Vec<_> = entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, fs::read_link(entry.path()).ok()?.display().to_string()))
        })
        .filter(|(_, path)| !path.ends_with("/fd"))
        .collect();
    all.sort();
    all
}

#[test]
fn p8_no_descriptor_of_the_parent_reaches_a_child() {
    alone(|| {
        let files: Vec<File> = (0..20).map(|_| File::open("/dev/zero").unwrap()).collect();
        for file in &files {
            fcntl(file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        }
        let (other, _gate) = gated(Process::new(until_the_gate_opens, (0,)).daemon(true));
        for daemon in [false, true] {
            let process = Process::new(descriptors, ()).daemon(daemon).start().unwrap();
            let found = process.join().unwrap();
            let extra: Vec<_> = found.into_iter().filter(|(number, _)| *number > 2).collect();
            // Its own socket, the memory that the family shares, and the sentinel of its parent.
            let (sockets, others): (Vec<_>, Vec<_>) =
                extra.into_iter().partition(|(_, path)| path.starts_with("socket:"));
            assert_eq!(sockets.len(), 1, "{sockets:?}");
            let (heaps, others): (Vec<_>, Vec<_>) =
                others.into_iter().partition(|(_, path)| path.contains("memfd:procession-heap"));
            assert_eq!(heaps.len(), 1, "{heaps:?}");
            assert!(others.len() <= 1, "{others:?}");
            assert!(others.iter().all(|(_, path)| path.contains("pidfd")), "{others:?}");
        }
        other.kill().unwrap();
    });
}

// ---- surroundings -----------------------------------------------------------------------------------

#[task]
fn environment() -> Vec<(String, String)> {
    let mut all: Vec<_> = std::env::vars().collect();
    all.sort();
    all
}

fn environment_of(builder: ProcessBuilder<Vec<(String, String)>>) -> Vec<(String, String)> {
    builder.start().unwrap().join().unwrap()
}

#[test]
fn the_environment_is_the_parents_with_changes() {
    alone(|| {
        assert_eq!(environment_of(Process::new(environment, ())), environment());
        let changed = Process::new(environment, ()).env("PATH", "/nowhere").env("ADDED", "ä=b\nc");
        let mut expected = environment();
        expected.retain(|(name, _)| name != "PATH");
        expected.push(("PATH".into(), "/nowhere".into()));
        expected.push(("ADDED".into(), "ä=b\nc".into()));
        expected.sort();
        assert_eq!(environment_of(changed), expected);
    });
}

#[test]
fn a_cleared_environment_has_only_what_is_set() {
    alone(|| {
        assert_eq!(environment_of(Process::new(environment, ()).env_clear()), []);
        let builder =
            Process::new(environment, ()).env("BEFORE", "1").env_clear().env("AFTER", "2");
        let expected = [("AFTER".into(), "2".into()), ("BEFORE".into(), "1".into())];
        assert_eq!(environment_of(builder), expected);
    });
}

#[test]
fn a_variable_that_is_set_twice_has_the_last_value() {
    alone(|| {
        let builder = Process::new(environment, ()).env_clear().env("TWICE", "1").env("TWICE", "2");
        assert_eq!(environment_of(builder), [("TWICE".into(), "2".into())]);
    });
}

/// Otherwise the child would take itself for the program and run it once more.
#[test]
fn our_own_variable_can_not_be_set() {
    alone(|| {
        let builder = Process::new(environment, ()).env_clear().env("PROCESSION_WORKER", "3.x");
        assert_eq!(environment_of(builder), []);
    });
}

#[test]
fn a_variable_that_no_system_takes_is_an_error() {
    alone(|| {
        let error = Process::new(nothing, ()).env("A\0B", "").start().unwrap_err();
        assert!(error.to_string().contains("can't start"), "{error}");
    });
}

#[task]
fn directory() -> std::path::PathBuf {
    std::env::current_dir().unwrap()
}

#[test]
fn the_current_directory_can_be_chosen() {
    alone(|| {
        let here = std::env::current_dir().unwrap();
        assert_eq!(Process::new(directory, ()).start().unwrap().join().unwrap(), here);
        let process = Process::new(directory, ()).current_dir("/proc").start().unwrap();
        assert_eq!(process.join().unwrap(), std::path::Path::new("/proc"));
        let error = Process::new(directory, ()).current_dir("/no/such/place").start().unwrap_err();
        assert!(error.to_string().contains("No such file"), "{error}");
        assert!(active_children().is_empty());
    });
}

#[task]
fn deep(frames: u32) -> u32 {
    let room = std::hint::black_box([1_u8; 16 * 1024]);
    if frames == 0 { 0 } else { deep(frames - 1) + u32::from(room[frames as usize % room.len()]) }
}

#[test]
fn the_stack_has_the_size_that_was_asked_for() {
    alone(|| {
        let process = Process::new(deep, (1500,)).stack_size(64 << 20).start().unwrap();
        assert_eq!(process.join().unwrap(), 1500);
        let process = Process::new(deep, (1500,)).stack_size(1 << 20).stderr(Stdio::null());
        let error = process.start().unwrap().join().unwrap_err();
        assert_eq!(error.exit_status().unwrap().signal(), Some(Signal::SIGSEGV as i32));
        assert!(error.to_string().contains("stack"), "{error}");
    });
}

#[task]
fn cores() -> (usize, usize) {
    let all = procession::cpu_count();
    let mut one = CpuSet::new();
    let mine = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let first = (0..CpuSet::count()).find(|cpu| mine.is_set(*cpu).unwrap()).unwrap();
    one.set(first).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    (all, procession::cpu_count())
}

#[test]
fn cpu_count_respects_the_affinity() {
    alone(|| {
        let (all, one) = Process::new(cores, ()).start().unwrap().join().unwrap();
        assert_eq!(all, procession::cpu_count());
        assert_eq!(one, 1);
    });
}

//! What starting and joining a process costs, next to the bare system calls. To be run in release mode, with
//! `--ignored --nocapture`, on a machine that does nothing else.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::env;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use procession::{Pool, Process, StartMethod, task};

const ROUNDS: usize = 400;

#[task]
fn nothing() {}

/// The median time of one call, in microseconds.
fn median(mut f: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn bare_spawn(environment: &[CString]) {
    let mut actions = PosixSpawnFileActions::init().unwrap();
    // What it says of having nothing to do isn't to be seen.
    let null = File::options().write(true).open("/dev/null").unwrap();
    actions.add_dup2(null.as_raw_fd(), 1).unwrap();
    let attributes = PosixSpawnAttr::init().unwrap();
    // There is no test of that name, so it does nothing.
    let arguments = [c"start_costs", c"--exact", c"no such test", c"-q"];
    let program = c"/proc/self/exe";
    let child = posix_spawn(program, &actions, &attributes, &arguments, environment).unwrap();
    waitpid(child, None).unwrap();
}

#[test]
#[ignore = "it measures, and says nothing about right and wrong"]
fn start_and_join() {
    let environment: Vec<CString> = env::vars_os()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            CString::new(name.into_vec()).unwrap()
        })
        .collect();
    let mut server = Command::new(env!("CARGO_BIN_EXE_bare_forks"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut input, mut output) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
    let mut fork = || {
        input.write_all(&[0]).unwrap();
        let mut pid = [0; 4];
        output.read_exact(&mut pid).unwrap();
        waitpid(Pid::from_raw(i32::from_le_bytes(pid)), None).unwrap();
    };
    let start = |method| {
        move || Process::new(nothing, ()).start_method(method).start().unwrap().join().unwrap()
    };
    let pool = Pool::builder().processes(1).max_tasks_per_child(1);
    let pool = pool.start_method(StartMethod::ForkServer).build().unwrap();
    for _ in 0..3 {
        let bare = median(&mut fork);
        let forked = median(start(StartMethod::ForkServer));
        println!("bare fork {bare:.0} us, fork server {forked:.0} us: {:.2}", forked / bare);
        let bare = median(|| bare_spawn(&environment));
        let spawned = median(start(StartMethod::Spawn));
        println!("bare spawn {bare:.0} us, spawn {spawned:.0} us: {:.2}", spawned / bare);
        let recycled = median(|| pool.apply(nothing, ()).unwrap());
        println!("a task in a worker of its own, from a pool: {recycled:.0} us");
    }
    drop(input);
    server.wait().unwrap();
}

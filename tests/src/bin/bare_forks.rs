//! The floor for a fork server, to measure against: for each byte on its standard input it forks a sibling,
//! which ends at once, and answers with its number.

#![expect(unsafe_code, reason = "clone has no safe wrapper")]

use std::io::{Read, Write, stdin, stdout};
use std::process;

use nix::libc;

fn main() {
    let (mut input, mut output) = (stdin().lock(), stdout().lock());
    while input.read_exact(&mut [0]).is_ok() {
        let flags = i64::from(libc::CLONE_PARENT | libc::SIGCHLD);
        // SAFETY: without CLONE_VM the new process goes on on its own copy of this stack, and this one has
        // one thread, so that no lock is held in the copy.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        if pid == 0 {
            process::exit(0);
        }
        output.write_all(&(pid as i32).to_le_bytes()).expect("somebody listens");
        output.flush().expect("somebody listens");
    }
}

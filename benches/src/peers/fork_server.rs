//! The floor of starting a process by a fork server: a request, a fork, its end, and the answer.
//!
//! The server is this same executable, started anew, so that its pages are as many as a worker's. It has
//! one thread and forks for each byte that it reads; the child leaves at once.
#![expect(unsafe_code, reason = "fork is what is measured, and it is unsafe")]

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use super::{Peer, Setup};
use crate::measure::p50;
use crate::work::{Speed, Work};

/// The head of the column.
pub const NAME: &str = "bare fork server";

/// The argument by which the server knows what it is.
pub(super) const SERVE: &str = "--fork-server";

/// A server and the socket to it.
#[derive(Debug)]
pub struct ForkServer {
    socket: Option<UnixStream>,
    server: Child,
    speed: Speed,
}

impl ForkServer {
    /// Starts the server.
    ///
    /// # Panics
    /// It can't be started.
    pub fn new(setup: &Setup) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket");
        let server = Command::new("/proc/self/exe")
            .arg(SERVE)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .spawn()
            .expect("a server");
        Self { socket: Some(ours), server, speed: setup.speed(Speed::Fast) }
    }
}

impl Peer for ForkServer {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        if work != Work::StartForked {
            return None;
        }
        let socket = self.socket.as_mut().expect("it is open until the drop");
        Some(p50(work.count(self.speed), || {
            let mut answer = [0];
            socket.write_all(&[1]).expect("the server is there");
            socket.read_exact(&mut answer).expect("it answers");
        }))
    }
}

/// The end of its input ends the server.
impl Drop for ForkServer {
    fn drop(&mut self) {
        self.socket = None;
        let _ = self.server.wait();
    }
}

/// What the server does until its socket is closed.
pub(super) fn serve() {
    let socket = io::stdin().as_fd().try_clone_to_owned().expect("a descriptor");
    let mut socket = UnixStream::from(socket);
    let mut request = [0];
    while socket.read_exact(&mut request).is_ok() {
        // SAFETY: A forked child of a program with threads may call only what is async-signal-safe. This
        // process has one thread: `serve` is called first in `main`, and nothing before it starts one.
        match unsafe { fork() }.expect("a child") {
            // SAFETY: It ends this process and touches no memory; nothing here needs a destructor.
            ForkResult::Child => unsafe { libc::_exit(0) },
            ForkResult::Parent { child } => {
                let status = waitpid(child, None).expect("its status");
                assert!(matches!(status, WaitStatus::Exited(_, 0)), "the child {status:?}");
            }
        }
        socket.write_all(&request).expect("somebody waits for it");
    }
}

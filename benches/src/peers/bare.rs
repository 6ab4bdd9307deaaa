//! The floor of starting a process: posix_spawn and waitpid, nothing else.
//!
//! The child is this same executable, dynamically linked as it is, with the same environment. It is told
//! by an argument to return from `main` at once, so it pays for the kernel's exec, the dynamic linker,
//! the constructors, std's start and exit, as a worker does; it has no sockets and runs nothing.

use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::{WaitStatus, waitpid};

use super::{Peer, Setup};
use crate::measure::p50;
use crate::work::{Speed, Work};

/// The head of the column.
pub const NAME: &str = "posix_spawn";

/// The argument by which the child knows that it has nothing to do.
pub(super) const LEAVE: &str = "--leave-at-once";

/// Starts bare children.
#[derive(Debug)]
pub struct Bare {
    environment: Vec<CString>,
    speed: Speed,
}

impl Bare {
    /// With the environment of this process.
    pub fn new(setup: &Setup) -> Self {
        let entry = |(mut name, value): (std::ffi::OsString, _)| {
            name.push("=");
            name.push(value);
            CString::new(name.into_vec()).expect("a variable has no zero in it")
        };
        let environment = std::env::vars_os().map(entry).collect();
        Self { environment, speed: setup.speed(Speed::Fast) }
    }

    fn start_and_wait(&self) {
        let actions = PosixSpawnFileActions::init().expect("memory");
        let attributes = PosixSpawnAttr::init().expect("memory");
        let leave = CString::new(LEAVE).expect("it has no zero in it");
        let arguments = [c"side_by_side", &leave];
        let program = c"/proc/self/exe";
        let child = posix_spawn(program, &actions, &attributes, &arguments, &self.environment);
        let status = waitpid(child.expect("a child"), None).expect("its status");
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "the child {status:?}");
    }
}

impl Peer for Bare {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        (work == Work::StartAndJoin).then(|| p50(work.count(self.speed), || self.start_and_wait()))
    }
}

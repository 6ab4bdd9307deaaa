//! The guard: a process that was started as a worker never reaches the user's `main` by accident.
//!
//! ```text
//! UNKNOWN --hook or init(), no invitation--> PROGRAM   an ordinary process, which may start workers
//! UNKNOWN --hook, invitation, no #[main]---> worker    (never returns)
//! UNKNOWN --hook, invitation, #[main]------> INVITED   on the way to `main`
//! INVITED --init()-------------------------> worker    (never returns)
//! INVITED --Pool or Process is created-----> refused   tells the parent what is missing, and exits
//! ```
//!
//! An invitation is an environment variable that names an inherited Unix socket in which a hello with
//! the same nonce waits. Anything less is ignored. Only this file moves the state.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::os::memory::Shared;
use crate::os::module::Module;
use crate::os::{environment, exit, hook, socket};
use crate::shm::page::Page;
use crate::transport::frame::{Header, Kind};
use crate::transport::hello::{self, Nonce};
use crate::transport::worker_ends;
use crate::worker::{self, dispatch};

enum State {
    Unknown,
    Program,
    Invited(OwnedFd),
}

static STATE: Mutex<State> = Mutex::new(State::Unknown);

const REMEDY: &str = "put #[procession::main] over `fn main`, or call procession::init() first in \
                      it, or enable procession's default feature `hook`";

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes this process a worker if it was started as one; otherwise does nothing.
///
/// Call it first in `main` when you can't use [`#[procession::main]`](crate::main) and have switched
/// the feature `hook` off. In a worker it never returns. With the feature on, it is not needed.
///
/// ```
/// procession::init();
/// // The rest of `main` runs in the parent only.
/// ```
pub fn init() {
    let mut state = state();
    let before = std::mem::replace(&mut *state, State::Program);
    drop(state);
    match before {
        State::Unknown => {
            if let Some(socket) = invitation() {
                take_over(socket);
            }
        }
        State::Invited(socket) => take_over(socket),
        State::Program => {}
    }
}

#[expect(unsafe_code, reason = "linkme puts a pointer to the function into a linker section")]
mod registration {
    #[linkme::distributed_slice(crate::os::hook::PROCESSION_0_1_BEFORE_MAIN)]
    static REGISTERED: fn() = super::before_main;
}

/// Runs before `main`, as the hook calls it.
fn before_main() {
    let Some(socket) = invitation() else {
        *state() = State::Program;
        return;
    };
    if dispatch::waits_for_main() {
        *state() = State::Invited(socket);
    } else {
        *state() = State::Program;
        hook::run_remaining_constructors();
        take_over(socket);
    }
}

/// Whether this process may start workers.
///
/// # Errors
/// No guard has been passed, or the program isn't a Rust executable with this crate in it.
pub(crate) fn check() -> Result<(), Error> {
    // Its workers would ignore their invitation, as this process has to, and start workers in turn.
    if exit::is_privileged() {
        return Err(Error::usage(
            "a set-user-id program, or one with file capabilities, can't start workers: it must not \
             let its environment decide what it runs",
        ));
    }
    let mut state = state();
    if matches!(*state, State::Unknown) {
        // Threads may run already, so the environment is left as it is.
        let value = std::env::var(hello::VARIABLE).ok();
        *state = value.and_then(accept).map_or(State::Unknown, State::Invited);
    }
    match &*state {
        State::Invited(socket) => refuse(socket),
        State::Unknown => Err(Error::usage(format!(
            "this program has no guard, so its workers would run `main` again: {REMEDY}"
        ))),
        State::Program if !Module::current().is_executable() => Err(Error::usage(
            "procession is part of a shared library here (a plugin or an extension module); workers \
             can be started only from a Rust executable that contains it",
        )),
        State::Program => Ok(()),
    }
}

/// The socket from the parent, if this process was started as a worker.
fn invitation() -> Option<OwnedFd> {
    if exit::is_privileged() {
        return None;
    }
    accept(environment::take(hello::VARIABLE)?)
}

/// The socket that an invitation names, if it is a true one.
fn accept(value: String) -> Option<OwnedFd> {
    let (number, nonce) = value.split_once('.')?;
    let nonce = Nonce::from_hex(nonce)?;
    socket::adopt(number.parse().ok()?, |socket| hello::waits_in(socket, nonce))
}

fn take_over(socket: OwnedFd) -> ! {
    let hello = socket::close_on_exec(socket.as_fd()).and_then(|()| hello::receive(socket.as_fd()));
    match hello {
        Ok((hello, fds)) => worker::run(socket, hello, fds),
        Err(error) => {
            eprintln!("procession: this worker got no hello: {error}");
            process::exit(1)
        }
    }
}

/// A worker that is about to start workers of its own instead of serving: the fork bomb's first step.
fn refuse(socket: &OwnedFd) -> ! {
    let text = format!(
        "the worker ran `main` instead of taking tasks, because the program has no guard: {REMEDY}"
    );
    eprintln!("procession: {text}");
    let _ = tell_the_parent(socket, &text);
    process::exit(1)
}

fn tell_the_parent(socket: &OwnedFd, text: &str) -> io::Result<()> {
    let (hello, fds) = hello::receive(socket.as_fd())?;
    let page = Arc::new(Shared::<Page>::open(fds.page.as_fd())?);
    let socket = Arc::new(UnixStream::from(socket.try_clone()?));
    let (_, mut output) = worker_ends(&hello, socket, page, fds.page.as_fd())?;
    let header = Header::new(Kind::Refused, 0, text.len()).to_bytes();
    output.write([&header, text.as_bytes()])?;
    output.flush()
}

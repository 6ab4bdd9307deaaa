//! Fork servers as their parent sees them.
//!
//! ```text
//! PREPARING ---it has preloaded---> SERVING ---killed, or no longer needed---> OVER ---reaped---> BURIED
//!     |                                                                         ^
//!     +---it can't start, or can't preload--------------------------------------+
//! ```
//!
//! A request goes out with the socket of the worker that is to be; the answer is its number. The worker
//! waits for its hello from this process. So a worker can be asked for ahead, and is a *spare* until it gets
//! its hello: taking one costs a message. Who ends a server lets go of its spares, which end then.
//!
//! Nobody waits for a server that may be at the preload task, but a pool that is being made. Where there is
//! no server, the next start makes a new one, and is tried again when that serves.
//!
//! Processes are this one's children, made by another one: their numbers come by its answers, in the order
//! of the requests, and, for the last one, from the page that the kernel writes to. Whichever way it dies,
//! every child is known, and reaped: by the crew that it works for, or else by the supervisor.

mod before;
mod server;

use std::io::{self, ErrorKind};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::server::{PATIENCE, Trouble, is_unsent};
use super::staff::Task;
use super::start::{self, Started, Surroundings};
use super::turnover::cant_start;
use crate::error::Error;
use crate::os::image;
use crate::transport::hello::{Changes, Hello, Role};

pub(super) use self::server::Server;

/// So many servers in a row may be killed during one start.
const TRIES: usize = 3;

/// So many processes are kept ready for [`Process`](crate::Process): one for the next start, and one that is
/// being made meanwhile. Each takes some 30 KiB of its own, 50 KiB of page tables, and what the kernel keeps of
/// a process.
const SPARES: usize = 2;

/// Makes workers by forking, with one server after the other if these are killed.
pub(crate) struct ForkServer {
    /// What it makes: workers of a pool, or single processes.
    makes: Role,
    preload: Option<Task>,
    /// How many workers are kept ready.
    spares: usize,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    server: Option<Arc<Server>>,
    is_over: bool,
}

/// The server for the processes that no pool has.
pub(crate) fn shared() -> Arc<ForkServer> {
    static SHARED: Mutex<Option<(u32, Arc<ForkServer>)>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    match &*shared {
        Some((owner, server)) if *owner == process::id() => Arc::clone(server),
        other => {
            // A copy of this process, which somebody has forked, has no part in the other one's server.
            let foreign = other.as_ref().map(|(_, server)| Arc::clone(server));
            std::mem::forget(foreign);
            let server = ForkServer::new(Role::Process { daemon: false }, None, SPARES);
            *shared = Some((process::id(), Arc::clone(&server)));
            server
        }
    }
}

impl ForkServer {
    /// Starts nothing yet.
    pub(crate) fn new(makes: Role, preload: Option<Task>, spares: usize) -> Arc<Self> {
        Arc::new(Self { makes, preload, spares, current: Mutex::default() })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the task is preloaded and so many workers are ready to be started.
    ///
    /// # Errors
    /// The server, or the task, has failed; or the system refuses.
    pub(crate) fn prepare(&self, workers: usize, start_limit: Duration) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let server = self.server().map_err(|error| cant_start(&error))?;
            let cause = match server.prepare(workers + self.spares, start_limit) {
                Ok(()) => return Ok(()),
                Err(Trouble::Gone { was_killed: true, .. }) if tries < TRIES => continue,
                Err(Trouble::Gone { cause, .. }) => cause,
                Err(Trouble::System(error)) => cant_start(&error),
                Err(Trouble::Later) => server.is_late(start_limit),
            };
            server.clear_away();
            return Err(cause);
        }
    }

    /// The server, a new one if need be.
    fn server(&self) -> io::Result<Arc<Server>> {
        let mut current = self.current();
        if current.is_over {
            return Err(io::Error::other("the pool is over"));
        }
        match &current.server {
            Some(server) if !server.is_over() && server.program == image::program() => {
                Ok(Arc::clone(server))
            }
            old => {
                old.iter().for_each(|server| server.end());
                let server = Server::launch(self.makes, self.preload.as_ref())?;
                current.server = Some(Arc::clone(&server));
                Ok(server)
            }
        }
    }

    /// Starts a worker. For a pool, what would take long is `WouldBlock`, and to be tried again.
    pub(super) fn start(&self, hello: Hello, surroundings: &Surroundings) -> io::Result<Started> {
        if hello.role == Role::Pool { self.take(hello) } else { self.make(hello, surroundings) }
    }

    fn take(&self, mut hello: Hello) -> io::Result<Started> {
        hello.changes = Some(Changes::default());
        let server = self.server()?;
        let mut line = server.line();
        let taken = server.take(&mut line, &hello, &[], PATIENCE);
        server.refill(&mut line, if taken.is_ok() { self.spares } else { 0 });
        match taken {
            Ok(started) => Ok(started),
            Err(Trouble::System(error)) => Err(error),
            Err(Trouble::Gone { cause, was_killed: false }) => {
                Err(io::Error::other(cause.to_string()))
            }
            Err(Trouble::Gone { .. } | Trouble::Later) => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn make(&self, mut hello: Hello, surroundings: &Surroundings) -> io::Result<Started> {
        for _ in 0..TRIES {
            let server = self.server()?;
            match server.make(&mut hello, surroundings) {
                Ok(started) => return Ok(started),
                Err(Trouble::System(error)) if is_unsent(&error) => break,
                Err(Trouble::System(error)) => return Err(error),
                Err(Trouble::Gone { was_killed: true, .. }) => {}
                Err(Trouble::Gone { .. } | Trouble::Later) => {
                    server.end();
                    break;
                }
            }
        }
        // It takes longer, and is the same.
        hello.changes = None;
        start::spawn(&hello, surroundings)
    }

    /// Has processes made ahead, for the next starts. To be called when a started one has all that it needs,
    /// since this takes as long as starting it.
    pub(crate) fn refill(&self) {
        let server = self.current().server.clone();
        if let Some(server) = server {
            server.refill(&mut server.line(), self.spares);
        }
    }

    /// Ends the server, and makes no more.
    pub(crate) fn end(&self) {
        let mut current = self.current();
        current.is_over = true;
        if let Some(server) = current.server.take() {
            server.end();
        }
    }
}

impl Drop for ForkServer {
    fn drop(&mut self) {
        self.end();
    }
}

//! The fork server: a copy of the program that makes workers by forking itself.
//!
//! ```text
//! NEW ---preload---> LOADED ---fork, any number of times---> LOADED ---the parent has gone---> (ends)
//!  |                                                           ^
//!  +---fork, where there is nothing to preload-----------------+
//! ```
//!
//! It has one thread, always: a process with threads can't be forked safely, as these may hold locks that
//! nobody would release in the copy. The parent sends with each request the socket of the worker that is to
//! be; the server keeps no copy of it. The new process is the parent's child, not the server's. It waits
//! for its hello, for a moment or parked for later, and goes the way of any worker from there.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;

use super::dispatch::{Args, RunError};
use super::life::{self, Never};
use super::{build, identity, panics, tasks};
use crate::os::fork::{self, Alone, Forked};
use crate::os::memory::Shared;
use crate::os::{environment, exit, fault, signals, socket, wait};
use crate::shm::heap;
use crate::shm::page::Page;
use crate::transport::codec;
use crate::transport::frame::{Header, Kind};
use crate::transport::hello::{self, Changes, Hello, Role};
use crate::transport::message::{CalleeBytes, Items, TaskHead};

/// Serves the parent until its end; in each new process, becomes a worker.
pub(super) fn serve(socket: OwnedFd, hello: Hello, page_fd: OwnedFd) -> io::Result<Never> {
    let page = Shared::<Page>::open(page_fd.as_fd())?;
    // No worker is to inherit it.
    drop(page_fd);
    let mut line = Line { socket: UnixStream::from(socket), parent: None };
    if !hello.build.agrees_with(build::own()) {
        line.say(Kind::Refused, 0, life::refusal(&hello).as_bytes());
        return Err(io::Error::other("it is another build than its parent"));
    }
    let Some(parent) = life::pidfd_of_parent(hello.parent) else { exit::leave(0) };
    line.parent = parent;
    signals::ignore_broken_pipes();
    identity::set(hello);
    panics::install(None);
    line.say(Kind::Ready, 0, &[]);

    let mut bound = Vec::new();
    let mut alone = None;
    loop {
        let (header, body, worker) = line.next()?;
        match (header.kind, worker) {
            (Kind::Bind, None) => bound = body,
            (Kind::Init, None) => {
                line.preload(&body, &bound)?;
                alone = Some(line.check_alone("the preload task has left threads running"));
                let _ = fork::pass_code_on();
                line.say(Kind::InitDone, 0, &[]);
            }
            (Kind::Fork, Some(worker)) => {
                if alone.is_none() {
                    let why = "the program starts threads before its `main`";
                    alone = Some(line.check_alone(why));
                    prepare()?;
                    let _ = fork::pass_code_on();
                }
                let alone = alone.as_ref().expect("it was looked at");
                match alone.fork_sibling(&page.forked) {
                    Ok(Forked::Caller(pid)) => {
                        // The copy is the one that counts: the parent sees when that is closed.
                        drop(worker);
                        line.say(Kind::Forked, pid, &[]);
                    }
                    Ok(Forked::New) => {
                        let parent = line.parent.take();
                        drop((line, page));
                        become_worker(worker, parent)
                    }
                    Err(error) => {
                        let number = error.raw_os_error().unwrap_or_default();
                        line.say(Kind::NotForked, number.unsigned_abs(), &[]);
                    }
                }
            }
            _ => return Err(not_understood()),
        }
    }
}

/// Does what would be the same in each new process, so that it is done once: a process has to copy each page
/// that it changes, and to look up again what it is the first to call. Where a task was preloaded this is
/// left to them, for the task may have set handlers of its own, over which a worker's stand.
fn prepare() -> io::Result<()> {
    life::watch_ends()?;
    fault::watch_main_stack()?;
    // The C library is asked for the call that registers destructors of thread-locals.
    let _ = panics::catch(|| ());
    Ok(())
}

fn not_understood() -> io::Error {
    io::Error::other("it can't understand its parent")
}

/// The way to the parent. Without it there is nothing to live for.
struct Line {
    socket: UnixStream,
    /// The other witness of the parent's end: see [`life`].
    parent: Option<OwnedFd>,
}

impl Line {
    fn say(&mut self, kind: Kind, number: u32, body: &[u8]) {
        let mut frame = Header::new(kind, number, body.len()).to_bytes().to_vec();
        frame.extend_from_slice(body);
        if self.socket.write_all(&frame).is_err() {
            exit::leave(0);
        }
    }

    /// The next frame, and the socket beside it. Nothing is read ahead, since what is read without room
    /// for descriptors loses them.
    fn next(&mut self) -> io::Result<(Header, Vec<u8>, Option<OwnedFd>)> {
        wait_for_news(self.socket.as_fd(), self.parent.as_ref())?;
        let mut head = [0; Header::SIZE];
        let (count, fds) = match socket::receive(self.socket.as_fd(), &mut head) {
            Ok((0, _)) => exit::leave(0),
            // It has ended, and hadn't read the latest answers.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => exit::leave(0),
            received => received?,
        };
        self.socket.read_exact(&mut head[count..])?;
        let header = Header::from_bytes(head).map_err(|bad| io::Error::other(bad.to_string()))?;
        let mut body = Vec::new();
        Read::by_ref(&mut self.socket).take(header.length).read_to_end(&mut body)?;
        if (body.len() as u64) < header.length {
            exit::leave(0);
        }
        Ok((header, body, fds.into_iter().next()))
    }

    /// Runs the task whose results all workers are to share. If it fails, so does this process.
    fn preload(&mut self, body: &[u8], bound: &[u8]) -> io::Result<()> {
        let (head, items) = TaskHead::split(body).ok_or_else(not_understood)?;
        let arguments = Items::new(items, None).next().ok_or_else(not_understood)?;
        // A number and the callable stand before what is bound.
        let bound = bound.get(8 + size_of::<CalleeBytes>()..).unwrap_or_default();
        // Nobody looks at the socket meanwhile, and the parent says nothing.
        fork::die_with_peer(self.socket.as_fd(), true)?;
        if wait::has_hung_up(self.socket.as_fd())? {
            exit::leave(0);
        }
        let mut result = Vec::new();
        let called = tasks::prepare(&head.callee, bound).map(|run| {
            panics::catch_quietly(|| run.run(Args::Whole(arguments), false, &mut result))
        });
        // No worker is to say it once more.
        let _ = io::stdout().flush();
        fork::flush_streams();
        fork::die_with_peer(self.socket.as_fd(), false)?;
        match called {
            Ok(Ok(Ok(_))) => return Ok(()),
            Ok(Ok(Err(RunError::Args(error) | RunError::Result(error)))) => {
                self.say(Kind::InitFailed, 0, error.to_string().as_bytes());
            }
            Ok(Err(panic)) => {
                let mut body = Vec::new();
                codec::encode(&panic, &mut body).expect("texts can be encoded");
                self.say(Kind::Panicked, 0, &body);
            }
            Err(why) => self.say(Kind::InitFailed, 0, why.as_bytes()),
        }
        // The parent has the cause.
        exit::leave(1)
    }

    /// Ends this process, with the cause for the parent, unless it can be forked.
    fn check_alone(&mut self, cause: &str) -> Alone {
        Alone::find().unwrap_or_else(|why| {
            let text = format!("{cause}, and a process with threads can't be forked: {why}");
            self.say(Kind::InitFailed, 0, text.as_bytes());
            exit::leave(1)
        })
    }
}

/// Waits until there is something in the socket, or its end. Doesn't return when the parent has ended and
/// left nothing there.
fn wait_for_news(socket: BorrowedFd<'_>, parent: Option<&OwnedFd>) -> io::Result<()> {
    let fds: Vec<_> = [socket].into_iter().chain(parent.map(AsFd::as_fd)).collect();
    if !wait::ready(&fds, None)?.contains(&0) {
        exit::leave(0);
    }
    Ok(())
}

/// In a process that was just forked: waits for the hello, and serves.
fn become_worker(socket: OwnedFd, parent: Option<OwnedFd>) -> ! {
    // Now, while the server lives and holds what it has.
    let shares = identity::hello().map_or(Ok(()), |hello| heap::forked(hello.parent));
    if let Err(error) = shares {
        eprintln!("procession: this worker can't share what was preloaded: {error}");
        exit::leave(1)
    }
    let hello = wait_for_news(socket.as_fd(), parent.as_ref())
        .and_then(|()| hello::receive(socket.as_fd()));
    drop(parent);
    // Without a hello it isn't needed any more.
    let Ok((hello, fds)) = hello else { exit::leave(0) };
    life::run(socket, hello, fds)
}

/// Makes a forked process what it would be if its parent had started it.
pub(super) fn change(changes: &Changes, fds: Vec<OwnedFd>, role: Role) -> io::Result<()> {
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or_else(|| io::Error::other("the hello is incomplete"));
    if changes.directory {
        fork::go_to(next()?.as_fd())?;
    }
    for (number, comes) in changes.streams.into_iter().enumerate() {
        if comes {
            fork::replace_stream(number, next()?.as_fd())?;
        }
    }
    let os = OsString::from_vec;
    let env = changes.env.iter().cloned().map(|(name, value)| (os(name), value.map(os)));
    environment::change(&env.collect::<Vec<_>>());
    if role != Role::Pool {
        // The server has them blocked, for pools' workers. One that came while this process was a spare is not
        // its own.
        signals::forget_interrupts();
        signals::let_interrupts_in();
    }
    Ok(())
}

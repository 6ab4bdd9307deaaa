//! One process that makes others, and the way to it.

use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::libc;

use super::before::Before;
use crate::error::{Error, Kind as Cause, PanicInfo};
use crate::os::limits::Kept;
use crate::os::memory::Shared;
use crate::os::wait::{self, Ended};
use crate::os::{image, socket};
use crate::sched::staff::{Task, queue_task};
use crate::sched::start::{self, Common, Started, Stdio, Surroundings};
use crate::sched::supervisor;
use crate::shm::page::Page;
use crate::transport::codec;
use crate::transport::frame::{Header, Kind};
use crate::transport::hello::{Hello, Nonce, Role};
use crate::transport::{ParentEnd, Received};
use crate::worker::identity;

/// How long a pool waits for a server that serves: many times what a fork takes, and short enough for the
/// pool's lock, which is held meanwhile. What takes longer is fetched at the next try.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// How long the start of a single process waits for one, before it is spawned instead.
const LIMIT: Duration = Duration::from_secs(5);

/// One process that makes others.
pub(in crate::sched) struct Server {
    pid: u32,
    pidfd: Arc<OwnedFd>,
    page: Arc<Shared<Page>>,
    pub(super) program: CString,
    /// What it makes: workers of a pool, or single processes.
    makes: Role,
    /// The name of the task that it preloads.
    task: Option<String>,
    /// What it was started with.
    before: Before,
    line: Mutex<Line>,
}

/// The way to a server.
pub(super) struct Line {
    end: Box<dyn ParentEnd>,
    state: State,
    has_served: bool,
    /// Whether something of the preload task is still to be sent.
    is_blocked: bool,
    /// Requests without an answer; none: it isn't waited for any more.
    asked: VecDeque<Option<Seat>>,
    spares: VecDeque<Spare>,
    /// The process that it has told of last.
    last: u32,
    /// Why the system hasn't let it make one.
    refusal: Option<io::Error>,
}

enum State {
    Preparing,
    Serving,
    /// With the cause, if it is known.
    Over(Option<Error>),
    /// With the cause, and whether it was killed by somebody else, after it had done its work well.
    Buried {
        cause: Error,
        was_killed: bool,
    },
}

/// This process's part of a worker that is to be.
struct Seat {
    socket: UnixStream,
    common: Common,
}

/// A worker that has no hello yet.
struct Spare {
    seat: Seat,
    pid: u32,
    pidfd: Arc<OwnedFd>,
    /// With the supervisor, who reaps it if it ends.
    token: Option<u64>,
}

/// Why there is no worker.
pub(super) enum Trouble {
    /// The server is no more. One that was killed is replaced.
    Gone {
        cause: Error,
        was_killed: bool,
    },
    /// It may be there later.
    Later,
    System(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl Server {
    pub(super) fn launch(makes: Role, preload: Option<&Task>) -> io::Result<Arc<Self>> {
        let supervisor = supervisor::get().map_err(|error| io::Error::other(error.to_string()))?;
        let surroundings = Surroundings::default();
        let lineage = identity::lineage().to_vec();
        let hello =
            start::hello("ForkServer", lineage, Role::Server, &surroundings, &Kept::default());
        let (program, before) = (image::program(), Before::now());
        let Started { pid, pidfd, mut end, page, .. } = start::spawn(&hello, &surroundings)?;
        if let Some(task) = preload {
            queue_task(&mut *end, task);
        }
        let line = Line {
            end,
            state: State::Preparing,
            has_served: false,
            is_blocked: true,
            asked: VecDeque::new(),
            spares: VecDeque::new(),
            last: 0,
            refusal: None,
        };
        let server = Arc::new(Self {
            pid,
            pidfd: Arc::clone(&pidfd),
            page,
            program,
            makes,
            task: preload.map(|task| task.name.clone()),
            before,
            line: Mutex::new(line),
        });
        supervisor.watch_alone(pid, pidfd, Some(Arc::clone(&server)));
        Ok(server)
    }

    pub(super) fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_over(&self) -> bool {
        self.line().is_over()
    }

    pub(super) fn is_late(&self, limit: Duration) -> Error {
        let text = format!("the fork server (pid {}) was not ready within {limit:?}", self.pid);
        Error::new(Cause::Start(text)).by_worker(self.pid)
    }

    pub(super) fn prepare(&self, workers: usize, start_limit: Duration) -> Result<(), Trouble> {
        let mut line = self.line();
        // What the task takes isn't limited.
        let limit = if self.task.is_some() { None } else { Some(start_limit) };
        self.wait(&mut line, limit, |line| matches!(line.state, State::Serving))?;
        self.ask_for(&mut line, workers)?;
        self.wait(&mut line, Some(start_limit), |line| line.asked.is_empty())?;
        line.refusal.take().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Makes a process with these surroundings.
    pub(super) fn make(
        &self,
        hello: &mut Hello,
        surroundings: &Surroundings,
    ) -> Result<Started, Trouble> {
        let mut line = self.line();
        if line.spares.is_empty() {
            self.wait(&mut line, Some(LIMIT), |line| matches!(line.state, State::Serving))?;
        }
        let directory = self.before.directory_for(surroundings)?;
        let null = surroundings.stdio[1..].iter().any(Stdio::is_null);
        let null = null.then(|| File::options().write(true).open("/dev/null")).transpose()?;
        let null = null.as_ref().map(AsFd::as_fd);
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let own = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let (changes, fds) = self.before.changes(surroundings, directory.as_ref(), null, own)?;
        hello.changes = Some(changes);
        self.take(&mut line, hello, &fds, LIMIT)
    }

    /// Gives a spare its hello, or a worker that is made now, which is waited for so long.
    pub(super) fn take(
        &self,
        line: &mut Line,
        hello: &Hello,
        changes: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> Result<Started, Trouble> {
        loop {
            if line.spares.is_empty() {
                self.listen(line);
            }
            if line.spares.is_empty() {
                if matches!(line.state, State::Preparing) {
                    return Err(Trouble::Later);
                }
                // What couldn't be made ahead perhaps can be made now.
                line.refusal = None;
                self.ask_for(line, 1)?;
                let came = |line: &Line| !line.spares.is_empty() || line.asked.is_empty();
                self.wait(line, Some(patience), came)?;
            }
            let Some(mut spare) = line.spares.pop_front() else {
                return Err(line.refusal.take().map_or(Trouble::Later, Trouble::System));
            };
            if let Some(token) = spare.token.take() {
                supervise(|supervisor| supervisor.leave(token));
            }
            let Err(error) = spare.seat.send_hello(hello, changes) else {
                return Ok(spare.start());
            };
            match error.kind() {
                // It has been killed. The next one.
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => spare.let_go(),
                _ if is_unsent(&error) => {
                    line.spares.push_front(spare);
                    self.watch_spares(line);
                    return Err(error.into());
                }
                _ => {
                    spare.let_go();
                    return Err(error.into());
                }
            }
        }
    }

    /// Takes in what it has made ahead, and asks for as many more as are missing. What can't be had now is
    /// asked for the next time.
    pub(super) fn refill(&self, line: &mut Line, count: usize) {
        self.listen(line);
        let _ = self.ask_for(line, count);
        self.watch_spares(line);
    }

    /// Asks until so many are there or on their way.
    pub(super) fn ask_for(&self, line: &mut Line, count: usize) -> Result<(), Trouble> {
        while !line.is_over() && line.spares.len() + line.asked.len() < count {
            self.ask(line, Seat::new(self.makes)?)?;
        }
        Ok(())
    }

    fn ask(&self, line: &mut Line, (seat, theirs): (Seat, OwnedFd)) -> Result<(), Trouble> {
        let request = Header::new(Kind::Fork, 0, 0).to_bytes();
        match socket::send(line.end.as_fd(), &[IoSlice::new(&request)], &[theirs.as_fd()]) {
            Ok(_) => {
                line.asked.push_back(Some(seat));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(Trouble::Later),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                // Who waits for an answer is told.
                self.give_up(line, None);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Listens until `done`, for a limited time.
    fn wait(
        &self,
        line: &mut Line,
        limit: Option<Duration>,
        done: impl Fn(&Line) -> bool,
    ) -> Result<(), Trouble> {
        let until = limit.map(|limit| Instant::now() + limit);
        loop {
            self.listen(line);
            if line.is_over() {
                return Err(self.gone(line, limit.unwrap_or(LIMIT)));
            }
            if done(line) {
                return Ok(());
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(Trouble::Later);
            }
            if line.is_blocked {
                let pause = Instant::now() + Duration::from_millis(20);
                wait::writable(line.end.as_fd(), Some(pause))?;
            } else {
                wait::ready(&[line.end.as_fd(), self.pidfd.as_fd()], left)?;
            }
        }
    }

    /// Takes in what it has said; never waits.
    fn listen(&self, line: &mut Line) {
        if line.is_blocked {
            // Whether it has gone is seen below.
            line.is_blocked = !line.end.flush().unwrap_or(true);
        }
        loop {
            let received = line.end.receive();
            self.take_in(line);
            match received {
                Ok(Received::Some) => {}
                Ok(Received::Nothing) => return,
                Ok(Received::End) | Err(_) => return self.give_up(line, None),
            }
        }
    }

    fn take_in(&self, line: &mut Line) {
        loop {
            let (header, body) = match line.end.next() {
                Ok(Some((header, body))) => (header, body.bytes().to_vec()),
                Ok(None) => return,
                Err(_) => return self.give_up(line, Some(self.breach())),
            };
            match header.kind {
                Kind::Ready if self.task.is_none() => line.serve(),
                Kind::Ready => {}
                Kind::InitDone => line.serve(),
                Kind::Refused => {
                    let text = String::from_utf8_lossy(&body).into_owned();
                    let cause = Error::new(Cause::Start(text)).by_worker(self.pid);
                    self.give_up(line, Some(cause));
                }
                Kind::InitFailed => {
                    let text = String::from_utf8_lossy(&body);
                    self.give_up(line, Some(self.failed(&text)));
                }
                Kind::Panicked => {
                    let cause = match codec::decode::<PanicInfo>(&body) {
                        Ok(info) => Error::new(Cause::Panic(info)),
                        Err(error) => Error::new(Cause::Start(error.to_string())),
                    };
                    let task = self.task.as_deref().unwrap_or_default();
                    self.give_up(line, Some(cause.of_task(task).by_worker(self.pid)));
                }
                Kind::Forked => {
                    let Some(seat) = line.asked.pop_front() else {
                        return self.give_up(line, Some(self.breach()));
                    };
                    line.last = header.number;
                    let pid = header.number;
                    match (child(pid), seat) {
                        (Child::There(pidfd), Some(seat)) => {
                            line.spares.push_back(Spare { seat, pid, pidfd, token: None });
                        }
                        (Child::There(pidfd), None) => let_go(pid, pidfd),
                        (Child::Gone, _) => {}
                        (Child::Strange, _) => return self.give_up(line, Some(self.breach())),
                    }
                }
                Kind::NotForked => {
                    line.asked.pop_front();
                    let number = header.number.cast_signed();
                    line.refusal = Some(io::Error::from_raw_os_error(number));
                }
                _ => return self.give_up(line, Some(self.breach())),
            }
        }
    }

    fn failed(&self, why: &str) -> Error {
        let what = match &self.task {
            Some(task) => format!("the preload task `{task}` failed: {why}"),
            None => format!("the fork server can't fork: {why}"),
        };
        Error::new(Cause::Start(what)).by_worker(self.pid)
    }

    fn breach(&self) -> Error {
        let text = format!("the fork server (pid {}) sent what none sends", self.pid);
        Error::new(Cause::Start(text)).by_worker(self.pid)
    }

    fn ended_with(&self, status: Option<ExitStatus>, has_served: bool) -> Error {
        let status = status.map_or_else(|| "an unknown status".to_owned(), |s| s.to_string());
        let stage = match &self.task {
            _ if has_served => String::new(),
            Some(task) => format!(" before its preload task `{task}` was done"),
            None => " before it served".to_owned(),
        };
        let text = format!("the fork server (pid {}) ended{stage}, with {status}", self.pid);
        Error::new(Cause::Start(text)).by_worker(self.pid)
    }

    /// Ends it. The supervisor sees its death and what it leaves.
    pub(super) fn end(&self) {
        let mut line = self.line();
        self.give_up(&mut line, None);
    }

    /// Ends it, and waits for a moment until it has gone with all that it has made.
    pub(super) fn clear_away(&self) {
        let mut line = self.line();
        let mut left = vec![Arc::clone(&self.pidfd)];
        left.extend(line.spares.iter().map(|spare| Arc::clone(&spare.pidfd)));
        self.give_up(&mut line, None);
        let until = Instant::now() + Duration::from_secs(1);
        for pidfd in left {
            let _ = wait::readable(pidfd.as_fd(), Some(until));
            if Arc::ptr_eq(&pidfd, &self.pidfd) {
                self.bury_under(&mut line);
            } else {
                let _ = wait::reap(pidfd.as_fd());
            }
        }
    }

    /// What is to be said of a server that is over. It is dying, if it isn't dead, and its status says more.
    fn gone(&self, line: &mut Line, patience: Duration) -> Trouble {
        let _ = wait::ready(&[self.pidfd.as_fd()], Some(patience));
        self.bury_under(line);
        match &line.state {
            State::Buried { cause, was_killed } => {
                Trouble::Gone { cause: cause.clone(), was_killed: *was_killed }
            }
            // It has been killed, and the system still has to clear away after it.
            _ => Trouble::Later,
        }
    }

    fn give_up(&self, line: &mut Line, cause: Option<Error>) {
        if line.is_over() {
            return;
        }
        line.state = State::Over(cause);
        line.asked.iter_mut().for_each(|seat| *seat = None);
        line.spares.drain(..).for_each(Spare::let_go);
        let _ = wait::signal(self.pidfd.as_fd(), libc::SIGKILL);
    }

    /// Reaps it and sees to what it has left. False: it hasn't ended.
    pub(in crate::sched) fn bury(&self) -> bool {
        self.bury_under(&mut self.line())
    }

    fn bury_under(&self, line: &mut Line) -> bool {
        if matches!(line.state, State::Buried { .. }) {
            return true;
        }
        let status = match wait::reap(self.pidfd.as_fd()) {
            Ok(Ended::Not) => return false,
            Ok(Ended::With(status, _)) => Some(status),
            Ok(Ended::Unknown) | Err(_) => None,
        };
        self.listen(line);
        // It may have been killed between a fork and the word of it.
        let made = self.page.forked.load(Ordering::SeqCst);
        if made != 0 && made != line.last {
            line.last = made;
            if let Child::There(pidfd) = child(made) {
                let_go(made, pidfd);
            }
        }
        self.give_up(line, None);
        let known = match &mut line.state {
            State::Over(cause) => cause.take(),
            _ => None,
        };
        let signal = status.and_then(|status| status.signal());
        // What dies of its own task would do so again.
        let was_killed = known.is_none()
            && (line.has_served || self.task.is_none() && signal == Some(libc::SIGKILL));
        let cause = known.unwrap_or_else(|| self.ended_with(status, line.has_served));
        line.asked.clear();
        line.state = State::Buried { cause, was_killed };
        true
    }

    /// Has the supervisor reap spares that end.
    fn watch_spares(&self, line: &mut Line) {
        for spare in line.spares.iter_mut().filter(|spare| spare.token.is_none()) {
            supervise(|supervisor| {
                let token = supervisor.watch_alone(spare.pid, Arc::clone(&spare.pidfd), None);
                spare.token = Some(token);
            });
        }
    }
}

impl Line {
    fn serve(&mut self) {
        if matches!(self.state, State::Preparing) {
            self.state = State::Serving;
            self.has_served = true;
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Over(_) | State::Buried { .. })
    }
}

impl Seat {
    /// With the socket that the worker gets.
    fn new(role: Role) -> io::Result<(Self, OwnedFd)> {
        let (socket, theirs) = socket::pair()?;
        Ok((Self { socket, common: Common::new(role)? }, theirs))
    }

    fn send_hello(&self, hello: &Hello, changes: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.common.greet(&self.socket, Nonce::random(), hello, changes)
    }
}

impl Spare {
    fn start(self) -> Started {
        let Self { seat, pid, pidfd, .. } = self;
        seat.common.started(pid, pidfd, seat.socket)
    }

    /// It has no task, and would end when its socket is closed; but somebody else may have that open.
    fn let_go(self) {
        let _ = wait::signal(self.pidfd.as_fd(), libc::SIGKILL);
        if self.token.is_none() {
            let_go(self.pid, self.pidfd);
        }
    }
}

/// Whether a hello has gone nowhere: it has more to change than a message holds, or a stream that is closed.
pub(super) fn is_unsent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::InvalidInput || error.raw_os_error() == Some(libc::EBADF)
}

/// What a process is that a server says it has made.
enum Child {
    There(Arc<OwnedFd>),
    /// It has ended, and where this process ignores SIGCHLD nothing is left of it.
    Gone,
    /// It is somebody else's.
    Strange,
}

fn child(pid: u32) -> Child {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0);
    let Some(pid) = pid else { return Child::Strange };
    match wait::open(pid) {
        Ok(pidfd) if wait::is_child(pidfd.as_fd()) => Child::There(Arc::new(pidfd)),
        Ok(pidfd) if wait::ended(pidfd.as_fd()).unwrap_or(false) => Child::Gone,
        Ok(_) => Child::Strange,
        Err(_) => Child::Gone,
    }
}

/// Has a child reaped that nobody works with.
fn let_go(pid: u32, pidfd: Arc<OwnedFd>) {
    supervise(|supervisor| {
        supervisor.watch_alone(pid, pidfd, None);
    });
}

fn supervise(f: impl FnOnce(&'static supervisor::Supervisor)) {
    f(supervisor::get().expect("it was there when the server was started"));
}

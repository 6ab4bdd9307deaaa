//! One process that runs one function.

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::libc;
use nix::sys::signal::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::{check_stack_size, start_limit};
use super::limits::Limits;
use super::target::{self, Target};
use crate::callable::task_fn::TaskFn;
use crate::error::{Error, Kind};
use crate::guard;
use crate::os::wait;
use crate::sched::{
    Crew, Identity, Inputs, Job, Outcome, Plan, Recycling, Spec, StartMethod, Stdio, Surroundings,
    What, children, forkserver,
};
use crate::transport::hello::Role;

type Decode<R> = fn(&Spec, &Outcome) -> Result<R, Error>;

/// Describes a process before it starts: made by [`Process::new`].
///
/// As in Python, its standard input is `/dev/null` and its output goes where the parent's goes, unless
/// you say otherwise.
#[must_use = "a process does nothing until `start`"]
pub struct ProcessBuilder<R> {
    call: Result<(Spec, Inputs), Error>,
    decode: Decode<R>,
    name: String,
    daemon: bool,
    start_method: Option<StartMethod>,
    surroundings: Surroundings,
    limits: Limits,
}

impl<R> ProcessBuilder<R> {
    /// What the process is called. Default: `Process-1` and so on; `Process-1:2` for the second child
    /// of `Process-1`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Whether the process is killed when its parent ends, however it ends. Others are waited for at a
    /// normal end of the parent, and live on if it is killed. Default: false.
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    /// Sets a variable of the process's environment. Default: the parent's environment.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let name = name.into();
        self.surroundings.env.retain(|(other, _)| *other != name);
        self.surroundings.env.push((name, value.into()));
        self
    }

    /// Leaves the parent's environment out; later and earlier [`env`](Self::env) calls count.
    pub fn env_clear(mut self) -> Self {
        self.surroundings.clear_env = true;
        self
    }

    /// The process's current directory. Default: the parent's.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.surroundings.directory = Some(directory.into());
        self
    }

    /// The process's standard input. Default: `/dev/null`.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.surroundings.stdio[0] = stdin.into();
        self
    }

    /// The process's standard output. Default: the parent's.
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.surroundings.stdio[1] = stdout.into();
        self
    }

    /// The process's standard error. Default: the parent's.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.surroundings.stdio[2] = stderr.into();
        self
    }

    /// The least stack for the function, in bytes, from 64 KiB on. It runs on the process's first thread if
    /// that one's limit (`ulimit -s`) is as large, otherwise on another. Default: 8 MiB.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.surroundings.stack_size = bytes;
        self
    }

    /// What the process may use. Default: nothing is limited but by what limits this process.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How the process is started. Default: see [`StartMethod`].
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.start_method = Some(method);
        self
    }

    /// Starts the process.
    ///
    /// # Errors
    /// The arguments can't be encoded, the system can't start a process, or the program has no guard:
    /// see [`main`](macro@crate::main).
    pub fn start(self) -> Result<Process<R>, Error> {
        guard::check()?;
        let (spec, inputs) = self.call?;
        let is_bad = |name: &OsString| name.is_empty() || name.as_bytes().contains(&b'=');
        if let Some((name, _)) = self.surroundings.env.iter().find(|(name, _)| is_bad(name)) {
            return Err(Error::usage(format!("no environment variable can be called {name:?}")));
        }
        check_stack_size(self.surroundings.stack_size)?;
        let method = StartMethod::settle(self.start_method)?;
        let (limits, most_memory) = self.limits.check()?;
        let recycling = Recycling { most_memory, ..Recycling::default() };
        let server = (method == StartMethod::ForkServer).then(forkserver::shared);
        let surroundings = self.surroundings.settle();
        let plan = Plan {
            name: self.name,
            role: Role::Process { daemon: self.daemon },
            workers: 1,
            initializer: None,
            max_tasks: Some(1),
            recycling,
            breaker: None,
            start_limit: start_limit(),
            surroundings: surroundings
                .map_err(|error| Error::system("can't pass a stream", &error))?,
            limits,
            server: server.clone(),
        };
        let job = Arc::new(Job::new(Arc::new(spec), None));
        let crew = Crew::start(plan)?;
        crew.submit(Arc::clone(&job), inputs, Vec::new());
        if let Some(server) = server {
            server.refill();
        }
        Ok(Process { running: Running::new(crew), job, decode: self.decode })
    }
}

impl<R> fmt::Debug for ProcessBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessBuilder")
            .field("name", &self.name)
            .field("daemon", &self.daemon)
            .finish_non_exhaustive()
    }
}

/// A process that runs one function, as Python's `multiprocessing.Process`, and brings its result back.
///
/// Dropping the handle neither ends the process nor leaves a zombie: it is reaped in the background.
/// The handle can be awaited for the result, and waited on as a descriptor (a pidfd) with
/// [`wait`](crate::wait) or any poll.
///
/// ```
/// use procession::{Process, task};
///
/// #[task]
/// fn greet(name: String) -> String {
///     format!("hello {name} from {}", std::process::id())
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let process = Process::new(greet, ("you".to_owned(),)).start()?;
/// assert_eq!(process.join()?, format!("hello you from {}", process.pid()));
/// assert!(process.exit_status().unwrap().success());
/// # Ok(())
/// # }
/// ```
pub struct Process<R> {
    running: Running,
    job: Arc<Job>,
    decode: Decode<R>,
}

impl Process<()> {
    /// Describes a process that will run `f`; [`start`](ProcessBuilder::start) starts it.
    #[expect(
        clippy::new_ret_no_self,
        reason = "Python's and std's word for it; start gives the Process"
    )]
    pub fn new<M, F: TaskFn<M>>(f: F, args: F::Args) -> ProcessBuilder<F::Output> {
        const { F::CHECK };
        ProcessBuilder {
            call: Target::new(&f).and_then(|target| call(target, &args)),
            decode: |spec, outcome| target::decode(spec, outcome, 0, None),
            name: String::new(),
            daemon: false,
            start_method: None,
            surroundings: Surroundings::default(),
            limits: Limits::new(),
        }
    }
}

fn call(target: Target, args: &impl Serialize) -> Result<(Spec, Inputs), Error> {
    let mut inputs = Inputs::default();
    target::encode(&mut inputs, args).map_err(|error| error.of_task(&target.name))?;
    Ok((target.plain(), inputs))
}

impl<R> Process<R> {
    /// The process id. After the process was reaped the system may give it to another one.
    pub fn pid(&self) -> u32 {
        self.running.identity.pid
    }

    /// What the process is called.
    pub fn name(&self) -> &str {
        &self.running.identity.name
    }

    /// Whether the process hasn't ended.
    pub fn is_alive(&self) -> bool {
        self.running.is_alive()
    }

    /// Asks the process to end: SIGTERM.
    ///
    /// # Errors
    /// The system refuses. That it has ended already is no error.
    pub fn terminate(&self) -> Result<(), Error> {
        self.running.signal(libc::SIGTERM)
    }

    /// Ends the process: SIGKILL.
    ///
    /// # Errors
    /// As [`terminate`](Self::terminate).
    pub fn kill(&self) -> Result<(), Error> {
        self.running.signal(libc::SIGKILL)
    }

    /// How the process ended, once it has and has been reaped (which `join` waits for). A function that
    /// returned is exit code 0, one that panicked is 101.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.running.status()
    }
}

impl<R: DeserializeOwned> Process<R> {
    /// Waits until the process has ended and gives the function's result. It can be repeated.
    ///
    /// # Errors
    /// The function panicked, the process ended in another way before it returned, or its arguments or
    /// its result can't be decoded.
    pub fn join(&self) -> Result<R, Error> {
        self.running.wait(None);
        self.result()
    }

    /// As [`join`](Self::join), waiting at most for `timeout`.
    ///
    /// # Errors
    /// As [`join`](Self::join); when the time is over first, [`Error::is_timeout`] says so, and nothing
    /// is lost.
    pub fn join_timeout(&self, timeout: Duration) -> Result<R, Error> {
        if self.running.wait(Some(timeout)) {
            return self.result();
        }
        Err(Error::new(Kind::NotReady(timeout)).of_task(&self.job.spec.task).by_worker(self.pid()))
    }

    fn result(&self) -> Result<R, Error> {
        let outcome = self.job.outcome().expect("a process that has ended leaves an outcome");
        (self.decode)(&self.job.spec, outcome)
    }
}

impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.running.fmt(f)
    }
}

impl<R> AsFd for Process<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.running.identity.pidfd.as_fd()
    }
}

/// Gives what [`join`](Process::join) gives, when the process has ended.
impl<R: DeserializeOwned> Future for Process<R> {
    type Output = Result<R, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.running.crew.wake_when_gone(context.waker()) {
            return Poll::Pending;
        }
        Poll::Ready(self.result())
    }
}

/// A child process without the type of its result: what [`active_children`] gives.
#[derive(Clone)]
pub struct ActiveChild(Running);

impl ActiveChild {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.0.identity.pid
    }

    /// What the process is called.
    pub fn name(&self) -> &str {
        &self.0.identity.name
    }

    /// Whether the process hasn't ended.
    pub fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    /// Waits until the process has ended; none if the system lost its status.
    pub fn join(&self) -> Option<ExitStatus> {
        self.0.wait(None);
        self.0.status()
    }

    /// Asks the process to end: SIGTERM.
    ///
    /// # Errors
    /// The system refuses. That it has ended already is no error.
    pub fn terminate(&self) -> Result<(), Error> {
        self.0.signal(libc::SIGTERM)
    }

    /// Ends the process: SIGKILL.
    ///
    /// # Errors
    /// As [`terminate`](Self::terminate).
    pub fn kill(&self) -> Result<(), Error> {
        self.0.signal(libc::SIGKILL)
    }
}

impl fmt::Debug for ActiveChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsFd for ActiveChild {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.identity.pidfd.as_fd()
    }
}

/// The processes that this one has started with [`Process`] and that haven't ended. Those that have are
/// reaped, as they are without this call.
///
/// ```
/// # use procession::{Process, active_children, task};
/// #[task]
/// fn wait_for_long() {
///     std::thread::sleep(std::time::Duration::from_secs(600));
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let process = Process::new(wait_for_long, ()).name("sleeper").daemon(true).start()?;
/// assert_eq!(active_children()[0].name(), "sleeper");
/// process.kill()?;
/// assert!(process.join().unwrap_err().is_worker_lost());
/// assert!(active_children().is_empty());
/// # Ok(())
/// # }
/// ```
pub fn active_children() -> Vec<ActiveChild> {
    children::all().into_iter().map(|crew| ActiveChild(Running::new(crew))).collect()
}

/// What handles of both kinds have.
#[derive(Clone)]
struct Running {
    crew: Arc<Crew>,
    identity: Identity,
}

impl Running {
    fn new(crew: Arc<Crew>) -> Self {
        Self { identity: crew.identity(), crew }
    }

    fn is_alive(&self) -> bool {
        !wait::ended(self.identity.pidfd.as_fd()).unwrap_or(false)
    }

    fn wait(&self, timeout: Option<Duration>) -> bool {
        self.crew.wait_for(&What::NoWorkers, timeout)
    }

    fn signal(&self, signal: i32) -> Result<(), Error> {
        wait::signal(self.identity.pidfd.as_fd(), signal)
            .map_err(|error| Error::system("can't signal", &error))
    }

    fn status(&self) -> Option<ExitStatus> {
        let (is_left, status) = self.crew.last_status();
        if is_left { None } else { status }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (is_left, status) = self.crew.last_status();
        let state = match status {
            _ if is_left => "started".to_owned(),
            None => "ended".to_owned(),
            Some(status) => match (status.code(), status.signal().map(Signal::try_from)) {
                (Some(code), _) => format!("exited({code})"),
                (_, Some(Ok(signal))) => format!("killed({signal})"),
                _ => format!("killed({})", status.signal().unwrap_or_default()),
            },
        };
        write!(f, "Process({}, pid {}, {state})", self.identity.name, self.identity.pid)
    }
}

//! The one error type of processes and pools.

mod report;

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use self::report::Account;
pub use self::report::{Cause, Limit, LimitBreach, Usage, WorkerLost};

/// Why a process, a pool or a task failed.
///
/// It is opaque: ask it with the `is_*` methods and accessors. Its text says what happened, to which
/// task, and what to do about it; `Debug` shows the same text, so that an error returned from `main`
/// reads well.
///
/// ```
/// use procession::{Pool, task};
///
/// #[task]
/// fn half(x: u32) -> u32 {
///     assert!(x % 2 == 0, "{x} is odd");
///     x / 2
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let pool = Pool::builder().processes(1).build()?;
/// let error = pool.map(half, [2, 4, 5, 6]).unwrap_err();
/// assert_eq!(error.panic().unwrap().message(), "5 is odd");
/// assert_eq!(error.index(), Some(2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: Kind,
    task: Option<String>,
    index: Option<usize>,
    pid: Option<u32>,
    /// Of a worker that ended with this.
    account: Option<Account>,
    /// What the same item was lost by before.
    history: Vec<Error>,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// The caller's patience ended; the task goes on.
    NotReady(Duration),
    /// The task ran longer than its hard limit and was killed, after so long if that is known.
    TimeLimit {
        limit: Duration,
        used: Option<Duration>,
    },
    Cancelled,
    /// The pool takes no work, or has given it up.
    Closed(&'static str),
    WorkerLost {
        status: Option<ExitStatus>,
        words: Option<String>,
        /// What it ended of, where more is known than its status.
        cause: Option<Cause>,
    },
    Panic(PanicInfo),
    /// Arguments or a result that can't be encoded or decoded.
    Data(String),
    /// A worker sent what no worker sends, and was killed.
    Protocol(String),
    /// No worker can be started, or none gets as far as taking a task.
    Start(String),
    /// The caller asked for something that can't be.
    Usage(String),
    System(String),
    /// A message that can't be encoded, decoded, sent or received.
    Channel(String),
    /// The peer of a connection has gone.
    Disconnected(String),
    /// The time for an operation on a connection or listener was over.
    Late(String),
    /// A peer that did not prove that it has the same key.
    Authentication(String),
    /// What is shared may be half changed, since its holder died.
    Poisoned(&'static str),
    /// Somebody else holds what was asked for.
    Busy(&'static str),
    /// Those who should have waited for each other don't.
    Broken(&'static str),
}

impl Error {
    pub(crate) fn new(kind: Kind) -> Self {
        Self(Arc::new(Inner {
            kind,
            task: None,
            index: None,
            pid: None,
            account: None,
            history: Vec::new(),
        }))
    }

    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::new(Kind::Usage(text.into()))
    }

    pub(crate) fn system(what: &str, error: &std::io::Error) -> Self {
        Self::new(Kind::System(format!("{what}: {error}")))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    pub(crate) fn of_task(self, task: &str) -> Self {
        self.with(|inner| inner.task = Some(task.to_owned()))
    }

    pub(crate) fn at_index(self, index: Option<usize>) -> Self {
        self.with(|inner| inner.index = index)
    }

    pub(crate) fn by_worker(self, pid: u32) -> Self {
        self.with(|inner| inner.pid = Some(pid))
    }

    /// It comes with the end of its worker.
    pub(crate) fn with_account(self, account: &Account) -> Self {
        self.with(|inner| inner.account = Some(account.clone()))
    }

    /// The item had been tried before, and was lost so.
    pub(crate) fn after(self, history: &[Self]) -> Self {
        if history.is_empty() {
            return self;
        }
        self.with(|inner| inner.history = history.to_vec())
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// Whether time ran out: a `get_timeout` or `join_timeout` (the task goes on), a task's hard
    /// time limit (its worker was killed), or the wait for a message, a client, a listener, or
    /// something shared that somebody else holds.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self.0.kind,
            Kind::NotReady(_) | Kind::TimeLimit { .. } | Kind::Late(_) | Kind::Busy(_)
        )
    }

    /// Whether somebody has died, or panicked, while it was changing what is shared: see
    /// [`Poisoned`](crate::Poisoned).
    pub fn is_poisoned(&self) -> bool {
        matches!(self.0.kind, Kind::Poisoned(_))
    }

    /// Whether the operating system has refused something.
    pub(crate) fn is_system(&self) -> bool {
        matches!(self.0.kind, Kind::System(_))
    }

    /// Whether the peer of a connection has gone, or a queue is closed.
    pub fn is_disconnected(&self) -> bool {
        matches!(self.0.kind, Kind::Disconnected(_))
    }

    /// Whether a peer failed to prove that it may connect: it has another key, or speaks another
    /// protocol. A listener is none the worse for it.
    pub fn is_authentication(&self) -> bool {
        matches!(self.0.kind, Kind::Authentication(_))
    }

    /// Whether the call was cancelled before it had a result.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0.kind, Kind::Cancelled)
    }

    /// Whether the pool was closed or terminated.
    pub fn is_closed(&self) -> bool {
        matches!(self.0.kind, Kind::Closed(_))
    }

    /// Whether the worker died while it ran the task.
    pub fn is_worker_lost(&self) -> bool {
        matches!(self.0.kind, Kind::WorkerLost { .. })
    }

    /// How the worker ended, when it died of the task and the system told how.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        match &self.0.kind {
            Kind::WorkerLost { status, .. } => *status,
            _ => None,
        }
    }

    /// The panic, when the task panicked.
    pub fn panic(&self) -> Option<&PanicInfo> {
        match &self.0.kind {
            Kind::Panic(info) => Some(info),
            _ => None,
        }
    }

    /// The limit that was broken, when the worker was ended for that.
    ///
    /// ```no_run
    /// # use procession::{Error, Limit};
    /// # fn show(error: Error) {
    /// if let Some(breach) = error.limit().filter(|breach| breach.limit() == Limit::CpuTime) {
    ///     println!("more than {} s of CPU time", breach.value() / 1_000_000_000);
    /// }
    /// # }
    /// ```
    pub fn limit(&self) -> Option<LimitBreach> {
        match self.cause()? {
            Cause::Limit(breach) => Some(breach),
            _ => None,
        }
    }

    /// What is known of the worker that ended, or was killed, with the item that it is about.
    pub fn lost(&self) -> Option<WorkerLost> {
        let Inner { task, index, pid, account, .. } = &*self.0;
        let note = match &self.0.kind {
            Kind::WorkerLost { words, .. } => words.clone(),
            _ => None,
        };
        Some(WorkerLost {
            task: task.clone(),
            index: *index,
            pid: *pid,
            cause: self.cause()?,
            note,
            account: account.clone()?,
        })
    }

    /// How the worker of the same item was lost before, from the first attempt on, when it was
    /// [tried again](crate::Call::retries). The last loss is the error itself.
    pub fn history(&self) -> &[Self] {
        &self.0.history
    }

    /// Whether the item has ended its worker more than once, and isn't tried any more. What others of its call do is
    /// none the worse for it.
    pub fn is_quarantined(&self) -> bool {
        !self.0.history.is_empty()
    }

    /// Why a worker ended, if one did.
    fn cause(&self) -> Option<Cause> {
        match &self.0.kind {
            Kind::TimeLimit { limit, used } => {
                let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                let (value, used) = (nanos(*limit), used.map(nanos));
                Some(Cause::Limit(LimitBreach { limit: Limit::WallTime, value, used }))
            }
            Kind::WorkerLost { cause: Some(cause), .. } => Some(*cause),
            Kind::WorkerLost { status: None, .. } => Some(Cause::Unknown),
            Kind::WorkerLost { status: Some(status), .. } => {
                let exited = status.code().map(Cause::Exited);
                exited.or(status.signal().map(Cause::Signal))
            }
            Kind::Protocol(_) => Some(Cause::Protocol),
            _ => None,
        }
    }

    /// The name of the task that it is about.
    pub fn task(&self) -> Option<&str> {
        self.0.task.as_deref()
    }

    /// The position in the input of the item that it is about, from 0.
    pub fn index(&self) -> Option<usize> {
        self.0.index
    }

    /// The process id of the worker that it is about.
    pub fn pid(&self) -> Option<u32> {
        self.0.pid
    }

    fn subject(&self) -> String {
        let task =
            self.task().map_or_else(|| "the task".to_owned(), |task| format!("task `{task}`"));
        match self.index() {
            Some(index) => format!("{task} (item {index})"),
            None => task,
        }
    }

    fn worker(&self) -> String {
        self.pid().map_or_else(|| "its worker".to_owned(), |pid| format!("its worker (pid {pid})"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.subject();
        match &self.0.kind {
            Kind::NotReady(waited) => {
                write!(f, "{subject} was not done within {waited:?}; it goes on")
            }
            Kind::TimeLimit { limit, .. } => write!(
                f,
                "{subject} ran longer than its time limit of {limit:?}; {} was killed",
                self.worker()
            ),
            Kind::Cancelled => write!(f, "{subject} was cancelled"),
            Kind::Closed(why) => write!(f, "{subject} did not run: {why}"),
            Kind::WorkerLost { status, words, cause } => {
                write!(f, "{subject} was lost: {} ", self.worker())?;
                match status {
                    Some(status) => write!(f, "ended with {status}")?,
                    None => write!(f, "ended, and something else in this process took its status")?,
                }
                match cause {
                    Some(Cause::Limit(breach)) => write!(f, "; {breach}")?,
                    Some(Cause::OutOfMemory) => f.write_str("; the system was out of memory")?,
                    _ => {}
                }
                if let Some(words) = words {
                    write!(f, "; {words}")?;
                }
                match self.history().len() {
                    0 => Ok(()),
                    before => write!(f, "; it was attempt {}, and so ended all before", before + 1),
                }
            }
            Kind::Panic(info) => write!(f, "{subject} panicked{info}"),
            Kind::Data(text) => write!(f, "{subject}: {text}"),
            Kind::Protocol(text) => {
                write!(f, "{subject} was lost: {} sent {text} and was killed", self.worker())
            }
            Kind::Start(text)
            | Kind::Usage(text)
            | Kind::System(text)
            | Kind::Channel(text)
            | Kind::Disconnected(text)
            | Kind::Late(text)
            | Kind::Authentication(text) => f.write_str(text),
            Kind::Poisoned(text) | Kind::Busy(text) | Kind::Broken(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        match self.panic().and_then(PanicInfo::backtrace) {
            Some(backtrace) => write!(f, "\n{backtrace}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// A panic that happened in another process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PanicInfo {
    pub(crate) message: String,
    pub(crate) location: Option<String>,
    pub(crate) backtrace: Option<String>,
}

impl PanicInfo {
    /// What the task said: the text of `panic!`, or a note that the payload wasn't text.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where: `file:line:column`.
    pub fn location(&self) -> Option<&str> {
        self.location.as_deref()
    }

    /// The stack of the worker, when `RUST_BACKTRACE` or `RUST_LIB_BACKTRACE` asks for it, as in std.
    pub fn backtrace(&self) -> Option<&str> {
        self.backtrace.as_deref()
    }
}

impl fmt::Display for PanicInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, " at {location}")?;
        }
        write!(f, ": {}", self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_what_and_to_whom() {
        let status = Some(ExitStatus::from_raw(9));
        let lost = Error::new(Kind::WorkerLost { status, words: None, cause: None })
            .of_task("app::crash")
            .at_index(Some(3))
            .by_worker(77);
        assert_eq!(
            lost.to_string(),
            "task `app::crash` (item 3) was lost: its worker (pid 77) ended with signal: 9 (SIGKILL)"
        );
        assert!(lost.is_worker_lost() && !lost.is_timeout());
        assert_eq!((lost.index(), lost.pid()), (Some(3), Some(77)));

        let info =
            PanicInfo { message: "no".into(), location: Some("a.rs:1:2".into()), backtrace: None };
        let panic = Error::new(Kind::Panic(info)).of_task("app::f");
        assert_eq!(panic.to_string(), "task `app::f` panicked at a.rs:1:2: no");
        assert_eq!(format!("{panic:?}"), panic.to_string());
    }
}

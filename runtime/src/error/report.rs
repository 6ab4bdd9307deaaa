//! What is known of a worker that was lost, and of a limit that it has broken.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What can be limited: see [`Limits`](crate::Limits).
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Limit {
    /// Time of the clock, in nanoseconds.
    WallTime,
    /// Time of processors, in nanoseconds.
    CpuTime,
    /// Addresses that are in use, whether or not there is memory behind them, in bytes.
    AddressSpace,
    /// Memory that is in use, in bytes.
    Resident,
    /// Descriptors, by number.
    OpenFiles,
    /// The length of the file that a crash leaves, in bytes.
    CoreSize,
    /// The length of any file that is written, in bytes.
    FileSize,
    /// How far others go first, from −20 to 19.
    Nice,
    /// The processors that may be used.
    Affinity,
}

impl Limit {
    /// A value in its unit, for people.
    fn show(self, value: u64) -> String {
        match self {
            Self::WallTime | Self::CpuTime => format!("{:?}", Duration::from_nanos(value)),
            Self::AddressSpace | Self::Resident | Self::CoreSize | Self::FileSize => {
                format!("{value} bytes")
            }
            Self::OpenFiles | Self::Nice | Self::Affinity => value.to_string(),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WallTime => "wall time",
            Self::CpuTime => "CPU time",
            Self::AddressSpace => "address space",
            Self::Resident => "resident memory",
            Self::OpenFiles => "open files",
            Self::CoreSize => "core size",
            Self::FileSize => "file size",
            Self::Nice => "nice",
            Self::Affinity => "affinity",
        })
    }
}

/// A limit that was broken, for which a worker was ended: see [`Error::limit`](crate::Error::limit).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LimitBreach {
    pub(crate) limit: Limit,
    pub(crate) value: u64,
    pub(crate) used: Option<u64>,
}

impl LimitBreach {
    /// Which limit.
    pub fn limit(&self) -> Limit {
        self.limit
    }

    /// What it was set to, in the limit's unit: see [`Limit`].
    pub fn value(&self) -> u64 {
        self.value
    }

    /// What was used when that was looked at, in the same unit, if it could be told.
    pub fn used(&self) -> Option<u64> {
        self.used
    }
}

impl fmt::Display for LimitBreach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, value, used } = self;
        write!(f, "its {limit} is limited to {}", limit.show(*value))?;
        used.map_or(Ok(()), |used| write!(f, ", and it used {}", limit.show(used)))
    }
}

/// What a process has used, from its start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
    pub(crate) max_resident: Option<u64>,
}

impl Usage {
    /// Time of processors in the program itself.
    pub fn user_time(&self) -> Duration {
        self.user
    }

    /// Time of processors in the system's kernel.
    pub fn system_time(&self) -> Duration {
        self.system
    }

    /// The most memory that it had in use at a time, in bytes. Known when the process has gone for good, a moment
    /// after its end was told.
    pub fn max_resident(&self) -> Option<u64> {
        self.max_resident
    }

    /// Time of processors in all.
    pub(crate) fn time(&self) -> Duration {
        self.user.saturating_add(self.system)
    }
}

/// Where a worker's usage is noted. Its end is told before the process has gone for good, and all is known.
#[derive(Clone, Default, Debug)]
pub(crate) struct Account {
    /// What was known when its end was told.
    pub(crate) early: Usage,
    reaped: Arc<OnceLock<Usage>>,
}

impl Account {
    pub(crate) fn new(early: Usage) -> Self {
        Self { early, ..Self::default() }
    }

    /// The process was reaped. Once.
    pub(crate) fn close(&self, usage: Usage) {
        self.reaped.get_or_init(|| usage);
    }

    pub(crate) fn usage(&self) -> Usage {
        self.reaped.get().copied().unwrap_or(self.early)
    }
}

/// Why a worker ended.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It ended itself, with this code.
    Exited(i32),
    /// A signal ended it, of which nothing else is known.
    Signal(i32),
    /// The system killed it because there was no memory left, for all or for its control group.
    OutOfMemory,
    /// It was over a limit.
    Limit(LimitBreach),
    /// It sent what no worker sends, and was killed.
    Protocol,
    /// Something else in this process has taken its status.
    Unknown,
}

/// What is known of a worker that ended, or was killed, with an item that it had begun: see
/// [`Error::lost`](crate::Error::lost).
///
/// ```
/// use procession::{Cause, Pool, task};
///
/// #[task]
/// fn leave(code: i32) {
///     std::process::exit(code);
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let pool = Pool::builder().processes(1).build()?;
/// let error = pool.apply(leave, (3,)).unwrap_err();
/// let lost = error.lost().unwrap();
/// assert_eq!(lost.cause(), Cause::Exited(3));
/// assert!(lost.usage().user_time().as_secs() < 60);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct WorkerLost {
    pub(crate) task: Option<String>,
    pub(crate) index: Option<usize>,
    pub(crate) pid: Option<u32>,
    pub(crate) cause: Cause,
    pub(crate) note: Option<String>,
    pub(crate) account: Account,
}

impl WorkerLost {
    /// The name of the task that it had begun.
    pub fn task(&self) -> Option<&str> {
        self.task.as_deref()
    }

    /// The position in the input of the item that it had begun, from 0.
    pub fn index(&self) -> Option<usize> {
        self.index
    }

    /// Its process id.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Why it ended.
    pub fn cause(&self) -> Cause {
        self.cause
    }

    /// What it could still say of its end: a panic that became an abort, the address of a fault, that the task
    /// called `exit`.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// What it has used in its whole life.
    pub fn usage(&self) -> Usage {
        self.account.usage()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_breach_has_its_units() {
        let breach =
            LimitBreach { limit: Limit::CpuTime, value: 2_000_000_000, used: Some(2_010_000_000) };
        assert_eq!(breach.to_string(), "its CPU time is limited to 2s, and it used 2.01s");
        let breach = LimitBreach { limit: Limit::FileSize, value: 4096, used: None };
        assert_eq!(breach.to_string(), "its file size is limited to 4096 bytes");
    }

    #[test]
    fn an_account_is_closed_once_for_all_who_have_it() {
        let used = |secs| Usage { user: Duration::from_secs(secs), ..Usage::default() };
        let account = Account::new(used(1));
        let other = account.clone();
        assert_eq!(other.usage(), used(1));
        account.close(used(2));
        account.close(used(3));
        assert_eq!(other.usage(), used(2));
    }
}

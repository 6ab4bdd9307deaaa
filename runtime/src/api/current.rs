//! This process, its parent, and what it may wait for.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process;
use std::sync::OnceLock;
use std::time::Duration;

use crate::error::Error;
use crate::os;
use crate::worker::{identity, item};

/// This process, as its parent sees it: see [`current_process`].
#[derive(Clone, Copy, Debug)]
pub struct CurrentProcess(());

impl CurrentProcess {
    /// What it is called: `MainProcess` in the first process.
    pub fn name(&self) -> &'static str {
        identity::name()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        process::id()
    }
}

/// This process.
///
/// ```
/// assert_eq!(procession::current_process().name(), "MainProcess");
/// ```
pub fn current_process() -> CurrentProcess {
    CurrentProcess(())
}

/// Whether the task that runs had better end: its call was cancelled, or has failed, or what it would give is of no
/// use to anybody for another reason; or it has run for longer than its
/// [`soft_timeout`](crate::Call::soft_timeout). False in a process that runs no task. It takes some nanoseconds; other
/// threads of the task's process may ask, too.
///
/// ```
/// use std::time::Duration;
/// use procession::{Pool, task};
///
/// #[task]
/// fn count() -> u64 {
///     let mut count = 0;
///     while !procession::cancelled() {
///         count += 1;
///     }
///     count
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let pool = Pool::builder().processes(1).build()?;
/// assert!(pool.call(count).soft_timeout(Duration::from_millis(50)).apply(())? > 0);
/// # Ok(())
/// # }
/// ```
pub fn cancelled() -> bool {
    item::is_stopped()
}

/// How often the item that this task works on has been tried before: 0 the first time. See
/// [`Call::retries`](crate::Call::retries).
///
/// ```
/// use procession::{Pool, task};
///
/// #[task]
/// fn unlucky() -> u32 {
///     if procession::attempt() < 2 {
///         std::process::abort();
///     }
///     procession::attempt()
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let pool = Pool::builder().processes(1).build()?;
/// assert_eq!(pool.call(unlucky).retries(3).apply(())?, 2);
/// # Ok(())
/// # }
/// ```
pub fn attempt() -> u32 {
    item::attempt()
}

/// The process that has started this one: see [`parent_process`].
#[derive(Clone, Copy, Debug)]
pub struct ParentProcess {
    pid: u32,
    name: &'static str,
    pidfd: &'static OwnedFd,
}

impl ParentProcess {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// What it is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it hasn't ended.
    pub fn is_alive(&self) -> bool {
        !os::wait::ended(self.pidfd.as_fd()).unwrap_or(false)
    }

    /// Waits for its end, at most for `timeout`; true if it has ended.
    pub fn join_timeout(&self, timeout: Option<Duration>) -> bool {
        os::wait::ready(&[self.pidfd.as_fd()], timeout).is_ok_and(|ready| !ready.is_empty())
    }
}

impl AsFd for ParentProcess {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// The process that has started this one with [`Process`](crate::Process) or a
/// [`Pool`](crate::Pool); none in the first process, and when the parent had ended before it was first
/// asked for.
///
/// ```
/// assert!(procession::parent_process().is_none());
/// ```
pub fn parent_process() -> Option<ParentProcess> {
    static PIDFD: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let hello = identity::hello()?;
    let pidfd = PIDFD.get_or_init(|| {
        let pidfd = os::wait::open(i32::try_from(hello.parent).ok()?).ok()?;
        // Asked after it was opened, so that it isn't a later process of that number.
        (std::os::unix::process::parent_id() == hello.parent).then_some(pidfd)
    });
    Some(ParentProcess { pid: hello.parent, name: &hello.parent_name, pidfd: pidfd.as_ref()? })
}

/// How many cores this process may use: the machine's, less what its affinity and its control group's
/// quota leave out. At least 1.
///
/// ```
/// assert!(procession::cpu_count() >= 1);
/// ```
pub fn cpu_count() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// Starts later workers from this executable instead of the one that runs. It must be the same build:
/// a worker of another one refuses to serve. It is opened now.
///
/// # Errors
/// The file can't be opened.
pub fn set_executable(path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    os::image::set(path)
        .map_err(|error| Error::system(&format!("can't open {}", path.display()), &error))
}

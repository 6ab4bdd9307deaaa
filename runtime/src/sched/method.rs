//! How new processes come to be: the choice.

use crate::error::Error;
use crate::os::fork;

/// The environment variable that says what the default is.
const VARIABLE: &str = "PROCESSION_START_METHOD";

/// How a new process comes to be: see [`Pool::builder`](crate::Pool::builder) and
/// [`Process::new`](crate::Process::new).
///
/// Where none is chosen, the environment variable `PROCESSION_START_METHOD` counts: `spawn` or
/// `forkserver`. Without it, it is [`Spawn`](Self::Spawn).
///
/// ```
/// use procession::{Process, StartMethod, task};
///
/// #[task]
/// fn answer() -> u32 {
///     42
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let process = Process::new(answer, ()).start_method(StartMethod::ForkServer).start()?;
/// assert_eq!(process.join()?, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum StartMethod {
    /// The program's own executable is started again, from scratch. It takes nothing from the parent
    /// but what it is given, and is safe whatever threads the parent has.
    #[default]
    Spawn,
    /// A *fork server*, the program's own executable started again once, forks itself for each new
    /// process, which takes a fraction of the time. It has one thread, so this is safe, too, whatever
    /// threads the parent has. Each pool has a server of its own, which has run the task given to
    /// [`preload`](crate::PoolBuilder::preload); all processes made by
    /// [`Process`](crate::Process) share one, which is started with the first and stays. It forks ahead: some
    /// idle copies of it, its *spares*, wait for the next starts. They are children of this process, too, but
    /// [`active_children`](crate::active_children) doesn't show them.
    ///
    /// A pool's workers find environment, current directory and standard streams as they were when the
    /// pool was made; for a `Process` they are as at its start. All else that a process inherits, such as
    /// limits and affinity, is as it was when the server was started. A server that is killed is replaced.
    ///
    /// It needs glibc. With another C library, choosing it is an error.
    ForkServer,
}

impl StartMethod {
    /// The one that was chosen, or the default.
    ///
    /// # Errors
    /// The environment names an unknown one; or this one can't be used here.
    pub(crate) fn settle(chosen: Option<Self>) -> Result<Self, Error> {
        let method = match chosen {
            Some(method) => method,
            None => Self::from_environment()?,
        };
        if method == Self::ForkServer && !fork::IS_SUPPORTED {
            return Err(Error::usage("the start method `ForkServer` needs glibc; use `Spawn`"));
        }
        Ok(method)
    }

    fn from_environment() -> Result<Self, Error> {
        let Some(value) = std::env::var_os(VARIABLE) else { return Ok(Self::default()) };
        match value.to_str() {
            Some("spawn") => Ok(Self::Spawn),
            Some("forkserver") => Ok(Self::ForkServer),
            _ => Err(Error::usage(format!(
                "the environment variable {VARIABLE} is {value:?}; it can be `spawn` or `forkserver`"
            ))),
        }
    }
}

//! Why a call of a managed object has no result.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, PanicInfo};
use crate::manage::protocol::Fault;

/// Why a call of a managed object has no result.
///
/// With `?` it becomes an [`Error`], which knows [`Error::panic`], [`Error::is_poisoned`] and
/// [`Error::is_disconnected`]. A task can return it: it can be sent.
///
/// ```
/// use procession::{Manager, ManagerError};
///
/// # fn main() -> Result<(), procession::Error> {
/// let manager = Manager::new()?;
/// let dict = manager.dict::<String, u64>()?;
/// manager.shutdown()?;
/// assert!(matches!(dict.get("a"), Err(ManagerError::Lost(_))));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ManagerError {
    /// The method panicked. If it could change the object, the object is poisoned.
    Panicked {
        /// Which method of which type.
        call: String,
        /// The panic.
        info: PanicInfo,
    },
    /// A method that could change the object has panicked before, or whoever held the lock has panicked or
    /// died, so that things may be half changed. Calls fail until somebody calls `clear_poison`. Inside: which
    /// method of which type.
    Poisoned(String),
    /// The server has gone: its manager was shut down or dropped, or somebody has killed it. Inside: which
    /// method of which type.
    Lost(String),
    /// There is no such object any more. Inside: which method of which type.
    Gone(String),
    /// Arguments or result can't be encoded or decoded, with the reason.
    Data(String),
    /// A public name stands for an object of another type than was asked for.
    TypeMismatch {
        /// The name.
        name: String,
        /// The type that was asked for.
        expected: String,
        /// The type of the object.
        found: String,
    },
    /// The server can't do that, with the reason.
    Refused(String),
    /// There is no connection to a [remote](super::Manager::connect) manager, with the reason. The call was
    /// not executed, and the next one tries again.
    Unreachable(String),
    /// The connection to a [remote](super::Manager::connect) manager has ended while the call was under way:
    /// it may have been executed, or not. It is not repeated. Inside: which method of which type.
    Interrupted(String),
}

impl ManagerError {
    /// What has become of a call.
    #[cold]
    pub(crate) fn new(fault: Fault, call: impl Into<String>) -> Self {
        let call = call.into();
        match fault {
            Fault::Panicked(info) => Self::Panicked { call, info },
            Fault::Poisoned => Self::Poisoned(call),
            Fault::Lost => Self::Lost(call),
            Fault::Gone => Self::Gone(call),
            Fault::Data(text) => Self::Data(format!("{call}: {text}")),
            Fault::Refused(text) => Self::Refused(format!("{call}: {text}")),
            Fault::Unreachable(text) => Self::Unreachable(format!("{call}: {text}")),
            Fault::Interrupted => Self::Interrupted(call),
        }
    }
}

impl fmt::Display for ManagerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked { call, info } => write!(f, "{call} panicked{info}"),
            Self::Poisoned(call) => write!(
                f,
                "{call}: the object is poisoned: who was changing it, or held it, has panicked or died; \
                 `clear_poison` lets calls through again"
            ),
            Self::Lost(call) => write!(
                f,
                "{call}: the manager's server has gone; it lives as long as its `Manager`"
            ),
            Self::Gone(call) => write!(f, "{call}: there is no such object any more"),
            Self::TypeMismatch { name, expected, found } => {
                write!(f, "the object named `{name}` is a {found}, not a {expected}")
            }
            Self::Data(text) | Self::Refused(text) | Self::Unreachable(text) => f.write_str(text),
            Self::Interrupted(call) => write!(
                f,
                "{call}: the connection to the manager has ended; whether the call was executed is not known"
            ),
        }
    }
}

impl fmt::Debug for ManagerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        match self {
            Self::Panicked { info, .. } => {
                info.backtrace().map_or(Ok(()), |backtrace| write!(f, "\n{backtrace}"))
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ManagerError {}

impl From<ManagerError> for Error {
    fn from(error: ManagerError) -> Self {
        let text = error.to_string();
        match error {
            ManagerError::Panicked { call, info } => Self::new(Kind::Panic(info)).of_task(&call),
            ManagerError::Poisoned(_) => Self::new(Kind::Poisoned(
                "the managed object is poisoned: who was changing it, or held it, has panicked or died; \
                 `clear_poison` lets calls through again",
            )),
            ManagerError::Lost(_) | ManagerError::Unreachable(_) | ManagerError::Interrupted(_) => {
                Self::new(Kind::Disconnected(text))
            }
            _ => Self::new(Kind::Channel(text)),
        }
    }
}

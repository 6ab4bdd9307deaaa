//! The only system calls of the crate.
//!
//! Everything here is a thin, safe face over one kernel interface. `os` does not know what a task,
//! a worker or a pool is.

pub(crate) mod available;
pub(crate) mod barrier;
pub(crate) mod clock;
pub(crate) mod conjure;
pub(crate) mod ending;
pub(crate) mod environment;
pub(crate) mod epoll;
pub(crate) mod exit;
pub(crate) mod fault;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod hook;
pub(crate) mod image;
pub(crate) mod limits;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod mirror;
pub(crate) mod module;
pub(crate) mod oom;
pub(crate) mod processor;
pub(crate) mod random;
pub(crate) mod region;
pub(crate) mod robust;
pub(crate) mod signals;
pub(crate) mod socket;
pub(crate) mod spawn;
pub(crate) mod spin;
pub(crate) mod usage;
pub(crate) mod wait;

#[cfg(not(target_os = "linux"))]
compile_error!("procession supports Linux only so far: it stands on pidfd, memfd and epoll");

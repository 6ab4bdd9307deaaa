//! What the kernel limits for a process, from when that has asked for it itself.

#![expect(unsafe_code, reason = "setpriority has no safe wrapper")]

use std::io;

use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::Limit;

/// Limits that the kernel keeps.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Kept {
    /// Whole seconds, which is how the kernel counts.
    pub(crate) cpu_seconds: Option<u64>,
    pub(crate) address_space: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) core_size: Option<u64>,
    pub(crate) file_size: Option<u64>,
    pub(crate) nice: Option<i32>,
    pub(crate) affinity: Option<Vec<usize>>,
}

/// Who ignores the signal at its limit of CPU time has so many seconds more.
pub(crate) const CPU_GRACE: u64 = 1;

impl Kept {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Sets them for this process. Threads that run already keep their niceness and affinity.
    ///
    /// # Errors
    /// The limit that can't be set, with its value.
    pub(crate) fn take_on(&self) -> Result<(), (Limit, String, io::Error)> {
        let sizes = [
            (Limit::OpenFiles, Resource::RLIMIT_NOFILE, self.open_files),
            (Limit::CoreSize, Resource::RLIMIT_CORE, self.core_size),
            (Limit::FileSize, Resource::RLIMIT_FSIZE, self.file_size),
            (Limit::AddressSpace, Resource::RLIMIT_AS, self.address_space),
        ];
        for (limit, resource, most) in sizes {
            if let Some(most) = most {
                set(limit, resource, most, most)?;
            }
        }
        if let Some(most) = self.cpu_seconds {
            set(Limit::CpuTime, Resource::RLIMIT_CPU, most, most.saturating_add(CPU_GRACE))?;
        }
        if let Some(nice) = self.nice {
            set_nice(nice).map_err(|error| (Limit::Nice, nice.to_string(), error))?;
        }
        if let Some(processors) = &self.affinity {
            set_affinity(processors)
                .map_err(|error| (Limit::Affinity, format!("{processors:?}"), error))?;
        }
        Ok(())
    }
}

fn set(
    limit: Limit,
    resource: Resource,
    soft: u64,
    hard: u64,
) -> Result<(), (Limit, String, io::Error)> {
    setrlimit(resource, soft, hard).map_err(|error| (limit, soft.to_string(), error.into()))
}

fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: the call takes three integers.
    let code = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_affinity(processors: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for processor in processors {
        set.set(*processor)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

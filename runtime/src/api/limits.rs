//! What a worker may use.

use std::time::Duration;

use crate::error::Error;
use crate::os::limits::Kept;

/// What a worker, or a process, may use: for [`PoolBuilder::limits`](crate::PoolBuilder::limits) and
/// [`ProcessBuilder::limits`](crate::ProcessBuilder::limits).
///
/// The system's kernel keeps all of these but [`resident`](Self::resident), for each process by itself and from before its first task,
/// whatever the task does. A worker that is ended for one is replaced, and the error of the item that it ran says so:
/// [`Error::limit`]. What isn't set here is as in the process that starts the workers. Limits that the
/// kernel refuses (more than `ulimit -H` allows, a lower niceness without the right to it, processors that there
/// aren't) fail the pool, or the process, with an error that names them.
///
/// ```
/// use std::time::Duration;
/// use procession::{Limit, Limits, Process, task};
///
/// #[task]
/// fn never_ends() {
///     loop {
///         std::hint::spin_loop();
///     }
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let limits = Limits::new().cpu_time(Duration::from_secs(1)).core_size(0);
/// let error = Process::new(never_ends, ()).limits(limits).start()?.join().unwrap_err();
/// assert_eq!(error.limit().unwrap().limit(), Limit::CpuTime);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq, Debug)]
#[must_use = "limits do nothing until a builder takes them"]
pub struct Limits {
    kept: Kept,
    resident: Option<u64>,
}

impl Limits {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Time of processors, of all threads together and from the process's start, in whole seconds: parts of
    /// one count as one more. A worker of a pool has it for all of its tasks together, and is ended in the midst
    /// of the one that uses it up: with [`max_tasks_per_child`](crate::PoolBuilder::max_tasks_per_child) it is that
    /// of so many tasks. The kernel counts by samples, so it may be off by some
    /// tenths of a second. The signal is SIGXCPU; a task that ignores it is killed after one second more.
    pub fn cpu_time(mut self, limit: Duration) -> Self {
        let seconds = limit.as_secs().saturating_add(u64::from(limit.subsec_nanos() > 0));
        self.kept.cpu_seconds = Some(seconds);
        self
    }

    /// Addresses that are in use, in bytes, whether or not there is memory behind them: not less than
    /// resident memory, and often much more. What is over it can't be allocated, of which Rust programs
    /// abort. A bare worker takes some 30 MiB, of which the stack for its tasks is 8
    /// ([`stack_size`](crate::PoolBuilder::stack_size)), and long arguments, results and shared memory come on
    /// top of that.
    pub fn address_space(mut self, bytes: u64) -> Self {
        self.kept.address_space = Some(bytes);
        self
    }

    /// Memory of its own that the process may have in use, in bytes: what is shared, with files or with other
    /// processes, doesn't count. The parent looks at it some twenty times a second, and kills a process that is
    /// over it; so it can be overrun for a moment, as [`address_space`](Self::address_space) can't.
    pub fn resident(mut self, bytes: u64) -> Self {
        self.resident = Some(bytes);
        self
    }

    /// Descriptors may have numbers below this. A worker has up to 10 of its own.
    pub fn open_files(mut self, count: u64) -> Self {
        self.kept.open_files = Some(count);
        self
    }

    /// The length of the file that the system may write when the process crashes, in bytes. 0 for none.
    pub fn core_size(mut self, bytes: u64) -> Self {
        self.kept.core_size = Some(bytes);
        self
    }

    /// The length to which the process may write any file, in bytes. The signal is SIGXFSZ; a task that
    /// ignores it gets an error from the write. Pools and queues that a task makes for itself need a file in memory,
    /// too.
    pub fn file_size(mut self, bytes: u64) -> Self {
        self.kept.file_size = Some(bytes);
        self
    }

    /// How far others go first, from −20 to 19: `nice(2)`.
    pub fn nice(mut self, nice: i32) -> Self {
        self.kept.nice = Some(nice);
        self
    }

    /// The processors that may be used, counted from 0: each worker may use each of them.
    pub fn affinity(mut self, processors: impl IntoIterator<Item = usize>) -> Self {
        self.kept.affinity = Some(processors.into_iter().collect());
        self
    }

    /// # Errors
    /// What can't be meant. Otherwise what the kernel keeps, and what the parent does: the bytes of memory.
    pub(super) fn check(self) -> Result<(Kept, Option<u64>), Error> {
        let Kept { cpu_seconds, nice, affinity, .. } = &self.kept;
        if *cpu_seconds == Some(0) {
            return Err(Error::usage("a limit of no CPU time lets no task run"));
        }
        if let Some(nice) = nice.filter(|nice| !(-20..20).contains(nice)) {
            return Err(Error::usage(format!("`nice` goes from -20 to 19; {nice} doesn't")));
        }
        if affinity.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::usage("a worker needs at least one processor in its `affinity`"));
        }
        Ok((self.kept, self.resident))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up() {
        let seconds =
            |millis| Limits::new().cpu_time(Duration::from_millis(millis)).kept.cpu_seconds;
        assert_eq!([1, 1000, 1001].map(seconds), [Some(1), Some(1), Some(2)]);
        assert!(Limits::new().cpu_time(Duration::MAX).check().is_ok());
    }

    #[test]
    fn what_cant_be_meant_is_refused() {
        let none = Limits::new();
        let bad = [
            none.clone().cpu_time(Duration::ZERO),
            none.clone().nice(20),
            none.clone().nice(-21),
            none.clone().affinity([]),
        ];
        for limits in bad {
            assert!(limits.check().is_err());
        }
        assert!(none.check().is_ok_and(|(kept, resident)| kept.is_empty() && resident.is_none()));
    }
}

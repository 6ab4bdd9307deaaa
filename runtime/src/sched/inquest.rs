//! What is said of a worker's end: to the items that it had begun, and to a pool that fails of it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use nix::libc;

use super::staff::{Phase, Worker};
use crate::error::{Account, Cause, Error, Kind, Limit, LimitBreach, Usage};
use crate::os::limits::Kept;
use crate::os::{clock, oom};
use crate::shm::note::End;

/// How a worker ended, and what it had used.
pub(super) struct Death {
    pub(super) status: Option<ExitStatus>,
    pub(super) account: Account,
}

/// What the error says of an item that its worker had begun.
pub(super) fn verdict(worker: &mut Worker, death: &Death, limits: &Kept) -> Error {
    let Death { status, account } = death;
    let signal = status.and_then(|status| status.signal());
    let was_killed = signal == Some(libc::SIGKILL);
    if worker.lost_its_thread && was_killed && worker.doom.is_none() {
        let what = "an end of the thread that runs its tasks, without ending itself \
                    (`pthread_exit` does that)";
        worker.doom = Some(Error::new(Kind::Protocol(what.to_owned())).by_worker(worker.pid));
    }
    let error = worker.doom.clone().unwrap_or_else(|| {
        let breach = worker.breach.or_else(|| breach(signal, account.usage(), limits));
        let cause = breach.map(Cause::Limit).or_else(|| {
            let was_killed_here = worker.phase == Phase::Doomed;
            (was_killed && !was_killed_here && oom::was_there()).then_some(Cause::OutOfMemory)
        });
        let words = last_words(worker, *status, limits);
        Error::new(Kind::WorkerLost { status: *status, words, cause }).by_worker(worker.pid)
    });
    error.with_account(account)
}

/// The limit that such a signal tells of.
fn breach(signal: Option<i32>, usage: Usage, limits: &Kept) -> Option<LimitBreach> {
    let used = usage.time();
    match signal? {
        signal @ (libc::SIGXCPU | libc::SIGKILL) => {
            let limit = Duration::from_secs(limits.cpu_seconds?);
            // Any other kill has nothing to do with it.
            (signal == libc::SIGXCPU || used >= limit).then(|| LimitBreach {
                limit: Limit::CpuTime,
                value: clock::nanos_of(limit),
                // By the kernel's own samples it was that much.
                used: Some(clock::nanos_of(used.max(limit))),
            })
        }
        libc::SIGXFSZ => {
            Some(LimitBreach { limit: Limit::FileSize, value: limits.file_size?, used: None })
        }
        _ => None,
    }
}

/// What a worker said of its end, in words.
fn last_words(worker: &Worker, status: Option<ExitStatus>, limits: &Kept) -> Option<String> {
    let note = &worker.page.note;
    let panic = note.read_panic().map(|panic| format!("it panicked{panic}"));
    let aborted = status.and_then(|status| status.signal()) == Some(libc::SIGABRT);
    match note.read_end() {
        _ if aborted && panic.is_some() => panic,
        // What can't be allocated ends so, and says it on the standard error alone.
        _ if aborted => limits.address_space.map(|bytes| {
            format!("its address space is limited to {bytes} bytes, which may have been too little")
        }),
        Some(End::StackOverflow { address }) => {
            Some(format!("its stack overflowed at {address:#x} (`stack_size` sets its size)"))
        }
        Some(End::Signal { address, .. }) => Some(format!("the faulting address is {address:#x}")),
        Some(End::Exit) => Some("the task called `exit`".to_owned()),
        None => None,
    }
}

/// Why a worker never got as far as taking tasks.
pub(super) fn describe_early_death(worker: &Worker, cause: &Error) -> Error {
    if worker.doom.is_some() {
        return cause.clone();
    }
    let how = match cause.kind() {
        Kind::WorkerLost { status: Some(status), words, cause } => {
            let breach = match cause {
                Some(Cause::Limit(breach)) => Some(breach.to_string()),
                _ => None,
            };
            [Some(status.to_string()), breach, words.clone()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("; ")
        }
        _ => "an unknown status".to_owned(),
    };
    let stage = match worker.phase {
        Phase::Initializing => "in its initializer",
        _ => "before it took a task",
    };
    Error::new(Kind::Start(format!("a worker (pid {}) ended {stage}, with {how}", worker.pid)))
        .by_worker(worker.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(millis: u64) -> Usage {
        Usage { user: Duration::from_millis(millis), ..Usage::default() }
    }

    #[test]
    fn a_signal_tells_of_a_limit_that_there_is() {
        let limits = Kept { cpu_seconds: Some(2), file_size: Some(10), ..Kept::default() };
        let of = |signal, millis| breach(Some(signal), used(millis), &limits);
        let cpu = of(libc::SIGXCPU, 2003).unwrap();
        assert_eq!((cpu.limit(), cpu.value()), (Limit::CpuTime, 2_000_000_000));
        assert_eq!(cpu.used(), Some(2_003_000_000));
        assert_eq!(of(libc::SIGKILL, 3000).unwrap().limit(), Limit::CpuTime);
        assert_eq!(of(libc::SIGXFSZ, 0).unwrap().limit(), Limit::FileSize);
        assert!(of(libc::SIGKILL, 1990).is_none() && of(libc::SIGSEGV, 5000).is_none());
    }

    #[test]
    fn where_nothing_is_limited_nothing_is_broken() {
        for signal in [libc::SIGXCPU, libc::SIGXFSZ, libc::SIGKILL] {
            assert!(breach(Some(signal), used(100_000), &Kept::default()).is_none());
        }
        assert!(breach(None, used(100_000), &Kept::default()).is_none());
    }
}

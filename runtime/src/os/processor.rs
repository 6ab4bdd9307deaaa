//! On which processor a thread runs, and leaving it.
//!
//! Two processes that only wait for each other can get onto one processor, where neither can spin for the
//! other, and stay there for as long as they go on: the system moves threads that wait for a processor, and
//! here one of the two always sleeps.

use std::fs;

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// Moves this thread to another processor, if it is on that on which the main thread of another process ran
/// last. Where it may run stays what it was. True: it was moved.
pub(crate) fn part_from(process: u32) -> bool {
    let mine = sched_getcpu().ok();
    if mine.is_none() || last_of(process) != mine {
        return false;
    }
    let this = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(this) else { return false };
    let mut others = allowed;
    let is_left = mine.is_some_and(|mine| others.unset(mine).is_ok())
        && (0..CpuSet::count()).any(|other| others.is_set(other) == Ok(true));
    is_left && sched_setaffinity(this, &others).is_ok() && sched_setaffinity(this, &allowed).is_ok()
}

/// The processor on which the main thread of a process runs or ran last.
fn last_of(process: u32) -> Option<usize> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything; the 37th field behind it is meant.
    text.rsplit_once(") ")?.1.split_ascii_whitespace().nth(36)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_parts_from_its_own_processor_and_may_come_back() {
        // A thread of its own: the change of its affinity is nobody else's.
        let is_parted = || {
            let this = Pid::from_raw(0);
            let allowed = sched_getaffinity(this).unwrap();
            let mut parted = false;
            for _ in 0..100 {
                let before = sched_getcpu().unwrap();
                parted |=
                    last_of(std::process::id()) == Some(before) && part_from(std::process::id());
                assert_eq!(sched_getaffinity(this).unwrap(), allowed);
            }
            parted
        };
        let parted = thread::spawn(is_parted).join().unwrap();
        assert!(!parted || thread::available_parallelism().unwrap().get() > 1);
        assert!(last_of(std::process::id()).is_some() && last_of(u32::MAX).is_none());
    }

    #[test]
    fn who_has_one_processor_stays() {
        let stays = || {
            let this = Pid::from_raw(0);
            let mut one = CpuSet::new();
            one.set(sched_getcpu().unwrap()).unwrap();
            sched_setaffinity(this, &one).unwrap();
            (0..100).all(|_| !part_from(std::process::id()))
        };
        assert!(thread::spawn(stays).join().unwrap());
    }
}

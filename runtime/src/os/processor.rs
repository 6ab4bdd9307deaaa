//! On which processor a thread runs, and leaving it.
//!
//! Two processes that only wait for each other can get onto one processor, where neither can spin for the
//! other, and stay there for as long as they go on: the system moves threads that wait for a processor, and
//! here one of the two always sleeps.

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// The processor on which this thread is, or was a moment ago. No system call where the C library does it well.
#[inline]
pub(crate) fn here() -> Option<u32> {
    sched_getcpu().ok().and_then(|here| u32::try_from(here).ok())
}

/// Moves this thread to another processor. Where it may run stays what it was. False: there is no other one,
/// or the system refuses.
pub(crate) fn leave() -> bool {
    let this = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(this) else { return false };
    let mut others = allowed;
    let is_left = sched_getcpu().is_ok_and(|here| others.unset(here).is_ok())
        && (0..CpuSet::count()).any(|other| others.is_set(other) == Ok(true));
    is_left && sched_setaffinity(this, &others).is_ok() && sched_setaffinity(this, &allowed).is_ok()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_leaves_its_processor_and_may_come_back() {
        // A thread of its own: the change of its affinity is nobody else's.
        let has_left = || {
            let this = Pid::from_raw(0);
            let allowed = sched_getaffinity(this).unwrap();
            let left = leave();
            assert_eq!(sched_getaffinity(this).unwrap(), allowed);
            let count =
                (0..CpuSet::count()).filter(|other| allowed.is_set(*other) == Ok(true)).count();
            assert_eq!(left, count > 1);
        };
        thread::spawn(has_left).join().unwrap();
    }

    #[test]
    fn who_has_one_processor_stays() {
        let stays = || {
            let this = Pid::from_raw(0);
            let mut one = CpuSet::new();
            let here = here().unwrap();
            one.set(here as usize).unwrap();
            sched_setaffinity(this, &one).unwrap();
            (0..100).all(|_| !leave()) && super::here() == Some(here)
        };
        // It may have been moved before it stayed.
        assert!((0..100).any(|_| thread::spawn(stays).join().unwrap()));
    }
}

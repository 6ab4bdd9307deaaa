//! Looking again and again for what is about to come, instead of sleeping, where that pays.
//!
//! It doesn't where what is waited for takes longer, or where whoever would bring it can't run meanwhile,
//! because this thread or somebody else's has the processor. Both are learnt: after each attempt in vain
//! more of the next ones are left out, and one that isn't in vain ends that. So spinning in vain costs
//! little, on a machine that is busy, too, and spinning begins again soon where it pays.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use super::{clock, futex};

/// Attempts that are left out at most between two: each may take as long as two wakes, of which it saves
/// one, so this is a loss of a few percent.
const MOST: u32 = 63;

/// Looks between two looks at the clock, which costs as much as some of them.
const LOOKS: u32 = 16;

/// What was learnt at one place. Threads that use it at the same time may disturb each other a little.
#[derive(Debug, Default)]
pub(crate) struct Spinner {
    left_out: AtomicU32,
    pause: AtomicU32,
}

impl Spinner {
    /// What was learnt doesn't hold any more.
    pub(crate) fn forget(&self) {
        self.left_out.store(0, Relaxed);
        self.pause.store(0, Relaxed);
    }

    /// Spins for so many nanoseconds, or not at all. True: it `is_over`.
    pub(crate) fn spin(&self, limit: u64, is_over: impl Fn() -> bool) -> bool {
        if is_over() {
            return true;
        }
        if limit == 0 {
            return false;
        }
        let left_out = self.left_out.load(Relaxed);
        if left_out > 0 {
            self.left_out.store(left_out - 1, Relaxed);
            return false;
        }
        let start = clock::nanos();
        loop {
            for _ in 0..LOOKS {
                if is_over() {
                    self.pause.store(0, Relaxed);
                    return true;
                }
                std::hint::spin_loop();
            }
            if clock::nanos() - start >= limit {
                break;
            }
        }
        let pause = (2 * self.pause.load(Relaxed) + 1).min(MOST);
        self.pause.store(pause, Relaxed);
        self.left_out.store(pause, Relaxed);
        false
    }
}

/// How long spinning pays, in nanoseconds: twice as long as it takes to wake a sleeper, as measured here once.
/// Whoever gives up before an answer that a sleeper sends can come would always do so.
pub(crate) fn limit() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(|| there_and_back().unwrap_or(LEAST).clamp(LEAST, LONGEST))
}

/// What two processors of a virtual machine need, at the upper end. Less is measured where the two threads
/// happened to share a processor, and too little is worse than too much, which is left out when it is in vain.
const LEAST: u64 = 50_000;

/// More is measured where other processes had the processors.
const LONGEST: u64 = 200_000;

/// Wakes there and back, of which the median counts, and how long they may take in all.
const ROUNDS: u32 = 12;
const AT_MOST: u64 = 2_000_000;

/// How long it takes until a sleeper was woken and has woken this thread.
fn there_and_back() -> Option<u64> {
    const PATIENCE: Duration = Duration::from_millis(2);
    const OVER: u32 = u32::MAX;
    fn wait(word: &AtomicU32, before: u32) {
        while word.load(Acquire) == before {
            futex::wait(word, before, Some(PATIENCE));
        }
    }
    fn send(word: &AtomicU32, value: u32) {
        word.store(value, Release);
        futex::wake(word, 1);
    }
    let words = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    let theirs = Arc::clone(&words);
    let partner = move || {
        for round in 0.. {
            wait(&theirs[0], round);
            if theirs[0].load(Acquire) == OVER {
                return;
            }
            send(&theirs[1], round + 1);
        }
    };
    thread::Builder::new().name("procession spin".into()).spawn(partner).ok()?;
    let (start, mut times) = (clock::nanos(), Vec::new());
    for round in 0..ROUNDS {
        let before = clock::nanos();
        send(&words[0], round + 1);
        wait(&words[1], round);
        let now = clock::nanos();
        times.push(now - before);
        if now - start > AT_MOST {
            break;
        }
    }
    send(&words[0], OVER);
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_there_is_seen_at_once() {
        let spinner = Spinner::default();
        assert!(spinner.spin(0, || true));
        assert!(!spinner.spin(0, || false));
    }

    #[test]
    fn the_limit_is_measured_once_and_within_bounds() {
        assert!((LEAST..=LONGEST).contains(&limit()));
        assert_eq!(limit(), limit());
        assert!(there_and_back().is_some_and(|nanos| nanos > 0));
    }

    #[test]
    fn attempts_in_vain_become_rare_and_success_ends_that() {
        let spinner = Spinner::default();
        let looks = Cell::new(0_u32);
        let attempts = |count: u32| {
            let mut spun = 0;
            for _ in 0..count {
                looks.set(0);
                assert!(!spinner.spin(1, || {
                    looks.set(looks.get() + 1);
                    false
                }));
                spun += u32::from(looks.get() > 1);
            }
            spun
        };
        // After 1, 3, 7, 15, 31, 63, 63 and so on that are left out.
        assert_eq!(attempts(1 + 1 + 1 + 3 + 1 + 7 + 1), 4);
        attempts(1000);
        assert!((15..=16).contains(&attempts(1000)));
        let looks = Cell::new(0);
        let second_time = || {
            looks.set(looks.get() + 1);
            looks.get() == 2
        };
        while !spinner.spin(u64::MAX, second_time) {
            looks.set(0);
        }
        assert_eq!(attempts(1), 1);
    }
}

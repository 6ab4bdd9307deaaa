//! What a thread does while it waits for another process: it looks, gives its processor to others, sleeps.
//!
//! A round trip without a sleep takes a microsecond or two, and a wake alone ten times as long. Looking
//! pays where whoever is waited for has a processor of its own. Where more threads wait than there are
//! processors, *yielding* does better than both: it costs one switch, to somebody who may have what is
//! waited for in hand, and with nobody else there it returns at once.
//!
//! Where somebody computes on the same processor, though, a yield gives it to him for milliseconds, and a
//! sleeper who is woken gets it back at once. So a yield that took long, and in which nobody else who waits
//! for the same server got on, is followed by waits without one.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use crate::os::clock;

/// For so many nanoseconds a thread looks before it yields: as long as a quick call takes, there and back.
const LOOKS: u64 = 4_000;

/// After so many it sleeps: some times what a wake takes, there and back.
const YIELDS: u64 = 100_000;

/// Looks between two looks at the clock.
const PAUSES: u32 = 8;

/// A yield that takes longer may have gone to somebody who computes: ten threads that wait as this one does
/// need less.
const LONG: u64 = 400_000;

/// So many waits of this process do without yields then: one yield of a few milliseconds is little among
/// them.
const LEFT_OUT: u32 = 255;

/// How many are left of these.
static LEFT: AtomicU32 = AtomicU32::new(0);

/// How long somebody has waited.
pub(crate) struct Rest {
    rounds: u32,
    since: u64,
    is_crowded: bool,
    yields: bool,
    left: &'static AtomicU32,
}

impl Default for Rest {
    fn default() -> Self {
        Self::new(&LEFT)
    }
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Look again.
    Look,
    /// Look again, after others had the processor, maybe.
    Yielded,
    /// Look again, after others had the processor for long. If they didn't use it for the same server, say so:
    /// [`starve`](Rest::starve).
    Starved,
    /// Sleep.
    Sleep,
}

impl Rest {
    fn new(left: &'static AtomicU32) -> Self {
        Self { rounds: 0, since: 0, is_crowded: false, yields: false, left }
    }

    /// Somebody computes: yielding doesn't pay for now.
    pub(crate) fn starve(&mut self) {
        self.left.store(LEFT_OUT, Relaxed);
    }

    /// Whoever is waited for may be on this very processor.
    pub(crate) fn crowded() -> Self {
        Self { is_crowded: true, ..Self::default() }
    }

    /// What was waited for has come.
    pub(crate) fn end(&mut self) {
        *self = Self::new(self.left);
    }

    /// One more look was in vain.
    pub(crate) fn step(&mut self) -> Step {
        self.rounds += 1;
        let begins = self.rounds == if self.is_crowded { 1 } else { PAUSES };
        if !begins && !self.yields && !self.rounds.is_multiple_of(PAUSES) {
            std::hint::spin_loop();
            return Step::Look;
        }
        let now = clock::nanos();
        if begins {
            self.since = now;
        }
        let waited = now.saturating_sub(self.since);
        if waited < LOOKS && !self.is_crowded && has_others() {
            return Step::Look;
        }
        if !self.yields {
            let one_less = |left: u32| left.checked_sub(1);
            self.yields = self.left.fetch_update(Relaxed, Relaxed, one_less).is_err();
        }
        if waited >= YIELDS || !self.yields {
            self.end();
            return Step::Sleep;
        }
        thread::yield_now();
        if clock::nanos() - now > LONG { Step::Starved } else { Step::Yielded }
    }
}

/// Whether whoever is waited for can run meanwhile.
fn has_others() -> bool {
    static HAS_OTHERS: OnceLock<bool> = OnceLock::new();
    *HAS_OTHERS.get_or_init(|| thread::available_parallelism().is_ok_and(|count| count.get() > 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(left: &'static AtomicU32) -> Vec<Step> {
        let (mut rest, mut steps) = (Rest::new(left), Vec::new());
        while steps.last() != Some(&Step::Sleep) {
            steps.push(match rest.step() {
                Step::Starved => Step::Yielded,
                step => step,
            });
        }
        steps.dedup();
        steps
    }

    /// A machine that is busy may take the processor away for as long as a wait takes: then it comes to no yield.
    fn yield_some_time(left: &'static AtomicU32) {
        let yields = || {
            let steps = steps(left);
            let in_order = [Step::Look, Step::Yielded, Step::Sleep];
            assert!(steps == in_order || steps == [Step::Look, Step::Sleep]);
            steps == in_order
        };
        assert!((0..1000).any(|_| yields()));
    }

    #[test]
    fn looking_comes_before_yielding_and_sleep_is_last() {
        static OWN: AtomicU32 = AtomicU32::new(0);
        yield_some_time(&OWN);
        OWN.store(2, Relaxed);
        assert_eq!(steps(&OWN), [Step::Look, Step::Sleep]);
        assert_eq!(steps(&OWN), [Step::Look, Step::Sleep]);
        yield_some_time(&OWN);
        Rest::new(&OWN).starve();
        assert_eq!(steps(&OWN), [Step::Look, Step::Sleep]);
    }
}

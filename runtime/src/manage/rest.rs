//! What a thread does while it waits for another process: it looks, gives its processor to others, sleeps.
//!
//! A round trip without a sleep takes a microsecond or two, and a wake alone ten times as long. Looking
//! pays where whoever is waited for has a processor of its own. Where more threads wait than there are
//! processors, *yielding* does better than both: it costs one switch, to somebody who may have what is
//! waited for in hand, and with nobody else there it returns at once.
//!
//! Where somebody computes on the same processor, though, a yield gives it to him for milliseconds, and a
//! sleeper who is woken gets it back at once. So a yield that took long, and in which nobody else who waits
//! for the same server got on, is followed by waits without one: by few at first, as what computes may be
//! another client that begins, and by more each time, until a long yield has gone to others who wait.

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

/// So many waits of this process do without yields the first time.
const FEWEST: u32 = 7;

/// And so many in the end: one yield of a few milliseconds is little among them.
const MOST: u32 = 255;

static ABSTINENCE: Abstinence = Abstinence::new();

/// For how long a process doesn't yield.
struct Abstinence {
    /// So many waits more.
    left: AtomicU32,
    /// So many the next time.
    next: AtomicU32,
}

impl Abstinence {
    const fn new() -> Self {
        Self { left: AtomicU32::new(0), next: AtomicU32::new(FEWEST) }
    }

    fn begin(&self) {
        let next = self.next.load(Relaxed);
        self.left.store(next, Relaxed);
        self.next.store((2 * next + 1).min(MOST), Relaxed);
    }

    /// Counts a wait; says whether it is one of these.
    fn covers(&self) -> bool {
        self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// How long somebody has waited.
pub(crate) struct Rest {
    rounds: u32,
    since: u64,
    is_crowded: bool,
    yields: bool,
    abstinence: &'static Abstinence,
}

impl Default for Rest {
    fn default() -> Self {
        Self::new(&ABSTINENCE)
    }
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Look again.
    Look,
    /// Look again, after others had the processor, maybe.
    Yielded,
    /// Look again, after others had the processor for long. Say whether they used it for the same server:
    /// [`judge`](Rest::judge).
    Starved,
    /// Sleep.
    Sleep,
}

impl Rest {
    fn new(abstinence: &'static Abstinence) -> Self {
        Self { rounds: 0, since: 0, is_crowded: false, yields: false, abstinence }
    }

    /// Says whether others who wait got on in a yield that took long. Otherwise somebody computes, and
    /// yielding doesn't pay for now.
    pub(crate) fn judge(&mut self, others_got_on: bool) {
        if others_got_on {
            self.abstinence.next.store(FEWEST, Relaxed);
        } else {
            self.abstinence.begin();
        }
    }

    /// Whoever is waited for may be on this very processor.
    pub(crate) fn crowded() -> Self {
        Self { is_crowded: true, ..Self::default() }
    }

    /// What was waited for has come.
    pub(crate) fn end(&mut self) {
        *self = Self::new(self.abstinence);
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
            self.yields = !self.abstinence.covers();
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

    fn steps(abstinence: &'static Abstinence) -> Vec<Step> {
        let (mut rest, mut steps) = (Rest::new(abstinence), Vec::new());
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
    fn yield_some_time(abstinence: &'static Abstinence) {
        let yields = || {
            let steps = steps(abstinence);
            let in_order = [Step::Look, Step::Yielded, Step::Sleep];
            assert!(steps == in_order || steps == [Step::Look, Step::Sleep]);
            steps == in_order
        };
        assert!((0..1000).any(|_| yields()));
    }

    #[test]
    fn looking_comes_before_yielding_and_sleep_is_last() {
        static OWN: Abstinence = Abstinence::new();
        yield_some_time(&OWN);
        OWN.left.store(2, Relaxed);
        assert_eq!(steps(&OWN), [Step::Look, Step::Sleep]);
        assert_eq!(steps(&OWN), [Step::Look, Step::Sleep]);
        yield_some_time(&OWN);
        Rest::new(&OWN).judge(false);
        assert_eq!(steps(&OWN), [Step::Look, Step::Sleep]);
    }

    #[test]
    fn abstinence_is_short_at_first_and_after_others_got_on() {
        static OWN: Abstinence = Abstinence::new();
        let begun = || {
            Rest::new(&OWN).judge(false);
            OWN.left.load(Relaxed)
        };
        assert_eq!([begun(), begun(), begun()], [7, 15, 31]);
        assert_eq!((0..9).map(|_| begun()).max(), Some(MOST));
        Rest::new(&OWN).judge(true);
        assert_eq!(begun(), FEWEST);
        assert!((0..FEWEST).all(|_| OWN.covers()) && !OWN.covers());
    }
}

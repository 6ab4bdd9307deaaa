//! Who serves: at any time one thread of the server at most, the *leader*, looks for requests.
//!
//! The leader executes what it finds itself, answers, and looks again: nobody has to be woken as long as
//! there is work. A request that takes long must not hold up the others, so the leader may lose the lead
//! while it executes one; it goes on with that request, answers it, and is a *spare* afterwards.
//!
//! ```text
//!              take (a spare, a new thread)
//!   VACANT ---------------------------------> LOOKING
//!     ^                                        |   ^
//!     |                                  begin |   | end
//!     |                                        v   |
//!     +------------ depose --------------- EXECUTING
//! ```
//!
//! All of it is one word: the state, how many spares wait, and a number that grows with each take and each
//! begin. So it names the request that is executed, and whoever deposes says which it means.
//!
//! - Only the leader moves LOOKING to EXECUTING, and back.
//! - EXECUTING becomes VACANT by whoever is first: the leader itself, before it waits for something
//!   ([stepping down](Turn::depose)), or the watchdog, who has seen the same request for too long. The
//!   leader finds that out at the [end](Turn::end).
//! - VACANT becomes LOOKING by whoever is first: a spare that was woken, a thread that comes back from its
//!   request, or a new one.
//! - Forbidden: to depose who is looking. It would go on looking, and there were two.

use std::sync::atomic::Ordering::{AcqRel, Acquire};

use crate::shm::bell::Bell;
use crate::shm::platform::{Platform, Word};

const STATE: u64 = 0b11;
const VACANT: u64 = 0;
const LOOKING: u64 = 1;
const EXECUTING: u64 = 2;

const SPARE: u64 = 1 << 2;
const SPARES: u64 = 0xff << 2;

const NUMBER: u64 = 1 << 10;

/// So many threads wait for the lead at most: more than there are bursts of requests that wait. What a
/// thread costs is its stack.
const KEPT: u64 = 4;

/// See the file's head.
pub(crate) struct Turn<P: Platform> {
    word: P::U64,
    /// Rings when the lead is vacant.
    vacancy: Bell<P>,
}

/// A request that is executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request(u64);

/// What a thread that has nothing to do is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// It leads from now on.
    Lead,
    /// It is a spare: [`wait`](Turn::wait).
    Wait,
    /// There are enough spares: its end.
    Leave,
}

/// Who leads after a leader was deposed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Successor {
    /// A spare, who has been woken.
    Spare,
    /// Nobody, until the caller finds a thread.
    Missing,
}

impl<P: Platform> Turn<P> {
    /// Nobody leads.
    pub(crate) fn new(word: P::U64, bell: Bell<P>) -> Self {
        Self { word, vacancy: bell }
    }

    /// Changes the word as `change` says. None: it says that there is nothing to change.
    fn update(&self, change: impl Fn(u64) -> Option<u64>) -> Option<u64> {
        let mut before = self.word.load(Acquire);
        loop {
            match self.word.compare_exchange(before, change(before)?, AcqRel, Acquire) {
                Ok(_) => return Some(before),
                Err(now) => before = now,
            }
        }
    }

    /// Takes the lead if it is vacant.
    pub(crate) fn take(&self) -> bool {
        let take = |word| (word & STATE == VACANT).then(|| with(word, LOOKING) + NUMBER);
        self.update(take).is_some()
    }

    /// Asks what to do, having nothing to do.
    pub(crate) fn part(&self) -> Part {
        loop {
            if self.take() {
                return Part::Lead;
            }
            let word = self.word.load(Acquire);
            if word & SPARES >= KEPT * SPARE {
                return Part::Leave;
            }
            let wait = |now| (now == word).then_some(word + SPARE);
            // Otherwise the lead may have become vacant meanwhile.
            if word & STATE != VACANT && self.update(wait).is_some() {
                return Part::Wait;
            }
        }
    }

    /// Waits, as a spare, and leads.
    pub(crate) fn wait(&self) {
        let take = |word| (word & STATE == VACANT).then(|| with(word, LOOKING) + NUMBER - SPARE);
        loop {
            let heard = self.vacancy.listen();
            if self.update(take).is_some() {
                return;
            }
            // Nobody who rings can be killed and this thread not, so it needs no nap.
            P::wait(self.vacancy.word(), heard.value(), None);
        }
    }

    /// The leader begins with a request.
    pub(crate) fn begin(&self) -> Request {
        let before = self.update(|word| Some(with(word, EXECUTING) + NUMBER));
        Request(number(before.expect("it always changes") + NUMBER))
    }

    /// The request is done. True: the caller leads still.
    pub(crate) fn end(&self, request: Request) -> bool {
        let end = |word| request.is_executed(word).then(|| with(word, LOOKING));
        self.update(end).is_some()
    }

    /// Takes the lead from whoever executes the request, if that is still so. None: it isn't.
    pub(crate) fn depose(&self, request: Request) -> Option<Successor> {
        let depose = |word| request.is_executed(word).then(|| with(word, VACANT));
        let before = self.update(depose)?;
        if before & SPARES == 0 {
            return Some(Successor::Missing);
        }
        self.vacancy.ring(1);
        Some(Successor::Spare)
    }

    /// The request that the leader executes; none: it looks for one.
    pub(crate) fn executed(&self) -> Option<Request> {
        let word = self.word.load(Acquire);
        (word & STATE == EXECUTING).then(|| Request(number(word)))
    }

    /// Whether nobody leads, and no spare is about to.
    pub(crate) fn is_missing(&self) -> bool {
        let word = self.word.load(Acquire);
        word & STATE == VACANT && word & SPARES == 0
    }
}

impl Request {
    fn is_executed(self, word: u64) -> bool {
        word & STATE == EXECUTING && number(word) == self.0
    }
}

fn with(word: u64, state: u64) -> u64 {
    word & !STATE | state
}

fn number(word: u64) -> u64 {
    word & !(NUMBER - 1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::shm::model::{Model, Word32, Word64, be, explore, explore_with, process};

    struct World {
        turn: Turn<Model>,
        /// How many threads look at this moment.
        looking: Word64,
        executed: Word64,
    }

    fn world() -> Arc<World> {
        let turn = Turn::new(Word64::default(), Bell::new(Word32::default()));
        Arc::new(World { turn, looking: Word64::default(), executed: Word64::default() })
    }

    impl World {
        /// Looks, and executes the request of this bit; says whether it leads still.
        fn lead(&self, bit: u64, depose: bool) -> bool {
            assert_eq!(self.looking.swap(1, Relaxed), 0, "one looks at a time");
            self.looking.store(0, Relaxed);
            let request = self.turn.begin();
            assert_eq!(self.executed.fetch_or(bit, Relaxed) & bit, 0);
            let deposed = depose.then(|| self.turn.depose(request));
            let leads = self.turn.end(request);
            assert!(deposed.is_none_or(|_| !leads));
            leads
        }
    }

    #[test]
    fn a_spare_leads_when_the_leader_steps_down() {
        explore(|| {
            let world = world();
            assert!(be(1, || world.turn.take()));
            let spare = {
                let world = Arc::clone(&world);
                process(1, move || {
                    let part = world.turn.part();
                    if part == Part::Wait {
                        world.turn.wait();
                    }
                    assert_ne!(part, Part::Leave);
                    assert!(world.lead(2, false));
                })
            };
            be(1, || {
                // Whether the spare waits by now or comes later, it finds the lead vacant.
                assert!(!world.lead(1, true));
            });
            spare.join();
            assert_eq!(world.executed.load(Relaxed), 3);
            assert!(world.turn.executed().is_none() && !world.turn.is_missing());
        });
    }

    #[test]
    fn leader_and_watchdog_depose_once() {
        explore(|| {
            let world = world();
            assert!(be(1, || world.turn.take()));
            let request = be(1, || world.turn.begin());
            let watchdog = {
                let world = Arc::clone(&world);
                process(1, move || {
                    let executed = world.turn.executed();
                    executed.and_then(|request| world.turn.depose(request))
                })
            };
            let stepped = be(1, || world.turn.depose(request));
            let leads = be(1, || world.turn.end(request));
            let deposed = watchdog.join().flatten();
            assert!(!leads && stepped.is_some() != deposed.is_some());
            assert_eq!(stepped.or(deposed), Some(Successor::Missing));
            assert!(world.turn.is_missing());
        });
    }

    #[test]
    fn who_is_overtaken_finds_out_at_the_end_and_the_next_request_is_safe() {
        explore(|| {
            let world = world();
            assert!(be(1, || world.turn.take()));
            let first = be(1, || world.turn.begin());
            let watchdog = {
                let world = Arc::clone(&world);
                process(1, move || world.turn.depose(first).is_some())
            };
            let leads = be(1, || world.turn.end(first));
            if leads {
                // The watchdog means the first request, not this one.
                let second = be(1, || world.turn.begin());
                assert!(be(1, || world.turn.end(second)));
            }
            assert_eq!(watchdog.join(), Some(!leads));
        });
    }

    #[test]
    fn threads_that_come_back_take_the_lead_or_wait_for_it() {
        explore_with(1, || {
            let world = world();
            assert!(be(1, || world.turn.take()));
            let others = [4, 8].map(|bit| {
                let world = Arc::clone(&world);
                process(1, move || {
                    if world.turn.part() == Part::Wait {
                        world.turn.wait();
                    }
                    world.lead(bit, true);
                })
            });
            be(1, || world.lead(1, true));
            assert_eq!(others.map(|other| other.join()), [Some(()); 2]);
            assert_eq!(world.executed.load(Relaxed), 1 | 4 | 8);
        });
    }

    #[test]
    fn few_spares_are_kept() {
        explore(|| {
            let world = world();
            be(1, || {
                assert!(world.turn.take() && !world.turn.take());
                for _ in 0..KEPT {
                    assert_eq!(world.turn.part(), Part::Wait);
                }
                assert_eq!(world.turn.part(), Part::Leave);
            });
        });
    }
}

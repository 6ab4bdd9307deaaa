//! A flag that processes wait for.
//!
//! ```text
//! CLEAR, n sets ---set---> SET, n + 1 sets ---clear---> CLEAR, n + 1 sets
//! ```
//!
//! One word holds the flag and the number of sets. Anybody moves it, with one operation; there is no lock.
//! Because sets are counted, who waited when it was set has been released, even if it is cleared before
//! they look: a pulse is not missed, as in Python's `threading.Event`.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::shm::bell::Bell;
use crate::shm::platform::{Deadline, Platform, Word};

const SET: u32 = 1;
const ONE_SET: u32 = 2;

/// See the file's head. All zeros: clear.
#[repr(C)]
pub(crate) struct Event<P: Platform> {
    word: P::U32,
    bell: Bell<P>,
}

impl<P: Platform> Event<P> {
    pub(crate) fn is_set(&self) -> bool {
        self.word.load(Acquire) & SET != 0
    }

    /// Sets it, and releases all who wait.
    pub(crate) fn set(&self) {
        let mut word = self.word.load(Relaxed);
        loop {
            let is_set = word & SET != 0;
            // If it is set already it is written all the same: who sees it set shall see what this
            // process did before.
            let next = if is_set { word } else { word.wrapping_add(ONE_SET) | SET };
            match self.word.compare_exchange(word, next, Release, Relaxed) {
                Ok(_) if is_set => return,
                Ok(_) => return self.bell.ring(u32::MAX),
                Err(now) => word = now,
            }
        }
    }

    pub(crate) fn clear(&self) {
        self.word.fetch_and(!SET, Release);
    }

    /// Waits until it is set. False: the deadline has passed.
    pub(crate) fn wait(&self, deadline: Deadline) -> bool {
        let before = self.word.load(Acquire);
        if before & SET != 0 {
            return true;
        }
        // It differs when it was set since, whatever has become of it.
        let was_set = || (self.word.load(Acquire) != before).then_some(());
        self.bell.wait_until(deadline, was_set).is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::shm::model::{Model, Word32, be, explore, explore_deaths, mortal, process};

    fn event() -> Arc<Event<Model>> {
        Arc::new(Event { word: Word32::default(), bell: Bell::new(Word32::default()) })
    }

    #[test]
    fn it_is_set_until_it_is_cleared() {
        explore(|| {
            let event = event();
            be(1, || {
                assert!(!event.is_set());
                event.set();
                event.set();
                assert!(event.is_set());
                assert!(event.wait(Deadline::NEVER));
                event.clear();
                assert!(!event.is_set());
                assert!(!event.wait(Deadline::after::<Model>(Duration::from_secs(1))));
            });
        });
    }

    #[test]
    fn all_who_wait_are_released() {
        explore(|| {
            let event = event();
            let waiters = [2, 3].map(|number| {
                let event = Arc::clone(&event);
                process(number, move || event.wait(Deadline::NEVER))
            });
            be(1, || event.set());
            assert_eq!(waiters.map(|waiter| waiter.join()), [Some(true); 2]);
        });
    }

    #[test]
    fn what_was_done_before_a_set_is_seen_after_the_wait() {
        explore(|| {
            let event = event();
            let done = Arc::new([Word32::default(), Word32::default()]);
            let setters = [0, 1].map(|index| {
                let (event, done) = (Arc::clone(&event), Arc::clone(&done));
                process(index as u32 + 2, move || {
                    done[index].store(1, Relaxed);
                    event.set();
                })
            });
            be(1, || {
                assert!(event.wait(Deadline::NEVER));
                assert!(done.iter().any(|done| done.load(Relaxed) == 1));
            });
            assert_eq!(setters.map(|setter| setter.join()), [Some(()); 2]);
        });
    }

    #[test]
    fn a_pulse_is_not_missed() {
        explore(|| {
            let event = event();
            let clone = Arc::clone(&event);
            let waiter = process(2, move || clone.wait(Deadline::NEVER));
            be(1, || {
                while event.bell.word().load(Relaxed) == 0 {
                    loom::thread::yield_now();
                }
                event.set();
                event.clear();
            });
            assert_eq!(waiter.join(), Some(true));
        });
    }

    #[test]
    fn a_setter_may_die() {
        explore_deaths(|steps| {
            let event = event();
            let clone = Arc::clone(&event);
            let setter = mortal(1, steps, move || clone.set());
            let clone = Arc::clone(&event);
            let waiter = process(2, move || clone.wait(Deadline::NEVER));
            if setter.join().is_none() {
                be(3, || event.set());
            }
            assert_eq!(waiter.join(), Some(true));
        });
    }
}

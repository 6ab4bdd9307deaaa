//! Waiting for something to change, without a lock: an event count.
//!
//! Who waits: [`listen`](Bell::listen), look whether it has changed already, [`sleep`](Bell::sleep), look
//! again. Who changes something: change it, then [`ring`](Bell::ring). The two SeqCst fences make sure
//! that either the ringer sees the listener, or the listener sees the change.
//!
//! The word counts rings in its upper bits. The flag LISTENED says that somebody may sleep, so that a ring
//! without sleepers costs no system call. The ringer that finds nobody asleep any more takes it back, but
//! only if nobody has begun to listen since it rang: a listener sets the flag FRESH as well, and a ring
//! takes that away. Who has heard the word before the ring finds it changed, and doesn't sleep.
//!
//! A process that is killed between a change and its ring wakes nobody: sleepers look again every
//! [`Platform::PATIENCE`].

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::platform::{Deadline, Platform, Word};

const LISTENED: u32 = 1;
const FRESH: u32 = 2;
const RING: u32 = 4;

/// See the file's head. All zeros: nobody listens.
#[repr(C)]
pub(crate) struct Bell<P: Platform> {
    word: P::U32,
}

/// What the word held when its holder began to listen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard(u32);

impl Heard {
    /// The word's value, for those who sleep on several words at once.
    pub(crate) fn value(self) -> u32 {
        self.0
    }
}

impl<P: Platform> Bell<P> {
    /// One that isn't in shared memory, of a word that is 0.
    pub(crate) fn new(word: P::U32) -> Self {
        Self { word }
    }

    /// From now on no ring is missed.
    pub(crate) fn listen(&self) -> Heard {
        const FLAGS: u32 = LISTENED | FRESH;
        let heard = Heard(self.word.fetch_or(FLAGS, SeqCst) | FLAGS);
        P::fence();
        heard
    }

    /// Sleeps until it has rung since `heard`, at most for a nap.
    pub(crate) fn sleep(&self, heard: Heard, deadline: Deadline) {
        P::wait(&self.word, heard.0, Some(deadline.nap::<P>()));
        if self.word.load(Relaxed) == heard.0 {
            P::look_around();
        }
    }

    /// Wakes at most `count` sleepers, who look at what has changed.
    #[inline]
    pub(crate) fn ring(&self, count: u32) {
        P::fence();
        if self.word.load(Relaxed) & LISTENED != 0 {
            self.wake(count);
        }
    }

    #[cold]
    fn wake(&self, count: u32) {
        let mut before = self.word.load(Relaxed);
        let rung = loop {
            let rung = before.wrapping_add(RING) & !FRESH;
            match self.word.compare_exchange(before, rung, SeqCst, Relaxed) {
                Ok(_) => break rung,
                Err(now) => before = now,
            }
        };
        if P::wake(&self.word, count) < count {
            let _ = self.word.compare_exchange(rung, rung & !LISTENED, SeqCst, Relaxed);
        }
    }

    /// Waits until `ready` gives something. None: the deadline has passed, and `ready` had nothing.
    pub(crate) fn wait_until<T>(
        &self,
        deadline: Deadline,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        self.watch_until(deadline, |_| ready())
    }

    /// As [`wait_until`](Self::wait_until), for those who wait for somebody. `ready` is told when it is
    /// time to look whether they are alive: after a sleep in which nothing rang, and before giving up.
    pub(crate) fn watch_until<T>(
        &self,
        deadline: Deadline,
        mut ready: impl FnMut(bool) -> Option<T>,
    ) -> Option<T> {
        let mut round = 0;
        while !deadline.has_passed::<P>() && P::spin(round) {
            round += 1;
            if let Some(value) = ready(false) {
                return Some(value);
            }
        }
        self.sleep_until(deadline, ready)
    }

    /// As [`watch_until`](Self::watch_until), without spinning first.
    pub(crate) fn sleep_until<T>(
        &self,
        deadline: Deadline,
        mut ready: impl FnMut(bool) -> Option<T>,
    ) -> Option<T> {
        let (mut is_quiet, mut looked) = (false, P::now());
        loop {
            let heard = self.listen();
            let is_late = deadline.has_passed::<P>();
            // Also where it rings all the time, for other things than the one that is waited for.
            let is_due = P::now().saturating_sub(looked) >= P::PATIENCE;
            let look = is_quiet || is_late || is_due;
            if let Some(value) = ready(look) {
                return Some(value);
            }
            if look {
                looked = P::now();
            }
            if is_late {
                return None;
            }
            self.sleep(heard, deadline);
            is_quiet = self.word.load(Relaxed) == heard.0;
        }
    }

    /// The word to sleep on.
    pub(crate) fn word(&self) -> &P::U32 {
        &self.word
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::shm::model::{Model, Word32, be, explore, explore_deaths, mortal, process};

    /// A bell, and the number of things that have happened.
    struct Rung {
        bell: Bell<Model>,
        things: Word32,
    }

    impl Rung {
        fn new() -> Arc<Self> {
            Arc::new(Self { bell: Bell::new(Word32::default()), things: Word32::default() })
        }

        fn happen(&self, count: u32) {
            self.things.add(1);
            self.bell.ring(count);
        }

        fn wait_for(&self, things: u32) {
            let ready = || (self.things.load(Relaxed) >= things).then_some(());
            self.bell.wait_until(Deadline::NEVER, ready).unwrap();
        }

        /// Waits until it can take one of the things.
        fn take(&self) {
            let ready = || {
                let mut things = self.things.load(Relaxed);
                // Nothing but an empty look is a reason to sleep: a lost race isn't.
                loop {
                    let less = things.checked_sub(1)?;
                    match self.things.compare_exchange(things, less, Relaxed, Relaxed) {
                        Ok(_) => return Some(()),
                        Err(now) => things = now,
                    }
                }
            };
            self.bell.wait_until(Deadline::NEVER, ready).unwrap();
        }
    }

    #[test]
    fn no_ring_is_lost() {
        explore(|| {
            let rung = Rung::new();
            let clone = Arc::clone(&rung);
            let ringer = process(2, move || {
                clone.happen(u32::MAX);
                clone.happen(u32::MAX);
            });
            let clone = Arc::clone(&rung);
            let other = process(3, move || clone.wait_for(1));
            be(1, || {
                rung.wait_for(1);
                rung.wait_for(2);
            });
            ringer.join();
            other.join();
        });
    }

    #[test]
    fn one_ring_for_each_thing_is_enough() {
        explore(|| {
            let rung = Rung::new();
            let takers = [2, 3].map(|number| {
                let rung = Arc::clone(&rung);
                process(number, move || rung.take())
            });
            be(1, || {
                rung.happen(1);
                rung.happen(1);
            });
            assert_eq!(takers.map(|taker| taker.join()), [Some(()); 2]);
            assert_eq!(rung.things.load(Relaxed), 0);
        });
    }

    #[test]
    fn a_listener_needs_no_ring_from_the_dead() {
        explore_deaths(|steps| {
            let rung = Rung::new();
            let clone = Arc::clone(&rung);
            let first = mortal(1, steps, move || clone.happen(1));
            let clone = Arc::clone(&rung);
            let second = process(2, move || clone.happen(1));
            be(3, || {
                rung.wait_for(1);
                second.join();
                if first.join().is_some() {
                    rung.wait_for(2);
                }
            });
        });
    }
}

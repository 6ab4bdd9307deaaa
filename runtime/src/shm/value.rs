//! A value that is never torn, whoever dies at whatever instant.
//!
//! It is kept twice. The version's parity says which copy counts; it grows by one with each change:
//!
//! ```text
//! copy 0 counts ---the lock's owner has written copy 1: version + 1---> copy 1 counts ---...
//! ```
//!
//! Only the owner of the lock writes, and only to the copy that doesn't count. Its death before the store
//! of the version leaves the old value, after it the new one. Readers need no lock: what they have read is
//! whole if the version hasn't changed meanwhile.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::lock::{Held, RawLock};
use super::platform::{Deadline, Platform, Word};

const WORD: usize = size_of::<u64>();

/// How often a reader tries without the lock, while others change the value.
const TRIES: usize = 16;

/// What stands before the copies. All zeros: version 0.
#[repr(C)]
pub(crate) struct Head<P: Platform> {
    lock: RawLock<P>,
    poisoned: P::U32,
    version: P::U64,
}

/// A value in shared memory: its head and both copies, which are equally long.
pub(crate) struct Twofold<'a, P: Platform> {
    pub(crate) head: &'a Head<P>,
    pub(crate) copies: [&'a [P::U64]; 2],
}

impl<P: Platform> Head<P> {
    /// Waits for the right to write. None: the deadline has passed.
    #[inline]
    pub(crate) fn lock(&self, deadline: Deadline) -> Option<Held> {
        let mut held = self.lock.acquire(deadline)?;
        if held.is_poisoned() {
            // It has a word of its own, so that who holds the lock can clear it. If this process dies
            // here, the next one finds the lock's owner dead again.
            self.poisoned.store(1, Release);
            held.set_poisoned(false);
        }
        Some(held)
    }

    #[inline]
    pub(crate) fn unlock(&self, held: Held) {
        self.lock.release(held);
    }

    /// Whoever held the lock has not got to the end of what it did.
    pub(crate) fn poison(&self) {
        self.poisoned.store(1, Release);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Acquire) != 0
    }

    pub(crate) fn clear_poison(&self) {
        self.poisoned.store(0, Release);
    }
}

impl<P: Platform> Twofold<'_, P> {
    /// Reads the value, whole.
    #[inline]
    pub(crate) fn read(&self, to: &mut [u8]) {
        for _ in 0..TRIES {
            let version = self.head.version.load(Acquire);
            self.copy_out(version, to);
            if self.head.version.load(Relaxed) == version {
                return;
            }
        }
        let held = self.head.lock(Deadline::NEVER).expect("there is no deadline");
        self.read_held(&held, to);
        self.head.unlock(held);
    }

    /// Reads the value where nobody else can write.
    #[inline]
    pub(crate) fn read_held(&self, _held: &Held, to: &mut [u8]) {
        self.copy_out(self.head.version.load(Relaxed), to);
    }

    /// The value is this one from now on.
    #[inline]
    pub(crate) fn write(&self, _held: &Held, from: &[u8]) {
        let next = self.head.version.load(Relaxed).wrapping_add(1);
        let copy = self.copies[(next % 2) as usize];
        let (whole, last) = from.as_chunks::<WORD>();
        // Release, so that a reader who sees any of this also sees that the version has moved on from
        // when this copy counted.
        for (word, bytes) in copy.iter().zip(whole) {
            word.store(u64::from_ne_bytes(*bytes), Release);
        }
        if !last.is_empty() {
            let mut bytes = [0; WORD];
            bytes[..last.len()].copy_from_slice(last);
            copy[whole.len()].store(u64::from_ne_bytes(bytes), Release);
        }
        self.head.version.store(next, Release);
    }

    #[inline]
    fn copy_out(&self, version: u64, to: &mut [u8]) {
        let copy = self.copies[(version % 2) as usize];
        let (whole, last) = to.as_chunks_mut::<WORD>();
        // Acquire: see `write`.
        for (bytes, word) in whole.iter_mut().zip(copy) {
            *bytes = word.load(Acquire).to_ne_bytes();
        }
        if !last.is_empty() {
            let bytes = copy[whole.len()].load(Acquire).to_ne_bytes();
            last.copy_from_slice(&bytes[..last.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::shm::model::{Model, Word32, Word64, be, explore, explore_deaths, mortal, process};

    struct Pair {
        head: Head<Model>,
        copies: [[Word64; 2]; 2],
    }

    impl Pair {
        fn new() -> Arc<Self> {
            let lock = RawLock::new(Word32::default());
            let head = Head { lock, poisoned: Word32::default(), version: Word64::default() };
            Arc::new(Self { head, copies: Default::default() })
        }

        fn view(&self) -> Twofold<'_, Model> {
            Twofold { head: &self.head, copies: [&self.copies[0], &self.copies[1]] }
        }

        fn read(&self) -> [u64; 2] {
            let mut bytes = [0; 16];
            self.view().read(&mut bytes);
            words(&bytes)
        }

        /// Adds one to both.
        fn update(&self) {
            let held = self.head.lock(Deadline::NEVER).unwrap();
            let mut bytes = [0; 16];
            self.view().read_held(&held, &mut bytes);
            let next = words(&bytes).map(|word| (word + 1).to_ne_bytes());
            self.view().write(&held, next.as_flattened());
            self.head.unlock(held);
        }
    }

    fn words(bytes: &[u8; 16]) -> [u64; 2] {
        let (words, _) = bytes.as_chunks::<8>();
        [u64::from_ne_bytes(words[0]), u64::from_ne_bytes(words[1])]
    }

    #[test]
    fn readers_see_whole_values() {
        explore(|| {
            let pair = Pair::new();
            let clone = Arc::clone(&pair);
            let writer = process(2, move || (clone.update(), clone.update()));
            be(1, || {
                let [first, second] = pair.read();
                assert_eq!(first, second);
            });
            writer.join();
            be(1, || assert_eq!(pair.read(), [2, 2]));
        });
    }

    #[test]
    fn no_update_is_lost() {
        explore(|| {
            let pair = Pair::new();
            let clone = Arc::clone(&pair);
            let other = process(2, move || clone.update());
            be(1, || pair.update());
            other.join();
            be(1, || assert_eq!(pair.read(), [2, 2]));
        });
    }

    #[test]
    fn a_death_leaves_the_old_value_or_the_new_one() {
        explore_deaths(|steps| {
            let pair = Pair::new();
            let clone = Arc::clone(&pair);
            let done = mortal(1, steps, move || clone.update()).join().is_some();
            be(2, || {
                let [first, second] = pair.read();
                assert!(first == second && first <= 1 && (first == 1 || !done));
                pair.update();
                assert_eq!(pair.read(), [first + 1; 2]);
                assert!(!done || !pair.head.is_poisoned());
            });
        });
    }
}

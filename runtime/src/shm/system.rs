//! The real [`Platform`]: std's atomics in shared memory, futexes, the heap's table of processes.

#![expect(unsafe_code, reason = "locks vouch for their words")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::thread;
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::board::Board;
use super::hand::Hand;
use super::heap;
use super::lock::RawLock;
use super::platform::{Owner, Platform, Word};
use super::reception::Reception;
use super::sync::barrier::Barrier;
use super::sync::claims::Claims;
use super::sync::condition::Condition;
use super::sync::event::Event;
use super::sync::lock::Lock;
use super::sync::rlock::RLock;
use super::sync::semaphore::Semaphore;
use super::value::Head;
use crate::os::memory::Shareable;
use crate::os::{barrier, clock, futex, processor};

/// How long a waiter spins before it sleeps: about as long as a wake takes, to and fro.
const SPIN: Duration = Duration::from_micros(25);

/// Pauses between two looks.
const PAUSES: u32 = 8;

/// The world as it is.
pub(crate) struct System;

macro_rules! word {
    ($atomic:ty, $integer:ty) => {
        impl Word<$integer> for $atomic {
            #[inline]
            fn load(&self, ordering: Ordering) -> $integer {
                self.load(ordering)
            }

            #[inline]
            fn store(&self, value: $integer, ordering: Ordering) {
                self.store(value, ordering);
            }

            #[inline]
            fn swap(&self, value: $integer, ordering: Ordering) -> $integer {
                self.swap(value, ordering)
            }

            #[inline]
            fn compare_exchange(
                &self,
                current: $integer,
                new: $integer,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$integer, $integer> {
                self.compare_exchange(current, new, success, failure)
            }

            #[inline]
            fn fetch_or(&self, value: $integer, ordering: Ordering) -> $integer {
                self.fetch_or(value, ordering)
            }

            #[inline]
            fn fetch_and(&self, value: $integer, ordering: Ordering) -> $integer {
                self.fetch_and(value, ordering)
            }
        }
    };
}

word!(AtomicU32, u32);
word!(AtomicU64, u64);

impl Platform for System {
    type U32 = AtomicU32;
    type U64 = AtomicU64;

    const PATIENCE: Duration = Duration::from_millis(50);

    #[inline]
    fn fence() {
        fence(Ordering::SeqCst);
    }

    #[inline]
    fn light_fence() {
        barrier::light();
    }

    fn heavy_fence() -> bool {
        barrier::heavy()
    }

    #[inline]
    fn me() -> Owner {
        heap::me()
    }

    fn is_alive(owner: Owner) -> bool {
        heap::is_alive(owner)
    }

    fn is_known_dead(owner: Owner) -> bool {
        heap::is_known_dead(owner)
    }

    fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
        futex::wait(word, expected, timeout);
    }

    fn wake(word: &AtomicU32, count: u32) -> u32 {
        futex::wake(word, count)
    }

    fn look_around() {
        heap::look_around();
    }

    #[inline]
    fn spin(round: u32) -> bool {
        if round >= rounds() {
            return false;
        }
        for _ in 0..PAUSES {
            std::hint::spin_loop();
        }
        true
    }

    #[inline]
    fn cpu() -> u32 {
        // One that isn't known is nobody's.
        processor::here().unwrap_or(u32::MAX)
    }

    fn now() -> Duration {
        clock::now()
    }
}

/// For how many rounds spinning pays: not at all on one processor, where whoever is waited for can't
/// run meanwhile.
fn rounds() -> u32 {
    static ROUNDS: OnceLock<u32> = OnceLock::new();
    *ROUNDS.get_or_init(|| {
        if thread::available_parallelism().map_or(1, usize::from) < 2 {
            return 0;
        }
        // How long a pause is differs tenfold between processors.
        let (start, rounds) = (Instant::now(), 64);
        for _ in 0..rounds * PAUSES {
            std::hint::spin_loop();
        }
        let each = start.elapsed().as_nanos().max(1) / u128::from(rounds);
        u32::try_from(SPIN.as_nanos() / each.max(1)).unwrap_or(u32::MAX).clamp(1, 10_000)
    })
}

// SAFETY: its one field is an atomic, for which every bit pattern is a value.
unsafe impl Shareable for RawLock<System> {}
// SAFETY: as above.
unsafe impl Shareable for Bell<System> {}
// SAFETY: as above, for all its fields.
unsafe impl Shareable for Claims<System> {}
// SAFETY: as above, for all its fields.
unsafe impl Shareable for Board<System> {}
// SAFETY: as above, for all its fields.
unsafe impl Shareable for Hand<System> {}
// SAFETY: as above.
unsafe impl Shareable for Head<System> {}
// SAFETY: as above.
unsafe impl Shareable for Lock<System> {}
// SAFETY: as above.
unsafe impl Shareable for RLock<System> {}
// SAFETY: as above.
unsafe impl Shareable for Semaphore<System> {}
// SAFETY: as above.
unsafe impl Shareable for Condition<System> {}
// SAFETY: as above.
unsafe impl Shareable for Event<System> {}
// SAFETY: as above.
unsafe impl Shareable for Barrier<System> {}
// SAFETY: as above, for all its fields.
unsafe impl Shareable for Reception<System> {}

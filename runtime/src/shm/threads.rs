//! A world for the state machines that is real but for death: std's atomics, the system's futexes, threads
//! that play processes.
//!
//! A thread is a process of its own while it runs the body of [`process`] or [`mortal`]. A mortal one has a
//! number of steps to live: each operation on a shared word takes one, and the one after the last isn't
//! done. There it unwinds, and [`is_alive`](Platform::is_alive) says so from then on. Destructors of the
//! dead must not touch shared words. Unlike in `model`, this goes fast enough for long histories, and
//! garbage can be put into the words.

use std::cell::Cell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use super::platform::{Owner, Platform, Word};
use crate::os::{clock, futex};

static OWNERS: AtomicU32 = AtomicU32::new(1);
static ALIVE: LazyLock<Mutex<HashSet<u32>>> = LazyLock::new(Mutex::default);

thread_local! {
    static ME: Cell<Option<Owner>> = const { Cell::new(None) };
    /// How many are left; none: it lives for ever.
    static STEPS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The payload with which a dying process unwinds.
struct Died;

/// Runs `body` as a new process.
pub(crate) fn process<R>(body: impl FnOnce() -> R) -> R {
    mortal(u64::MAX, body).expect("nothing takes so many steps")
}

/// Runs `body` as a new process that dies after so many steps; none if it has.
pub(crate) fn mortal<R>(steps: u64, body: impl FnOnce() -> R) -> Option<R> {
    let owner = Owner::in_word(OWNERS.fetch_add(1, Ordering::Relaxed)).unwrap();
    ALIVE.lock().unwrap().insert(owner.bits());
    let before = (ME.replace(Some(owner)), STEPS.replace(Some(steps)));
    let result = catch_unwind(AssertUnwindSafe(body));
    ME.set(before.0);
    STEPS.set(before.1);
    ALIVE.lock().unwrap().remove(&owner.bits());
    match result {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<Died>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

/// One step in the life of the present process.
#[inline]
pub(crate) fn step() {
    if let Some(left) = STEPS.get() {
        let Some(left) = left.checked_sub(1) else { resume_unwind(Box::new(Died)) };
        STEPS.set(Some(left));
    }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Threads;

impl Platform for Threads {
    type U32 = Word32;
    type U64 = Word64;

    const PATIENCE: Duration = Duration::from_millis(2);

    fn fence() {
        step();
        fence(Ordering::SeqCst);
    }

    fn me() -> Owner {
        ME.get().expect("this runs in a process")
    }

    fn is_alive(owner: Owner) -> bool {
        ALIVE.lock().unwrap().contains(&owner.bits())
    }

    fn wait(word: &Word32, expected: u32, timeout: Option<Duration>) {
        step();
        futex::wait(&word.0, expected, timeout);
    }

    fn wake(word: &Word32, count: u32) -> u32 {
        step();
        futex::wake(&word.0, count)
    }

    fn spin(round: u32) -> bool {
        std::hint::spin_loop();
        round < 100
    }

    fn cpu() -> u32 {
        // Nobody else's.
        Self::me().bits()
    }

    fn now() -> Duration {
        clock::now()
    }
}

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $atomic:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $name($atomic);

        impl $name {
            pub(crate) fn new(value: $int) -> Self {
                Self($atomic::new(value))
            }
        }

        impl Word<$int> for $name {
            fn load(&self, ordering: Ordering) -> $int {
                step();
                self.0.load(ordering)
            }

            fn store(&self, value: $int, ordering: Ordering) {
                step();
                self.0.store(value, ordering);
            }

            fn swap(&self, value: $int, ordering: Ordering) -> $int {
                step();
                self.0.swap(value, ordering)
            }

            fn compare_exchange(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                step();
                self.0.compare_exchange(current, new, success, failure)
            }


            fn fetch_or(&self, value: $int, ordering: Ordering) -> $int {
                step();
                self.0.fetch_or(value, ordering)
            }

            fn fetch_and(&self, value: $int, ordering: Ordering) -> $int {
                step();
                self.0.fetch_and(value, ordering)
            }
        }
    };
}

word!(
    /// A word of 32 bits, to sleep on as well.
    Word32,
    AtomicU32,
    u32
);
word!(
    /// A word of 64 bits.
    Word64,
    AtomicU64,
    u64
);

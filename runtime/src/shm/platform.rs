//! What the state machines in shared memory stand on: atomic words, sleeping on them, and who is alive.
//!
//! A lock, a queue or a barrier is written once, over [`Platform`]. In the program that is
//! [`System`](super::system::System): std's atomics in a shared mapping, futexes, the table of processes.
//! In tests it is a model, in which every interleaving is explored, and processes die at any step.

use std::fmt::Debug;
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A process as it stands in a lock's word: 30 bits, its slot in the table of processes and that slot's
/// epoch. No two processes that ever share memory have the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Owner(NonZeroU32);

impl Owner {
    pub(crate) const BITS: u32 = 30;
    /// All bits of an owner; the two bits above are free for flags.
    pub(crate) const MASK: u32 = (1 << Self::BITS) - 1;

    /// The owner in a word, without the flags; none if there is none.
    pub(crate) fn in_word(word: u32) -> Option<Self> {
        NonZeroU32::new(word & Self::MASK).map(Self)
    }

    pub(crate) fn bits(self) -> u32 {
        self.0.get()
    }
}

/// An atomic integer: `u32` or `u64`.
pub(crate) trait Word<T>: Sync {
    fn load(&self, ordering: Ordering) -> T;
    fn store(&self, value: T, ordering: Ordering);
    fn swap(&self, value: T, ordering: Ordering) -> T;
    fn compare_exchange(
        &self,
        current: T,
        new: T,
        success: Ordering,
        failure: Ordering,
    ) -> Result<T, T>;
    fn fetch_or(&self, value: T, ordering: Ordering) -> T;
    fn fetch_and(&self, value: T, ordering: Ordering) -> T;
}

/// The world of a state machine.
pub(crate) trait Platform: 'static {
    type U32: Word<u32>;
    type U64: Word<u64>;

    /// How long a sleeper trusts that whoever it waits for is alive; then it looks.
    const PATIENCE: Duration;

    /// `fence(SeqCst)`.
    fn fence();

    /// One side of a pair of such fences, for who comes past all the time; see `os/barrier.rs`.
    #[inline]
    fn light_fence() {
        Self::fence();
    }

    /// The other side of the pair, for who comes past rarely. False: it has failed.
    fn heavy_fence() -> bool {
        Self::fence();
        true
    }

    /// This process.
    fn me() -> Owner;

    /// Whether a process is alive. A quick look at shared memory, and at the system's table of processes
    /// only if that says yes. It never says that a living process is dead.
    fn is_alive(owner: Owner) -> bool;

    /// Whether somebody has noticed that a process is dead, mostly its parent: a quick look at shared
    /// memory.
    fn is_known_dead(owner: Owner) -> bool {
        !Self::is_alive(owner)
    }

    /// Sleeps while the word holds `expected`, until woken, or for `timeout`. May return for no reason.
    fn wait(word: &Self::U32, expected: u32, timeout: Option<Duration>);

    /// Wakes at most `count` sleepers; says how many there were.
    fn wake(word: &Self::U32, count: u32) -> u32;

    /// Called by a sleeper whose nap is over, under no lock: time to look who has died.
    fn look_around() {}

    /// Spins a little, unless it is the turn of something better: sleeping. `round` counts from 0. False:
    /// don't spin any more.
    fn spin(round: u32) -> bool;

    /// The processor that this thread runs on, or some number that no other thread has.
    fn cpu() -> u32;

    /// The monotonic clock.
    fn now() -> Duration;
}

/// When a wait ends at the latest, on the platform's clock; none: never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Duration>);

impl Deadline {
    pub(crate) const NEVER: Self = Self(None);

    /// So long from now.
    pub(crate) fn after<P: Platform>(time: Duration) -> Self {
        Self(P::now().checked_add(time))
    }

    /// From the optional time-out of a call.
    pub(crate) fn of<P: Platform>(timeout: Option<Duration>) -> Self {
        timeout.map_or(Self::NEVER, Self::after::<P>)
    }

    /// How long is left; none: for ever.
    pub(crate) fn left<P: Platform>(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_sub(P::now()))
    }

    pub(crate) fn has_passed<P: Platform>(self) -> bool {
        self.left::<P>() == Some(Duration::ZERO)
    }

    /// How long to sleep before looking whether those who are waited for are alive.
    pub(crate) fn nap<P: Platform>(self) -> Duration {
        self.left::<P>().map_or(P::PATIENCE, |left| left.min(P::PATIENCE))
    }
}

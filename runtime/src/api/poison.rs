//! What is said when a holder of something shared has died.

use std::fmt;

use crate::error::{Error, Kind};

/// What a guard comes in when a holder before has died, or panicked, while it was changing what is
/// guarded: the change may be half done.
///
/// As with std's `PoisonError`, the guard is inside: who can put things in order, or doesn't need to,
/// takes it out. It stays poisoned for others until somebody calls `clear_poison`. With `?` it becomes
/// an [`Error`] that [`is_poisoned`](Error::is_poisoned).
///
/// ```
/// # fn main() -> Result<(), procession::Error> {
/// use procession::{Poisoned, SharedArray};
///
/// let counts = SharedArray::<u32>::new(10)?;
/// let mut all = counts.write().unwrap_or_else(|poisoned| {
///     let mut all = Poisoned::into_inner(poisoned);
///     all.fill(0);
///     counts.clear_poison();
///     all
/// });
/// all[0] += 1;
/// # Ok(())
/// # }
/// ```
pub struct Poisoned<G> {
    guard: G,
}

impl<G> Poisoned<G> {
    pub(crate) fn new(guard: G) -> Self {
        Self { guard }
    }

    /// The guard, or the error, if it is poisoned.
    pub(crate) fn check(guard: G, is_poisoned: bool) -> Result<G, Self> {
        if is_poisoned { Err(Self::new(guard)) } else { Ok(guard) }
    }

    /// The guard, in spite of all.
    pub fn into_inner(self) -> G {
        self.guard
    }

    /// The guard, for a look.
    pub fn get_ref(&self) -> &G {
        &self.guard
    }

    /// The guard, for a change.
    pub fn get_mut(&mut self) -> &mut G {
        &mut self.guard
    }
}

const POISONED: &str =
    "poisoned: whoever held it before has died, or panicked, while it was changing it";

impl<G> fmt::Display for Poisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(POISONED)
    }
}

impl<G> fmt::Debug for Poisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poisoned").finish_non_exhaustive()
    }
}

impl<G> std::error::Error for Poisoned<G> {}

impl<G> From<Poisoned<G>> for Error {
    fn from(_: Poisoned<G>) -> Self {
        Self::new(Kind::Poisoned(POISONED))
    }
}

/// Why a guard wasn't given at once, or in time; std's of the same name, for processes.
pub enum TryLockError<G> {
    /// It was given, but see [`Poisoned`].
    Poisoned(Poisoned<G>),
    /// Somebody else holds it.
    WouldBlock,
}

impl<G> TryLockError<G> {
    /// What came of a try: nothing, a guard, or a poisoned one.
    pub(crate) fn check(tried: Option<Result<G, Poisoned<G>>>) -> Result<G, Self> {
        tried.ok_or(Self::WouldBlock)?.map_err(Self::Poisoned)
    }
}

const BUSY: &str = "somebody else holds it";

impl<G> fmt::Display for TryLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisoned(poisoned) => poisoned.fmt(f),
            Self::WouldBlock => f.write_str(BUSY),
        }
    }
}

impl<G> fmt::Debug for TryLockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisoned(_) => f.write_str("Poisoned(..)"),
            Self::WouldBlock => f.write_str("WouldBlock"),
        }
    }
}

impl<G> std::error::Error for TryLockError<G> {}

impl<G> From<TryLockError<G>> for Error {
    fn from(error: TryLockError<G>) -> Self {
        match error {
            TryLockError::Poisoned(poisoned) => poisoned.into(),
            TryLockError::WouldBlock => Self::new(Kind::Busy(BUSY)),
        }
    }
}

impl<G> From<Poisoned<G>> for TryLockError<G> {
    fn from(poisoned: Poisoned<G>) -> Self {
        Self::Poisoned(poisoned)
    }
}

//! Semaphores in a server.
//!
//! A permit is free, or held by a thread of a process, or nobody knows of it any more: somebody has taken it
//! to keep. What the dead have held is free again; that is noticed by whoever finds none free.

use std::marker::PhantomData;
use std::time::Duration;

use super::builtin::{builtin, deadline};
use super::error::ManagerError;
use super::holder::Holder;
use crate::manage::class::Failure;
use crate::manage::waiting::Awaited;

/// A semaphore, in the server.
pub(super) struct Permits {
    state: Awaited<State>,
    /// So many may be free or held at most.
    most: u32,
}

struct State {
    free: u32,
    held: Vec<Holder>,
}

impl Permits {
    fn new(free: u32, most: u32) -> Self {
        Self { state: Awaited::new(State { free, held: Vec::new() }), most }
    }

    /// Takes a permit when one is free, until a time. False: that is over.
    fn take(&self, me: Holder, limit: Option<Duration>) -> Result<bool, Failure> {
        let taken = self.state.wait_until(deadline(limit), |state| {
            if state.free == 0 {
                let before = state.held.len();
                state.held.retain(|holder| !holder.has_died());
                state.free = (before - state.held.len()) as u32;
            }
            state.free = state.free.checked_sub(1)?;
            state.held.push(me);
            Some(())
        });
        match (taken, limit) {
            (Some(()), _) => Ok(true),
            (None, Some(_)) => Ok(false),
            // Without a limit only a caller that has gone waits in vain.
            (None, None) => Err(Failure::Abandoned),
        }
    }

    /// A holder has a permit no more; it is `freed`, or kept.
    fn give_up(&self, me: Holder, freed: bool) -> bool {
        let mut state = self.state.lock();
        let Some(at) = state.held.iter().position(|holder| *holder == me) else { return false };
        state.held.swap_remove(at);
        state.free += u32::from(freed);
        drop(state);
        self.state.changed_for_one();
        true
    }

    /// Adds a permit. False: there are as many as there may be.
    fn add(&self) -> bool {
        let mut state = self.state.lock();
        let all = state.held.len() as u64 + u64::from(state.free);
        if all >= u64::from(self.most) {
            return false;
        }
        state.free += 1;
        drop(state);
        self.state.changed_for_one();
        true
    }

    fn free(&self) -> u32 {
        self.state.lock().free
    }
}

/// A semaphore of any number of permits, in the server.
pub(super) struct Unbounded(Permits);

/// A semaphore of as many permits as it began with, at most, in the server.
pub(super) struct Bounded(Permits);

impl From<u32> for Unbounded {
    fn from(permits: u32) -> Self {
        Self(Permits::new(permits, u32::MAX))
    }
}

impl From<u32> for Bounded {
    fn from(permits: u32) -> Self {
        Self(Permits::new(permits, permits))
    }
}

/// Input: a semaphore with the docs of what differs. Output: it, its guard, and how that is acquired.
macro_rules! semaphore {
    ($(#[$doc:meta])* $Semaphore:ident, $Batch:ident, $Guard:ident, $Value:ident) => {
        builtin! {
            $(#[$doc])*
            pub struct $Semaphore<>, $Batch of $Value
            where [];

            #[doc(hidden)]
            shared fn take(semaphore, me: Holder, limit: Option<Duration>) -> bool {
                semaphore.0.take(me, limit)?
            }

            #[doc(hidden)]
            shared fn give_up(semaphore, me: Holder, freed: bool) -> bool {
                semaphore.0.give_up(me, freed)
            }

            /// Adds a permit, whoever has taken one to keep. False: there are as many as there may be, and
            /// nothing has changed.
            shared fn release(semaphore) -> bool {
                semaphore.0.add()
            }

            /// How many permits are free.
            shared fn value(semaphore) -> u32 {
                semaphore.0.free()
            }
        }

        #[doc = concat!("A permit of a [`", stringify!($Semaphore), "`], which is free again when this is dropped.")]
        #[must_use = "the permit is free again at once if the guard is dropped"]
        pub struct $Guard<'s> {
            semaphore: &'s $Semaphore,
            holder: Holder,
            /// It stays in its thread.
            of_thread: PhantomData<*const ()>,
        }

        impl $Semaphore {
            /// Waits until a permit is free, and takes it.
            ///
            /// # Errors
            /// See [`ManagerError`].
            pub fn acquire(&self) -> Result<$Guard<'_>, ManagerError> {
                let holder = Holder::here();
                self.take(holder, None)?;
                Ok($Guard { semaphore: self, holder, of_thread: PhantomData })
            }

            /// Takes a permit, if one is free.
            ///
            /// # Errors
            /// See [`ManagerError`].
            pub fn try_acquire(&self) -> Result<Option<$Guard<'_>>, ManagerError> {
                self.acquire_timeout(Duration::ZERO)
            }

            /// Waits so long until a permit is free, and takes it. None: there is none.
            ///
            /// # Errors
            /// See [`ManagerError`].
            pub fn acquire_timeout(
                &self,
                limit: Duration,
            ) -> Result<Option<$Guard<'_>>, ManagerError> {
                let holder = Holder::here();
                let is_taken = self.take(holder, Some(limit))?;
                Ok(is_taken.then(|| $Guard { semaphore: self, holder, of_thread: PhantomData }))
            }
        }

        impl $Guard<'_> {
            /// Takes the permit to keep: it stays taken, even if this process dies, until somebody
            #[doc = concat!("[releases](", stringify!($Semaphore), "::release) one.")]
            ///
            /// # Errors
            /// See [`ManagerError`]. Then the permit is free again.
            pub fn forget(self) -> Result<(), ManagerError> {
                self.semaphore.give_up(self.holder, false)?;
                std::mem::forget(self);
                Ok(())
            }
        }

        impl Drop for $Guard<'_> {
            fn drop(&mut self) {
                // Where the server has gone there is nothing to give back.
                let _ = self.semaphore.give_up(self.holder, true);
            }
        }

        impl std::fmt::Debug for $Guard<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($Guard)).field(self.semaphore).finish()
            }
        }
    };
}

semaphore! {
    /// A semaphore that a [`Manager`](crate::Manager) owns: so many may hold a permit at a time.
    ///
    /// The permits of a process that dies are free again. Within one family of processes
    /// [`sync::Semaphore`](crate::sync::Semaphore) is faster by far.
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let seats = manager.semaphore(1)?;
    /// let seat = seats.acquire()?;
    /// assert!(seats.try_acquire()?.is_none());
    /// drop(seat);
    /// assert!(seats.release()?, "there may be more than at first");
    /// assert_eq!(seats.value()?, 2);
    /// # Ok(())
    /// # }
    /// ```
    Semaphore, SemaphoreBatch, SemaphoreGuard, Unbounded
}

semaphore! {
    /// A [`Semaphore`] that never has more permits than at first: to release one too many is told.
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let seats = manager.bounded_semaphore(1)?;
    /// assert!(!seats.release()?, "all are free already");
    /// seats.acquire()?.forget()?;
    /// assert!(seats.release()?);
    /// # Ok(())
    /// # }
    /// ```
    BoundedSemaphore, BoundedSemaphoreBatch, BoundedSemaphoreGuard, Bounded
}

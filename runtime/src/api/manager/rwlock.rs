//! Locks in a server that many can hold to read, or one to write.
//!
//! A reader that dies is forgotten. A writer that dies, or panics, poisons the lock. Whoever waits to write
//! keeps further readers out. All of that is noticed by whoever wants the lock next.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::builtin::{builtin, deadline};
use super::error::ManagerError;
use super::holder::Holder;
use crate::manage::class::Failure;
use crate::manage::waiting::Awaited;

/// The lock, in the server.
pub(super) struct Book {
    state: Awaited<State>,
    poison: AtomicBool,
}

#[derive(Default)]
struct State {
    writer: Option<Holder>,
    readers: Vec<Holder>,
    writers_waiting: usize,
}

impl From<()> for Book {
    fn from((): ()) -> Self {
        Self { state: Awaited::default(), poison: AtomicBool::new(false) }
    }
}

fn poison_of(book: &Book) -> &AtomicBool {
    &book.poison
}

impl Book {
    /// Forgets the dead, under the lock.
    ///
    /// # Errors
    /// One of them has held it to write, or somebody has panicked.
    fn tidy(&self, state: &mut State) -> Result<(), Failure> {
        state.readers.retain(|reader| !reader.has_died());
        if state.writer.is_some_and(Holder::has_died) {
            state.writer = None;
            self.poison.store(true, Relaxed);
        }
        if self.poison.load(Relaxed) { Err(Failure::Poisoned) } else { Ok(()) }
    }

    fn read_by(&self, me: Holder, limit: Option<Duration>) -> Result<bool, Failure> {
        let got = self.state.wait_until(deadline(limit), |state| {
            if let Err(failure) = self.tidy(state) {
                return Some(Err(failure));
            }
            let is_free = state.writer.is_none() && state.writers_waiting == 0;
            is_free.then(|| {
                state.readers.push(me);
                Ok(true)
            })
        });
        in_time(got, limit)
    }

    fn write_by(&self, me: Holder, limit: Option<Duration>) -> Result<bool, Failure> {
        self.state.lock().writers_waiting += 1;
        let got = self.state.wait_until(deadline(limit), |state| {
            if let Err(failure) = self.tidy(state) {
                return Some(Err(failure));
            }
            let is_free = state.writer.is_none() && state.readers.is_empty();
            is_free.then(|| {
                state.writer = Some(me);
                Ok(true)
            })
        });
        self.state.lock().writers_waiting -= 1;
        if !matches!(got, Some(Ok(_))) {
            // Readers may have waited for this one.
            self.state.changed_for_all();
        }
        in_time(got, limit)
    }

    /// Gives it back. False: it isn't theirs.
    fn free(&self, me: Holder, panics: bool) -> bool {
        let mut state = self.state.lock();
        if state.writer == Some(me) {
            state.writer = None;
            if panics {
                self.poison.store(true, Relaxed);
            }
        } else {
            let Some(at) = state.readers.iter().position(|reader| *reader == me) else {
                return false;
            };
            state.readers.swap_remove(at);
        }
        drop(state);
        self.state.changed_for_all();
        true
    }
}

/// Without a limit only a caller that has gone waits in vain.
fn in_time(got: Option<Result<bool, Failure>>, limit: Option<Duration>) -> Result<bool, Failure> {
    got.unwrap_or(if limit.is_some() { Ok(false) } else { Err(Failure::Abandoned) })
}

builtin! {
    /// A lock that a [`Manager`](crate::Manager) owns, which many can hold to read, or one to write.
    ///
    /// If a writer panics, or its process dies, the lock is poisoned, as a [`Lock`](super::Lock) is. Within
    /// one family of processes [`sync::RwLock`](crate::sync::RwLock) is faster by far.
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let lock = manager.rwlock()?;
    /// let (one, other) = (lock.read()?, lock.read()?);
    /// assert!(lock.try_write()?.is_none());
    /// drop((one, other));
    /// let _writes = lock.write()?;
    /// assert!(lock.try_read()?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub struct RwLock<>, RwLockBatch of Book
    where [] poisoned by poison_of;

    #[doc(hidden)]
    shared fn acquire_read(lock, me: Holder, limit: Option<Duration>) -> bool {
        lock.read_by(me, limit)?
    }

    #[doc(hidden)]
    shared fn acquire_write(lock, me: Holder, limit: Option<Duration>) -> bool {
        lock.write_by(me, limit)?
    }

    #[doc(hidden)]
    shared fn release(lock, me: Holder, panics: bool) -> bool {
        lock.free(me, panics)
    }
}

/// Input: what one of the two ways is called. Output: its guard, and how that is acquired.
macro_rules! guarded {
    ($Guard:ident, $acquire:ident, $wait:ident, $try:ident, $timeout:ident, $what:literal) => {
        #[doc = concat!("Holds an [`RwLock`] to ", $what, "; gives it back when it is dropped.")]
        #[must_use = "it is given back at once if the guard is dropped"]
        pub struct $Guard<'l> {
            lock: &'l RwLock,
            holder: Holder,
            /// It stays in its thread.
            of_thread: PhantomData<*const ()>,
        }

        impl RwLock {
            #[doc = concat!("Waits until it can be held to ", $what, ", and holds it.")]
            ///
            /// # Errors
            /// [`ManagerError::Poisoned`] if a writer has died or panicked; see [`ManagerError`].
            pub fn $wait(&self) -> Result<$Guard<'_>, ManagerError> {
                let holder = Holder::here();
                self.$acquire(holder, None)?;
                Ok($Guard { lock: self, holder, of_thread: PhantomData })
            }

            #[doc = concat!("Holds it to ", $what, ", if it can be held now.")]
            ///
            /// # Errors
            #[doc = concat!("As [`", stringify!($wait), "`](Self::", stringify!($wait), ").")]
            pub fn $try(&self) -> Result<Option<$Guard<'_>>, ManagerError> {
                self.$timeout(Duration::ZERO)
            }

            #[doc = concat!("Waits so long until it can be held to ", $what, ". None: it can't.")]
            ///
            /// # Errors
            #[doc = concat!("As [`", stringify!($wait), "`](Self::", stringify!($wait), ").")]
            pub fn $timeout(&self, limit: Duration) -> Result<Option<$Guard<'_>>, ManagerError> {
                let holder = Holder::here();
                let is_mine = self.$acquire(holder, Some(limit))?;
                Ok(is_mine.then(|| $Guard { lock: self, holder, of_thread: PhantomData }))
            }
        }

        impl Drop for $Guard<'_> {
            fn drop(&mut self) {
                // Where the server has gone there is nothing to give back.
                let _ = self.lock.release(self.holder, thread::panicking());
            }
        }

        impl std::fmt::Debug for $Guard<'_> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($Guard)).field(self.lock).finish()
            }
        }
    };
}

guarded!(RwLockReadGuard, acquire_read, read, try_read, read_timeout, "read");
guarded!(RwLockWriteGuard, acquire_write, write, try_write, write_timeout, "write");

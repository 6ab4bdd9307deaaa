//! Locks in a server.
//!
//! ```text
//! FREE ---acquire---> HELD by a thread of a process ---release---> FREE
//!                       | its process has died, or it panics
//!                       v
//!                     FREE and poisoned: nobody acquires it until the poison is cleared
//! ```
//!
//! A death is noticed by whoever wants the lock next.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::builtin::{builtin, deadline};
use super::error::ManagerError;
use super::holder::Holder;
use crate::manage::class::Failure;
use crate::manage::server;
use crate::manage::waiting::Awaited;

/// A lock, in the server.
pub(super) struct Latch {
    held: Awaited<Held>,
    poison: AtomicBool,
    /// Whether those who wait may wait for a notice, too: then one that is woken may be the wrong one.
    has_tickets: bool,
}

/// Changed under the lock, as is the poison.
#[derive(Default)]
struct Held {
    by: Option<Holder>,
    /// How many times its holder has acquired it.
    depth: u32,
    /// Those who wait for a notice, first come first.
    tickets: VecDeque<u64>,
    /// How many tickets there have been.
    issued: u64,
}

impl Held {
    fn set_free(&mut self) {
        (self.by, self.depth) = (None, 0);
    }
}

impl Latch {
    fn new() -> Self {
        Self { held: Awaited::default(), poison: AtomicBool::new(false), has_tickets: false }
    }

    /// One whose holder can wait for a notice.
    pub(super) fn of_condition() -> Self {
        Self { has_tickets: true, ..Self::new() }
    }

    pub(super) fn poison(&self) -> &AtomicBool {
        &self.poison
    }

    /// Acquires it when it is free, until a time. False: that is over. A holder may acquire it `again`.
    pub(super) fn hold(
        &self,
        me: Holder,
        again: bool,
        limit: Option<Duration>,
    ) -> Result<bool, Failure> {
        let got = self.held.wait_until(deadline(limit), |held| {
            if held.by.is_some_and(Holder::has_died) {
                held.set_free();
                self.poison.store(true, Relaxed);
            }
            if self.poison.load(Relaxed) {
                return Some(Err(Failure::Poisoned));
            }
            if held.by.is_some_and(|by| !(again && by == me)) {
                return None;
            }
            held.by = Some(me);
            held.depth += 1;
            Some(Ok(true))
        });
        // Without a limit only a caller that has gone waits in vain.
        got.unwrap_or(if limit.is_some() { Ok(false) } else { Err(Failure::Abandoned) })
    }

    /// Gives it back, once. False: it isn't theirs.
    pub(super) fn free(&self, me: Holder, panics: bool) -> bool {
        let mut held = self.held.lock();
        if held.by != Some(me) {
            return false;
        }
        if panics {
            self.poison.store(true, Relaxed);
        }
        held.depth -= 1;
        if held.depth == 0 {
            held.set_free();
        }
        drop(held);
        if panics || self.has_tickets {
            self.held.changed_for_all();
        } else {
            self.held.changed_for_one();
        }
        true
    }

    /// Gives it back, waits for a notice until a time, and acquires it again. False: there was none.
    pub(super) fn await_notice(
        &self,
        me: Holder,
        limit: Option<Duration>,
    ) -> Result<bool, Failure> {
        let mut held = self.held.lock();
        if held.by != Some(me) {
            // It has been taken for dead.
            return Err(Failure::Poisoned);
        }
        let ticket = held.issued;
        held.issued += 1;
        held.tickets.push_back(ticket);
        held.set_free();
        drop(held);
        self.held.changed_for_all();
        let noticed = self
            .held
            .wait_until(deadline(limit), |held| (!held.tickets.contains(&ticket)).then_some(()));
        let is_noticed = noticed.is_some() || self.give_ticket_back(ticket);
        let held_again = if noticed.is_none() && server::caller_has_gone() {
            Err(Failure::Abandoned)
        } else {
            self.hold(me, false, None)
        };
        if is_noticed && matches!(held_again, Err(Failure::Abandoned)) {
            // What was meant for it is for another.
            self.held.lock().tickets.pop_front();
            self.held.changed_for_all();
        }
        held_again.map(|_| is_noticed)
    }

    /// Waits for a notice no more. True: it has come meanwhile.
    fn give_ticket_back(&self, ticket: u64) -> bool {
        let tickets = &mut self.held.lock().tickets;
        let at = tickets.iter().position(|other| *other == ticket);
        at.is_none_or(|at| tickets.remove(at).is_none())
    }

    /// Gives a notice to so many at most, if the lock is theirs; says to how many.
    pub(super) fn notify(&self, me: Holder, count: usize) -> usize {
        let mut held = self.held.lock();
        if held.by != Some(me) {
            return 0;
        }
        let count = count.min(held.tickets.len());
        held.tickets.drain(..count);
        drop(held);
        self.held.changed_for_all();
        count
    }

    pub(super) fn waiting(&self) -> usize {
        self.held.lock().tickets.len()
    }

    fn is_held(&self) -> bool {
        self.held.lock().by.is_some_and(|by| !by.has_died())
    }
}

/// A lock that its holder can't acquire again, in the server.
pub(super) struct Once(Latch);

/// A lock that its holder can acquire again, in the server.
pub(super) struct Again(Latch);

impl From<()> for Once {
    fn from((): ()) -> Self {
        Self(Latch::new())
    }
}

impl From<()> for Again {
    fn from((): ()) -> Self {
        Self(Latch::new())
    }
}

fn poison_of_once(lock: &Once) -> &AtomicBool {
    &lock.0.poison
}

fn poison_of_again(lock: &Again) -> &AtomicBool {
    &lock.0.poison
}

builtin! {
    /// A lock that a [`Manager`](crate::Manager) owns.
    ///
    /// Within one family of processes [`sync::Lock`](crate::sync::Lock) is faster by far.
    ///
    /// If its holder panics, or its process dies, whoever acquires it next is told: what it guards may be half
    /// changed. From then on that is [`ManagerError::Poisoned`] for everybody, until somebody who has put
    /// things in order calls [`clear_poison`](Self::clear_poison).
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let (lock, count) = (manager.lock()?, manager.value(1)?);
    /// {
    ///     let _guard = lock.lock()?;
    ///     count.set(count.get()? + 1)?;
    ///     assert!(lock.try_lock()?.is_none());
    /// }
    /// assert!(lock.try_lock()?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub struct Lock<>, LockBatch of Once
    where [] poisoned by poison_of_once;

    #[doc(hidden)]
    shared fn acquire(lock, me: Holder, limit: Option<Duration>) -> bool {
        lock.0.hold(me, false, limit)?
    }

    #[doc(hidden)]
    shared fn release(lock, me: Holder, panics: bool) -> bool {
        lock.0.free(me, panics)
    }

    /// Whether somebody holds it.
    shared fn is_locked(lock) -> bool {
        lock.0.is_held()
    }
}

builtin! {
    /// A lock that a [`Manager`](crate::Manager) owns, which the thread that holds it can acquire again. It is
    /// free when all of its guards are dropped.
    ///
    /// Within one family of processes [`sync::RLock`](crate::sync::RLock) is faster by far. What happens when
    /// its holder dies is as with a [`Lock`].
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let lock = manager.rlock()?;
    /// let outer = lock.lock()?;
    /// let inner = lock.lock()?;
    /// drop(outer);
    /// assert!(lock.is_locked()?);
    /// drop(inner);
    /// assert!(!lock.is_locked()?);
    /// # Ok(())
    /// # }
    /// ```
    pub struct RLock<>, RLockBatch of Again
    where [] poisoned by poison_of_again;

    #[doc(hidden)]
    shared fn acquire(lock, me: Holder, limit: Option<Duration>) -> bool {
        lock.0.hold(me, true, limit)?
    }

    #[doc(hidden)]
    shared fn release(lock, me: Holder, panics: bool) -> bool {
        lock.0.free(me, panics)
    }

    /// Whether somebody holds it.
    shared fn is_locked(lock) -> bool {
        lock.0.is_held()
    }
}

/// Input: a lock and its guard. Output: the guard, and how it is acquired.
macro_rules! guarded {
    ($Lock:ident, $Guard:ident, $what:literal) => {
        #[doc = concat!("Holds a ", $what, "; gives it back when it is dropped, by the thread that acquired it.")]
        #[must_use = "it is given back at once if the guard is dropped"]
        pub struct $Guard<'l> {
            lock: &'l $Lock,
            holder: Holder,
            /// It stays in its thread.
            of_thread: PhantomData<*const ()>,
        }

        impl $Lock {
            /// Waits until it is free, and holds it.
            ///
            /// # Errors
            /// [`ManagerError::Poisoned`] if a holder has died or panicked; see [`ManagerError`].
            pub fn lock(&self) -> Result<$Guard<'_>, ManagerError> {
                let holder = Holder::here();
                self.acquire(holder, None)?;
                Ok($Guard { lock: self, holder, of_thread: PhantomData })
            }

            /// Holds it, if it is free.
            ///
            /// # Errors
            #[doc = concat!("As [`lock`](Self::lock).")]
            pub fn try_lock(&self) -> Result<Option<$Guard<'_>>, ManagerError> {
                self.lock_timeout(Duration::ZERO)
            }

            /// Waits so long until it is free, and holds it. None: it isn't.
            ///
            /// # Errors
            /// As [`lock`](Self::lock).
            pub fn lock_timeout(
                &self,
                limit: Duration,
            ) -> Result<Option<$Guard<'_>>, ManagerError> {
                let holder = Holder::here();
                let is_mine = self.acquire(holder, Some(limit))?;
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

guarded!(Lock, LockGuard, "[`Lock`]");
guarded!(RLock, RLockGuard, "[`RLock`]");

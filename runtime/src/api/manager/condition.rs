//! Conditions in a server: a lock, and those who have given it back until somebody notifies them.
//!
//! Each who waits has a ticket, which a notification takes away. Who dies before it has the lock again passes
//! on what was meant for it.

use std::marker::PhantomData;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use super::builtin::builtin;
use super::error::ManagerError;
use super::holder::Holder;
use super::lock::Latch;

/// The condition, in the server.
pub(super) struct Monitor(Latch);

impl From<()> for Monitor {
    fn from((): ()) -> Self {
        Self(Latch::of_condition())
    }
}

fn poison_of(monitor: &Monitor) -> &AtomicBool {
    monitor.0.poison()
}

builtin! {
    /// A condition that a [`Manager`](crate::Manager) owns, with a lock of its own.
    ///
    /// Within one family of processes [`sync::Condition`](crate::sync::Condition) is faster by far. What
    /// happens when the holder of its lock dies is as with a [`Lock`](super::Lock).
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let (condition, ready) = (manager.condition()?, manager.value(false)?);
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| {
    ///         let guard = condition.lock().unwrap();
    ///         ready.set(true).unwrap();
    ///         condition.notify_all(&guard).unwrap();
    ///     });
    ///     let mut guard = condition.lock()?;
    ///     while !ready.get()? {
    ///         guard = condition.wait(guard)?;
    ///     }
    ///     Ok::<_, procession::Error>(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub struct Condition<>, ConditionBatch of Monitor
    where [] poisoned by poison_of;

    #[doc(hidden)]
    shared fn acquire(condition, me: Holder, limit: Option<Duration>) -> bool {
        condition.0.hold(me, false, limit)?
    }

    #[doc(hidden)]
    shared fn release(condition, me: Holder, panics: bool) -> bool {
        condition.0.free(me, panics)
    }

    #[doc(hidden)]
    shared fn wait_as(condition, me: Holder, limit: Option<Duration>) -> bool {
        condition.0.await_notice(me, limit)?
    }

    #[doc(hidden)]
    shared fn notify_as(condition, me: Holder, count: usize) -> usize {
        condition.0.notify(me, count)
    }

    /// How many wait.
    shared fn n_waiting(condition) -> usize {
        condition.0.waiting()
    }
}

/// Holds the lock of a [`Condition`]; gives it back when it is dropped.
#[must_use = "it is given back at once if the guard is dropped"]
pub struct ConditionGuard<'c> {
    condition: &'c Condition,
    holder: Holder,
    /// It stays in its thread.
    of_thread: PhantomData<*const ()>,
}

impl Condition {
    /// Waits until its lock is free, and holds it.
    ///
    /// # Errors
    /// [`ManagerError::Poisoned`] if a holder has died or panicked; see [`ManagerError`].
    pub fn lock(&self) -> Result<ConditionGuard<'_>, ManagerError> {
        let holder = Holder::here();
        self.acquire(holder, None)?;
        Ok(ConditionGuard { condition: self, holder, of_thread: PhantomData })
    }

    /// Gives the lock back, waits until it is notified, and holds the lock again. Others may have changed
    /// things before it does: look again.
    ///
    /// # Errors
    /// As [`lock`](Self::lock); the lock isn't held then.
    ///
    /// # Panics
    /// The guard is another condition's.
    pub fn wait<'g>(&self, guard: ConditionGuard<'g>) -> Result<ConditionGuard<'g>, ManagerError> {
        self.wait_until(guard, None).map(|(guard, _)| guard)
    }

    /// As [`wait`](Self::wait), so long at most. The other part of the result says whether it was notified.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    pub fn wait_timeout<'g>(
        &self,
        guard: ConditionGuard<'g>,
        limit: Duration,
    ) -> Result<(ConditionGuard<'g>, bool), ManagerError> {
        self.wait_until(guard, Some(limit))
    }

    /// Waits, so long at most or for ever, until `is_so` says yes, holding the lock whenever it is asked. The
    /// other part of the result is what it said last.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and those of `is_so`.
    ///
    /// # Panics
    /// As [`wait`](Self::wait).
    pub fn wait_for<'g>(
        &self,
        mut guard: ConditionGuard<'g>,
        limit: Option<Duration>,
        mut is_so: impl FnMut() -> Result<bool, ManagerError>,
    ) -> Result<(ConditionGuard<'g>, bool), ManagerError> {
        let begin = Instant::now();
        loop {
            if is_so()? {
                return Ok((guard, true));
            }
            let left = limit.map(|limit| limit.saturating_sub(begin.elapsed()));
            if left == Some(Duration::ZERO) {
                return Ok((guard, false));
            }
            guard = self.wait_until(guard, left)?.0;
        }
    }

    fn wait_until<'g>(
        &self,
        guard: ConditionGuard<'g>,
        limit: Option<Duration>,
    ) -> Result<(ConditionGuard<'g>, bool), ManagerError> {
        self.check(&guard);
        // On an error the guard is dropped: nobody knows whether the server has taken the lock back before,
        // and giving back what isn't held does nothing.
        let is_notified = self.wait_as(guard.holder, limit)?;
        Ok((guard, is_notified))
    }

    /// Notifies so many of those who wait, at most, the first ones first; gives how many.
    ///
    /// # Errors
    /// See [`ManagerError`].
    ///
    /// # Panics
    /// The guard is another condition's.
    pub fn notify(&self, guard: &ConditionGuard<'_>, count: usize) -> Result<usize, ManagerError> {
        self.check(guard);
        self.notify_as(guard.holder, count)
    }

    /// Notifies the first of those who wait, if somebody does.
    ///
    /// # Errors
    /// See [`ManagerError`].
    ///
    /// # Panics
    /// The guard is another condition's.
    pub fn notify_one(&self, guard: &ConditionGuard<'_>) -> Result<(), ManagerError> {
        self.notify(guard, 1).map(drop)
    }

    /// Notifies all who wait.
    ///
    /// # Errors
    /// See [`ManagerError`].
    ///
    /// # Panics
    /// The guard is another condition's.
    pub fn notify_all(&self, guard: &ConditionGuard<'_>) -> Result<(), ManagerError> {
        self.notify(guard, usize::MAX).map(drop)
    }

    fn check(&self, guard: &ConditionGuard<'_>) {
        let (mine, theirs) = (self.0.handle(), guard.condition.0.handle());
        assert!(mine.is_same(theirs), "the guard is one of another condition");
    }
}

impl Drop for ConditionGuard<'_> {
    fn drop(&mut self) {
        // Where the server has gone there is nothing to give back.
        let _ = self.condition.release(self.holder, thread::panicking());
    }
}

impl std::fmt::Debug for ConditionGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ConditionGuard").field(self.condition).finish()
    }
}

//! How a method waits for what another one brings: after it has stepped down, so that others are served
//! meanwhile, and only as long as its caller waits.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::server;

/// How long to sleep before a look whether the caller is there still: a dead one is missed within this time.
const LOOK: Duration = Duration::from_millis(250);

/// What methods wait for: a state, and a signal that it has changed.
#[derive(Debug, Default)]
pub(crate) struct Awaited<T> {
    state: Mutex<T>,
    changed: Condvar,
    /// How many sleep, or are about to; changed under the state's lock. Without it each change would ask the
    /// system whether somebody is to be woken.
    sleepers: AtomicUsize,
}

impl<T> Awaited<T> {
    pub(crate) fn new(state: T) -> Self {
        Self { state: Mutex::new(state), changed: Condvar::new(), sleepers: AtomicUsize::new(0) }
    }

    /// The state, for a moment. Whoever changes it tells, then or afterwards:
    /// [`changed_for_one`](Self::changed_for_one), [`changed_for_all`](Self::changed_for_all).
    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of those who wait can go on, whichever it is.
    pub(crate) fn changed_for_one(&self) {
        if self.has_sleepers() {
            self.changed.notify_one();
        }
    }

    /// Any of those who wait may go on.
    pub(crate) fn changed_for_all(&self) {
        if self.has_sleepers() {
            self.changed.notify_all();
        }
    }

    /// Whether somebody may not know of the caller's last change of the state: who begins to sleep later has had
    /// the lock later, and has seen it.
    fn has_sleepers(&self) -> bool {
        self.sleepers.load(Relaxed) > 0
    }

    /// Waits until `ready` gives something. None: the deadline has passed, or the caller of the method that
    /// this thread runs has gone, and `ready` had nothing. It is called under the lock.
    pub(crate) fn wait_until<R>(
        &self,
        deadline: Option<Instant>,
        mut ready: impl FnMut(&mut T) -> Option<R>,
    ) -> Option<R> {
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if let Some(value) = ready(&mut self.lock()) {
            return Some(value);
        }
        if left() == Some(Duration::ZERO) {
            return None;
        }
        server::step_down();
        let mut state = self.lock();
        loop {
            let is_over = left() == Some(Duration::ZERO) || server::caller_has_gone();
            // What comes is not for the dead.
            if !server::caller_has_gone()
                && let Some(value) = ready(&mut state)
            {
                return Some(value);
            }
            if is_over {
                // The signal that has woken this thread may have been meant for one that goes on.
                self.changed_for_one();
                return None;
            }
            let nap = left().map_or(LOOK, |left| left.min(LOOK));
            self.sleepers.fetch_add(1, Relaxed);
            let woken = self.changed.wait_timeout(state, nap);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
            self.sleepers.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn what_is_there_is_given_at_once_and_what_comes_is_waited_for() {
        let items = Arc::new(Awaited::new(vec![1]));
        assert_eq!(items.wait_until(None, Vec::pop), Some(1));
        let putter = {
            let items = Arc::clone(&items);
            thread::spawn(move || {
                items.lock().push(2);
                items.changed_for_one();
            })
        };
        assert_eq!(items.wait_until(None, Vec::pop), Some(2));
        putter.join().unwrap();
    }

    #[test]
    fn a_wait_ends_with_its_time() {
        let nothing = Awaited::new(());
        let begin = Instant::now();
        assert_eq!(nothing.wait_until(Some(begin), |()| None::<()>), None);
        let deadline = begin + Duration::from_millis(20);
        assert_eq!(nothing.wait_until(Some(deadline), |()| None::<()>), None);
        assert!(begin.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn who_gives_up_passes_the_signal_on() {
        let items = Arc::new(Awaited::new(0_u32));
        let takers: Vec<_> = (0..4)
            .map(|i: u32| {
                let items = Arc::clone(&items);
                let limit = i.is_multiple_of(2).then(|| Instant::now() + Duration::from_millis(5));
                thread::spawn(move || {
                    let take = |count: &mut u32| {
                        *count = count.checked_sub(1)?;
                        Some(())
                    };
                    items.wait_until(limit, take).is_some()
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(4));
        // So many that whoever waits without a limit gets one.
        for _ in 0..4 {
            *items.lock() += 1;
            items.changed_for_one();
        }
        let taken = takers.into_iter().map(|taker| taker.join().unwrap());
        assert_eq!(taken.filter(|taken| *taken).count() as u32 + *items.lock(), 4);
    }
}

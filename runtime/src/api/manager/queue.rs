//! Queues in a server.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use super::builtin::{builtin, deadline};
use super::error::ManagerError;
use crate::callable::task_fn::Payload;
use crate::manage::class::Failure;
use crate::manage::keeper::append;
use crate::manage::waiting::Awaited;
use crate::transport::codec;

/// A queue, in the server.
pub(super) struct Line<T>(Room<T>);

impl<T> From<Option<usize>> for Line<T> {
    fn from(capacity: Option<usize>) -> Self {
        Self(Room::new(capacity, false))
    }
}

impl<T> From<Contents<T>> for Line<T> {
    fn from(contents: Contents<T>) -> Self {
        Self(Room::of(contents, false))
    }
}

/// A queue in a snapshot: its capacity, and its items.
pub(super) type Contents<T> = (Option<usize>, VecDeque<T>);

/// Where the items of a queue are.
pub(super) struct Room<T> {
    state: Awaited<State<T>>,
    capacity: usize,
    /// Whether all who wait, wait for an item: then one of them is enough to take one.
    is_simple: bool,
}

struct State<T> {
    items: VecDeque<T>,
    /// How many items were put for which nobody has said that they are done.
    unfinished: usize,
}

impl<T> Room<T> {
    /// Without a capacity there is room for any number of items.
    pub(super) fn new(capacity: Option<usize>, is_joined: bool) -> Self {
        Self::of((capacity, VecDeque::new()), is_joined)
    }

    pub(super) fn of((capacity, items): Contents<T>, is_joined: bool) -> Self {
        // Those who had taken others are gone: nobody will say that they are done.
        let state = State { unfinished: items.len(), items };
        let is_simple = capacity.is_none() && !is_joined;
        let capacity = capacity.unwrap_or(usize::MAX);
        Self { state: Awaited::new(state), capacity, is_simple }
    }

    /// Appends [`Contents`].
    ///
    /// # Errors
    /// An item can't be encoded.
    pub(super) fn keep(&self, out: &mut Vec<u8>) -> Result<(), codec::Error>
    where
        T: Serialize,
    {
        let state = self.state.lock();
        let capacity = (self.capacity < usize::MAX).then_some(self.capacity);
        append(&(capacity, &state.items), out)
    }

    /// Puts an item when there is room for it, until a time. It comes back when that is over, or nobody
    /// waits any more.
    pub(super) fn put(&self, item: T, limit: Option<Duration>) -> Result<(), T> {
        let mut item = Some(item);
        let put = self.state.wait_until(deadline(limit), |state| {
            if state.items.len() >= self.capacity {
                return None;
            }
            state.items.extend(item.take());
            state.unfinished += 1;
            Some(())
        });
        match (put, self.is_simple) {
            (None, _) => return item.map_or(Ok(()), Err),
            (Some(()), true) => self.state.changed_for_one(),
            (Some(()), false) => self.state.changed_for_all(),
        }
        Ok(())
    }

    /// Takes an item when there is one, until a time.
    pub(super) fn get(&self, limit: Option<Duration>) -> Option<T> {
        let item = self.state.wait_until(deadline(limit), |state| state.items.pop_front());
        if item.is_some() && !self.is_simple {
            self.state.changed_for_all();
        }
        item
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    pub(super) fn unfinished(&self) -> usize {
        self.state.lock().unfinished
    }

    /// Says that an item is done. False: all are.
    pub(super) fn task_done(&self) -> bool {
        let mut state = self.state.lock();
        let Some(left) = state.unfinished.checked_sub(1) else { return false };
        state.unfinished = left;
        drop(state);
        if left == 0 {
            self.state.changed_for_all();
        }
        true
    }

    /// Waits until all are done, until a time.
    pub(super) fn join(&self, limit: Option<Duration>) -> bool {
        let is_done = |state: &mut State<T>| (state.unfinished == 0).then_some(());
        self.state.wait_until(deadline(limit), is_done).is_some()
    }
}

/// Refuses a queue for no item: whoever puts one would wait for ever.
pub(super) fn check_capacity(capacity: Option<usize>) -> Result<(), ManagerError> {
    if capacity == Some(0) {
        return Err(ManagerError::Refused("a queue needs room for at least one item".to_owned()));
    }
    Ok(())
}

/// The time that is over already: whoever waits until then only tries.
pub(super) const NOW: Option<Duration> = Some(Duration::ZERO);

builtin! {
    /// A queue that a [`Manager`](crate::Manager) owns.
    ///
    /// Within one family of processes [`procession::Queue`](crate::Queue) is faster by far. What this one can
    /// do besides is lie within other managed values, and have a [name](crate::Manager::name). An item that
    /// is got by a process that dies at that moment is lost with it; one that waits and dies gets none.
    ///
    /// It has no end. Put a value that says so, one for each that gets, such as `None`.
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let jobs = manager.queue(Some(2))?;
    /// jobs.put("one".to_owned())?;
    /// jobs.put("two".to_owned())?;
    /// assert_eq!(jobs.try_put("three".to_owned())?, Err("three".to_owned()), "there is no room");
    /// assert_eq!(jobs.get()?, "one");
    /// assert_eq!(jobs.len()?, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub struct Queue<T>, QueueBatch of Line<T>
    where [T: Payload + Send + Sync]
    kept as Contents<T>: |queue, out| queue.0.keep(out);

    /// Puts an item at the end; waits until there is room.
    shared fn put(queue, item: T) -> () {
        queue.0.put(item, None).map_err(|_| Failure::Abandoned)?
    }

    /// Puts an item at the end, unless there is no room now: then it comes back.
    shared fn try_put(queue, item: T) -> Result<(), T> {
        queue.0.put(item, NOW)
    }

    /// Puts an item at the end; waits so long for room, and then it comes back.
    shared fn put_timeout(queue, item: T, limit: Duration) -> Result<(), T> {
        queue.0.put(item, Some(limit))
    }

    /// Takes the first item out; waits until there is one.
    shared fn get(queue) -> T {
        queue.0.get(None).ok_or(Failure::Abandoned)?
    }

    /// Takes the first item out, if there is one.
    shared fn try_get(queue) -> Option<T> {
        queue.0.get(NOW)
    }

    /// Takes the first item out; waits so long for one.
    shared fn get_timeout(queue, limit: Duration) -> Option<T> {
        queue.0.get(Some(limit))
    }

    /// How many items there are.
    shared fn len(queue) -> usize {
        queue.0.len()
    }

    /// Whether there is none.
    shared fn is_empty(queue) -> bool {
        queue.0.len() == 0
    }

    /// Whether there is no room.
    shared fn is_full(queue) -> bool {
        queue.0.is_full()
    }
}

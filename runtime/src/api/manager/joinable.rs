//! Queues in a server that tell when all is done.

use std::time::Duration;

use super::builtin::builtin;
use super::queue::{Contents, NOW, Room};
use crate::callable::task_fn::Payload;
use crate::manage::class::Failure;

/// A queue that is joined, in the server.
pub(super) struct Joinable<T>(Room<T>);

impl<T> From<Option<usize>> for Joinable<T> {
    fn from(capacity: Option<usize>) -> Self {
        Self(Room::new(capacity, true))
    }
}

impl<T> From<Contents<T>> for Joinable<T> {
    fn from(contents: Contents<T>) -> Self {
        Self(Room::of(contents, true))
    }
}

builtin! {
    /// A [`Queue`](super::Queue) that can be waited for until all that was put into it is done.
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let jobs = manager.joinable_queue::<u64>(None)?;
    /// jobs.put(1)?;
    /// assert_eq!(jobs.get()?, 1);
    /// assert!(jobs.task_done()?);
    /// jobs.join()?;
    /// # Ok(())
    /// # }
    /// ```
    pub struct JoinableQueue<T>, JoinableQueueBatch of Joinable<T>
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

    /// Says that an item that was got is done. False: all are done already.
    shared fn task_done(queue) -> bool {
        queue.0.task_done()
    }

    /// Waits until all items that were put are done.
    shared fn join(queue) -> () {
        if !queue.0.join(None) {
            return Err(Failure::Abandoned);
        }
    }

    /// Waits so long until all items that were put are done. False: they aren't.
    shared fn join_timeout(queue, limit: Duration) -> bool {
        queue.0.join(Some(limit))
    }

    /// How many items were put that aren't done.
    shared fn unfinished(queue) -> usize {
        queue.0.unfinished()
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

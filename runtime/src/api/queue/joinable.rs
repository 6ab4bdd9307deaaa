//! A queue whose items are signed off.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::super::wait::{Source, Waitable};
use super::Queue;
use crate::callable::task_fn::Payload;
use crate::error::Error;
use crate::shm::heap::Kind as ObjectKind;
use crate::shm::platform::Deadline;
use crate::shm::system::System;

/// A [`Queue`] that counts the items which have been put and not yet been worked on.
///
/// Consumers call [`task_done`](Self::task_done) for each item that they have got, and
/// [`join`](Self::join) waits for the last one. An item that was taken by a process which was killed
/// is never signed off: [`join_timeout`](Self::join_timeout) and [`unfinished`](Self::unfinished) tell.
///
/// ```
/// use procession::{JoinableQueue, Process, task};
///
/// #[task]
/// fn work(queue: JoinableQueue<String>) {
///     for item in queue.iter() {
///         println!("{}", item.unwrap());
///         queue.task_done().unwrap();
///     }
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let queue = JoinableQueue::unbounded()?;
/// let process = Process::new(work, (queue.clone(),)).start()?;
/// for item in ["one", "two"] {
///     queue.put(item.to_owned())?;
/// }
/// queue.join();
/// queue.close();
/// process.join()?;
/// # Ok(())
/// # }
/// ```
pub struct JoinableQueue<T>(Queue<T>);

impl<T: Payload> JoinableQueue<T> {
    /// As [`Queue::unbounded`].
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn unbounded() -> Result<Self, Error> {
        Queue::of_kind(ObjectKind::JoinableQueue, None).map(Self)
    }

    /// As [`Queue::bounded`].
    ///
    /// # Errors
    /// There is no memory for it, or `items` is 0.
    pub fn bounded(items: usize) -> Result<Self, Error> {
        Queue::of_kind(ObjectKind::JoinableQueue, Some(items)).map(Self)
    }
}

impl<T> JoinableQueue<T> {
    /// Signs an item off.
    ///
    /// # Errors
    /// All that were put have been signed off already.
    pub fn task_done(&self) -> Result<(), Error> {
        let surplus = "`task_done` was called more often than items were put";
        self.channel.ring().task_done().map_err(|()| Error::usage(surplus))
    }

    /// How many items have been put and not been signed off.
    pub fn unfinished(&self) -> usize {
        usize::try_from(self.channel.ring().unfinished()).unwrap_or(usize::MAX)
    }

    /// Waits until all items that were put have been signed off.
    pub fn join(&self) {
        self.channel.ring().join(Deadline::NEVER);
    }

    /// As [`join`](Self::join), at most for so long. False: the time was over first.
    pub fn join_timeout(&self, timeout: Duration) -> bool {
        self.channel.ring().join(Deadline::after::<System>(timeout))
    }
}

impl<T> Deref for JoinableQueue<T> {
    type Target = Queue<T>;

    fn deref(&self) -> &Queue<T> {
        &self.0
    }
}

impl<T> Waitable for JoinableQueue<T> {
    fn source(&self) -> Source<'_> {
        Source::of_ring(self.0.channel.ring())
    }
}

impl<T> Clone for JoinableQueue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for JoinableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinableQueue")
            .field("len", &self.len())
            .field("unfinished", &self.unfinished())
            .field("capacity", &self.capacity())
            .field("is_closed", &self.is_closed())
            .finish()
    }
}

impl<T> Serialize for JoinableQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for JoinableQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Queue::receive(deserializer, ObjectKind::JoinableQueue).map(Self)
    }
}

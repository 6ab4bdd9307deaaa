//! The least that a queue can be.

use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::super::wait::{Source, Waitable};
use super::{GetError, PutError, Queue};
use crate::callable::task_fn::Payload;
use crate::error::Error;
use crate::shm::heap::Kind as ObjectKind;

/// An unbounded queue with nothing but put, get and close, as Python's.
///
/// ```
/// # fn main() -> Result<(), procession::Error> {
/// let queue = procession::SimpleQueue::new()?;
/// queue.put("hello".to_owned())?;
/// assert_eq!(queue.get()?, "hello");
/// assert!(queue.is_empty());
/// # Ok(())
/// # }
/// ```
pub struct SimpleQueue<T>(Queue<T>);

impl<T: Payload> SimpleQueue<T> {
    /// A new queue.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new() -> Result<Self, Error> {
        Queue::of_kind(ObjectKind::SimpleQueue, None).map(Self)
    }
}

impl<T> SimpleQueue<T> {
    /// Whether it holds nothing at this moment.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As [`Queue::close`].
    pub fn close(&self) {
        self.0.close();
    }
}

impl<T: Serialize> SimpleQueue<T> {
    /// Puts a value.
    ///
    /// # Errors
    /// As [`Queue::put`].
    pub fn put(&self, value: T) -> Result<(), PutError<T>> {
        self.0.put(value)
    }
}

impl<T: DeserializeOwned> SimpleQueue<T> {
    /// Takes the next value out; waits for one.
    ///
    /// # Errors
    /// As [`Queue::get`].
    pub fn get(&self) -> Result<T, GetError> {
        self.0.get()
    }
}

impl<T> Waitable for SimpleQueue<T> {
    fn source(&self) -> Source<'_> {
        Source::of_ring(self.0.channel.ring())
    }
}

impl<T> Clone for SimpleQueue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for SimpleQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimpleQueue").field("len", &self.0.len()).finish_non_exhaustive()
    }
}

impl<T> Serialize for SimpleQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for SimpleQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Queue::receive(deserializer, ObjectKind::SimpleQueue).map(Self)
    }
}

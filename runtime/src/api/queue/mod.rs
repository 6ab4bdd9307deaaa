//! Queues between processes.

mod error;
mod joinable;
mod simple;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

pub use self::error::{GetError, PutError};
pub use self::joinable::JoinableQueue;
pub use self::simple::SimpleQueue;
use super::wait::{Source, Waitable};
use crate::callable::task_fn::Payload;
use crate::error::{Error, Kind};
use crate::shm::channel::{self, Channel, Patience};
use crate::shm::heap::{Fill, Kind as ObjectKind, Object, Request, layout_of, parcel};
use crate::shm::ring::RingError;
use crate::transport::codec::{self, passing};
use crate::transport::scratch;

/// A queue of values that any number of processes and threads put and get.
///
/// Unlike Python's it is an argument like any other: of a [`Process`](crate::Process), of a pool's task,
/// within a struct, or in another queue. All that have it share it; it is there until the last one
/// has dropped it, or died. What was put stays there when the process that put it ends.
///
/// Values are encoded when they are put: what becomes of them afterwards changes nothing, and one that
/// can't be encoded is the error of [`put`](Self::put). Each producer's values are got in its order.
///
/// ```
/// use procession::{Process, Queue, task};
///
/// #[task]
/// fn squares(numbers: Queue<u32>, results: Queue<u32>) {
///     for number in numbers.iter() {
///         let number = number.unwrap();
///         results.put(number * number).unwrap();
///     }
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let (numbers, results) = (Queue::bounded(10)?, Queue::unbounded()?);
/// let process = Process::new(squares, (numbers.clone(), results.clone())).start()?;
/// for number in 1..=3 {
///     numbers.put(number)?;
/// }
/// numbers.close();
/// process.join()?;
/// assert_eq!((results.get()?, results.get()?, results.get()?), (1, 4, 9));
/// # Ok(())
/// # }
/// ```
///
/// # When a process is killed
/// A process that is killed while it puts has put its value or it hasn't; a value whose `put` had
/// returned is there. One that is killed while it gets has taken the value or left it. A value that it had
/// taken is gone with it, though it may not have done anything with it yet: to get to know of such
/// values, use a [`JoinableQueue`], or a [`Pool`](crate::Pool), which reports each item of a lost worker.
/// Nobody else is held up for longer than it takes to notice, some 50 ms, and nothing is got twice. (A
/// process that is stopped, by SIGSTOP, in the middle of an operation holds others up until it goes on.)
///
/// A queue that holds a handle on itself lives as long as the program.
pub struct Queue<T> {
    channel: Arc<Channel>,
    capacity: Option<usize>,
    items: PhantomData<fn(T) -> T>,
}

impl<T: Payload> Queue<T> {
    /// A queue without a bound: putting never waits.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn unbounded() -> Result<Self, Error> {
        Self::of_kind(ObjectKind::Queue, None)
    }

    /// A queue of at most so many items: putting waits while it is full.
    ///
    /// # Errors
    /// There is no memory for it, or `items` is 0.
    pub fn bounded(items: usize) -> Result<Self, Error> {
        Self::of_kind(ObjectKind::Queue, Some(items))
    }
}

impl<T> Queue<T> {
    fn of_kind(kind: ObjectKind, capacity: Option<usize>) -> Result<Self, Error> {
        if capacity == Some(0) {
            return Err(Error::usage("a bounded queue has room for one item at least"));
        }
        let bound = capacity.map_or(0, |items| items as u64);
        let make = || -> io::Result<Channel> {
            let channel = Channel::new(
                Object::create(Request {
                    layout: layout_of::<T>(),
                    length: bound,
                    bytes: channel::bytes(1),
                    fill: Fill::Zeros,
                    ..Request::small(kind)
                })?,
                0,
            )?;
            channel.ring().init(bound, 0);
            Ok(channel)
        };
        let channel = make().map_err(|error| Error::system("can't make a queue", &error))?;
        Ok(Self { channel: Arc::new(channel), capacity, items: PhantomData })
    }

    fn receive<'de, D: Deserializer<'de>>(
        deserializer: D,
        kind: ObjectKind,
    ) -> Result<Self, D::Error> {
        let object = passing::receive(deserializer, kind, layout_of::<T>())?;
        let capacity = usize::try_from(object.length()).ok().filter(|items| *items > 0);
        let channel = Channel::new(object, 0).map_err(D::Error::custom)?;
        Ok(Self { channel: Arc::new(channel), capacity, items: PhantomData })
    }

    /// How many items it holds at most, if it is bounded.
    pub fn capacity(&self) -> Option<usize> {
        self.capacity
    }

    /// How many items it holds at this moment.
    pub fn len(&self) -> usize {
        usize::try_from(self.channel.ring().len()).unwrap_or(usize::MAX)
    }

    /// Whether it holds nothing at this moment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it has no room at this moment.
    pub fn is_full(&self) -> bool {
        self.capacity.is_some_and(|items| self.len() >= items)
    }

    /// Closes it for everybody: nothing can be put any more; what is there can be got, and then
    /// [`get`](Self::get) says that it is closed, also to those that wait now. Closing it again is
    /// fine.
    pub fn close(&self) {
        self.channel.ring().close(&*self.channel);
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.channel.ring().is_closed()
    }
}

impl<T: Serialize> Queue<T> {
    /// Puts a value; waits while the queue is full.
    ///
    /// # Errors
    /// The queue is closed, or the value can't be encoded, or there is no memory. The error holds the
    /// value.
    pub fn put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_with(value, Patience::of(None))
    }

    /// Puts a value if there is room now.
    ///
    /// # Errors
    /// As [`put`](Self::put), or [`PutError::Full`].
    pub fn try_put(&self, value: T) -> Result<(), PutError<T>> {
        self.put_with(value, Patience::None)
    }

    /// Puts a value; waits at most so long while the queue is full.
    ///
    /// # Errors
    /// As [`put`](Self::put), or [`PutError::TimedOut`].
    pub fn put_timeout(&self, value: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_with(value, Patience::of(Some(timeout)))
    }

    fn put_with(&self, value: T, patience: Patience) -> Result<(), PutError<T>> {
        let sent = scratch::with(|bytes| {
            let (encoded, handles) = passing::collecting(|| codec::encode(&value, bytes));
            encoded.map_err(Refusal::Data)?;
            self.channel.send(bytes, &handles, patience).map_err(Refusal::Ring)
        });
        let error = match sent {
            Ok(()) => return Ok(()),
            Err(Refusal::Data(error)) => {
                Error::new(Kind::Channel(format!("the value can't be encoded: {error}")))
            }
            Err(Refusal::Ring(error)) => match error {
                RingError::TimedOut if matches!(patience, Patience::None) => {
                    return Err(PutError::Full(value));
                }
                RingError::TimedOut => return Err(PutError::TimedOut(value)),
                RingError::Closed => return Err(PutError::Closed(value)),
                other => failure(other),
            },
        };
        Err(PutError::Failed(value, error))
    }
}

/// Why a value was not sent.
enum Refusal {
    Data(codec::Error),
    Ring(RingError),
}

fn failure(error: RingError) -> Error {
    match error {
        RingError::Memory(error) if error.kind() == io::ErrorKind::NotFound => {
            Error::new(Kind::Channel(format!("a value is lost: {error}")))
        }
        RingError::Memory(error) => Error::system("the queue's memory can't be used", &error),
        _ => Error::new(Kind::System(
            "the queue is damaged: a process has written where it must not".to_owned(),
        )),
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Takes the next value out; waits for one.
    ///
    /// # Errors
    /// The queue is closed and empty, or the value can't be decoded; it is gone then.
    pub fn get(&self) -> Result<T, GetError> {
        self.get_with(Patience::of(None))
    }

    /// Takes the next value out, if there is one now.
    ///
    /// # Errors
    /// As [`get`](Self::get), or [`GetError::Empty`].
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_with(Patience::None)
    }

    /// Takes the next value out; waits at most so long for one.
    ///
    /// # Errors
    /// As [`get`](Self::get), or [`GetError::TimedOut`].
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_with(Patience::of(Some(timeout)))
    }

    fn get_with(&self, patience: Patience) -> Result<T, GetError> {
        scratch::with(|bytes| {
            let parcel = self.channel.receive(bytes, patience).map_err(|error| match error {
                RingError::TimedOut if matches!(patience, Patience::None) => GetError::Empty,
                RingError::TimedOut => GetError::TimedOut,
                RingError::Closed => GetError::Closed,
                other => GetError::Failed(failure(other)),
            })?;
            if let Some(parcel) = &parcel {
                let opened = parcel::bytes(parcel, bytes).map_err(RingError::Memory);
                opened.map_err(|error| GetError::Failed(failure(error)))?;
            }
            passing::receiving(|| codec::decode(bytes)).map_err(|error| {
                GetError::Failed(Error::new(Kind::Channel(format!(
                    "the value can't be decoded: {error}"
                ))))
            })
        })
    }

    /// The values, as they come, until the queue is closed and empty. One that can't be decoded is an
    /// error; iteration goes on after it.
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { queue: self, is_over: false }
    }
}

impl<'q, T: DeserializeOwned> IntoIterator for &'q Queue<T> {
    type Item = Result<T, Error>;
    type IntoIter = Iter<'q, T>;

    fn into_iter(self) -> Iter<'q, T> {
        self.iter()
    }
}

/// The values of a queue: made by [`Queue::iter`].
#[derive(Debug)]
pub struct Iter<'q, T> {
    queue: &'q Queue<T>,
    is_over: bool,
}

impl<T: DeserializeOwned> Iterator for Iter<'_, T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        match self.queue.get() {
            Ok(value) => Some(Ok(value)),
            Err(GetError::Failed(error)) => {
                // A queue that can't be used won't be better the next time.
                self.is_over = error.is_system();
                Some(Err(error))
            }
            Err(_) => {
                self.is_over = true;
                None
            }
        }
    }
}

impl<T> Waitable for Queue<T> {
    fn source(&self) -> Source<'_> {
        Source::of_ring(self.channel.ring())
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { channel: Arc::clone(&self.channel), capacity: self.capacity, items: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("capacity", &self.capacity)
            .field("is_closed", &self.is_closed())
            .finish()
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.channel.object().serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::receive(deserializer, ObjectKind::Queue)
    }
}

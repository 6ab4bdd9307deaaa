//! Why a value could not be put into a queue, or got out of one.

use std::fmt;

use crate::error::{Error, Kind};

/// Why a value was not put into a queue. The value comes back.
#[derive(Clone)]
#[non_exhaustive]
pub enum PutError<T> {
    /// There is no room now.
    Full(T),
    /// There was no room in time.
    TimedOut(T),
    /// The queue is closed.
    Closed(T),
    /// The value can't be encoded, or there is no memory.
    Failed(T, Error),
}

impl<T> PutError<T> {
    /// The value that was to be put.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::TimedOut(value) | Self::Closed(value) => value,
            Self::Failed(value, _) => value,
        }
    }
}

impl<T> fmt::Display for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the queue is full"),
            Self::TimedOut(_) => f.write_str("the queue was full for too long"),
            Self::Closed(_) => f.write_str("the queue is closed"),
            Self::Failed(_, error) => write!(f, "the value can't be put: {error}"),
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl<T> std::error::Error for PutError<T> {}

/// So that `?` works where the value doesn't matter.
impl<T> From<PutError<T>> for Error {
    fn from(error: PutError<T>) -> Self {
        let text = error.to_string();
        match error {
            PutError::Failed(_, error) => error,
            PutError::Full(_) | PutError::TimedOut(_) => Self::new(Kind::Late(text)),
            PutError::Closed(_) => Self::new(Kind::Disconnected(text)),
        }
    }
}

/// Why there is no value from a queue.
#[derive(Clone)]
#[non_exhaustive]
pub enum GetError {
    /// There is none now.
    Empty,
    /// There was none in time.
    TimedOut,
    /// The queue is closed, and empty.
    Closed,
    /// A value was taken out, but can't be decoded; or the queue can't be used.
    Failed(Error),
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the queue is empty"),
            Self::TimedOut => f.write_str("the queue was empty for too long"),
            Self::Closed => f.write_str("the queue is closed and empty"),
            Self::Failed(error) => write!(f, "no value can be got: {error}"),
        }
    }
}

impl fmt::Debug for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl std::error::Error for GetError {}

/// So that `?` works in a function that returns this crate's error.
impl From<GetError> for Error {
    fn from(error: GetError) -> Self {
        let text = error.to_string();
        match error {
            GetError::Failed(error) => error,
            GetError::Empty | GetError::TimedOut => Self::new(Kind::Late(text)),
            GetError::Closed => Self::new(Kind::Disconnected(text)),
        }
    }
}

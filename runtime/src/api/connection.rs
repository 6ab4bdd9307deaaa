//! The end of a duplex way between two processes.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};

use super::wait::{Source, Waitable};
use crate::error::{Error, Kind};
use crate::shm::heap::{Kind as ObjectKind, Object, layout_of};
use crate::transport::codec::{self, passing};
use crate::transport::desk;
use crate::transport::link::{Link, LinkError};
use crate::transport::pipe::Pipe;
use crate::transport::scratch;
use crate::transport::stream::StreamLink;

/// One end of a duplex way of messages: it sends `S` and receives `R`, as Python's `Connection` does. The
/// other end is a `Connection<R, S>`.
///
/// - Messages arrive whole, in order, and apart, whatever their length.
/// - It can be used from several threads at once. One that waits for a message doesn't hold up one that
///   sends; a message goes to one of those that wait.
/// - When the other end is dropped, or its process ends, messages that it had sent can still be received;
///   then [`recv`](Self::recv) gives [`RecvError::Disconnected`].
///   Over TCP, what was on the way at that moment can be lost, as well as what is sent just before the
///   news of it has come.
/// - A message that can't be decoded, or is longer than the [limit](Self::set_limit), concerns nobody but
///   who asked for it: the next one can be received.
///
/// Both ends have to agree about their types: what one encodes, the other decodes.
///
/// ```
/// use procession::{Address, AuthKey, Connection, Listener, connect};
///
/// # fn main() -> Result<(), procession::Error> {
/// let key = AuthKey::new("a long and random secret");
/// let listener = Listener::bind(Address::abstract_name(format!("doc {}", std::process::id())), &key)?;
/// let client: Connection<String, usize> = connect(listener.local_address(), &key)?;
/// let server: Connection<usize, String> = listener.accept()?;
///
/// client.send("how long is this?".to_owned())?;
/// server.send(server.recv()?.len())?;
/// assert_eq!(client.recv()?, 17);
/// # Ok(())
/// # }
/// ```
pub struct Connection<S, R> {
    link: Box<dyn Link>,
    limit: AtomicU64,
    values: PhantomData<fn(S) -> R>,
}

/// An end that only sends: there are no values that it could receive.
///
/// ```compile_fail
/// fn wrong_end(sender: procession::Sender<u8>) {
///     let _ = sender.recv();
/// }
/// ```
pub type Sender<T> = Connection<T, Infallible>;

/// An end that only receives: there are no values that it could send.
///
/// ```compile_fail
/// fn wrong_end(receiver: procession::Receiver<u8>, nothing: std::convert::Infallible) {
///     let _ = receiver.send(nothing);
/// }
/// ```
pub type Receiver<T> = Connection<Infallible, T>;

impl<S, R> Connection<S, R> {
    pub(crate) fn new(link: Box<dyn Link>, limit: u64) -> Self {
        Self { link, limit: AtomicU64::new(limit), values: PhantomData }
    }

    /// Waits until [`recv`](Self::recv) would not block, for `timeout` at most: until there is a whole
    /// message, or the other end has gone, or there is an error to be told. False: the time was over
    /// first.
    pub fn poll(&self, timeout: Duration) -> bool {
        self.link.poll(self.limit(), after(timeout))
    }

    /// Sends bytes as they are, as one message.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<(), SendError<()>> {
        self.link.send(&[bytes], None).map_err(|error| SendError::new((), error))
    }

    /// Waits for a message and gives its bytes as they are.
    ///
    /// # Errors
    /// As [`recv`](Self::recv), but for decoding.
    pub fn recv_bytes(&self) -> Result<Vec<u8>, RecvError> {
        self.recv_bytes_limit(self.limit())
    }

    /// As [`recv_bytes`](Self::recv_bytes), with a limit on the message's length for this once, instead
    /// of the one that [`set_limit`](Self::set_limit) sets.
    ///
    /// # Errors
    /// As [`recv_bytes`](Self::recv_bytes).
    pub fn recv_bytes_limit(&self, max: u64) -> Result<Vec<u8>, RecvError> {
        Ok(self.link.receive(max, None)?)
    }

    /// Refuses messages of more than `max` bytes from now on: receiving one is [`RecvError::TooLong`],
    /// and the one after it is received as if nothing had been. `u64::MAX` allows any length.
    ///
    /// At first the limit is 1 GiB for a connection from [`connect`](crate::connect) or a
    /// [`Listener`](crate::Listener). A message takes memory as it arrives, not as it claims to be long.
    pub fn set_limit(&self, max: u64) {
        self.limit.store(max, Ordering::Relaxed);
    }

    fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }
}

impl<S: Serialize, R> Connection<S, R> {
    /// Sends a value. It waits while the other end is behind with receiving and the way is full.
    ///
    /// # Errors
    /// Each gives the value back, which was not sent: the other end has gone, the value can't be
    /// encoded, or the system refuses.
    pub fn send(&self, value: S) -> Result<(), SendError<S>> {
        self.send_until(value, None)
    }

    /// Sends a value, and waits at most for `timeout` while the way is full.
    ///
    /// When the time is over in the middle of a long message, that closes a connection over a socket: the
    /// other end finds its end after the last whole message, and what had arrived here can be received.
    ///
    /// # Errors
    /// As [`send`](Self::send); and [`SendError::TimedOut`].
    pub fn send_timeout(&self, value: S, timeout: Duration) -> Result<(), SendError<S>> {
        self.send_until(value, after(timeout))
    }

    fn send_until(&self, value: S, deadline: Option<Instant>) -> Result<(), SendError<S>> {
        let sent = scratch::with(|bytes| {
            let Some(pipe) = self.link.as_pipe() else {
                codec::encode(&value, bytes).map_err(|error| Err(failed(&error)))?;
                return self.link.send(&[bytes], deadline).map_err(Ok);
            };
            let (encoded, handles) = passing::collecting(|| codec::encode(&value, bytes));
            encoded.map_err(|error| Err(failed(&error)))?;
            pipe.send_with(bytes, &handles, deadline).map_err(Ok)
        });
        sent.map_err(|error| match error {
            Ok(error) => SendError::new(value, error),
            Err(error) => SendError::Failed(value, error),
        })
    }
}

impl<S, R: DeserializeOwned> Connection<S, R> {
    /// Waits for a value.
    ///
    /// # Errors
    /// The other end has gone; the message is longer than the limit, or isn't an `R`; the system
    /// refuses.
    pub fn recv(&self) -> Result<R, RecvError> {
        self.recv_until(None)
    }

    /// Gives a value that has arrived; it doesn't wait.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); and [`RecvError::Empty`] if no whole message has arrived.
    pub fn try_recv(&self) -> Result<R, RecvError> {
        self.recv_timeout(Duration::ZERO).map_err(|error| match error {
            RecvError::TimedOut => RecvError::Empty,
            error => error,
        })
    }

    /// Waits for a value, for `timeout` at most. What has arrived of a message when the time is over is
    /// not lost.
    ///
    /// # Errors
    /// As [`recv`](Self::recv); and [`RecvError::TimedOut`].
    pub fn recv_timeout(&self, timeout: Duration) -> Result<R, RecvError> {
        self.recv_until(after(timeout))
    }

    fn recv_until(&self, deadline: Option<Instant>) -> Result<R, RecvError> {
        let Some(pipe) = self.link.as_pipe() else {
            let bytes = self.link.receive(self.limit(), deadline)?;
            return codec::decode(&bytes).map_err(|error| RecvError::Failed(failed(&error)));
        };
        scratch::with(|bytes| {
            let _parcel = pipe.receive_into(bytes, self.limit(), deadline)?;
            let decoded = passing::receiving(|| codec::decode(bytes));
            decoded.map_err(|error| RecvError::Failed(failed(&error)))
        })
    }
}

impl<S, R> Waitable for Connection<S, R> {
    fn source(&self) -> Source<'_> {
        match (self.link.as_pipe(), self.link.fd()) {
            (Some(pipe), _) => Source::of_ring(pipe.incoming().ring()),
            (None, fd) => {
                let fd = fd.expect("a link that is no pipe has a descriptor");
                Source::of_link(fd, &*self.link, self.limit())
            }
        }
    }
}

/// A connection can be sent on to a process of the same program, in a call or a message; it is best moved
/// there. One to an unrelated process has to be between two messages, and is fetched from the process that
/// sends it: that must not end before the receiver has decoded it.
impl<S, R> Serialize for Connection<S, R> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        if let Some(pipe) = self.link.as_pipe() {
            let (end, pipe) = pipe.objects();
            return Way::<_, ()>::Pipe(end, pipe, self.limit()).serialize(serializer);
        }
        let copy = self.link.copy().expect("a link is a pipe or a socket");
        let (object, desk) = copy.and_then(desk::leave).map_err(Z::Error::custom)?;
        Way::Socket(&object, &desk, self.limit()).serialize(serializer)
    }
}

impl<'de, S, R> Deserialize<'de> for Connection<S, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Way::<Object, String>::deserialize(deserializer)? {
            Way::Pipe(end, pipe, limit) => {
                let of_type = passing::check(&end, ObjectKind::PipeEnd, layout_of::<(S, R)>());
                of_type.map_err(D::Error::custom)?;
                let pipe = Pipe::new(end, &pipe).map_err(D::Error::custom)?;
                Ok(Self::new(Box::new(pipe), limit))
            }
            Way::Socket(object, desk, limit) => {
                let socket = desk::fetch(&object, &desk).and_then(StreamLink::new);
                Ok(Self::new(Box::new(socket.map_err(D::Error::custom)?), limit))
            }
        }
    }
}

/// A connection in a message.
#[derive(Serialize, Deserialize)]
enum Way<O, N> {
    /// An end and its pipe, and the limit on messages.
    Pipe(O, O, u64),
    /// What stands for the socket, the desk where it is, and the limit.
    Socket(O, N, u64),
}

impl<S, R> fmt::Debug for Connection<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("sends", &std::any::type_name::<S>())
            .field("receives", &std::any::type_name::<R>())
            .finish_non_exhaustive()
    }
}

/// Its end; none, for ever, if no clock goes so far.
pub(super) fn after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

fn failed(error: &dyn fmt::Display) -> Error {
    Error::new(Kind::Channel(error.to_string()))
}

/// Why a value was not sent. It gives the value back.
///
/// ```
/// use procession::{Connection, SendError};
///
/// fn send_or_keep(connection: &Connection<String, ()>, text: String) -> Option<String> {
///     match connection.send(text) {
///         Ok(()) => None,
///         Err(SendError::Disconnected(text)) => Some(text),
///         Err(error) => {
///             eprintln!("{error}");
///             Some(error.into_inner())
///         }
///     }
/// }
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The other end has gone.
    Disconnected(T),
    /// The time was over first.
    TimedOut(T),
    /// The value can't be encoded, or the system refuses.
    Failed(T, Error),
}

impl<T> SendError<T> {
    fn new(value: T, error: LinkError) -> Self {
        match error {
            LinkError::Disconnected => Self::Disconnected(value),
            LinkError::TimedOut => Self::TimedOut(value),
            error => Self::Failed(value, failed(&format_args!("can't send: {error}"))),
        }
    }

    /// The value that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Disconnected(value) | Self::TimedOut(value) | Self::Failed(value, _) => value,
        }
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected(_) => f.write_str("can't send: the other end has gone"),
            Self::TimedOut(_) => f.write_str("can't send: the other end took nothing in time"),
            Self::Failed(_, error) => error.fmt(f),
        }
    }
}

/// The value isn't shown: it may be long, or a secret.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected(_) => f.write_str("Disconnected(..)"),
            Self::TimedOut(_) => f.write_str("TimedOut(..)"),
            Self::Failed(_, error) => write!(f, "Failed(.., {error:?})"),
        }
    }
}

impl<T> std::error::Error for SendError<T> {}

impl<T> From<SendError<T>> for Error {
    fn from(error: SendError<T>) -> Self {
        let text = error.to_string();
        match error {
            SendError::Disconnected(_) => Self::new(Kind::Disconnected(text)),
            SendError::TimedOut(_) => Self::new(Kind::Late(text)),
            SendError::Failed(_, error) => error,
        }
    }
}

/// Why nothing was received.
///
/// ```
/// use procession::{Connection, RecvError};
///
/// fn sum_to_the_end(connection: &Connection<(), u64>) -> Result<u64, procession::Error> {
///     let mut sum = 0;
///     loop {
///         match connection.recv() {
///             Ok(number) => sum += number,
///             Err(RecvError::Disconnected) => return Ok(sum),
///             Err(error) => return Err(error.into()),
///         }
///     }
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// The other end has gone, and there is nothing left of what it sent.
    Disconnected,
    /// Nothing has arrived yet.
    Empty,
    /// The time was over first.
    TimedOut,
    /// The message is longer than the limit. It has been dropped.
    TooLong {
        /// Its length in bytes.
        length: u64,
        /// What was allowed.
        limit: u64,
    },
    /// The message isn't what was asked for; or the other end doesn't send messages at all, or the system
    /// refuses.
    Failed(Error),
}

impl From<LinkError> for RecvError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Disconnected => Self::Disconnected,
            LinkError::TimedOut => Self::TimedOut,
            LinkError::TooLong { length, limit } => Self::TooLong { length, limit },
            error => Self::Failed(failed(&format_args!("can't receive: {error}"))),
        }
    }
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disconnected => f.write_str("can't receive: the other end has gone"),
            Self::Empty => f.write_str("no message has arrived yet"),
            Self::TimedOut => f.write_str("no message arrived in time"),
            Self::TooLong { length, limit } => write!(
                f,
                "a message of {length} bytes was dropped: it is longer than the limit of {limit}"
            ),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RecvError {}

impl From<RecvError> for Error {
    fn from(error: RecvError) -> Self {
        let text = error.to_string();
        match error {
            RecvError::Disconnected => Self::new(Kind::Disconnected(text)),
            RecvError::Empty | RecvError::TimedOut => Self::new(Kind::Late(text)),
            RecvError::TooLong { .. } => Self::new(Kind::Channel(text)),
            RecvError::Failed(error) => error,
        }
    }
}

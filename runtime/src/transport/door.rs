//! A listener's door: lets in who proves the key, many at a time.
//!
//! A thread of its own, the doorman, accepts from the listening socket and drives all handshakes. So a
//! client is let in while the program is busy with another one, and no client waits for one that is slow,
//! or that connects only to hold the door. Who is in waits in a queue until the program accepts it.
//!
//! - A handshake takes [`TIME_LIMIT`] at most, and at most [`MOST_PENDING`] are under way: one more ends
//!   the oldest. An honest one takes a round trip, so a crowd that does nothing doesn't keep it out.
//! - At most [`MOST_WAITING`] peers wait in the queue before the door closes for the time being; the
//!   system's backlog holds the rest.
//! - Of those that were turned away, the last [`MOST_REFUSALS`] reasons are kept for the program. Peers
//!   that just go away or say nothing leave no trace.
//!
//! The doorman waits in one place, for descriptors, and reads and writes without waiting. It ends when the
//! door is dropped, which closes its bell.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::auth::{AuthError, Handshake, Key, Role, TIME_LIMIT};
use super::duplex::Duplex;
use super::stream;
use super::tls::Acceptor;
use crate::os::{signals, socket, wait};

/// As many as a small program's descriptors allow for, and more than honest clients need.
const MOST_PENDING: usize = 64;

/// So few come in at once that a newcomer gets several turns before a crowd can end its handshake.
const MOST_AT_ONCE: usize = MOST_PENDING / 4;

/// What std asks of the system's backlog.
const MOST_WAITING: usize = 128;

/// Enough to see what is going on.
const MOST_REFUSALS: usize = 16;

/// How long not to accept after the system refused to: descriptors don't come back sooner.
const REST: Duration = Duration::from_millis(50);

/// Where peers knock.
#[derive(Debug)]
pub(crate) enum Entrance {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Entrance {
    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Unix(listener) => listener.set_nonblocking(true),
            Self::Tcp(listener) => listener.set_nonblocking(true),
        }
    }

    fn accept(&self) -> io::Result<UnixStream> {
        match self {
            Self::Unix(listener) => listener.accept().map(|(socket, _)| socket),
            Self::Tcp(listener) => listener.accept().map(|(socket, _)| stream::from_tcp(socket)),
        }
    }
}

impl AsFd for Entrance {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Door {
    hall: Arc<Hall>,
    /// A byte: there is room again. Closed: the doorman may go home.
    bell: Option<UnixStream>,
    doorman: Option<JoinHandle<()>>,
}

/// Between the doorman and the program.
#[derive(Default, Debug)]
struct Hall {
    queue: Mutex<Queue>,
    /// Rung when there is something for the program.
    news: Condvar,
}

#[derive(Default, Debug)]
struct Queue {
    peers: VecDeque<Duplex>,
    refusals: VecDeque<AuthError>,
    /// The system doesn't let us accept.
    trouble: Option<io::Error>,
    /// There is no doorman any more.
    is_closed: bool,
}

impl Hall {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.queue());
        self.news.notify_all();
    }

    fn refuse(&self, error: AuthError) {
        match error {
            AuthError::Disconnected | AuthError::TimedOut | AuthError::System(_) => {}
            error => self.change(|queue| {
                if queue.refusals.len() == MOST_REFUSALS {
                    queue.refusals.pop_front();
                }
                queue.refusals.push_back(error);
            }),
        }
    }
}

impl Door {
    /// Begins to let peers in.
    ///
    /// # Errors
    /// There are no more descriptors or threads.
    pub(crate) fn open(entrance: Entrance, key: Key, tls: Option<Acceptor>) -> io::Result<Self> {
        entrance.set_nonblocking()?;
        let (bell, his) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        his.set_nonblocking(true)?;
        let hall = Arc::new(Hall::default());
        let run = {
            let hall = Arc::clone(&hall);
            move || {
                signals::block_all_on_this_thread();
                let _closed = ClosedAtTheEnd(&hall);
                Doorman { entrance, tls, bell: his, hall: &hall, rests_until: None }.run(&key);
            }
        };
        let doorman = thread::Builder::new().name("procession door".into()).spawn(run)?;
        Ok(Self { hall, bell: Some(bell), doorman: Some(doorman) })
    }

    /// The next peer that has proved its key; none: the deadline has passed.
    ///
    /// # Errors
    /// A peer was turned away, and nobody else waits; or the system refuses to accept.
    pub(crate) fn accept(&self, deadline: Option<Instant>) -> Result<Option<Duplex>, AuthError> {
        let mut queue = self.hall.queue();
        loop {
            if let Some(peer) = queue.peers.pop_front() {
                if queue.peers.len() == MOST_WAITING - 1
                    && let Some(bell) = &self.bell
                {
                    // A socket that is full has been rung.
                    let _ = socket::send(bell, &[IoSlice::new(&[0])], &[]);
                }
                return Ok(Some(peer));
            }
            if let Some(error) = queue.refusals.pop_front() {
                return Err(error);
            }
            if let Some(error) = queue.trouble.take() {
                return Err(AuthError::System(error));
            }
            if queue.is_closed {
                return Err(AuthError::System(io::Error::other("its thread has ended")));
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            queue = match left {
                Some(left) if left.is_zero() => return Ok(None),
                Some(left) => {
                    let woken = self.hall.news.wait_timeout(queue, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.hall.news.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.bell = None;
        if let Some(doorman) = self.doorman.take() {
            // He never waits for anything but the bell, so this takes no time.
            let _ = doorman.join();
        }
    }
}

struct ClosedAtTheEnd<'a>(&'a Hall);

impl Drop for ClosedAtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.change(|queue| queue.is_closed = true);
    }
}

/// A handshake, and when it is over at the latest.
type Pending<'a> = (Instant, Handshake<'a>);

struct Doorman<'a> {
    entrance: Entrance,
    /// If peers are to use it.
    tls: Option<Acceptor>,
    bell: UnixStream,
    hall: &'a Hall,
    rests_until: Option<Instant>,
}

impl Doorman<'_> {
    fn run(&mut self, key: &Key) {
        // The oldest first: all have the same time.
        let mut pending: VecDeque<Pending<'_>> = VecDeque::new();
        loop {
            let now = Instant::now();
            self.rests_until = self.rests_until.filter(|until| *until > now);
            let is_open =
                self.rests_until.is_none() && self.hall.queue().peers.len() < MOST_WAITING;
            let wake = pending.front().map(|(until, _)| *until).into_iter().chain(self.rests_until);
            let timeout = wake.min().map(|until| until.saturating_duration_since(now));
            if !self.wait(&pending, is_open, timeout) {
                return;
            }
            // Those who have begun get their turn before more come in, who may end it.
            self.advance(&mut pending);
            if is_open {
                self.let_in(&mut pending, key);
            }
        }
    }

    /// Waits until there is something to do. False: the door has been dropped.
    fn wait(
        &mut self,
        pending: &VecDeque<Pending<'_>>,
        is_open: bool,
        timeout: Option<Duration>,
    ) -> bool {
        let mut fds = vec![self.bell.as_fd()];
        fds.extend(is_open.then(|| self.entrance.as_fd()));
        fds.extend(pending.iter().map(|(_, handshake)| handshake.as_fd()));
        if let Err(error) = wait::ready(&fds, timeout) {
            // The system has no memory for it just now.
            self.complain(error);
            thread::sleep(REST);
        }
        !matches!(self.bell.read(&mut [0; 64]), Ok(0))
    }

    /// Accepts who stands at the entrance, and greets them.
    fn let_in<'a>(&mut self, pending: &mut VecDeque<Pending<'a>>, key: &'a Key) {
        for _ in 0..MOST_AT_ONCE {
            let socket = match self.entrance.accept() {
                Ok(socket) => socket,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => continue,
                    _ => return self.complain(error),
                },
            };
            let stream = match &self.tls {
                Some(tls) => tls.accept(socket),
                None => Duplex::plain(socket),
            };
            let begun = stream.map_err(AuthError::from);
            match begun.and_then(|stream| Handshake::begin(stream, Role::Listener, key)) {
                Ok(handshake) => pending.push_back((Instant::now() + TIME_LIMIT, handshake)),
                Err(error) => self.hall.refuse(error),
            }
            if pending.len() > MOST_PENDING {
                pending.pop_front();
            }
        }
    }

    fn complain(&mut self, error: io::Error) {
        self.rests_until = Some(Instant::now() + REST);
        self.hall.change(|queue| queue.trouble = Some(error));
    }

    /// Goes on with all handshakes, and ends those whose time is over.
    fn advance(&self, pending: &mut VecDeque<Pending<'_>>) {
        for _ in 0..pending.len() {
            let (until, mut handshake) = pending.pop_front().expect("there are as many");
            match handshake.advance() {
                Ok(true) => {
                    self.hall.change(|queue| queue.peers.push_back(handshake.into_stream()));
                }
                Ok(false) if until <= Instant::now() => {}
                Ok(false) => pending.push_back((until, handshake)),
                Err(error) => self.hall.refuse(error),
            }
        }
    }
}

//! The server's side of sockets: the door, and a thread for each client that came through it.
//!
//! ```text
//! the doorman (door.rs)        handshakes
//! the host                     takes in who has proved the key, up to a limit; ends sessions
//! a thread a connection        request, answer, request, ...
//! ```
//!
//! - A client that says nothing holds its own connection alone. One that has begun a message, or has to take
//!   a reply, has a limited time for that.
//! - What a client sends is bytes from anybody; a breach ends its connection. What a message is said to take
//!   is only taken as it arrives.
//! - These threads don't take part in the [turn](crate::manage::turn): who leads serves the family meanwhile.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::peer::{self, Peer};
use super::session::{Session, Sessions};
use super::wire::{self, About, Entered, Hello, SHORT, Target, Welcome};
use crate::manage::call::Held;
use crate::manage::handle::Handle;
use crate::manage::protocol::{self, Breach, Fault};
use crate::manage::server::{self, STACK, Server};
use crate::manage::table::Member;
use crate::os::{fault, socket, wait};
use crate::transport::auth::{AuthError, TIME_LIMIT};
use crate::transport::codec;
use crate::transport::door::Door;
use crate::transport::duplex::Duplex;
use crate::transport::link::{Link, LinkError};
use crate::transport::place::{self, Place, SocketFile};
use crate::transport::stream::StreamLink;
use crate::transport::tls;
use crate::worker::build;

/// How long the host waits for a client before it looks after the sessions.
const LOOK: Duration = Duration::from_millis(250);

/// A buffer above this is given back.
const KEPT: usize = 1 << 20;

/// What the server is told of where it listens.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Listen {
    /// How it is reached, but for what a client needs for TLS.
    pub(crate) target: Target,
    /// If it uses it.
    pub(crate) tls: Option<tls::Server>,
    pub(crate) limits: Limits,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Bytes of a message.
    pub(crate) message: u64,
    /// For one message, from its first byte to its last.
    pub(crate) time: Duration,
    /// How long a session waits for its client to come back.
    pub(crate) grace: Duration,
}

struct Host {
    server: &'static Server,
    limits: Limits,
    sessions: Sessions,
    connections: AtomicUsize,
    place: Place,
    /// Another descriptor of the listening socket.
    listener: OwnedFd,
    file: Mutex<Option<SocketFile>>,
}

static HOST: OnceLock<Host> = OnceLock::new();

thread_local! {
    /// The client that this thread serves.
    static SERVED: RefCell<Option<Arc<StreamLink>>> = const { RefCell::new(None) };
}

/// Where this process listens, if it does.
pub(crate) fn place() -> Option<Place> {
    HOST.get().map(|host| host.place.clone())
}

/// Whether the client that this thread serves has gone; none: it serves none.
pub(crate) fn caller_has_gone() -> Option<bool> {
    SERVED.with_borrow(|served| {
        let fd = served.as_ref()?.fd().expect("it is a socket");
        Some(wait::has_hung_up(fd).unwrap_or(true))
    })
}

/// Whether there is such a session still.
pub(crate) fn has_session(number: u64) -> bool {
    HOST.get().is_some_and(|host| host.sessions.has(number))
}

/// Begins to let clients in.
///
/// # Errors
/// The place can't be listened at.
pub(crate) fn open(server: &'static Server, listen: Listen) -> io::Result<()> {
    let Listen { target: Target { place, key, .. }, tls, limits } = listen;
    let tls = tls.map(|tls| tls.acceptor()).transpose().map_err(io::Error::other)?;
    let entered = enter(&place);
    let (entrance, local, file) = entered.map_err(|error| {
        io::Error::new(error.kind(), format!("can't listen at {place}: {error}"))
    })?;
    let listener = entrance.as_fd().try_clone_to_owned()?;
    let door = Door::open(entrance, key, tls)?;
    let host = HOST.get_or_init(|| Host {
        server,
        sessions: Sessions::new(limits.grace, limits.message),
        limits,
        connections: AtomicUsize::new(0),
        place: local,
        listener,
        file: Mutex::new(file),
    });
    thread::Builder::new().name("manager door".into()).spawn(move || host.receive(&door)).map(drop)
}

/// The process ends: takes the socket's file away, and from the clients what they have.
pub(crate) fn close() {
    if let Some(host) = HOST.get() {
        host.sessions.close();
        // Whoever comes next may want to listen here.
        socket::stop_listening(&host.listener);
        drop(host.file.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// As [`place::enter`], in the place of a server that was killed: it has left its socket's file.
fn enter(
    place: &Place,
) -> io::Result<(crate::transport::door::Entrance, Place, Option<SocketFile>)> {
    match (place::enter(place), place) {
        (Err(error), Place::Path(path)) if error.kind() == io::ErrorKind::AddrInUse => {
            let before = socket_at(path);
            let reached = place::reach(place, Some(Instant::now() + TIME_LIMIT));
            match reached {
                // Nobody else's file, and not the one of who was quicker.
                Err(reached)
                    if reached.kind() == io::ErrorKind::ConnectionRefused
                        && before.is_some()
                        && socket_at(path) == before =>
                {
                    std::fs::remove_file(path)?;
                    place::enter(place)
                }
                _ => Err(error),
            }
        }
        (entered, _) => entered,
    }
}

/// Which socket's file is at that path, if one is.
fn socket_at(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    metadata.file_type().is_socket().then(|| (metadata.dev(), metadata.ino()))
}

impl Host {
    /// The life of the host's thread.
    fn receive(&'static self, door: &Door) {
        loop {
            match door.accept(Some(Instant::now() + LOOK)) {
                Ok(Some(stream)) => self.take_in(stream),
                // The system may have descriptors again by and by.
                Err(AuthError::System(_)) => thread::sleep(LOOK),
                Ok(None) | Err(_) => {}
            }
            if self.sessions.sweep(Instant::now()) {
                self.server.front().reception().arrivals.ring(1);
            }
        }
    }

    fn take_in(&'static self, stream: Duplex) {
        let link = StreamLink::over(stream);
        let Some(counted) = self.count_in() else {
            let why = format!("it has {} connections already", self.limits.connections);
            return turn_away(&link, why);
        };
        let link = Arc::new(link);
        let body = {
            let link = Arc::clone(&link);
            move || {
                let _counted = counted;
                // Without a report of its stack's overflow it serves as well.
                let _ = fault::watch_this_stack();
                SERVED.set(Some(Arc::clone(&link)));
                // A client that goes, breaks off, or talks nonsense: all are the end of its connection.
                let _ = self.serve(&link);
                SERVED.set(None);
            }
        };
        let thread = thread::Builder::new().name("manager afar".into()).stack_size(STACK);
        if let Err(error) = thread.spawn(body) {
            turn_away(&link, format!("it can't start a thread: {error}"));
        }
    }

    /// None: there are as many connections as there may be.
    fn count_in(&'static self) -> Option<Counted> {
        let count = self.connections.fetch_add(1, Relaxed);
        let counted = Counted(&self.connections);
        (count < self.limits.connections).then_some(counted)
    }

    fn serve(&'static self, link: &StreamLink) -> Result<(), End> {
        let fd = link.fd().expect("it is a socket");
        socket::notice_a_lost_peer(fd.as_fd());
        let about =
            About { pid: process::id(), build: build::own().clone(), longest: self.limits.message };
        let deadline = Some(Instant::now() + TIME_LIMIT);
        link.send(&[&wire::welcome(&Welcome::Come(about))], deadline)?;
        let hello = link.receive(SHORT, deadline)?;
        let hello = codec::decode::<Hello>(&hello).map_err(|_| Breach)?;
        let attached = self.sessions.enter(hello.session).map_err(|_| End)?;
        let session = attached.session();
        link.send(&[&wire::encoded(&Entered { session: session.ticket() })], deadline)?;
        let mut reply = Vec::new();
        loop {
            link.wait(None).map_err(|_| End)?;
            let message = link.receive(self.limits.message, self.deadline())?;
            reply.clear();
            let begun = self.server.begin().ok_or(End)?;
            let held = match message.split_first().ok_or(Breach)? {
                (&wire::REQUEST, request) => self.answer(request, &mut reply, session)?,
                (&wire::RELEASE, pairs) => {
                    for pair in wire::pairs_in(pairs) {
                        let (id, count) = pair?;
                        session.take_back(id, count);
                    }
                    self.server.front().reception().arrivals.ring(1);
                    continue;
                }
                (&wire::CLAIM, claim) => {
                    let (ticket, id) = wire::parse_claim(claim)?;
                    let handles = self.sessions.find(ticket, id).into_iter().collect();
                    Held { handles, ..Held::default() }
                }
                _ => return Err(End),
            };
            drop(message);
            if server::take_given_up() || !begun.is_answered() {
                return Err(End);
            }
            session.give(&held.handles);
            let object = |member: &Member| (member.entry().id(), member.fingerprint());
            let objects: Vec<_> =
                held.handles.iter().filter_map(Handle::member).map(object).collect();
            let tail = wire::tail(&objects);
            if let Err(error) = link.answer(&[&reply, &tail], self.deadline()) {
                held.handles.iter().for_each(|handle| session.take_back(handle.id(), 1));
                return Err(error.into());
            }
            // What died with this request, no proxy tells of.
            if self.server.table().has_suspects() {
                self.server.front().reception().arrivals.ring(1);
            }
            if reply.capacity() > KEPT {
                reply = Vec::new();
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.limits.time)
    }

    /// Appends the reply to a request; gives the handles in it.
    fn answer(
        &self,
        request: &[u8],
        reply: &mut Vec<u8>,
        session: &Arc<Session>,
    ) -> Result<Held, Breach> {
        let peer = Some(Peer::Session(Arc::clone(session)));
        let held = peer::with(peer, || self.server.answer(request, reply, Some(session)))?;
        let objects = 4 + 16 * held.handles.len();
        if (reply.len() + objects) as u64 <= self.limits.message {
            return Ok(held);
        }
        let why = format!(
            "its result: a reply of {} bytes is longer than the manager's limit of {}",
            reply.len(),
            self.limits.message
        );
        reply.clear();
        protocol::reply(reply, |_| Err::<(), _>(Fault::Data(why)));
        Ok(Held::default())
    }
}

fn turn_away(link: &StreamLink, why: String) {
    // A new socket has room for it.
    let _ = link.send(&[&wire::welcome(&Welcome::Refused(why))], Some(Instant::now()));
}

/// A connection, as long as it is one.
struct Counted(&'static AtomicUsize);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A connection has ended, or is ended.
struct End;

impl From<LinkError> for End {
    fn from(_: LinkError) -> Self {
        Self
    }
}

impl From<Breach> for End {
    fn from(Breach: Breach) -> Self {
        Self
    }
}

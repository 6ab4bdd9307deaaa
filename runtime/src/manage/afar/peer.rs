//! Whose numbers of objects those in a message are, where it doesn't stay in the family.
//!
//! A thread has a [`Peer`] while it serves a session, or calls a server through a socket. Arguments and
//! results that are encoded or decoded meanwhile ([`call::encode`](crate::manage::call::encode)) have a
//! managed object's number where there is a proxy; handles on anything else are errors in them.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::client::Client;
use super::session::Session;
use crate::manage::handle::Handle;
use crate::shm::heap::Id;
use crate::transport::codec::{self, passing};

/// See the file's head.
#[derive(Clone)]
pub(crate) enum Peer {
    /// The server that this process calls.
    Server(Arc<Client>),
    /// The session that this process, a server, serves.
    Session(Arc<Session>),
}

thread_local! {
    /// Whether there is a peer: mostly there is none, and then nobody looks.
    static IS_AFAR: Cell<bool> = const { Cell::new(false) };
    static PEER: RefCell<Option<Peer>> = const { RefCell::new(None) };
    /// The message that is encoded or decoded, with the handles in it.
    static CODED: RefCell<Option<Coded>> = const { RefCell::new(None) };
}

struct Coded {
    peer: Peer,
    handles: Vec<Handle>,
}

/// Sets it back, also when an impl of the user's panics.
struct Before(Option<Peer>);

impl Drop for Before {
    fn drop(&mut self) {
        IS_AFAR.set(self.0.is_some());
        PEER.set(self.0.take());
    }
}

/// Runs `f` with this peer, or none: the family.
pub(crate) fn with<R>(peer: Option<Peer>, f: impl FnOnce() -> R) -> R {
    if peer.is_none() && !IS_AFAR.get() {
        return f();
    }
    IS_AFAR.set(peer.is_some());
    let _before = Before(PEER.replace(peer));
    f()
}

/// This thread's peer. None: the family.
pub(crate) fn current() -> Option<Peer> {
    if !IS_AFAR.get() {
        return None;
    }
    PEER.with_borrow(Clone::clone)
}

struct Outer(Option<Coded>);

impl Drop for Outer {
    fn drop(&mut self) {
        CODED.set(self.0.take());
    }
}

/// Encodes or decodes a message of this peer's; gives the handles that were encoded.
pub(crate) fn coding<R>(
    peer: Peer,
    f: impl FnOnce() -> Result<R, codec::Error>,
) -> Result<(R, Vec<Handle>), codec::Error> {
    passing::outside(|| {
        let outer = Outer(CODED.replace(Some(Coded { peer, handles: Vec::new() })));
        let result = f()?;
        let coded = CODED.take().expect("it was set, and those within put it back");
        drop(outer);
        Ok((result, coded.handles))
    })
}

const ELSEWHERE: &str = "a proxy can only be sent to the manager that has the object, or to processes of the \
     same program";

/// The number to send for a handle.
///
/// # Errors
/// It means nothing to whoever gets the message, with the text to say.
pub(crate) fn put(handle: &Handle) -> Result<Id, &'static str> {
    CODED.with_borrow_mut(|coded| {
        let coded = coded.as_mut().ok_or(ELSEWHERE)?;
        let is_known = match &coded.peer {
            Peer::Server(client) => handle.is_of(client),
            Peer::Session(_) => handle.member().is_some(),
        };
        if !is_known {
            return Err(ELSEWHERE);
        }
        coded.handles.push(handle.clone());
        Ok(handle.id())
    })
}

/// The handle that a number stands for.
///
/// # Errors
/// It stands for none, with the text to say.
pub(crate) fn find(id: Id) -> Result<Handle, &'static str> {
    let peer = CODED.with_borrow(|coded| coded.as_ref().map(|coded| coded.peer.clone()));
    let found = match peer.ok_or(ELSEWHERE)? {
        Peer::Server(client) => client.find(id),
        Peer::Session(session) => session.get(id),
    };
    found.ok_or("there is no such object")
}

/// The number of the session whose message is decoded.
pub(crate) fn session() -> Option<u64> {
    CODED.with_borrow(|coded| match coded {
        Some(Coded { peer: Peer::Session(session), .. }) => Some(session.number()),
        _ => None,
    })
}

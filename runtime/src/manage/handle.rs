//! A handle on a managed object, in any process.
//!
//! It travels as two handles of the heap: the server's reception, and the object's entry. In the process
//! that serves, calls go straight to the table, and handles are [counted](super::table) there.

use std::io;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::call::{self, Call};
use super::client::Client;
use super::front::Front;
use super::protocol::{self, Fault};
use super::server::{self, Server};
use super::table::Member;
use crate::callable::identity::callee_of;
use crate::callable::task_fn::TaskFn;
use crate::shm::heap::{Kind, Object};
use crate::transport::codec;
use crate::transport::scratch;

/// See the file's head.
#[derive(Clone)]
pub struct Handle(Place);

#[derive(Clone)]
enum Place {
    There(Arc<Remote>),
    Here(Reference),
}

/// The way to a server.
#[derive(Clone)]
pub(crate) enum Way {
    There(Arc<Client>),
    Here(&'static Server),
}

/// An object of another process.
struct Remote {
    client: Arc<Client>,
    /// None only while it is dropped.
    entry: Option<Object>,
}

impl Drop for Remote {
    fn drop(&mut self) {
        let Some(entry) = self.entry.take() else { return };
        let (id, is_last) = (entry.id(), entry.is_only_handle());
        // The server must find it gone.
        drop(entry);
        if is_last {
            self.client.front().let_go(id);
        }
    }
}

/// An object of this process, which serves.
struct Reference {
    server: &'static Server,
    member: Arc<Member>,
}

impl Reference {
    fn new(server: &'static Server, member: Arc<Member>) -> Self {
        member.refer();
        Self { server, member }
    }
}

impl Clone for Reference {
    fn clone(&self) -> Self {
        Self::new(self.server, Arc::clone(&self.member))
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.server.table().unrefer(&self.member);
    }
}

impl Way {
    /// The way to the server with this reception.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn of(reception: Object) -> io::Result<Self> {
        match server::here() {
            Some(server) if server.front().object().id() == reception.id() => {
                Ok(Self::Here(server))
            }
            _ => Client::of(reception).map(Self::There),
        }
    }

    fn front(&self) -> &Front {
        match self {
            Self::There(client) => client.front(),
            Self::Here(server) => server.front(),
        }
    }

    /// Has a request executed, with the handles in it, and lets `take` have the reply, and what holds the
    /// handles in that.
    ///
    /// # Errors
    /// The server has gone, or there is no memory.
    pub(crate) fn exchange<R>(
        &self,
        request: &[u8],
        handles: &[Object],
        take: impl FnOnce(&mut Vec<u8>, Vec<Object>) -> R,
    ) -> Result<R, Fault> {
        match self {
            Self::There(client) => client.exchange(request, handles, take),
            Self::Here(server) => {
                let mut reply = Vec::new();
                let held = server.answer(request, &mut reply);
                let held = held.expect("a request that this process has made is one");
                Ok(take(&mut reply, held))
            }
        }
    }
}

/// Runs a callable of this program in the server.
///
/// # Errors
/// See [`Fault`].
pub(crate) fn run<M, F: TaskFn<M>>(way: &Way, f: &F, args: &F::Args) -> Result<F::Output, Fault> {
    scratch::with(|request| {
        protocol::run(request, callee_of(f));
        let handles = call::encode(args, request).map_err(|error| data("its arguments", &error))?;
        let take = |reply: &mut Vec<u8>, _held| decoded(protocol::result(reply)?, call::decode);
        way.exchange(request, &handles, take)?
    })
}

/// Has an object made by a constructor of a class in the table; gives the constructor's own result, and the
/// handle, if an object was made.
///
/// # Errors
/// See [`Fault`].
pub(crate) fn construct<T, A, R>(
    way: &Way,
    class: u32,
    constructor: Call<T, A, R>,
    args: &A,
) -> Result<(R, Option<Handle>), Fault> {
    scratch::with(|request| {
        protocol::construct(request, class, constructor.number());
        let encoded = constructor.encode_args(args, request);
        let handles = encoded.map_err(|error| data("its arguments", &error))?;
        let take = |reply: &mut Vec<u8>, _held| {
            let (own, handle) = protocol::made(protocol::result(reply)?)?;
            let own = decoded(own, |bytes| constructor.decode_result(bytes))?;
            let entry: Option<Object> = decoded(handle, call::decode)?;
            let handle = entry.map(|entry| Handle::new(way.clone(), entry)).transpose();
            Ok((own, handle.map_err(|error| Fault::Refused(error.to_string()))?))
        };
        way.exchange(request, &handles, take)?
    })
}

impl Handle {
    /// On an object of this process, which serves.
    pub(crate) fn here(server: &'static Server, member: Arc<Member>) -> Self {
        Self(Place::Here(Reference::new(server, member)))
    }

    /// From an object's entry, on the way on which it has come.
    ///
    /// # Errors
    /// The object has gone.
    pub(crate) fn new(way: Way, entry: Object) -> io::Result<Self> {
        if !entry.is_of(Kind::Managed) {
            return Err(io::Error::other("the handle is not one of a managed object"));
        }
        Ok(Self(match way {
            Way::There(client) => Place::There(Arc::new(Remote { client, entry: Some(entry) })),
            Way::Here(server) => {
                let gone = || io::Error::from(io::ErrorKind::NotFound);
                let member = server.table().get(entry.id()).ok_or_else(gone)?;
                Place::Here(Reference::new(server, member))
            }
        }))
    }

    /// Whether the object is of the type with this [layout](crate::shm::heap::layout_of).
    pub(crate) fn is_on(&self, layout: u64) -> bool {
        self.entry().is(Kind::Managed, layout)
    }

    pub(crate) fn entry(&self) -> &Object {
        match &self.0 {
            Place::There(remote) => remote.entry.as_ref().expect("it is taken on drop"),
            Place::Here(reference) => reference.member.entry(),
        }
    }

    /// The object, in the process that serves.
    pub(crate) fn member(&self) -> Option<&Member> {
        match &self.0 {
            Place::There(_) => None,
            Place::Here(reference) => Some(&reference.member),
        }
    }

    pub(crate) fn way(&self) -> Way {
        match &self.0 {
            Place::There(remote) => Way::There(Arc::clone(&remote.client)),
            Place::Here(reference) => Way::Here(reference.server),
        }
    }

    /// Whether its server is at the end of that way.
    pub(crate) fn is_on_way(&self, way: &Way) -> bool {
        match (&self.0, way) {
            (Place::There(remote), Way::There(client)) => Arc::ptr_eq(&remote.client, client),
            (Place::Here(_), Way::Here(_)) => true,
            _ => false,
        }
    }

    /// Calls a method: `encode` appends the arguments and gives the handles in them, `decode` takes the
    /// result.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(crate) fn call<R>(
        &self,
        method: u16,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<Vec<Object>, codec::Error>,
        decode: impl FnOnce(&[u8]) -> Result<R, codec::Error>,
    ) -> Result<R, Fault> {
        scratch::with(|request| {
            protocol::call(request, self.entry().id(), method);
            let handles = encode(request).map_err(|error| data("its arguments", &error))?;
            let take = |reply: &mut Vec<u8>, _held| decoded(protocol::result(reply)?, decode);
            match &self.0 {
                Place::There(remote) => remote.client.exchange(request, &handles, take)?,
                Place::Here(_) => self.way().exchange(request, &handles, take)?,
            }
        })
    }
}

/// A result, by `decode`.
///
/// # Errors
/// It isn't one.
pub(crate) fn decoded<R>(
    result: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<R, codec::Error>,
) -> Result<R, Fault> {
    decode(result).map_err(|error| data("its result", &error))
}

/// What could not be encoded or decoded.
pub(crate) fn data(what: &str, error: &codec::Error) -> Fault {
    Fault::Data(format!("{what}: {error}"))
}

impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let way = self.way();
        (way.front().object(), self.entry()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (reception, entry) = <(Object, Object)>::deserialize(deserializer)?;
        let handle = Way::of(reception).and_then(|way| Self::new(way, entry));
        handle.map_err(D::Error::custom)
    }
}

//! A handle on a managed object, in any process.
//!
//! Within the family it travels as two handles of the heap: the server's reception, and the object's entry.
//! In the process that serves, calls go straight to the table, and handles are [counted](super::table) there.
//!
//! On a server [afar](super::afar), and on the way to it, it is the object's number; to other processes of
//! the family it goes with all that they need to get there themselves.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};

use super::afar;
use super::afar::client::{Far, ForBuild, Terms};
use super::afar::peer::{self, Peer};
use super::afar::wire::{Target, Ticket};
use super::call::{self, Call, Held};
use super::class::{self, Managed};
use super::client::Client;
use super::maker;
use super::protocol::{self, Fault};
use super::server::{self, Server};
use super::table::Member;
use crate::callable::identity::callee_of;
use crate::callable::task_fn::TaskFn;
use crate::shm::heap::{Id, Kind, Object, layout_of};
use crate::transport::codec::{self, passing};
use crate::transport::scratch;

/// See the file's head.
#[derive(Clone)]
pub struct Handle(Place);

#[derive(Clone)]
enum Place {
    There(Arc<Remote>),
    Here(Reference),
    Afar(Arc<Far>),
}

/// The way to a server.
#[derive(Clone)]
pub(crate) enum Way {
    There(Arc<Client>),
    Here(&'static Server),
    Afar(Arc<afar::client::Client>),
}

/// An object of another process.
struct Remote {
    client: Arc<Client>,
    /// None only while it is dropped.
    entry: Option<Object>,
}

impl Remote {
    fn entry(&self) -> &Object {
        self.entry.as_ref().expect("it is taken on drop")
    }
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

    /// The peer of those who encode requests and decode results.
    pub(crate) fn peer(&self) -> Option<Peer> {
        match self {
            Self::There(_) | Self::Here(_) => None,
            Self::Afar(client) => Some(Peer::Server(Arc::clone(client))),
        }
    }

    /// Has a request executed, with the handles that are in it or that it is about, and lets `take` have the
    /// reply, and what holds the handles in that.
    ///
    /// # Errors
    /// The server has gone, or there is no memory; the handles are of a server before it; or it is `for_build`,
    /// full of numbers that one build of one program alone understands, and the server is of another.
    pub(crate) fn exchange<R>(
        &self,
        request: &[u8],
        held: &Held,
        for_build: ForBuild,
        take: impl FnOnce(&mut Vec<u8>, Held) -> R,
    ) -> Result<R, Fault> {
        match self {
            Self::There(client) => client.exchange(request, &held.objects, take),
            Self::Here(server) => {
                let mut reply = Vec::new();
                let held = server.answer(request, &mut reply, None);
                let held = held.expect("a request that this process has made is one");
                Ok(take(&mut reply, held))
            }
            Self::Afar(client) => {
                let session = held.handles.first().and_then(Handle::session);
                client.exchange(request, Terms { session, for_build }, take)
            }
        }
    }

    /// Has a request executed whose arguments `encode` appends, and takes the result by `decode`.
    fn ask<R>(
        &self,
        for_build: ForBuild,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<Held, codec::Error>,
        decode: impl FnOnce(&[u8]) -> Result<R, Fault>,
    ) -> Result<R, Fault> {
        let ask = || {
            scratch::with(|request| {
                let held = encode(request).map_err(|error| data("its arguments", &error))?;
                let take = |reply: &mut Vec<u8>, _held| decode(protocol::result(reply)?);
                self.exchange(request, &held, for_build, take)?
            })
        };
        peer::with(self.peer(), ask)
    }
}

/// Runs a callable of this program in the server, a process of the family.
///
/// # Errors
/// See [`Fault`].
pub(crate) fn run<M, F: TaskFn<M>>(way: &Way, f: &F, args: &F::Args) -> Result<F::Output, Fault> {
    let encode = |request: &mut Vec<u8>| {
        protocol::run(request, callee_of(f));
        call::encode(args, request)
    };
    way.ask(ForBuild::This, encode, |result| decoded(result, call::decode))
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
    let encode = |request: &mut Vec<u8>| {
        protocol::construct(request, class, constructor.number());
        constructor.encode_args(args, request)
    };
    way.ask(ForBuild::This, encode, |result| {
        let (own, handle) = protocol::made(result)?;
        let own = decoded(own, |bytes| constructor.decode_result(bytes))?;
        Ok((own, decoded(handle, call::decode)?))
    })
}

/// Has an object made by a maker.
///
/// # Errors
/// See [`Fault`].
pub(crate) fn make<A: Serialize>(way: &Way, maker: maker::Name, args: &A) -> Result<Handle, Fault> {
    let encode = |request: &mut Vec<u8>| {
        protocol::make(request, maker);
        call::encode(&(args,), request)
    };
    way.ask(ForBuild::This, encode, |result| {
        let made: Option<Handle> = decoded(protocol::made(result)?.1, call::decode)?;
        made.ok_or_else(|| Fault::Refused("the manager has made nothing".to_owned()))
    })
}

/// Gives an object a public name. False: it is in use.
///
/// # Errors
/// See [`Fault`].
pub(crate) fn name(way: &Way, handle: &Handle, name: &str) -> Result<bool, Fault> {
    if !handle.is_on_way(way) {
        let text = format!("the name `{name}` is for an object of another manager");
        return Err(Fault::Refused(text));
    }
    let encode = |request: &mut Vec<u8>| {
        protocol::name(request, handle.id(), name);
        Ok(Held { handles: vec![handle.clone()], ..Held::default() })
    };
    way.ask(ForBuild::Any, encode, |result| decoded(result, call::decode))
}

/// Takes a public name back. False: nothing had it.
///
/// # Errors
/// See [`Fault`].
pub(crate) fn unname(way: &Way, name: &str) -> Result<bool, Fault> {
    let encode = |request: &mut Vec<u8>| {
        protocol::unname(request, name);
        Ok(Held::default())
    };
    way.ask(ForBuild::Any, encode, |result| decoded(result, call::decode))
}

/// What has a public name.
#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) enum Found {
    /// The object, the type of its proxies, and what its class is [described](super::class::described) as.
    Object(Handle, String, Vec<String>),
    /// It is in the snapshot, and can't be made an object: the name of its class.
    Kept(String),
}

/// What has a public name. If it is in the snapshot still, `maker` makes the object, if that is of its class.
///
/// # Errors
/// See [`Fault`].
pub(crate) fn find(way: &Way, maker: maker::Name, name: &str) -> Result<Option<Found>, Fault> {
    let encode = |request: &mut Vec<u8>| {
        protocol::find(request, maker, name);
        Ok(Held::default())
    };
    way.ask(ForBuild::Any, encode, |result| decoded(result, call::decode))
}

/// Has a snapshot written.
///
/// # Errors
/// See [`Fault`].
pub(crate) fn save(way: &Way) -> Result<(), Fault> {
    let encode = |request: &mut Vec<u8>| {
        protocol::save(request);
        Ok(Held::default())
    };
    way.ask(ForBuild::Any, encode, |result| decoded(result, call::decode))
}

impl Handle {
    /// On an object of this process, which serves.
    pub(crate) fn here(server: &'static Server, member: Arc<Member>) -> Self {
        Self(Place::Here(Reference::new(server, member)))
    }

    /// On an object of a server afar.
    pub(crate) fn afar(far: Arc<Far>) -> Self {
        Self(Place::Afar(far))
    }

    /// From an object's entry, on the way on which it has come.
    ///
    /// # Errors
    /// The object has gone.
    fn new(way: Way, entry: Object) -> io::Result<Self> {
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
            Way::Afar(_) => unreachable!("there objects have no entries"),
        }))
    }

    /// Whether the object is a `T`, as far as anybody can tell: in another program, it has the same name and
    /// the same methods.
    pub(crate) fn is_on<T: Managed>(&self) -> bool {
        match &self.0 {
            Place::There(remote) => remote.entry().layout() == layout_of::<T>(),
            Place::Here(reference) => reference.member.layout() == layout_of::<T>(),
            Place::Afar(far) => far.class() == class::fingerprint_of::<T>(),
        }
    }

    /// The object's number in its server.
    pub(crate) fn id(&self) -> Id {
        match &self.0 {
            Place::There(remote) => remote.entry().id(),
            Place::Here(reference) => reference.member.entry().id(),
            Place::Afar(far) => far.id(),
        }
    }

    /// The object, in the process that serves.
    pub(crate) fn member(&self) -> Option<&Member> {
        match &self.0 {
            Place::Here(reference) => Some(&reference.member),
            Place::There(_) | Place::Afar(_) => None,
        }
    }

    /// Whether it is one of this client's, and its session's still.
    pub(super) fn is_of(&self, client: &Arc<afar::client::Client>) -> bool {
        matches!(&self.0, Place::Afar(far) if Arc::ptr_eq(far.client(), client) && far.is_there())
    }

    pub(crate) fn way(&self) -> Way {
        match &self.0 {
            Place::There(remote) => Way::There(Arc::clone(&remote.client)),
            Place::Here(reference) => Way::Here(reference.server),
            Place::Afar(far) => Way::Afar(Arc::clone(far.client())),
        }
    }

    /// Whether both are on the same object.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.id() == other.id() && self.is_on_way(&other.way()) && self.is_as_old_as(other)
    }

    /// Of two on the same way: whether their numbers are those of one server. A way through a socket may lead
    /// to another one than before.
    pub(crate) fn is_as_old_as(&self, other: &Self) -> bool {
        self.session() == other.session()
    }

    /// The session in which its number means something.
    fn session(&self) -> Option<Ticket> {
        match &self.0 {
            Place::Afar(far) => Some(far.session()),
            Place::There(_) | Place::Here(_) => None,
        }
    }

    /// Whether its server is at the end of that way.
    pub(crate) fn is_on_way(&self, way: &Way) -> bool {
        match (&self.0, way) {
            (Place::There(remote), Way::There(client)) => Arc::ptr_eq(&remote.client, client),
            (Place::Here(_), Way::Here(_)) => true,
            (Place::Afar(far), Way::Afar(client)) => Arc::ptr_eq(far.client(), client),
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
        encode: impl FnOnce(&mut Vec<u8>) -> Result<Held, codec::Error>,
        decode: impl FnOnce(&[u8]) -> Result<R, codec::Error>,
    ) -> Result<R, Fault> {
        let call = || {
            scratch::with(|request| {
                protocol::call(request, self.id(), method);
                let held = encode(request).map_err(|error| data("its arguments", &error))?;
                let take = |reply: &mut Vec<u8>, _held| decoded(protocol::result(reply)?, decode);
                match &self.0 {
                    Place::There(remote) => remote.client.exchange(request, &held.objects, take)?,
                    Place::Here(_) => self.way().exchange(request, &held, ForBuild::Any, take)?,
                    Place::Afar(far) => {
                        let terms =
                            Terms { session: Some(far.session()), for_build: ForBuild::Any };
                        far.client().exchange(request, terms, take)?
                    }
                }
            })
        };
        match &self.0 {
            Place::Afar(_) => peer::with(self.way().peer(), call),
            _ => peer::with(None, call),
        }
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

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Id { index, generation } = self.id();
        write!(f, "#{index}.{generation}")
    }
}

/// How a handle goes from one process of the family to another.
#[derive(serde::Serialize, serde::Deserialize)]
enum Form<Entry, Lent> {
    /// The server's reception, and the object's entry.
    Near(Entry, Entry),
    /// What [`Far::lend`] gives.
    Afar(Lent),
}

impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !passing::is_collecting() {
            return peer::put(self).map_err(S::Error::custom)?.to_bits().serialize(serializer);
        }
        type To<'a> = Form<&'a Object, (&'a Target, Ticket, u64, Object)>;
        let form: To<'_> = match &self.0 {
            Place::There(remote) => Form::Near(remote.client.front().object(), remote.entry()),
            Place::Here(reference) => {
                Form::Near(reference.server.front().object(), reference.member.entry())
            }
            Place::Afar(far) => {
                let (target, ticket, id, entry) = far.lend().map_err(S::Error::custom)?;
                Form::Afar((target, ticket, id.to_bits(), entry))
            }
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !passing::is_receiving() {
            let id = Id::from_bits(u64::deserialize(deserializer)?);
            let found = id.ok_or("it is no object's number").and_then(peer::find);
            return found.map_err(D::Error::custom);
        }
        match Form::<Object, (Target, Ticket, u64, Object)>::deserialize(deserializer)? {
            Form::Near(reception, entry) => {
                let handle = Way::of(reception).and_then(|way| Self::new(way, entry));
                handle.map_err(D::Error::custom)
            }
            // The lender keeps the object until the entry is let go, here.
            Form::Afar((target, ticket, id, _entry)) => {
                let id = Id::from_bits(id)
                    .ok_or_else(|| D::Error::custom("it is no object's number"))?;
                let claimed = afar::client::Client::of(target).claim(ticket, id);
                claimed.map_err(|fault| {
                    D::Error::custom(format_args!(
                        "the object can't be had from its manager: {fault:?}"
                    ))
                })
            }
        }
    }
}

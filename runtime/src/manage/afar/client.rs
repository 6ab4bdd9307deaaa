//! A process's way to a server through sockets: connections, for one request each at a time, and one session.
//!
//! A call takes an idle connection, or makes one; so one that waits long holds up no other thread. A
//! connection that has ended is replaced by the next call, which goes on with the session. A call whose
//! connection ends while it is under way fails, and is not repeated: nobody knows whether it was executed.
//!
//! For an object that this process has there is one [`Far`], whatever number of proxies; its end releases the
//! object as many times as the server has given it. A release waits for nothing: what can't be sent now goes
//! before the next connection is idle again.
//!
//! A proxy that is sent to another process of the family is *lent*: this one keeps the object as long as
//! somebody else holds the entry of the heap that went along. The other one claims it for its own session as
//! soon as it has it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use super::wire::{self, About, Entered, Hello, SHORT, Target, Ticket, Welcome};
use crate::manage::call::Held;
use crate::manage::handle::Handle;
use crate::manage::protocol::Fault;
use crate::manage::rest::{Rest, Step};
use crate::os::{socket, wait};
use crate::shm::heap::{self, Id, Kind, Object, Request};
use crate::transport::auth::{self, AuthError, Role, TIME_LIMIT};
use crate::transport::codec;
use crate::transport::link::{Link, LinkError};
use crate::transport::place;
use crate::transport::stream::StreamLink;

/// See the file's head.
pub(crate) struct Client {
    target: Target,
    /// Locked while a connection is made: there is to be one session.
    opening: Mutex<()>,
    state: Mutex<State>,
    known: Mutex<HashMap<Id, Known>>,
}

#[derive(Default)]
struct State {
    /// The process that this is of: one that was forked from it begins anew.
    process: u32,
    idle: Vec<StreamLink>,
    session: Option<Ticket>,
    about: Option<Arc<About>>,
    released: Vec<(Id, u64)>,
    lent: Vec<(Object, Arc<Far>)>,
    /// What the heap's count of objects let go was when `lent` was looked through.
    unclaimed: u32,
}

/// What the server has given.
struct Known {
    far: Weak<Far>,
    count: u64,
}

/// An object of a server afar.
pub(crate) struct Far {
    client: Arc<Client>,
    session: Ticket,
    id: Id,
    layout: u64,
    lent: OnceLock<Object>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    Reach(io::Error),
    Auth(AuthError),
    /// With the server's reason.
    Refused(String),
    /// Who answers is no manager.
    Stranger,
    Link(LinkError),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reach(error) => error.fmt(f),
            Self::Auth(error) => error.fmt(f),
            Self::Refused(why) => write!(f, "the manager refused: {why}"),
            Self::Stranger => {
                f.write_str("there is another service than a manager, or another version")
            }
            Self::Link(error) => error.fmt(f),
        }
    }
}

impl From<LinkError> for ConnectError {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// The way to this server: one for all its users in this process.
    pub(crate) fn of(target: Target) -> Arc<Self> {
        static CLIENTS: Mutex<Vec<Weak<Client>>> = Mutex::new(Vec::new());
        let mut clients = locked(&CLIENTS);
        clients.retain(|client| client.strong_count() > 0);
        let is_it = |client: &Arc<Self>| {
            client.target.place == target.place && client.target.key.bytes() == target.key.bytes()
        };
        if let Some(client) = clients.iter().filter_map(Weak::upgrade).find(is_it) {
            return client;
        }
        let (opening, state, known) = (Mutex::default(), Mutex::default(), Mutex::default());
        let client = Arc::new(Self { target, opening, state, known });
        clients.push(Arc::downgrade(&client));
        client
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = locked(&self.state);
        if state.process != process::id() {
            *state = State { process: process::id(), ..State::default() };
        }
        state
    }

    /// What is known of the server since the last connection was made; makes one if there was none.
    ///
    /// # Errors
    /// There is none to be had.
    pub(crate) fn about(&self) -> Result<Arc<About>, ConnectError> {
        if let Some(about) = self.state().about.clone() {
            return Ok(about);
        }
        let link = self.open()?;
        self.lay_aside(link);
        Ok(self.state().about.clone().expect("it was set with the connection"))
    }

    /// Makes a connection now, if there is none.
    ///
    /// # Errors
    /// There is none to be had.
    pub(crate) fn connect(&self) -> Result<(), ConnectError> {
        self.about().map(drop)
    }

    fn open(&self) -> Result<StreamLink, ConnectError> {
        let _one = locked(&self.opening);
        let deadline = Some(Instant::now() + TIME_LIMIT);
        let Target { place, key } = &self.target;
        let socket = place::reach(place, deadline).map_err(ConnectError::Reach)?;
        let socket =
            auth::run(socket, Role::Connector, key, deadline).map_err(ConnectError::Auth)?;
        socket::notice_a_lost_peer(&socket);
        let link = StreamLink::new(socket).map_err(ConnectError::Reach)?;
        let about = match wire::parse_welcome(&link.receive(SHORT, deadline)?) {
            Some(Welcome::Come(about)) => about,
            Some(Welcome::Refused(why)) => return Err(ConnectError::Refused(why)),
            None => return Err(ConnectError::Stranger),
        };
        let session = self.state().session;
        link.send(&[&wire::encoded(&Hello { session })], deadline)?;
        let entered = codec::decode::<Entered>(&link.receive(SHORT, deadline)?);
        let Entered { session } = entered.map_err(|_| ConnectError::Stranger)?;
        let mut state = self.state();
        if state.session != Some(session) {
            // What the last one had is gone; its numbers may come to mean something else.
            locked(&self.known).clear();
            state.released.clear();
            state.session = Some(session);
        }
        state.about = Some(Arc::new(about));
        Ok(link)
    }

    /// Has a request executed, and lets `take` have the reply, and the handles in it. One that is about an
    /// object is for the `session` that has it.
    ///
    /// # Errors
    /// There was no connection to be had, or it ended before there was a reply.
    pub(crate) fn exchange<R>(
        self: &Arc<Self>,
        request: &[u8],
        session: Option<Ticket>,
        take: impl FnOnce(&mut Vec<u8>, Held) -> R,
    ) -> Result<R, Fault> {
        let mut reply = Vec::new();
        let handles = self.ask(&[&[wire::REQUEST], request], session, &mut reply)?;
        Ok(take(&mut reply, Held { handles, ..Held::default() }))
    }

    fn ask(
        self: &Arc<Self>,
        parts: &[&[u8]],
        session: Option<Ticket>,
        reply: &mut Vec<u8>,
    ) -> Result<Vec<Handle>, Fault> {
        let (link, about) = self.send(parts, session)?;
        wait(&link);
        let received = link.receive(about.longest.max(SHORT), None);
        *reply = received.map_err(|_| Fault::Interrupted)?;
        let objects = wire::take_tail(reply);
        let objects =
            objects.map_err(|_| Fault::Refused("it is no manager that replies".into()))?;
        let handles = self.receive(objects);
        self.lay_aside(link);
        Ok(handles)
    }

    /// Sends a message; gives the connection on which there will be a reply.
    fn send(
        &self,
        parts: &[&[u8]],
        session: Option<Ticket>,
    ) -> Result<(StreamLink, Arc<About>), Fault> {
        let unreachable = |error: ConnectError| Fault::Unreachable(error.to_string());
        let about = self.about().map_err(unreachable)?;
        let length = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        if length > about.longest {
            return Err(Fault::Data(format!(
                "the request has {length} bytes, and the manager takes {} at most",
                about.longest
            )));
        }
        loop {
            let idle = self.state().idle.pop();
            let is_new = idle.is_none();
            let link = idle.map_or_else(|| self.open(), Ok).map_err(unreachable)?;
            if session.is_some_and(|session| self.state().session != Some(session)) {
                self.lay_aside(link);
                return Err(Fault::Gone);
            }
            match link.send(parts, None) {
                Ok(()) => return Ok((link, about)),
                // It has ended while it was idle. The server has not received all of the message, and so
                // has executed nothing.
                Err(_) if !is_new => {}
                Err(error) => return Err(unreachable(error.into())),
            }
        }
    }

    /// A connection is idle: first it takes what was released.
    fn lay_aside(&self, link: StreamLink) {
        let (released, returned) = {
            let mut state = self.state();
            let returned = state.returned();
            (std::mem::take(&mut state.released), returned)
        };
        if !released.is_empty() {
            let mut bytes = vec![wire::RELEASE];
            released.iter().for_each(|(id, count)| wire::release(&mut bytes, *id, *count));
            if link.send(&[&bytes], Some(Instant::now())).is_err() {
                self.state().released.extend(released);
                return;
            }
        }
        self.state().idle.push(link);
        // What these release goes by themselves.
        drop(returned);
    }

    /// The server has given these: there are handles on each.
    fn receive(self: &Arc<Self>, objects: Vec<(Id, u64)>) -> Vec<Handle> {
        if objects.is_empty() {
            return Vec::new();
        }
        let Some(session) = self.state().session else { return Vec::new() };
        let mut known = locked(&self.known);
        let receive = |(id, layout)| {
            let known = known.entry(id).or_insert_with(|| Known { far: Weak::new(), count: 0 });
            known.count += 1;
            Handle::afar(known.far.upgrade().unwrap_or_else(|| {
                let (client, lent) = (Arc::clone(self), OnceLock::new());
                let far = Arc::new(Far { client, session, id, layout, lent });
                // If there was one before, its end finds out that it isn't known any more.
                known.far = Arc::downgrade(&far);
                far
            }))
        };
        objects.into_iter().map(receive).collect()
    }

    /// An object that this process has.
    pub(super) fn find(&self, id: Id) -> Option<Handle> {
        let far = locked(&self.known).get(&id)?.far.upgrade()?;
        Some(Handle::afar(far))
    }

    /// An object that another process of the family has.
    ///
    /// # Errors
    /// It hasn't any more, or there is no connection to be had.
    pub(crate) fn claim(self: &Arc<Self>, lender: Ticket, id: Id) -> Result<Handle, Fault> {
        if self.state().session == Some(lender)
            && let Some(handle) = self.find(id)
        {
            return Ok(handle);
        }
        let handles = self.ask(&[&wire::claim(lender, id)], None, &mut Vec::new())?;
        handles.into_iter().next().ok_or(Fault::Gone)
    }

    /// There is no handle on an object any more.
    fn forget(&self, far: &Far) {
        let mut known = locked(&self.known);
        let is_it = known.get(&far.id).is_some_and(|known| std::ptr::eq(known.far.as_ptr(), far));
        let gone = if is_it { known.remove(&far.id) } else { None };
        drop(known);
        let Some(Known { count, .. }) = gone else { return };
        let mut state = self.state();
        if state.session != Some(far.session) {
            return;
        }
        state.released.push((far.id, count));
        let idle = state.idle.pop();
        drop(state);
        if let Some(link) = idle {
            self.lay_aside(link);
        }
    }
}

/// Waits until there is a reply, or an end: looks for a while, as one from this machine comes before a sleeper
/// could be woken, then sleeps.
fn wait(link: &StreamLink) {
    let fd = link.fd().expect("it is a socket");
    let is_there = |deadline| wait::readable(fd, deadline).unwrap_or(true);
    let mut rest = Rest::default();
    while !is_there(Some(Instant::now())) {
        match rest.step() {
            Step::Look | Step::Yielded => {}
            // Whoever it was, it wasn't the server, which would have replied.
            Step::Starved => rest.starve(),
            Step::Sleep => {
                is_there(None);
                return;
            }
        }
    }
}

impl State {
    /// Takes out what was lent, and nobody else holds any more.
    fn returned(&mut self) -> Vec<(Object, Arc<Far>)> {
        if self.lent.is_empty() || self.unclaimed == heap::unclaimed() {
            return Vec::new();
        }
        self.unclaimed = heap::unclaimed();
        self.lent.extract_if(.., |(entry, _)| !entry.is_held_elsewhere()).collect()
    }
}

impl Far {
    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    pub(crate) fn session(&self) -> Ticket {
        self.session
    }

    pub(crate) fn id(&self) -> Id {
        self.id
    }

    pub(crate) fn layout(&self) -> u64 {
        self.layout
    }

    /// Whether the client's session is still the one that has it: after the server's end, numbers mean
    /// something else.
    pub(crate) fn is_there(&self) -> bool {
        self.client.state().session == Some(self.session)
    }

    /// What goes to another process of the family: who receives it claims the object.
    ///
    /// # Errors
    /// There is no memory.
    pub(crate) fn lend(self: &Arc<Self>) -> io::Result<(&Target, Ticket, Id, &Object)> {
        let entry = match self.lent.get() {
            Some(entry) => entry,
            None => {
                let entry = Object::create(Request::small(Kind::Managed))?;
                self.lent.get_or_init(|| entry)
            }
        };
        let mut state = self.client.state();
        if !state.lent.iter().any(|(_, far)| Arc::ptr_eq(far, self)) {
            state.lent.push((entry.clone(), Arc::clone(self)));
        }
        Ok((&self.client.target, self.session, self.id, entry))
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.client.forget(self);
    }
}

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
//! soon as it has it. Nobody tells this process when they let go of the entry: the next call looks. So what
//! was lent last stays, with a connection, until there is one.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::process;
use std::sync::atomic::Ordering::Acquire;
use std::sync::atomic::fence;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::wire::{self, About, Entered, Hello, SHORT, Target, Ticket, Welcome};
use crate::manage::call::Held;
use crate::manage::handle::Handle;
use crate::manage::protocol::Fault;
use crate::manage::rest::{Rest, Step};
use crate::os::socket;
use crate::shm::heap::{self, Id, Kind, Object, Request};
use crate::transport::auth::{self, AuthError, Role, TIME_LIMIT};
use crate::transport::codec;
use crate::transport::duplex::Duplex;
use crate::transport::link::{Link, LinkError};
use crate::transport::place;
use crate::transport::stream::StreamLink;
use crate::worker::build;

/// See the file's head.
pub(crate) struct Client {
    target: Target,
    /// Locked while a connection is made: there is to be one session.
    opening: Mutex<()>,
    state: Mutex<State>,
}

/// No [`Far`] may be dropped while this is locked.
#[derive(Default)]
struct State {
    /// The process that this is of: one that was forked from it begins anew.
    process: u32,
    idle: Vec<Line>,
    session: Option<Ticket>,
    about: Option<Arc<About>>,
    /// What this session was given.
    known: HashMap<Id, Known>,
    released: Vec<(Id, u64)>,
    lent: Lent,
    /// Whether `lent` has to be looked through whatever the heap's count is.
    look: bool,
    /// What the heap's count of objects let go was when `lent` was looked through.
    unclaimed: u32,
}

/// What other processes of the family were given, with what tells whether they still have it.
type Lent = HashMap<Id, (Object, Arc<Far>)>;

/// A connection, and who is at its other end.
struct Line {
    link: StreamLink,
    session: Ticket,
    about: Arc<About>,
}

/// What a request asks of the connection that it takes.
#[derive(Clone, Copy)]
pub(crate) struct Terms {
    /// Its numbers of objects are those of this session.
    pub(crate) session: Option<Ticket>,
    pub(crate) for_build: ForBuild,
}

/// Which servers understand a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForBuild {
    Any,
    /// It has numbers of classes, makers or callables, which are those of one build of one program.
    This,
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
    /// See [`fingerprint`](crate::manage::class::fingerprint).
    class: u64,
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
        let is_it = |client: &Arc<Self>| client.target.is_same(&target);
        if let Some(client) = clients.iter().filter_map(Weak::upgrade).find(is_it) {
            return client;
        }
        let client = Arc::new(Self { target, opening: Mutex::default(), state: Mutex::default() });
        clients.push(Arc::downgrade(&client));
        client
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = locked(&self.state);
        if state.process != process::id() {
            let of_parent = State { process: process::id(), ..State::default() };
            let of_parent = std::mem::replace(&mut *state, of_parent);
            // Here nobody has them, and their end would want the state.
            std::mem::forget(of_parent.lent);
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
        let line = self.open()?;
        let about = Arc::clone(&line.about);
        self.lay_aside(line);
        Ok(about)
    }

    /// Makes a connection now.
    ///
    /// # Errors
    /// There is none to be had.
    pub(crate) fn connect(&self) -> Result<(), ConnectError> {
        self.open().map(|line| self.lay_aside(line))
    }

    fn open(&self) -> Result<Line, ConnectError> {
        let _one = locked(&self.opening);
        let deadline = Some(Instant::now() + TIME_LIMIT);
        let Target { place, key, tls } = &self.target;
        let stream = place::reach(place, deadline).and_then(|socket| match tls {
            Some(tls) => tls.connect(socket),
            None => Duplex::plain(socket),
        });
        let stream = stream.map_err(ConnectError::Reach)?;
        let stream =
            auth::run(stream, Role::Connector, key, deadline).map_err(ConnectError::Auth)?;
        socket::notice_a_lost_peer(&stream);
        let link = StreamLink::over(stream);
        let about = match wire::parse_welcome(&link.receive(SHORT, deadline)?) {
            Some(Welcome::Come(about)) => about,
            Some(Welcome::Refused(why)) => return Err(ConnectError::Refused(why)),
            None => return Err(ConnectError::Stranger),
        };
        let session = self.state().session;
        link.send(&[&wire::encoded(&Hello { session })], deadline)?;
        let entered = codec::decode::<Entered>(&link.receive(SHORT, deadline)?);
        let Entered { session } = entered.map_err(|_| ConnectError::Stranger)?;
        let about = Arc::new(about);
        let mut state = self.state();
        let over = state.enter(session);
        state.about = Some(Arc::clone(&about));
        drop(state);
        drop(over);
        Ok(Line { link, session, about })
    }

    /// Has a request executed, and lets `take` have the reply, and the handles in it.
    ///
    /// # Errors
    /// There was no connection on these terms to be had, or it ended before there was a reply.
    pub(crate) fn exchange<R>(
        self: &Arc<Self>,
        request: &[u8],
        terms: Terms,
        take: impl FnOnce(&mut Vec<u8>, Held) -> R,
    ) -> Result<R, Fault> {
        let mut reply = Vec::new();
        let handles = self.ask(&[&[wire::REQUEST], request], terms, &mut reply)?;
        Ok(take(&mut reply, Held { handles, ..Held::default() }))
    }

    fn ask(
        self: &Arc<Self>,
        parts: &[&[u8]],
        terms: Terms,
        reply: &mut Vec<u8>,
    ) -> Result<Vec<Handle>, Fault> {
        let line = self.send(parts, terms)?;
        wait(&line.link);
        let received = line.link.receive(line.about.longest.max(SHORT), None);
        *reply = received.map_err(|_| Fault::Interrupted)?;
        let objects = wire::take_tail(reply);
        let objects =
            objects.map_err(|_| Fault::Refused("it is no manager that replies".into()))?;
        let handles = self.receive(line.session, objects)?;
        self.lay_aside(line);
        Ok(handles)
    }

    /// Sends a message; gives the connection on which there will be a reply.
    fn send(&self, parts: &[&[u8]], terms: Terms) -> Result<Line, Fault> {
        let unreachable = |error: ConnectError| Fault::Unreachable(error.to_string());
        loop {
            let idle = self.state().idle.pop();
            let is_new = idle.is_none();
            let line = idle.map_or_else(|| self.open(), Ok).map_err(unreachable)?;
            if let Err(fault) = line.permits(parts, terms) {
                self.lay_aside(line);
                return Err(fault);
            }
            match line.link.send(parts, None) {
                Ok(()) => return Ok(line),
                // It has ended while it was idle. The server has not received all of the message, and so
                // has executed nothing.
                Err(_) if !is_new => {}
                Err(error) => return Err(unreachable(error.into())),
            }
        }
    }

    /// A connection is idle: first it takes what was released.
    fn lay_aside(&self, line: Line) {
        let (released, returned) = {
            let mut state = self.state();
            if state.session != Some(line.session) {
                return;
            }
            let returned = state.returned();
            (std::mem::take(&mut state.released), returned)
        };
        if !released.is_empty() {
            let mut bytes = vec![wire::RELEASE];
            released.iter().for_each(|(id, count)| wire::release(&mut bytes, *id, *count));
            if line.link.send(&[&bytes], Some(Instant::now())).is_err() {
                let mut state = self.state();
                if state.session == Some(line.session) {
                    state.released.extend(released);
                }
                return;
            }
        }
        let mut state = self.state();
        // There may be another session by now.
        if state.session == Some(line.session) {
            state.idle.push(line);
        }
        drop(state);
        // What these release goes by themselves.
        drop(returned);
    }

    /// The server has given these: there are handles on each.
    ///
    /// # Errors
    /// The session is over meanwhile.
    fn receive(
        self: &Arc<Self>,
        session: Ticket,
        objects: Vec<(Id, u64)>,
    ) -> Result<Vec<Handle>, Fault> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let mut state = self.state();
        if state.session != Some(session) {
            return Err(Fault::Interrupted);
        }
        let receive = |(id, class)| {
            let none = || Known { far: Weak::new(), count: 0 };
            let known = state.known.entry(id).or_insert_with(none);
            known.count += 1;
            Handle::afar(known.far.upgrade().unwrap_or_else(|| {
                let far = Arc::new(Far { client: Arc::clone(self), session, id, class });
                // If there was one before, its end finds out that it isn't known any more.
                known.far = Arc::downgrade(&far);
                far
            }))
        };
        Ok(objects.into_iter().map(receive).collect())
    }

    /// An object that this process has.
    pub(super) fn find(&self, id: Id) -> Option<Handle> {
        let far = self.state().known.get(&id)?.far.upgrade()?;
        Some(Handle::afar(far))
    }

    /// An object that another process of the family has.
    ///
    /// # Errors
    /// It hasn't any more, or there is no connection to be had.
    pub(crate) fn claim(self: &Arc<Self>, lender: Ticket, id: Id) -> Result<Handle, Fault> {
        let found = {
            let state = self.state();
            let known = state.known.get(&id).filter(|_| state.session == Some(lender));
            known.and_then(|known| known.far.upgrade())
        };
        if let Some(far) = found {
            return Ok(Handle::afar(far));
        }
        let terms = Terms { session: None, for_build: ForBuild::Any };
        let handles = self.ask(&[&wire::claim(lender, id)], terms, &mut Vec::new())?;
        handles.into_iter().next().ok_or(Fault::Gone)
    }

    /// There is no handle on an object any more.
    fn forget(&self, far: &Far) {
        let mut state = self.state();
        let is_it = |known: &Known| std::ptr::eq(known.far.as_ptr(), far);
        if state.session != Some(far.session) || !state.known.get(&far.id).is_some_and(is_it) {
            return;
        }
        let Some(Known { count, .. }) = state.known.remove(&far.id) else { return };
        state.released.push((far.id, count));
        let idle = state.idle.pop();
        drop(state);
        if let Some(line) = idle {
            self.lay_aside(line);
        }
    }
}

impl Line {
    /// Whether a message may go on this way.
    fn permits(&self, parts: &[&[u8]], terms: Terms) -> Result<(), Fault> {
        if terms.session.is_some_and(|session| session != self.session) {
            return Err(Fault::Gone);
        }
        if terms.for_build == ForBuild::This {
            self.about.check_build()?;
        }
        let (length, most) =
            (parts.iter().map(|part| part.len() as u64).sum::<u64>(), self.about.longest);
        if length > most {
            let text =
                format!("the request has {length} bytes, and the manager takes {most} at most");
            return Err(Fault::Data(text));
        }
        Ok(())
    }
}

impl About {
    /// Whether the server can make what this program asks for: both are the same program.
    ///
    /// # Errors
    /// It can't.
    pub(crate) fn check_build(&self) -> Result<(), Fault> {
        if self.build.agrees_with(build::own()) {
            return Ok(());
        }
        Err(Fault::Refused(
            "the manager is of another build of this program, or of another program, and can't make \
             objects for it; find those that it has named with `named`"
                .to_owned(),
        ))
    }
}

/// Waits until there is a reply, or an end: looks for a while, as one from this machine comes before a sleeper
/// could be woken, then sleeps.
fn wait(link: &StreamLink) {
    let is_there = |deadline| link.wait(deadline).unwrap_or(true);
    let mut rest = Rest::default();
    while !is_there(Some(Instant::now())) {
        match rest.step() {
            Step::Look | Step::Yielded => {}
            // Whoever it was, it wasn't the server, which would have replied.
            Step::Starved => rest.judge(false),
            Step::Sleep => {
                is_there(None);
                return;
            }
        }
    }
}

impl State {
    /// There is a connection of this session. If it is another one, what the last one had is gone, and its
    /// numbers may come to mean something else; gives what is to be dropped.
    fn enter(&mut self, session: Ticket) -> Option<(Vec<Line>, Lent)> {
        if self.session == Some(session) {
            return None;
        }
        self.session = Some(session);
        self.known.clear();
        self.released.clear();
        Some((std::mem::take(&mut self.idle), std::mem::take(&mut self.lent)))
    }

    /// Takes out what was lent, and nobody else holds any more.
    fn returned(&mut self) -> Vec<(Id, (Object, Arc<Far>))> {
        let is_new = self.look || self.unclaimed != heap::unclaimed();
        if self.lent.is_empty() || !is_new {
            return Vec::new();
        }
        (self.look, self.unclaimed) = (false, heap::unclaimed());
        let mut is_still_here = false;
        let returned = self.lent.extract_if(|_, (entry, _)| {
            // It waits in this process to be sent. So this comes before the next look.
            let is_here = !entry.is_only_handle();
            is_still_here |= is_here;
            fence(Acquire);
            !is_here && !entry.is_held_elsewhere()
        });
        let returned = returned.collect();
        // What is dropped here isn't told of.
        self.look = is_still_here;
        returned
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

    pub(crate) fn class(&self) -> u64 {
        self.class
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
    pub(crate) fn lend(self: &Arc<Self>) -> io::Result<(&Target, Ticket, Id, Object)> {
        let mut state = self.client.state();
        let entry = match state.lent.get(&self.id) {
            Some((entry, far)) if Arc::ptr_eq(far, self) => entry.clone(),
            _ => {
                let entry = Object::create(Request::small(Kind::Managed))?;
                // One that is of a session before isn't there for anybody, and needs no keeping.
                if state.session == Some(self.session) {
                    state.lent.insert(self.id, (entry.clone(), Arc::clone(self)));
                }
                entry
            }
        };
        state.look = true;
        Ok((&self.client.target, self.session, self.id, entry))
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        self.client.forget(self);
    }
}

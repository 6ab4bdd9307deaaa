//! The server process: it takes in connections, and its threads serve them in [turn](super::turn).
//!
//! ```text
//! the task's thread    sleeps on the alarm: the watchdog; and ends the process when the manager has gone
//! the leader           looks at all connections, executes what it finds, answers; sleeps when all is quiet
//! spares, and those who were deposed while they executed something
//! ```
//!
//! - A connection whose request is executed isn't looked at; whoever executes it gives it back, and answers
//!   then.
//! - What a client sends is bytes from anybody: a [`Breach`](protocol::Breach) ends its connection.
//! - Nothing here waits for a client: an answer always finds room, as a client has one request under way at
//!   most; where it doesn't, that is a breach.
//! - The user's code, destructors of objects too, runs while the turn says *executing*: so whatever takes
//!   long is overtaken.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::afar::host::{self, Listen};
use super::afar::session::Session;
use super::call::{self, Held};
use super::caller::{Caller, Found};
use super::class::{Failure, Invocation, Made};
use super::front::{Front, News};
use super::handle::{self, Handle};
use super::keeper::{self, Keeper};
use super::maker::Maker;
use super::protocol::{self, Breach, Call, Calls, Fault, Request};
use super::registry;
use super::rest::{Rest, Step};
use super::table::{Found as Named, Member, Table};
use super::turn::{self, Part, Successor, Turn};
use crate::os::{clock, fault, signals};
use crate::shm::bell::Bell;
use crate::shm::heap::{self, Id};
use crate::shm::platform::Platform;
use crate::shm::system::System;
use crate::transport::codec;
use crate::worker::dispatch::{Args, Callee, RunError};
use crate::worker::{life, panics};

/// How long the leader, and the watchdog, sleep at most: then they look for what nobody has told them of.
const NAP: Duration = Duration::from_secs(1);

/// The same, while an object waits for the end of its last method.
const SHORT_NAP: Duration = Duration::from_millis(10);

/// A request that takes longer is overtaken, if somebody waits.
const LONG: Duration = Duration::from_millis(1);

/// The stack of a thread that runs methods: as much as tasks have.
pub(crate) const STACK: usize = 8 << 20;

/// So many connections with requests after a long yield tell that clients had the processor.
const CROWD: usize = 3;

/// A thread gives back buffers above this.
const KEPT: usize = 4 << 20;

/// Requests between two looks at what isn't told of at once.
const ROUTINE: u32 = 64;

/// Methods that all objects have, behind those of any class.
pub(crate) const IS_POISONED: u16 = u16::MAX - 1;
pub(crate) const CLEAR_POISON: u16 = u16::MAX;

/// See the file's head.
pub(crate) struct Server {
    front: Front,
    turn: Turn<System>,
    table: Table,
    callers: Mutex<Callers>,
    /// What the heap's count of objects let go was at the last look, and when that was.
    unclaimed: Mutex<(u32, u64)>,
    /// Read while objects are dropped that nobody has any more; to be written, it waits for the end of that.
    burials: RwLock<()>,
    /// If it keeps its named objects.
    keeper: OnceLock<Keeper>,
}

#[derive(Default)]
struct Callers {
    all: Vec<Arc<Caller>>,
    /// The one that is looked at next.
    next: usize,
}

static HERE: OnceLock<Server> = OnceLock::new();

thread_local! {
    /// What this thread executes.
    static EXECUTED: RefCell<Option<Executed>> = const { RefCell::new(None) };
}

struct Executed {
    request: turn::Request,
    /// Who waits for it, if somebody does.
    caller: Option<Arc<Caller>>,
}

/// The server that this process is.
pub(crate) fn here() -> Option<&'static Server> {
    HERE.get()
}

/// Serves until the manager has gone. A process does this once.
///
/// # Errors
/// It can't start a thread, or listen; or it can't read its snapshot, or write the last one.
pub(crate) fn serve(
    front: Front,
    listen: Option<Listen>,
    snapshot: Option<PathBuf>,
) -> io::Result<()> {
    signals::leave_interrupts_to_the_parent();
    let server = HERE.get_or_init(|| Server::new(front));
    if let Some(path) = snapshot {
        let keeper = Keeper::open(path, &server.table)?;
        server.keeper.get_or_init(|| keeper);
        life::when_the_parent_is_gone(|| {
            if let Some(Err(why)) = HERE.get().map(Server::save_the_last) {
                eprintln!("procession: a manager ends without its last snapshot: {why}");
            }
        });
    }
    server.start_thread()?;
    if let Some(listen) = listen {
        host::open(server, listen)?;
    }
    server.front.reception().serve();
    server.front.reception().alarm.ring(u32::MAX);
    server.watch();
    host::close();
    server.front.close();
    let saved = server.save_the_last();
    for member in server.table.take_all() {
        // Nobody is left to be told of its panic; stderr is.
        let _ = panics::catch(|| drop(member));
    }
    // Others are dropped by other threads already.
    drop(server.burials.write());
    saved.map_err(io::Error::other)
}

/// To be called by a method before it waits for something: another thread serves the others meanwhile.
pub(crate) fn step_down() {
    let request = EXECUTED.with_borrow(|executed| Some(executed.as_ref()?.request));
    if let (Some(server), Some(request)) = (HERE.get(), request) {
        server.depose(request);
    }
}

/// Whether nobody waits any more for the method that this thread runs.
pub(crate) fn caller_has_gone() -> bool {
    EXECUTED.with_borrow(|executed| {
        let caller = executed.as_ref().and_then(|executed| executed.caller.as_ref());
        caller.is_some_and(|caller| !caller.is_there())
    }) || host::caller_has_gone() == Some(true)
}

impl Server {
    fn new(front: Front) -> Self {
        Self {
            front,
            turn: Turn::new(0.into(), Bell::new(0.into())),
            table: Table::default(),
            callers: Mutex::default(),
            unclaimed: Mutex::new((heap::unclaimed(), 0)),
            burials: RwLock::default(),
            keeper: OnceLock::new(),
        }
    }

    /// The way to it.
    pub(crate) fn front(&self) -> &Front {
        &self.front
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    fn callers(&self) -> MutexGuard<'_, Callers> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_thread(&'static self) -> io::Result<()> {
        let body = move || {
            // Without a report of its stack's overflow it serves as well.
            let _ = fault::watch_this_stack();
            self.work();
        };
        thread::Builder::new().name("manager".into()).stack_size(STACK).spawn(body).map(drop)
    }

    /// Looks after the leader, until the manager has gone.
    fn watch(&'static self) {
        let reception = self.front.reception();
        loop {
            let heard = reception.alarm.listen();
            if reception.is_closing() {
                return;
            }
            // A thread could not be started.
            if self.turn.is_missing() {
                let _ = self.start_thread();
            }
            System::wait(reception.alarm.word(), heard.value(), Some(NAP));
            if let Some(request) = self.turn.executed() {
                // Who rings has waited for as long already, but for another request maybe.
                thread::sleep(LONG);
                self.depose(request);
            }
        }
    }

    /// Lets another thread lead, if the request is executed still.
    fn depose(&'static self, request: turn::Request) {
        if self.turn.depose(request) == Some(Successor::Missing) {
            // If that fails, the next thread that is done leads, or the watchdog tries again.
            let _ = self.start_thread();
        }
    }

    /// The life of a thread.
    fn work(&'static self) {
        let mut desk = Desk::default();
        loop {
            match self.turn.part() {
                Part::Lead => {}
                Part::Wait => self.turn.wait(),
                Part::Leave => return,
            }
            self.lead(&mut desk);
            if self.table.has_suspects() {
                self.front.reception().arrivals.ring(1);
            }
        }
    }

    /// Serves until it is deposed.
    fn lead(&'static self, desk: &mut Desk) {
        let (mut rest, mut routine) = (Rest::default(), ROUTINE);
        loop {
            routine -= 1;
            if routine == 0 {
                routine = ROUTINE;
                self.admit(desk);
                if !self.bury() {
                    return;
                }
            }
            if let Some(caller) = self.next() {
                rest.end();
                let still_leads = self.executing(Some(caller), |caller| {
                    self.execute(caller.expect("it was given"), desk);
                });
                if !still_leads {
                    return;
                }
                continue;
            }
            match rest.step() {
                Step::Look => {}
                Step::Yielded => self.admit(desk),
                Step::Starved => {
                    let callers = self.callers();
                    let waiting = callers.all.iter().filter(|caller| caller.has_news());
                    rest.judge(waiting.count() >= CROWD);
                }
                Step::Sleep => {
                    if !self.bury() {
                        return;
                    }
                    self.sleep(desk);
                }
            }
        }
    }

    /// Takes in what is told at the front.
    fn admit(&self, desk: &mut Desk) {
        while self.front.has_news() {
            match self.front.next(&mut desk.request) {
                Some(News::Connection(pipe)) => {
                    self.callers().all.push(Arc::new(Caller::new(pipe)));
                }
                Some(News::LetGo(id)) => self.table.suspect(id),
                Some(News::Garbage) => {}
                None => break,
            }
        }
    }

    /// The next connection that has a request; it is the caller's until it is given back.
    fn next(&self) -> Option<Arc<Caller>> {
        let mut callers = self.callers();
        let mut left = callers.all.len();
        while left > 0 {
            left -= 1;
            let at = if callers.next < callers.all.len() { callers.next } else { 0 };
            match callers.all[at].look() {
                Found::Nothing => callers.next = at + 1,
                Found::Request => {
                    callers.next = at + 1;
                    return Some(Arc::clone(&callers.all[at]));
                }
                Found::End => {
                    callers.all.swap_remove(at);
                }
            }
        }
        None
    }

    /// Sleeps until something has come, for a while at most.
    fn sleep(&self, desk: &mut Desk) {
        let arrivals = &self.front.reception().arrivals;
        let heard = arrivals.listen();
        let is_quiet = {
            let callers = self.callers();
            callers.all.iter().all(|caller| !caller.has_news())
        };
        if is_quiet && !self.front.has_news() {
            let nap = if self.table.has_suspects() { SHORT_NAP } else { NAP };
            System::wait(arrivals.word(), heard.value(), Some(nap));
            System::look_around();
        }
        self.admit(desk);
    }

    /// Drops the objects that nobody has any more. False: this thread was deposed meanwhile.
    fn bury(&'static self) -> bool {
        if self.front.reception().take_missed() || self.are_some_unclaimed() {
            self.table.suspect_all();
        }
        let _burial = self.burials.read().unwrap_or_else(PoisonError::into_inner);
        let dead = self.table.take_unclaimed();
        if dead.is_empty() {
            return true;
        }
        self.executing(None, |_| {
            for member in dead {
                // Nobody asked for what this one does; its panic is told on stderr.
                let _ = panics::catch(|| drop(member));
            }
        })
    }

    /// Runs what may take long, or run the user's code. True: this thread leads still.
    fn executing(&self, caller: Option<Arc<Caller>>, body: impl FnOnce(Option<&Caller>)) -> bool {
        let request = self.turn.begin();
        self.front.reception().count_request();
        EXECUTED.set(Some(Executed { request, caller: caller.clone() }));
        body(caller.as_deref());
        EXECUTED.set(None);
        self.turn.end(request)
    }

    /// Whether somebody has let go without telling, or died: looks once a second at most, as all objects
    /// are looked at then.
    fn are_some_unclaimed(&self) -> bool {
        let mut seen = self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, now) = (heap::unclaimed(), clock::nanos());
        if count == seen.0 || now.saturating_sub(seen.1) < NAP.as_nanos() as u64 {
            return false;
        }
        *seen = (count, now);
        true
    }

    /// Executes a caller's request and answers it.
    fn execute(&'static self, caller: &Caller, desk: &mut Desk) {
        let done = caller.receive(&mut desk.request).and_then(|parcel| {
            desk.reply.clear();
            let held = self.answer(&desk.request, &mut desk.reply, None)?;
            // It has held the handles in the arguments until they were decoded.
            drop(parcel);
            Ok(held.objects)
        });
        match done {
            Ok(_) if self.is_ending() => caller.end(),
            // The next request may come as soon as the answer is sent.
            Ok(handles) => caller.answer(&desk.reply, &handles),
            Err(Breach) => caller.end(),
        }
        desk.tidy();
    }

    /// Appends the reply to a request, of the family or of a `session`; gives the handles in it.
    pub(crate) fn answer(
        &'static self,
        request: &[u8],
        reply: &mut Vec<u8>,
        session: Option<&Session>,
    ) -> Result<Held, Breach> {
        let held = match Request::parse(request)? {
            Request::Call(call) => protocol::reply(reply, |out| self.call(call, session, out)),
            Request::Batch(calls) => Some(self.batch(calls, session, reply)?),
            Request::Construct { class, constructor, args } => protocol::reply(reply, |out| {
                let entry = registry::entry(class).ok_or_else(other_program)?;
                self.make(args, out, |invocation| entry.construct(constructor, invocation))
            }),
            Request::Make { maker, args } => protocol::reply(reply, |out| {
                let maker = maker.resolve().ok_or_else(other_program)?;
                self.make(args, out, |invocation| maker.make(invocation))
            }),
            // Not for anybody afar: it is any code of this program.
            Request::Run { .. } if session.is_some() => return Err(Breach),
            Request::Run { callee, args } => protocol::reply(reply, |out| run(callee, args, out)),
            Request::Name { object, name } => protocol::reply(reply, |out| {
                let member = self.member(object, session)?;
                if self.keeper.get().is_some() && !member.object().can_be_kept() {
                    return Err(not_kept(&member));
                }
                encode(&self.table.name(name.to_owned(), &member), out)
            }),
            Request::Unname { name } => {
                protocol::reply(reply, |out| encode(&self.table.unname(name), out))
            }
            Request::Find { maker, name } => {
                protocol::reply(reply, |out| encode(&self.find(maker.resolve(), name)?, out))
            }
            Request::Save => protocol::reply(reply, |out| encode(&self.save()?, out)),
        };
        Ok(held.unwrap_or_default())
    }

    /// What has this name. What is in the snapshot still becomes an object, if its maker is known.
    fn find(
        &'static self,
        maker: Option<&Maker>,
        name: &str,
    ) -> Result<Option<handle::Found>, Fault> {
        loop {
            let record = match self.table.named(name) {
                None => return Ok(None),
                Some(Named::Member(member)) => {
                    let (proxy, described) = (member.proxy().to_owned(), member.described());
                    let handle = Handle::here(self, member);
                    return Ok(Some(handle::Found::Object(handle, proxy, described)));
                }
                Some(Named::Kept(record)) => record,
            };
            let maker = maker.filter(|maker| maker.class() == record.class);
            let Some(maker) = maker.or_else(|| registry::maker_of(&record.class)) else {
                return Ok(Some(handle::Found::Kept(record.class.clone())));
            };
            let made = keeper::made(maker, &record)?;
            self.table.revive(&record, made).map_err(refused)?;
        }
    }

    fn save(&self) -> Result<(), Fault> {
        let keeper = self.keeper.get().ok_or_else(|| {
            let text = "it keeps no snapshot: make it with `Manager::builder().persist(path)`";
            Fault::Refused(text.to_owned())
        })?;
        // It takes long, and may wait for methods.
        step_down();
        keeper.save(&self.table).map_err(Fault::Refused)
    }

    fn save_the_last(&self) -> Result<(), String> {
        self.keeper.get().map_or(Ok(()), |keeper| keeper.end(&self.table))
    }

    /// Whether the last snapshot is written, so that nobody may be answered.
    pub(crate) fn is_ending(&self) -> bool {
        self.keeper.get().is_some_and(Keeper::is_ending)
    }

    /// The object with this number, which a session can only reach if it was given that.
    fn member(&self, object: Id, session: Option<&Session>) -> Result<Arc<Member>, Fault> {
        if session.is_some_and(|session| !session.has(object)) {
            return Err(Fault::Gone);
        }
        self.table.get(object).ok_or(Fault::Gone)
    }

    fn call(
        &self,
        call: Call<'_>,
        session: Option<&Session>,
        out: &mut Vec<u8>,
    ) -> Result<Held, Fault> {
        let member = self.member(call.object, session)?;
        if call.method >= IS_POISONED {
            if call.method == CLEAR_POISON {
                member.object().clear_poison();
            } else {
                let is_poisoned = member.object().is_poisoned();
                codec::encode(&is_poisoned, out).expect("a bool can be encoded");
            }
            return Ok(Held::default());
        }
        let mut invocation = Invocation::new(call.args, out);
        member.object().call(call.method, &mut invocation)?;
        Ok(invocation.into_held())
    }

    fn batch(
        &self,
        calls: Calls<'_>,
        session: Option<&Session>,
        reply: &mut Vec<u8>,
    ) -> Result<Held, Breach> {
        protocol::batch_reply(reply);
        let mut held = Held::default();
        for call in calls {
            // The reply is too long already, and won't be sent.
            if session.is_some_and(|session| reply.len() as u64 > session.longest()) {
                break;
            }
            let call = call?;
            let done = protocol::batched_reply(reply, |out| self.call(call, session, out));
            held.extend(done.unwrap_or_default());
        }
        Ok(held)
    }

    /// Appends what a constructor gives, and the object's handle.
    fn make(
        &'static self,
        args: &[u8],
        out: &mut Vec<u8>,
        construct: impl FnOnce(&mut Invocation<'_>) -> Result<Option<Made>, Failure>,
    ) -> Result<Held, Fault> {
        let made = protocol::constructed(out, |out| {
            let mut invocation = Invocation::new(args, out);
            let made = construct(&mut invocation)?;
            Ok::<_, Fault>((made, invocation.into_held()))
        });
        let (made, mut held) = made?;
        let member = made.map(|made| self.table.insert(made)).transpose().map_err(refused)?;
        held.extend(encode(&member.map(|member| Handle::here(self, member)), out)?);
        Ok(held)
    }
}

/// Runs a callable of this program.
fn run(callee: Callee, args: &[u8], out: &mut Vec<u8>) -> Result<Held, Fault> {
    let descriptor = callee.resolve().map_err(Fault::Refused)?;
    let ran = panics::catch_quietly(|| {
        let callable = descriptor.prepare(&[]).map_err(RunError::Args)?;
        callable.run(Args::Whole(args), false, out)
    });
    match ran {
        Ok(Ok(ran)) => Ok(ran.handles.into()),
        Ok(Err(RunError::Args(error))) => Err(Failure::Args(error).into()),
        Ok(Err(RunError::Result(error))) => Err(Failure::Result(error).into()),
        Err(info) => Err(Fault::Panicked(info)),
    }
}

/// Appends the result of a request of the server's own.
fn encode(result: &impl Serialize, out: &mut Vec<u8>) -> Result<Held, Fault> {
    Ok(call::encode(result, out).map_err(Failure::Result)?)
}

fn not_kept(member: &Member) -> Fault {
    Fault::Refused(format!(
        "a {} can't be in the manager's snapshot, and so can't have a name: snapshots have dictionaries, lists, \
         sets, queues, values, namespaces, and types under `#[managed(persist)]`",
        member.proxy()
    ))
}

fn other_program() -> Fault {
    Fault::Refused("the server doesn't know how to make that: it is another program".to_owned())
}

fn refused(error: io::Error) -> Fault {
    Fault::Refused(format!("the server can't own one object more: {error}"))
}

/// Room for a request and its reply, used again for the next ones.
#[derive(Default)]
struct Desk {
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Desk {
    /// Gives back what only long messages need.
    fn tidy(&mut self) {
        for bytes in [&mut self.request, &mut self.reply] {
            if bytes.capacity() > KEPT {
                *bytes = Vec::new();
            }
        }
    }
}

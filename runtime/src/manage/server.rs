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

use std::cell::{Cell, RefCell};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use super::afar::host::{self, Listen};
use super::caller::{Caller, Found};
use super::front::{Front, News};
use super::keeper::{Begun, Keeper};
use super::protocol::Breach;
use super::rest::{Rest, Step};
use super::table::Table;
use super::turn::{self, Part, Successor, Turn};
use crate::os::{clock, fault, signals};
use crate::shm::bell::Bell;
use crate::shm::heap;
use crate::shm::platform::Platform;
use crate::shm::system::System;
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
    /// Whether it has given up waiting, because the server ends: what it gives then is no answer.
    static GIVEN_UP: Cell<bool> = const { Cell::new(false) };
}

/// See `GIVEN_UP`.
pub(crate) fn take_given_up() -> bool {
    GIVEN_UP.take()
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
            if let Some(Err(why)) = HERE.get().map(Server::end) {
                let _ = writeln!(io::stderr(), "procession: a manager's last snapshot: {why}");
            }
        });
    }
    let begun = server.start_thread().and_then(|()| match listen {
        Some(listen) => host::open(server, listen),
        None => Ok(()),
    });
    if begun.is_err() {
        server.keeper.get().inspect(|keeper| keeper.give_up());
        return begun;
    }
    server.front.reception().serve();
    server.front.reception().alarm.ring(u32::MAX);
    server.watch();
    let saved = server.end();
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

/// Whether nobody waits any more for the method that this thread runs, or is to wait: the server ends.
pub(crate) fn caller_has_gone() -> bool {
    let ends = HERE.get().and_then(|server| server.keeper.get()).is_some_and(Keeper::is_ending);
    GIVEN_UP.set(ends);
    ends || EXECUTED.with_borrow(|executed| {
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

    /// If it keeps its named objects.
    pub(super) fn keeper(&self) -> Option<&Keeper> {
        self.keeper.get()
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
        let Some(begun) = self.begin() else { return caller.end() };
        let done = caller.receive(&mut desk.request).and_then(|parcel| {
            desk.reply.clear();
            let held = self.answer(&desk.request, &mut desk.reply, None)?;
            // It has held the handles in the arguments until they were decoded.
            drop(parcel);
            Ok(held.objects)
        });
        match done {
            Ok(_) if GIVEN_UP.take() || !begun.is_answered() => caller.end(),
            // The next request may come as soon as the answer is sent.
            Ok(handles) => caller.answer(&desk.reply, &handles),
            Err(Breach) => caller.end(),
        }
        desk.tidy();
    }

    /// Ends: nobody is served any more.
    ///
    /// # Errors
    /// There is no last snapshot, or something isn't in it.
    fn end(&self) -> Result<(), String> {
        let keeper = self.keeper.get();
        keeper.inspect(|keeper| keeper.end());
        host::close();
        self.front.close();
        keeper.map_or(Ok(()), |keeper| keeper.save_the_last(&self.table))
    }

    /// A request begins. None: none does any more, as the server ends.
    pub(crate) fn begin(&self) -> Option<Begun<'_>> {
        Begun::new(self.keeper.get())
    }
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

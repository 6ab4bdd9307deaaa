//! What the server knows of a client afar: the objects that it has.
//!
//! ```text
//! ATTACHED --its last connection ends--> WAITING --a grace time is over--> OVER
//!    ^                                     |
//!    +------------- it comes back ---------+
//! all --the server ends--> OVER
//! ```
//!
//! A client has one session, whatever number of connections. It can reach the objects that it was given in
//! a reply, and no others. Each time is counted, and the client says how many of these it has let go: so it
//! doesn't matter that a reply may give an object while a release of it is on its way.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::wire::Ticket;
use crate::manage::handle::Handle;
use crate::shm::heap::Id;

/// See the file's head.
pub(crate) struct Session {
    ticket: Ticket,
    number: u64,
    /// How many bytes a reply may have.
    longest: u64,
    /// None: it is over.
    given: Mutex<Option<HashMap<Id, Given>>>,
}

struct Given {
    handle: Handle,
    count: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    fn new(longest: u64) -> io::Result<Self> {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, Relaxed);
        let given = Mutex::new(Some(HashMap::new()));
        Ok(Self { ticket: Ticket::random()?, number, longest, given })
    }

    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// No other session of this server has it.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// How many bytes a reply may have.
    pub(crate) fn longest(&self) -> u64 {
        self.longest
    }

    /// The object, if the client was given it.
    pub(crate) fn get(&self, id: Id) -> Option<Handle> {
        locked(&self.given).as_ref()?.get(&id).map(|given| given.handle.clone())
    }

    /// Whether the client was given the object.
    pub(crate) fn has(&self, id: Id) -> bool {
        locked(&self.given).as_ref().is_some_and(|given| given.contains_key(&id))
    }

    /// The client has them once more each.
    pub(super) fn give(&self, handles: &[Handle]) {
        if handles.is_empty() {
            return;
        }
        let mut given = locked(&self.given);
        let Some(given) = &mut *given else { return };
        for handle in handles {
            let first = || Given { handle: handle.clone(), count: 0 };
            given.entry(handle.id()).or_insert_with(first).count += 1;
        }
    }

    /// The client has an object so many times less.
    pub(super) fn take_back(&self, id: Id, count: u64) {
        let gone = {
            let mut given = locked(&self.given);
            let Some(given) = &mut *given else { return };
            let Some(entry) = given.get_mut(&id) else { return };
            entry.count = entry.count.saturating_sub(count);
            if entry.count == 0 { given.remove(&id) } else { None }
        };
        // Its end locks other things.
        drop(gone);
    }

    fn is_empty(&self) -> bool {
        locked(&self.given).as_ref().is_none_or(HashMap::is_empty)
    }

    /// It is over: takes from the client what it has, for ever.
    fn end(&self) {
        let given = locked(&self.given).take();
        // The end of a handle locks other things.
        drop(given);
    }
}

/// All sessions of a server.
pub(super) struct Sessions {
    /// None: the server ends.
    all: Mutex<Option<HashMap<Ticket, Kept>>>,
    grace: Duration,
    longest: u64,
}

struct Kept {
    session: Arc<Session>,
    connections: usize,
    /// When it is over, if it has no connections, and is to be over at all.
    until: Option<Instant>,
}

/// A connection's part in its session.
pub(super) struct Attached<'a> {
    sessions: &'a Sessions,
    session: Arc<Session>,
}

impl Attached<'_> {
    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Sessions {
    /// Those that nobody comes back to end after the `grace` time. A reply has `longest` bytes at most.
    pub(super) fn new(grace: Duration, longest: u64) -> Self {
        Self { all: Mutex::new(Some(HashMap::new())), grace, longest }
    }

    /// The session with this ticket, if it isn't over; otherwise a new one.
    ///
    /// # Errors
    /// The system has no random numbers; or the server ends.
    pub(super) fn enter(&self, ticket: Option<Ticket>) -> io::Result<Attached<'_>> {
        let mut all = locked(&self.all);
        let all = all.as_mut().ok_or(io::ErrorKind::ConnectionRefused)?;
        if let Some(kept) = ticket.and_then(|ticket| all.get_mut(&ticket)) {
            kept.connections += 1;
            kept.until = None;
            return Ok(Attached { sessions: self, session: Arc::clone(&kept.session) });
        }
        let session = Arc::new(Session::new(self.longest)?);
        let kept = Kept { session: Arc::clone(&session), connections: 1, until: None };
        all.insert(session.ticket, kept);
        Ok(Attached { sessions: self, session })
    }

    /// What the session with this ticket has of an object.
    pub(super) fn find(&self, ticket: Ticket, id: Id) -> Option<Handle> {
        let session = Arc::clone(&locked(&self.all).as_ref()?.get(&ticket)?.session);
        session.get(id)
    }

    /// Whether the session with this number isn't over.
    pub(super) fn has(&self, number: u64) -> bool {
        let all = locked(&self.all);
        all.iter().flat_map(HashMap::values).any(|kept| kept.session.number == number)
    }

    /// Ends those whose time is over. True: there were any.
    pub(super) fn sweep(&self, now: Instant) -> bool {
        let is_over = |kept: &Kept| kept.until.is_some_and(|until| until <= now);
        let over: Vec<_> = {
            let mut all = locked(&self.all);
            let Some(all) = &mut *all else { return false };
            all.extract_if(|_, kept| is_over(kept)).collect()
        };
        over.iter().for_each(|(_, kept)| kept.session.end());
        !over.is_empty()
    }

    /// Ends all, and lets no more begin.
    pub(super) fn close(&self) {
        let all = locked(&self.all).take();
        all.iter().flat_map(HashMap::values).for_each(|kept| kept.session.end());
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        let mut all = locked(&self.sessions.all);
        let Some(kept) = all.as_mut().and_then(|all| all.get_mut(&self.session.ticket)) else {
            return;
        };
        kept.connections -= 1;
        if kept.connections == 0 {
            // To one with nothing nobody needs to come back.
            let grace = if kept.session.is_empty() { Duration::ZERO } else { self.sessions.grace };
            kept.until = Instant::now().checked_add(grace);
        }
    }
}

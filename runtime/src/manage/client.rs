//! A process's way to one server: connections, each for one request at a time.
//!
//! A call takes a connection that is idle, the one that was used last, and opens one if there is none. So a
//! call that waits long holds up no other thread. All proxies of one server in a process share these.
//!
//! Whoever waits for an answer looks for a while, then sleeps; it wakes the server's watchdog when it has
//! waited for a millisecond, then for two, and so on, and looks whether the server is alive.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::call::Held;
use super::front::Front;
use super::protocol::Fault;
use super::rest::{Rest, Step};
use crate::shm::channel::Patience;
use crate::shm::heap::{self, Id, Object, parcel};
use crate::shm::platform::{Deadline, Owner};
use crate::shm::ring::RingError;
use crate::shm::system::System;
use crate::transport::pipe::Pipe;

/// When the server is first told that somebody waits.
const FIRST_ALARM: Duration = Duration::from_millis(1);

/// So long there is at most between two alarms, and two looks whether the server is alive: that it isn't is
/// to be known within a second.
const LAST_ALARM: Duration = Duration::from_millis(256);

/// Requests in the time of a long yield that tell that other clients had the processor: as many as one serves
/// in a tenth of it.
const CROWD: u32 = 32;

/// An idle connection keeps no buffer above this.
const KEPT: usize = 4 << 20;

/// See the file's head.
pub(crate) struct Client {
    front: Front,
    idle: Mutex<Vec<Line>>,
}

/// A connection.
struct Line {
    pipe: Pipe,
    /// The process that has opened it: one that was forked from that can't use it.
    owner: Owner,
    reply: Vec<u8>,
}

static CLIENTS: Mutex<Option<HashMap<Id, Weak<Client>>>> = Mutex::new(None);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// The way to the server with this reception.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn of(reception: Object) -> io::Result<Arc<Self>> {
        let mut clients = locked(&CLIENTS);
        let clients = clients.get_or_insert_default();
        let id = reception.id();
        if let Some(client) = clients.get(&id).and_then(Weak::upgrade) {
            return Ok(client);
        }
        let client = Arc::new(Self { front: Front::open(reception)?, idle: Mutex::default() });
        clients.retain(|_, client| client.strong_count() > 0);
        clients.insert(id, Arc::downgrade(&client));
        Ok(client)
    }

    pub(crate) fn front(&self) -> &Front {
        &self.front
    }

    /// Sends a request with the handles in it, waits for the reply, and lets `take` have it, and what holds the
    /// handles in that.
    ///
    /// # Errors
    /// The server has gone, or there is no memory.
    pub(crate) fn exchange<R>(
        &self,
        request: &[u8],
        handles: &[Object],
        take: impl FnOnce(&mut Vec<u8>, Held) -> R,
    ) -> Result<R, Fault> {
        let mut line = self.line()?;
        line.pipe.outgoing().send(request, handles, Patience::of(None)).map_err(fault)?;
        self.front.reception().arrivals.ring(1);
        self.wait(&line.pipe)?;
        line.reply.clear();
        let parcel = line.pipe.incoming().receive(&mut line.reply, Patience::None);
        let parcel = parcel.map_err(fault)?;
        if let Some(parcel) = &parcel {
            parcel::bytes(parcel, &mut line.reply).map_err(|error| refused(&error))?;
        }
        let held: Vec<_> = parcel.into_iter().collect();
        let taken = take(&mut line.reply, held.into());
        if line.reply.capacity() > KEPT {
            line.reply = Vec::new();
        }
        locked(&self.idle).push(line);
        Ok(taken)
    }

    fn line(&self) -> Result<Line, Fault> {
        let owner = heap::me();
        loop {
            // Not under the lock: a connection that isn't used any more takes the heap's.
            let Some(line) = locked(&self.idle).pop() else { break };
            if line.owner == owner {
                return Ok(line);
            }
        }
        if self.front.is_lost_by_now() {
            return Err(Fault::Lost);
        }
        let pipe = self.front.connect().map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Fault::Lost,
            _ => refused(&error),
        })?;
        Ok(Line { pipe, owner, reply: Vec::new() })
    }

    /// Waits until there is an answer, or there will be none.
    fn wait(&self, pipe: &Pipe) -> Result<(), Fault> {
        let ring = pipe.incoming().ring();
        let reception = self.front.reception();
        let mut served = reception.served();
        let mut rest = if ring.was_put_here() { Rest::crowded() } else { Rest::default() };
        while !ring.ready_to_get() {
            match rest.step() {
                Step::Look | Step::Yielded => {}
                Step::Starved => {
                    let now = reception.served();
                    rest.judge(now.wrapping_sub(served) >= CROWD);
                    served = now;
                }
                Step::Sleep => return self.sleep(pipe),
            }
        }
        Ok(())
    }

    #[cold]
    fn sleep(&self, pipe: &Pipe) -> Result<(), Fault> {
        let ring = pipe.incoming().ring();
        let mut nap = FIRST_ALARM;
        loop {
            let ready = |_| ring.ready_to_get().then_some(());
            let deadline = Deadline::after::<System>(nap);
            if ring.arrivals().sleep_until(deadline, ready).is_some() {
                return Ok(());
            }
            if self.front.is_lost_by_now() && !ring.ready_to_get() {
                return Err(Fault::Lost);
            }
            self.front.reception().alarm.ring(1);
            nap = (nap * 2).min(LAST_ALARM);
        }
    }
}

fn fault(error: RingError) -> Fault {
    match error {
        RingError::Memory(error) => refused(&error),
        // Nobody but the two ends uses it, so a lock that isn't given is damaged, too.
        RingError::Closed | RingError::TimedOut | RingError::Corrupt => Fault::Lost,
    }
}

fn refused(error: &io::Error) -> Fault {
    Fault::Refused(format!("the memory for a message can't be had: {error}"))
}

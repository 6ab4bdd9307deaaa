//! Sockets on their way to other processes of the family.
//!
//! A descriptor travels beside the bytes of a Unix socket, and messages go through shared memory. So who
//! sends a socket on leaves a copy at its *desk*, a thread that listens at a name of its own, and who
//! receives the message fetches it there. Python's `multiprocessing.resource_sharer` does the same.
//!
//! ```text
//! left ---fetched, any number of times---> left ---the message is gone---> closed
//! ```
//!
//! A small shared object stands for the socket in the message: while it is held, by the message or by
//! whoever is decoding it, the copy stays. Its contents are the secret that a receiver has to show, so
//! that only the family can fetch. The desk looks every [`LOOK`] for copies whose object is gone, and ends
//! with the last one. If the sender's process ends first, the socket can't be fetched any more.

use std::collections::HashMap;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::os::epoll::{Epoll, Interest};
use crate::os::{random, signals, socket};
use crate::shm::heap::{self, Id, Kind, Object, Request};

/// How often the desk looks for what nobody will fetch any more.
const LOOK: Duration = Duration::from_millis(50);

/// How long the desk waits for what a receiver has to say, which is there at once.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long a receiver waits for the desk.
const LIMIT: Duration = Duration::from_secs(5);

const SECRET: usize = 16;
const DEMAND: usize = 8 + SECRET;

struct Desk {
    name: String,
    left: Mutex<HashMap<u64, (OwnedFd, [u8; SECRET])>>,
    /// Rung when the first copy is there.
    epoll: Epoll,
}

static DESK: Mutex<Option<Arc<Desk>>> = Mutex::new(None);

fn desk() -> MutexGuard<'static, Option<Arc<Desk>>> {
    DESK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves a copy of a socket here. It can be fetched while the object that is returned is held, from the
/// desk of this name.
///
/// # Errors
/// No memory, or no descriptors.
pub(crate) fn leave(copy: OwnedFd) -> io::Result<(Object, String)> {
    let object = Object::create(Request::small(Kind::Socket))?;
    let secret = random::bytes::<SECRET>()?;
    for (word, bytes) in object.inline_words().iter().zip(secret.chunks_exact(8)) {
        word.store(u64::from_le_bytes(*bytes.first_chunk().expect("eight bytes")), Relaxed);
    }
    let mut desk = desk();
    let open = match &*desk {
        Some(open) => Arc::clone(open),
        None => desk.insert(Desk::open()?).clone(),
    };
    open.left().insert(object.id().to_bits(), (copy, secret));
    Ok((object, open.name.clone()))
}

/// Fetches a socket from the desk of this name.
///
/// # Errors
/// Nobody is there any more, or has it; or the system refuses.
pub(crate) fn fetch(object: &Object, name: &str) -> io::Result<OwnedFd> {
    if !object.is(Kind::Socket, 0) {
        return Err(io::Error::other("the handle is not one of a socket"));
    }
    let gone = || io::Error::other("the process that sent the connection has ended");
    let address = SocketAddr::from_abstract_name(name)?;
    let deadline = Instant::now() + LIMIT;
    let mut desk = socket::connect_unix(&address, Some(deadline)).map_err(|_| gone())?;
    desk.set_read_timeout(Some(LIMIT))?;
    let mut demand = object.id().to_bits().to_le_bytes().to_vec();
    for word in &object.inline_words()[..SECRET / 8] {
        demand.extend_from_slice(&word.load(Relaxed).to_le_bytes());
    }
    desk.write_all(&demand).map_err(|_| gone())?;
    let (_, fds) = socket::receive(desk.as_fd(), &mut [0])?;
    fds.into_iter().next().ok_or_else(gone)
}

impl Desk {
    /// A new desk with its thread.
    fn open() -> io::Result<Arc<Self>> {
        let number = u64::from_le_bytes(random::bytes()?);
        let name = format!("procession desk {} {number:016x}", process::id());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        listener.set_nonblocking(true)?;
        let epoll = Epoll::new()?;
        epoll.add(listener.as_fd(), 0, Interest::Read)?;
        let desk = Arc::new(Self { name, left: Mutex::default(), epoll });
        let serving = Arc::clone(&desk);
        thread::Builder::new().name("procession desk".into()).spawn(move || {
            signals::block_all_on_this_thread();
            serving.serve(&listener);
        })?;
        Ok(desk)
    }

    fn left(&self) -> MutexGuard<'_, HashMap<u64, (OwnedFd, [u8; SECRET])>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, listener: &UnixListener) {
        loop {
            let _ = self.epoll.wait(Some(LOOK));
            while let Ok((client, _)) = listener.accept() {
                // Who doesn't ask as a receiver does gets nothing.
                let _ = self.hand_out(client);
            }
            // In this order of locks, so that nothing is left at a desk that closes.
            let mut open = desk();
            let mut left = self.left();
            left.retain(|id, _| Id::from_bits(*id).is_some_and(heap::is_there));
            if left.is_empty() {
                *open = None;
                return;
            }
        }
    }

    fn hand_out(&self, mut client: UnixStream) -> io::Result<()> {
        if !socket::is_of_this_user(client.as_fd())? {
            return Ok(());
        }
        client.set_nonblocking(false)?;
        client.set_read_timeout(Some(PATIENCE))?;
        let mut demand = [0; DEMAND];
        // A receiver says it at once; nobody is waited for twice.
        if client.read(&mut demand)? < DEMAND {
            return Ok(());
        }
        let (id, secret) = demand.split_first_chunk::<8>().expect("it begins with the name");
        let left = self.left();
        if let Some((copy, known)) = left.get(&u64::from_le_bytes(*id))
            && secret == known
        {
            socket::send(&client, &[IoSlice::new(&[1])], &[copy.as_fd()])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_fetched_while_its_object_is_held() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let (object, name) = leave(theirs.into()).unwrap();
        for _ in 0..2 {
            let mut fetched = UnixStream::from(fetch(&object, &name).unwrap());
            fetched.write_all(b"x").unwrap();
            ours.read_exact(&mut [0]).unwrap();
        }
        drop(object);
        // The desk closes its copy, the last one.
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_stranger_gets_nothing() {
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let (object, name) = leave(theirs.into()).unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        for demand in [&[0; 3][..], &[0; DEMAND], &object.id().to_bits().to_le_bytes()] {
            let mut stranger = UnixStream::connect_addr(&address).unwrap();
            stranger.write_all(demand).unwrap();
            let (count, fds) = socket::receive(stranger.as_fd(), &mut [0]).unwrap_or_default();
            assert!(count == 0 && fds.is_empty());
        }
        fetch(&object, &name).unwrap();
        assert!(fetch(&object, "nobody").is_err());
    }
}

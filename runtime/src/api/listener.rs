//! Connections between processes that aren't parent and child.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use super::address::Address;
use super::connection::{Connection, after};
use crate::error::{Error, Kind};
use crate::transport::auth::{self, AuthError, Key, Role};
use crate::transport::door::Door;
use crate::transport::duplex::Duplex;
use crate::transport::place::{self, Place, SocketFile};
use crate::transport::stream::StreamLink;

/// What [`Connection::set_limit`] is at first: far above what programs send, and below what brings a
/// machine down.
const LIMIT: u64 = 1 << 30;

/// How long [`connect`] waits.
const PATIENCE: Duration = auth::TIME_LIMIT;

/// A secret that a listener and those who connect to it share.
///
/// It can't be serialised, `Debug` doesn't show it, and its memory is overwritten when it is dropped. Use
/// 32 random bytes: whoever records a handshake can try out keys at leisure.
#[derive(Clone)]
pub struct AuthKey(Key);

impl AuthKey {
    /// A key of any bytes, but for none at all, which [`Listener::bind`] and [`connect`] refuse.
    ///
    /// ```
    /// let key = procession::AuthKey::new(b"32 bytes from a safe place, once");
    /// assert_eq!(format!("{key:?}"), "AuthKey(..)");
    /// ```
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        Self(Key::new(bytes.as_ref()))
    }

    pub(super) fn usable(&self) -> Result<&Key, Error> {
        if self.0.is_empty() {
            return Err(Error::usage(
                "an empty key protects nothing; use at least 16 random bytes",
            ));
        }
        Ok(&self.0)
    }
}

impl fmt::Debug for AuthKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKey(..)")
    }
}

/// Lets other processes connect, of this or another machine, as Python's `Listener` does.
///
/// Both sides prove that they know the key (HMAC-SHA-256 over fresh random numbers of both) before
/// anything else is sent or decoded. What is sent afterwards is neither encrypted nor signed: over TCP,
/// use it in a network that you trust, or through a tunnel.
///
/// Clients are let in by a thread of the listener, at once, whether or not the program is in
/// [`accept`](Self::accept); up to about 128 then wait for it. A client has 5 seconds to prove its key.
/// One that is slow, or that connects to do nothing, doesn't hold up others, and leaves no trace.
///
/// ```
/// use procession::{Address, AuthKey, Connection, Listener, connect};
///
/// # fn main() -> Result<(), procession::Error> {
/// let key = AuthKey::new("a long and random secret");
/// let listener = Listener::bind(Address::tcp("localhost", 0), &key)?;
/// let address = listener.local_address();
///
/// // In another process, which needs to know address and key:
/// let client = std::thread::spawn(move || -> Result<f64, procession::Error> {
///     let connection: Connection<f64, f64> = connect(address, &key)?;
///     connection.send(9.0)?;
///     Ok(connection.recv()?)
/// });
///
/// let connection: Connection<f64, f64> = listener.accept()?;
/// connection.send(connection.recv()?.sqrt())?;
/// assert_eq!(client.join().unwrap()?, 3.0);
/// # Ok(())
/// # }
/// ```
pub struct Listener {
    // It closes before the socket's file is removed.
    door: Door,
    address: Address,
    _file: Option<SocketFile>,
}

impl Listener {
    /// Listens at an address. With [`Address::unix`] it makes the socket's file, and removes it when it
    /// is dropped.
    ///
    /// # Errors
    /// The address is in use, isn't one of this machine, or may not be used; or the key is empty.
    pub fn bind(address: impl Into<Address>, key: &AuthKey) -> Result<Self, Error> {
        let address = address.into();
        let key = key.usable()?;
        let (entrance, local, file) = place::enter(address.place()).map_err(|error| {
            let hint = match (error.kind(), address.place()) {
                (io::ErrorKind::AddrInUse, Place::Path(_)) => {
                    " (if no program listens there any more, remove the file)"
                }
                _ => "",
            };
            Error::new(Kind::System(format!("can't listen at {address}: {error}{hint}")))
        })?;
        let local = Address::from(local);
        let door = Door::open(entrance, key.clone(), None)
            .map_err(|error| Error::system(&format!("can't listen at {local}"), &error))?;
        Ok(Self { door, address: local, _file: file })
    }

    /// Where it listens. For port 0, it is the port that the system has chosen.
    pub fn local_address(&self) -> Address {
        self.address.clone()
    }

    /// Waits for a client that knows the key. It sends `S` to the client and receives `R`.
    ///
    /// # Errors
    /// A client didn't prove its key ([`Error::is_authentication`]), or the system refuses, for want of
    /// descriptors, say. Neither is the listener's end: a server calls `accept` again.
    pub fn accept<S, R>(&self) -> Result<Connection<S, R>, Error> {
        self.accept_until(None)
    }

    /// As [`accept`](Self::accept), for `timeout` at most.
    ///
    /// # Errors
    /// As [`accept`](Self::accept); [`Error::is_timeout`] if no client came in time.
    pub fn accept_timeout<S, R>(&self, timeout: Duration) -> Result<Connection<S, R>, Error> {
        self.accept_until(after(timeout))
    }

    fn accept_until<S, R>(&self, deadline: Option<Instant>) -> Result<Connection<S, R>, Error> {
        let what = || format!("can't accept at {}", self.address);
        match self.door.accept(deadline) {
            Ok(Some(stream)) => Ok(connection(stream)),
            Ok(None) => Err(Error::new(Kind::Late(format!("{}: no client in time", what())))),
            Err(error) => Err(described(&error, what)),
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Connects to a [`Listener`]. It sends `S` and receives `R`.
///
/// It waits for 5 seconds at most; [`connect_timeout`] waits as long as it is told.
///
/// # Errors
/// Nobody listens there, or doesn't answer in time ([`Error::is_timeout`]); the listener has another key,
/// or is something else ([`Error::is_authentication`]); or the key is empty.
pub fn connect<S, R>(
    address: impl Into<Address>,
    key: &AuthKey,
) -> Result<Connection<S, R>, Error> {
    connect_timeout(address, key, PATIENCE)
}

/// As [`connect`], but it waits for `timeout` at most. A listener that has begun to answer has to be done
/// in 5 seconds even if that is longer. A host's name is looked up in the time that this takes.
///
/// ```
/// use std::time::Duration;
/// use procession::{Address, AuthKey, connect_timeout};
///
/// let nobody = Address::unix("/nobody/listens/here");
/// let key = AuthKey::new("a long and random secret");
/// assert!(connect_timeout::<u8, u8>(nobody, &key, Duration::from_secs(1)).is_err());
/// ```
///
/// # Errors
/// As [`connect`].
pub fn connect_timeout<S, R>(
    address: impl Into<Address>,
    key: &AuthKey,
    timeout: Duration,
) -> Result<Connection<S, R>, Error> {
    let (address, deadline) = (address.into(), after(timeout));
    let key = key.usable()?;
    let what = || format!("can't connect to {address}");
    let socket = place::reach(address.place(), deadline).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Error::new(Kind::Late(format!("{}: {error}", what()))),
        _ => Error::system(&what(), &error),
    })?;
    let stream = Duplex::plain(socket).map_err(|error| Error::system(&what(), &error))?;
    let stream = auth::run(stream, Role::Connector, key, deadline)
        .map_err(|error| described(&error, what))?;
    Ok(connection(stream))
}

fn connection<S, R>(stream: Duplex) -> Connection<S, R> {
    Connection::new(Box::new(StreamLink::over(stream)), LIMIT)
}

pub(super) fn described(error: &AuthError, what: impl Fn() -> String) -> Error {
    let text = format!("{}: {error}", what());
    Error::new(match error {
        AuthError::WrongKey
        | AuthError::Refused
        | AuthError::Stranger
        | AuthError::Version(_)
        | AuthError::UsesTls
        | AuthError::Tls(_)
        | AuthError::SameRole(_) => Kind::Authentication(text),
        AuthError::Disconnected => Kind::Disconnected(text),
        AuthError::TimedOut => Kind::Late(text),
        AuthError::System(_) => Kind::System(text),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{self, UnixListener, UnixStream};
    use std::path::PathBuf;
    use std::thread;

    use super::*;
    use crate::api::connection::{RecvError, SendError};
    use crate::os::socket;

    type Client = Connection<String, u32>;
    type Server = Connection<u32, String>;

    fn key() -> AuthKey {
        AuthKey::new("a secret of these tests")
    }

    /// Much longer than anything takes, so that what hangs fails.
    const LONG: Duration = Duration::from_secs(60);

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("procession-{}-{name}", std::process::id()))
    }

    fn name(name: &str) -> Address {
        Address::abstract_name(format!("procession-{}-{name}", std::process::id()))
    }

    fn accept(listener: &Listener) -> Server {
        listener.accept_timeout(LONG).unwrap()
    }

    #[test]
    fn every_family_connects() {
        let path = scratch("family");
        for address in [Address::tcp("localhost", 0), path.as_path().into(), name("family")] {
            let listener = Listener::bind(&address, &key()).unwrap();
            let client: Client = connect(listener.local_address(), &key()).unwrap();
            let server = accept(&listener);
            client.send("four".into()).unwrap();
            assert_eq!(server.recv().unwrap(), "four");
            server.send(4).unwrap();
            assert_eq!(client.recv().unwrap(), 4);
            assert!(matches!(client.try_recv(), Err(RecvError::Empty)));
            drop(server);
            assert!(client.poll(LONG));
            assert!(matches!(client.recv(), Err(RecvError::Disconnected)));
            match client.send("back".into()) {
                Err(SendError::Disconnected(value)) => assert_eq!(value, "back"),
                other => panic!("{other:?}"),
            }
            let error = listener.accept_timeout::<u8, u8>(Duration::from_millis(5)).unwrap_err();
            assert!(error.is_timeout(), "{error}");
        }
        assert!(!path.exists(), "the listener has removed its file");
    }

    #[test]
    fn a_wrong_key_is_an_authentication_error_on_both_sides() {
        let listener = Listener::bind(name("wrong"), &key()).unwrap();
        let ours = connect::<u8, u8>(listener.local_address(), &AuthKey::new("other")).unwrap_err();
        assert!(ours.is_authentication(), "{ours}");
        let theirs = listener.accept_timeout::<u8, u8>(LONG).unwrap_err();
        assert!(theirs.is_authentication(), "{theirs}");
        // The listener is none the worse for it.
        let _client: Client = connect(listener.local_address(), &key()).unwrap();
        accept(&listener);
    }

    #[test]
    fn an_empty_key_is_refused() {
        let nothing = AuthKey::new("");
        Listener::bind(name("empty"), &nothing).unwrap_err();
        connect::<u8, u8>(name("empty"), &nothing).unwrap_err();
    }

    #[test]
    fn clients_get_in_while_the_program_is_busy_and_strangers_hold_the_door() {
        let listener = Listener::bind(name("crowd"), &key()).unwrap();
        let place = format!("procession-{}-crowd", std::process::id());
        let place = net::SocketAddr::from_abstract_name(place.as_bytes()).unwrap();
        let raw = || socket::connect_unix(&place, None).unwrap();
        // More than may be pending: they greet, they send half a greeting, they say nothing.
        let crowd: Vec<UnixStream> = (0..200)
            .map(|i| {
                let mut stranger = raw();
                let _ = stranger.write_all(&b"procession\r\n"[..i % 13]);
                stranger
            })
            .collect();
        let mut other = raw();
        other.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        // Nobody has called accept yet.
        let clients: Vec<Client> = (0..20)
            .map(|_| connect_timeout(listener.local_address(), &key(), LONG).unwrap())
            .collect();
        for (i, client) in clients.iter().enumerate() {
            client.send(format!("client {i}")).unwrap();
        }
        // The stranger's refusal comes when no client waits, which may be before the last.
        let accepted: Vec<Result<Server, Error>> =
            (0..21).map(|_| listener.accept_timeout(LONG)).collect();
        let (servers, refused): (Vec<_>, Vec<_>) = accepted.into_iter().partition(Result::is_ok);
        assert_eq!(refused.len(), 1);
        assert!(refused[0].as_ref().is_err_and(Error::is_authentication), "{refused:?}");
        for (i, server) in servers.into_iter().enumerate() {
            assert_eq!(server.unwrap().recv().unwrap(), format!("client {i}"));
        }
        // The oldest were sent away for those who came after them.
        let mut first = &crowd[0];
        first.set_read_timeout(Some(LONG)).unwrap();
        let mut greeting = Vec::new();
        let _ = first.read_to_end(&mut greeting);
        assert_eq!(greeting.len(), 48);
    }

    #[test]
    fn a_service_that_is_something_else_is_named() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| listener.accept().unwrap().0.write_all(b"220 mail\r\n").unwrap());
            let error = connect::<u8, u8>(address, &key()).unwrap_err();
            assert!(error.is_authentication(), "{error}");
            assert!(error.to_string().contains("protocol"), "{error}");
        });
        // One that says nothing, in the system's backlog.
        let error =
            connect_timeout::<u8, u8>(address, &key(), Duration::from_millis(20)).unwrap_err();
        assert!(error.is_timeout(), "{error}");
    }

    #[test]
    fn a_full_backlog_does_not_hold_up_a_connector() {
        // It has room for as many as std asks for, and nobody accepts.
        let path = scratch("backlog");
        let listener = UnixListener::bind(&path).unwrap();
        let key = key();
        let wait = Duration::from_millis(2);
        let mut taken = Vec::new();
        for _ in 0..4300 {
            let address = net::SocketAddr::from_pathname(&path).unwrap();
            match socket::connect_unix(&address, Some(Instant::now() + wait)) {
                Ok(socket) => taken.push(socket),
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                    break;
                }
            }
        }
        let error = connect_timeout::<u8, u8>(path.as_path(), &key, wait).unwrap_err();
        assert!(error.is_timeout(), "{error}");
        drop(listener);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn an_address_in_use_is_an_error_and_a_foreign_file_stays() {
        let path = scratch("use");
        let listener = Listener::bind(path.as_path(), &key()).unwrap();
        let error = Listener::bind(path.as_path(), &key()).unwrap_err();
        assert!(error.to_string().contains("remove the file"), "{error}");
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "somebody else's").unwrap();
        drop(listener);
        assert!(path.exists());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_port_can_be_listened_at_again_at_once() {
        let listener = Listener::bind(Address::tcp("127.0.0.1", 0), &key()).unwrap();
        let address = listener.local_address();
        let client: Client = connect(&address, &key()).unwrap();
        let server = accept(&listener);
        drop((listener, server));
        let listener = Listener::bind(&address, &key()).unwrap();
        drop(client);
        let _client: Client = connect(&address, &key()).unwrap();
        accept(&listener);
    }

    #[test]
    fn a_value_that_can_not_be_encoded_or_decoded_concerns_nobody_else() {
        #[derive(Debug, PartialEq)]
        struct Odd(u8);

        impl serde::Serialize for Odd {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if self.0 == 13 {
                    return Err(serde::ser::Error::custom("unlucky"));
                }
                serializer.serialize_u8(self.0)
            }
        }

        let listener = Listener::bind(name("codec"), &key()).unwrap();
        let client: Connection<Odd, ()> = connect(listener.local_address(), &key()).unwrap();
        let server: Connection<(), bool> = listener.accept_timeout(LONG).unwrap();
        match client.send(Odd(13)) {
            Err(SendError::Failed(value, error)) => {
                assert_eq!(value, Odd(13));
                assert!(error.to_string().contains("unlucky"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        client.send(Odd(2)).unwrap();
        client.send_bytes(&[0; 100]).unwrap();
        client.send(Odd(1)).unwrap();
        let error = server.recv().unwrap_err();
        assert!(matches!(&error, RecvError::Failed(error) if error.to_string().contains("bool")));
        server.set_limit(99);
        assert!(matches!(server.recv(), Err(RecvError::TooLong { length: 100, limit: 99 })));
        assert!(server.recv().unwrap());
        client.send_bytes(b"").unwrap();
        client.send_bytes(b"ab").unwrap();
        assert_eq!(server.recv_bytes().unwrap(), b"");
        assert!(matches!(server.recv_bytes_limit(1), Err(RecvError::TooLong { .. })));
        let late = server.recv_timeout(Duration::from_millis(1)).unwrap_err();
        assert!(Error::from(late).is_timeout());
    }

    #[test]
    fn nothing_shows_a_key_or_a_value() {
        let listener = Listener::bind(name("debug"), &key()).unwrap();
        let client: Client = connect(listener.local_address(), &key()).unwrap();
        let error = SendError::Disconnected("a secret value");
        let shown = format!("{:?} {listener:?} {client:?} {error:?} {error}", key());
        assert!(!shown.contains("secret"), "{shown}");
    }
}

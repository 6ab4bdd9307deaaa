//! The handshake between a listener and who connects: both prove that they know the key.
//!
//! Nothing else crosses before that, and no more bytes are taken than the handshake has. Where there is TLS,
//! this goes on within it, and drives its handshake.
//!
//! ```text
//! both:       greeting   magic, version, role, a fresh nonce          48 bytes, at once
//! connector:  proof      HMAC(key, "connector", both nonces)          32 bytes, on the greeting
//! listener:   verdict    accepted or not, HMAC(key, "listener", ...)  33 bytes, on the proof
//! ```
//!
//! - The connector proves itself first: a stranger who connects learns nothing that the key went into.
//! - The proofs are tagged with the role, so one that is sent back to where it came from doesn't pass; so
//!   is the greeting, to tell this to whoever debugs it. Both nonces go into both, so none passes twice.
//! - The magic and the version come first, and stay what they are in later versions of the protocol, so
//!   that programs with different ones can say so.
//! - A socket takes these few bytes without waiting, or it is given up: only reading waits.
//!
//! A listener drives many of these at a time (`door.rs`), a connector one ([`run`]).

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::duplex::Duplex;
use crate::os::{random, wait};

/// How long a handshake may take, from the peer's first byte or from the listener's `accept`. Between
/// machines far apart it takes less than a second.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(5);

const MAGIC: [u8; 12] = *b"procession\r\n";
const VERSION: u16 = 1;
const NONCE: usize = 32;
const PROOF: usize = 32;
/// Magic, version (two bytes, little-endian), role, a zero, nonce.
const GREETING: usize = 16 + NONCE;
const VERDICT: usize = 1 + PROOF;
const ACCEPTED: u8 = 1;

/// What TLS begins a message with that ends a connection, or begins one.
const ALERT: [u8; 2] = [21, 3];
const HANDSHAKE: [u8; 2] = [22, 3];

type Nonce = [u8; NONCE];
type Prover = Hmac<Sha256>;

/// A secret that both sides know. It can be neither printed nor serialised.
#[derive(Clone)]
pub(crate) struct Key(Box<[u8]>);

impl Key {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.fill(0);
        // So that the compiler doesn't leave out what nobody reads.
        std::hint::black_box(&mut self.0);
    }
}

/// Which side of the handshake this is. The numbers are on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Role {
    Listener = 1,
    Connector = 2,
}

impl Role {
    fn peer(self) -> Self {
        match self {
            Self::Listener => Self::Connector,
            Self::Connector => Self::Listener,
        }
    }

    /// What tells its proofs from those of the other role, of other versions, and of other uses of the
    /// same key.
    fn tag(self) -> &'static [u8] {
        match self {
            Self::Listener => b"procession connection 1: listener",
            Self::Connector => b"procession connection 1: connector",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Listener => "listener",
            Self::Connector => "connector",
        })
    }
}

/// Why there is no authenticated peer.
#[derive(Debug)]
pub(crate) enum AuthError {
    /// The peer has another key.
    WrongKey,
    /// The peer has found that we have another key.
    Refused,
    /// What the peer speaks is something else.
    Stranger,
    /// The peer speaks another version of the protocol.
    Version(u16),
    /// The peer has our role: a listener connected to a listener, or our own bytes came back.
    SameRole(Role),
    /// The peer speaks TLS, and we don't.
    UsesTls,
    /// With the reason, and what to do.
    Tls(String),
    /// The peer went away before the end.
    Disconnected,
    TimedOut,
    System(io::Error),
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongKey => f.write_str("the peer doesn't have the same key"),
            Self::Refused => f.write_str("the peer refused: it doesn't have the same key"),
            Self::Stranger => f.write_str(
                "the peer doesn't speak procession's protocol; is it another service's address?",
            ),
            Self::Version(theirs) => write!(
                f,
                "the peer speaks version {theirs} of procession's protocol, and this program version \
                 {VERSION}; build both with the same release"
            ),
            Self::SameRole(role) => write!(f, "the peer is a {role}, too"),
            Self::UsesTls => f.write_str(
                "the peer uses TLS: either both sides do, or none; see the feature `tls`",
            ),
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::Disconnected => f.write_str("the peer went away before it proved its key"),
            Self::TimedOut => f.write_str("the peer did not prove its key in time"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AuthError {}

impl From<io::Error> for AuthError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Self::Disconnected,
            ErrorKind::InvalidData => Self::Tls(error.to_string()),
            _ => Self::System(error),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Greeting,
    /// The listener waits for it, with the connector's nonce.
    Proof(Nonce),
    /// The connector waits for it, with the listener's nonce.
    Verdict(Nonce),
}

/// One side of a handshake under way.
pub(crate) struct Handshake<'a> {
    stream: Duplex,
    key: &'a Key,
    role: Role,
    nonce: Nonce,
    stage: Stage,
    /// What has arrived of what the stage waits for.
    bytes: [u8; GREETING],
    have: usize,
}

impl<'a> Handshake<'a> {
    /// Greets the peer.
    ///
    /// # Errors
    /// The peer has gone, or the system refuses.
    pub(crate) fn begin(stream: Duplex, role: Role, key: &'a Key) -> Result<Self, AuthError> {
        let nonce = random::bytes()?;
        let handshake = Self {
            stream,
            key,
            role,
            nonce,
            stage: Stage::Greeting,
            bytes: [0; GREETING],
            have: 0,
        };
        let [low, high] = VERSION.to_le_bytes();
        handshake.send(&[&MAGIC, &[low, high, role as u8, 0], &nonce])?;
        Ok(handshake)
    }

    /// Goes on as far as possible without waiting. True: the peer has proved itself.
    ///
    /// # Errors
    /// The peer isn't one.
    pub(crate) fn advance(&mut self) -> Result<bool, AuthError> {
        loop {
            let wanted = match self.stage {
                Stage::Greeting => GREETING,
                Stage::Proof(_) => PROOF,
                Stage::Verdict(_) => VERDICT,
            };
            match (&self.stream).read(&mut self.bytes[self.have..wanted]) {
                Ok(0) => return Err(AuthError::Disconnected),
                Ok(count) => self.have += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            if matches!(self.stage, Stage::Greeting) {
                self.look_at_greeting()?;
            }
            if self.have == wanted {
                self.have = 0;
                if self.end_stage()? {
                    return Ok(true);
                }
            }
        }
    }

    /// A stranger is found out by its first bytes, not when it has sent as many as a greeting has.
    fn look_at_greeting(&self) -> Result<(), AuthError> {
        let have = &self.bytes[..self.have];
        if !MAGIC.starts_with(&have[..have.len().min(MAGIC.len())]) {
            let uses_tls = have.starts_with(&ALERT) || have.starts_with(&HANDSHAKE);
            return Err(if uses_tls { AuthError::UsesTls } else { AuthError::Stranger });
        }
        let Some(&[low, high, role, _]) = have.get(MAGIC.len()..GREETING - NONCE) else {
            return Ok(());
        };
        let version = u16::from_le_bytes([low, high]);
        if version != VERSION {
            return Err(AuthError::Version(version));
        }
        if role == self.role as u8 {
            return Err(AuthError::SameRole(self.role));
        }
        Ok(())
    }

    /// All bytes of the stage are there. True: it was the last.
    fn end_stage(&mut self) -> Result<bool, AuthError> {
        match self.stage {
            Stage::Greeting => {
                let nonce = *self.bytes.last_chunk().expect("a greeting ends with a nonce");
                self.stage = match self.role {
                    Role::Listener => Stage::Proof(nonce),
                    Role::Connector => {
                        let proof = self.prover(self.role, &nonce).finalize().into_bytes();
                        self.send(&[&proof])?;
                        Stage::Verdict(nonce)
                    }
                };
                Ok(false)
            }
            Stage::Proof(nonce) => {
                if !self.is_proved(&self.bytes[..PROOF], &nonce) {
                    // It is an error anyway; the peer is told if it can be.
                    let _ = self.send(&[&[0; VERDICT]]);
                    return Err(AuthError::WrongKey);
                }
                let proof = self.prover(self.role, &nonce).finalize().into_bytes();
                self.send(&[&[ACCEPTED], &proof])?;
                Ok(true)
            }
            Stage::Verdict(nonce) => {
                if self.bytes[0] != ACCEPTED {
                    return Err(AuthError::Refused);
                }
                if !self.is_proved(&self.bytes[1..VERDICT], &nonce) {
                    return Err(AuthError::WrongKey);
                }
                Ok(true)
            }
        }
    }

    /// Whether `proof` is what a peer with our key and this nonce would have sent. It takes the same time
    /// wherever the proof is wrong.
    fn is_proved(&self, proof: &[u8], nonce: &Nonce) -> bool {
        self.prover(self.role.peer(), nonce).verify_slice(proof).is_ok()
    }

    fn prover(&self, role: Role, peers_nonce: &Nonce) -> Prover {
        let (listeners, connectors) = match self.role {
            Role::Listener => (&self.nonce, peers_nonce),
            Role::Connector => (peers_nonce, &self.nonce),
        };
        Prover::new_from_slice(&self.key.0)
            .expect("HMAC takes keys of any length")
            .chain_update(role.tag())
            .chain_update(listeners)
            .chain_update(connectors)
    }

    fn send(&self, parts: &[&[u8]]) -> Result<(), AuthError> {
        let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if self.stream.send(&slices)? < length {
            return Err(AuthError::System(ErrorKind::WriteZero.into()));
        }
        Ok(())
    }

    /// Whether the peer has sent anything.
    fn has_begun(&self) -> bool {
        self.have > 0 || !matches!(self.stage, Stage::Greeting)
    }

    pub(crate) fn into_stream(self) -> Duplex {
        self.stream
    }
}

impl AsFd for Handshake<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Does a whole handshake: the peer has until `deadline` to begin, and [`TIME_LIMIT`] from then on.
///
/// # Errors
/// The peer isn't one, or not in time.
pub(crate) fn run(
    stream: Duplex,
    role: Role,
    key: &Key,
    deadline: Option<Instant>,
) -> Result<Duplex, AuthError> {
    let mut handshake = Handshake::begin(stream, role, key)?;
    let mut deadline = deadline;
    let mut begun = false;
    while !handshake.advance()? {
        if !begun && handshake.has_begun() {
            begun = true;
            let limit = Instant::now() + TIME_LIMIT;
            deadline = Some(deadline.map_or(limit, |deadline| deadline.min(limit)));
        }
        if !wait::readable(handshake.as_fd(), deadline)? {
            return Err(AuthError::TimedOut);
        }
    }
    Ok(handshake.into_stream())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(60))
    }

    type Side = Result<(), AuthError>;

    /// Two ends of a stream.
    fn pair() -> (Duplex, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Duplex::plain(ours).unwrap(), theirs)
    }

    /// What the listener and the connector make of each other.
    fn meet(listeners: &Key, connectors: &Key) -> (Side, Side) {
        let (left, right) = pair();
        let right = Duplex::plain(right).unwrap();
        thread::scope(|scope| {
            let listener = scope.spawn(|| run(left, Role::Listener, listeners, soon()).map(drop));
            let connector = run(right, Role::Connector, connectors, soon()).map(drop);
            (listener.join().unwrap(), connector)
        })
    }

    /// What `role` makes of a peer that sends these bytes and no more.
    fn face(role: Role, bytes: &[u8]) -> Result<Duplex, AuthError> {
        let (ours, mut theirs) = pair();
        theirs.write_all(bytes).unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        run(ours, role, &Key::new(b"key"), soon())
    }

    fn greeting(role: Role) -> Vec<u8> {
        [&MAGIC[..], &VERSION.to_le_bytes(), &[role as u8, 0], &[7; NONCE]].concat()
    }

    #[test]
    fn the_same_key_opens_on_both_sides() {
        for key in [&b"k"[..], &[0; 32], &[255; 1000]] {
            let (listener, connector) = meet(&Key::new(key), &Key::new(key));
            listener.unwrap();
            connector.unwrap();
        }
    }

    #[test]
    fn another_key_is_an_error_on_both_sides() {
        let (listener, connector) = meet(&Key::new(b"key"), &Key::new(b"other"));
        assert!(matches!(listener, Err(AuthError::WrongKey)), "{listener:?}");
        assert!(matches!(connector, Err(AuthError::Refused)), "{connector:?}");
    }

    #[test]
    fn what_follows_the_handshake_is_left_in_the_socket() {
        let key = Key::new(b"key");
        let (left, right) = pair();
        let right = Duplex::plain(right).unwrap();
        let right = thread::scope(|scope| {
            let listener = scope.spawn(|| run(left, Role::Listener, &key, soon()));
            let connector = run(right, Role::Connector, &key, soon()).unwrap();
            assert_eq!(connector.send(&[IoSlice::new(b"payload")]).unwrap(), 7);
            drop(connector);
            listener.join().unwrap().unwrap()
        });
        let mut rest = String::new();
        (&right).read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "payload");
    }

    #[test]
    fn a_listener_that_only_says_yes_is_found_out() {
        let yes = [greeting(Role::Listener), vec![ACCEPTED; VERDICT]].concat();
        assert!(matches!(face(Role::Connector, &yes), Err(AuthError::WrongKey)));
    }

    /// A peer without the key sends everything back to where it came from.
    #[test]
    fn reflected_bytes_prove_nothing() {
        for role in [Role::Listener, Role::Connector] {
            // The greeting is made the peer's; the proofs can't be.
            let (ours, theirs) = pair();
            let key = Key::new(b"key");
            let result = thread::scope(|scope| {
                scope.spawn(move || {
                    let mut bytes = [0; GREETING];
                    (&theirs).read_exact(&mut bytes).unwrap();
                    bytes[MAGIC.len() + 2] = role.peer() as u8;
                    (&theirs).write_all(&bytes).unwrap();
                    let mut proof = [0; PROOF];
                    if role == Role::Connector {
                        (&theirs).read_exact(&mut proof).unwrap();
                        (&theirs).write_all(&[ACCEPTED]).unwrap();
                    }
                    (&theirs).write_all(&proof).unwrap();
                });
                run(ours, role, &key, soon())
            });
            assert!(matches!(result, Err(AuthError::WrongKey)), "{result:?}");
            let same = face(role, &greeting(role));
            assert!(matches!(same, Err(AuthError::SameRole(_))), "{same:?}");
        }
    }

    #[test]
    fn the_proof_of_one_handshake_does_not_pass_in_another() {
        let key = Key::new(b"key");
        let (ours, theirs) = pair();
        let mut first = Handshake::begin(ours, Role::Connector, &key).unwrap();
        (&theirs).write_all(&greeting(Role::Listener)).unwrap();
        assert!(!first.advance().unwrap());
        let mut said = [0; GREETING + PROOF];
        (&theirs).read_exact(&mut said).unwrap();
        let again = face(Role::Listener, &said);
        assert!(matches!(again, Err(AuthError::WrongKey)), "{again:?}");
    }

    #[test]
    fn other_protocols_and_versions_are_named() {
        for role in [Role::Listener, Role::Connector] {
            // A TLS alert, and the begin of its handshake.
            for tls in [&[21, 3, 3, 0, 2, 2, 10][..], &[22, 3, 1, 2, 0]] {
                let result = face(role, tls);
                assert!(matches!(result, Err(AuthError::UsesTls)), "{result:?}");
            }
            for stranger in [&b"GET / HTTP/1.1\r\n"[..], b"S", b"procession!", &[0; 100]] {
                let result = face(role, stranger);
                assert!(matches!(result, Err(AuthError::Stranger)), "{result:?}");
            }
            let mut newer = greeting(role.peer());
            newer[MAGIC.len()] = 9;
            let error = face(role, &newer[..16]).unwrap_err();
            assert!(error.to_string().contains("version 9 "), "{error}");
        }
    }

    #[test]
    fn a_peer_that_stops_anywhere_is_gone() {
        for role in [Role::Listener, Role::Connector] {
            let whole = [greeting(role.peer()), vec![0; VERDICT]].concat();
            for cut in 0..GREETING + PROOF {
                let result = face(role, &whole[..cut]);
                assert!(matches!(result, Err(AuthError::Disconnected)), "{cut}: {result:?}");
            }
        }
    }

    #[test]
    fn a_peer_that_says_nothing_is_late() {
        let (ours, _theirs) = pair();
        let deadline = Instant::now() + Duration::from_millis(20);
        let result = run(ours, Role::Connector, &Key::new(b"key"), Some(deadline));
        assert!(matches!(result, Err(AuthError::TimedOut)), "{result:?}");
        assert!(Instant::now() >= deadline);
    }

    /// Random bytes, and a true greeting with random changes and a random end.
    #[test]
    fn nothing_but_the_key_opens() {
        let mut state = 1_u64;
        let mut random = move |end: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % end
        };
        for round in 0..4000 {
            let role = [Role::Listener, Role::Connector][round % 2];
            let mut bytes: Vec<u8> = (0..random(200)).map(|_| random(256) as u8).collect();
            if random(4) > 0 {
                bytes.splice(..0, greeting(role.peer()));
            }
            for _ in 0..random(3) {
                let at = random(bytes.len().max(1));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random(256) as u8;
                }
            }
            face(role, &bytes).unwrap_err();
        }
    }
}

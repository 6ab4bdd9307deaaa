//! What client and server say through a socket, behind the handshake.
//!
//! ```text
//! server    magic 8 bytes | Welcome, encoded      at once
//! client    Hello, encoded
//! server    Entered, encoded
//! client    REQUEST u8 | request, as in protocol.rs
//! server    reply | ( object u64 | class u64 )* | count u32
//! client    RELEASE u8 | ( object u64 | count u64 )*                      has no reply
//!           CLAIM u8   | ticket of another session 16 bytes | object u64
//! server    as to a request; nothing but the count if it isn't to be had
//! ```
//!
//! The objects behind a reply are those in it, with the [fingerprint](crate::manage::class::fingerprint) of
//! their class. Each time that one is there, the client has it once more, and
//! it releases as many.

use std::io;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};
use serde::{Deserialize as FromBytes, Serialize as ToBytes};

use crate::manage::protocol::Breach;
use crate::os::random;
use crate::shm::heap::Id;
use crate::transport::auth::Key;
use crate::transport::codec::{self, passing};
use crate::transport::hello::Build;
use crate::transport::place::Place;
use crate::transport::tls;

pub(super) const REQUEST: u8 = 0;
pub(super) const RELEASE: u8 = 1;
pub(super) const CLAIM: u8 = 2;

/// Tells a manager from a listener with the same key, and versions of this from each other.
const MAGIC: [u8; 8] = *b"manager\x01";

/// No greeting is longer.
pub(super) const SHORT: u64 = 64 * 1024;

/// Names a session. Who knows it can go on with it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, ToBytes, FromBytes)]
pub(crate) struct Ticket([u8; 16]);

impl Ticket {
    pub(super) fn random() -> io::Result<Self> {
        random::bytes().map(Self)
    }
}

#[derive(Clone, Debug, ToBytes, FromBytes)]
pub(super) enum Welcome {
    Come(About),
    /// With the reason.
    Refused(String),
}

/// What a client is told of its server.
#[derive(Clone, Debug, ToBytes, FromBytes)]
pub(crate) struct About {
    pub(crate) pid: u32,
    pub(crate) build: Build,
    /// How long a message may be.
    pub(crate) longest: u64,
}

#[derive(ToBytes, FromBytes)]
pub(super) struct Hello {
    /// The one to go on with.
    pub(super) session: Option<Ticket>,
}

#[derive(ToBytes, FromBytes)]
pub(super) struct Entered {
    pub(super) session: Ticket,
}

pub(super) fn welcome(welcome: &Welcome) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    codec::encode(welcome, &mut bytes).expect("texts and numbers can be encoded");
    bytes
}

/// None: it is no manager that says this.
pub(super) fn parse_welcome(bytes: &[u8]) -> Option<Welcome> {
    codec::decode(bytes.strip_prefix(&MAGIC)?).ok()
}

pub(super) fn encoded(value: &impl ToBytes) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes).expect("numbers can be encoded");
    bytes
}

/// What stands behind a reply.
pub(super) fn tail(objects: &[(Id, u64)]) -> Vec<u8> {
    let count = (objects.len() as u32).to_le_bytes();
    let mut bytes = Vec::with_capacity(4 + 16 * objects.len());
    for (id, class) in objects {
        bytes.extend_from_slice(&id.to_bits().to_le_bytes());
        bytes.extend_from_slice(&class.to_le_bytes());
    }
    bytes.extend_from_slice(&count);
    bytes
}

/// Takes the objects behind a reply off: each with its class.
pub(super) fn take_tail(bytes: &mut Vec<u8>) -> Result<Vec<(Id, u64)>, Breach> {
    let (rest, count) = bytes.split_last_chunk().ok_or(Breach)?;
    let length = (u32::from_le_bytes(*count) as usize).checked_mul(16).ok_or(Breach)?;
    let start = rest.len().checked_sub(length).ok_or(Breach)?;
    let objects = pairs_in(&rest[start..]).collect::<Result<_, _>>()?;
    bytes.truncate(start);
    Ok(objects)
}

/// Appends an object, and how many times it is released.
pub(super) fn release(bytes: &mut Vec<u8>, id: Id, count: u64) {
    bytes.extend_from_slice(&id.to_bits().to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
}

/// Objects with a number each.
pub(super) fn pairs_in(bytes: &[u8]) -> impl Iterator<Item = Result<(Id, u64), Breach>> {
    bytes.chunks(16).map(|pair| {
        let (id, number) = pair.split_first_chunk().ok_or(Breach)?;
        let id = Id::from_bits(u64::from_le_bytes(*id)).ok_or(Breach)?;
        Ok((id, u64::from_le_bytes(number.try_into().map_err(|_| Breach)?)))
    })
}

pub(super) fn claim(ticket: Ticket, id: Id) -> Vec<u8> {
    [&[CLAIM][..], &ticket.0, &id.to_bits().to_le_bytes()].concat()
}

pub(super) fn parse_claim(bytes: &[u8]) -> Result<(Ticket, Id), Breach> {
    let (ticket, id) = bytes.split_first_chunk().ok_or(Breach)?;
    let id = u64::from_le_bytes(id.try_into().map_err(|_| Breach)?);
    Ok((Ticket(*ticket), Id::from_bits(id).ok_or(Breach)?))
}

/// Where a server is reached, and the key. It travels within the family alone.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) place: Place,
    pub(crate) key: Key,
    /// If the server uses it.
    pub(crate) tls: Option<tls::Client>,
}

impl Target {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.place == other.place && self.key.bytes() == other.key.bytes() && self.tls == other.tls
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !passing::is_collecting() {
            return Err(S::Error::custom("a manager's key is for processes of this program alone"));
        }
        (&self.place, self.key.bytes(), &self.tls).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (place, key, tls) = <(Place, Vec<u8>, Option<tls::Client>)>::deserialize(deserializer)?;
        if !passing::is_receiving() {
            return Err(D::Error::custom(
                "a manager's key comes from processes of this program alone",
            ));
        }
        Ok(Self { place, key: Key::new(&key), tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Id = Id { index: 3, generation: 7 };

    #[test]
    fn tails_and_claims_are_read_as_written() {
        let mut bytes = b"reply".to_vec();
        bytes.extend(tail(&[(ID, 5), (ID, 6)]));
        assert_eq!(take_tail(&mut bytes).unwrap(), [(ID, 5), (ID, 6)]);
        assert_eq!(bytes, b"reply");
        let ticket = Ticket::random().unwrap();
        let claim = claim(ticket, ID);
        assert!(parse_claim(&claim[1..]).unwrap() == (ticket, ID));
    }

    #[test]
    fn wrong_bytes_are_breaches() {
        for bytes in [&[][..], &[1, 0, 0, 0], &[255; 40], &[0, 0, 0, 0, 0, 1, 0, 0, 0]] {
            assert_eq!(take_tail(&mut bytes.to_vec()), Err(Breach));
        }
        assert!(pairs_in(&[7; 17]).any(|pair| pair.is_err()));
        assert_eq!(pairs_in(&[0; 16]).next(), Some(Err(Breach)), "no object has the number 0");
        assert!(parse_claim(&[1; 23]).is_err() && parse_claim(&[1; 25]).is_err());
        assert!(parse_welcome(b"another service").is_none());
    }

    #[test]
    fn a_key_stays_in_the_family() {
        let target =
            Target { place: Place::Abstract(vec![1]), key: Key::new(b"secret"), tls: None };
        let mut bytes = Vec::new();
        assert!(codec::encode(&target, &mut bytes).is_err());
        passing::collecting(|| codec::encode(&target, &mut bytes)).0.unwrap();
        assert!(codec::decode::<Target>(&bytes).is_err());
        let same = passing::receiving(|| codec::decode::<Target>(&bytes)).unwrap();
        assert_eq!((same.place, same.key.bytes()), (target.place.clone(), &b"secret"[..]));
    }
}

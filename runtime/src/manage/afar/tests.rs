//! What clients afar may send: anything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::Client;
use super::peer::{self, Peer};
use super::session::Sessions;
use super::wire::{self, Hello, Ticket};
use crate::manage::call;
use crate::manage::class::{Class, Made, Managed};
use crate::manage::handle::{self, Handle, Way};
use crate::manage::maker::{self, Maker};
use crate::manage::protocol;
use crate::manage::server;
use crate::manage::tests::{target, way};
use crate::shm::heap::Id;
use crate::transport::auth::{self, Role};
use crate::transport::duplex::Duplex;
use crate::transport::link::{Link, LinkError};
use crate::transport::place;
use crate::transport::stream::StreamLink;

/// A small linear congruential generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    /// Changes some bytes, and the length maybe.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len().max(1));
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.below(256) as u8),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                3 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                _ if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
    }
}

/// What clients may have made.
struct Thing;

impl Managed for Thing {
    type Proxy = ();

    const CLASS: Class<Self> = Class::new("Thing", &[]);
}

impl From<u64> for Thing {
    fn from(_: u64) -> Self {
        Self
    }
}

/// One of each kind.
fn requests(object: Id) -> Vec<Vec<u8>> {
    let mut call = Vec::new();
    protocol::call(&mut call, object, 3);
    call.extend_from_slice(b"arguments");
    let mut batch = Vec::new();
    protocol::batch(&mut batch);
    for method in 0..4 {
        let encode = |out: &mut Vec<u8>| call::encode(&(5_u64, "text"), out);
        protocol::batched(&mut batch, object, method, encode).unwrap();
    }
    let mut construct = Vec::new();
    protocol::construct(&mut construct, 0, 0);
    construct.push(7);
    let (mut name, mut unname, mut find) = (Vec::new(), Vec::new(), Vec::new());
    protocol::name(&mut name, object, "name");
    protocol::unname(&mut unname, "name");
    protocol::find(&mut find, maker::Name::NONE, "name");
    let mut make = Vec::new();
    protocol::make(&mut make, Maker::of::<Thing, u64>().name());
    call::encode(&(5_u64,), &mut make).unwrap();
    vec![call, batch, construct, name, unname, find, make]
}

#[test]
fn any_bytes_are_answered_or_a_breach() {
    let _serves = way();
    let server = server::here().unwrap();
    let sessions = Sessions::new(Duration::ZERO, 1 << 20);
    let attached = sessions.enter(None).unwrap();
    let session = attached.session();
    let mine = Handle::here(server, server.table().insert(Made::new(Thing)).unwrap());
    session.give(std::slice::from_ref(&mine));
    let mut requests = requests(Id { index: 5, generation: 1 });
    requests.extend(self::requests(mine.id()));
    let mut random = Random(0x5eed);
    let (mut answered, mut breaches, mut given) = (0, 0, 0);
    for i in 0..20_000 {
        let mut request = requests[i % requests.len()].clone();
        // Some are as they should be.
        if random.below(8) > 0 {
            random.mutate(&mut request);
        }
        let mut reply = Vec::new();
        let peer = Some(Peer::Session(Arc::clone(session)));
        match peer::with(peer, || server.answer(&request, &mut reply, Some(session))) {
            Ok(held) => {
                assert!(held.objects.is_empty(), "what the family shares never leaves it");
                session.give(&held.handles);
                (answered, given) = (answered + 1, given + held.handles.len());
            }
            Err(protocol::Breach) => breaches += 1,
        }
    }
    assert!(
        answered > 1000 && breaches > 1000 && given > 100,
        "{answered}, {breaches} and {given}"
    );
    for length in 0..2000 {
        let mut bytes: Vec<_> = (0..length % 60).map(|_| random.below(256) as u8).collect();
        let _ = wire::parse_claim(&bytes);
        let _ = wire::parse_welcome(&bytes);
        let _ = wire::pairs_in(&bytes).count();
        let _ = wire::take_tail(&mut bytes);
    }
}

fn link() -> StreamLink {
    let target = target();
    let deadline = Some(Instant::now() + Duration::from_secs(10));
    let socket = place::reach(&target.place, deadline).unwrap();
    let stream = Duplex::plain(socket).unwrap();
    let stream = auth::run(stream, Role::Connector, &target.key, deadline).unwrap();
    let link = StreamLink::over(stream);
    assert!(wire::parse_welcome(&link.receive(1000, deadline).unwrap()).is_some());
    link
}

#[test]
fn forged_messages_cost_their_connection_alone() {
    let _serves = way();
    let client = Client::of(target());
    let afar = Way::Afar(Arc::clone(&client));
    let mut messages = vec![
        wire::claim(Ticket::random().unwrap(), Id { index: 5, generation: 1 }),
        vec![wire::RELEASE; 17],
    ];
    for mut request in requests(Id { index: 5, generation: 1 }) {
        request.insert(0, wire::REQUEST);
        messages.push(request);
    }
    let mut random = Random(0xf00d);
    let deadline = || Some(Instant::now() + Duration::from_secs(10));
    for i in 0..300 {
        let link = link();
        link.send(&[&wire::encoded(&Hello { session: None })], deadline()).unwrap();
        link.receive(100, deadline()).unwrap();
        for _ in 0..20 {
            let mut message = messages[i % messages.len()].clone();
            random.mutate(&mut message);
            let is_release = message.first() == Some(&wire::RELEASE);
            if link.send(&[&message], deadline()).is_err() {
                break;
            }
            match link.receive(1 << 20, if is_release { Some(Instant::now()) } else { deadline() })
            {
                Ok(_) => {}
                Err(LinkError::TimedOut) if is_release => {}
                Err(LinkError::Disconnected) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(handle::unname(&afar, "nothing has this name"), Ok(false));
    }
}

#[test]
fn a_session_is_gone_on_with_by_its_ticket_until_it_is_over() {
    let sessions = Sessions::new(Duration::ZERO, 1 << 20);
    let first = sessions.enter(None).unwrap();
    let (ticket, number) = (first.session().ticket(), first.session().number());
    let second = sessions.enter(Some(ticket)).unwrap();
    assert_eq!(second.session().number(), number);
    drop(first);
    assert!(!sessions.sweep(Instant::now()), "one connection is there");
    drop(second);
    assert!(sessions.has(number));
    assert!(sessions.sweep(Instant::now()) && !sessions.has(number));
    let third = sessions.enter(Some(ticket)).unwrap();
    assert_ne!(third.session().number(), number);
    sessions.close();
    assert!(sessions.enter(None).is_err(), "the server ends");
}

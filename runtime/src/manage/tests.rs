//! A server in this process, and clients that forge what they send.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use super::afar::host::{Limits, Listen};
use super::afar::wire::Target;
use super::client::Client;
use super::front::Front;
use super::handle::{self, Way};
use super::protocol;
use super::server;
use crate::shm::channel::Patience;
use crate::shm::heap::Id;
use crate::transport::auth::Key;
use crate::transport::pipe::Pipe;
use crate::transport::place::Place;

/// Where it listens, too.
pub(super) fn target() -> Target {
    let name = format!("procession unit tests {}", std::process::id());
    let (place, key) = (Place::Abstract(name.into_bytes()), Key::new(b"a key of these tests"));
    Target { place, key, tls: None }
}

fn listen() -> Listen {
    let (time, grace) = (Duration::from_secs(5), Duration::ZERO);
    let limits = Limits { connections: 100, message: 1 << 20, time, grace };
    Listen { target: target(), tls: None, limits }
}

/// The way to the server, which serves as long as the tests run.
pub(super) fn way() -> Way {
    static FRONT: OnceLock<crate::shm::heap::Object> = OnceLock::new();
    let object = FRONT.get_or_init(|| {
        let front = Front::create().unwrap();
        let object = front.object().clone();
        thread::spawn(move || server::serve(front, Some(listen()), None).unwrap());
        let begin = Instant::now();
        let served = Front::open(object.clone()).unwrap();
        while served.reception().server().is_none() {
            assert!(begin.elapsed() < Duration::from_secs(10));
            thread::yield_now();
        }
        object
    });
    Way::There(Client::of(object.clone()).unwrap())
}

fn front() -> Front {
    let Way::There(client) = way() else { unreachable!("that is what it is") };
    Front::open(client.front().object().clone()).unwrap()
}

fn double(number: u64) -> u64 {
    2 * number
}

#[track_caller]
fn assert_serves() {
    let begin = Instant::now();
    assert_eq!(handle::run(&way(), &double, &(21,)), Ok(42));
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

fn send(pipe: &Pipe, bytes: &[u8]) {
    let _ = pipe.outgoing().send(bytes, &[], Patience::None);
    front().reception().arrivals.ring(1);
}

#[track_caller]
fn assert_ends(pipe: &Pipe) {
    let begin = Instant::now();
    while !pipe.incoming().ring().is_closed() {
        assert!(begin.elapsed() < Duration::from_secs(10), "the connection goes on");
        thread::yield_now();
    }
}

#[test]
fn garbage_ends_its_connection_alone() {
    let front = front();
    let object = Id { index: 77, generation: 1 };
    let mut truncated = Vec::new();
    protocol::batch(&mut truncated);
    protocol::batched(&mut truncated, object, 1, |out| {
        out.extend_from_slice(b"arguments");
        Ok(())
    })
    .unwrap();
    truncated.pop();
    for garbage in [&[][..], &[0], &[9; 40], &[1, 2, 3], &truncated] {
        let pipe = front.connect().unwrap();
        send(&pipe, garbage);
        assert_ends(&pipe);
        assert_serves();
    }
    // A call of what isn't there is an answer, not an end.
    let pipe = front.connect().unwrap();
    let mut call = Vec::new();
    protocol::call(&mut call, object, 3);
    send(&pipe, &call);
    let mut reply = Vec::new();
    pipe.incoming().receive(&mut reply, Patience::of(None)).unwrap();
    assert_eq!(protocol::result(&reply), Err(protocol::Fault::Gone));
}

#[test]
fn whoever_sends_on_without_an_answer_is_answered_as_long_as_there_is_room() {
    let pipe = front().connect().unwrap();
    let mut call = Vec::new();
    protocol::call(&mut call, Id { index: 77, generation: 1 }, 3);
    let begin = Instant::now();
    // It never takes an answer: when there is no room for one any more, that is its end.
    while !pipe.incoming().ring().is_closed() {
        send(&pipe, &call);
        assert!(begin.elapsed() < Duration::from_secs(30), "the connection goes on");
    }
    assert_serves();
}

/// Any words of the two rings.
#[test]
fn forged_rings_cost_their_connection_alone() {
    let mut seed = 0x1234_5678_9abc_def0_u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed >> 33
    };
    for _ in 0..200 {
        let pipe = front().connect().unwrap();
        let mut call = Vec::new();
        protocol::call(&mut call, Id { index: 77, generation: 1 }, 3);
        send(&pipe, &call);
        let object = pipe.outgoing().object();
        let words = object.words(object.bytes() / 8).unwrap();
        for _ in 0..random() % 8 {
            let word = &words[random() as usize % words.len()];
            let value = match random() % 3 {
                0 => random(),
                1 => random() << 32 | random(),
                _ => word.load(Relaxed) ^ 1 << (random() % 64),
            };
            word.store(value, Relaxed);
        }
        send(&pipe, &call);
        assert_serves();
    }
}

#[test]
fn garbage_at_the_front_is_skipped() {
    let front = front();
    for garbage in [&[][..], &[0, 1, 2], &[1], &[7; 20], &[1, 0, 0, 0, 0, 0, 0, 0, 0]] {
        front.send(garbage);
        assert_serves();
        let pipe = front.connect().unwrap();
        send(&pipe, &[99]);
        assert_ends(&pipe);
    }
}

//! A client that has proved the key, and sends anything to the objects that it was given.
//!
//! `PROCESSION_REQUESTS` says how many requests, `PROCESSION_SEED` which.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::HashMap;
use std::env;
use std::time::Duration;

use procession::{Address, AuthKey, Connection, Dict, List, Manager, Value, connect, managed};
use procession_tests::kills::Random;
use procession_tests::{alone, heap_objects, is_running, wait_until};

/// A type under the attribute.
#[derive(Default)]
struct Shelf {
    books: Vec<(String, u64)>,
}

#[managed]
impl Shelf {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn put(&mut self, title: String, pages: u64) -> usize {
        self.books.push((title, pages));
        self.books.len()
    }

    /// Panics if there are less.
    pub fn titles(&self, count: usize) -> Vec<String> {
        self.books[..count].iter().map(|(title, _)| title.clone()).collect()
    }
}

const NAMES: [&str; 10] = [
    "dict",
    "list",
    "queue",
    "joinable",
    "value",
    "lock",
    "event",
    "semaphore",
    "barrier",
    "shelf",
];

/// What methods take in front of their arguments: what does harm at once, and what doesn't.
const BYTES: [u8; 8] = [0, 1, 1, 2, 3, 5, 0x80, 0xff];

fn key() -> AuthKey {
    AuthKey::new("a secret of these tests")
}

/// A connection that has a session, and a number for each of the objects.
struct Guest {
    connection: Connection<(), ()>,
    ids: Vec<[u8; 8]>,
}

impl Guest {
    fn new(address: &Address) -> Self {
        let connection: Connection<(), ()> = connect(address, &key()).unwrap();
        assert!(connection.recv_bytes().unwrap().starts_with(b"manager"));
        connection.send_bytes(&[0]).unwrap();
        assert_eq!(connection.recv_bytes().unwrap().len(), 16, "a ticket");
        let find = |name: &str| {
            let request = [&[0, 8][..], &[0; 16], name.as_bytes()].concat();
            connection.send_bytes(&request).unwrap();
            let reply = connection.recv_bytes().unwrap();
            let (reply, count) = reply.split_last_chunk::<4>().unwrap();
            assert_eq!(*count, [1, 0, 0, 0], "{name}: one object");
            let object = reply.last_chunk::<16>().unwrap();
            *object.first_chunk().unwrap()
        };
        let ids = NAMES.iter().map(|name| find(name)).collect();
        Self { connection, ids }
    }

    /// What came of it. None: the connection has ended, or nothing comes.
    fn ask(&self, request: &[u8]) -> Option<u8> {
        self.connection.send_bytes(request).ok()?;
        if request.first() == Some(&1) {
            return Some(u8::MAX);
        }
        if !self.connection.poll(Duration::from_millis(20)) {
            return None;
        }
        self.connection.recv_bytes().ok()?.first().copied()
    }
}

fn arguments(random: &mut Random) -> Vec<u8> {
    let length = random.below(8);
    (0..length).map(|_| BYTES[random.below(8) as usize]).collect()
}

/// A request, or something like it.
fn request(random: &mut Random, ids: &[[u8; 8]]) -> Vec<u8> {
    let call = |random: &mut Random| {
        let mut bytes = ids[random.below(ids.len() as u64) as usize].to_vec();
        let method = match random.below(30) {
            25.. => u16::MAX,
            method => method as u16,
        };
        bytes.extend(method.to_le_bytes());
        bytes
    };
    let mut bytes = vec![0];
    match random.below(10) {
        0 => {
            bytes.push(2);
            for _ in 0..random.below(5) {
                bytes.extend(call(random));
                let arguments = arguments(random);
                bytes.extend((arguments.len() as u32).to_le_bytes());
                bytes.extend(arguments);
            }
        }
        1 => {
            bytes.extend([3, random.below(3) as u8, 0, 0, 0, random.below(3) as u8, 0]);
            bytes.extend(arguments(random));
        }
        2 => {
            bytes.push(6);
            bytes.extend(&call(random)[..8]);
            bytes.extend(b"guest");
        }
        3 => bytes.extend(b"\x07guest"),
        // So many times released as it never was given.
        4 => {
            bytes[0] = 1;
            bytes.extend(&call(random)[..8]);
            bytes.extend(random.below(3).to_le_bytes());
        }
        _ => {
            bytes.push(1);
            bytes.extend(call(random));
            // An argument may be an object's number, too.
            if random.below(4) == 0 {
                bytes.extend(&call(random)[..8]);
            }
            bytes.extend(arguments(random));
        }
    }
    // But not to give a name that nobody knows, which would keep the object.
    let at = random.below(20 * bytes.len() as u64) as usize;
    if at < bytes.len() && at != 1 && !bytes.ends_with(b"guest") {
        bytes[at] ^= 1 << random.below(8);
    }
    bytes
}

fn name_all(manager: &Manager) {
    manager.name("dict", &manager.dict::<u64, Vec<u8>>().unwrap()).unwrap();
    let list: List<Value<u8>> = manager.list(vec![manager.value(1).unwrap()]).unwrap();
    manager.name("list", &list).unwrap();
    manager.name("queue", &manager.queue::<String>(Some(3)).unwrap()).unwrap();
    manager.name("joinable", &manager.joinable_queue::<u8>(None).unwrap()).unwrap();
    manager.name("value", &manager.value(Some(5_u32)).unwrap()).unwrap();
    manager.name("lock", &manager.lock().unwrap()).unwrap();
    manager.name("event", &manager.event().unwrap()).unwrap();
    manager.name("semaphore", &manager.semaphore(2).unwrap()).unwrap();
    manager.name("barrier", &manager.barrier(2).unwrap()).unwrap();
    manager.name("shelf", &ShelfProxy::new(manager).unwrap()).unwrap();
}

#[test]
fn whatever_a_client_sends_the_server_serves_on() {
    alone(|| {
        let count = env::var("PROCESSION_REQUESTS").ok().and_then(|count| count.parse().ok());
        let count = count.unwrap_or(4000);
        let mut random = Random::new();
        let address = Address::abstract_name(format!("fuzz-{}", std::process::id()));
        let manager = Manager::builder()
            .bind(&address)
            .auth_key(&key())
            .grace(Duration::from_millis(100))
            .max_message(1 << 20)
            .build()
            .unwrap();
        let before = heap_objects();
        name_all(&manager);
        let good = Manager::connect(&address, &key()).unwrap();
        let mine: Dict<u64, u64> = good.dict().unwrap();
        let mut guest = Guest::new(&address);
        let mut outcomes = HashMap::new();
        for i in 0..count {
            let outcome = guest.ask(&request(&mut random, &guest.ids));
            *outcomes.entry(outcome).or_insert(0) += 1;
            // A release of all that it had leaves it with nothing.
            if outcome.is_none() || i % 50 == 0 {
                guest = Guest::new(&address);
            }
            if i % 100 == 0 {
                assert_eq!(mine.insert(0, i).unwrap(), i.checked_sub(100));
            }
        }
        println!("{count} requests: {outcomes:?}");
        assert!(is_running(manager.pid()));
        let of = |outcome| outcomes.get(&outcome).copied().unwrap_or(0);
        assert!(of(Some(0)) > count / 50 && of(Some(1)) > count / 50, "{outcomes:?}");
        drop((guest, mine, good));
        let _ = manager.unname("guest").unwrap();
        for name in NAMES {
            assert!(manager.unname(name).unwrap());
        }
        wait_until("nothing is left", || heap_objects() <= before);
    });
}

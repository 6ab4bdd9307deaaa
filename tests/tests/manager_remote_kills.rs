//! Clients and servers of managers afar that are killed at any instant: no object is leaked, nobody hangs, and
//! who is left is told.
//!
//! `PROCESSION_KILLS` says how many are killed, `PROCESSION_SEED` when.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::process;
use std::time::{Duration, SystemTime};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::manager::Event;
use procession::{
    Address, AuthKey, Dict, List, Manager, ManagerError, Process, Queue, Value, task,
};
use procession_tests::kills::{Count, Random, kill_and_replace};
use procession_tests::scratch::Scratch;
use procession_tests::{alone, heap_objects, is_running, wait_until};

/// What clients find by its name.
type Nested = Dict<u32, List<Value<u32>>>;

/// How long a server keeps what a client had that doesn't come back.
const GRACE: Duration = Duration::from_millis(200);

fn key() -> AuthKey {
    AuthKey::new("a secret of these tests")
}

fn serve(address: impl Into<Address>) -> Manager {
    Manager::builder().bind(address).auth_key(&key()).grace(GRACE).build().unwrap()
}

/// Connects, makes objects, puts them into each other, and takes them out again, for ever.
#[task]
fn work(address: Address) {
    let key_of_this = process::id();
    let remote = Manager::connect(address, &key()).unwrap();
    let nested: Nested = remote.named("nested").unwrap();
    let total: Value<u64> = remote.named("total").unwrap();
    loop {
        let values: Vec<_> = (0..3).map(|i| remote.value(i).unwrap()).collect();
        let list = remote.list(values.clone()).unwrap();
        nested.insert(key_of_this, list).unwrap();
        let same = nested.get(&key_of_this).unwrap().unwrap();
        drop(values);
        for (i, value) in same.to_vec().unwrap().into_iter().enumerate() {
            assert_eq!(value.get().unwrap(), i as u32);
        }
        nested.remove(&key_of_this).unwrap();
        total.set(total.get().unwrap() + 1).unwrap();
    }
}

#[test]
fn clients_that_are_killed_leave_nothing() {
    alone(|| {
        let scratch = Scratch::new();
        for address in [Address::tcp("localhost", 0), Address::unix(scratch.path("socket"))] {
            let manager = serve(address);
            let total = manager.value(0_u64).unwrap();
            let nested: Nested = manager.dict().unwrap();
            manager.name("nested", &nested).unwrap();
            manager.name("total", &total).unwrap();
            let before = heap_objects();
            let start = || {
                let args = (manager.address().unwrap(),);
                Process::new(work, args).daemon(true).start().unwrap()
            };
            let kills = kill_and_replace(start);
            println!("{kills} kills, {} rounds", total.get().unwrap());
            assert!(is_running(manager.pid()));
            // What was put in by those who were killed before they took it out.
            nested.clear().unwrap();
            wait_until("all objects are gone", || heap_objects() <= before);
            let remote = Manager::connect(manager.address().unwrap(), &key()).unwrap();
            let same: Value<u64> = remote.named("total").unwrap();
            assert_eq!(same.get().unwrap(), total.get().unwrap());
        }
    });
}

fn now() -> u128 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros()
}

/// Calls until the server is gone, or waits for something that never comes; says when it heard.
#[task]
fn call_until_gone(address: Address, waits: bool, ready: Queue<()>) -> u128 {
    let remote = Manager::connect(address, &key()).unwrap();
    let dict: Dict<u64, Vec<u8>> = remote.named("dict").unwrap();
    let event: Event = remote.named("event").unwrap();
    ready.put(()).unwrap();
    let error = if waits {
        event.wait().unwrap_err()
    } else {
        let call = |i: u64| {
            let length = if i.is_multiple_of(16) { 100_000 } else { 10 };
            dict.insert(i % 8, vec![0; length])?;
            dict.get(&(i % 8)).map(|value| assert!(value.is_some()))
        };
        (0..).find_map(|i| call(i).err()).unwrap()
    };
    let at = now();
    let is_told = matches!(error, ManagerError::Interrupted(_) | ManagerError::Unreachable(_));
    assert!(is_told, "{error}");
    at
}

#[test]
fn a_server_that_is_killed_is_noticed_by_all() {
    alone(|| {
        let (mut random, mut count) = (Random::new(), Count::new());
        let scratch = Scratch::new();
        let mut places = [Address::tcp("localhost", 0), Address::unix(scratch.path("socket"))];
        let mut longest = 0;
        while count.one_more() {
            places.rotate_left(1);
            // Where the one before the last was killed.
            let manager = serve(&places[0]);
            let address = manager.address().unwrap();
            places[0] = address.clone();
            manager.name("dict", &manager.dict::<u64, Vec<u8>>().unwrap()).unwrap();
            manager.name("event", &manager.event().unwrap()).unwrap();
            let ready = Queue::unbounded().unwrap();
            let clients = [false, false, true].map(|waits| {
                let args = (address.clone(), waits, ready.clone());
                Process::new(call_until_gone, args).start().unwrap()
            });
            clients.iter().for_each(|_| ready.get().unwrap());
            random.sleep(Duration::from_millis(3));
            let killed = now();
            kill(Pid::from_raw(manager.pid() as i32), Signal::SIGKILL).unwrap();
            for client in clients {
                longest = longest.max(client.join().unwrap().saturating_sub(killed));
            }
            assert!(manager.shutdown().is_err());
        }
        println!("{} kills, noticed within {longest} µs", count.kills());
        assert!(longest < 1_000_000, "{longest} µs");
    });
}

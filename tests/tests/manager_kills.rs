//! Clients and servers of managers that are killed at any instant: no object is leaked, nobody hangs, and who
//! is left is told.
//!
//! `PROCESSION_KILLS` says how many are killed, `PROCESSION_SEED` when.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::{Dict, Manager, ManagerError, Process, Queue, Value, task};
use procession_tests::kills::{Count, Random, kill_and_replace};
use procession_tests::{alone, heap_objects, is_running, wait_until};

type Nested = Dict<u32, Value<u32>>;

/// Works on a dictionary in which values come and go, for ever.
#[task]
fn work(nested: Nested, spare: Queue<Value<u32>>, total: Value<u64>) {
    let key = process::id();
    loop {
        // A value that others may have in hand at the same time.
        if let Ok(value) = spare.try_get() {
            let seen = value.get().unwrap();
            value.set(seen.wrapping_add(1)).unwrap();
            nested.insert(key, value.clone()).unwrap();
            spare.put(value).unwrap();
        }
        assert!(nested.get(&key).unwrap().is_none_or(|value| value.get().is_ok()));
        let others = nested.to_map().unwrap();
        for value in others.into_values().take(3) {
            value.get().unwrap();
        }
        nested.remove(&key).unwrap();
        total.set(total.get().unwrap() + 1).unwrap();
    }
}

#[test]
fn clients_that_are_killed_leave_nothing() {
    alone(|| {
        let manager = Manager::new().unwrap();
        let total = manager.value(0_u64).unwrap();
        let before = heap_objects();
        let nested: Nested = manager.dict().unwrap();
        let spare = Queue::unbounded().unwrap();
        for _ in 0..4 {
            spare.put(manager.value(0_u32).unwrap()).unwrap();
        }
        let start = || {
            let args = (nested.clone(), spare.clone(), total.clone());
            Process::new(work, args).daemon(true).start().unwrap()
        };
        let kills = kill_and_replace(start);
        println!("{kills} kills, {} rounds", total.get().unwrap());
        assert!(is_running(manager.pid()));
        drop((nested, spare));
        wait_until("all objects are gone", || heap_objects() <= before);
        total.set(1).unwrap();
        assert_eq!(total.get().unwrap(), 1);
    });
}

/// Calls until the server is gone; says when.
#[task]
fn call_until_lost(dict: Dict<u64, Vec<u8>>, ready: Queue<()>) -> (u128, String) {
    ready.put(()).unwrap();
    for i in 0.. {
        let length = if i % 16 == 0 { 100_000 } else { 10 };
        let called = dict
            .insert(i % 8, vec![0; length])
            .and_then(|_| dict.get(&(i % 8)))
            .map(|value| assert!(value.is_some()));
        if let Err(error) = called {
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
            assert!(matches!(error, ManagerError::Lost(_)), "{error}");
            return (now.as_micros(), error.to_string());
        }
    }
    unreachable!("nobody counts so far")
}

#[test]
fn a_server_that_is_killed_is_noticed_by_all() {
    alone(|| {
        let (mut random, mut count) = (Random::new(), Count::new());
        let mut longest = Duration::ZERO;
        while count.one_more() {
            let manager = Manager::new().unwrap();
            let pid = manager.pid();
            let dict = manager.dict().unwrap();
            let ready = Queue::unbounded().unwrap();
            let clients: Vec<_> = (0..3)
                .map(|_| {
                    let args = (dict.clone(), ready.clone());
                    Process::new(call_until_lost, args).start().unwrap()
                })
                .collect();
            let thread = {
                let dict = dict.clone();
                thread::spawn(move || {
                    while dict.get(&1).is_ok() {}
                    Instant::now()
                })
            };
            clients.iter().for_each(|_| ready.get().unwrap());
            random.sleep(Duration::from_millis(3));
            let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros();
            let killed = Instant::now();
            kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
            for client in clients {
                let (at, _) = client.join().unwrap();
                longest = longest.max(Duration::from_micros(at.saturating_sub(now) as u64));
            }
            longest = longest.max(thread.join().unwrap() - killed);
            assert!(manager.shutdown().is_err());
        }
        println!("{} kills, noticed within {longest:?}", count.kills());
        assert!(longest < Duration::from_secs(1), "{longest:?}");
    });
}

/// Makes a manager, tells its server's number, and waits to be killed.
#[task]
fn own_a_manager(pids: Queue<u32>) {
    let manager = Manager::new().unwrap();
    let value = manager.value(1_u8).unwrap();
    pids.put(manager.pid()).unwrap();
    while value.get().is_ok() {}
}

#[test]
fn a_server_ends_when_its_managers_process_is_killed() {
    alone(|| {
        let mut random = Random::new();
        let pids = Queue::unbounded().unwrap();
        for _ in 0..20 {
            let owner = Process::new(own_a_manager, (pids.clone(),)).start().unwrap();
            let pid = pids.get().unwrap();
            random.sleep(Duration::from_millis(2));
            owner.kill().unwrap();
            assert!(owner.join().is_err());
            wait_until("the server has ended", || !is_running(pid));
        }
    });
}

//! Remote managers whose connections are cut, whose clients and servers die, and that come back.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::manager::{Event, Lock};
use procession::{
    Address, AuthKey, List, Manager, ManagerBuilder, ManagerError, Process, Value, managed, task,
};
use procession_tests::relay::Relay;
use procession_tests::scratch::Scratch;
use procession_tests::{alone, heap_objects, is_running, wait_until};

/// A type under the attribute.
struct Counter {
    count: u64,
}

#[managed]
impl Counter {
    pub fn new(count: u64) -> Self {
        Self { count }
    }

    pub fn add(&mut self, more: u64) -> u64 {
        self.count += more;
        self.count
    }

    /// Says that it runs, and waits.
    pub fn nap(&self, runs: Event, millis: u64) -> u64 {
        runs.set().unwrap();
        thread::sleep(Duration::from_millis(millis));
        self.count
    }
}

/// Writes a file when it is dropped.
struct Testament {
    path: String,
}

#[managed]
impl Testament {
    pub fn new(path: String) -> Self {
        Self { path }
    }

    pub fn path(&self) -> String {
        self.path.clone()
    }
}

impl Drop for Testament {
    fn drop(&mut self) {
        // Longer than the end of a process takes.
        thread::sleep(Duration::from_millis(50));
        std::fs::write(&self.path, "it was dropped").unwrap();
    }
}

fn key() -> AuthKey {
    AuthKey::new("a secret of these tests")
}

fn port() -> Address {
    Address::tcp("localhost", 0)
}

fn builder(address: impl Into<Address>) -> ManagerBuilder {
    Manager::builder().bind(address).auth_key(&key())
}

#[test]
fn who_comes_back_in_time_finds_what_it_had() {
    alone(|| {
        let manager = builder(port()).build().unwrap();
        let relay = Relay::to(&manager.address().unwrap());
        let remote = Manager::connect(relay.address(), &key()).unwrap();
        let counter = CounterProxy::new(&remote, 1).unwrap();
        for i in 2..6 {
            relay.cut();
            // The call after the cut connects anew; none is lost, none is done twice.
            assert_eq!(counter.add(1).unwrap(), i);
        }
        // One that is under way is an error that says so, and is done once at most.
        let runs = remote.event().unwrap();
        let napper = {
            let (counter, runs) = (counter.clone(), runs.clone());
            thread::spawn(move || counter.nap(runs, 300))
        };
        runs.wait().unwrap();
        relay.cut();
        let error = napper.join().unwrap().unwrap_err();
        assert!(matches!(error, ManagerError::Interrupted(_)), "{error}");
        assert!(procession::Error::from(error).is_disconnected());
        assert_eq!(counter.add(0).unwrap(), 5);
        drop((counter, runs, remote));
    });
}

#[test]
fn who_comes_back_too_late_finds_nothing() {
    alone(|| {
        let manager = builder(port()).grace(Duration::from_millis(100)).build().unwrap();
        let before = heap_objects();
        let relay = Relay::to(&manager.address().unwrap());
        let remote = Manager::connect(relay.address(), &key()).unwrap();
        let (lost, kept) = (remote.value(1_u8).unwrap(), remote.value(2_u8).unwrap());
        remote.name("kept", &kept).unwrap();
        relay.cut();
        wait_until("its session is over", || heap_objects() <= before + 1);
        assert!(matches!(lost.get(), Err(ManagerError::Gone(_))));
        // Its number may be another object's by now.
        let others: Vec<_> = (0..20).map(|_| remote.value(9_u8).unwrap()).collect();
        assert!(matches!(lost.get(), Err(ManagerError::Gone(_))));
        assert!(matches!(kept.get(), Err(ManagerError::Gone(_))));
        let again: Value<u8> = remote.named("kept").unwrap();
        assert_eq!(again.get().unwrap(), 2);

        // Nor does it stand for another one in arguments, in batches, or when it is to have a name.
        let list: List<Value<u8>> = remote.list(vec![]).unwrap();
        assert!(list.push(lost.clone()).is_err());
        assert!(remote.list(vec![lost.clone()]).is_err());
        assert!(matches!(remote.name("lost", &lost), Err(ManagerError::Gone(_))));
        let alone = remote.batch(|tx| lost.on(tx).set(7));
        assert!(matches!(alone, Err(ManagerError::Gone(_))), "{alone:?}");
        let (first, second) = remote.batch(|tx| (again.on(tx).get(), lost.on(tx).get())).unwrap();
        assert_eq!(first.get().unwrap(), 2);
        assert!(matches!(second.get(), Err(ManagerError::Gone(_))));
        assert!(others.iter().all(|other| other.get().unwrap() == 9));
        assert!(list.is_empty().unwrap());
    });
}

#[task]
fn hold_for_ever(address: Address, name: String) {
    let remote = Manager::connect(address, &key()).unwrap();
    let list: List<Value<u8>> = remote.list(vec![remote.value(1).unwrap()]).unwrap();
    let _value = list.get(0).unwrap();
    let lock: Lock = remote.named("lock").unwrap();
    let _guard = lock.lock().unwrap();
    remote.name(name, &remote.value(2_u8).unwrap()).unwrap();
    thread::sleep(Duration::from_secs(1000));
}

#[test]
fn what_a_killed_client_had_is_taken_back() {
    alone(|| {
        let manager = builder(port()).grace(Duration::from_millis(200)).build().unwrap();
        let lock = manager.lock().unwrap();
        manager.name("lock", &lock).unwrap();
        let before = heap_objects();
        for round in 0..3 {
            let args = (manager.address().unwrap(), round.to_string());
            let client = Process::new(hold_for_ever, args).start().unwrap();
            wait_until("it has all", || manager.named::<Value<u8>>(&round.to_string()).is_ok());
            kill(Pid::from_raw(client.pid() as i32), Signal::SIGKILL).unwrap();
            assert!(client.join().is_err());
            assert!(manager.unname(round.to_string()).unwrap());
            wait_until("all is taken back", || heap_objects() <= before);
            // Its holder has died.
            assert!(lock.lock().is_err());
            lock.clear_poison().unwrap();
            drop(lock.lock().unwrap());
        }
    });
}

#[test]
fn a_killed_server_is_told_within_a_second() {
    alone(|| {
        let manager = builder(port()).build().unwrap();
        let remote = Manager::connect(manager.address().unwrap(), &key()).unwrap();
        let counter = CounterProxy::new(&remote, 1).unwrap();
        let runs = remote.event().unwrap();
        let napper = {
            let (counter, runs) = (counter.clone(), runs.clone());
            thread::spawn(move || (counter.nap(runs, 100_000), Instant::now()))
        };
        runs.wait().unwrap();
        let begin = Instant::now();
        kill(Pid::from_raw(manager.pid() as i32), Signal::SIGKILL).unwrap();
        let (error, end) = napper.join().unwrap();
        assert!(matches!(error, Err(ManagerError::Interrupted(_))));
        assert!(end - begin < Duration::from_secs(1), "{:?}", end - begin);
        // While its descriptors are being closed, one after the other, it still can be reached.
        let process = format!("/proc/{}", manager.pid());
        wait_until("it is reaped", || !Path::new(&process).exists());
        let error = counter.add(1);
        assert!(matches!(error, Err(ManagerError::Unreachable(_))), "{error:?}");
        assert!(manager.shutdown().is_err());
        drop((counter, runs));
    });
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    alone(|| {
        let scratch = Scratch::new();
        let (file, link) = (scratch.path("file"), scratch.path("link"));
        std::fs::write(&file, "precious").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            let error = builder(Address::unix(path)).build().unwrap_err();
            assert!(error.to_string().contains(path.as_str()), "{error}");
        }
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "precious");
    });
}

#[test]
fn what_a_connected_client_has_is_dropped_when_the_server_ends() {
    alone(|| {
        let scratch = Scratch::new();
        let (path, address) = (scratch.path("testament"), Address::unix(scratch.path("socket")));
        // A session that lasts for ever keeps nothing longer than the server.
        let manager = builder(&address).grace(Duration::MAX).build().unwrap();
        let remote = Manager::connect(&address, &key()).unwrap();
        let testament = TestamentProxy::new(&remote, path.clone()).unwrap();
        assert_eq!(testament.path().unwrap(), path);
        manager.shutdown().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "it was dropped");
        drop((testament, remote));

        // Nor does it end while a value is being dropped that nobody has any more.
        let other = scratch.path("other");
        let manager = Manager::new().unwrap();
        drop(TestamentProxy::new(&manager, other.clone()).unwrap());
        manager.shutdown().unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "it was dropped");
    });
}

#[test]
fn a_dropped_manager_leaves_nothing() {
    alone(|| {
        let scratch = Scratch::new();
        let path = scratch.path("socket");
        for _ in 0..20 {
            let manager = builder(Address::unix(&path)).build().unwrap();
            let pid = manager.pid();
            assert!(std::fs::exists(&path).unwrap());
            drop(manager);
            assert!(!std::fs::exists(&path).unwrap() && !is_running(pid));
        }
    });
}

#[test]
fn a_restart_at_the_same_address_works_at_once() {
    alone(|| {
        let scratch = Scratch::new();
        let path = Address::unix(scratch.path("socket"));
        for address in [port(), path] {
            let first = builder(&address).build().unwrap();
            let address = first.address().unwrap();
            let remote = Manager::connect(&address, &key()).unwrap();
            let value = remote.value(1_u8).unwrap();
            // Two listen nowhere at a time.
            assert!(builder(&address).build().is_err());
            first.shutdown().unwrap();
            let second = builder(&address).build().unwrap();
            assert!(matches!(value.get(), Err(ManagerError::Gone(_))), "it is another server");
            assert_eq!(remote.value(2_u8).unwrap().get().unwrap(), 2);
            // One that was killed has tidied up nothing.
            kill(Pid::from_raw(second.pid() as i32), Signal::SIGKILL).unwrap();
            assert!(second.shutdown().is_err());
            let third = builder(&address).build().unwrap();
            assert_eq!(remote.value(3_u8).unwrap().get().unwrap(), 3);
            drop((value, remote, third));
        }
    });
}

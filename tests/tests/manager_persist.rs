//! Managers that keep their named objects in a file, from one to the next.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]
#![allow(unreachable_pub, reason = "a managed type's methods are `pub`")]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::manager::{JoinableQueue, Queue};
use procession::{
    Address, AuthKey, Dict, List, Manager, ManagerError, Namespace, Process, Set, Value, managed,
    task,
};
use procession_tests::scratch::{Scratch, notes, open, pass};
use procession_tests::{alone, is_running, wait_until};
use serde::{Deserialize, Serialize, Serializer};

/// A type of the user's that can be kept.
#[derive(Serialize, Deserialize)]
struct Counter {
    count: u64,
}

#[managed(name = "kept counter", persist)]
impl Counter {
    pub fn new(count: u64) -> Self {
        Self { count }
    }

    pub fn add(&mut self, more: u64) -> u64 {
        self.count += more;
        assert!(self.count < 1000, "that is too much");
        self.count
    }

    pub fn get(&self) -> u64 {
        self.count
    }

    pub fn hold(&mut self, begun: String, gate: String) {
        open(&begun);
        pass(&gate);
        self.count += 1;
    }
}

/// One that can't.
struct Fleeting;

#[managed]
impl Fleeting {
    pub fn new() -> Self {
        Self
    }

    pub fn touch(&self) {}
}

/// One whose own code panics on the way into a snapshot.
#[derive(Deserialize)]
struct Shy;

impl Serialize for Shy {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("I stay here")
    }
}

#[managed(persist)]
impl Shy {
    pub fn new() -> Self {
        Self
    }

    pub fn touch(&self) {}
}

#[track_caller]
fn keeper(path: &str) -> Manager {
    Manager::builder().persist(path).build().unwrap()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, ManagerError>) -> String {
    match result {
        Err(ManagerError::Refused(text)) => text,
        other => panic!("it isn't refused: {other:?}"),
    }
}

/// The names of the files in the snapshot's folder.
fn files(path: &str) -> Vec<String> {
    let folder = fs::read_dir(path.rsplit_once('/').unwrap().0).unwrap();
    let mut names: Vec<_> =
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn all_that_can_be_kept_comes_back() {
    alone(|| {
        let scratch = Scratch::new();
        let path = scratch.path("snapshot");
        let manager = keeper(&path);
        let dict: Dict<String, Vec<u8>> = manager.dict().unwrap();
        dict.insert("a".into(), vec![1; 100_000]).unwrap();
        let list = manager.list(vec![3_u64, 1, 2]).unwrap();
        let set: Set<String> = manager.set().unwrap();
        set.insert("member".into()).unwrap();
        let queue: Queue<(u32, String)> = manager.queue(Some(3)).unwrap();
        queue.put((1, "first".into())).unwrap();
        queue.put((2, "second".into())).unwrap();
        let joinable: JoinableQueue<u8> = manager.joinable_queue(None).unwrap();
        joinable.put(1).unwrap();
        joinable.put(2).unwrap();
        joinable.get().unwrap();
        let value = manager.value(Some(1.5_f64)).unwrap();
        let namespace = manager.namespace().unwrap();
        namespace.set("depth", &3_u32).unwrap();
        let counter = CounterProxy::new(&manager, 5).unwrap();
        let unnamed = manager.value(1_u8).unwrap();
        manager.name("dict", &dict).unwrap();
        manager.name("list", &list).unwrap();
        manager.name("set", &set).unwrap();
        manager.name("queue", &queue).unwrap();
        manager.name("joinable", &joinable).unwrap();
        manager.name("value", &value).unwrap();
        manager.name("namespace", &namespace).unwrap();
        manager.name("counter", &counter).unwrap();
        manager.name("counter too", &counter).unwrap();
        drop(unnamed);
        manager.shutdown().unwrap();
        assert_eq!(files(&path), ["snapshot"]);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        // The second time round nobody asks for anything, and so nothing is lost.
        keeper(&path).shutdown().unwrap();

        let manager = keeper(&path);
        let dict: Dict<String, Vec<u8>> = manager.named("dict").unwrap();
        assert_eq!(dict.to_map().unwrap(), HashMap::from([("a".into(), vec![1; 100_000])]));
        let list: List<u64> = manager.named("list").unwrap();
        assert_eq!(list.to_vec().unwrap(), [3, 1, 2]);
        let set: Set<String> = manager.named("set").unwrap();
        assert_eq!(set.to_set().unwrap(), HashSet::from(["member".into()]));
        let queue: Queue<(u32, String)> = manager.named("queue").unwrap();
        queue.put((3, "third".into())).unwrap();
        assert!(queue.is_full().unwrap(), "its capacity was kept");
        assert_eq!(queue.get().unwrap(), (1, "first".into()));
        assert_eq!(queue.get().unwrap(), (2, "second".into()));
        let joinable: JoinableQueue<u8> = manager.named("joinable").unwrap();
        assert_eq!(joinable.unfinished().unwrap(), 1, "who has taken the other one is gone");
        assert_eq!(joinable.len().unwrap(), 1);
        let value: Value<Option<f64>> = manager.named("value").unwrap();
        assert_eq!(value.get().unwrap(), Some(1.5));
        let namespace: Namespace = manager.named("namespace").unwrap();
        assert_eq!(namespace.get::<u32>("depth").unwrap(), Some(3));
        let counter: CounterProxy = manager.named("counter").unwrap();
        assert_eq!(counter.add(2).unwrap(), 7);
        let same: CounterProxy = manager.named("counter too").unwrap();
        assert_eq!(same.get().unwrap(), 7, "both names are one object's still");
        assert!(manager.unname("dict").unwrap());
        assert!(manager.unname("list").unwrap());
        manager.shutdown().unwrap();

        let manager = keeper(&path);
        let gone = manager.named::<Dict<String, Vec<u8>>>("dict");
        assert!(matches!(gone, Err(ManagerError::Gone(_))));
        assert!(manager.unname("set").unwrap(), "also what nobody has asked for");
        assert!(!manager.unname("set").unwrap());
        let taken = manager.name("queue", &manager.value(1_u8).unwrap());
        assert!(refused(taken).contains("in use"));
        assert_eq!(manager.named::<CounterProxy>("counter").unwrap().get().unwrap(), 7);
        manager.shutdown().unwrap();
    });
}

#[test]
fn a_snapshot_survives_the_server_that_is_killed() {
    alone(|| {
        let scratch = Scratch::new();
        let path = scratch.path("snapshot");
        let manager = keeper(&path);
        let total = manager.value(1_u64).unwrap();
        manager.name("total", &total).unwrap();
        manager.save().unwrap();
        total.set(2).unwrap();
        kill(Pid::from_raw(manager.pid() as i32), Signal::SIGKILL).unwrap();
        assert!(manager.shutdown().is_err());
        let manager = keeper(&path);
        let total: Value<u64> = manager.named("total").unwrap();
        assert_eq!(total.get().unwrap(), 1);
        manager.shutdown().unwrap();
        assert_eq!(files(&path), ["snapshot"]);
    });
}

/// Has a manager of its own; ends as it is told.
#[task]
fn own_a_manager(path: String, ready: String, end: String) {
    let manager = keeper(&path);
    let total = manager.value(0_u64).unwrap();
    manager.name("total", &total).unwrap();
    total.set(7).unwrap();
    fs::write(&ready, manager.pid().to_string()).unwrap();
    match end.as_str() {
        "drop" => drop(manager),
        "exit" => {
            std::mem::forget(manager);
            std::process::exit(3)
        }
        _ => loop {
            thread::park();
        },
    }
}

#[test]
fn a_snapshot_is_written_however_the_program_ends() {
    for end in ["drop", "exit", "be killed"] {
        alone(|| {
            let scratch = Scratch::new();
            let (path, ready) = (scratch.path("snapshot"), scratch.path("ready"));
            let args = (path.clone(), ready.clone(), end.to_owned());
            let program = Process::new(own_a_manager, args).start().unwrap();
            let mut server = 0;
            wait_until("there is a server", || {
                server = notes(&ready).first().and_then(|pid| pid.parse().ok()).unwrap_or(0);
                server > 0
            });
            if end == "be killed" {
                program.kill().unwrap();
            }
            let _ = program.join();
            // It waits for the one before, which writes still.
            let manager = keeper(&path);
            let total: Value<u64> = manager.named("total").unwrap();
            assert_eq!(total.get().unwrap(), 7, "{end}");
            manager.shutdown().unwrap();
            wait_until("the server is gone", || !is_running(server));
        });
    }
}

#[test]
fn what_cannot_be_kept_cannot_have_a_name() {
    alone(|| {
        let scratch = Scratch::new();
        let path = scratch.path("snapshot");
        let manager = keeper(&path);
        let lock = manager.name("lock", &manager.lock().unwrap());
        assert!(refused(lock).contains("can't be in the manager's snapshot"));
        refused(manager.name("event", &manager.event().unwrap()));
        let fleeting = FleetingProxy::new(&manager).unwrap();
        assert!(refused(manager.name("fleeting", &fleeting)).contains("#[managed(persist)]"));
        fleeting.touch().unwrap();
        assert!(!manager.unname("lock").unwrap());
        manager.shutdown().unwrap();

        // Without a snapshot all can have one.
        let manager = Manager::new().unwrap();
        manager.name("lock", &manager.lock().unwrap()).unwrap();
        assert!(refused(manager.save()).contains("persist"));
        manager.shutdown().unwrap();
    });
}

#[test]
fn values_that_have_handles_in_them_are_an_error_that_leaves_the_old_snapshot() {
    alone(|| {
        let scratch = Scratch::new();
        let path = scratch.path("snapshot");
        let manager = keeper(&path);
        let inner = manager.value(1_u8).unwrap();
        let outer: Dict<String, Value<u8>> = manager.dict().unwrap();
        let total = manager.value(1_u64).unwrap();
        manager.name("outer", &outer).unwrap();
        manager.name("total", &total).unwrap();
        manager.save().unwrap();
        total.set(2).unwrap();
        outer.insert("inner".into(), inner.clone()).unwrap();
        let why = refused(manager.save());
        assert!(why.contains("`outer`") && why.contains("proxies"), "{why}");
        outer.remove("inner").unwrap();
        let queues = manager.value(vec![procession::Queue::<u8>::unbounded().unwrap()]).unwrap();
        manager.name("queues", &queues).unwrap();
        assert!(refused(manager.save()).contains("`queues`"));
        manager.unname("queues").unwrap();
        manager.name("shy", &ShyProxy::new(&manager).unwrap()).unwrap();
        let why = refused(manager.save());
        assert!(why.contains("`shy`") && why.contains("I stay here"), "{why}");
        let why = manager.shutdown().unwrap_err().to_string();
        assert!(why.contains("`shy`"), "{why}");
        // It is as it was, and all others are as they are.
        let manager = keeper(&path);
        assert_eq!(manager.named::<Value<u64>>("total").unwrap().get().unwrap(), 2);
        let outer: Dict<String, Value<u8>> = manager.named("outer").unwrap();
        outer.insert("inner".into(), manager.value(1).unwrap()).unwrap();
        manager.named::<Value<u64>>("total").unwrap().set(3).unwrap();
        assert!(manager.shutdown().unwrap_err().to_string().contains("`outer`"));
        let manager = keeper(&path);
        assert_eq!(manager.named::<Value<u64>>("total").unwrap().get().unwrap(), 3);
        let outer: Dict<String, Value<u8>> = manager.named("outer").unwrap();
        assert!(outer.is_empty().unwrap());
        manager.shutdown().unwrap();
    });
}

#[test]
fn paths_that_lead_to_one_file_are_one() {
    alone(|| {
        let scratch = Scratch::new();
        let (path, link) = (scratch.path("snapshot"), scratch.path("link"));
        let manager = keeper(&path);
        manager.name("total", &manager.value(1_u64).unwrap()).unwrap();
        manager.save().unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let why = Manager::builder().persist(&link).build().unwrap_err().to_string();
        assert!(why.contains("another manager has it"), "{why}");
        manager.shutdown().unwrap();
        let manager = keeper(&link);
        manager.named::<Value<u64>>("total").unwrap().set(2).unwrap();
        manager.shutdown().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        let manager = keeper(&path);
        assert_eq!(manager.named::<Value<u64>>("total").unwrap().get().unwrap(), 2);
        manager.shutdown().unwrap();
    });
}

#[test]
fn a_damaged_snapshot_is_told_of_and_left_as_it_is() {
    alone(|| {
        let scratch = Scratch::new();
        let path = scratch.path("snapshot");
        let manager = keeper(&path);
        manager.name("total", &manager.value(1_u64).unwrap()).unwrap();
        manager.shutdown().unwrap();
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let mut newer = whole.clone();
        newer[b"procession snapshot\n".len()] += 1;
        let cases = [
            (whole[..whole.len() - 1].to_vec(), "cut off"),
            (Vec::new(), "cut off"),
            (flipped, "damaged"),
            (newer, "version 2"),
            (b"#!/bin/sh\necho a program of mine".to_vec(), "no snapshot"),
        ];
        for (bytes, what) in cases {
            fs::write(&path, &bytes).unwrap();
            let why = Manager::builder().persist(&path).build().unwrap_err().to_string();
            assert!(why.contains(what) && why.contains(&path), "{why}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
            assert_eq!(files(&path), ["snapshot"]);
        }
        let no_folder = scratch.path("no/folder");
        let why = Manager::builder().persist(&no_folder).build().unwrap_err().to_string();
        assert!(why.contains(&no_folder), "{why}");
        fs::write(&path, &whole).unwrap();
        let manager = keeper(&path);
        assert_eq!(manager.named::<Value<u64>>("total").unwrap().get().unwrap(), 1);
        manager.shutdown().unwrap();
    });
}

#[test]
fn a_write_that_fails_is_an_error_and_leaves_the_old_snapshot() {
    alone(|| {
        let scratch = Scratch::new();
        let folder = scratch.path("folder");
        fs::create_dir(&folder).unwrap();
        let path = format!("{folder}/snapshot");
        let manager = keeper(&path);
        let total = manager.value(1_u64).unwrap();
        manager.name("total", &total).unwrap();
        manager.save().unwrap();
        total.set(2).unwrap();
        // Nobody, root included, can write to that.
        fs::create_dir(format!("{path}.new")).unwrap();
        let why = refused(manager.save());
        assert!(why.contains("can't write") && why.contains(&path), "{why}");
        fs::remove_dir(format!("{path}.new")).unwrap();
        let before = fs::read(&path).unwrap();
        fs::rename(&folder, scratch.path("elsewhere")).unwrap();
        refused(manager.save());
        fs::rename(scratch.path("elsewhere"), &folder).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        manager.save().unwrap();
        assert_ne!(fs::read(&path).unwrap(), before);
        fs::rename(&folder, scratch.path("elsewhere")).unwrap();
        assert!(manager.shutdown().unwrap_err().to_string().contains("can't write"));
    });
}

#[test]
fn another_type_is_told_and_nothing_is_lost_by_asking() {
    alone(|| {
        let scratch = Scratch::new();
        let path = scratch.path("snapshot");
        let manager = keeper(&path);
        manager.name("total", &manager.value(1_u64).unwrap()).unwrap();
        manager.name("counter", &CounterProxy::new(&manager, 3).unwrap()).unwrap();
        manager.shutdown().unwrap();
        let manager = keeper(&path);
        let mismatch = |result: Result<(), ManagerError>| match result {
            Err(ManagerError::TypeMismatch { expected, found, .. }) => (expected, found),
            other => panic!("it is no mismatch: {other:?}"),
        };
        let (expected, found) = mismatch(manager.named::<Value<u32>>("total").map(drop));
        assert!(expected.contains("u32") && found.contains("u64"), "{expected} {found}");
        mismatch(manager.named::<List<u64>>("total").map(drop));
        mismatch(manager.named::<FleetingProxy>("counter").map(drop));
        assert_eq!(manager.named::<Value<u64>>("total").unwrap().get().unwrap(), 1);
        assert_eq!(manager.named::<CounterProxy>("counter").unwrap().get().unwrap(), 3);
        manager.shutdown().unwrap();
    });
}

#[test]
fn what_is_poisoned_is_so_again() {
    alone(|| {
        let scratch = Scratch::new();
        let path = scratch.path("snapshot");
        let manager = keeper(&path);
        let counter = CounterProxy::new(&manager, 999).unwrap();
        manager.name("counter", &counter).unwrap();
        assert!(matches!(counter.add(1), Err(ManagerError::Panicked { .. })));
        manager.shutdown().unwrap();
        let manager = keeper(&path);
        let counter: CounterProxy = manager.named("counter").unwrap();
        assert!(counter.is_poisoned().unwrap());
        assert!(matches!(counter.get(), Err(ManagerError::Poisoned(_))));
        counter.clear_poison().unwrap();
        assert_eq!(counter.get().unwrap(), 1000);
        manager.shutdown().unwrap();
        let manager = keeper(&path);
        let counter: CounterProxy = manager.named("counter").unwrap();
        assert!(!counter.is_poisoned().unwrap());
        manager.shutdown().unwrap();
    });
}

#[test]
fn a_snapshot_waits_for_a_method_and_holds_nobody_up() {
    alone(|| {
        let scratch = Scratch::new();
        let path = scratch.path("snapshot");
        let (begun, gate) = (scratch.path("begun"), scratch.path("gate"));
        let manager = keeper(&path);
        let counter = CounterProxy::new(&manager, 0).unwrap();
        manager.name("counter", &counter).unwrap();
        let other = manager.value(1_u8).unwrap();
        // One that waits for what never comes is in nobody's way.
        let queue: Queue<u8> = manager.queue(None).unwrap();
        manager.name("queue", &queue).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.get());
            let (counter, hold) = (&counter, (begun.clone(), gate.clone()));
            let held = scope.spawn(move || counter.hold(hold.0, hold.1));
            pass(&begun);
            let saved = scope.spawn(|| manager.save());
            // Calls go through while both wait.
            for _ in 0..100 {
                assert_eq!(other.get().unwrap(), 1);
            }
            open(&gate);
            held.join().unwrap().unwrap();
            saved.join().unwrap().unwrap();
            manager.save().unwrap();
            queue.put(1).unwrap();
            waiting.join().unwrap().unwrap();
        });
        // One that never ends: the error names the object.
        fs::remove_file(&gate).unwrap();
        fs::remove_file(&begun).unwrap();
        thread::scope(|scope| {
            let held = scope.spawn(|| counter.hold(begun.clone(), gate.clone()));
            pass(&begun);
            assert!(refused(manager.save()).contains("`counter`"));
            open(&gate);
            held.join().unwrap().unwrap();
        });
        manager.shutdown().unwrap();
        let manager = keeper(&path);
        assert_eq!(manager.named::<CounterProxy>("counter").unwrap().get().unwrap(), 2);
        manager.shutdown().unwrap();
    });
}

#[test]
fn one_manager_at_a_time_has_a_snapshot_and_the_next_waits_for_it() {
    alone(|| {
        let scratch = Scratch::new();
        let path = scratch.path("snapshot");
        let manager = keeper(&path);
        let total = manager.value(1_u8).unwrap();
        manager.name("total", &total).unwrap();
        let why = Manager::builder().persist(&path).build().unwrap_err().to_string();
        assert!(why.contains("another manager has it") && why.contains(&path), "{why}");
        assert_eq!(total.get().unwrap(), 1);
        manager.shutdown().unwrap();
    });
}

#[test]
fn clients_afar_find_what_was_kept_and_can_save() {
    alone(|| {
        let scratch = Scratch::new();
        let path = scratch.path("snapshot");
        let key = AuthKey::new("a secret of these tests");
        let build = || {
            let address = Address::tcp("localhost", 0);
            Manager::builder().bind(address).auth_key(&key).persist(&path).build().unwrap()
        };
        let manager = build();
        manager.name("total", &manager.value(1_u64).unwrap()).unwrap();
        manager.name("counter", &CounterProxy::new(&manager, 3).unwrap()).unwrap();
        let remote = Manager::connect(manager.address().unwrap(), &key).unwrap();
        remote.named::<Value<u64>>("total").unwrap().set(5).unwrap();
        remote.save().unwrap();
        let saved = fs::read(&path).unwrap();
        manager.shutdown().unwrap();
        drop(remote);
        assert_eq!(fs::read(&path).unwrap(), saved);

        let manager = build();
        let remote = Manager::connect(manager.address().unwrap(), &key).unwrap();
        assert!(matches!(
            remote.named::<Value<u8>>("total"),
            Err(ManagerError::TypeMismatch { .. })
        ));
        assert_eq!(remote.named::<Value<u64>>("total").unwrap().get().unwrap(), 5);
        assert_eq!(remote.named::<CounterProxy>("counter").unwrap().add(1).unwrap(), 4);
        drop(remote);
        manager.shutdown().unwrap();
    });
}

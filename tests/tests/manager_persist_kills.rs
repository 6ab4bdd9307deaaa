//! Managers that keep their objects, and end at any instant: what was answered is in the snapshot, and that is
//! always a whole one.
//!
//! `PROCESSION_KILLS` says how many end, `PROCESSION_SEED` when.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::manager::Queue;
use procession::{Address, AuthKey, List, Manager, ManagerError, Process, Value, task};
use procession_tests::kills::{Count, Random};
use procession_tests::scratch::{Scratch, notes};
use procession_tests::{alone, wait_until};

type Items = Queue<u64>;

fn key() -> AuthKey {
    AuthKey::new("a secret of these tests")
}

#[track_caller]
fn keeper(path: &str) -> Manager {
    Manager::builder().persist(path).build().unwrap()
}

/// The names of the files in the snapshot's folder.
fn files(path: &str) -> Vec<String> {
    let folder = fs::read_dir(path.rsplit_once('/').unwrap().0).unwrap();
    let mut names: Vec<_> =
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Counts up, and notes what it got answers for.
#[task]
fn count_until_lost(total: Value<u64>, queue: Queue<u64>) -> (u64, u64) {
    let mut count = 0;
    let mut put = 0;
    loop {
        if total.set(count + 1).is_err() {
            return (count, put);
        }
        count += 1;
        if queue.put(count).is_err() {
            return (count, put);
        }
        put += 1;
    }
}

/// Takes items out, or waits for some; gives those that it got.
#[task]
fn take_until_lost(queue: Items) -> Vec<u64> {
    std::iter::from_fn(|| queue.get().ok()).collect()
}

/// As [`take_until_lost`], through a socket.
#[task]
fn take_afar_until_lost(address: Address) -> Vec<u64> {
    // The manager may end before.
    let queue = Manager::connect(address, &key()).ok().and_then(|it| it.named("queue").ok());
    queue.map(take_until_lost).unwrap_or_default()
}

#[test]
fn what_was_answered_is_in_the_last_snapshot_or_was_taken() {
    alone(|| {
        let scratch = Scratch::new();
        let (mut kills, mut random) = (Count::new(), Random::new());
        let path = scratch.path("snapshot");
        while kills.one_more() {
            let _ = fs::remove_file(&path);
            let address = Address::unix(scratch.path("socket"));
            let builder = Manager::builder().bind(&address).auth_key(&key()).persist(&path);
            let manager = builder.build().unwrap();
            let total = manager.value(0_u64).unwrap();
            let queue: Items = manager.queue(None).unwrap();
            manager.name("total", &total).unwrap();
            manager.name("queue", &queue).unwrap();
            let takers = [
                Process::new(take_until_lost, (queue.clone(),)).start().unwrap(),
                Process::new(take_afar_until_lost, (address,)).start().unwrap(),
            ];
            let putter = Process::new(count_until_lost, (total.clone(), queue)).start().unwrap();
            wait_until("it counts", || total.get().unwrap() > 0);
            random.sleep(Duration::from_millis(20));
            manager.shutdown().unwrap();
            let (_, put) = putter.join().unwrap();
            let mut all: Vec<_> = takers.iter().flat_map(|taker| taker.join().unwrap()).collect();
            let manager = keeper(&path);
            let queue: Items = manager.named("queue").unwrap();
            while let Some(item) = queue.try_get().unwrap() {
                all.push(item);
            }
            all.sort_unstable();
            let count = all.len() as u64;
            assert!(all.into_iter().eq(1..=count), "each is there once");
            assert!(count == put || count == put + 1, "{put} were answered, {count} are there");
            manager.shutdown().unwrap();
        }
        println!("{} ends", kills.kills());
    });
}

#[test]
fn what_was_answered_is_in_the_last_snapshot() {
    alone(|| {
        let scratch = Scratch::new();
        let (mut kills, mut random) = (Count::new(), Random::new());
        while kills.one_more() {
            let path = scratch.path("snapshot");
            let _ = fs::remove_file(&path);
            let manager = keeper(&path);
            let total = manager.value(0_u64).unwrap();
            let queue: Queue<u64> = manager.queue(None).unwrap();
            manager.name("total", &total).unwrap();
            manager.name("queue", &queue).unwrap();
            let client = Process::new(count_until_lost, (total.clone(), queue)).start().unwrap();
            wait_until("it counts", || total.get().unwrap() > 0);
            random.sleep(Duration::from_millis(5));
            manager.shutdown().unwrap();
            let (count, put) = client.join().unwrap();
            let manager = keeper(&path);
            let total: Value<u64> = manager.named("total").unwrap();
            let found = total.get().unwrap();
            assert!(found == count || found == count + 1, "{count} were answered, not {found}");
            let queue: Queue<u64> = manager.named("queue").unwrap();
            let found = queue.len().unwrap() as u64;
            assert!(found == put || found == put + 1, "{put} were answered, not {found}");
            manager.shutdown().unwrap();
        }
    });
}

/// Saves as long as its server lives.
#[task]
fn save_until_lost(path: String, ready: String) -> Result<(), ManagerError> {
    let manager = keeper(&path);
    let numbers: List<u64> = match manager.named("numbers") {
        Ok(numbers) => numbers,
        Err(_) => {
            let numbers = manager.list(Vec::new()).unwrap();
            manager.name("numbers", &numbers).unwrap();
            manager.save().unwrap();
            numbers
        }
    };
    fs::write(&ready, manager.pid().to_string()).unwrap();
    for i in numbers.len()? as u64.. {
        numbers.push(i)?;
        manager.save()?;
    }
    Ok(())
}

#[test]
fn a_server_that_is_killed_while_it_saves_leaves_a_whole_snapshot() {
    alone(|| {
        let scratch = Scratch::new();
        let (path, ready) = (scratch.path("snapshot"), scratch.path("ready"));
        let (mut kills, mut random) = (Count::new(), Random::new());
        let mut before = 0;
        while kills.one_more() {
            let _ = fs::remove_file(&ready);
            let program =
                Process::new(save_until_lost, (path.clone(), ready.clone())).start().unwrap();
            let mut server = 0;
            wait_until("it saves", || {
                server = notes(&ready).first().and_then(|pid| pid.parse().ok()).unwrap_or(0);
                server > 0
            });
            random.sleep(Duration::from_millis(10));
            kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
            assert!(matches!(program.join().unwrap(), Err(ManagerError::Lost(_))));
            let manager = keeper(&path);
            let numbers: List<u64> = manager.named("numbers").unwrap();
            let numbers = numbers.to_vec().unwrap();
            assert!(numbers.iter().copied().eq(0..numbers.len() as u64) && numbers.len() >= before);
            before = numbers.len();
            manager.shutdown().unwrap();
            assert_eq!(files(&path), ["ready", "snapshot"]);
        }
        println!("{before} snapshots");
    });
}

//! Managers: values that live in a server and are worked on from many processes.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::sync::Barrier;
use procession::{Dict, Manager, ManagerError, Pool, Process, Queue, Value, managed, task};
use procession_tests::{alone, heap_objects, is_running, wait_until};
use serde::{Deserialize, Serialize};

/// A method of the server's that is slow, or panics.
struct Worker {
    steps: u64,
}

#[managed]
impl Worker {
    pub fn new() -> Self {
        Self { steps: 0 }
    }

    pub fn nap(&self, millis: u64) -> u64 {
        thread::sleep(Duration::from_millis(millis));
        self.steps
    }

    pub fn step(&mut self, limit: u64) -> u64 {
        self.steps += 1;
        assert!(self.steps <= limit, "{} steps are too many", self.steps);
        self.steps
    }

    pub fn crawl(&mut self, micros: u64) {
        thread::sleep(Duration::from_micros(micros));
        self.steps += 1;
    }

    pub fn look(&self, limit: u64) -> u64 {
        assert!(self.steps <= limit, "more than {limit}");
        self.steps
    }
}

/// How many objects the family has, without those that are on their way out.
fn settled_objects() -> usize {
    let mut before = heap_objects();
    loop {
        thread::sleep(Duration::from_millis(5));
        let now = heap_objects();
        if now == before {
            return now;
        }
        before = now;
    }
}

#[task]
fn count_to(dict: Dict<u64, u64>, key: u64, count: u64) {
    for i in 1..=count {
        dict.insert(key, i).unwrap();
    }
}

#[test]
fn values_are_worked_on_from_many_processes() {
    alone(|| {
        let manager = Manager::new().unwrap();
        let dict: Dict<u64, u64> = manager.dict().unwrap();
        let pool = Pool::builder().processes(3).build().unwrap();
        let inputs: Vec<_> = (0..8).map(|key| (dict.clone(), key, 100)).collect();
        pool.starmap(count_to, inputs).unwrap();
        assert_eq!(dict.len().unwrap(), 8);
        assert!((0..8).all(|key| dict.get(&key).unwrap() == Some(100)));
        drop(pool);
        manager.shutdown().unwrap();
    });
}

#[test]
fn a_dict_is_what_a_hash_map_is() {
    alone(|| {
        let manager = Manager::new().unwrap();
        let dict: Dict<String, Vec<u8>> = manager.dict().unwrap();
        assert!(dict.is_empty().unwrap());
        assert_eq!(dict.insert("a".into(), vec![1]).unwrap(), None);
        assert_eq!(dict.insert("a".into(), vec![2]).unwrap(), Some(vec![1]));
        assert_eq!(dict.get_or_insert("a".into(), vec![3]).unwrap(), vec![2]);
        assert_eq!(dict.get_or_insert("b".into(), vec![3]).unwrap(), vec![3]);
        assert!(dict.contains_key("b").unwrap() && !dict.contains_key("c").unwrap());
        assert_eq!(dict.remove("b").unwrap(), Some(vec![3]));
        dict.extend([("c".to_owned(), vec![4; 100_000])].into()).unwrap();
        // Longer than a ring's room for what lies in it.
        assert_eq!(dict.get("c").unwrap().unwrap().len(), 100_000);
        let mut keys = dict.keys().unwrap();
        keys.sort();
        assert_eq!(keys, ["a", "c"]);
        assert_eq!(dict.values().unwrap().iter().map(Vec::len).sum::<usize>(), 100_001);
        assert_eq!(dict.to_map().unwrap()["a"], [2]);
        dict.clear().unwrap();
        assert_eq!(dict.len().unwrap(), 0);

        let value: Value<String> = manager.value("old".to_owned()).unwrap();
        assert_eq!(value.replace("new".to_owned()).unwrap(), "old");
        value.set("newer".to_owned()).unwrap();
        assert_eq!(value.get().unwrap(), "newer");
    });
}

#[test]
fn a_panic_is_its_callers_error_and_poisons_what_it_could_change() {
    alone(|| {
        let manager = Manager::new().unwrap();
        let worker = WorkerProxy::new(&manager).unwrap();
        assert_eq!(worker.step(1).unwrap(), 1);
        // It could change nothing.
        assert!(matches!(worker.look(0), Err(ManagerError::Panicked { .. })));
        assert_eq!(worker.look(1).unwrap(), 1);
        assert!(!worker.is_poisoned().unwrap());

        let error = worker.step(1).unwrap_err();
        let ManagerError::Panicked { info, .. } = &error else { panic!("{error}") };
        assert_eq!(info.message(), "2 steps are too many");
        assert!(info.location().unwrap().contains("manager.rs"));
        assert!(error.to_string().contains("step"), "{error}");
        assert!(matches!(worker.look(9), Err(ManagerError::Poisoned(_))));
        assert!(worker.is_poisoned().unwrap());
        assert!(procession::Error::from(worker.step(9).unwrap_err()).is_poisoned());
        worker.clear_poison().unwrap();
        assert_eq!(worker.step(9).unwrap(), 3);
    });
}

/// Can't be decoded where it is odd, nor encoded where it is above a hundred.
#[derive(Debug, PartialEq)]
struct Fussy(u8);

impl Serialize for Fussy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 > 100 {
            return Err(serde::ser::Error::custom("more than a hundred"));
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Fussy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u8::deserialize(deserializer)?;
        if number % 2 == 1 {
            return Err(serde::de::Error::custom("odd"));
        }
        Ok(Self(number))
    }
}

#[test]
fn what_can_not_be_encoded_or_decoded_is_an_error_of_that_call() {
    alone(|| {
        let manager = Manager::new().unwrap();
        let value = manager.value(Fussy(2)).unwrap();
        for (number, text) in [(200, "more than a hundred"), (3, "odd")] {
            let error = value.set(Fussy(number)).unwrap_err();
            assert!(matches!(error, ManagerError::Data(_)), "{error}");
            assert!(error.to_string().contains(text), "{error}");
            let error = manager.batch(|tx| value.on(tx).set(Fussy(number))).unwrap().get();
            assert!(error.unwrap_err().to_string().contains(text));
        }
        assert_eq!(value.get().unwrap(), Fussy(2));
    });
}

#[test]
fn a_batch_is_executed_in_order_and_tells_each_result() {
    alone(|| {
        let manager = Manager::new().unwrap();
        let squares = manager.dict::<u64, u64>().unwrap();
        let worker = WorkerProxy::new(&manager).unwrap();
        let (last, seven, none) = manager
            .batch(|tx| {
                for i in 0..1000 {
                    squares.on(tx).insert(i, i * i);
                }
                let last = worker.on(tx).step(5);
                (last, squares.on(tx).get(&7), squares.on(tx).remove(&5000))
            })
            .unwrap();
        assert_eq!(last.get().unwrap(), 1);
        assert_eq!(seven.get().unwrap(), Some(49));
        assert_eq!(none.get().unwrap(), None);
        assert_eq!(squares.len().unwrap(), 1000);

        // A failure that somebody keeps is his, one that nobody keeps is the batch's; the others go on.
        let (bad, good) =
            manager.batch(|tx| (worker.on(tx).look(0), squares.on(tx).get(&1))).unwrap();
        assert!(matches!(bad.get(), Err(ManagerError::Panicked { .. })));
        assert_eq!(good.get().unwrap(), Some(1));
        let failed = manager.batch(|tx| {
            worker.on(tx).look(0);
            squares.on(tx).insert(1, 11);
        });
        assert!(matches!(failed, Err(ManagerError::Panicked { .. })));
        assert_eq!(squares.get(&1).unwrap(), Some(11));

        assert!(manager.batch(|_| ()).is_ok());
        let other = Manager::new().unwrap();
        let theirs = other.value(1_u8).unwrap();
        let (ours, refused) =
            manager.batch(|tx| (squares.on(tx).len(), theirs.on(tx).get())).unwrap();
        assert_eq!(ours.get().unwrap(), 1000);
        assert!(matches!(refused.get(), Err(ManagerError::Refused(_))));
    });
}

#[test]
fn a_value_lives_as_long_as_a_proxy_does() {
    alone(|| {
        let manager = Manager::new().unwrap();
        manager.value(0_u8).unwrap();
        // The connection stays.
        let before = settled_objects();
        let dict = manager.dict::<u8, u8>().unwrap();
        let other = dict.clone();
        assert_eq!(settled_objects(), before + 1);
        drop(dict);
        other.insert(1, 2).unwrap();
        assert_eq!(settled_objects(), before + 1);

        // On its way, it is held by the queue.
        let queue: Queue<Dict<u8, u8>> = Queue::unbounded().unwrap();
        queue.put(other).unwrap();
        let other = queue.get().unwrap();
        assert_eq!(other.get(&1).unwrap(), Some(2));
        drop((other, queue));
        wait_until("it is gone", || heap_objects() == before);

        // A queue that goes with what is in it tells nobody.
        let queue: Queue<Dict<u8, u8>> = Queue::unbounded().unwrap();
        queue.put(manager.dict().unwrap()).unwrap();
        drop(queue);
        wait_until("it is gone", || heap_objects() == before);
    });
}

#[task]
fn hold(dict: Dict<u8, u8>, ready: Queue<()>) {
    dict.insert(1, 1).unwrap();
    ready.put(()).unwrap();
    loop {
        thread::park();
    }
}

#[task]
fn make(manager_value: Value<u8>, dict: Dict<u8, u8>) -> Dict<u8, u8> {
    manager_value.set(dict.len().unwrap() as u8).unwrap();
    dict
}

#[test]
fn what_a_killed_process_held_is_let_go() {
    alone(|| {
        let manager = Manager::new().unwrap();
        let value = manager.value(0_u8).unwrap();
        let ready = Queue::unbounded().unwrap();
        let before = settled_objects();
        for _ in 0..5 {
            let dict = manager.dict().unwrap();
            let holder = Process::new(hold, (dict, ready.clone())).daemon(true).start().unwrap();
            ready.get().unwrap();
            assert!(heap_objects() > before);
            holder.kill().unwrap();
            assert!(holder.join().is_err());
            wait_until("it is gone", || heap_objects() == before);
        }
        // One that comes back in a result.
        let dict = manager.dict().unwrap();
        dict.insert(1, 1).unwrap();
        let process = Process::new(make, (value.clone(), dict)).start().unwrap();
        let dict = process.join().unwrap();
        drop(process);
        assert_eq!((value.get().unwrap(), dict.get(&1).unwrap()), (1, Some(1)));
        drop(dict);
        wait_until("it is gone", || heap_objects() == before);
    });
}

#[test]
fn proxies_nest() {
    alone(|| {
        let manager = Manager::new().unwrap();
        let outer = manager.dict::<String, Dict<u8, u8>>().unwrap();
        let before = settled_objects();
        let inner = manager.dict().unwrap();
        inner.insert(1, 2).unwrap();
        outer.insert("a".into(), inner.clone()).unwrap();
        outer.insert("b".into(), inner).unwrap();
        // Whoever has the outer one reaches the inner one.
        assert_eq!(outer.get("a").unwrap().unwrap().get(&1).unwrap(), Some(2));
        drop(outer.remove("a").unwrap());
        thread::sleep(Duration::from_millis(20));
        assert_eq!(outer.get("b").unwrap().unwrap().get(&1).unwrap(), Some(2));
        outer.clear().unwrap();
        wait_until("the inner one is gone", || heap_objects() == before);
        outer.insert("c".into(), manager.dict().unwrap()).unwrap();
        drop(outer);
        wait_until("both are gone", || heap_objects() == before - 1);
    });
}

#[test]
fn a_name_keeps_an_object_and_finds_it() {
    alone(|| {
        let manager = Manager::new().unwrap();
        manager.value(0_u8).unwrap();
        let before = settled_objects();
        let counts = manager.dict::<String, u64>().unwrap();
        manager.name("counts", &counts).unwrap();
        assert!(matches!(manager.name("counts", &counts), Err(ManagerError::Refused(_))));
        counts.insert("a".into(), 1).unwrap();
        drop(counts);
        thread::sleep(Duration::from_millis(20));
        let counts: Dict<String, u64> = manager.named("counts").unwrap();
        assert_eq!(counts.get("a").unwrap(), Some(1));
        let error = manager.named::<Dict<String, i64>>("counts").unwrap_err();
        assert!(matches!(error, ManagerError::TypeMismatch { .. }));
        let text = error.to_string();
        assert!(text.contains("u64") && text.contains("i64"), "{text}");
        assert!(matches!(manager.named::<Value<u8>>("none"), Err(ManagerError::Gone(_))));
        drop(counts);
        assert!(manager.unname("counts").unwrap() && !manager.unname("counts").unwrap());
        wait_until("it is gone", || heap_objects() == before);
    });
}

#[test]
fn the_server_ends_with_its_manager() {
    alone(|| {
        for by_drop in [false, true] {
            let manager = Manager::new().unwrap();
            let pid = manager.pid();
            let value = manager.value(1_u8).unwrap();
            assert!(is_running(pid));
            if by_drop {
                drop(manager);
                wait_until("the server has ended", || !is_running(pid));
            } else {
                manager.shutdown().unwrap();
                assert!(!is_running(pid));
            }
            wait_until("calls fail", || value.get().is_err());
            let error = value.get().unwrap_err();
            assert!(matches!(error, ManagerError::Lost(_)), "{error}");
            assert!(procession::Error::from(error).is_disconnected());
            // In a process that has never called it, too.
            let other = Process::new(look, (value,)).start().unwrap();
            assert!(other.join().unwrap().contains("gone"));
        }
    });
}

#[task]
fn look(value: Value<u8>) -> String {
    value.get().unwrap_err().to_string()
}

#[test]
fn a_killed_server_is_noticed_within_a_second() {
    alone(|| {
        let manager = Manager::new().unwrap();
        let worker = WorkerProxy::new(&manager).unwrap();
        let value = manager.value(0_u8).unwrap();
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let worker = worker.clone();
                thread::spawn(move || (worker.nap(600_000), Instant::now()))
            })
            .collect();
        value.get().unwrap();
        let killed = Instant::now();
        kill(Pid::from_raw(manager.pid() as i32), Signal::SIGKILL).unwrap();
        for waiting in waiting {
            let (result, at) = waiting.join().unwrap();
            assert!(matches!(result, Err(ManagerError::Lost(_))));
            assert!(at - killed < Duration::from_secs(1), "{:?}", at - killed);
        }
        assert!(matches!(value.get(), Err(ManagerError::Lost(_))));
        assert!(manager.shutdown().is_err());
    });
}

#[test]
fn an_interrupt_does_not_end_the_server() {
    alone(|| {
        let manager = Manager::new().unwrap();
        let value = manager.value(1_u8).unwrap();
        for _ in 0..3 {
            kill(Pid::from_raw(manager.pid() as i32), Signal::SIGINT).unwrap();
            assert_eq!(value.get().unwrap(), 1);
        }
    });
}

#[test]
fn an_object_that_many_want_alone_holds_up_no_other() {
    alone(|| {
        let manager = Manager::new().unwrap();
        let (value, worker) = (manager.value(0_u32).unwrap(), WorkerProxy::new(&manager).unwrap());
        let ends = AtomicBool::new(false);
        thread::scope(|scope| {
            let crowd: Vec<_> = (0..12)
                .map(|_| {
                    scope.spawn(|| {
                        let mut count = 0;
                        while !ends.load(Relaxed) {
                            worker.crawl(20_000).unwrap();
                            count += 1;
                        }
                        count
                    })
                })
                .collect();
            let begin = Instant::now();
            for i in 0..500 {
                value.set(i).unwrap();
                assert_eq!(value.get().unwrap(), i);
            }
            // Were they to wait for the object, each for a method's time, this would take twenty seconds.
            let calls = begin.elapsed();
            ends.store(true, Relaxed);
            let counts: Vec<u64> = crowd.into_iter().map(|one| one.join().unwrap()).collect();
            assert!(calls < Duration::from_secs(5), "{calls:?}, {counts:?}");
            assert_eq!(worker.look(u64::MAX).unwrap(), counts.iter().sum::<u64>());
        });
    });
}

#[test]
fn a_slow_method_holds_up_nobody() {
    alone(|| {
        let manager = Manager::new().unwrap();
        let value = manager.value(0_u32).unwrap();
        let workers: Vec<_> = (0..12).map(|_| WorkerProxy::new(&manager).unwrap()).collect();
        let naps: Vec<_> = workers
            .into_iter()
            .map(|worker| {
                thread::spawn(move || {
                    let begin = Instant::now();
                    worker.nap(1000).unwrap();
                    begin.elapsed()
                })
            })
            .collect();
        let begin = Instant::now();
        for i in 0..200 {
            value.set(i).unwrap();
            assert_eq!(value.get().unwrap(), i);
        }
        // Were they executed one after the other, this would take twelve seconds.
        let calls = begin.elapsed();
        assert!(naps.iter().any(|nap| !nap.is_finished()), "{calls:?}");
        for nap in naps {
            let took = nap.join().unwrap();
            assert!(took >= Duration::from_secs(1));
        }
        assert!(begin.elapsed() < Duration::from_secs(6), "{:?}", begin.elapsed());
    });
}

#[task]
fn count_up(dict: Dict<String, u64>, worker: WorkerProxy, key: u64, start: Barrier) {
    start.wait().unwrap();
    for i in 0..50 {
        dict.insert(format!("{key} {i}"), i).unwrap();
        worker.step(u64::MAX).unwrap();
    }
}

#[test]
fn sixty_four_clients_at_once_lose_nothing() {
    alone(|| {
        let manager = Manager::new().unwrap();
        let dict = manager.dict().unwrap();
        let worker = WorkerProxy::new(&manager).unwrap();
        let start = Barrier::new(64).unwrap();
        let clients: Vec<_> = (0..64)
            .map(|key| {
                let args = (dict.clone(), worker.clone(), key, start.clone());
                Process::new(count_up, args).start().unwrap()
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        assert_eq!(dict.len().unwrap(), 64 * 50);
        assert_eq!(worker.look(u64::MAX).unwrap(), 64 * 50);
    });
}

#[test]
fn a_process_may_have_several_managers_and_threads() {
    alone(|| {
        let managers: Vec<_> = (0..3).map(|_| Manager::new().unwrap()).collect();
        let values: Vec<_> = managers.iter().map(|manager| manager.value(0_u64).unwrap()).collect();
        thread::scope(|scope| {
            for thread in 0..4 {
                let values = &values;
                scope.spawn(move || {
                    for (i, value) in (0..).zip(values) {
                        for _ in 0..100 {
                            value.set(i).unwrap();
                            assert_eq!(value.get().unwrap(), i, "{thread}");
                        }
                    }
                });
            }
        });
    });
}

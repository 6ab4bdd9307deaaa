//! A manager and its clients.

use procession::manager::Queue;
use procession::sync::Event;
use procession::{Address, AuthKey, Dict, Manager, Process, TaskFn};
use serde::{Deserialize, Serialize};

use crate::managed::{KEYS, MANY, Managed, Through};
use crate::measure::{each, p50};

/// What is kept between rounds.
#[derive(Debug, Default)]
pub(super) struct Managers {
    manager: Option<Manager>,
}

impl Managers {
    /// Does one round of a row.
    pub(super) fn run(&mut self, work: Managed, count: usize) -> f64 {
        let manager = self.manager.get_or_insert_with(|| Manager::new().expect("a manager"));
        match work {
            Managed::Get(clients) => {
                let dict: Dict<u64, u64> = manager.dict().expect("a dictionary");
                dict.extend((0..KEYS).map(|key| (key, key + 1)).collect()).expect("the server");
                at_once(get, &dict, clients, count)
            }
            Managed::Set(clients) => {
                let dict = manager.dict().expect("a dictionary");
                let nanos = at_once(set, &dict, clients, count);
                let keys = dict.len().expect("the server");
                assert_eq!(keys, count.div_ceil(clients).min(KEYS as usize));
                nanos
            }
            Managed::PutAndGet(clients) => {
                let queue = manager.queue(None).expect("a queue");
                let nanos = at_once(put_and_get, &queue, clients, count);
                assert!(queue.is_empty().expect("the server"), "an item was doubled");
                nanos
            }
            Managed::Lock => {
                let lock = manager.lock().expect("a lock");
                let pass = || drop(lock.lock().expect("nobody has died"));
                each(count, || (0..count).for_each(|_| pass()))
            }
            Managed::SetMany => {
                let dict: Dict<u64, u64> = manager.dict().expect("a dictionary");
                let set = || {
                    let sets = |batch: &_| {
                        let dict = dict.on(batch);
                        (0..MANY as u64).for_each(|i| drop(dict.insert(i, i)));
                    };
                    manager.batch(sets).expect("the server");
                };
                let nanos = p50(count, set);
                assert_eq!(dict.len().expect("the server"), MANY);
                nanos / MANY as f64
            }
            Managed::Afar(through) => afar(through, count),
            Managed::StartAndStop => p50(count, || {
                let manager = Manager::new().expect("a manager");
                manager.shutdown().expect("its end");
            }),
        }
    }
}

/// Connects to a manager of its own as if it were another program's.
fn afar(through: Through, count: usize) -> f64 {
    let address = match through {
        Through::Tcp => Address::tcp("127.0.0.1", 0),
        Through::Unix => Address::abstract_name(format!("benches-{}", std::process::id())),
    };
    let key = AuthKey::new("a key of these benches");
    let manager = Manager::builder().bind(address).auth_key(&key).build().expect("a manager");
    let client = Manager::connect(manager.address().expect("it listens"), &key).expect("its key");
    let dict: Dict<u64, u64> = client.dict().expect("a dictionary");
    dict.insert(1, 2).expect("the server");
    let nanos = p50(count, || assert_eq!(dict.get(&1).expect("the server"), Some(2)));
    drop((dict, client));
    manager.shutdown().expect("its end");
    nanos
}

/// How clients begin together: each says that it is there, and waits until the gate is open. In the end it
/// says so again.
#[derive(Clone, Serialize, Deserialize)]
struct Together {
    here: procession::Queue<()>,
    gate: Event,
}

impl Together {
    /// Calls `f` so many times with the others, and once before, for the way to the server.
    fn run(&self, count: u64, f: impl Fn(u64)) {
        f(0);
        self.here.put(()).expect("a report");
        self.gate.wait();
        (0..count).for_each(f);
        self.here.put(()).expect("a report");
    }
}

/// Has clients do so many calls in all, and gives the time for one: from the opening of the gate to the last
/// client's end.
fn at_once<M, F, T>(client: F, object: &T, clients: usize, count: usize) -> f64
where
    F: TaskFn<M, Args = (T, Together, u64), Output = ()> + Copy,
    T: Clone,
{
    let here = procession::Queue::unbounded().expect("a queue");
    let together = Together { here, gate: Event::new().expect("an event") };
    let of_each = count.div_ceil(clients);
    let running: Vec<_> = (0..clients)
        .map(|_| (object.clone(), together.clone(), of_each as u64))
        .map(|arguments| Process::new(client, arguments).start().expect("a process"))
        .collect();
    let all = || (0..clients).for_each(|_| together.here.get().expect("a client"));
    all();
    let nanos = each(of_each * clients, || {
        together.gate.set();
        all();
    });
    running.iter().for_each(|client| client.join().expect("its end"));
    nanos
}

fn get(dict: Dict<u64, u64>, together: Together, count: u64) {
    together.run(count, |i| {
        let key = i % KEYS;
        assert_eq!(dict.get(&key).expect("the server"), Some(key + 1));
    });
}

fn set(dict: Dict<u64, u64>, together: Together, count: u64) {
    together.run(count, |i| _ = dict.insert(i % KEYS, i).expect("the server"));
}

fn put_and_get(queue: Queue<u64>, together: Together, count: u64) {
    together.run(count, |i| {
        queue.put(i).expect("the server");
        queue.get().expect("the server");
    });
}

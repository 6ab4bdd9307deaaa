//! Locks and semaphores, between processes and threads, and how all that is in `sync` travels. Conditions,
//! events and barriers are in `sync_waits.rs`; what becomes of them all when processes are killed is in
//! `sync_kills.rs`.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use procession::sync::{
    Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, RwLock, Semaphore,
};
use procession::{Error, Pool, Process, Queue, SharedValue, TryLockError, bind, task};
use procession_tests::{alone, heap_memory};
use serde::{Deserialize, Serialize};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

fn pool(processes: usize) -> Pool {
    Pool::builder().processes(processes).build().unwrap()
}

/// How long it takes.
fn time(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

/// A number, and the lock under which it is changed.
#[derive(Clone, Serialize, Deserialize)]
struct Account {
    lock: Lock,
    balance: SharedValue<u64>,
}

impl Account {
    fn new() -> Self {
        Self { lock: Lock::new().unwrap(), balance: SharedValue::new(0).unwrap() }
    }

    /// Not one operation: it counts wrong if two are inside.
    fn deposit(&self) {
        let _guard = self.lock.lock().unwrap();
        let before = self.balance.get();
        self.balance.set(before + 1);
    }
}

#[task]
fn deposit_with_threads(account: Account, times: u64) {
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..times).for_each(|_| account.deposit()));
        }
    });
}

#[test]
fn a_lock_excludes_processes_and_threads() {
    alone(|| {
        let account = Account::new();
        let start = |_| Process::new(deposit_with_threads, (account.clone(), 3000)).start();
        let others = (0..3).map(start).collect::<Result<Vec<_>, _>>().unwrap();
        deposit_with_threads(account.clone(), 3000);
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(account.balance.get(), 4 * 2 * 3000);
        assert!(!account.lock.is_locked() && !account.lock.is_poisoned());
    });
}

/// What travels with what else, and in what.
#[derive(Serialize, Deserialize)]
enum Means {
    One(Account),
    Many { locks: Vec<(RLock, RwLock)>, by_name: BTreeMap<String, Option<Condition>> },
    Nothing,
}

#[task]
fn turn_around(means: Vec<Means>) -> Vec<Means> {
    for means in &means {
        match means {
            Means::One(account) => account.deposit(),
            Means::Many { locks, by_name } => {
                for (rlock, rwlock) in locks {
                    let _guards = (rlock.lock().unwrap(), rwlock.write().unwrap());
                }
                for condition in by_name.values().flatten() {
                    condition.notify_all(&condition.lock().unwrap());
                }
            }
            Means::Nothing => {}
        }
    }
    means.into_iter().rev().collect()
}

#[test]
fn l11_all_of_them_are_arguments_and_results_of_tasks() {
    alone(|| {
        let pool = pool(2);
        let account = Account::new();
        let many = Means::Many {
            locks: (0..50).map(|_| (RLock::new().unwrap(), RwLock::new().unwrap())).collect(),
            by_name: BTreeMap::from([
                ("one".to_owned(), Some(Condition::new().unwrap())),
                ("none".to_owned(), None),
            ]),
        };
        let given = vec![Means::One(account.clone()), many, Means::Nothing];
        let back = pool.apply(turn_around, (given,)).unwrap();
        let [Means::Nothing, Means::Many { locks, by_name }, Means::One(same)] = &back[..] else {
            panic!("{} came back", back.len());
        };
        assert!(
            locks.iter().all(|(rlock, rwlock)| !rlock.is_locked() && rwlock.try_write().is_ok())
        );
        assert_eq!(by_name.len(), 2);
        assert_eq!(same.balance.get(), 1);
        // It is the same lock, not a copy.
        let _guard = account.lock.lock().unwrap();
        assert!(same.lock.is_locked());
    });
}

#[task]
fn make_all() -> (Lock, Semaphore, BoundedSemaphore, Event, Barrier) {
    let event = Event::new().unwrap();
    event.set();
    (
        Lock::new().unwrap(),
        Semaphore::new(3).unwrap(),
        BoundedSemaphore::new(4).unwrap(),
        event,
        Barrier::new(5).unwrap(),
    )
}

#[test]
fn l11_what_a_worker_makes_outlives_it() {
    alone(|| {
        let pool = pool(1);
        let (lock, semaphore, bounded, event, barrier) = pool.apply(make_all, ()).unwrap();
        drop(pool);
        drop(lock.lock().unwrap());
        assert_eq!((semaphore.value(), bounded.value(), barrier.parties()), (3, 4, 5));
        assert!(event.is_set() && bounded.release().is_err());
        // Bound to a callable, and through a queue.
        let queue = Queue::unbounded().unwrap();
        queue.put((lock, semaphore)).unwrap();
        let (lock, semaphore): (Lock, Semaphore) = queue.get().unwrap();
        let _guard = lock.lock().unwrap();
        let pool = self::pool(2);
        let values = pool.map(bind(see, (lock.clone(), semaphore)), 0..4).unwrap();
        assert_eq!(values, [(true, 3); 4]);
    });
}

#[task]
fn see(lock: Lock, semaphore: Semaphore, _item: u32) -> (bool, u32) {
    (lock.is_locked(), semaphore.value())
}

#[test]
fn handles_can_not_be_written_to_a_file() {
    let errors = [
        serde_json::to_string(&Lock::new().unwrap()),
        serde_json::to_string(&Condition::new().unwrap()),
        serde_json::to_string(&Barrier::new(1).unwrap()),
    ];
    for error in errors {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("can only be sent in a call"), "{error}");
    }
    assert!(serde_json::from_str::<Lock>("[0, 1]").is_err());
    assert!(serde_json::from_str::<Condition>("[[0, 1], [1, 1]]").is_err());
}

/// Holds it twice, until it is told otherwise; then says how deep it was.
#[task]
fn hold_twice(lock: RLock, holds: Event, may_go: Event) -> (usize, usize) {
    let outer = lock.lock().unwrap();
    let inner = lock.try_lock().unwrap();
    holds.set();
    may_go.wait();
    let depth = lock.depth();
    drop(outer);
    let depths = (depth, lock.depth());
    drop(inner);
    depths
}

#[test]
fn y1_an_rlock_belongs_to_one_thread_of_one_process() {
    alone(|| {
        let lock = RLock::new().unwrap();
        let [holds, may_go] = [(); 2].map(|()| Event::new().unwrap());
        let args = (lock.clone(), holds.clone(), may_go.clone());
        let holder = Process::new(hold_twice, args).start().unwrap();
        holds.wait();
        assert!(lock.is_locked() && lock.depth() == 0);
        assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
        assert!(matches!(lock.lock_timeout(SHORT), Err(TryLockError::WouldBlock)));
        may_go.set();
        let guard = lock.lock().unwrap();
        assert_eq!(lock.depth(), 1);
        drop(guard);
        assert_eq!(holder.join().unwrap(), (2, 1));
    });
}

#[task]
fn nest(lock: RLock, value: SharedValue<u64>, times: u64) {
    for _ in 0..times {
        let _outer = lock.lock().unwrap();
        let before = value.get();
        let _inner = lock.lock().unwrap();
        value.set(before + 1);
    }
}

#[test]
fn an_rlock_excludes_processes_and_threads() {
    alone(|| {
        let (lock, value) = (RLock::new().unwrap(), SharedValue::new(0).unwrap());
        let start = |_| Process::new(nest, (lock.clone(), value.clone(), 5000)).start();
        let others = (0..2).map(start).collect::<Result<Vec<_>, _>>().unwrap();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| nest(lock.clone(), value.clone(), 5000));
            }
        });
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(value.get(), 4 * 5000);
    });
}

/// Passes many times; says how many were inside at most, itself included.
#[task]
fn pass(permits: BoundedSemaphore, inside: SharedValue<u32>, times: u32) -> u32 {
    let once = |_| {
        let _permit = permits.acquire();
        let most = inside.fetch_add(1) + 1;
        inside.fetch_sub(1);
        most
    };
    (0..times).map(once).max().unwrap()
}

#[test]
fn y1_no_more_pass_than_there_are_permits() {
    alone(|| {
        let permits = BoundedSemaphore::new(2).unwrap();
        let inside = SharedValue::new(0).unwrap();
        let pool = pool(4);
        let args = (0..8).map(|_| (permits.clone(), inside.clone(), 500));
        let most = pool.starmap(pass, args).unwrap();
        assert!(most.iter().all(|most| (1..=2).contains(most)), "{most:?}");
        assert_eq!((permits.value(), inside.get()), (2, 0));
        assert!(permits.release().unwrap_err().to_string().contains("too often"));
    });
}

#[task]
fn produce(items: Semaphore, times: u32) {
    (0..times).for_each(|_| items.release());
}

#[test]
fn y1_permits_are_released_by_one_process_and_taken_by_another() {
    alone(|| {
        let items = Semaphore::new(0).unwrap();
        assert!(items.try_acquire().is_none());
        assert!(time(|| assert!(items.acquire_timeout(SHORT).is_none())) >= SHORT);
        let producer = Process::new(produce, (items.clone(), 1000)).start().unwrap();
        (0..1000).for_each(|_| items.acquire().forget());
        producer.join().unwrap();
        assert!(items.try_acquire().is_none() && items.value() == 0);
    });
}

#[task]
fn end_with_permits(permits: Semaphore, forgotten: u32) {
    (0..forgotten).for_each(|_| permits.acquire().forget());
    std::mem::forget((permits.acquire(), permits.acquire()));
    std::process::exit(0);
}

#[test]
fn y3_the_permits_of_a_process_that_ends_come_back_once() {
    alone(|| {
        let permits = Semaphore::new(3).unwrap();
        let ended = Process::new(end_with_permits, (permits.clone(), 1)).start().unwrap();
        assert!(ended.join().is_err());
        let both = (permits.acquire(), permits.acquire());
        assert!(permits.acquire_timeout(SHORT).is_none());
        drop(both);
        assert_eq!(permits.value(), 2);
    });
}

#[task]
fn move_both(lock: RwLock, pair: [SharedValue<u64>; 2], times: u64) {
    for _ in 0..times {
        let _guard = lock.write().unwrap();
        pair.iter().for_each(|value| value.set(value.get() + 1));
    }
}

#[test]
fn a_rwlock_lets_many_read_or_one_write() {
    alone(|| {
        let lock = RwLock::new().unwrap();
        let pair = [(); 2].map(|()| SharedValue::new(0).unwrap());
        let start = |_| Process::new(move_both, (lock.clone(), pair.clone(), 500)).start();
        let writers = (0..2).map(start).collect::<Result<Vec<_>, _>>().unwrap();
        while pair[1].get() < 1000 {
            let _guards = lock.read().unwrap();
            let both = [pair[0].get(), pair[1].get()];
            assert_eq!(both[0], both[1]);
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let readers = (lock.read().unwrap(), lock.read().unwrap());
        assert!(time(|| assert!(lock.write_timeout(SHORT).is_err())) >= SHORT);
        drop(readers);
        let _writer = lock.write().unwrap();
        assert!(time(|| assert!(lock.read_timeout(SHORT).is_err())) >= SHORT);
    });
}

#[task]
fn panic_inside(lock: Lock, rlock: RLock, rwlock: RwLock) {
    let _guards = (lock.lock().unwrap(), rlock.lock().unwrap(), rwlock.write().unwrap());
    panic!("on purpose");
}

#[test]
fn y3_a_holder_that_panics_is_told_to_the_next() {
    alone(|| {
        let pool = pool(1);
        let (lock, rlock) = (Lock::new().unwrap(), RLock::new().unwrap());
        let rwlock = RwLock::new().unwrap();
        let args = (lock.clone(), rlock.clone(), rwlock.clone());
        assert!(pool.apply(panic_inside, args).unwrap_err().panic().is_some());
        assert!(Error::from(lock.lock().unwrap_err()).is_poisoned());
        assert!(rlock.lock().is_err() && rwlock.read().is_err());
        lock.clear_poison();
        rlock.clear_poison();
        rwlock.clear_poison();
        drop((lock.lock().unwrap(), rlock.lock().unwrap(), rwlock.write().unwrap()));
        // The worker lives on, and finds them so.
        let locks = (lock, rlock, rwlock);
        assert!(pool.apply(are_free, locks).unwrap());
    });
}

#[task]
fn are_free(lock: Lock, rlock: RLock, rwlock: RwLock) -> bool {
    lock.try_lock().is_ok() && rlock.try_lock().is_ok() && rwlock.try_write().is_ok()
}

#[task]
fn hold_all(lock: Lock, rlock: RLock, rwlock: RwLock, permits: Semaphore, holds: Event) {
    let _guards = (lock.lock(), rlock.lock(), rlock.lock(), rwlock.write(), permits.acquire());
    holds.set();
    thread::sleep(LONG);
}

#[test]
fn y3_a_holder_that_is_killed_is_told_to_the_next() {
    alone(|| {
        let (lock, rlock) = (Lock::new().unwrap(), RLock::new().unwrap());
        let (rwlock, permits) = (RwLock::new().unwrap(), Semaphore::new(1).unwrap());
        let holds = Event::new().unwrap();
        let args = (lock.clone(), rlock.clone(), rwlock.clone(), permits.clone(), holds.clone());
        let holder = Process::new(hold_all, args).start().unwrap();
        holds.wait();
        thread::scope(|scope| {
            // Some wait already when it is killed, and some come afterwards.
            let waiters = [
                scope.spawn(|| lock.lock().is_err()),
                scope.spawn(|| rlock.lock().is_err()),
                scope.spawn(|| rwlock.write().is_err()),
                scope.spawn(|| permits.acquire_timeout(LONG).is_some()),
            ];
            thread::sleep(SHORT);
            assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
            holder.kill().unwrap();
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
        });
        assert!(holder.join().unwrap_err().is_worker_lost());
        assert!(matches!(lock.try_lock(), Err(TryLockError::Poisoned(_))));
        let guard = rlock.lock().unwrap_err().into_inner();
        assert_eq!(rlock.depth(), 1);
        drop(guard);
        assert!(rwlock.is_poisoned() && permits.value() == 1);
    });
}

#[test]
fn what_is_dropped_leaves_nothing() {
    fn make(times: usize) {
        for _ in 0..times {
            drop(Lock::new().unwrap());
            drop(RLock::new().unwrap());
            drop(Semaphore::new(3).unwrap());
            drop(BoundedSemaphore::new(3).unwrap());
            drop(Condition::new().unwrap());
            drop(Event::new().unwrap());
            drop(Barrier::new(3).unwrap());
            drop(RwLock::new().unwrap());
        }
    }
    fn mappings() -> usize {
        std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
    }
    alone(|| {
        make(10);
        let before = (heap_memory(), mappings());
        make(100_000);
        assert!(heap_memory() <= before.0 + (64 << 10), "{} {before:?}", heap_memory());
        // Other threads of the tests come and go with their stacks.
        assert!(mappings() <= before.1 + 16, "{} {before:?}", mappings());
    });
}

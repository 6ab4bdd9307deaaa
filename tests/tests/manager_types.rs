//! The built-in types of managers, and those under `#[managed]`, as many processes use them.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use procession::manager::{Event, JoinableQueue, List, Namespace, Queue, Set};
use procession::{Manager, ManagerError, Pool, Process, managed, task};
use procession_tests::{alone, wait_until};

/// Runs a test with a manager of its own, which must end well.
fn with_manager(test: impl FnOnce(&Manager)) {
    alone(|| {
        let manager = Manager::new().unwrap();
        test(&manager);
        manager.shutdown().unwrap();
    });
}

#[test]
fn a_list_tells_of_places_that_are_not_there() {
    with_manager(|manager| {
        let list: List<String> = manager.list(vec!["a".into(), "b".into()]).unwrap();
        list.push("c".into()).unwrap();
        assert_eq!(list.get(2).unwrap().as_deref(), Some("c"));
        assert_eq!(list.get(3).unwrap(), None);
        assert_eq!(list.set(1, "B".into()).unwrap().as_deref(), Some("b"));
        assert_eq!(list.set(3, "x".into()).unwrap(), None);
        assert!(list.insert(3, "d".into()).unwrap() && !list.insert(5, "x".into()).unwrap());
        assert!(list.swap(0, 3).unwrap() && !list.swap(0, 4).unwrap());
        assert_eq!(list.to_vec().unwrap(), ["d", "B", "c", "a"]);
        assert_eq!(list.remove(0).unwrap().as_deref(), Some("d"));
        assert_eq!(list.remove(3).unwrap(), None);
        assert_eq!(list.swap_remove(0).unwrap().as_deref(), Some("B"));
        list.extend(vec!["e".into()]).unwrap();
        list.reverse().unwrap();
        assert_eq!(list.replace(vec!["z".into()]).unwrap(), ["e", "c", "a"]);
        assert_eq!(list.pop().unwrap().as_deref(), Some("z"));
        assert!(list.is_empty().unwrap() && list.pop().unwrap().is_none());
        list.extend(vec!["p".into(), "q".into()]).unwrap();
        list.truncate(1).unwrap();
        assert_eq!(list.len().unwrap(), 1);
        list.clear().unwrap();
        assert_eq!(list.len().unwrap(), 0);
        assert!(!list.is_poisoned().unwrap());
    });
}

#[test]
fn a_set_is_looked_up_by_what_its_values_borrow_as() {
    with_manager(|manager| {
        let set: Set<String> = manager.set().unwrap();
        assert!(set.insert("a".into()).unwrap() && !set.insert("a".into()).unwrap());
        set.extend(HashSet::from(["b".to_owned(), "c".to_owned()])).unwrap();
        assert!(set.contains("b").unwrap() && !set.contains("d").unwrap());
        assert_eq!(set.get("c").unwrap().as_deref(), Some("c"));
        assert_eq!(set.take("c").unwrap().as_deref(), Some("c"));
        assert!(set.remove("b").unwrap() && !set.remove("b").unwrap());
        assert_eq!(set.to_set().unwrap(), HashSet::from(["a".to_owned()]));
        assert_eq!(set.len().unwrap(), 1);
        set.clear().unwrap();
        assert!(set.is_empty().unwrap());
    });
}

#[test]
fn a_namespace_has_values_of_all_types() {
    with_manager(|manager| {
        let space: Namespace = manager.namespace().unwrap();
        space.set("depth", &3_u32).unwrap();
        space.set("names", &vec!["a".to_owned()]).unwrap();
        assert_eq!(space.get::<u32>("depth").unwrap(), Some(3));
        assert_eq!(space.get::<Vec<String>>("names").unwrap().unwrap(), ["a"]);
        assert_eq!(space.get::<u32>("width").unwrap(), None);
        let error = space.get::<u64>("depth").unwrap_err();
        assert!(matches!(error, ManagerError::Data(_)), "{error}");
        assert!(error.to_string().contains("is a u32, not a u64"), "{error}");
        space.set("depth", &"deep".to_owned()).unwrap();
        assert_eq!(space.get::<String>("depth").unwrap().as_deref(), Some("deep"));
        assert_eq!(space.names().unwrap(), ["depth", "names"]);
        assert!(space.contains("names").unwrap());
        assert!(space.remove("names").unwrap() && !space.remove("names").unwrap());

        // A handle would be held by nobody there.
        let error = space.set("queue", &manager.queue::<u8>(None).unwrap()).unwrap_err();
        assert!(error.to_string().contains("`queue`"), "{error}");

        let [was, now] = manager
            .batch(|tx| {
                let was = space.on(tx).get::<String>("depth");
                space.on(tx).set("depth", &"deeper".to_owned()).unwrap();
                [was, space.on(tx).get::<String>("depth")]
            })
            .unwrap();
        assert_eq!(was.get().unwrap().as_deref(), Some("deep"));
        assert_eq!(now.get().unwrap().as_deref(), Some("deeper"));
    });
}

#[task]
fn produce(queue: Queue<u64>, from: u64, count: u64) {
    for i in from..from + count {
        queue.put(i).unwrap();
    }
}

#[task]
fn consume(queue: Queue<u64>, count: u64) -> Vec<u64> {
    (0..count).map(|_| queue.get().unwrap()).collect()
}

#[test]
fn a_bounded_queue_brings_each_item_once() {
    with_manager(|manager| {
        let queue: Queue<u64> = manager.queue(Some(3)).unwrap();
        let consumers: Vec<_> =
            (0..2).map(|_| Process::new(consume, (queue.clone(), 100)).start().unwrap()).collect();
        let producers: Vec<_> = (0..4)
            .map(|i| Process::new(produce, (queue.clone(), i * 50, 50)).start().unwrap())
            .collect();
        producers.iter().for_each(|producer| producer.join().unwrap());
        let got: Vec<Vec<u64>> =
            consumers.iter().map(|consumer| consumer.join().unwrap()).collect();
        for items in &got {
            // What one producer has put stays in order.
            for i in 0..4 {
                let of_one: Vec<_> = items.iter().filter(|item| **item / 50 == i).collect();
                assert!(of_one.is_sorted());
            }
        }
        let mut all = got.concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..200));
        assert!(queue.is_empty().unwrap());
    });
}

#[test]
fn a_full_or_empty_queue_says_so_in_time() {
    with_manager(|manager| {
        let queue: Queue<String> = manager.queue(Some(1)).unwrap();
        let limit = Duration::from_millis(30);
        let begin = Instant::now();
        assert_eq!(queue.get_timeout(limit).unwrap(), None);
        assert!(begin.elapsed() >= limit);
        assert_eq!(queue.try_get().unwrap(), None);

        queue.put("a".into()).unwrap();
        assert!(queue.is_full().unwrap());
        assert_eq!(queue.try_put("b".into()).unwrap(), Err("b".to_owned()));
        let begin = Instant::now();
        assert_eq!(queue.put_timeout("b".into(), limit).unwrap(), Err("b".to_owned()));
        assert!(begin.elapsed() >= limit);
        assert_eq!(queue.get_timeout(Duration::MAX).unwrap().as_deref(), Some("a"));
        assert_eq!(queue.try_put("b".into()).unwrap(), Ok(()));
        assert_eq!(queue.len().unwrap(), 1);
    });
}

#[test]
fn who_waits_and_dies_gets_nothing() {
    with_manager(|manager| {
        let queue: Queue<u64> = manager.queue(None).unwrap();
        let waiting: Vec<_> =
            (0..3).map(|_| Process::new(consume, (queue.clone(), 100)).start().unwrap()).collect();
        // Somebody has got these, and waits for more.
        (0..3).for_each(|i| queue.put(i).unwrap());
        wait_until("they were got", || queue.is_empty().unwrap());
        for process in waiting {
            process.kill().unwrap();
            assert!(process.join().is_err());
        }
        for i in 0..10 {
            queue.put(i).unwrap();
        }
        let got: Vec<_> = (0..10).map(|_| queue.get().unwrap()).collect();
        assert!(got.into_iter().eq(0..10));
    });
}

#[task]
fn work_off(jobs: JoinableQueue<u64>, done: List<u64>) {
    while let Some(job) = jobs.get_timeout(Duration::from_secs(1)).unwrap() {
        done.push(job).unwrap();
        assert!(jobs.task_done().unwrap());
        if job % 2 == 1 {
            jobs.put(job - 1).unwrap();
        }
    }
}

#[test]
fn a_queue_is_joined_when_all_is_done() {
    with_manager(|manager| {
        let jobs: JoinableQueue<u64> = manager.joinable_queue(None).unwrap();
        let done = manager.list(Vec::new()).unwrap();
        jobs.join().unwrap();
        jobs.put(4).unwrap();
        assert!(!jobs.join_timeout(Duration::from_millis(10)).unwrap());
        let worker = Process::new(work_off, (jobs.clone(), done.clone())).start().unwrap();
        jobs.join().unwrap();
        assert_eq!(done.to_vec().unwrap(), [4]);
        assert_eq!(jobs.unfinished().unwrap(), 0);
        assert!(!jobs.task_done().unwrap(), "all are done");
        worker.join().unwrap();
    });
}

/// Says when it is dropped.
struct Farewell(procession::Queue<u32>);

#[managed]
impl Farewell {
    pub fn new(to: procession::Queue<u32>) -> Self {
        Self(to)
    }

    pub fn look(&self) -> u32 {
        self.0.len() as u32
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.put(1).unwrap();
    }
}

#[test]
fn what_is_left_is_dropped_with_the_server() {
    alone(|| {
        let told = procession::Queue::unbounded().unwrap();
        let manager = Manager::new().unwrap();
        let farewell = FarewellProxy::new(&manager, told.clone()).unwrap();
        assert_eq!(farewell.look().unwrap(), 0);
        manager.shutdown().unwrap();
        assert_eq!(told.try_get().unwrap(), 1);
        assert!(told.try_get().is_err());
    });
}

/// A list that a queue has given away lives until the answer is sent, however long the rest of its batch takes.
#[test]
fn what_is_in_an_answer_lives_until_it_is_sent() {
    with_manager(|manager| {
        let lists: Queue<List<u64>> = manager.queue(None).unwrap();
        lists.put(manager.list(vec![1, 2, 3]).unwrap()).unwrap();
        let other: Queue<u64> = manager.queue(None).unwrap();
        thread::scope(|scope| {
            let batch = scope.spawn(|| {
                manager
                    .batch(|tx| (lists.on(tx).get(), other.on(tx).get()))
                    .unwrap()
                    .0
                    .get()
                    .unwrap()
                    .len()
                    .unwrap()
            });
            wait_until("the list is taken", || lists.len().unwrap() == 0);
            // The server looks after the dead between requests.
            for _ in 0..2000 {
                assert_eq!(other.len().unwrap(), 0);
            }
            other.put(7).unwrap();
            assert_eq!(batch.join().unwrap(), 3);
        });
    });
}

#[test]
fn proxies_nest() {
    with_manager(|manager| {
        let lists = manager.dict::<String, List<u64>>().unwrap();
        lists.insert("a".into(), manager.list(vec![1, 2]).unwrap()).unwrap();
        let inner = lists.get("a").unwrap().unwrap();
        inner.push(3).unwrap();
        assert_eq!(lists.get("a").unwrap().unwrap().to_vec().unwrap(), [1, 2, 3]);
        let queues = manager.queue::<Queue<u64>>(None).unwrap();
        let queue = manager.queue(None).unwrap();
        queues.put(queue.clone()).unwrap();
        queues.get().unwrap().put(5).unwrap();
        assert_eq!(queue.get().unwrap(), 5);
    });
}

struct Account {
    balance: u64,
    log: Option<List<String>>,
}

#[managed]
impl Account {
    pub fn open(balance: u64) -> Result<Self, String> {
        if balance > 0 { Ok(Self { balance, log: None }) } else { Err("it is empty".into()) }
    }

    pub fn with_log(log: List<String>) -> Self {
        Self { balance: 0, log: Some(log) }
    }

    pub fn pay(&mut self, amount: u64) -> Result<u64, String> {
        self.balance = self.balance.checked_sub(amount).ok_or("too little")?;
        Ok(self.balance)
    }

    pub fn deposit(&mut self, amount: u64) {
        self.balance = self.balance.checked_add(amount).expect("too much");
        if let Some(log) = &self.log {
            log.push(format!("+{amount}")).expect("it is in this very process");
        }
    }

    pub fn balance(&self) -> u64 {
        self.balance
    }

    /// Waits for another call of the same object.
    pub fn meet(&self, here: Event, there: Event) -> bool {
        here.set().is_ok() && there.wait_timeout(Duration::from_secs(20)).is_ok_and(|is_set| is_set)
    }

    pub fn check(&self) {
        assert!(self.balance > 1_000_000, "not that much");
    }
}

#[task]
fn deposit(account: AccountProxy, times: u64) {
    for _ in 0..times {
        account.deposit(1).unwrap();
    }
}

#[test]
fn own_types_are_worked_on_from_many_processes() {
    with_manager(|manager| {
        let account = AccountProxy::open(manager, 5).unwrap().unwrap();
        assert_eq!(AccountProxy::open(manager, 0).unwrap().unwrap_err(), "it is empty");
        let pool = Pool::builder().processes(3).build().unwrap();
        pool.starmap(deposit, (0..20).map(|_| (account.clone(), 10))).unwrap();
        drop(pool);
        assert_eq!(account.balance().unwrap(), 205);
        assert_eq!(account.pay(5).unwrap(), Ok(200));
        assert_eq!(account.pay(500).unwrap(), Err("too little".to_owned()));

        let log = manager.list(Vec::new()).unwrap();
        let logged = AccountProxy::with_log(manager, log.clone()).unwrap();
        logged.deposit(7).unwrap();
        assert_eq!(log.to_vec().unwrap(), ["+7"]);
    });
}

#[test]
fn a_panic_poisons_an_own_type_until_it_is_cleared() {
    with_manager(|manager| {
        let account = AccountProxy::open(manager, u64::MAX).unwrap().unwrap();
        let error = account.deposit(1).unwrap_err();
        let ManagerError::Panicked { info, .. } = &error else { panic!("{error}") };
        assert!(info.message().contains("too much"));
        assert!(info.location().unwrap().contains("manager_types.rs"));
        assert!(account.is_poisoned().unwrap());
        let error = account.balance().unwrap_err();
        assert!(matches!(error, ManagerError::Poisoned(_)), "{error}");
        account.clear_poison().unwrap();
        assert_eq!(account.balance().unwrap(), u64::MAX);
    });
}

#[test]
fn shared_methods_of_one_object_run_side_by_side() {
    with_manager(|manager| {
        let account = AccountProxy::open(manager, 1).unwrap().unwrap();
        let (here, there) = (manager.event().unwrap(), manager.event().unwrap());
        thread::scope(|scope| {
            let other = scope.spawn(|| account.meet(there.clone(), here.clone()).unwrap());
            assert!(account.meet(here.clone(), there.clone()).unwrap());
            assert!(other.join().unwrap());
        });
        // A panic of one that can't change the value harms nobody.
        assert!(matches!(account.check(), Err(ManagerError::Panicked { .. })));
        assert!(!account.is_poisoned().unwrap());
    });
}

#[test]
fn own_types_are_called_in_batches() {
    with_manager(|manager| {
        let account = AccountProxy::open(manager, 1).unwrap().unwrap();
        let (paid, balance) = manager
            .batch(|tx| {
                let account = account.on(tx);
                (0..100).for_each(|_| drop(account.deposit(1)));
                (account.pay(1_000), account.balance())
            })
            .unwrap();
        assert_eq!(paid.get().unwrap(), Err("too little".to_owned()));
        assert_eq!(balance.get().unwrap(), 101);
    });
}

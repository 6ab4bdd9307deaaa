//! Queues and pipes as arguments and results of tasks, and in each other.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeSet;
use std::process;
use std::time::Duration;

use procession::{
    Connection, JoinableQueue, Pool, Process, Queue, RecvError, SimpleQueue, bind, pipe,
    pipe_one_way, task,
};
use procession_tests::scratch::{Scratch, note, notes};
use procession_tests::{alone, heap_memory, wait_until};
use serde::{Deserialize, Serialize};

/// Within this time news of a death has come.
const SECOND: Duration = Duration::from_secs(1);

fn pool(processes: usize) -> Pool {
    Pool::builder().processes(processes).build().unwrap()
}

fn drain<T: serde::de::DeserializeOwned + Ord>(queue: &Queue<T>) -> Vec<T> {
    queue.close();
    let mut items: Vec<T> = queue.iter().map(Result::unwrap).collect();
    items.sort();
    items
}

#[task]
fn put_one(queue: Queue<u32>, x: u32) -> u32 {
    queue.put(x).unwrap();
    x
}

#[test]
fn each_verb_of_a_pool_takes_queues() {
    alone(|| {
        let pool = pool(2);
        let queue = Queue::unbounded().unwrap();
        let pair = |x| (queue.clone(), x);
        pool.apply(put_one, pair(0)).unwrap();
        pool.apply_async(put_one, pair(1)).get().unwrap();
        pool.starmap(put_one, (2..20).map(pair)).unwrap();
        pool.starmap_async(put_one, (20..30).map(pair)).get().unwrap();
        let bound = bind(put_one, (queue.clone(),));
        assert_eq!(pool.map(bound.clone(), 30..50).unwrap(), (30..50).collect::<Vec<_>>());
        pool.imap(bound.clone(), 50..70).for_each(|result| assert!(result.is_ok()));
        pool.imap_unordered(bound.clone(), 70..90).for_each(|result| assert!(result.is_ok()));
        pool.call(bound).chunksize(7).try_map(90..100).into_iter().for_each(|x| assert!(x.is_ok()));
        pool.apply_named::<u32>("passing::put_one", (queue.clone(), 100_u32)).unwrap();
        assert_eq!(drain(&queue), (0..=100).collect::<Vec<_>>());
    });
}

#[task]
fn put_own(queue: Queue<u32>) {
    queue.put(process::id()).unwrap();
    queue.close();
}

#[test]
fn each_item_of_a_map_has_a_queue_of_its_own() {
    alone(|| {
        let pool = pool(2);
        let queues: Vec<Queue<u32>> = (0..300).map(|_| Queue::bounded(1).unwrap()).collect();
        pool.map(put_own, queues.clone()).unwrap();
        let pids: BTreeSet<u32> = pool.worker_pids().into_iter().collect();
        for queue in &queues {
            assert!(pids.contains(&queue.get().unwrap()));
            assert!(queue.get().is_err());
        }
        // The only handles that are left are on their way.
        pool.imap(|queue: Queue<u32>| queue.get().unwrap(), {
            (0..300).map(|i| {
                let queue = Queue::unbounded().unwrap();
                queue.put(i).unwrap();
                queue
            })
        })
        .enumerate()
        .for_each(|(i, result)| assert_eq!(result.unwrap(), i as u32));
    });
}

static INITIALIZED: std::sync::OnceLock<(Queue<String>, Connection<u32, ()>)> =
    std::sync::OnceLock::new();

#[task]
fn keep(queue: Queue<String>, end: Option<Connection<u32, ()>>) {
    queue.put("initialized".to_owned()).unwrap();
    if let Some(end) = end {
        assert!(INITIALIZED.set((queue, end)).is_ok());
    }
}

#[task]
fn use_kept(x: u32) {
    let (queue, end) = INITIALIZED.get().unwrap();
    queue.put(format!("used for {x}")).unwrap();
    end.send(x).unwrap();
}

#[test]
fn an_initializer_takes_handles_again_for_each_worker() {
    alone(|| {
        let (queue, (ours, theirs)) = (Queue::unbounded().unwrap(), pipe().unwrap());
        let pool = Pool::builder()
            .processes(1)
            .max_tasks_per_child(2)
            .initializer(keep, (queue.clone(), Some(theirs)))
            .build()
            .unwrap();
        for x in 0..6 {
            pool.apply(use_kept, (x,)).unwrap();
            assert_eq!(ours.recv().unwrap(), x);
        }
        // The pool holds the end for the workers to come, and lets it go with the last of them.
        assert!(!ours.poll(Duration::ZERO));
        pool.close();
        pool.join().unwrap();
        drop(pool);
        assert!(matches!(ours.recv_timeout(SECOND), Err(RecvError::Disconnected)));
        let used = drain(&queue).into_iter().filter(|text| text != "initialized").count();
        assert_eq!(used, 6);
    });
}

#[derive(Serialize, Deserialize)]
struct Everything {
    queue: Queue<u32>,
    list: Vec<Queue<u32>>,
    none: Option<Queue<u32>>,
    some: Option<Queue<u32>>,
    way: Way,
    text: String,
}

#[derive(Serialize, Deserialize)]
enum Way {
    Out(Connection<u32, u32>),
    In { end: Connection<u32, u32>, joinable: JoinableQueue<u32>, simple: SimpleQueue<u32> },
}

#[task]
fn use_everything(all: Everything) -> Everything {
    all.queue.put(1).unwrap();
    all.list.iter().for_each(|queue| queue.put(2).unwrap());
    assert!(all.none.is_none());
    all.some.iter().for_each(|queue| queue.put(3).unwrap());
    match &all.way {
        Way::Out(end) => end.send(4).unwrap(),
        Way::In { end, joinable, simple } => {
            end.send(5).unwrap();
            joinable.put(6).unwrap();
            simple.put(7).unwrap();
        }
    }
    all
}

#[test]
fn handles_nest_in_whatever_serde_knows() {
    alone(|| {
        let pool = pool(1);
        let queue = || Queue::unbounded().unwrap();
        let everything = |way| Everything {
            queue: queue(),
            list: (0..5).map(|_| queue()).collect(),
            none: None,
            some: Some(queue()),
            way,
            text: "text".to_owned(),
        };
        let (ours, theirs) = pipe().unwrap();
        let all = pool.apply(use_everything, (everything(Way::Out(theirs)),)).unwrap();
        assert_eq!((all.queue.get().unwrap(), all.text.as_str()), (1, "text"));
        assert!(all.list.iter().all(|queue| queue.get().unwrap() == 2));
        assert_eq!((all.some.unwrap().get().unwrap(), ours.recv().unwrap()), (3, 4));

        let (ours, end) = pipe().unwrap();
        let (joinable, simple) = (JoinableQueue::unbounded().unwrap(), SimpleQueue::new().unwrap());
        let way = Way::In { end, joinable: joinable.clone(), simple: simple.clone() };
        let process = Process::new(use_everything, (everything(way),)).start().unwrap();
        let all = process.join().unwrap();
        assert_eq!(ours.recv().unwrap(), 5);
        assert_eq!((joinable.get().unwrap(), simple.get().unwrap()), (6, 7));
        // The end has come back, and works on.
        let Way::In { end, .. } = &all.way else { panic!("another one") };
        end.send(8).unwrap();
        assert_eq!(ours.recv().unwrap(), 8);
        ours.send(9).unwrap();
        assert_eq!(end.recv().unwrap(), 9);
        drop(all);
        // The process keeps its result for whoever asks again.
        assert!(!ours.poll(Duration::ZERO));
        drop(process);
        assert!(matches!(ours.recv_timeout(SECOND), Err(RecvError::Disconnected)));
    });
}

#[task]
fn make(from: u32, many: u32) -> Vec<Queue<u32>> {
    (from..from + many)
        .map(|i| {
            let queue = Queue::unbounded().unwrap();
            queue.put(i).unwrap();
            queue
        })
        .collect()
}

fn check(queues: &[Queue<u32>], from: u32) {
    for (i, queue) in (from..).zip(queues) {
        assert_eq!(queue.try_get().unwrap(), i);
    }
}

#[test]
fn a_result_may_be_hundreds_of_queues() {
    alone(|| {
        let pool = pool(2);
        let queues = pool.apply(make, (0, 700)).unwrap();
        assert_eq!(queues.len(), 700);
        check(&queues, 0);
        let lists = pool.starmap(make, (0..20).map(|i| (i * 100, 100))).unwrap();
        for (i, list) in (0..).zip(&lists) {
            check(list, i * 100);
        }
        drop(queues);
        check(&Process::new(make, (5, 300)).start().unwrap().join().unwrap(), 5);
        // A result that nobody asks for costs nothing when it is dropped.
        let before = heap_memory();
        for _ in 0..20 {
            drop(pool.apply_async(make, (0, 100)));
        }
        pool.apply(make, (0, 1)).unwrap();
        wait_until("what nobody asked for is gone", || {
            drop(pool.apply(make, (0, 1)).unwrap());
            heap_memory() <= before + (4 << 20)
        });
    });
}

#[test]
fn a_result_is_there_when_its_worker_has_gone() {
    alone(|| {
        let pool = Pool::builder().processes(1).max_tasks_per_child(1).build().unwrap();
        let results: Vec<_> = (0..10).map(|i| pool.apply_async(make, (i, 5))).collect();
        let worker = pool.worker_pids();
        results.iter().for_each(|result| result.wait());
        wait_until("the worker has gone", || {
            worker.iter().all(|pid| !procession_tests::is_running(*pid))
        });
        // It is kept, encoded: asked for twice, it is the same queues.
        let again: Vec<_> = results.iter().map(|result| result.get().unwrap()).collect();
        for (i, (result, again)) in (0..).zip(results.iter().zip(&again)) {
            let queues = result.get().unwrap();
            check(&queues, i);
            assert!(again.iter().all(|queue| queue.is_empty()));
        }
        drop(pool);
        for (i, queues) in (0_u32..).zip(&again) {
            queues.iter().for_each(|queue| queue.put(i).unwrap());
        }
    });
}

#[task]
fn die_at_first(queue: Queue<u32>, end: Connection<u32, u32>, log: String) -> Queue<u32> {
    note(&log, process::id());
    let times = notes(&log).len() as u32;
    queue.put(times).unwrap();
    end.send(times).unwrap();
    if times < 4 {
        process::abort();
    }
    queue
}

#[test]
fn a_retried_task_gets_its_handles_again() {
    alone(|| {
        let (scratch, pool) = (Scratch::new(), pool(1));
        let (queue, (ours, theirs)) = (Queue::unbounded().unwrap(), pipe().unwrap());
        let log = scratch.path("log");
        let back = pool.call(die_at_first).retries(5).apply((queue.clone(), theirs, log)).unwrap();
        for i in 1..=4 {
            assert_eq!((back.get().unwrap(), ours.recv().unwrap()), (i, i));
        }
        assert!(queue.is_empty());
        // Nobody has the other end any more.
        drop(pool);
        assert!(matches!(ours.recv_timeout(SECOND), Err(RecvError::Disconnected)));
    });
}

#[task]
fn die(_end: Connection<u32, u32>, queue: Queue<u32>) {
    queue.put(1).unwrap();
    process::abort();
}

#[test]
fn what_a_lost_task_was_given_is_let_go() {
    alone(|| {
        let pool = pool(1);
        for _ in 0..20 {
            let (queue, (ours, theirs)) =
                (Queue::unbounded().unwrap(), pipe::<u32, u32>().unwrap());
            assert!(pool.apply(die, (theirs, queue.clone())).unwrap_err().is_worker_lost());
            assert!(matches!(ours.recv_timeout(SECOND), Err(RecvError::Disconnected)));
            assert_eq!(queue.len(), 1);
        }
    });
}

#[task]
fn nested(queue: Queue<u32>, depth: u32) -> Queue<u32> {
    if depth == 0 {
        queue.put(process::id()).unwrap();
        return queue;
    }
    let pool = pool(2);
    let mut queues = pool.starmap(nested, vec![(queue, depth - 1); 2]).unwrap();
    queues.pop().unwrap()
}

#[test]
fn queues_go_through_nested_pools() {
    alone(|| {
        let queue = Queue::unbounded().unwrap();
        let back = pool(2).apply(nested, (queue.clone(), 2)).unwrap();
        assert_eq!(back.len(), 4);
        back.put(0).unwrap();
        assert_eq!(drain(&queue).len(), 5);
    });
}

#[task]
fn answer(requests: Queue<(u32, Connection<u32, u32>)>) {
    for request in &requests {
        let (number, end) = request.unwrap();
        end.send(number * 2).unwrap();
    }
}

#[test]
fn a_connection_goes_through_a_queue() {
    alone(|| {
        let requests = Queue::bounded(3).unwrap();
        let process = Process::new(answer, (requests.clone(),)).start().unwrap();
        for number in 0..100 {
            let (ours, theirs) = pipe::<u32, u32>().unwrap();
            requests.put((number, theirs)).unwrap();
            assert_eq!(ours.recv().unwrap(), number * 2);
            assert!(matches!(ours.recv_timeout(SECOND), Err(RecvError::Disconnected)));
        }
        requests.close();
        process.join().unwrap();
    });
}

#[task]
fn make_and_send(end: procession::Sender<Queue<String>>) {
    for i in 0..50 {
        let queue = Queue::unbounded().unwrap();
        queue.put(format!("in queue {i}")).unwrap();
        end.send(queue).unwrap();
    }
}

#[test]
fn a_queue_goes_through_a_pipe() {
    alone(|| {
        let (sender, receiver) = pipe_one_way().unwrap();
        let process = Process::new(make_and_send, (sender,)).start().unwrap();
        process.join().unwrap();
        for i in 0..50 {
            let queue = receiver.recv().unwrap();
            assert_eq!(queue.get().unwrap(), format!("in queue {i}"));
        }
        assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn queues_lie_in_queues() {
    alone(|| {
        let before = heap_memory();
        for _ in 0..20 {
            let outer: Queue<Queue<Queue<u32>>> = Queue::unbounded().unwrap();
            for i in 0..20 {
                let middle = Queue::unbounded().unwrap();
                for j in 0..5 {
                    let inner = Queue::unbounded().unwrap();
                    inner.put(i * j).unwrap();
                    middle.put(inner).unwrap();
                }
                outer.put(middle).unwrap();
            }
            for i in 0..10 {
                let middle = outer.get().unwrap();
                for j in 0..5 {
                    assert_eq!(middle.get().unwrap().get().unwrap(), i * j);
                }
            }
            // Half of them go with the outermost.
        }
        let after = heap_memory();
        assert!(after < before + (8 << 20), "{before} bytes before, {after} bytes after");
    });
}

#[task]
fn mistaken(queue: JoinableQueue<u32>) -> usize {
    queue.len()
}

#[test]
fn a_handle_of_another_type_is_an_error() {
    alone(|| {
        let pool = pool(1);
        let (texts, numbers) = (Queue::<String>::unbounded(), Queue::<u32>::unbounded());
        let wrong = |error: procession::Error| {
            assert!(error.to_string().contains("is of another type"), "{error}");
        };
        wrong(pool.apply_named::<u32>("passing::put_one", (texts.unwrap(), 1_u32)).unwrap_err());
        wrong(pool.apply_named::<usize>("passing::mistaken", (numbers.unwrap(),)).unwrap_err());
        let (end, _other) = pipe::<u32, u32>().unwrap();
        // This one is written in another way, too.
        let error = pool.apply_named::<u32>("passing::put_one", (end, 1_u32)).unwrap_err();
        assert!(error.to_string().contains("can't be decoded"), "{error}");
    });
}

//! Queues: what is put is got once, in its producer's order, whoever puts and gets, and however the
//! queue came there.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use procession::{GetError, JoinableQueue, Process, PutError, Queue, SimpleQueue, task};
use procession_tests::scratch::{Scratch, open, pass};
use procession_tests::{alone, heap_memory, wait_until};
use serde::de::{self, Deserializer};
use serde::ser::{Error as _, Serializer};
use serde::{Deserialize, Serialize};

const MOMENT: Duration = Duration::from_millis(20);

#[test]
fn a_full_queue_gives_the_value_back() {
    alone(|| {
        let queue = Queue::bounded(2).unwrap();
        assert_eq!((queue.capacity(), queue.is_empty()), (Some(2), true));
        queue.put("one".to_owned()).unwrap();
        queue.try_put("two".to_owned()).unwrap();
        assert!(queue.is_full());
        let full = queue.try_put("three".to_owned()).unwrap_err();
        assert!(matches!(&full, PutError::Full(value) if value == "three"), "{full}");
        let start = Instant::now();
        let late = queue.put_timeout(full.into_inner(), MOMENT).unwrap_err();
        assert!(start.elapsed() >= MOMENT);
        assert!(matches!(&late, PutError::TimedOut(value) if value == "three"), "{late}");
        let error: procession::Error = late.into();
        assert!(error.is_timeout(), "{error}");
        assert_eq!((queue.len(), queue.get().unwrap()), (2, "one".to_owned()));
        queue.put_timeout("three".to_owned(), MOMENT).unwrap();
        assert_eq!((queue.get().unwrap(), queue.get().unwrap()), ("two".into(), "three".into()));
    });
}

#[test]
fn an_empty_queue_says_so() {
    alone(|| {
        let queue = Queue::<u32>::unbounded().unwrap();
        assert!(matches!(queue.try_get(), Err(GetError::Empty)));
        let start = Instant::now();
        assert!(matches!(queue.get_timeout(MOMENT), Err(GetError::TimedOut)));
        assert!(start.elapsed() >= MOMENT);
        assert!(matches!(queue.get_timeout(Duration::ZERO), Err(GetError::TimedOut)));
        queue.put(1).unwrap();
        assert_eq!(queue.get_timeout(Duration::ZERO).unwrap(), 1);
        queue.put(2).unwrap();
        assert_eq!(queue.get_timeout(Duration::MAX).unwrap(), 2);
    });
}

#[test]
fn a_queue_without_room_is_an_error() {
    alone(|| {
        let error = Queue::<u32>::bounded(0).unwrap_err().to_string();
        assert!(error.contains("room for one item"), "{error}");
        JoinableQueue::<u32>::bounded(0).unwrap_err();
        // A bound that no memory could hold is no more than a number.
        let queue = Queue::bounded(usize::MAX).unwrap();
        queue.put(1_u8).unwrap();
        assert_eq!((queue.capacity(), queue.get().unwrap()), (Some(usize::MAX), 1));
    });
}

#[test]
fn a_closed_queue_takes_nothing_and_gives_what_it_has() {
    alone(|| {
        let queue = Queue::bounded(2).unwrap();
        queue.put(1).unwrap();
        queue.put(2).unwrap();
        queue.close();
        queue.close();
        assert!(queue.is_closed());
        // Closed comes before full.
        for error in
            [queue.put(3), queue.try_put(3), queue.put_timeout(3, MOMENT)].map(Result::unwrap_err)
        {
            assert!(matches!(error, PutError::Closed(3)), "{error}");
        }
        assert_eq!(queue.get().unwrap(), 1);
        assert_eq!(queue.iter().collect::<Result<Vec<_>, _>>().unwrap(), [2]);
        for error in
            [queue.get(), queue.try_get(), queue.get_timeout(MOMENT)].map(Result::unwrap_err)
        {
            assert!(matches!(error, GetError::Closed), "{error}");
        }
        assert_eq!(queue.iter().count(), 0);
    });
}

#[task]
fn get_one(queue: Queue<u32>) -> bool {
    matches!(queue.get(), Err(GetError::Closed))
}

#[task]
fn put_into_full(queue: Queue<u32>) -> bool {
    matches!(queue.put(7), Err(PutError::Closed(7)))
}

#[test]
fn closing_wakes_all_that_wait() {
    alone(|| {
        let (empty, full) = (Queue::unbounded().unwrap(), Queue::bounded(1).unwrap());
        full.put(1).unwrap();
        let processes: Vec<_> = (0..2)
            .flat_map(|_| {
                [
                    Process::new(get_one, (empty.clone(),)).start().unwrap(),
                    Process::new(put_into_full, (full.clone(),)).start().unwrap(),
                ]
            })
            .collect();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|i| {
                    let (empty, full) = (&empty, &full);
                    scope.spawn(move || {
                        if i % 2 == 0 {
                            get_one(empty.clone())
                        } else {
                            put_into_full(full.clone())
                        }
                    })
                })
                .collect();
            thread::sleep(4 * MOMENT);
            assert!(threads.iter().all(|thread| !thread.is_finished()));
            empty.close();
            full.close();
            assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
        });
        assert!(processes.into_iter().all(|process| process.join().unwrap()));
        assert_eq!(full.get().unwrap(), 1);
    });
}

/// Can't always be encoded, and can't always be decoded.
#[derive(Clone, Debug, PartialEq)]
enum Moody {
    Fine(String),
    NotSent,
    NotReceived,
}

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fine(text) => text.serialize(serializer),
            Self::NotSent => Err(S::Error::custom("not in the mood to go")),
            Self::NotReceived => "bad".serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "bad" {
            return Err(de::Error::custom("not in the mood to come"));
        }
        Ok(Self::Fine(text))
    }
}

#[test]
fn what_cannot_be_encoded_is_an_error_of_put() {
    alone(|| {
        let queue = Queue::bounded(1).unwrap();
        for error in
            [queue.put(Moody::NotSent), queue.try_put(Moody::NotSent)].map(Result::unwrap_err)
        {
            assert!(error.to_string().contains("not in the mood to go"), "{error}");
            assert!(matches!(error, PutError::Failed(Moody::NotSent, _)), "{error}");
        }
        assert!(queue.is_empty());
        queue.try_put(Moody::Fine("well".into())).unwrap();
        assert_eq!(queue.get().unwrap(), Moody::Fine("well".into()));
    });
}

#[test]
fn what_cannot_be_decoded_concerns_one_item() {
    alone(|| {
        let queue = Queue::unbounded().unwrap();
        for item in [Moody::Fine("a".into()), Moody::NotReceived, Moody::Fine("b".into())] {
            queue.put(item).unwrap();
        }
        queue.close();
        let items: Vec<_> = queue.iter().collect();
        assert_eq!(items.len(), 3);
        assert_eq!(items[0].as_ref().unwrap(), &Moody::Fine("a".into()));
        let error = items[1].as_ref().unwrap_err().to_string();
        assert!(error.contains("not in the mood to come"), "{error}");
        assert_eq!(items[2].as_ref().unwrap(), &Moody::Fine("b".into()));
    });
}

/// Can be changed by whoever has a clone.
#[derive(Clone, Serialize, Deserialize)]
struct Changing(#[serde(with = "of_arc")] Arc<AtomicU32>);

mod of_arc {
    use super::{Arc, AtomicU32, Deserialize, Deserializer, Ordering, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        value: &Arc<AtomicU32>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.load(Ordering::Relaxed).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<AtomicU32>, D::Error> {
        u32::deserialize(deserializer).map(|value| Arc::new(AtomicU32::new(value)))
    }
}

#[test]
fn what_changes_after_put_is_not_seen() {
    alone(|| {
        let queue = Queue::unbounded().unwrap();
        let value = Changing(Arc::default());
        for i in 0..3 {
            value.0.store(i, Ordering::Relaxed);
            queue.put(value.clone()).unwrap();
        }
        value.0.store(100, Ordering::Relaxed);
        for i in 0..3 {
            assert_eq!(queue.get().unwrap().0.load(Ordering::Relaxed), i);
        }
    });
}

#[task]
fn leave_items(queue: Queue<String>, how: u32) {
    for i in 0..100 {
        queue.put(format!("item {i} of {}", "x".repeat(i * 1000))).unwrap();
    }
    match how {
        0 => {}
        1 => process::exit(0),
        _ => process::abort(),
    }
}

#[test]
fn items_stay_when_the_process_that_put_them_has_ended() {
    alone(|| {
        for how in 0..3 {
            let queue = Queue::unbounded().unwrap();
            let process = Process::new(leave_items, (queue.clone(), how)).start().unwrap();
            let _ = process.join();
            assert_eq!(queue.len(), 100);
            queue.close();
            for (i, item) in queue.iter().enumerate() {
                let item = item.unwrap();
                assert!(item.starts_with(&format!("item {i} of")), "{item}");
                assert_eq!(item.matches('x').count(), i * 1000);
            }
        }
    });
}

#[test]
fn a_surplus_task_done_is_an_error() {
    alone(|| {
        let queue = JoinableQueue::unbounded().unwrap();
        queue.task_done().unwrap_err();
        queue.join();
        queue.put(1).unwrap();
        // Signing off goes by number, as in Python: the item needn't be got before.
        assert_eq!(queue.unfinished(), 1);
        assert!(!queue.join_timeout(MOMENT));
        queue.get().unwrap();
        assert!(!queue.join_timeout(Duration::ZERO));
        queue.task_done().unwrap();
        assert!(queue.join_timeout(Duration::ZERO));
        let error = queue.task_done().unwrap_err().to_string();
        assert!(error.contains("`task_done`"), "{error}");
        queue.put(2).unwrap();
        assert_eq!(queue.unfinished(), 1);
    });
}

#[task]
fn sign_off(queue: JoinableQueue<u32>, sum: Queue<u32>) {
    for item in queue.iter() {
        sum.put(item.unwrap()).unwrap();
        queue.task_done().unwrap();
    }
}

#[test]
fn join_waits_for_the_last_item() {
    alone(|| {
        let (queue, sum) = (JoinableQueue::bounded(10).unwrap(), Queue::unbounded().unwrap());
        let workers: Vec<_> = (0..3)
            .map(|_| Process::new(sign_off, (queue.clone(), sum.clone())).start().unwrap())
            .collect();
        for round in 0..20 {
            (0..50).for_each(|i| queue.put(i).unwrap());
            queue.join();
            assert_eq!((queue.unfinished(), sum.len()), (0, (round + 1) * 50));
        }
        queue.close();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        sum.close();
        let total: u32 = sum.iter().map(Result::unwrap).sum();
        assert_eq!(total, 20 * (0..50).sum::<u32>());
    });
}

#[task]
fn forward(from: SimpleQueue<Vec<u8>>, to: SimpleQueue<Vec<u8>>) {
    while let Ok(bytes) = from.get() {
        to.put(bytes).unwrap();
    }
}

#[test]
fn messages_of_all_sizes_arrive_whole() {
    alone(|| {
        let (to, from) = (SimpleQueue::new().unwrap(), SimpleQueue::new().unwrap());
        let process = Process::new(forward, (to.clone(), from.clone())).start().unwrap();
        let inline = 32 << 10;
        let around = (inline - 40..inline + 8).chain(4070..4100);
        let sizes = [0, 1, 7, 8, 1 << 20, 64 << 20, 3].into_iter().chain(around);
        for (seed, size) in (0_u8..).map(|seed| seed % 251).zip(sizes) {
            let bytes: Vec<u8> = (0..size).map(|i: usize| (i % 255) as u8 ^ seed).collect();
            to.put(bytes.clone()).unwrap();
            let back = from.get().unwrap();
            assert!(back == bytes, "{size} bytes have changed");
        }
        to.close();
        process.join().unwrap();
        assert!(from.is_empty());
    });
}

#[test]
fn a_burst_of_any_size_gives_its_memory_back() {
    alone(|| {
        let queue = Queue::unbounded().unwrap();
        let burst = |items: usize, size: usize| {
            for i in 0..items {
                queue.put(format!("{i}{}", "x".repeat(size))).unwrap();
            }
            for i in 0..items {
                let item: String = queue.get().unwrap();
                assert!(item.trim_end_matches('x') == i.to_string() && item.len() >= size);
            }
        };
        burst(100, 10);
        let before = heap_memory();
        burst(50_000, 10);
        burst(1000, 20_000);
        // A large buffer is left when the producers have come to its end.
        (0..40).for_each(|_| burst(100, 20_000));
        let after = heap_memory();
        assert!(after < before + (8 << 20), "{before} bytes before, {after} bytes after");
    });
}

/// Which numbers each producer's messages have had, so that every one can be counted.
#[derive(Serialize, Deserialize, Debug)]
struct Seen(Vec<Vec<u64>>);

impl Seen {
    fn new(producers: usize, messages: u32) -> Self {
        Self(vec![vec![0; messages.div_ceil(64) as usize]; producers])
    }

    fn add(&mut self, producer: usize, number: u32) {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        assert_eq!(self.0[producer][word] & bit, 0, "{number} of {producer} came twice");
        self.0[producer][word] |= bit;
    }

    fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().flatten().zip(other.0.iter().flatten()) {
            assert_eq!(*mine & *theirs, 0, "a message was got twice");
            *mine |= theirs;
        }
    }

    fn count(&self) -> u32 {
        self.0.iter().flatten().map(|word| word.count_ones()).sum()
    }
}

#[task]
fn produce(queue: Queue<(usize, u32)>, producer: usize, messages: u32) {
    for number in 0..messages {
        queue.put((producer, number)).unwrap();
    }
}

/// Gets until the queue is closed; sees each producer's messages in order.
#[task]
fn consume(queue: Queue<(usize, u32)>, producers: usize, messages: u32) -> Seen {
    let mut seen = Seen::new(producers, messages);
    let mut next = vec![0; producers];
    for item in &queue {
        let (producer, number) = item.unwrap();
        assert!(number >= next[producer], "{number} of {producer} came after {}", next[producer]);
        next[producer] = number + 1;
        seen.add(producer, number);
    }
    seen
}

fn many_to_many(queue: Queue<(usize, u32)>, processes: usize, threads: usize, messages: u32) {
    let all = processes + threads;
    let mut seen = Seen::new(all, messages);
    thread::scope(|scope| {
        let consumers: Vec<_> = (0..processes)
            .map(|_| Process::new(consume, (queue.clone(), all, messages)).start().unwrap())
            .collect();
        let consuming: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| consume(queue.clone(), all, messages))).collect();
        let producers: Vec<_> = (0..processes)
            .map(|i| Process::new(produce, (queue.clone(), i, messages)).start().unwrap())
            .collect();
        let producing: Vec<_> = (processes..all)
            .map(|i| {
                let queue = &queue;
                scope.spawn(move || produce(queue.clone(), i, messages))
            })
            .collect();
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        producing.into_iter().for_each(|producer| producer.join().unwrap());
        queue.close();
        consumers.into_iter().for_each(|consumer| seen.merge(&consumer.join().unwrap()));
        consuming.into_iter().for_each(|consumer| seen.merge(&consumer.join().unwrap()));
    });
    assert_eq!(seen.count(), all as u32 * messages);
}

#[test]
fn four_producers_and_four_consumers_lose_and_double_nothing() {
    alone(|| many_to_many(Queue::unbounded().unwrap(), 4, 0, 150_000));
}

#[test]
fn a_bounded_queue_loses_and_doubles_nothing() {
    alone(|| {
        many_to_many(Queue::bounded(1).unwrap(), 2, 0, 5_000);
        many_to_many(Queue::bounded(100).unwrap(), 4, 0, 100_000);
    });
}

#[test]
fn threads_and_processes_use_one_queue() {
    alone(|| {
        many_to_many(Queue::unbounded().unwrap(), 2, 2, 50_000);
        many_to_many(Queue::bounded(3).unwrap(), 2, 2, 5_000);
        many_to_many(Queue::bounded(10).unwrap(), 0, 16, 5_000);
    });
}

#[task]
fn until_told(queue: Queue<u32>, gate: String) -> u32 {
    pass(&gate);
    queue.get().unwrap()
}

#[test]
fn a_queue_outlives_the_handles_of_who_made_it() {
    alone(|| {
        let scratch = Scratch::new();
        let gate = scratch.path("gate");
        let queue = Queue::unbounded().unwrap();
        queue.put(5).unwrap();
        let process = Process::new(until_told, (queue.clone(), gate.clone())).start().unwrap();
        drop(queue);
        open(&gate);
        assert_eq!(process.join().unwrap(), 5);
    });
}

#[test]
fn outside_of_a_call_a_handle_is_no_data() {
    alone(|| {
        let queue = Queue::<u32>::unbounded().unwrap();
        let error = serde_json::to_string(&queue).unwrap_err().to_string();
        assert!(error.contains("can only be sent in a call of a task"), "{error}");
        let (end, _other) = procession::pipe::<u32, u32>().unwrap();
        serde_json::to_string(&end).unwrap_err();
        serde_json::to_string(&SimpleQueue::<u32>::new().unwrap()).unwrap_err();
        let error = serde_json::from_str::<Queue<u32>>("[0,1]").unwrap_err().to_string();
        assert!(error.contains("can only be sent in a call of a task"), "{error}");
        // Nor is it within an encoding that goes on inside of a put: it is the outer one that carries it.
        let outer = Queue::unbounded().unwrap();
        outer.put(serde_json::to_string(&7).unwrap()).unwrap();
        assert_eq!(outer.get().unwrap(), "7");
    });
}

#[test]
fn a_queue_is_seen_through() {
    alone(|| {
        let queue = JoinableQueue::bounded(3).unwrap();
        queue.put(1).unwrap();
        let text = format!("{queue:?}");
        assert!(text.contains("len: 1") && text.contains("unfinished: 1"), "{text}");
        let queue = Queue::<u32>::unbounded().unwrap();
        assert_eq!((queue.capacity(), queue.is_full(), queue.len()), (None, false, 0));
        wait_until("it is closed", || {
            queue.close();
            queue.is_closed()
        });
    });
}

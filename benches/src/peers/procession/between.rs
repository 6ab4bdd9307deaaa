//! What procession's processes share and send each other.

use procession::sync::Lock;
use procession::{Connection, Pool, Process, Queue, SharedSlice, SharedValue, pipe};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::measure::{each, p50};
use crate::work::{BLOCK, CROWD, Work};

/// Blocks under way at once: enough that neither end waits for the other.
const BLOCKS_UNDER_WAY: usize = 8;

/// What is kept between rounds.
#[derive(Debug, Default)]
pub(super) struct Between {
    large: Option<SharedSlice<u8>>,
}

impl Between {
    /// Does one round of a row that is about what goes between processes.
    pub(super) fn run(
        &mut self,
        work: Work,
        count: usize,
        pool: &Pool,
        measured: bool,
    ) -> Option<f64> {
        Some(match work {
            Work::Queue => {
                let queue = Queue::unbounded().expect("a queue");
                one_to_one(&queue, (0..count as u64).collect())
            }
            Work::QueueBlocks => {
                let queue = Queue::bounded(BLOCKS_UNDER_WAY).expect("a queue");
                one_to_one(&queue, vec![vec![1_u8; BLOCK]; count])
            }
            Work::QueueCrowd => crowd(count as u64),
            Work::Pipe => {
                let (ours, theirs) = pipe().expect("a pipe");
                let process = Process::new(echo, (theirs,)).start().expect("a process");
                let nanos = p50(count, || {
                    ours.send(1).expect("the process is there");
                    ours.recv().expect("it answers");
                });
                drop(ours);
                process.join().expect("its end");
                nanos
            }
            Work::Lock => {
                let lock = Lock::new().expect("a lock");
                let pass = || drop(lock.lock().expect("nobody has died"));
                each(count, || (0..count).for_each(|_| pass()))
            }
            Work::LockContended => contended(count as u64),
            Work::Value => {
                let value = SharedValue::new(0_u64).expect("a value");
                let nanos = each(count, || (0..count).for_each(|_| _ = value.fetch_add(1)));
                assert_eq!(value.get(), count as u64);
                nanos
            }
            Work::SliceSmall => {
                let slice = SharedSlice::from_slice(&[1; 1 << 10]).expect("a slice");
                there_and_back(pool, &slice, count)
            }
            Work::SliceLarge => there_and_back(pool, self.large(measured), count),
            Work::HandleSmall => {
                let slice = SharedSlice::from_slice(&[1; 1 << 10]).expect("a slice");
                handed_over(&slice, count)
            }
            Work::Handle => handed_over(self.large(measured), count),
            Work::Share => {
                let queue = Queue::bounded(1).expect("a queue");
                let block = vec![1; BLOCK];
                p50(count, || {
                    let slice = SharedSlice::from_slice(&block).expect("a slice");
                    let opened = through(&queue, slice.clone());
                    assert_eq!(opened[BLOCK - 1], 1_u8);
                })
            }
            _ => return None,
        })
    }

    /// Made once: a gigabyte takes its time.
    fn large(&mut self, measured: bool) -> &SharedSlice<u8> {
        let bytes = if measured { 1 << 30 } else { BLOCK };
        let make = || SharedSlice::from_vec(vec![1; bytes]).expect("a slice");
        self.large.get_or_insert_with(make)
    }
}

/// Takes messages until there are no more, and reports twice: when it is there, and how many came.
fn take<T: DeserializeOwned>(messages: Queue<T>, reports: Queue<usize>) {
    reports.put(0).expect("a report");
    let taken = messages.iter().inspect(|message| assert!(message.is_ok())).count();
    reports.put(taken).expect("a report");
}

/// From this process to another one.
fn one_to_one<T>(messages: &Queue<T>, all: Vec<T>) -> f64
where
    T: Serialize + DeserializeOwned + Send + 'static,
{
    let reports = Queue::unbounded().expect("a queue");
    let arguments = (messages.clone(), reports.clone());
    let consumer = Process::new(take::<T>, arguments).start().expect("a process");
    reports.get().expect("it is there");
    let count = all.len();
    let nanos = each(count, || {
        for message in all {
            messages.put(message).expect("room");
        }
        messages.close();
        assert_eq!(reports.get().expect("a report"), count, "messages were lost");
    });
    consumer.join().expect("its end");
    nanos
}

fn produce(messages: Queue<u64>, first: u64, end: u64, gate: Queue<()>) {
    gate.get().expect_err("nothing is put there; it is closed when all are there");
    for message in first..end {
        messages.put(message).expect("room");
    }
}

fn count(messages: Queue<u64>, gate: Queue<()>) -> (u64, u64) {
    gate.get().expect_err("nothing is put there; it is closed when all are there");
    messages
        .iter()
        .map(|message| message.expect("a message"))
        .fold((0, 0), |(count, sum), message| (count + 1, sum + message))
}

/// Four processes put and four get. None may be lost or doubled.
fn crowd(total: u64) -> f64 {
    let messages = Queue::unbounded().expect("a queue");
    let gate = Queue::bounded(1).expect("a queue");
    let first = |i: u64| total * i / CROWD;
    let producers: Vec<_> = (0..CROWD)
        .map(|i| (messages.clone(), first(i), first(i + 1), gate.clone()))
        .map(|arguments| Process::new(produce, arguments).start().expect("a process"))
        .collect();
    let consumers: Vec<_> = (0..CROWD)
        .map(|_| Process::new(count, (messages.clone(), gate.clone())).start().expect("a process"))
        .collect();
    let mut taken = (0, 0);
    let nanos = each(total as usize, || {
        gate.close();
        producers.iter().for_each(|producer| producer.join().expect("its end"));
        messages.close();
        for consumer in &consumers {
            let (count, sum) = consumer.join().expect("its result");
            taken = (taken.0 + count, taken.1 + sum);
        }
    });
    assert_eq!(taken, (total, total * total.saturating_sub(1) / 2), "messages were lost");
    nanos
}

fn add(lock: Lock, value: SharedValue<u64>, gate: Queue<()>, count: u64) {
    gate.get().expect_err("nothing is put there; it is closed when all are there");
    for _ in 0..count {
        let _guard = lock.lock().expect("nobody has died");
        value.set(value.get() + 1);
    }
}

/// Two processes count, and only the lock keeps them from overwriting each other's counts.
fn contended(count: u64) -> f64 {
    let lock = Lock::new().expect("a lock");
    let value = SharedValue::new(0).expect("a value");
    let gate = Queue::bounded(1).expect("a queue");
    let processes = [(); 2].map(|()| {
        let arguments = (lock.clone(), value.clone(), gate.clone(), count / 2);
        Process::new(add, arguments).start().expect("a process")
    });
    let nanos = each(count as usize, || {
        gate.close();
        processes.iter().for_each(|process| process.join().expect("its end"));
    });
    assert_eq!(value.get(), count / 2 * 2, "an addition was lost");
    nanos
}

fn echo(numbers: Connection<u64, u64>) {
    while let Ok(number) = numbers.recv() {
        numbers.send(number).expect("the other end waits");
    }
}

/// A worker looks at the slice's end, which is the page that is farthest from its start.
fn pass_back(slice: SharedSlice<u8>) -> SharedSlice<u8> {
    std::hint::black_box(slice.last());
    slice
}

fn there_and_back(pool: &Pool, slice: &SharedSlice<u8>, count: usize) -> f64 {
    p50(count, || {
        let back = pool.apply(pass_back, (slice.clone(),)).expect("a result");
        assert_eq!(back.len(), slice.len());
    })
}

/// Put into a queue and got from it, in this process.
fn handed_over(slice: &SharedSlice<u8>, count: usize) -> f64 {
    let queue = Queue::bounded(1).expect("a queue");
    each(count, || (0..count).for_each(|_| _ = through(&queue, slice.clone())))
}

fn through(queue: &Queue<SharedSlice<u8>>, slice: SharedSlice<u8>) -> SharedSlice<u8> {
    queue.put(slice).expect("room");
    queue.get().expect("it is there")
}

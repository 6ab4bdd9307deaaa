//! What the ring promises while nobody dies, and what its tests have in common.

mod deaths;
mod garbage;
mod models;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use super::*;
use crate::shm::threads::{Threads, Word32, Word64, process, step};

/// Up to 2 MiB: no test needs more.
const BUFFERS: usize = 10;

/// What has happened to a parcel.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Fate {
    number: u64,
    adopted: u32,
    abandoned: u32,
}

/// A [`Store`] that looks whether it is used rightly.
struct Shelf {
    buffers: [OnceLock<Box<[AtomicU8]>>; BUFFERS],
    made: [AtomicBool; BUFFERS],
    parcels: Mutex<BTreeMap<u64, Fate>>,
    has_memory: AtomicBool,
}

impl Shelf {
    fn new() -> Self {
        Self {
            buffers: [const { OnceLock::new() }; BUFFERS],
            made: [const { AtomicBool::new(false) }; BUFFERS],
            parcels: Mutex::default(),
            has_memory: AtomicBool::new(true),
        }
    }

    fn made(&self) -> Vec<usize> {
        (0..BUFFERS).filter(|k| self.made[*k].load(Ordering::SeqCst)).collect()
    }

    fn fate(&self, parcel: u64) -> Fate {
        self.parcels.lock().unwrap().get(&parcel).copied().unwrap_or_default()
    }

    fn change(&self, parcel: u64, change: impl FnOnce(&mut Fate)) {
        step();
        change(self.parcels.lock().unwrap().entry(parcel).or_default());
        step();
    }
}

impl Store for Shelf {
    fn buffer(&self, k: u32) -> io::Result<&[AtomicU8]> {
        step();
        let k = k as usize;
        assert!(self.made[k].load(Ordering::SeqCst), "buffer {k} is used, but isn't made");
        Ok(self.buffers[k].get().unwrap())
    }

    fn make(&self, k: u32) -> io::Result<()> {
        step();
        let at = k as usize;
        if at >= BUFFERS || !self.has_memory.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let new = || (0..buffer_size(k)).map(|_| AtomicU8::new(0xAA)).collect();
        self.buffers[at].get_or_init(new);
        self.made[at].store(true, Ordering::SeqCst);
        step();
        Ok(())
    }

    fn retire(&self, k: u32) {
        step();
        self.made[k as usize].store(false, Ordering::SeqCst);
        if let Some(buffer) = self.buffers[k as usize].get() {
            buffer.iter().for_each(|byte| byte.store(0xEE, Ordering::Relaxed));
        }
        step();
    }

    fn attach(&self, parcel: u64, number: u64) {
        self.change(parcel, |fate| fate.number = number);
    }

    fn adopt(&self, parcel: u64) -> io::Result<()> {
        self.change(parcel, |fate| fate.adopted += 1);
        Ok(())
    }

    fn abandon(&self, parcel: u64) {
        self.change(parcel, |fate| fate.abandoned += 1);
    }
}

fn ring(most_items: u64, most_bytes: u64) -> Ring<Threads> {
    let ring = Ring::new(Word32::default, Word64::default);
    ring.init(most_items, most_bytes);
    ring
}

/// A message that tells its name and whether it is whole.
fn message(name: u64, length: usize) -> Vec<u8> {
    let mut bytes = name.to_le_bytes().to_vec();
    bytes.extend((8..length).map(|i| (name as usize + i) as u8));
    bytes
}

/// The name of a message that is whole.
fn name(bytes: &[u8]) -> u64 {
    let name = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert!(bytes == message(name, bytes.len()), "message {name} isn't whole");
    name
}

fn try_get(ring: &Ring<Threads>, shelf: &Shelf) -> Result<u64, RingError> {
    let mut bytes = Vec::new();
    ring.try_get(shelf, &mut bytes).map(|_| name(&bytes))
}

fn soon() -> Deadline {
    Deadline::after::<Threads>(Duration::from_millis(20))
}

fn numbers(seed: u64) -> impl FnMut() -> u64 {
    // Knuth's MMIX; its upper bits are the good ones.
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        state.rotate_left(31)
    }
}

#[test]
fn messages_come_out_as_they_went_in() {
    let (ring, shelf) = (ring(0, 0), Shelf::new());
    process(|| {
        let parcel = Some(Parcel { id: 77, weight: 1 << 30 });
        assert_eq!(ring.try_put(&shelf, b"one", None).unwrap(), 1);
        assert_eq!(ring.try_put(&shelf, b"", parcel).unwrap(), 2);
        assert_eq!((ring.len(), ring.puts(), ring.gets()), (2, 2, 0));
        let mut bytes = b"zero ".to_vec();
        let got = ring.try_get(&shelf, &mut bytes).unwrap();
        assert_eq!((got, &bytes[..]), (Got { number: 1, parcel: None }, &b"zero one"[..]));
        let got = ring.try_get(&shelf, &mut bytes).unwrap();
        assert_eq!((got, bytes.len()), (Got { number: 2, parcel }, 8));
        assert_eq!(shelf.fate(77), Fate { number: 2, adopted: 1, abandoned: 0 });
        assert!(matches!(ring.try_get(&shelf, &mut bytes), Err(RingError::TimedOut)));
        assert!(matches!(ring.get(&shelf, &mut bytes, soon()), Err(RingError::TimedOut)));
    });
}

#[test]
fn items_are_bounded() {
    let (ring, shelf) = (ring(2, 0), Shelf::new());
    process(|| {
        ring.try_put(&shelf, &message(1, 8), None).unwrap();
        ring.try_put(&shelf, &message(2, 8), None).unwrap();
        assert!(matches!(ring.try_put(&shelf, b"", None), Err(RingError::TimedOut)));
        assert!(matches!(ring.put(&shelf, b"", None, soon()), Err(RingError::TimedOut)));
        assert_eq!(try_get(&ring, &shelf).unwrap(), 1);
        ring.put(&shelf, &message(3, 8), None, soon()).unwrap();
    });
}

#[test]
fn bytes_are_bounded_but_for_the_first_message() {
    let (ring, shelf) = (ring(0, 100), Shelf::new());
    process(|| {
        let large = Some(Parcel { id: 1, weight: 1000 });
        ring.try_put(&shelf, &message(1, 8), large).unwrap();
        assert!(matches!(ring.try_put(&shelf, b"", None), Err(RingError::TimedOut)));
        assert_eq!(try_get(&ring, &shelf).unwrap(), 1);
        for _ in 0..100 / 8 {
            ring.try_put(&shelf, b"", None).unwrap();
        }
        assert!(matches!(ring.try_put(&shelf, b"", None), Err(RingError::TimedOut)));
    });
}

#[test]
fn a_closed_ring_is_drained() {
    let (ring, shelf) = (ring(0, 0), Shelf::new());
    process(|| {
        ring.try_put(&shelf, &message(1, 8), None).unwrap();
        ring.close(&shelf);
        assert!(ring.is_closed() && ring.ready_to_get());
        assert!(matches!(ring.try_put(&shelf, b"", None), Err(RingError::Closed)));
        assert_eq!(try_get(&ring, &shelf).unwrap(), 1);
        assert!(matches!(try_get(&ring, &shelf), Err(RingError::Closed)));
        assert!(ring.ready_to_get());
    });
}

#[test]
fn closing_wakes_everybody() {
    let (ring, shelf) = (ring(1, 0), Shelf::new());
    thread::scope(|scope| {
        process(|| ring.try_put(&shelf, &message(1, 8), None).unwrap());
        let put = || process(|| ring.put(&shelf, &message(2, 8), None, Deadline::NEVER));
        let producers = [scope.spawn(put), scope.spawn(put)];
        thread::sleep(Duration::from_millis(1));
        process(|| ring.close(&shelf));
        for producer in producers {
            assert!(matches!(producer.join().unwrap(), Err(RingError::Closed)));
        }
    });
}

#[test]
fn what_is_in_flight_finds_larger_buffers_and_they_are_given_back() {
    let (ring, shelf) = (ring(0, 0), Shelf::new());
    process(|| {
        for name in 0..1000 {
            ring.try_put(&shelf, &message(name, 100), None).unwrap();
        }
        assert_eq!(shelf.made(), [0, 1, 2, 3, 4]);
        for name in 0..1000 {
            assert_eq!(try_get(&ring, &shelf).unwrap(), name);
        }
        assert_eq!(shelf.made(), [4]);
        for name in 0..2000 {
            ring.try_put(&shelf, &message(name, 100), None).unwrap();
            assert_eq!(try_get(&ring, &shelf).unwrap(), name);
        }
        assert_eq!(shelf.made(), [0]);
    });
}

#[test]
fn a_record_may_be_larger_than_the_buffer() {
    let (ring, shelf) = (ring(0, 0), Shelf::new());
    process(|| {
        for name in 0..20 {
            ring.try_put(&shelf, &message(name, MOST_INLINE), None).unwrap();
            ring.try_put(&shelf, &message(name, 8), None).unwrap();
            assert_eq!(try_get(&ring, &shelf).unwrap(), name);
            assert_eq!(try_get(&ring, &shelf).unwrap(), name);
        }
        assert_eq!(shelf.made(), [4]);
    });
}

#[test]
fn without_memory_nothing_is_put_or_lost() {
    let (ring, shelf) = (ring(0, 0), Shelf::new());
    process(|| {
        ring.try_put(&shelf, &message(1, 3000), None).unwrap();
        shelf.has_memory.store(false, Ordering::SeqCst);
        let result = ring.try_put(&shelf, &message(2, 3000), None);
        assert!(matches!(result, Err(RingError::Memory(_))));
        ring.try_put(&shelf, &message(3, 16), None).unwrap();
        assert_eq!(try_get(&ring, &shelf).unwrap(), 1);
        ring.try_put(&shelf, &message(4, 2900), None).unwrap();
        assert_eq!(try_get(&ring, &shelf).unwrap(), 3);
        assert_eq!(try_get(&ring, &shelf).unwrap(), 4);
    });
}

/// Lengths, bursts and bounds at random, against a plain queue.
#[test]
fn it_does_what_a_plain_queue_does() {
    let mut number = numbers(42);
    for round in 0..60 {
        let (ring, shelf) = (ring(0, 0), Shelf::new());
        let mut expected = std::collections::VecDeque::new();
        process(|| {
            for name in 0..1500 {
                let burst = [1, 3, 60][round % 3];
                if number() % (burst + 1) < burst / 2 + 1 || expected.len() > 60 {
                    assert_eq!(try_get(&ring, &shelf).ok(), expected.pop_front());
                } else {
                    let length = match number() % 50 {
                        0 => MOST_INLINE as u64,
                        1..5 => number() % 5000,
                        _ => number() % 200,
                    };
                    let message = message(name, 8 + length.min(MOST_INLINE as u64 - 8) as usize);
                    ring.try_put(&shelf, &message, None).unwrap();
                    expected.push_back(name);
                }
            }
            while let Some(name) = expected.pop_front() {
                assert_eq!(try_get(&ring, &shelf).unwrap(), name);
            }
            assert_eq!(shelf.made().len(), 1, "buffers that nobody uses are given back");
        });
    }
}

#[test]
fn work_is_finished_when_all_of_it_is_done() {
    let (ring, shelf) = (ring(0, 0), Shelf::new());
    process(|| {
        assert!(ring.join(soon()));
        assert!(ring.task_done().is_err());
        ring.try_put(&shelf, b"", None).unwrap();
        ring.try_put(&shelf, b"", None).unwrap();
        ring.task_done().unwrap();
        assert!(!ring.join(soon()));
        assert_eq!(ring.unfinished(), 1);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| process(|| ring.join(Deadline::NEVER)));
            ring.task_done().unwrap();
            assert!(waiter.join().unwrap());
        });
        assert!(ring.task_done().is_err());
    });
}

/// Every message once, and in order for each pair of producer and consumer, whatever the bounds.
#[test]
fn many_producers_and_consumers_share_a_ring() {
    const EACH: u64 = 5000;
    for (items, bytes) in [(0, 0), (1, 0), (7, 0), (0, 64), (0, 3000)] {
        let (ring, shelf) = (ring(items, bytes), Shelf::new());
        let left = AtomicU64::new(4);
        let got = thread::scope(|scope| {
            for producer in 0..4 {
                let (ring, shelf, left) = (&ring, &shelf, &left);
                scope.spawn(move || {
                    process(|| {
                        for i in 0..EACH {
                            let message = message(producer << 32 | i, 8 + (i % 90) as usize);
                            ring.put(shelf, &message, None, Deadline::NEVER).unwrap();
                        }
                        if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                            ring.close(shelf);
                        }
                    });
                });
            }
            let consume = || {
                process(|| {
                    let (mut got, mut bytes, mut last) = (Vec::new(), Vec::new(), [None; 4]);
                    loop {
                        bytes.clear();
                        match ring.get(&shelf, &mut bytes, Deadline::NEVER) {
                            Ok(_) => got.push(name(&bytes)),
                            Err(RingError::Closed) => return got,
                            Err(error) => panic!("{error:?}"),
                        }
                        let (producer, i) = (got[got.len() - 1] >> 32, got[got.len() - 1] as u32);
                        let before = last[producer as usize].replace(i);
                        assert!(before < Some(i), "in the producer's order");
                    }
                })
            };
            let consumers = [(); 4].map(|()| scope.spawn(consume));
            consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect::<Vec<_>>()
        });
        let mut got = got;
        got.sort_unstable();
        assert!(got.into_iter().eq((0..4).flat_map(|p| (0..EACH).map(move |i| p << 32 | i))));
    }
}

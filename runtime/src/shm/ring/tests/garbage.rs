//! Whatever stands in the shared memory, nobody panics, reads elsewhere, or goes round in circles.

use std::cell::RefCell;

use super::*;
use crate::shm::ring::position::LAST_BUFFER;

/// Words as they may stand in a broken ring: nothing, a few, many, or anything.
fn broken(number: &RefCell<impl FnMut() -> u64>) -> u64 {
    let number = &mut *number.borrow_mut();
    let any = number();
    match number() % 6 {
        0 | 1 => 0,
        2 => any % 4,
        3 => (any % 4096) & !7,
        4 => u64::MAX - any % 4,
        _ => any,
    }
}

/// Buffers full of garbage, which are there whether they were made or not.
struct Heap(Vec<Vec<AtomicU8>>);

impl Heap {
    fn new(number: &RefCell<impl FnMut() -> u64>) -> Self {
        let bytes = |length: u64| {
            let words = (0..length / 8).flat_map(|_| {
                let (kind, length) = (broken(number) % 6, broken(number) % 600);
                (kind << 32 | length).to_le_bytes()
            });
            words.map(AtomicU8::new).collect()
        };
        Self((0..4).map(|k| bytes(buffer_size(k))).collect())
    }
}

impl Store for Heap {
    fn buffer(&self, k: u32) -> io::Result<&[AtomicU8]> {
        assert!(k <= LAST_BUFFER);
        self.0.get(k as usize).map(Vec::as_slice).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn make(&self, k: u32) -> io::Result<()> {
        self.buffer(k).map(drop)
    }

    fn retire(&self, k: u32) {
        assert!(k <= LAST_BUFFER);
    }

    fn attach(&self, _: u64, _: u64) {}

    fn adopt(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn abandon(&self, _: u64) {}
}

fn use_it(ring: &Ring<Threads>, heap: &Heap) {
    process(|| {
        let parcel = Some(Parcel { id: 1, weight: u64::MAX });
        for i in 0..8 {
            let _ = ring.try_put(heap, &[7; 700], parcel.filter(|_| i % 3 == 0));
            let mut bytes = Vec::new();
            if ring.try_get(heap, &mut bytes).is_ok() {
                assert!(bytes.len() <= MOST_INLINE);
            }
        }
        let _ = (ring.len(), ring.ready_to_get(), ring.unfinished(), ring.task_done());
    });
}

#[test]
fn in_the_control_block() {
    let number = RefCell::new(numbers(7));
    let heap = Heap::new(&number);
    for round in 0..20_000 {
        // No owner is among the living processes of the tests that run beside this one.
        let word = || Word32::new((broken(&number) >> 32) as u32 | 1 << 29);
        let ring: Ring<Threads> = match round % 2 {
            0 => Ring::new(word, || Word64::new(broken(&number))),
            _ => Ring::new(Word32::default, || Word64::new(broken(&number))),
        };
        use_it(&ring, &heap);
    }
}

#[test]
fn in_the_buffers() {
    let number = RefCell::new(numbers(8));
    for _ in 0..300 {
        let ring = ring(0, 0);
        let good = Heap::new(&number);
        process(|| {
            for _ in 0..number.borrow_mut()() % 30 {
                ring.try_put(&good, &[1; 500], None).unwrap();
            }
        });
        use_it(&ring, &Heap::new(&number));
    }
}

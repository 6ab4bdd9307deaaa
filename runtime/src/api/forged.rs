//! Handles from bytes that nobody has made: each is an error or a handle on what is really there.

use serde::de::DeserializeOwned;

use crate::api::connection::Connection;
use crate::api::queue::{JoinableQueue, Queue, SimpleQueue};
use crate::api::shared::array::{SharedArray, SharedChunk};
use crate::api::shared::memory::SharedMemory;
use crate::api::shared::slice::SharedSlice;
use crate::api::shared::value::SharedValue;
use crate::shm::heap::Object;
use crate::transport::codec::{self, passing};

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    passing::receiving(|| codec::decode(bytes)).map_err(|error| error.to_string())
}

fn encode<T: serde::Serialize>(value: &T) -> (Vec<u8>, Vec<Object>) {
    let mut bytes = Vec::new();
    let (encoded, handles) = passing::collecting(|| codec::encode(value, &mut bytes));
    encoded.unwrap();
    (bytes, handles)
}

/// Takes bytes for a handle of each kind, and uses what comes of it.
fn try_all(bytes: &[u8]) -> usize {
    let mut valid = 0;
    if let Ok(queue) = decode::<Queue<u64>>(bytes) {
        let _ = queue.try_put(1).and(Ok(queue.try_get()));
        valid += 1;
    }
    if let Ok(queue) = decode::<JoinableQueue<u64>>(bytes) {
        let _ = (queue.task_done(), queue.try_get());
        valid += 1;
    }
    valid += usize::from(decode::<SimpleQueue<u64>>(bytes).is_ok());
    if let Ok(end) = decode::<Connection<u64, u64>>(bytes) {
        let _ = (end.try_recv(), end.poll(std::time::Duration::ZERO));
        valid += 1;
    }
    if let Ok(slice) = decode::<SharedSlice<u64>>(bytes) {
        std::hint::black_box(slice.iter().copied().fold(0, u64::wrapping_add));
        valid += 1;
    }
    if let Ok(array) = decode::<SharedArray<u64>>(bytes) {
        drop(array.try_write().map(|mut items| items.fill(7)));
        valid += 1;
    }
    if let Ok(chunk) = decode::<SharedChunk<u64>>(bytes) {
        drop(chunk.try_write().map(|mut items| items.fill(8)));
        valid += 1;
    }
    if let Ok(value) = decode::<SharedValue<u64>>(bytes) {
        value.set(value.get());
        valid += 1;
    }
    if let Ok(memory) = decode::<SharedMemory>(bytes) {
        memory.write_at(0, &[1]).unwrap();
        valid += 1;
    }
    valid
}

#[test]
fn handles_of_another_type_are_errors() {
    let queue = Queue::<u32>::unbounded().unwrap();
    let (bytes, _held) = encode(&queue);
    assert!(decode::<Queue<u32>>(&bytes).is_ok());
    for error in [
        decode::<Queue<i32>>(&bytes).unwrap_err(),
        decode::<JoinableQueue<u32>>(&bytes).unwrap_err(),
        decode::<SharedValue<u32>>(&bytes).unwrap_err(),
    ] {
        assert!(error.contains("is of another type"), "{error}");
    }
    drop((queue, _held));
    let error = decode::<Queue<u32>>(&bytes).unwrap_err();
    assert!(error.contains("is gone, or never was"), "{error}");
}

#[test]
fn handles_can_not_leave_the_family() {
    let queue = Queue::<u32>::unbounded().unwrap();
    let error = codec::encode(&queue, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("can only be sent in a call of a task"), "{error}");
    let (bytes, _held) = encode(&queue);
    let error = codec::decode::<Queue<u32>>(&bytes).unwrap_err().to_string();
    assert!(error.contains("can only be sent in a call of a task"), "{error}");
}

#[test]
fn altered_handles_are_errors_or_handles() {
    let slice = SharedSlice::from_slice(&[1_u64, 2, 3]).unwrap();
    let array = SharedArray::<u64>::new(100).unwrap();
    let ends = crate::api::pipe::pipe::<u64, u64>().unwrap();
    let originals = [
        encode(&Queue::<u64>::unbounded().unwrap()),
        encode(&JoinableQueue::<u64>::bounded(3).unwrap()),
        encode(&SimpleQueue::<u64>::new().unwrap()),
        encode(&ends.0),
        encode(&slice),
        encode(&slice.slice(1..2)),
        encode(&array),
        encode(&array.split(3).pop().unwrap()),
        encode(&SharedValue::new(5_u64).unwrap()),
        encode(&SharedMemory::new(10).unwrap()),
    ];
    // A chunk that is all of an array is its array, too.
    assert!(originals.iter().all(|(bytes, _)| try_all(bytes) >= 1));
    let mut random = 1_u64;
    let mut next = |below: usize| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let mut valid = 0;
    for _ in 0..20_000 {
        let mut bytes = originals[next(originals.len())].0.clone();
        for _ in 0..=next(3) {
            match next(3) {
                0 => bytes.truncate(next(bytes.len() + 1)),
                1 => bytes.insert(next(bytes.len() + 1), next(256) as u8),
                _ if bytes.is_empty() => {}
                _ => {
                    let at = next(bytes.len());
                    bytes[at] = next(256) as u8;
                }
            }
        }
        valid += try_all(&bytes);
    }
    // Some changes hit the index of another object, or a range that is inside as well.
    assert!(valid > 0);
    assert_eq!(&slice[..], [1, 2, 3]);
}

//! The heap as its users see it, and what a damaged one does to them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

fn small() -> Object {
    Object::create(Request::small(Kind::Event)).unwrap()
}

fn with_block(bytes: u64, fill: Fill) -> Object {
    Object::create(Request { bytes, fill, ..Request::small(Kind::Memory) }).unwrap()
}

/// The heap is one for the whole test binary: tests that look at all of it take turns.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn an_object_is_there_while_somebody_holds_it() {
    let object = small();
    let (id, second) = (object.id(), object.clone());
    drop(object);
    assert!(Object::receive(id).unwrap().is_same(&second));
    drop(second);
    assert!(Object::receive(id).is_err());
}

#[test]
fn forged_names_are_errors() {
    let object = small();
    let id = object.id();
    for index in [id.index + 1_000_000, u32::MAX, ENTRIES as u32, ENTRIES as u32 - 1] {
        assert!(Object::receive(Id { index, ..id }).is_err());
    }
    for generation in [0, id.generation + 1, u32::MAX] {
        assert!(Object::receive(Id { generation, ..id }).is_err());
    }
    assert_eq!(Id::from_bits(u64::from(u32::MAX)), None);
    assert_eq!(Id::from_bits(id.to_bits()), Some(id));
}

#[test]
fn memory_is_zeroed_and_bounded() {
    let _alone = alone();
    for bytes in [1, 4096, 5000, 3 << 20] {
        for _ in 0..3 {
            let object = with_block(bytes, Fill::Zeros);
            let all = object.atomics(0..bytes as usize).unwrap();
            assert!(all.iter().all(|byte| byte.load(Ordering::Relaxed) == 0));
            all.iter().for_each(|byte| byte.store(0xff, Ordering::Relaxed));
            assert!(object.atomics(0..bytes as usize + 1).is_err());
            assert!(object.get::<AtomicU64>(bytes as usize).is_err());
            assert!(object.get::<AtomicU64>(usize::MAX - 3).is_err());
            assert!(object.write(bytes, b"x").is_err());
        }
    }
}

#[test]
fn inline_bytes_are_zeros_again() {
    let _alone = alone();
    for _ in 0..3 {
        let object = small();
        assert_eq!(object.inline::<AtomicU64>().swap(7, Ordering::Relaxed), 0);
    }
}

#[test]
fn what_is_dropped_is_used_again() {
    let _alone = alone();
    let live = || {
        let heap = get().unwrap();
        let live = (0..heap.top()).filter(|index| phase_of(heap.entry(*index).unwrap()) != 0);
        (live.count(), heap.top())
    };
    drop((with_block(1 << 20, Fill::Anything), small()));
    let before = live();
    for _ in 0..10_000 {
        drop((with_block(1 << 20, Fill::Anything), small()));
    }
    let after = live();
    // Other tests of this binary make objects, too: a few.
    assert!(after.0 <= before.0 + 20 && after.1 <= before.1 + 100, "{before:?} {after:?}");
}

#[test]
fn more_than_there_is_is_an_error() {
    for bytes in [1 << 43, u64::MAX, 1 << 60] {
        let request = Request { bytes, ..Request::small(Kind::Memory) };
        let error = Object::create(request).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{error}");
    }
}

#[test]
fn a_parcel_holds_what_is_in_it() {
    let _alone = alone();
    let objects: Vec<_> = (0..600).map(|_| small()).collect();
    let ids: Vec<_> = objects.iter().map(Object::id).collect();
    let parcel = parcel::pack(None, &objects, b"some bytes").unwrap();
    // Two parcels can hold the same.
    let second = parcel::pack(None, &objects[..1], b"").unwrap();
    drop(objects);
    get().unwrap().lock().rebuild();
    let again: Vec<_> = ids.iter().map(|id| Object::receive(*id).unwrap()).collect();
    let mut bytes = Vec::new();
    parcel::bytes(&parcel, &mut bytes).unwrap();
    assert_eq!(bytes, b"some bytes");
    drop(again);
    assert!(ids.iter().all(|id| Object::receive(*id).is_ok()));
    drop(parcel);
    assert!(ids[1..].iter().all(|id| Object::receive(*id).is_err()));
    assert!(Object::receive(ids[0]).is_ok());
    drop(second);
    assert!(Object::receive(ids[0]).is_err());
}

#[test]
fn parcels_nest() {
    let _alone = alone();
    let object = small();
    let id = object.id();
    let inner = parcel::pack(None, &[object], b"").unwrap();
    let outer = parcel::pack(None, &[inner], b"").unwrap();
    assert!(Object::receive(id).is_ok());
    drop(outer);
    assert!(Object::receive(id).is_err());
}

#[test]
fn parts_go_with_the_whole() {
    let _alone = alone();
    let whole = small();
    let request = Request { parent: Some(whole.id()), ..Request::small(Kind::Buffer) };
    let attached = Object::create(request).unwrap();
    attached.attach(true);
    let loose = Object::create(request).unwrap();
    let (attached_id, loose_id) = (attached.id(), loose.id());
    drop((attached, loose));
    assert!(Object::receive(attached_id).is_ok());
    assert!(Object::receive(loose_id).is_err());
    drop(whole);
    assert!(Object::receive(attached_id).is_err());
}

#[test]
fn everything_can_be_made_anew_at_any_time() {
    let _alone = alone();
    let objects: Vec<_> = (0..100).map(|i| with_block(i * 1000, Fill::Zeros)).collect();
    let parcel = parcel::pack(None, &objects[..50], b"x").unwrap();
    drop(objects);
    let heap = get().unwrap();
    for _ in 0..3 {
        heap.lock().rebuild();
        drop(with_block(10_000, Fill::Zeros));
    }
    drop(parcel);
    heap.lock().rebuild();
    let kept: u64 = heap.header().kept.load(Ordering::Relaxed);
    heap.lock().rebuild();
    assert_eq!(heap.header().kept.load(Ordering::Relaxed), kept);
}

/// Bytes that no process writes, in every field that is read: an error or nothing, never a crash.
#[test]
fn a_damaged_entry_harms_nobody() {
    let _alone = alone();
    let mut random = 1_u64;
    for _ in 0..2000 {
        let object = with_block(100, Fill::Zeros);
        let entry = get().unwrap().entry(object.id().index).unwrap();
        let saved = [&entry.block, &entry.length, &entry.bytes, &entry.parent]
            .map(|field| (field, field.load(Ordering::Relaxed)));
        for (field, _) in &saved {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            field.store(random >> (random % 64), Ordering::Relaxed);
        }
        let _ = object.get::<AtomicU64>(0);
        let _ = object.atomics(0..100);
        get().unwrap().lock().rebuild();
        for (field, value) in saved {
            field.store(value, Ordering::Relaxed);
        }
    }
}

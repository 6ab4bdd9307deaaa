//! Shared slices, arrays, values and raw memory, between processes that live and processes that die.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeMap;
use std::time::Duration;

use procession::{
    Pool, Process, SharedArray, SharedChunk, SharedMemory, SharedSlice, SharedValue, TryLockError,
    bind, task,
};
use procession_tests::scratch::{Scratch, note, notes, pass};
use procession_tests::{alone, heap_memory, wait_until};
use serde::{Deserialize, Serialize};

fn pool(processes: usize) -> Pool {
    Pool::builder().processes(processes).build().unwrap()
}

#[task]
fn sum(numbers: SharedSlice<u64>) -> u64 {
    numbers.iter().sum()
}

#[test]
fn a_slice_is_mapped_over_in_chunks() {
    alone(|| {
        let pool = pool(2);
        let numbers: SharedSlice<u64> = (0..1_000_000).collect();
        let sums = pool.map(sum, numbers.chunks(4096)).unwrap();
        assert_eq!(sums.len(), 245);
        assert_eq!(sums, (*numbers).chunks(4096).map(|c| c.iter().sum()).collect::<Vec<u64>>());
        // The same handle twice at the same time, and chunks of a chunk.
        let part = numbers.slice(10..20);
        assert_eq!(pool.map(sum, [part.clone(), part.clone()]).unwrap(), [145, 145]);
        assert_eq!(pool.map(sum, part.chunks(5).rev()).unwrap(), [85, 60]);
    });
}

#[task]
fn fill(numbers: SharedChunk<u32>) -> usize {
    let first = numbers.start() as u32;
    let mut numbers = numbers.write().unwrap();
    numbers.iter_mut().zip(first..).for_each(|(number, i)| *number = i);
    numbers.len()
}

#[task]
fn total(numbers: SharedArray<u32>) -> u64 {
    numbers.read().unwrap().iter().map(|number| u64::from(*number)).sum()
}

#[test]
fn an_array_is_filled_by_many_in_disjoint_chunks() {
    alone(|| {
        let pool = pool(3);
        let numbers = SharedArray::<u32>::new(100_000).unwrap();
        let filled = pool.map(fill, numbers.split(7)).unwrap();
        assert_eq!(filled.iter().sum::<usize>(), 100_000);
        assert!(numbers.read().unwrap().iter().copied().eq(0..100_000));
        assert_eq!(pool.apply(total, (numbers.clone(),)).unwrap(), 4_999_950_000);
        numbers.write().unwrap().fill(0);
        // More chunks than the claims' table has room for, one after another and at the same time.
        pool.map(fill, numbers.chunks(100)).unwrap();
        assert!(numbers.read().unwrap().iter().copied().eq(0..100_000));
    });
}

#[task]
fn add_one_to_all(numbers: SharedArray<u64>) {
    numbers.write().unwrap().iter_mut().for_each(|number| *number += 1);
}

#[test]
fn overlapping_writers_take_turns() {
    alone(|| {
        let pool = pool(3);
        let numbers = SharedArray::<u64>::new(100).unwrap();
        pool.map(add_one_to_all, (0..300).map(|_| numbers.clone())).unwrap();
        assert_eq!(*numbers.read().unwrap(), [300; 100]);
    });
}

#[task]
fn powers(of: u64) -> SharedSlice<u64> {
    (0..1000).map(|i| of.wrapping_pow(i)).collect()
}

#[test]
fn a_result_outlives_the_worker_that_made_it() {
    alone(|| {
        let pool = Pool::builder().processes(2).max_tasks_per_child(1).build().unwrap();
        let results = pool.map(powers, 0..6).unwrap();
        drop(pool);
        for (of, powers) in (0_u64..).zip(&results) {
            assert_eq!((powers.len(), powers[3]), (1000, of * of * of));
        }
    });
}

#[derive(Serialize, Deserialize, Debug)]
enum Part {
    None,
    Slice(Option<SharedSlice<u8>>),
    Rest { values: Vec<SharedValue<u32>>, memory: BTreeMap<String, SharedMemory> },
}

#[task]
fn turn_around(mut parts: Vec<Part>) -> Vec<Part> {
    for part in &mut parts {
        match part {
            Part::None => {}
            Part::Slice(slice) => {
                *slice = slice.as_ref().map(|s| s.iter().rev().copied().collect())
            }
            Part::Rest { values, memory } => {
                values.iter().for_each(|value| _ = value.fetch_add(1));
                memory.values().for_each(|memory| memory.fill(.., 7).unwrap());
            }
        }
    }
    parts
}

#[test]
fn hundreds_of_handles_travel_in_one_call() {
    alone(|| {
        let pool = pool(1);
        let value = SharedValue::new(5).unwrap();
        let memory = SharedMemory::new(10).unwrap();
        let mut parts: Vec<Part> = (0..600_u32)
            .map(|i| Part::Slice(Some(SharedSlice::from_slice(&i.to_be_bytes()).unwrap())))
            .collect();
        parts.push(Part::None);
        parts.push(Part::Slice(None));
        parts.push(Part::Rest {
            values: (0..300).map(|_| value.clone()).collect(),
            memory: BTreeMap::from([("seven".to_owned(), memory.clone())]),
        });
        let parts = pool.apply(turn_around, (parts,)).unwrap();
        for (i, part) in (0..600_u32).zip(&parts) {
            let Part::Slice(Some(slice)) = part else { panic!("{part:?}") };
            assert_eq!(*slice, i.to_le_bytes());
        }
        assert_eq!(parts.len(), 603);
        assert_eq!(value.get(), 305);
        assert_eq!(memory.copy_to_vec(..).unwrap(), [7; 10]);
    });
}

#[task]
fn look_up(table: SharedSlice<f64>, hits: SharedValue<u64>, index: usize) -> f64 {
    hits.fetch_add(1);
    table[index]
}

#[test]
fn h2_bound_handles_serve_all_items_and_no_count_is_lost() {
    alone(|| {
        let pool = pool(2);
        let table: SharedSlice<f64> = (0..100).map(f64::from).collect();
        let hits = SharedValue::new(0).unwrap();
        let found = pool.map(bind(look_up, (table, hits.clone())), 0..100).unwrap();
        assert_eq!(found, (0..100).map(f64::from).collect::<Vec<_>>());
        assert_eq!(hits.get(), 100);
    });
}

#[task]
fn write_half(chunk: SharedChunk<u32>, log: String, never: String) {
    let mut items = chunk.write().unwrap();
    let half = items.len() / 2;
    items[..half].fill(1);
    note(&log, "half");
    pass(&never);
    items.fill(2);
}

#[test]
fn y3_a_writer_that_is_killed_is_told_to_the_next() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let array = SharedArray::<u32>::new(100).unwrap();
        let halves = array.split(2);
        let args = (halves[1].clone(), log.clone(), scratch.path("never"));
        let writer = Process::new(write_half, args).start().unwrap();
        wait_until("half is written", || notes(&log) == ["half"]);
        // The other half is free, this one isn't.
        halves[0].write().unwrap().fill(9);
        assert!(matches!(halves[1].try_read(), Err(TryLockError::WouldBlock)));
        writer.kill().unwrap();
        let poisoned = halves[1].write().unwrap_err();
        assert!(writer.join().unwrap_err().is_worker_lost());
        let items = poisoned.into_inner();
        assert_eq!((items[24], items[25]), (1, 0));
        drop(items);
        assert!(array.is_poisoned());
        let error = procession::Error::from(array.read().unwrap_err());
        assert!(error.is_poisoned() && error.to_string().contains("died"), "{error}");
        array.clear_poison();
        assert_eq!(array.read().unwrap()[0], 9);
    });
}

/// Counts up in both halves of a value, and in memory what it has counted so far.
#[task]
fn count_pairs(pair: SharedValue<[u64; 2]>, counted: SharedMemory) {
    for i in pair.get()[0] + 1.. {
        pair.update(|[first, second]| {
            *first += 1;
            *second += 1;
        });
        counted.store(0, i).unwrap();
    }
}

#[test]
fn h2_a_value_is_whole_whenever_its_updater_is_killed() {
    alone(|| {
        let pair = SharedValue::new([0_u64; 2]).unwrap();
        let counted = SharedMemory::new(8).unwrap();
        let mut random = 1_u64;
        for _ in 0..200 {
            let before = pair.get()[0];
            let args = (pair.clone(), counted.clone());
            let updater = Process::new(count_pairs, args).start().unwrap();
            wait_until("it counts", || pair.get()[0] > before + 10);
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            std::thread::sleep(Duration::from_nanos((random >> 33) % 200_000));
            updater.kill().unwrap();
            updater.join().unwrap_err();
            let [first, second] = pair.get();
            let counted = counted.load::<u64>(0).unwrap();
            assert_eq!(first, second);
            assert!(first == counted || first == counted + 1, "{first} {counted}");
            // Nobody waits for the dead.
            pair.set([first; 2]);
        }
    });
}

/// Fills all items with the same number, again and again, and reads them between.
#[task]
fn stamp(array: SharedArray<u64>, started: SharedValue<u64>) {
    for number in 1.. {
        array.write().unwrap().fill(number);
        assert_eq!(array.read().unwrap()[0], number);
        started.set(number);
    }
}

#[test]
fn y3_items_are_whole_or_poisoned_whenever_a_writer_is_killed() {
    alone(|| {
        let array = SharedArray::<u64>::new(1000).unwrap();
        let started = SharedValue::new(0).unwrap();
        let (mut random, mut poisoned) = (1_u64, 0);
        for _ in 0..50 {
            started.set(0);
            let writer = Process::new(stamp, (array.clone(), started.clone())).start().unwrap();
            wait_until("it writes", || started.get() > 10);
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            std::thread::sleep(Duration::from_nanos((random >> 33) % 200_000));
            writer.kill().unwrap();
            match array.write() {
                Ok(items) => assert!(items.iter().all(|item| *item == items[0])),
                Err(error) => {
                    poisoned += 1;
                    array.clear_poison();
                    error.into_inner().fill(0);
                }
            }
            writer.join().unwrap_err();
        }
        println!("{poisoned} were poisoned");
    });
}

#[task]
fn change_and_wait(value: SharedValue<u32>, log: String, never: String) {
    let mut guard = value.lock().unwrap();
    *guard = 2;
    note(&log, "changed");
    pass(&never);
}

#[test]
fn y3_a_value_whose_holder_is_killed_is_as_before() {
    alone(|| {
        let scratch = Scratch::new();
        let log = scratch.path("log");
        let value = SharedValue::new(1).unwrap();
        let args = (value.clone(), log.clone(), scratch.path("never"));
        let holder = Process::new(change_and_wait, args).start().unwrap();
        wait_until("it is changed", || notes(&log) == ["changed"]);
        assert_eq!(value.get(), 1);
        holder.kill().unwrap();
        assert_eq!(value.fetch_add(10), 1);
        assert!(holder.join().unwrap_err().is_worker_lost());
        let mut guard = value.lock().unwrap_err().into_inner();
        assert_eq!(*guard, 11);
        *guard = 12;
        value.clear_poison();
        drop(guard);
        assert_eq!(*value.lock().unwrap(), 12);
    });
}

#[task]
fn count(value: SharedValue<i64>, times: u64) {
    for _ in 0..times {
        value.fetch_add(1);
        value.update(|value| *value += 2);
        *value.lock().unwrap() -= 1;
    }
}

#[test]
fn h2_all_ways_to_change_a_value_exclude_each_other() {
    alone(|| {
        let pool = pool(2);
        let value = SharedValue::new(0).unwrap();
        pool.starmap(count, (0..4).map(|_| (value.clone(), 10_000))).unwrap();
        assert_eq!(value.get(), 80_000);
    });
}

#[test]
fn handles_can_not_be_written_to_a_file() {
    let value = SharedValue::new(1).unwrap();
    let error = serde_json::to_string(&value).unwrap_err().to_string();
    assert!(error.contains("can only be sent in a call"), "{error}");
    let error = serde_json::to_string(&SharedSlice::from_slice(&[1]).unwrap()).unwrap_err();
    assert!(error.to_string().contains("through a pipe"), "{error}");
    assert!(serde_json::from_str::<SharedMemory>("[0, 1]").is_err());
    assert!(serde_json::from_str::<SharedArray<u8>>("[[0, 1], 0, 1]").is_err());
}

#[test]
fn h1_what_is_dropped_leaves_nothing() {
    alone(|| {
        let make = |times: usize| {
            for i in 0..times {
                drop(SharedSlice::from_slice(&[i]).unwrap());
                drop(SharedArray::<u8>::new(100).unwrap());
                drop(SharedValue::new(i).unwrap());
                drop(SharedMemory::new(5000).unwrap());
            }
        };
        make(10);
        let before = heap_memory();
        make(if cfg!(debug_assertions) { 100_000 } else { 1_000_000 });
        assert!(heap_memory() <= before + (64 << 10), "{} {before}", heap_memory());
    });
}

#[task]
fn touch(memory: SharedMemory) -> usize {
    memory.fill(.., 1).unwrap();
    memory.len()
}

#[test]
fn h1_large_memory_is_given_back() {
    const LARGE: usize = 192 << 20;
    alone(|| {
        let pool = pool(1);
        let before = heap_memory();
        for _ in 0..4 {
            let memory = SharedMemory::new(LARGE).unwrap();
            assert_eq!(pool.apply(touch, (memory.clone(),)).unwrap(), LARGE);
            assert!(heap_memory() >= before + LARGE as u64);
            let second = SharedMemory::new(LARGE).unwrap();
            drop((memory, second));
            // What is kept for the next one is bounded.
            wait_until("it is given back", || heap_memory() <= before + (256 << 20));
        }
    });
}

#[task]
fn keep_and_die(_slice: SharedSlice<u8>, _memory: SharedMemory) {
    std::process::abort();
}

#[test]
fn h1_what_the_dead_have_held_is_given_back() {
    alone(|| {
        let pool = pool(1);
        let run = || {
            let slice = SharedSlice::from_vec(vec![1; 10 << 20]).unwrap();
            let memory = SharedMemory::new(10 << 20).unwrap();
            let error = pool.apply(keep_and_die, (slice, memory)).unwrap_err();
            assert!(error.is_worker_lost(), "{error}");
        };
        run();
        let before = heap_memory();
        for _ in 0..20 {
            run();
        }
        wait_until("it is given back", || heap_memory() <= before + (40 << 20));
    });
}

#[test]
fn h1_no_size_and_too_much_are_errors() {
    assert!(SharedSlice::<u8>::from_slice(&[]).is_err());
    assert!(SharedArray::<u8>::new(0).is_err());
    assert!(SharedMemory::new(0).is_err());
    for size in [1 << 42, usize::MAX] {
        let error = SharedMemory::new(size).unwrap_err().to_string();
        assert!(error.contains("can't make"), "{error}");
        assert!(SharedArray::<u64>::new(size).is_err());
    }
}

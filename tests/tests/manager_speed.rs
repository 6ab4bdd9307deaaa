//! What calls of managed objects take. Nothing is tested:
//! `cargo test --release -p procession-tests --test manager_speed -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a measurement that fails says where")]

use std::time::Instant;

use procession::sync::Barrier;
use procession::{Dict, Manager, Pool, task};

#[task]
fn get_often(dict: Dict<String, u64>, start: Barrier, count: u32) -> f64 {
    dict.get("key").unwrap();
    start.wait().unwrap();
    let begin = Instant::now();
    for _ in 0..count {
        assert_eq!(dict.get("key").unwrap(), Some(7));
    }
    begin.elapsed().as_secs_f64()
}

#[task]
fn put_and_get(queue: procession::manager::Queue<u64>, start: Barrier, count: u32) -> f64 {
    start.wait().unwrap();
    let begin = Instant::now();
    for i in 0..count {
        queue.put(u64::from(i)).unwrap();
        queue.get().unwrap();
    }
    begin.elapsed().as_secs_f64()
}

/// By hand, in a release build: `--ignored --nocapture`. Python 3 takes 61 µs for a get with one client, 26 to
/// 34 µs in total with 2 to 8, and 67 with 64.
#[test]
#[ignore = "measures"]
fn gets_are_fast() {
    let manager = Manager::new().unwrap();
    let dict: Dict<String, u64> = manager.dict().unwrap();
    dict.insert("key".into(), 7).unwrap();
    for clients in [1, 2, 8, 64] {
        let count = 200_000 / clients.max(4);
        let mut each: Vec<f64> = (0..3)
            .map(|_| {
                let start = Barrier::new(clients as usize).unwrap();
                let pool = Pool::builder().processes(clients as usize).build().unwrap();
                let inputs: Vec<_> =
                    (0..clients).map(|_| (dict.clone(), start.clone(), count)).collect();
                let times = pool.call(get_often).chunksize(1).starmap(inputs).unwrap();
                let longest = times.iter().copied().fold(0.0, f64::max);
                longest * 1e6 / f64::from(count * clients)
            })
            .collect();
        each.sort_by(f64::total_cmp);
        println!("{clients} clients: {each:.3?} µs a get");
    }
    for clients in [1, 2, 8, 64] {
        let count = 100_000 / clients.max(4);
        let start = Barrier::new(clients as usize).unwrap();
        let queue = manager.queue::<u64>(None).unwrap();
        let pool = Pool::builder().processes(clients as usize).build().unwrap();
        let inputs: Vec<_> = (0..clients).map(|_| (queue.clone(), start.clone(), count)).collect();
        let times = pool.call(put_and_get).chunksize(1).starmap(inputs).unwrap();
        let longest = times.iter().copied().fold(0.0, f64::max);
        println!(
            "{clients} clients: {:.3} µs a put and get",
            longest * 1e6 / f64::from(count * clients)
        );
    }
    let squares = manager.dict::<u64, u64>().unwrap();
    for _ in 0..5 {
        let begin = Instant::now();
        manager
            .batch(|tx| {
                for i in 0..1000 {
                    squares.on(tx).insert(i, i * i);
                }
            })
            .unwrap();
        println!("batch of 1000 inserts: {:?}", begin.elapsed());
    }
    for _ in 0..5 {
        let begin = Instant::now();
        Manager::new().unwrap().shutdown().unwrap();
        println!("start and shutdown: {:?}", begin.elapsed());
    }
}

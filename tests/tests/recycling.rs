//! Workers that are replaced though they work, and what a pool tells of them: no item is lost or run twice by it.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeSet;
use std::process;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use procession::{Cause, Limit, Limits, Pool, PoolBuilder, Process, StartMethod, bind, task};
use procession_tests::scratch::{Scratch, note, notes};
use procession_tests::{alone, alone_with_server, is_running, wait_until};

const METHODS: [StartMethod; 2] = [StartMethod::Spawn, StartMethod::ForkServer];
const MIB: u64 = 1 << 20;

fn builders() -> impl Iterator<Item = PoolBuilder> {
    METHODS.into_iter().map(|method| Pool::builder().processes(2).start_method(method))
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[task]
fn mix(x: u64) -> u64 {
    x.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(7)
}

#[task]
fn nap(time: u64) -> u32 {
    thread::sleep(millis(time));
    process::id()
}

#[test]
fn old_workers_are_replaced() {
    alone(|| {
        for builder in builders() {
            let pool = builder.max_age_per_child(millis(100)).build().unwrap();
            // Also when nobody asks for anything.
            let first = pool.worker_pids();
            wait_until("they are replaced", || {
                first.iter().all(|pid| !pool.worker_pids().contains(pid) && !is_running(*pid))
            });
            // What they have begun they end, however old they are.
            let pids: BTreeSet<u32> = pool.map(nap, [300; 8]).unwrap().into_iter().collect();
            assert!(pids.len() >= 4, "{pids:?}");
            let stats = pool.stats();
            assert!(stats.retired >= 4 && stats.lost == 0, "{stats:?}");
        }
    });
}

/// In the midst of claiming tiny items, of long chunks, and of single calls.
#[test]
fn nothing_is_lost_or_done_twice_while_workers_are_replaced() {
    const ITEMS: u64 = 300_000;

    alone(|| {
        for builder in builders() {
            let pool = builder.max_age_per_child(millis(5)).build().unwrap();
            for _ in 0..10 {
                let results = pool.map(mix, 0..ITEMS).unwrap();
                assert!(results.into_iter().eq((0..ITEMS).map(mix)));
            }
            let calls: Vec<_> = (0..20_000).map(|x| pool.apply_async(mix, (x,))).collect();
            assert!(calls.into_iter().map(|call| call.get().unwrap()).eq((0..20_000).map(mix)));
            assert!(pool.imap(mix, 0..20_000).map(Result::unwrap).eq((0..20_000).map(mix)));
            let stats = pool.stats();
            assert!(stats.retired > 10 && stats.lost == 0, "{stats:?}");
        }
    });
}

#[task]
fn noted(file: String, x: u64) -> u64 {
    note(&file, x);
    thread::sleep(millis(1));
    x
}

#[test]
fn a_forced_chunk_is_left_in_the_midst() {
    alone(|| {
        for builder in builders() {
            let scratch = Scratch::new();
            let file = scratch.path("items");
            let pool = builder.max_age_per_child(millis(40)).build().unwrap();
            let call = pool.call(bind(noted, (file.clone(),))).chunksize(150);
            assert!(call.map(0..300).unwrap().into_iter().eq(0..300));
            let mut items: Vec<u64> =
                notes(&file).iter().map(|item| item.parse().unwrap()).collect();
            items.sort_unstable();
            assert!(items.into_iter().eq(0..300), "each item ran once");
            assert!(pool.stats().retired >= 2, "{:?}", pool.stats());
        }
    });
}

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Keeps so many MiB for ever.
#[task]
fn leak(mib: u64) -> u32 {
    KEPT.lock().unwrap().push(vec![1; (mib * MIB) as usize]);
    thread::sleep(millis(20));
    process::id()
}

#[test]
fn large_workers_are_replaced() {
    alone(|| {
        for builder in builders() {
            let pool = builder.max_memory_per_child(100 * MIB).build().unwrap();
            let pids: BTreeSet<u32> = pool.map(leak, [8; 100]).unwrap().into_iter().collect();
            assert!(pids.len() > 2, "{pids:?}");
            let stats = pool.stats();
            assert!(stats.retired > 0 && stats.lost == 0, "{stats:?}");
            // One that is large and idle, too.
            let pid = pool.apply(leak, (150,)).unwrap();
            wait_until("it is replaced", || !pool.worker_pids().contains(&pid));
        }
    });
}

#[task]
fn devour(x: u64) -> u64 {
    if x == 70 {
        loop {
            leak(4);
        }
    }
    x
}

#[test]
fn a_worker_that_is_much_too_large_is_killed() {
    alone(|| {
        for builder in builders() {
            let pool = builder.limits(Limits::new().resident(200 * MIB)).build().unwrap();
            for (x, result) in (0..).zip(pool.try_map(devour, 0..100)) {
                if x != 70 {
                    assert_eq!(result.unwrap(), x);
                    continue;
                }
                let error = result.unwrap_err();
                let breach = error.limit().unwrap();
                assert_eq!((breach.limit(), breach.value()), (Limit::Resident, 200 * MIB));
                assert!(breach.used().unwrap() > 200 * MIB);
                assert_eq!(error.lost().unwrap().cause(), Cause::Limit(breach));
                assert!(error.is_worker_lost() && error.index() == Some(70));
                assert!(
                    error.to_string().contains("resident memory is limited to 209715200 bytes")
                );
            }
            let stats = pool.stats();
            assert_eq!((stats.lost, stats.retired), (1, 0), "{stats:?}");
        }
    });
}

#[test]
fn a_process_that_is_too_large_is_killed() {
    alone_with_server(|| {
        for method in METHODS {
            let process = Process::new(devour, (70,)).limits(Limits::new().resident(100 * MIB));
            let error = process.start_method(method).start().unwrap().join().unwrap_err();
            assert_eq!(error.limit().unwrap().limit(), Limit::Resident);
        }
    });
}

/// Memory that many share is nobody's own.
#[test]
fn shared_memory_does_not_count() {
    alone(|| {
        for builder in builders() {
            let pool = builder.limits(Limits::new().resident(100 * MIB)).build().unwrap();
            let blocks = pool.imap(sum_of, (0..30).map(|_| vec![1_u64; 1 << 20]));
            assert!(blocks.map(Result::unwrap).all(|sum| sum == 1 << 20));
            let array = procession::SharedArray::from_slice(&vec![1_u64; 20 << 20]).unwrap();
            assert_eq!(pool.apply(sum_of_shared, (array,)).unwrap(), 20 << 20);
            assert_eq!(pool.stats().lost, 0);
        }
    });
}

#[task]
fn sum_of(numbers: Vec<u64>) -> u64 {
    numbers.iter().sum()
}

#[task]
fn sum_of_shared(numbers: procession::SharedArray<u64>) -> u64 {
    let numbers = numbers.read().unwrap();
    // Long enough for somebody to look.
    thread::sleep(millis(150));
    numbers.iter().sum()
}

#[task]
fn fails(x: u64) -> u64 {
    assert!(!x.is_multiple_of(10), "{x} can be divided by 10");
    x
}

#[task]
fn computes(time: u64) -> u32 {
    let start = std::time::Instant::now();
    while start.elapsed() < millis(time) {
        std::hint::spin_loop();
    }
    process::id()
}

#[task]
fn aborts() {
    process::abort();
}

#[test]
fn a_pool_tells_what_it_has_done() {
    alone(|| {
        for builder in builders() {
            let pool = builder.limits(Limits::new().core_size(0)).build().unwrap();
            let results = pool.try_map(fails, 0..1000);
            assert_eq!(results.iter().filter(|result| result.is_err()).count(), 100);
            let stats = pool.stats();
            assert_eq!((stats.tasks, stats.lost, stats.retired), (1000, 0, 0), "{stats:?}");
            assert_eq!(stats.workers.len(), 2);
            assert_eq!(stats.workers.iter().map(|worker| worker.tasks).sum::<u64>(), 1000);
            let pid = pool.apply(computes, (100,)).unwrap();
            assert!(pool.apply(aborts, ()).is_err());
            let stats = pool.stats();
            assert_eq!((stats.tasks, stats.lost), (1001, 1), "{stats:?}");
            if let Some(worker) = stats.workers.iter().find(|worker| worker.pid == pid) {
                let usage = worker.usage;
                assert!(usage.user_time() + usage.system_time() >= millis(50), "{worker:?}");
                assert!(worker.age >= millis(100) && usage.max_resident().is_some());
            }
            for worker in &stats.workers {
                let message = worker.last_error.as_ref().map(|error| error.to_string());
                assert!(message.is_none_or(|text| text.contains("can be divided by 10")));
            }
        }
    });
}

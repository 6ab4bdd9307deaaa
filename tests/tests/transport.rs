//! The way between a pool and its workers, under load and at its limits: with rings in shared memory and,
//! in a run of its own with `PROCESSION_TRANSPORT=socket`, with sockets alone.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::time::Duration;

use procession::{Pool, task};
use procession_tests::{alone, is_running, wait_until};

#[task]
fn echo(bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

#[task]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[task]
fn die_with(bytes: Vec<u8>) -> Vec<u8> {
    if bytes.first() == Some(&1) {
        std::process::abort();
    }
    bytes
}

#[task]
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Bytes that differ from one place to the next.
fn bytes(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|i| ((i + seed) % 251) as u8).collect()
}

#[test]
fn large_and_tiny_ones_mixed() {
    alone(|| {
        let pool = Pool::builder().processes(2).build().unwrap();
        let lengths = [0, 1, 3 << 20, 127, 128, 70_000, 1 << 20, 5, (1 << 20) + 1, 262_144, 0];
        for chunk in [1, 20] {
            let inputs: Vec<Vec<u8>> =
                (0..4).flat_map(|round| lengths.map(|length| bytes(round, length))).collect();
            let results = pool.call(echo).chunksize(chunk).map(inputs.clone()).unwrap();
            assert!(results == inputs);
        }
        let results: Vec<_> = (0..200)
            .map(|i| (pool.apply_async(add, (i, 1)), pool.apply_async(echo, (bytes(0, 10_000),))))
            .collect();
        for (i, (sum, echoed)) in (0..).zip(results) {
            assert_eq!(sum.get().unwrap(), i + 1);
            assert!(echoed.get().unwrap() == bytes(0, 10_000));
        }
    });
}

#[test]
fn much_there_and_back() {
    alone(|| {
        let pool = Pool::builder().processes(2).build().unwrap();
        let much = bytes(7, 64 << 20);
        assert!(pool.apply(echo, (much.clone(),)).unwrap() == much);
        assert_eq!(pool.apply(add, (1, 2)).unwrap(), 3);
    });
}

/// While it reads its arguments, and while it writes its result: wherever death finds it, the call fails
/// or works, and the pool goes on.
#[test]
fn death_in_the_middle_of_a_large_frame() {
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        let much = bytes(0, 8 << 20);
        for micros in (0..24_000).step_by(2_000) {
            let pid = pool.apply(pid, ()).unwrap();
            let call = pool.apply_async(echo, (much.clone(),));
            std::thread::sleep(Duration::from_micros(micros));
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid as i32),
                nix::sys::signal::Signal::SIGKILL,
            );
            match call.get() {
                Ok(result) => assert!(result == much),
                Err(error) => assert!(error.is_worker_lost(), "{error}"),
            }
            assert_eq!(pool.apply(add, (1, 2)).unwrap(), 3);
            // It is replaced as soon as its end has begun.
            wait_until("it has ended", || !is_running(pid));
        }
        let mut deadly = bytes(1, 4 << 20);
        assert!(pool.apply(die_with, (deadly.clone(),)).unwrap_err().is_worker_lost());
        deadly[0] = 0;
        assert!(pool.apply(die_with, (deadly.clone(),)).unwrap() == deadly);
    });
}

#[task]
fn pid() -> u32 {
    std::process::id()
}

/// The memory that a process has for itself, in bytes.
fn own_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// What long bytes were sent from is used again, and neither side keeps it.
#[test]
fn long_calls_leave_no_memory_behind() {
    const LENGTH: usize = 33 << 20;
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        let both = [std::process::id(), pool.apply(pid, ()).unwrap()];
        let idle = both.map(own_memory);
        for round in 0..3 {
            // So long that the allocator gives all of it back.
            let mut much = bytes(round, LENGTH);
            for _ in 0..3 {
                much = pool.apply(echo, (much,)).unwrap();
                // Twice what a call has on its way, at most.
                let now = both.map(own_memory);
                let is_bounded = |(now, idle)| now < idle + (160 << 20);
                assert!(now.into_iter().zip(idle).all(is_bounded), "{now:?}, at first {idle:?}");
            }
            let back = pool.map(echo, [much]).unwrap();
            assert!(back[0] == bytes(round, LENGTH));
            drop(back);
            let is_back = |process: u32, idle| own_memory(process) <= idle + (4 << 20);
            wait_until("the memory has been given back", || {
                both.iter().zip(idle).all(|(process, idle)| is_back(*process, idle))
            });
        }
    });
}

/// Nobody looks again and again while there is nothing to do.
#[test]
fn an_idle_pool_takes_no_processor_time() {
    alone(|| {
        let pool = Pool::builder().processes(2).build().unwrap();
        assert_eq!(pool.map(echo, vec![vec![1]; 100]).unwrap().len(), 100);
        let spent = || pool.map(add_time, 0..2).unwrap().into_iter().max().unwrap();
        // Worst of several: a machine that is busy otherwise doesn't make an idle process spend time.
        let before = spent();
        std::thread::sleep(Duration::from_millis(500));
        assert!(spent() - before <= Duration::from_millis(50), "{before:?}, then {:?}", spent());
    });
}

#[task]
fn add_time(_item: u32) -> Duration {
    processor_time()
}

/// The memory of all ways to workers that this process has in its page tables, in bytes.
fn resident() -> u64 {
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_ours = false;
    let mut sum = 0;
    for line in maps.lines() {
        if let Some(size) = line.strip_prefix("Rss:").filter(|_| is_ours) {
            sum += size.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024;
        } else if line.split_whitespace().next().is_some_and(|first| !first.ends_with(':')) {
            is_ours = line.ends_with("memfd:procession (deleted)");
        }
    }
    sum
}

#[test]
fn an_idle_pool_gives_memory_back() {
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        assert_eq!(pool.apply(add, (1, 2)).unwrap(), 3);
        let idle = resident();
        let much = bytes(0, 8 << 20);
        let call = pool.apply_async(echo, (much.clone(),));
        let sockets = std::env::var_os("PROCESSION_TRANSPORT").is_some_and(|name| name == "socket");
        wait_until("the rings are used", || sockets || resident() > idle + (1 << 20));
        assert!(call.get().unwrap() == much);
        wait_until("the memory has been given back", || resident() <= idle + (256 << 10));
        // And is taken again.
        assert!(pool.apply(echo, (much.clone(),)).unwrap() == much);
    });
}

#[task]
fn pool_on_one_processor() -> (u64, usize) {
    let mut one = nix::sched::CpuSet::new();
    let mine = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    let first = (0..nix::sched::CpuSet::count()).find(|cpu| mine.is_set(*cpu).unwrap()).unwrap();
    one.set(first).unwrap();
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &one).unwrap();
    let pool = Pool::builder().processes(2).build().unwrap();
    let sum = (0..500).map(|i| pool.apply(add, (i, 1)).unwrap()).sum();
    (sum, pool.map(echo, vec![vec![0; 100_000]; 50]).unwrap().len())
}

/// There nobody can wait for another without letting it run.
#[test]
fn everything_works_on_one_processor() {
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        assert_eq!(pool.apply(pool_on_one_processor, ()).unwrap(), (125_250, 50));
    });
}

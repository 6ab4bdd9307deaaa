//! Maps whose items workers claim for themselves: many in a row and at once, of all kinds of items, with
//! workers that come and go.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::process;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use procession::{Pool, Queue, SharedValue, bind, task};
use procession_tests::alone;
use procession_tests::scratch::{Scratch, note, notes, open, pass};

#[task]
fn nap(millis: u64) -> u64 {
    thread::sleep(Duration::from_millis(millis));
    millis
}

#[task]
fn mix(x: u64) -> u64 {
    x.rotate_left(7) ^ 0x5555
}

fn pool(workers: usize) -> Pool {
    Pool::builder().processes(workers).build().unwrap()
}

fn mixed(count: u64) -> Vec<u64> {
    (0..count).map(mix).collect()
}

/// `PROCESSION_MAPS` says how many, if not a few hundred.
#[test]
fn many_maps_in_a_row_with_workers_that_come_and_go() {
    alone(|| {
        let maps = std::env::var("PROCESSION_MAPS").ok().and_then(|maps| maps.parse().ok());
        let pool = Pool::builder().processes(2).max_tasks_per_child(997).build().unwrap();
        let before = pool.worker_pids();
        let mut random = 1_u64;
        for _ in 0..maps.unwrap_or(400) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let count = 1 + (random >> 33) % 1000;
            assert!(pool.map(mix, 0..count).unwrap() == mixed(count));
        }
        assert!(pool.worker_pids().iter().all(|pid| !before.contains(pid)), "all are new");
    });
}

#[test]
fn many_threads_map_at_once() {
    alone(|| {
        let pool = pool(2);
        thread::scope(|scope| {
            for thread in 0..8 {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..40 {
                        let count = 1 + (thread * 131 + round * 37) % 700;
                        let call = pool.call(mix).priority((thread % 3) as i32);
                        assert!(call.map(0..count).unwrap() == mixed(count));
                    }
                });
            }
        });
    });
}

/// An iterator that says that it has so many items, whatever it has.
struct Claiming<I>(I, usize);

impl<I: Iterator> Iterator for Claiming<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.1, Some(self.1))
    }
}

#[test]
fn what_an_iterator_says_of_its_length_need_not_be_true() {
    alone(|| {
        let pool = pool(2);
        for count in [0, 1, 2, 1000, 5000] {
            for said in [0, 1, 2, 999, 1001, 100_000, usize::MAX / 2] {
                let items = Claiming(0..count, said);
                assert!(pool.map(mix, items).unwrap() == mixed(count), "{count} as {said}");
            }
        }
    });
}

/// The memory of inputs that are being made isn't that of another map.
#[test]
fn a_map_within_the_inputs_of_a_map() {
    alone(|| {
        let pool = pool(2);
        let inner = || pool.map(mix, 0..300).unwrap()[299];
        let items = Claiming((0..300).map(|x| x + inner() - mix(299)), 300);
        assert!(pool.map(mix, items).unwrap() == mixed(300));
    });
}

#[task]
fn answer(x: u32) -> (bool, char) {
    (x.is_multiple_of(3), char::from_u32(x).unwrap_or('-'))
}

#[task]
fn is_third(x: u32) -> bool {
    x.is_multiple_of(3)
}

#[task]
fn half(x: f64) -> f32 {
    (x / 2.0) as f32
}

/// Numbers come as the vector into which they were copied, all else is decoded.
#[test]
fn results_of_all_kinds_of_sizes() {
    alone(|| {
        let pool = pool(2);
        let thirds = pool.map(is_third, 0..2000).unwrap();
        assert!(thirds.iter().zip(0_u32..).all(|(third, x)| *third == x.is_multiple_of(3)));
        let answers = pool.map(answer, 0..2000).unwrap();
        assert!(answers.iter().zip(0..).all(|(found, x)| *found == answer(x)));
        let halves = pool.map(half, (0..2000).map(f64::from)).unwrap();
        assert!(halves.iter().zip(0_u16..).all(|(half, x)| *half == f32::from(x) / 2.0));
        // Asked for twice, they are still there.
        let result = pool.map_async(half, (0..2000).map(f64::from));
        assert!(result.get().unwrap() == halves && result.get().unwrap() == halves);
        let (told, heard) = channel();
        let call = pool.call(half).on_success(move |all: Vec<f32>| told.send(all).unwrap());
        assert!(call.map((0..2000).map(f64::from)).unwrap() == halves);
        assert!(heard.recv().unwrap() == halves);
    });
}

#[task]
fn hold(item: (u64, String, String)) -> u64 {
    let (item, gate, log) = item;
    note(&log, item);
    pass(&gate);
    item
}

/// Items that wait for the gate that only the last one opens: the last is run although another is blocked.
#[task]
fn open_at_the_end(item: u64, gate: String, end: u64) -> u64 {
    match item {
        0 => pass(&gate),
        item if item == end => open(&gate),
        _ => {}
    }
    item
}

#[test]
fn a_blocked_item_holds_up_nothing_else_of_its_chunk() {
    alone(|| {
        let pool = pool(2);
        for chunk in [10, 1000] {
            let scratch = Scratch::new();
            let gate = scratch.path("gate");
            let inputs = (0..1000).map(|item| (item, gate.clone(), 999));
            let results = pool.call(open_at_the_end).chunksize(chunk).starmap(inputs).unwrap();
            assert!(results.into_iter().eq(0..1000));
        }
    });
}

#[test]
fn a_call_goes_first_when_it_matters_more() {
    alone(|| {
        let pool = pool(1);
        let scratch = Scratch::new();
        let (gate, log) = (scratch.path("gate"), scratch.path("log"));
        let inputs = (0..200).map(|item| (item, gate.clone(), log.clone()));
        let long = pool.call(hold).chunksize(5).map_async(inputs);
        procession_tests::wait_until("it has begun", || !notes(&log).is_empty());
        let (same, higher) = (1000, 2000);
        let last = pool.apply_async(hold, ((same, gate.clone(), log.clone()),));
        let inputs = (higher..higher + 20).map(|item| (item, gate.clone(), log.clone()));
        let first = pool.call(hold).priority(1).map_async(inputs);
        open(&gate);
        assert_eq!(last.get().unwrap(), same);
        assert_eq!(first.get().unwrap(), (higher..higher + 20).collect::<Vec<_>>());
        assert_eq!(long.get().unwrap(), (0..200).collect::<Vec<_>>());
        let order: Vec<u64> = notes(&log).iter().map(|line| line.parse().unwrap()).collect();
        let place = |item: u64| order.iter().position(|other| *other == item).unwrap();
        // Some items of the first one may be in the worker's hand already.
        assert!(place(higher + 19) < 60, "{order:?}");
        assert!(place(same) > place(higher + 19), "{order:?}");
    });
}

#[task]
fn counted(counter: SharedValue<u64>, x: u64) -> u64 {
    thread::sleep(Duration::from_micros(200));
    counter.fetch_add(1);
    x
}

#[test]
fn a_single_call_that_matters_more_is_served_in_the_middle_of_a_long_one() {
    const ITEMS: u64 = 5000;

    alone(|| {
        for workers in [1, 2] {
            let pool = pool(workers);
            for chunk in [None, Some(20)] {
                let done = SharedValue::new(0_u64).unwrap();
                let call = pool.call(bind(counted, (done.clone(),)));
                let call = chunk.into_iter().fold(call, |call, chunk| call.chunksize(chunk));
                let long = call.map_async(0..ITEMS);
                for served in 1..=5 {
                    procession_tests::wait_until("it has begun", || done.get() >= 50 * served);
                    let seen = pool.call(|done: SharedValue<u64>| done.get()).priority(1);
                    let seen = seen.apply((done.clone(),)).unwrap();
                    assert!((50 * served..ITEMS).contains(&seen), "{seen}");
                    assert!(!long.ready());
                }
                assert!(long.get().unwrap().into_iter().eq(0..ITEMS));
            }
        }
    });
}

#[test]
fn what_is_cancelled_or_dropped_doesnt_reach_the_next_map() {
    alone(|| {
        let pool = pool(2);
        for round in 0..40 {
            let inputs = 0..5000;
            if round % 2 == 0 {
                pool.map_async(mix, inputs).cancel();
            } else {
                drop(pool.map_async(|x: u64| x + 1, inputs));
            }
            let count = 1 + round * 23;
            assert!(pool.map(mix, 0..count).unwrap() == mixed(count));
        }
    });
}

#[task]
fn fails_at_times(x: u64) -> u64 {
    assert!(!(x > 300 && x.is_multiple_of(100)), "{x} fails");
    x
}

#[test]
fn the_first_failure_is_that_of_a_map_and_each_is_one_of_try_map() {
    alone(|| {
        let pool = pool(2);
        for chunk in [Some(1), Some(64), None] {
            let call = || {
                chunk.map_or(pool.call(fails_at_times), |chunk| {
                    pool.call(fails_at_times).chunksize(chunk)
                })
            };
            let error = call().map(0..1000).unwrap_err();
            assert_eq!(error.index(), Some(400), "{error}");
            assert!(error.panic().is_some_and(|panic| panic.message().contains("400 fails")));
            for (i, result) in (0..).zip(call().try_map(0..1000)) {
                match result {
                    Ok(x) => assert_eq!(x, i),
                    Err(error) => {
                        assert!(i > 300 && i.is_multiple_of(100), "{error}");
                        assert_eq!(error.index(), Some(i as usize));
                    }
                }
            }
        }
    });
}

#[task]
fn hangs_at_500(x: u64) -> u64 {
    if x == 500 {
        thread::sleep(Duration::from_secs(3600));
    }
    x
}

#[test]
fn a_time_limit_hits_the_late_item_alone() {
    alone(|| {
        let pool = pool(2);
        for chunk in [1000, 100, 1] {
            let call = pool.call(hangs_at_500).chunksize(chunk).timeout(Duration::from_millis(300));
            for (i, result) in (0..).zip(call.try_map(0..1000)) {
                match result {
                    Ok(x) => assert!(x == i && i != 500),
                    Err(error) => assert!(i == 500 && error.is_timeout(), "{i}: {error}"),
                }
            }
        }
    });
}

#[test]
fn items_of_all_kinds() {
    alone(|| {
        let pool = pool(2);
        assert!(pool.map(mix, 0..0).unwrap().is_empty());
        assert_eq!(pool.map(mix, [3]).unwrap(), [mix(3)]);
        assert_eq!(pool.map(|(): ()| (), [(); 3000]).unwrap(), [(); 3000]);
        assert_eq!(pool.map(|(): ()| 7_u8, [(); 3000]).unwrap(), [7; 3000]);
        assert_eq!(pool.map(|_: u64| (), 0..3000).unwrap(), [(); 3000]);
        let empty = pool.map(|text: String| text, vec![String::new(); 500]).unwrap();
        assert_eq!(empty, vec![String::new(); 500]);

        let lengths = [0, 1, 100, 4095, 70_000, 300_000, 1 << 20];
        let inputs: Vec<Vec<u8>> =
            (0..100).map(|i| vec![i as u8; lengths[i % lengths.len()]]).collect();
        let results = pool.map(|bytes: Vec<u8>| bytes, inputs.clone()).unwrap();
        assert!(results == inputs);

        let inputs: Vec<Vec<u8>> = (0..4096).map(|i| vec![i as u8; 16 << 10]).collect();
        let results = pool.map(|bytes: Vec<u8>| bytes, inputs.clone()).unwrap();
        assert!(results == inputs);
    });
}

#[test]
fn items_with_handles() {
    alone(|| {
        let pool = pool(2);
        let queues: Vec<Queue<u64>> = (0..20).map(|_| Queue::unbounded().unwrap()).collect();
        let put = |queue: Queue<u64>| {
            queue.put(5).unwrap();
            queue
        };
        let results = pool.map(put, queues.clone()).unwrap();
        for (queue, result) in queues.iter().zip(&results) {
            assert_eq!(queue.get().unwrap(), 5);
            queue.put(6).unwrap();
            assert_eq!(result.get().unwrap(), 6);
        }
    });
}

#[task]
fn scale(factor: u64, counter: SharedValue<u64>, x: u64) -> u64 {
    counter.fetch_add(1);
    factor * x
}

#[test]
fn bound_arguments() {
    alone(|| {
        let pool = pool(2);
        let counter = SharedValue::new(0_u64).unwrap();
        for factor in 1..5 {
            let results = pool.map(bind(scale, (factor, counter.clone())), 0..1000).unwrap();
            assert!(results.into_iter().eq((0..1000).map(|x| factor * x)));
        }
        assert_eq!(counter.get(), 4000);
    });
}

#[test]
fn progress_is_told_long_before_the_end() {
    alone(|| {
        let pool = pool(1);
        let scratch = Scratch::new();
        let gate = scratch.path("gate");
        let (sender, seen) = channel();
        let call = pool.call(pass_at_the_end).chunksize(100).progress(move |progress| {
            let _ = sender.send(progress.done);
        });
        let inputs = (0..100).map(|item| (item, gate.clone()));
        let results = call.starmap_async(inputs);
        // The last item waits for this.
        while seen.recv().unwrap() < 10 {}
        open(&gate);
        assert!(results.get().unwrap().into_iter().eq(0..100));
    });
}

#[task]
fn pass_at_the_end(item: u64, gate: String) -> u64 {
    if item == 99 {
        pass(&gate);
    }
    item
}

#[test]
fn sixty_four_workers() {
    alone(|| {
        let pool = pool(64);
        for count in [1, 64, 1000, 20_000] {
            assert!(pool.map(mix, 0..count).unwrap() == mixed(count));
        }
    });
}

#[test]
fn sixty_four_workers_that_come_and_go() {
    alone(|| {
        let pool = Pool::builder().processes(64).max_tasks_per_child(97).build().unwrap();
        for map in 0..60 {
            let count = 1 + map * 317 % 1000;
            assert!(pool.map(mix, 0..count).unwrap() == mixed(count));
        }
    });
}

#[task]
fn on_one_processor() -> bool {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;

    let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let mut one = CpuSet::new();
    one.set((0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap()).unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    let pool = pool(2);
    (0..50).all(|_| pool.map(mix, 0..1000).unwrap() == mixed(1000))
}

#[test]
fn a_program_on_one_processor() {
    alone(|| {
        let program = procession::Process::new(on_one_processor, ()).start().unwrap();
        assert!(program.join().unwrap());
    });
}

/// The processor time of a process, in clock ticks.
fn ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn is_idle_for(time: Duration) {
    let pool = pool(2);
    pool.map(mix, 0..10_000).unwrap();
    let used = || {
        let workers: u64 = pool.worker_pids().into_iter().map(ticks).sum();
        workers + ticks(process::id())
    };
    // Memory that only a burst needs is given back a while after it.
    thread::sleep(Duration::from_millis(1500));
    let before = used();
    thread::sleep(time);
    let after = used();
    assert!(after - before <= 1 + time.as_secs() / 60, "{} ticks", after - before);
}

#[test]
fn an_idle_pool_uses_no_processor() {
    alone(|| is_idle_for(Duration::from_secs(2)));
}

#[test]
#[ignore = "it takes ten minutes"]
fn an_idle_pool_uses_no_processor_for_long() {
    is_idle_for(Duration::from_secs(600));
}

#[task]
fn noted(log: String, x: u64) -> u64 {
    note(&log, x);
    x
}

/// However the workers are hit, each item runs once, or twice where the call allows it.
#[test]
fn nothing_runs_twice_under_fire() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    alone(|| {
        const ITEMS: u64 = 2000;
        let pool = pool(3);
        let mut random = procession_tests::kills::Random::new();
        for retries in [0, 0, 0, 1000, 1000] {
            let scratch = Scratch::new();
            let log = scratch.path("log");
            let call = pool.call(bind(noted, (log.clone(),))).retries(retries);
            let results = call.map_async(0..ITEMS);
            let mut kills = 0;
            while !results.ready() {
                random.sleep(Duration::from_millis(15));
                if let Some(pid) = pool.worker_pids().get(kills % 3) {
                    let _ = kill(Pid::from_raw(*pid as i32), Signal::SIGKILL);
                    kills += 1;
                }
            }
            let outcome = results.get();
            let mut items = notes(&log);
            items.sort_unstable();
            let twice = items.windows(2).filter(|pair| pair[0] == pair[1]).count();
            assert!(twice <= if retries == 0 { 0 } else { kills }, "{twice} twice, {kills} kills");
            match outcome {
                Ok(values) => assert!(values.into_iter().eq(0..ITEMS)),
                Err(error) => assert!(retries == 0 && error.is_worker_lost(), "{error}"),
            }
        }
    });
}

/// Whatever limits they have.
#[test]
fn what_comes_first_does_not_wait_for_a_board() {
    alone(|| {
        let limit = Duration::from_secs(50);
        for (of_board, of_call) in [(None, Some(limit)), (Some(limit), None), (None, None)] {
            let pool = Pool::builder().processes(2).build().unwrap();
            let call = |limit: Option<Duration>| {
                let call = pool.call(nap);
                if let Some(limit) = limit { call.timeout(limit) } else { call }
            };
            let many = call(of_board).map_async([5; 20_000]);
            assert_eq!(call(of_call).priority(1).apply((1,)).unwrap(), 1);
            let some = call(of_call).priority(1).map([2; 100]).unwrap();
            assert_eq!(some, [2; 100]);
            assert!(!many.ready());
            pool.terminate();
        }
    });
}

/// Each in its turn, and none is forgotten.
#[test]
fn boards_with_different_limits_are_all_done() {
    alone(|| {
        let pool = Pool::builder().processes(2).build().unwrap();
        for _ in 0..20 {
            let results: Vec<_> = (0..12)
                .map(|i: u64| {
                    let call = pool.call(nap).priority((i % 2) as i32);
                    let limited = Duration::from_secs(50 + i % 3);
                    let call = if i.is_multiple_of(4) { call } else { call.timeout(limited) };
                    call.map_async([0; 300])
                })
                .collect();
            for result in results {
                assert_eq!(result.get().unwrap(), [0; 300]);
            }
        }
    });
}

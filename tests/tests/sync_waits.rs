//! Conditions, events and barriers, between processes and threads. What becomes of them when processes are
//! killed is in `sync_kills.rs`.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::thread;
use std::time::{Duration, Instant};

use procession::sync::{Barrier, Condition, Event, Lock};
use procession::{Error, Process, Queue, SharedArray, SharedValue, task};
use procession_tests::{alone, wait_until};
use serde::{Deserialize, Serialize};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

/// How long it takes.
fn time(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}

/// A condition, and what happens under its lock.
#[derive(Clone, Serialize, Deserialize)]
struct Station {
    condition: Condition,
    waiting: SharedValue<u32>,
    gone: Queue<u32>,
}

impl Station {
    fn new() -> Self {
        Self {
            condition: Condition::new().unwrap(),
            waiting: SharedValue::new(0).unwrap(),
            gone: Queue::unbounded().unwrap(),
        }
    }

    /// Waits until so many wait: they have given the lock back, or it couldn't be taken.
    fn until_there_wait(&self, count: u32) {
        wait_until("they wait", || {
            let _guard = self.condition.lock().unwrap();
            self.waiting.get() == count
        });
    }

    /// Who has gone on, in order, when so many more have.
    fn next(&self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.gone.get_timeout(LONG).unwrap()).collect()
    }
}

#[task]
fn wait_at(station: Station, number: u32) {
    let guard = station.condition.lock().unwrap();
    station.waiting.fetch_add(1);
    let _guard = station.condition.wait(guard).unwrap();
    station.gone.put(number).unwrap();
}

#[test]
fn y2_the_first_to_wait_is_the_first_to_be_notified() {
    alone(|| {
        let station = Station::new();
        let mut processes = Vec::new();
        thread::scope(|scope| {
            for number in 0..8 {
                // Every other one is a thread.
                if number % 2 == 0 {
                    let args = (station.clone(), number);
                    processes.push(Process::new(wait_at, args).start().unwrap());
                } else {
                    let args = (station.clone(), number);
                    scope.spawn(move || wait_at(args.0, args.1));
                }
                station.until_there_wait(number + 1);
            }
            let notify = |count| {
                let guard = station.condition.lock().unwrap();
                station.condition.notify(&guard, count);
            };
            notify(0);
            for number in 0..3 {
                notify(1);
                assert_eq!(station.next(1), [number]);
            }
            notify(2);
            let mut both = station.next(2);
            both.sort_unstable();
            assert_eq!(both, [3, 4]);
            station.condition.notify_one(&station.condition.lock().unwrap());
            assert_eq!(station.next(1), [5]);
            assert!(station.gone.is_empty());
            station.condition.notify_all(&station.condition.lock().unwrap());
            assert_eq!(station.next(2).iter().sum::<u32>(), 6 + 7);
            // Nobody is left to be woken, and nothing is kept for who comes later.
            notify(100);
            let guard = station.condition.lock().unwrap();
            let (_, notified) = station.condition.wait_timeout(guard, SHORT).unwrap();
            assert!(!notified);
        });
        processes.into_iter().for_each(|process| process.join().unwrap());
    });
}

#[task]
fn ping_pong(condition: Condition, turn: SharedValue<u32>, own: u32, rounds: u32) {
    let mut guard = condition.lock().unwrap();
    for _ in 0..rounds {
        let mine = || turn.get() % 2 == own;
        (guard, _) = condition.wait_for(guard, mine, None).unwrap();
        turn.fetch_add(1);
        condition.notify_one(&guard);
    }
}

#[test]
fn y2_two_processes_take_turns_by_wait_for() {
    alone(|| {
        let (condition, turn) = (Condition::new().unwrap(), SharedValue::new(0).unwrap());
        let args = (condition.clone(), turn.clone(), 1, 2000);
        let other = Process::new(ping_pong, args).start().unwrap();
        ping_pong(condition.clone(), turn.clone(), 0, 2000);
        other.join().unwrap();
        assert_eq!(turn.get(), 4000);
        let guard = condition.lock().unwrap();
        let mut last = true;
        let took = time(|| last = condition.wait_for(guard, || false, Some(SHORT)).unwrap().1);
        assert!(!last && took >= SHORT);
    });
}

/// A bounded buffer on two conditions with one lock.
#[derive(Clone, Serialize, Deserialize)]
struct Buffer {
    not_empty: Condition,
    not_full: Condition,
    items: SharedValue<u32>,
}

#[task]
fn fill(buffer: Buffer, times: u32) {
    for _ in 0..times {
        let guard = buffer.not_full.lock().unwrap();
        let room = || buffer.items.get() < 3;
        let (guard, _) = buffer.not_full.wait_for(guard, room, None).unwrap();
        buffer.items.fetch_add(1);
        buffer.not_empty.notify_one(&guard);
    }
}

#[test]
fn y2_conditions_share_a_lock() {
    alone(|| {
        let lock = Lock::new().unwrap();
        let buffer = Buffer {
            not_empty: Condition::with_lock(&lock).unwrap(),
            not_full: Condition::with_lock(&lock).unwrap(),
            items: SharedValue::new(0).unwrap(),
        };
        let start = |_| Process::new(fill, (buffer.clone(), 500)).start();
        let others = (0..2).map(start).collect::<Result<Vec<_>, _>>().unwrap();
        for _ in 0..1000 {
            let guard = lock.lock().unwrap();
            let some = || buffer.items.get() > 0;
            let (guard, _) = buffer.not_empty.wait_for(guard, some, None).unwrap();
            assert!(buffer.items.fetch_sub(1) <= 3);
            buffer.not_full.notify_one(&guard);
        }
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(buffer.items.get(), 0);
    });
}

#[task]
fn relay(from: Event, to: Event) -> bool {
    let was_set = from.wait_timeout(LONG);
    to.set();
    was_set
}

#[test]
fn an_event_releases_all_who_wait() {
    alone(|| {
        let (start, done) = (Event::new().unwrap(), [(); 3].map(|()| Event::new().unwrap()));
        assert!(time(|| assert!(!start.wait_timeout(SHORT))) >= SHORT);
        let relay = |to: &Event| Process::new(relay, (start.clone(), to.clone())).start().unwrap();
        let others: Vec<_> = done.iter().map(relay).collect();
        assert!(done.iter().all(|event| !event.is_set()));
        start.set();
        start.set();
        done.iter().for_each(Event::wait);
        assert!(others.into_iter().all(|other| other.join().unwrap()));
        assert!(start.is_set() && start.wait_timeout(Duration::ZERO));
        start.clear();
        assert!(!start.is_set() && !start.wait_timeout(Duration::ZERO));
    });
}

const PARTIES: usize = 4;
const ROUNDS: usize = 1000;

/// Meets the others again and again. Each notes in every round which index it had; the last one to come
/// counts the round before anybody goes on.
#[task]
fn meet(barrier: Barrier, own: u32, rounds: SharedValue<usize>, seen: SharedArray<u8>) -> u32 {
    let mine = seen.split(PARTIES).swap_remove(own as usize);
    let mut actions = 0;
    for round in 0..ROUNDS {
        let action = || {
            actions += 1;
            rounds.set(rounds.get() + 1);
        };
        let index = barrier.wait_with(action).unwrap();
        assert_eq!(rounds.get(), round + 1);
        mine.write().unwrap()[round] = index as u8 + 1;
        barrier.wait().unwrap();
    }
    actions
}

#[test]
fn y2_a_barrier_is_used_again_its_indices_differ_and_its_action_runs_once() {
    alone(|| {
        let barrier = Barrier::new(PARTIES).unwrap();
        let rounds = SharedValue::new(0).unwrap();
        let seen = SharedArray::new(PARTIES * ROUNDS).unwrap();
        let start = |own| {
            let args = (barrier.clone(), own, rounds.clone(), seen.clone());
            Process::new(meet, args).start().unwrap()
        };
        let others: Vec<_> = (1..PARTIES as u32).map(start).collect();
        let mut actions = meet(barrier.clone(), 0, rounds.clone(), seen.clone());
        for other in others {
            actions += other.join().unwrap();
        }
        assert_eq!((actions as usize, rounds.get()), (ROUNDS, ROUNDS));
        let seen = seen.read().unwrap();
        for round in 0..ROUNDS {
            let mut indices: Vec<u8> = (0..PARTIES).map(|own| seen[own * ROUNDS + round]).collect();
            indices.sort_unstable();
            assert_eq!(indices, [1, 2, 3, 4]);
        }
        assert!(barrier.n_waiting() == 0 && !barrier.is_broken());
    });
}

#[task]
fn wait_once(barrier: Barrier) -> Result<usize, String> {
    barrier.wait().map_err(|error| error.to_string())
}

#[test]
fn y2_abort_reset_and_a_time_out_break_a_barrier_for_all() {
    alone(|| {
        let barrier = Barrier::new(3).unwrap();
        let breaks: [fn(&Barrier); 3] = [Barrier::abort, Barrier::reset, |barrier| {
            let late = barrier.wait_timeout(SHORT).unwrap_err();
            assert!(Error::from(late).to_string().contains("a party was late"));
        }];
        for (i, break_it) in breaks.into_iter().enumerate() {
            let other = Process::new(wait_once, (barrier.clone(),)).start().unwrap();
            wait_until("it waits", || barrier.n_waiting() == 1);
            break_it(&barrier);
            assert!(other.join().unwrap().unwrap_err().contains("broken"));
            // All but `reset` leave it broken, for those who come as well.
            let is_broken = i != 1;
            assert_eq!(barrier.is_broken(), is_broken);
            assert!(!is_broken || barrier.wait().is_err());
            barrier.reset();
            assert!(!barrier.is_broken() && barrier.n_waiting() == 0);
        }
        // It is as good as new.
        let start = |_| Process::new(wait_once, (barrier.clone(),)).start().unwrap();
        let others: Vec<_> = (0..2).map(start).collect();
        let mut indices = vec![barrier.wait().unwrap()];
        indices.extend(others.into_iter().map(|other| other.join().unwrap().unwrap()));
        indices.sort_unstable();
        assert_eq!(indices, [0, 1, 2]);
    });
}

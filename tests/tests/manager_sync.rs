//! The locks, barriers and so on of managers, as many processes use them, and the deaths of their holders.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::thread;
use std::time::{Duration, Instant};

use procession::manager::{
    Barrier, BoundedSemaphore, Condition, Event, List, Lock, RLock, RwLock, Semaphore, Value,
};
use procession::{Manager, ManagerError, Pool, Process, task};
use procession_tests::{alone, wait_until};

/// Runs a test with a manager of its own, which must end well.
fn with_manager(test: impl FnOnce(&Manager)) {
    alone(|| {
        let manager = Manager::new().unwrap();
        test(&manager);
        manager.shutdown().unwrap();
    });
}

#[task]
fn wait_for(event: Event, waiting: List<u32>) -> u32 {
    waiting.push(std::process::id()).unwrap();
    event.wait().unwrap();
    std::process::id()
}

#[test]
fn an_event_lets_all_go() {
    with_manager(|manager| {
        let event: Event = manager.event().unwrap();
        let waiting = manager.list(Vec::new()).unwrap();
        assert!(!event.wait_timeout(Duration::from_millis(10)).unwrap());
        let all: Vec<_> = (0..3)
            .map(|_| Process::new(wait_for, (event.clone(), waiting.clone())).start().unwrap())
            .collect();
        wait_until("all wait", || waiting.len().unwrap() == 3);
        assert!(all.iter().all(|one| one.is_alive()));
        event.set().unwrap();
        for one in all {
            assert_eq!(one.join().unwrap(), one.pid());
        }
        assert!(event.is_set().unwrap() && event.wait_timeout(Duration::ZERO).unwrap());
        event.clear().unwrap();
        assert!(!event.is_set().unwrap());
    });
}

#[test]
fn a_pulse_of_an_event_lets_go_all_who_wait() {
    with_manager(|manager| {
        let event = manager.event().unwrap();
        thread::scope(|scope| {
            let all: Vec<_> = (0..6).map(|_| scope.spawn(|| event.wait().unwrap())).collect();
            while all.iter().any(|one| !one.is_finished()) {
                // Both in one message: nobody who waits has run between them. Who comes later needs another.
                let pulse = manager.batch(|tx| (event.on(tx).set(), event.on(tx).clear()));
                assert!(pulse.is_ok());
                thread::sleep(Duration::from_millis(50));
            }
        });
        assert!(!event.is_set().unwrap());
    });
}

#[test]
fn what_would_wait_for_ever_is_refused() {
    with_manager(|manager| {
        for error in [
            manager.queue::<u8>(Some(0)).unwrap_err(),
            manager.joinable_queue::<u8>(Some(0)).unwrap_err(),
            manager.barrier(0).unwrap_err(),
        ] {
            assert!(matches!(error, ManagerError::Refused(_)), "{error}");
            assert!(error.to_string().contains("at least one"), "{error}");
        }
        assert_eq!(manager.barrier(1).unwrap().wait().unwrap(), Some(0));
    });
}

#[task]
fn count_under_lock(lock: Lock, count: Value<u64>, times: u64) {
    for _ in 0..times {
        let _guard = lock.lock().unwrap();
        count.set(count.get().unwrap() + 1).unwrap();
    }
}

#[test]
fn a_lock_lets_one_in_at_a_time() {
    with_manager(|manager| {
        let (lock, count) = (manager.lock().unwrap(), manager.value(0).unwrap());
        let pool = Pool::builder().processes(3).build().unwrap();
        pool.starmap(count_under_lock, (0..6).map(|_| (lock.clone(), count.clone(), 20))).unwrap();
        drop(pool);
        assert_eq!(count.get().unwrap(), 120);

        let guard = lock.lock().unwrap();
        assert!(lock.is_locked().unwrap());
        assert!(lock.try_lock().unwrap().is_none(), "not even its own thread gets it again");
        let (limit, begin) = (Duration::from_millis(20), Instant::now());
        assert!(lock.lock_timeout(limit).unwrap().is_none());
        assert!(begin.elapsed() >= limit);
        drop(guard);
        assert!(lock.lock_timeout(limit).unwrap().is_some());
        assert!(!lock.is_locked().unwrap());
    });
}

#[task]
fn hold(lock: Lock, held: Event, for_ever: Event) {
    let _guard = lock.lock().unwrap();
    held.set().unwrap();
    for_ever.wait().unwrap();
}

#[test]
fn the_death_of_a_holder_is_told_to_the_next() {
    with_manager(|manager| {
        let lock = manager.lock().unwrap();
        let (held, for_ever) = (manager.event().unwrap(), manager.event().unwrap());
        let holder = Process::new(hold, (lock.clone(), held.clone(), for_ever)).start().unwrap();
        held.wait().unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| lock.lock().map(drop));
            assert!(lock.try_lock().unwrap().is_none());
            holder.kill().unwrap();
            let error = waits.join().unwrap().unwrap_err();
            assert!(matches!(error, ManagerError::Poisoned(_)), "{error}");
        });
        assert!(lock.is_poisoned().unwrap() && !lock.is_locked().unwrap());
        assert!(matches!(lock.try_lock(), Err(ManagerError::Poisoned(_))));
        lock.clear_poison().unwrap();
        drop(lock.lock().unwrap());

        // So is a panic.
        let panics = thread::scope(|scope| {
            let panics = scope.spawn(|| {
                let _guard = lock.lock().unwrap();
                panic!("with the lock in hand");
            });
            panics.join()
        });
        assert!(panics.is_err() && lock.is_poisoned().unwrap());
        assert!(holder.join().is_err());
    });
}

#[test]
fn a_recursive_lock_belongs_to_its_thread() {
    with_manager(|manager| {
        let lock: RLock = manager.rlock().unwrap();
        let outer = lock.lock().unwrap();
        let inner = lock.try_lock().unwrap().unwrap();
        thread::scope(|scope| {
            let other = scope.spawn(|| lock.try_lock().unwrap().is_none());
            assert!(other.join().unwrap());
        });
        drop(outer);
        assert!(lock.is_locked().unwrap());
        drop(inner);
        thread::scope(|scope| {
            let other = scope.spawn(|| lock.try_lock().unwrap().is_some());
            assert!(other.join().unwrap());
        });
    });
}

#[task]
fn sit(seats: Semaphore, sits: Event, for_ever: Event) {
    let _seat = seats.acquire().unwrap();
    sits.set().unwrap();
    for_ever.wait().unwrap();
}

#[test]
fn permits_of_the_dead_are_free_again() {
    with_manager(|manager| {
        let seats: Semaphore = manager.semaphore(1).unwrap();
        let (sits, for_ever) = (manager.event().unwrap(), manager.event().unwrap());
        let process = Process::new(sit, (seats.clone(), sits.clone(), for_ever)).start().unwrap();
        sits.wait().unwrap();
        assert_eq!(seats.value().unwrap(), 0);
        assert!(seats.acquire_timeout(Duration::from_millis(10)).unwrap().is_none());
        process.kill().unwrap();
        let seat = seats.acquire().unwrap();
        assert!(seats.try_acquire().unwrap().is_none());
        seat.forget().unwrap();
        assert!(seats.try_acquire().unwrap().is_none(), "it is kept");
        assert!(seats.release().unwrap() && seats.release().unwrap());
        assert_eq!(seats.value().unwrap(), 2);
        assert!(process.join().is_err());
    });
}

#[test]
fn a_bounded_semaphore_has_no_permit_too_many() {
    with_manager(|manager| {
        let seats: BoundedSemaphore = manager.bounded_semaphore(2).unwrap();
        assert!(!seats.release().unwrap());
        let first = seats.acquire().unwrap();
        assert!(!seats.release().unwrap(), "it is held, not lost");
        first.forget().unwrap();
        assert!(seats.release().unwrap());
        assert_eq!(seats.value().unwrap(), 2);
    });
}

#[task]
fn meet(barrier: Barrier, rounds: u32) -> Vec<usize> {
    (0..rounds).map(|_| barrier.wait().unwrap().unwrap()).collect()
}

#[task]
fn come(barrier: Barrier) -> Option<usize> {
    barrier.wait().unwrap()
}

#[test]
fn a_barrier_lets_all_through_together() {
    with_manager(|manager| {
        let barrier: Barrier = manager.barrier(3).unwrap();
        let start = || Process::new(meet, (barrier.clone(), 20)).start().unwrap();
        let all: Vec<Vec<usize>> =
            [start(), start(), start()].iter().map(|one| one.join().unwrap()).collect();
        for round in 0..20 {
            let mut indices: Vec<_> = all.iter().map(|one| one[round]).collect();
            indices.sort_unstable();
            assert_eq!(indices, [0, 1, 2]);
        }
        assert_eq!(barrier.parties().unwrap(), 3);
    });
}

#[test]
fn a_barrier_is_broken_by_who_gives_up_or_dies_and_repaired_by_a_reset() {
    with_manager(|manager| {
        let barrier: Barrier = manager.barrier(3).unwrap();
        assert_eq!(barrier.wait_timeout(Duration::from_millis(10)).unwrap(), None);
        assert!(barrier.is_broken().unwrap());
        assert_eq!(barrier.wait().unwrap(), None);
        barrier.reset().unwrap();

        let start = || Process::new(come, (barrier.clone(),)).start().unwrap();
        let (dies, lives) = (start(), start());
        wait_until("two wait", || barrier.n_waiting().unwrap() == 2);
        dies.kill().unwrap();
        assert_eq!(lives.join().unwrap(), None, "the other one won't come");
        assert!(barrier.is_broken().unwrap() && dies.join().is_err());
        barrier.reset().unwrap();

        for end in [Barrier::abort, Barrier::reset] {
            let one = start();
            wait_until("one waits", || barrier.n_waiting().unwrap() == 1);
            end(&barrier).unwrap();
            assert_eq!(one.join().unwrap(), None);
            barrier.reset().unwrap();
            assert!(!barrier.is_broken().unwrap());
        }
    });
}

#[task]
fn take_turns(condition: Condition, turn: Value<u32>, me: u32, rounds: u32) {
    for _ in 0..rounds {
        let guard = condition.lock().unwrap();
        let is_mine = || Ok(turn.get()? % 3 == me);
        let (guard, is_mine) = condition.wait_for(guard, None, is_mine).unwrap();
        assert!(is_mine);
        turn.set(turn.get().unwrap() + 1).unwrap();
        condition.notify_all(&guard).unwrap();
    }
}

#[task]
fn wait_once(condition: Condition) {
    let guard = condition.lock().unwrap();
    drop(condition.wait(guard).unwrap());
}

#[test]
fn a_condition_lets_processes_take_turns() {
    with_manager(|manager| {
        let condition: Condition = manager.condition().unwrap();
        let turn = manager.value(0).unwrap();
        let all: Vec<_> = (0..3)
            .map(|me| {
                let args = (condition.clone(), turn.clone(), me, 10);
                Process::new(take_turns, args).start().unwrap()
            })
            .collect();
        all.iter().for_each(|one| one.join().unwrap());
        assert_eq!(turn.get().unwrap(), 30);

        let guard = condition.lock().unwrap();
        let limit = Duration::from_millis(10);
        let (guard, is_notified) = condition.wait_timeout(guard, limit).unwrap();
        assert!(!is_notified);
        let never = condition.wait_for(guard, Some(limit), || Ok(false)).unwrap();
        assert!(!never.1);
        assert_eq!(condition.notify(&never.0, 5).unwrap(), 0, "nobody waits");
    });
}

#[test]
fn a_notice_is_not_lost_with_who_dies_waiting() {
    with_manager(|manager| {
        let condition: Condition = manager.condition().unwrap();
        let start = || Process::new(wait_once, (condition.clone(),)).start().unwrap();
        let dies = start();
        wait_until("one waits", || condition.n_waiting().unwrap() == 1);
        let lives = start();
        wait_until("two wait", || condition.n_waiting().unwrap() == 2);
        dies.kill().unwrap();
        assert!(dies.join().is_err());
        let guard = condition.lock().unwrap();
        assert!(condition.notify(&guard, 1).unwrap() <= 1);
        drop(guard);
        lives.join().unwrap();
    });
}

#[task]
fn write_for_ever(lock: RwLock, held: Event, for_ever: Event) {
    let _guard = lock.write().unwrap();
    held.set().unwrap();
    for_ever.wait().unwrap();
}

#[task]
fn read_for_ever(lock: RwLock, held: Event, for_ever: Event) {
    let _guard = lock.read().unwrap();
    held.set().unwrap();
    for_ever.wait().unwrap();
}

#[test]
fn a_reader_that_dies_is_forgotten_and_a_writer_poisons() {
    with_manager(|manager| {
        let lock: RwLock = manager.rwlock().unwrap();
        let events = || (manager.event().unwrap(), manager.event().unwrap());
        let (held, for_ever) = events();
        let args = (lock.clone(), held.clone(), for_ever);
        let reader = Process::new(read_for_ever, args).start().unwrap();
        held.wait().unwrap();
        assert!(lock.try_read().unwrap().is_some());
        assert!(lock.write_timeout(Duration::from_millis(10)).unwrap().is_none());
        reader.kill().unwrap();
        drop(lock.write().unwrap());
        assert!(reader.join().is_err());

        let (held, for_ever) = events();
        let args = (lock.clone(), held.clone(), for_ever);
        let writer = Process::new(write_for_ever, args).start().unwrap();
        held.wait().unwrap();
        assert!(lock.try_read().unwrap().is_none() && lock.try_write().unwrap().is_none());
        writer.kill().unwrap();
        assert!(matches!(lock.read(), Err(ManagerError::Poisoned(_))));
        lock.clear_poison().unwrap();
        drop((lock.read().unwrap(), lock.read().unwrap()));
        assert!(writer.join().is_err());
    });
}

//! Holders and waiters of locks, semaphores, conditions and barriers that are killed at any instant.
//!
//! In each test some processes work in a loop, and one of them after the other is killed and replaced,
//! while threads of this process and a child that is left alone, the survivors, do the same work.
//! `PROCESSION_KILLS` and `PROCESSION_SEED` say how many, and when: see `procession_tests::kills`.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::sync::{Barrier, Condition, Event, Lock, RLock, RwLock, Semaphore};
use procession::{Process, SharedValue, task};
use procession_tests::kills::{Count, Random, kill_and_replace};
use procession_tests::{alone, is_running, wait_until};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Far more than anybody waits for a lock that goes from hand to hand, and for the dead: that takes some
/// 50 ms. It is there to tell a hang from a wait.
const TOO_LONG: Duration = Duration::from_secs(20);

/// Runs `work` in two threads and `start`s a child, while `f` runs; then `stop`s them all, and gives what
/// the threads have got.
fn with_survivors<R: Send, S: DeserializeOwned>(
    work: impl Fn() -> R + Sync,
    start: impl FnOnce() -> Process<S>,
    stop: impl FnOnce(),
    f: impl FnOnce() -> u32,
) -> (u32, Vec<R>) {
    let child = start();
    thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(&work));
        let kills = f();
        stop();
        assert!(child.join_timeout(TOO_LONG).is_ok(), "the child hangs, or has failed");
        (kills, threads.into_iter().map(|thread| thread.join().unwrap()).collect())
    })
}

/// What a survivor has seen.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default)]
struct Seen {
    passes: u64,
    longest: Duration,
}

impl Seen {
    fn pass(&mut self, start: Instant) {
        self.passes += 1;
        self.longest = self.longest.max(start.elapsed());
    }

    /// Tells of a test, and that nobody waited for the dead.
    fn report(what: &str, kills: u32, all: &[Self]) {
        let longest = all.iter().map(|seen| seen.longest).max().unwrap();
        let passes: u64 = all.iter().map(|seen| seen.passes).sum();
        println!("{what}: {kills} kills, {passes} passes, the longest wait {longest:?}");
        assert!(passes > 0 && longest < TOO_LONG);
    }
}

/// Two numbers, changed one after the other under a lock.
#[derive(Clone, Serialize, Deserialize)]
struct Guarded<L> {
    lock: L,
    first: SharedValue<u64>,
    second: SharedValue<u64>,
    /// Who is inside.
    inside: SharedValue<u32>,
    /// How often somebody was told of a death.
    told: SharedValue<u32>,
    over: Event,
}

impl<L> Guarded<L> {
    fn new(lock: L) -> Self {
        Self {
            lock,
            first: SharedValue::new(0).unwrap(),
            second: SharedValue::new(0).unwrap(),
            inside: SharedValue::new(0).unwrap(),
            told: SharedValue::new(0).unwrap(),
            over: Event::new().unwrap(),
        }
    }

    /// Whether nobody has left it half done.
    fn is_whole(&self) -> bool {
        self.inside.get() == 0 && self.first.get() == self.second.get()
    }

    /// The holder has been told of a death.
    fn repair(&self) {
        self.told.fetch_add(1);
        let left = self.inside.get();
        assert!(left == 0 || !is_running(left), "{left} lives, and was inside");
        self.inside.set(0);
        self.second.set(self.first.get());
    }

    /// What the holder does, who finds it whole.
    fn change(&self) {
        assert!(self.is_whole(), "nobody was told that it is half done");
        self.inside.set(process::id());
        self.first.set(self.first.get() + 1);
        self.second.set(self.second.get() + 1);
        self.inside.set(0);
    }

    fn check(&self, kills: u32) {
        assert!(self.is_whole());
        let told = self.told.get();
        println!("told of {told} deaths inside");
        assert!(told <= kills, "told {told} times of {kills} deaths");
    }
}

impl Guarded<Lock> {
    fn pass(&self) {
        let _guard = self.lock.lock().unwrap_or_else(|poisoned| {
            self.repair();
            self.lock.clear_poison();
            poisoned.into_inner()
        });
        self.change();
    }
}

impl Guarded<RLock> {
    fn pass(&self) {
        let _outer = self.lock.lock().unwrap_or_else(|poisoned| {
            self.repair();
            self.lock.clear_poison();
            poisoned.into_inner()
        });
        let _inner = self.lock.lock().unwrap();
        self.change();
    }
}

/// Passes until it is over.
fn pass_until_over(over: &Event, pass: impl Fn()) -> Seen {
    let mut seen = Seen::default();
    while !over.is_set() {
        let start = Instant::now();
        pass();
        seen.pass(start);
    }
    seen
}

#[task]
fn lock_and_count(guarded: Guarded<Lock>) -> Seen {
    pass_until_over(&guarded.over, || guarded.pass())
}

#[test]
fn y3_holders_of_a_lock() {
    alone(|| {
        let guarded = Guarded::new(Lock::new().unwrap());
        let start =
            || Process::new(lock_and_count, (guarded.clone(),)).daemon(true).start().unwrap();
        let work = || lock_and_count(guarded.clone());
        let stop = || guarded.over.set();
        let (kills, seen) = with_survivors(work, start, stop, || kill_and_replace(start));
        Seen::report("lock", kills, &seen);
        guarded.pass();
        guarded.check(kills);
    });
}

#[task]
fn lock_twice_and_count(guarded: Guarded<RLock>) -> Seen {
    pass_until_over(&guarded.over, || guarded.pass())
}

#[test]
fn y3_holders_of_an_rlock() {
    alone(|| {
        let guarded = Guarded::new(RLock::new().unwrap());
        let start =
            || Process::new(lock_twice_and_count, (guarded.clone(),)).daemon(true).start().unwrap();
        let work = || lock_twice_and_count(guarded.clone());
        let stop = || guarded.over.set();
        let (kills, seen) = with_survivors(work, start, stop, || kill_and_replace(start));
        Seen::report("rlock", kills, &seen);
        guarded.pass();
        guarded.check(kills);
    });
}

impl Guarded<RwLock> {
    fn read(&self) {
        let Ok(_guard) = self.lock.read() else { return self.write() };
        let before = self.first.get();
        assert!(self.is_whole() && self.first.get() == before);
    }

    fn write(&self) {
        let _guard = self.lock.write().unwrap_or_else(|poisoned| {
            self.repair();
            self.lock.clear_poison();
            poisoned.into_inner()
        });
        self.change();
    }
}

/// Reads, and writes now and then.
#[task]
fn read_and_write(guarded: Guarded<RwLock>) -> Seen {
    let mut round = 0;
    let mut seen = Seen::default();
    while !guarded.over.is_set() {
        let start = Instant::now();
        round += 1;
        if round % 3 == 0 {
            guarded.write()
        } else {
            guarded.read()
        }
        seen.pass(start);
    }
    seen
}

#[test]
fn y3_readers_and_writers_of_a_rwlock() {
    alone(|| {
        let guarded = Guarded::new(RwLock::new().unwrap());
        let start =
            || Process::new(read_and_write, (guarded.clone(),)).daemon(true).start().unwrap();
        let work = || read_and_write(guarded.clone());
        let stop = || guarded.over.set();
        let (kills, seen) = with_survivors(work, start, stop, || kill_and_replace(start));
        Seen::report("rwlock", kills, &seen);
        guarded.write();
        guarded.check(kills);
    });
}

const PERMITS: usize = 2;

/// Permits, and who has one: process ids, which need not be living ones.
#[derive(Clone, Serialize, Deserialize)]
struct Permitted {
    permits: Semaphore,
    holders: SharedValue<[u32; 16]>,
    over: Event,
}

impl Permitted {
    fn pass(&self) {
        let _permit = self.permits.acquire();
        let me = process::id();
        let now = self.holders.update(|holders| {
            let vacant = holders.iter_mut().find(|pid| **pid == 0);
            *vacant.expect("the dead are cleared away") = me;
            *holders
        });
        let dead: Vec<u32> = now.into_iter().filter(|pid| *pid != 0 && !is_running(*pid)).collect();
        let living = now.into_iter().filter(|pid| *pid != 0 && !dead.contains(pid)).count();
        assert!(living <= PERMITS, "{living} have {PERMITS} permits: {now:?}");
        self.holders.update(|holders| {
            holders.iter_mut().filter(|pid| dead.contains(pid)).for_each(|pid| *pid = 0);
            *holders.iter_mut().find(|pid| **pid == me).unwrap() = 0;
        });
    }
}

#[task]
fn acquire_and_release(permitted: Permitted) -> Seen {
    pass_until_over(&permitted.over, || permitted.pass())
}

#[test]
fn y3_holders_of_a_semaphores_permits() {
    alone(|| {
        let permitted = Permitted {
            permits: Semaphore::new(PERMITS as u32).unwrap(),
            holders: SharedValue::new([0; 16]).unwrap(),
            over: Event::new().unwrap(),
        };
        let start = || {
            Process::new(acquire_and_release, (permitted.clone(),)).daemon(true).start().unwrap()
        };
        let work = || acquire_and_release(permitted.clone());
        let stop = || permitted.over.set();
        let (kills, seen) = with_survivors(work, start, stop, || kill_and_replace(start));
        Seen::report("semaphore", kills, &seen);
        // All of them are there, and no more.
        let permits = &permitted.permits;
        let all: Vec<_> =
            (0..PERMITS).map(|_| permits.acquire_timeout(TOO_LONG).unwrap()).collect();
        assert!(permits.try_acquire().is_none());
        drop(all);
        assert_eq!(permits.value() as usize, PERMITS);
    });
}

/// Items that wait for who takes them, and how many were taken, changed in one.
#[derive(Clone, Serialize, Deserialize)]
struct Counter {
    condition: Condition,
    items: SharedValue<[u64; 2]>,
    over: Event,
}

impl Counter {
    /// Waits for an item and takes it. False: it is over.
    fn take(&self) -> bool {
        let guard = self.condition.lock().unwrap_or_else(|poisoned| {
            // The items are whole whoever has died.
            self.condition.clear_poison();
            poisoned.into_inner()
        });
        let ready = || self.items.get()[0] > 0 || self.over.is_set();
        let waited = self.condition.wait_for(guard, ready, None);
        let (_guard, ready) = waited.unwrap_or_else(|poisoned| {
            self.condition.clear_poison();
            poisoned.into_inner()
        });
        // Not ready: somebody has died with the lock, and it isn't known what is there.
        let take = |items: &mut [u64; 2]| *items = [items[0] - 1, items[1] + 1];
        if ready && self.items.get()[0] > 0 {
            self.items.update(take);
        }
        !self.over.is_set()
    }

    fn put(&self) {
        let guard = self.condition.lock().unwrap_or_else(|poisoned| {
            self.condition.clear_poison();
            poisoned.into_inner()
        });
        self.items.update(|items| items[0] += 1);
        self.condition.notify_one(&guard);
    }

    fn finish(&self) {
        self.over.set();
        let guard = self.condition.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.condition.notify_all(&guard);
    }
}

#[task]
fn take_items(counter: Counter) -> u64 {
    let mut rounds = 0;
    while counter.take() {
        rounds += 1;
    }
    rounds
}

#[test]
fn y3_waiters_at_a_condition() {
    alone(|| {
        let done = Event::new().unwrap();
        let counter = Counter {
            condition: Condition::new().unwrap(),
            items: SharedValue::new([0, 0]).unwrap(),
            over: Event::new().unwrap(),
        };
        let start = || Process::new(take_items, (counter.clone(),)).daemon(true).start().unwrap();
        let mut put = 0;
        let (kills, rounds) = with_survivors(
            || take_items(counter.clone()),
            start,
            || counter.finish(),
            || {
                thread::scope(|scope| {
                    let producer = scope.spawn(|| {
                        let mut put = 0;
                        // With pauses, in which all of them wait.
                        while !done.wait_timeout(Duration::from_micros(100 * (put % 3))) {
                            counter.put();
                            put += 1;
                        }
                        put
                    });
                    let kills = kill_and_replace(start);
                    done.set();
                    put = producer.join().unwrap();
                    kills
                })
            },
        );
        let [left, taken] = counter.items.get();
        println!(
            "condition: {kills} kills, {put} put, {taken} taken, {left} left, {rounds:?} rounds"
        );
        assert_eq!(left + taken, put);
        assert!(rounds.iter().all(|rounds| *rounds > 0));
    });
}

/// Meets the others until the barrier breaks; takes up to so many microseconds before it comes.
#[task]
fn meet(barrier: Barrier, met: SharedValue<u64>, late: u64) {
    let mut random = Random::from_seed(1);
    loop {
        if late > 0 {
            random.sleep(Duration::from_micros(late));
        }
        if barrier.wait().is_err() {
            return;
        }
        met.fetch_add(1);
    }
}

#[test]
fn y3_parties_at_a_barrier() {
    alone(|| {
        let barrier = Barrier::new(4).unwrap();
        let met = SharedValue::new(0).unwrap();
        let start = |late| {
            let args = (barrier.clone(), met.clone(), late);
            Process::new(meet, args).daemon(true).start().unwrap()
        };
        let (mut random, mut count) = (Random::new(), Count::new());
        let (mut broken, mut longest) = (0, Duration::ZERO);
        while count.one_more() {
            thread::scope(|scope| {
                let (victim, survivor) = (start(0), start(0));
                // All others wait for this one, mostly long enough for a death to be noticed.
                scope.spawn(|| meet(barrier.clone(), met.clone(), 8000));
                scope.spawn(|| meet(barrier.clone(), met.clone(), 0));
                let before = met.get();
                wait_until("they meet", || met.get() > before);
                random.sleep(Duration::from_millis(10));
                victim.kill().unwrap();
                assert!(victim.join().unwrap_err().is_worker_lost());
                let killed = Instant::now();
                // If it wasn't there when it was killed, the three others wait for one who may yet come.
                let is_missed = || barrier.n_waiting() == 3 && !barrier.is_broken();
                let mut since = Instant::now();
                wait_until("it breaks", || {
                    if !is_missed() {
                        since = Instant::now();
                    }
                    barrier.is_broken() || since.elapsed() > Duration::from_millis(60)
                });
                if barrier.is_broken() {
                    broken += 1;
                    longest = longest.max(killed.elapsed());
                } else {
                    barrier.abort();
                }
                assert!(survivor.join_timeout(TOO_LONG).is_ok());
            });
            assert!(barrier.is_broken() && barrier.n_waiting() == 0);
            barrier.reset();
        }
        let kills = count.kills();
        println!("barrier: {kills} kills, {broken} at it, the others were told after {longest:?}");
        assert!(broken > 0 && longest < TOO_LONG);
    });
}

#[test]
fn y3_the_death_of_a_party_is_told_to_those_who_wait() {
    alone(|| {
        let barrier = Barrier::new(3).unwrap();
        let met = SharedValue::new(0).unwrap();
        let args = (barrier.clone(), met.clone(), 0);
        let victim = Process::new(meet, args).daemon(true).start().unwrap();
        thread::scope(|scope| {
            let waits = scope.spawn(|| barrier.wait());
            wait_until("both wait", || barrier.n_waiting() == 2);
            victim.kill().unwrap();
            // No third one comes, who would see it.
            assert!(waits.join().unwrap().is_err());
        });
        assert!(victim.join().unwrap_err().is_worker_lost());
        assert!(barrier.is_broken() && met.get() == 0);
        barrier.reset();
        assert_eq!(barrier.n_waiting(), 0);
    });
}

#[derive(Clone, Serialize, Deserialize)]
struct Held {
    lock: Lock,
    rlock: RLock,
    rwlock: RwLock,
    permits: Semaphore,
    condition: Condition,
    barrier: Barrier,
    holds: Event,
}

/// Has everything, and is in the midst of a barrier's action.
#[task]
fn hold_all(held: Held) {
    let _locks = (held.lock.lock(), held.rlock.lock(), held.condition.lock());
    let _rest = (held.rwlock.write(), held.permits.acquire());
    let acts = held.barrier.wait_with(|| {
        held.holds.set();
        thread::sleep(Duration::from_secs(90));
    });
    acts.unwrap();
}

#[test]
fn waits_for_a_holder_that_is_stopped_end_in_time() {
    const SHORT: Duration = Duration::from_millis(120);
    alone(|| {
        let held = Held {
            lock: Lock::new().unwrap(),
            rlock: RLock::new().unwrap(),
            rwlock: RwLock::new().unwrap(),
            permits: Semaphore::new(1).unwrap(),
            condition: Condition::new().unwrap(),
            barrier: Barrier::new(1).unwrap(),
            holds: Event::new().unwrap(),
        };
        let holder = Process::new(hold_all, (held.clone(),)).daemon(true).start().unwrap();
        held.holds.wait();
        kill(Pid::from_raw(holder.pid() as i32), Signal::SIGSTOP).unwrap();
        let start = Instant::now();
        // Longer than a waiter sleeps before it looks: what is stopped isn't taken for dead.
        assert!(held.lock.lock_timeout(SHORT).is_err());
        assert!(held.rlock.lock_timeout(SHORT).is_err());
        assert!(held.rwlock.read_timeout(SHORT).is_err());
        assert!(held.rwlock.write_timeout(SHORT).is_err());
        assert!(held.permits.acquire_timeout(SHORT).is_none());
        assert!(held.barrier.wait_timeout(SHORT).is_err() && held.barrier.is_broken());
        assert!(start.elapsed() >= 6 * SHORT && start.elapsed() < TOO_LONG);
        assert!(!held.lock.is_poisoned() && !held.rwlock.is_poisoned());
        holder.kill().unwrap();
        assert!(holder.join().unwrap_err().is_worker_lost());
        assert!(held.lock.lock().is_err() && held.rlock.lock().is_err());
        assert!(held.condition.lock().is_err() && held.rwlock.write().is_err());
        drop(held.permits.acquire());
    });
}

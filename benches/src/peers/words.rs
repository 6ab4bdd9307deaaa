//! The floor of what processes share: bare words in memory, between threads.
//!
//! To the processor it is the same whether two threads or two processes share a word. These encode
//! nothing, know no death, can do only what is measured, and sleep only where sleeping is measured.

use std::hint;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use rustix::thread::futex;

use super::{Peer, Setup};
use crate::measure::{each, p50, p50_asleep};
use crate::work::{Speed, Work};

/// The head of the column.
pub const NAME: &str = "bare words";

/// Items that the ring holds: 32 KiB, which stay in the nearest cache.
const RING: usize = 4096;

/// Looks before a thread lets others run: with a processor for each thread it never comes to that.
const LOOKS: u32 = 10_000;

/// The items that a thread claims at once where the chunks are its own affair.
const CLAIM: usize = 1024;

/// Some threads and some words.
#[derive(Debug)]
pub struct Words {
    threads: usize,
    speed: Speed,
    /// Inputs, and results in the same places: they are kept, so that only the first round touches new
    /// memory.
    arena: Vec<AtomicU64>,
}

impl Words {
    /// Nothing is started yet.
    pub fn new(setup: &Setup) -> Self {
        let (threads, speed) = (setup.processes, setup.speed(Speed::Fast));
        Self { threads, speed, arena: Vec::new() }
    }

    /// The limit of a map: the inputs are stored in an arena, threads claim ranges of it and store the
    /// results, and these are read.
    fn claims(&mut self, count: usize, claim: usize) -> f64 {
        self.arena.resize_with(count, AtomicU64::default);
        let arena = &self.arena[..count];
        let (next, ready) = (Line(AtomicU64::new(u64::MAX)), Line(AtomicU64::new(0)));
        let (next, ready) = (&next.0, &ready.0);
        let work = || {
            ready.fetch_add(1, Ordering::Release);
            change(next, u64::MAX);
            loop {
                let first = next.fetch_add(claim as u64, Ordering::Relaxed) as usize;
                let Some(items) = arena.get(first..count.min(first + claim)) else { return };
                for item in items {
                    let x = hint::black_box(item.load(Ordering::Relaxed));
                    item.store(x + 1, Ordering::Relaxed);
                }
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.threads).map(|_| scope.spawn(work)).collect();
            while ready.load(Ordering::Acquire) < self.threads as u64 {
                thread::yield_now();
            }
            each(count, || {
                for (i, item) in (0_u64..).zip(arena) {
                    item.store(i, Ordering::Relaxed);
                }
                next.store(0, Ordering::Release);
                threads.into_iter().for_each(|thread| thread.join().expect("its end"));
                let results = arena.iter().map(|item| item.load(Ordering::Relaxed));
                results.collect::<Vec<_>>()
            })
        })
    }
}

impl Peer for Words {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        let count = work.count(self.speed);
        Some(match work {
            Work::Map => self.claims(count, CLAIM),
            Work::MapOneByOne => self.claims(count, 1),
            Work::MapBySixtyFour => self.claims(count, 64),
            Work::ApplyAsleep => futex_round_trip(count),
            Work::Queue => ring(count),
            Work::Pipe | Work::Apply => round_trip(count),
            Work::Lock => {
                let word = AtomicU32::new(0);
                each(count, || (0..count).for_each(|_| lock_and_unlock(&word)))
            }
            Work::Value => {
                let word = AtomicU64::new(0);
                let add = || hint::black_box(&word).fetch_add(1, Ordering::Relaxed);
                each(count, || (0..count).for_each(|_| _ = add()))
            }
            _ => return None,
        })
    }
}

/// What a lock on a futex does when nobody else wants it: no system call.
fn lock_and_unlock(word: &AtomicU32) {
    let word = hint::black_box(word);
    let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
    word.compare_exchange(0, 1, acquire, relaxed).expect("nobody else has it");
    assert_eq!(word.swap(0, Ordering::Release), 1);
}

/// One word goes up in one thread and is followed in the other.
fn round_trip(count: usize) -> f64 {
    const END: u64 = u64::MAX;
    let (there, back) = (Line(AtomicU64::new(0)), Line(AtomicU64::new(0)));
    let (there, back) = (&there.0, &back.0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = 0;
            while last != END {
                last = change(there, last);
                back.store(last, Ordering::Release);
            }
        });
        let mut number = 0;
        let nanos = p50(count, || {
            there.store(number + 1, Ordering::Release);
            number = change(back, number);
        });
        there.store(END, Ordering::Release);
        nanos
    })
}

/// The same where both sleep on a futex until they are woken. It is one for several processes, which is
/// looked up by its place in memory's pages.
fn futex_round_trip(count: usize) -> f64 {
    const END: u32 = u32::MAX;
    let (there, back) = (AtomicU32::new(0), AtomicU32::new(0));
    let set = |word: &AtomicU32, value| {
        word.store(value, Ordering::Release);
        futex::wake(word, futex::Flags::empty(), 1).expect("a futex");
    };
    let sleep_while = |word: &AtomicU32, value| {
        while word.load(Ordering::Acquire) == value {
            // It returns an error when the word has changed, which is looked at then.
            let _ = futex::wait(word, futex::Flags::empty(), value, None);
        }
        word.load(Ordering::Acquire)
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = 0;
            while last != END {
                last = sleep_while(&there, last);
                set(&back, last);
            }
        });
        let mut number = 0;
        let nanos = p50_asleep(count, || {
            set(&there, number + 1);
            number = sleep_while(&back, number);
        });
        set(&there, END);
        nanos
    })
}

/// One thread puts, one gets; each publishes how far it is.
fn ring(count: usize) -> f64 {
    let items: Vec<AtomicU64> = (0..RING).map(|_| AtomicU64::new(0)).collect();
    let (put, got) = (Line(AtomicU64::new(0)), Line(AtomicU64::new(0)));
    let (put, got, count) = (&put.0, &got.0, count as u64);
    each(count as usize, || {
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut seen, mut sum) = (0, 0);
                for i in 0..count {
                    if i == seen {
                        seen = change(put, seen);
                    }
                    sum += items[i as usize % RING].load(Ordering::Relaxed);
                    got.store(i + 1, Ordering::Release);
                }
                assert_eq!(sum, count * count.saturating_sub(1) / 2);
            });
            let mut seen = 0;
            for i in 0..count {
                if i == seen + RING as u64 {
                    seen = change(got, seen);
                }
                items[i as usize % RING].store(i, Ordering::Relaxed);
                put.store(i + 1, Ordering::Release);
            }
        });
    })
}

/// A word with two cache lines for itself, since processors fetch them in pairs.
#[repr(align(128))]
struct Line(AtomicU64);

/// Waits until the word isn't `last` any more.
fn change(word: &AtomicU64, last: u64) -> u64 {
    let mut looks = 0;
    loop {
        let now = word.load(Ordering::Acquire);
        if now != last {
            return now;
        }
        looks += 1;
        if looks % LOOKS == 0 { thread::yield_now() } else { hint::spin_loop() }
    }
}

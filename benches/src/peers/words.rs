//! The floor of what processes share: bare words in memory, between two threads.
//!
//! To the processor it is the same whether two threads or two processes share a word. These never sleep,
//! encode nothing, know no death, and can do only what is measured.

use std::hint;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use super::Peer;
use crate::measure::{each, p50};
use crate::work::{Speed, Work};

/// The head of the column.
pub const NAME: &str = "bare words";

/// Items that the ring holds: 32 KiB, which stay in the nearest cache.
const RING: usize = 4096;

/// Looks before a thread lets others run: with a processor for each thread it never comes to that.
const LOOKS: u32 = 10_000;

/// Two threads and some words.
#[derive(Debug)]
pub struct Words {
    speed: Speed,
}

impl Words {
    /// Nothing is started yet.
    pub fn new(measured: bool) -> Self {
        Self { speed: if measured { Speed::Fast } else { Speed::Tried } }
    }
}

impl Peer for Words {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        let count = work.count(self.speed);
        Some(match work {
            Work::Queue => ring(count),
            Work::Pipe => round_trip(count),
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

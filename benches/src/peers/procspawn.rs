//! The crate procspawn: functions in re-executed copies of the binary, over ipc-channel.
//!
//! Its pool has no `map`: each item is a spawn and a join. Every call in flight holds descriptors, so
//! only a window of them is; with more, a usual limit of 1024 descriptors would be reached. A spawn with
//! large arguments blocks until a worker takes them, which none does before its last result was joined:
//! more of those in flight than workers are a deadlock.

use procspawn::Pool;

use super::{Peer, Setup};
use crate::measure::{each, p50, p50_asleep};
use crate::work::{BLOCK, LARGE, Speed, THOUSAND, Work};

/// The head of the column.
pub const NAME: &str = "procspawn";

/// Calls in flight: far more than workers, and far fewer than descriptors.
const WINDOW: usize = 64;

/// Makes this process a worker of procspawn if it was started as one. To be called first in `main`.
pub fn init() {
    procspawn::init();
}

fn increment(x: u64) -> u64 {
    x.wrapping_add(1)
}

fn echo(block: Vec<u8>) -> Vec<u8> {
    block
}

/// Its pool, and processes of their own where that is measured.
#[derive(Debug)]
pub struct Procspawn {
    pool: Pool,
    measured: bool,
}

impl Procspawn {
    /// With a pool of so many workers, which are warm.
    ///
    /// # Panics
    /// The pool can't be started.
    pub fn new(setup: &Setup) -> Self {
        let pool = Pool::new(setup.processes).expect("a pool");
        let peer = Self { pool, measured: setup.measured };
        peer.map(100);
        peer
    }

    fn apply(&self) {
        self.pool.spawn(1, increment).join().expect("a result");
    }

    fn bulk(&self, count: usize, bytes: usize) -> f64 {
        let mut block = vec![1_u8; bytes];
        p50(count, || {
            block = self.pool.spawn(std::mem::take(&mut block), echo).join().expect("a result");
        })
    }

    /// A map as its users write it, with a window.
    fn map(&self, count: usize) -> Vec<u64> {
        let mut items = 0..count as u64;
        let mut results = Vec::with_capacity(count);
        loop {
            let window = items.by_ref().take(WINDOW);
            let handles: Vec<_> = window.map(|x| self.pool.spawn(x, increment)).collect();
            if handles.is_empty() {
                return results;
            }
            results.extend(handles.into_iter().map(|handle| handle.join().expect("a result")));
        }
    }
}

impl Peer for Procspawn {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        let speed = match work {
            _ if !self.measured => Speed::Tried,
            Work::StartAndJoin => Speed::Fast,
            _ => Speed::VerySlow,
        };
        let count = work.count(speed);
        Some(match work {
            Work::StartAndJoin => p50(count, || {
                procspawn::spawn((), |()| ()).join().expect("its result");
            }),
            Work::Apply => p50(count, || self.apply()),
            Work::ApplyAsleep => p50_asleep(count, || self.apply()),
            Work::Map => each(count, || self.map(count)),
            Work::MapThousand => p50(count, || drop(self.map(THOUSAND))),
            Work::Bulk1 => self.bulk(count, BLOCK),
            Work::Bulk64 => self.bulk(count, LARGE),
            Work::Blocks => {
                let mut blocks = vec![vec![1_u8; BLOCK]; count];
                each(count, || {
                    let mut results = Vec::with_capacity(count);
                    while !blocks.is_empty() {
                        let window = blocks.drain(..blocks.len().min(self.pool.size()));
                        let handles: Vec<_> = window.map(|b| self.pool.spawn(b, echo)).collect();
                        results.extend(handles.into_iter().map(|h| h.join().expect("a result")));
                    }
                    results
                })
            }
            // One by one, or all at once, is what `Map` does already.
            _ => return None,
        })
    }
}

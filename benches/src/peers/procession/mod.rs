//! procession itself.

mod between;

use procession::{Pool, Process, task};

use self::between::Between;
use super::Peer;
use crate::measure::{each, p50};
use crate::work::{BLOCK, Speed, Work};

/// The head of the column.
pub const NAME: &str = "procession";

#[task]
fn nothing() {}

#[task]
fn increment(x: u64) -> u64 {
    x.wrapping_add(1)
}

#[task]
fn echo(block: Vec<u8>) -> Vec<u8> {
    block
}

/// A pool, and processes of their own where that is measured.
#[derive(Debug)]
pub struct Procession {
    pool: Pool,
    between: Between,
    speed: Speed,
}

impl Procession {
    /// With a pool of so many workers, which are warm.
    ///
    /// # Panics
    /// The pool can't be started.
    pub fn new(processes: usize, measured: bool) -> Self {
        let pool = Pool::builder().processes(processes).build().expect("a pool");
        pool.map(increment, 0..10_000).expect("workers");
        let speed = if measured { Speed::Fast } else { Speed::Tried };
        Self { pool, between: Between::default(), speed }
    }
}

impl Peer for Procession {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        let pool = &self.pool;
        let count = work.count(self.speed);
        let items = 0..count as u64;
        Some(match work {
            Work::StartAndJoin => p50(count, || {
                Process::new(nothing, ()).start().expect("a process").join().expect("its result");
            }),
            Work::Apply => p50(count, || {
                pool.apply(increment, (1,)).expect("a result");
            }),
            Work::Map => each(count, || pool.map(increment, items).expect("results")),
            Work::MapOneByOne => {
                each(count, || pool.call(increment).chunksize(1).map(items).expect("results"))
            }
            Work::ApplyAsync => each(count, || {
                let results: Vec<_> = items.map(|x| pool.apply_async(increment, (x,))).collect();
                results.into_iter().map(|result| result.get().expect("a result")).sum::<u64>()
            }),
            Work::Blocks => {
                let blocks = vec![vec![1_u8; BLOCK]; count];
                each(count, || pool.map(echo, blocks).expect("results"))
            }
            other => self.between.run(other, count, pool, self.speed != Speed::Tried)?,
        })
    }
}

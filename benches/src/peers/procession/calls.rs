//! Calls and maps through a pool, by whichever transport it has.

use procession::{AsyncResult, Pool, task};

use crate::measure::{each, p50, p50_asleep};
use crate::work::{BLOCK, LARGE, THOUSAND, Work};

#[task]
pub(super) fn increment(x: u64) -> u64 {
    x.wrapping_add(1)
}

#[task]
fn echo(block: Vec<u8>) -> Vec<u8> {
    block
}

/// A warm pool.
#[derive(Debug)]
pub(in crate::peers) struct Calls {
    pool: Pool,
    /// Kept for its memory, so that submitting isn't charged with growing a vector.
    submitted: Vec<AsyncResult<u64>>,
}

impl Calls {
    /// With so many workers.
    pub(in crate::peers) fn new(processes: usize) -> Self {
        let pool = Pool::builder().processes(processes).build().expect("a pool");
        pool.map(increment, 0..10_000).expect("workers");
        Self { pool, submitted: Vec::new() }
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Does one round of a row that is about calls or maps.
    pub(in crate::peers) fn run(&mut self, work: Work, count: usize) -> Option<f64> {
        let pool = &self.pool;
        let items = 0..count as u64;
        let apply = || assert_eq!(pool.apply(increment, (1,)).expect("a result"), 2);
        Some(match work {
            Work::Apply => p50(count, apply),
            Work::ApplyAsleep => p50_asleep(count, apply),
            Work::ApplyAsync => each(count, || {
                let results: Vec<_> = items.map(|x| pool.apply_async(increment, (x,))).collect();
                results.into_iter().map(|result| result.get().expect("a result")).sum::<u64>()
            }),
            Work::Submit => {
                let submitted = &mut self.submitted;
                submitted.reserve(count);
                let nanos = each(count, || {
                    submitted.extend(items.map(|x| pool.apply_async(increment, (x,))));
                });
                for result in submitted.drain(..) {
                    result.get().expect("a result");
                }
                nanos
            }
            Work::Map => each(count, || pool.map(increment, items).expect("results")),
            Work::MapOneByOne => {
                each(count, || pool.call(increment).chunksize(1).map(items).expect("results"))
            }
            Work::MapBySixtyFour => {
                each(count, || pool.call(increment).chunksize(64).map(items).expect("results"))
            }
            Work::MapThousand => p50(count, || {
                let results = pool.map(increment, 0..THOUSAND as u64).expect("results");
                assert_eq!(results.len(), THOUSAND);
            }),
            Work::Blocks => {
                let blocks = vec![vec![1_u8; BLOCK]; count];
                each(count, || pool.map(echo, blocks).expect("results"))
            }
            Work::Bulk1 => self.bulk(count, BLOCK),
            Work::Bulk64 => self.bulk(count, LARGE),
            _ => return None,
        })
    }

    /// The block that comes back is the next one that goes.
    fn bulk(&self, count: usize, bytes: usize) -> f64 {
        let mut block = vec![1_u8; bytes];
        p50(count, || {
            let sent = std::mem::take(&mut block);
            block = self.pool.apply(echo, (sent,)).expect("a result");
            assert_eq!(block.len(), bytes);
        })
    }
}

//! rayon: what threads cost that share the data, as the mark for `map`.

use rayon::ThreadPool;
use rayon::prelude::*;

use super::Peer;
use crate::measure::each;
use crate::work::{Speed, Work};

/// The head of the column.
pub const NAME: &str = "rayon";

/// A pool of threads.
#[derive(Debug)]
pub struct Rayon {
    pool: ThreadPool,
    speed: Speed,
}

impl Rayon {
    /// With so many threads.
    ///
    /// # Panics
    /// They can't be started.
    pub fn new(threads: usize, measured: bool) -> Self {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        Self { pool, speed: if measured { Speed::Fast } else { Speed::Tried } }
    }
}

impl Peer for Rayon {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        let longest = match work {
            Work::Map => usize::MAX,
            Work::MapOneByOne => 1,
            _ => return None,
        };
        let count = work.count(self.speed);
        Some(each(count, || {
            self.pool.install(|| -> Vec<usize> {
                let items = (0..count).into_par_iter();
                items
                    .with_max_len(longest)
                    .map(|x| std::hint::black_box(x).wrapping_add(1))
                    .collect()
            })
        }))
    }
}

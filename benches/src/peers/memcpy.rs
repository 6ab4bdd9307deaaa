//! The floor of moving bytes: a copy there and a copy back, within one thread.

use std::hint::black_box;

use super::{Peer, Setup};
use crate::measure::p50;
use crate::work::{BLOCK, LARGE, Speed, Work};

/// The head of the column of copies into memory that is there.
pub const NAME: &str = "memcpy";

/// The head of the column of copies into new memory, as results that the caller owns are.
pub const NAME_FRESH: &str = "memcpy, new memory";

/// Copies bytes.
#[derive(Debug)]
pub struct Memcpy {
    name: &'static str,
    speed: Speed,
}

impl Memcpy {
    /// Into memory that is there, and has been touched.
    pub fn warm(setup: &Setup) -> Self {
        Self { name: NAME, speed: setup.speed(Speed::Fast) }
    }

    /// Into new memory.
    pub fn fresh(setup: &Setup) -> Self {
        Self { name: NAME_FRESH, speed: setup.speed(Speed::Fast) }
    }
}

impl Peer for Memcpy {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        let bytes = match work {
            Work::Bulk1 => BLOCK,
            Work::Bulk64 => LARGE,
            _ => return None,
        };
        let count = work.count(self.speed);
        let block = vec![1_u8; bytes];
        Some(if self.name == NAME {
            let (mut there, mut back) = (vec![2_u8; bytes], vec![3_u8; bytes]);
            p50(count, || {
                black_box(&mut there).copy_from_slice(black_box(&block));
                black_box(&mut back).copy_from_slice(black_box(&there));
            })
        } else {
            p50(count, || {
                let there = black_box(&block).clone();
                black_box(black_box(&there).clone());
            })
        })
    }
}

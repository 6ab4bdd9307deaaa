//! rayon: what threads cost that share the data, as the mark for maps.

use std::fs;
use std::num::Wrapping;

use rayon::ThreadPool;
use rayon::prelude::*;

use super::{Peer, Setup};
use crate::measure::{each, p50, p50_asleep};
use crate::programs::{Inputs, Program, chunks, digest, files, find, number, row, steps};
use crate::schedule::{lengths, spin};
use crate::work::{Speed, THOUSAND, Work};

/// The head of the column.
pub const NAME: &str = "rayon";

/// The bytes of an encoded item.
const ITEM: usize = 8;

/// A pool of threads.
#[derive(Debug)]
pub struct Rayon {
    pool: ThreadPool,
    setup: Setup,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Rayon {
    /// With so many threads.
    ///
    /// # Panics
    /// They can't be started.
    pub fn new(setup: &Setup) -> Self {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(setup.processes);
        let pool = threads.build().expect("threads");
        Self { pool, setup: setup.clone(), input: Vec::new(), output: Vec::new() }
    }

    /// Over items that are encoded already, into memory that is there: it decodes, calls and encodes, as
    /// a worker process must, and neither makes the input nor takes the results.
    fn encoded(&mut self, count: usize) -> f64 {
        if self.input.len() != count * ITEM {
            self.input = (0..count as u64).flat_map(u64::to_le_bytes).collect();
            self.output = vec![0; count * ITEM];
        }
        let (input, output) = (&self.input, &mut self.output);
        let nanos = each(count, || {
            self.pool.install(|| {
                let items = input.par_chunks_exact(ITEM).zip(output.par_chunks_exact_mut(ITEM));
                items.for_each(|(input, output)| {
                    let item = u64::from_le_bytes(input.try_into().expect("eight bytes"));
                    output.copy_from_slice(&increment(item).to_le_bytes());
                });
            });
        });
        assert_eq!(self.output[..ITEM], 1_u64.to_le_bytes());
        nanos
    }

    fn map(&self, count: usize, longest: usize) -> Vec<u64> {
        self.pool.install(|| {
            let items = (0..count).into_par_iter().with_max_len(longest);
            items.map(|x| increment(x as u64)).collect()
        })
    }
}

/// Not inlined: a worker process calls its function by a pointer, and no two calls become one.
#[inline(never)]
fn increment(x: u64) -> u64 {
    std::hint::black_box(x).wrapping_add(1)
}

impl Peer for Rayon {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        let count = work.count(self.setup.speed(Speed::Fast));
        if let Some(lengths) = lengths(work, self.setup.processes, self.setup.measured) {
            return Some(each(1, || {
                self.pool.install(|| lengths.into_par_iter().map(spin).collect::<Vec<_>>())
            }));
        }
        Some(match work {
            Work::Map => self.encoded(count),
            Work::MapOneByOne => each(count, || self.map(count, 1)),
            Work::MapBySixtyFour => each(count, || self.map(count, 64)),
            Work::MapThousand => p50(count, || drop(self.map(THOUSAND, usize::MAX))),
            Work::Apply => p50(count, || assert_eq!(self.pool.install(|| increment(1)), 2)),
            Work::ApplyAsleep => {
                p50_asleep(count, || assert_eq!(self.pool.install(|| increment(1)), 2))
            }
            Work::ApplyAsync => each(count, || {
                let mut results = vec![0; count];
                self.pool.in_place_scope(|scope| {
                    for (task, result) in (0..count as u64).zip(&mut results) {
                        scope.spawn(move |_| *result = increment(task));
                    }
                });
                results.into_iter().sum::<u64>()
            }),
            Work::Program(program) => {
                let mut result = 0;
                let inputs = &*self.setup.inputs;
                let nanos = each(1, || self.pool.install(|| result = run(program, inputs)));
                assert_eq!(result, inputs.expected(program), "{program:?}");
                nanos
            }
            _ => return None,
        })
    }
}

fn run(program: Program, inputs: &Inputs) -> u64 {
    match program {
        Program::Mandelbrot => {
            let picture = inputs.picture();
            let rows = (0..picture.height).into_par_iter().map(|y| row(picture, y));
            rows.collect::<Vec<_>>().iter().map(|row| steps(row)).sum()
        }
        Program::HashTree => {
            let files = files(&inputs.tree()).expect("the tree");
            let digests = files.par_iter().map(|file| digest(file).expect("a file"));
            digests.collect::<Vec<_>>().into_iter().map(number).sum::<Wrapping<u64>>().0
        }
        Program::Matches => {
            let text = fs::read_to_string(inputs.text()).expect("the text");
            chunks(&text).par_iter().map(|chunk| find(chunk).1).sum()
        }
    }
}

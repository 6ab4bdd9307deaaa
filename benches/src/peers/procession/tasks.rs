//! Maps of tasks that take their time, and the programs.

use std::fs;
use std::num::Wrapping;
use std::path::PathBuf;

use procession::{Pool, bind, task};

use crate::measure::each;
use crate::programs::{self, Inputs, Picture, Program, chunks, files, number, steps};
use crate::schedule;

#[task]
fn spin(nanos: u64) {
    schedule::spin(nanos);
}

#[task]
fn row(picture: Picture, y: u32) -> Vec<u8> {
    programs::row(picture, y)
}

#[task]
fn digest(file: PathBuf) -> Result<[u8; 32], String> {
    programs::digest(&file).map_err(|error| error.to_string())
}

#[task]
fn find(chunk: String) -> (u64, u64) {
    programs::find(&chunk)
}

/// One map of tasks of these lengths.
pub(super) fn spinning(pool: &Pool, lengths: Vec<u64>) -> f64 {
    each(1, || pool.map(spin, lengths).expect("results"))
}

/// One run of a program.
pub(super) fn program(pool: &Pool, program: Program, inputs: &Inputs) -> f64 {
    let mut result = 0;
    let nanos = each(1, || result = run(pool, program, inputs));
    assert_eq!(result, inputs.expected(program), "{program:?}");
    nanos
}

fn run(pool: &Pool, program: Program, inputs: &Inputs) -> u64 {
    match program {
        Program::Mandelbrot => {
            let picture = inputs.picture();
            let rows = pool.map(bind(row, (picture,)), 0..picture.height).expect("rows");
            rows.iter().map(|row| steps(row)).sum()
        }
        Program::HashTree => {
            let files = files(&inputs.tree()).expect("the tree");
            let digests = pool.map(digest, files).expect("digests").into_iter();
            digests.map(|digest| number(digest.expect("a file"))).sum::<Wrapping<u64>>().0
        }
        Program::Matches => {
            let text = fs::read_to_string(inputs.text()).expect("the text");
            let found = pool.map(find, chunks(&text)).expect("counts");
            found.into_iter().map(|(_, sum)| sum).sum()
        }
    }
}

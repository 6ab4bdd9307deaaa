//! Work in phases: nobody begins with the second before all are done with the first. The barrier also
//! chooses one of them, who says so.
//!
//! The work is running totals. First each process makes those of its own part; then it adds what all
//! parts before its own come to, which nobody knows earlier.
//!
//! ```text
//! phase 1 is over
//! phase 2 is over
//! the last of 1000000 running totals is 499999500000
//! they are what one process computes
//! ```

use procession::sync::Barrier;
use procession::{Error, Process, SharedArray, SharedChunk, task};

const NUMBERS: u64 = 1_000_000;
const PROCESSES: usize = 4;

/// Each number becomes the total of those up to it; gives the last one.
fn run_totals(numbers: &mut [u64]) -> u64 {
    let mut total = 0;
    for number in numbers {
        total += *number;
        *number = total;
    }
    total
}

/// `part` is this process's part of the numbers, `index` its place among the parts, and `totals` has
/// a place for each part's total.
#[task]
fn run_part(part: SharedChunk<u64>, index: usize, totals: SharedArray<u64>, all: Barrier) {
    let mut part = part.write().expect("nobody dies in the middle");
    let total = run_totals(&mut part);
    totals.write().expect("nobody dies in the middle")[index] = total;

    if all.wait().expect("nobody leaves") == 0 {
        println!("phase 1 is over");
    }
    let before: u64 = totals.read().expect("nobody dies in the middle")[..index].iter().sum();
    part.iter_mut().for_each(|total| *total += before);

    if all.wait().expect("nobody leaves") == 0 {
        println!("phase 2 is over");
    }
}

#[procession::main]
fn main() -> Result<(), Error> {
    let numbers: Vec<u64> = (0..NUMBERS).collect();
    let shared = SharedArray::from_slice(&numbers)?;
    let totals = SharedArray::new(PROCESSES)?;
    let all = Barrier::new(PROCESSES)?;
    let running = (0..)
        .zip(shared.split(PROCESSES))
        .map(|(index, part)| (part, index, totals.clone(), all.clone()))
        .map(|arguments| Process::new(run_part, arguments).start())
        .collect::<Result<Vec<_>, _>>()?;
    running.iter().try_for_each(Process::join)?;

    let mut expected = numbers;
    let last = run_totals(&mut expected);
    println!("the last of {NUMBERS} running totals is {last}");
    if *shared.read()? == *expected {
        println!("they are what one process computes");
    }
    Ok(())
}

//! An endless input, in constant memory: `imap` reads its input only as fast as the results are
//! taken.
//!
//! ```text
//! the sum of the first 200000 results is 1333333333300000
//! memory stayed constant
//! ```
//!
//! Memory is read from Linux's `/proc`; elsewhere that line says that it wasn't measured.

use procession::{Pool, task};

/// How many results are taken before memory is first measured, so that all buffers have been used.
const WARM_UP: usize = 20_000;
const RESULTS: usize = 200_000;

#[task]
fn triangular(n: u64) -> u64 {
    n * (n + 1) / 2
}

/// The resident memory of this process in KiB.
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[procession::main]
fn main() -> Result<(), procession::Error> {
    let pool = Pool::new()?;
    let mut results = pool.imap(triangular, 0..);

    let mut sum = 0;
    for result in results.by_ref().take(WARM_UP) {
        sum += result?;
    }
    let before = resident_kib();
    for result in results.take(RESULTS - WARM_UP) {
        sum += result?;
    }
    let after = resident_kib();

    println!("the sum of the first {RESULTS} results is {sum}");
    match before.zip(after) {
        // Were the results kept, these would be several MiB; the allocator's own noise is less.
        // What is under way at once, and the allocator, take a few MiB at most.
        Some((before, after)) if after <= before + 4096 => println!("memory stayed constant"),
        Some((before, after)) => println!("memory grew from {before} to {after} KiB"),
        None => println!("memory wasn't measured"),
    }
    Ok(())
}

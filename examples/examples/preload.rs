//! What is expensive to build, and only read, is built once for all workers: they are forked from a server
//! that has it, and share its memory.
//!
//! ```text
//! 78498 primes below a million
//! the sieve was built once, in a process of its own
//! ```

use std::process;
use std::sync::OnceLock;

use procession::{Pool, task};

/// The sieve, and the process that has built it.
static SIEVE: OnceLock<(Vec<bool>, u32)> = OnceLock::new();

/// The sieve of Eratosthenes.
#[task]
fn build_sieve(limit: usize) {
    let mut prime = vec![true; limit];
    prime[..2].fill(false);
    for n in (2..).take_while(|n| n * n < limit) {
        if prime[n] {
            (n * n..limit).step_by(n).for_each(|multiple| prime[multiple] = false);
        }
    }
    SIEVE.set((prime, process::id())).expect("it is preloaded once");
}

/// How many primes there are in the thousand from `start`, and which process has built the sieve.
#[task]
fn count_primes(start: usize) -> (usize, u32) {
    let (sieve, builder) = SIEVE.get().expect("it was there before this worker");
    let primes = sieve[start..start + 1000].iter().filter(|&&prime| prime).count();
    (primes, *builder)
}

#[procession::main]
fn main() -> Result<(), procession::Error> {
    let pool = Pool::builder().preload(build_sieve, (1_000_000,)).build()?;
    let counts = pool.map(count_primes, (0..1_000_000).step_by(1000))?;

    println!("{} primes below a million", counts.iter().map(|(primes, _)| primes).sum::<usize>());
    let builder = counts[0].1;
    let is_the_only_one = counts.iter().all(|(_, by)| *by == builder);
    if is_the_only_one && builder != process::id() && !pool.worker_pids().contains(&builder) {
        println!("the sieve was built once, in a process of its own");
    }
    Ok(())
}

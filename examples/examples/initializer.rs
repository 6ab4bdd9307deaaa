//! What is expensive to build is built once in each worker, by the initializer, and used by all
//! tasks that the worker runs.
//!
//! ```text
//! 78498 primes below a million
//! each worker built its sieve once
//! ```

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

use procession::{Pool, task};

static SIEVE: OnceLock<Vec<bool>> = OnceLock::new();
static BUILT: AtomicU32 = AtomicU32::new(0);

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
    BUILT.fetch_add(1, Ordering::Relaxed);
    SIEVE.set(prime).expect("an initializer runs once");
}

/// How many primes there are in the thousand from `start`, and how often this worker has built its
/// sieve.
#[task]
fn count_primes(start: usize) -> (usize, u32) {
    let sieve = SIEVE.get().expect("the initializer ran before the first task");
    let primes = sieve[start..start + 1000].iter().filter(|&&prime| prime).count();
    (primes, BUILT.load(Ordering::Relaxed))
}

#[procession::main]
fn main() -> Result<(), procession::Error> {
    let pool = Pool::builder().initializer(build_sieve, (1_000_000,)).build()?;
    let counts = pool.map(count_primes, (0..1_000_000).step_by(1000))?;

    println!("{} primes below a million", counts.iter().map(|(primes, _)| primes).sum::<usize>());
    if counts.iter().all(|&(_, built)| built == 1) {
        println!("each worker built its sieve once");
    }
    Ok(())
}

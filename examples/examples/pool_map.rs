//! The shortest program: a function, run by a pool of processes.
//!
//! ```text
//! [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]
//! ```

use procession::{Pool, task};

#[task]
fn square(x: u64) -> u64 {
    x * x
}

#[procession::main]
fn main() -> Result<(), procession::Error> {
    println!("{:?}", Pool::new()?.map(square, 0..10)?);
    Ok(())
}

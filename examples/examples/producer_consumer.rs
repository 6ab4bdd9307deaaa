//! One produces, many consume: the program puts work into a queue, and each of the pool's workers takes
//! from it until it is closed.
//!
//! The queue holds ten items at most, so the producer is never far ahead, and who is done with one item
//! takes the next: no worker waits for a slow one.
//!
//! ```text
//! below 300000, the longest chain has 443 numbers and begins at 230631
//! nothing is left in the queue
//! ```

use std::ops::Range;

use procession::{Pool, Queue, task};

const LIMIT: u64 = 300_000;
const EACH: u64 = 1_000;

/// How many numbers there are from `n` to 1, when an even one is halved and an odd one is tripled and
/// increased by one.
fn chain_length(mut n: u64) -> u32 {
    let mut length = 1;
    while n != 1 {
        n = if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
        length += 1;
    }
    length
}

/// The longest chain's length, and where it begins.
#[task]
fn longest_chain(starts: Queue<Range<u64>>) -> (u32, u64) {
    let mut longest = (0, 0);
    // It ends when the queue is closed and empty.
    for range in &starts {
        let range = range.expect("what was put can be got");
        for start in range {
            longest = longest.max((chain_length(start), start));
        }
    }
    longest
}

#[procession::main]
fn main() -> Result<(), procession::Error> {
    let pool = Pool::new()?;
    let starts = Queue::bounded(10)?;
    let consumers = (0..pool.processes()).map(|_| starts.clone());
    let results = pool.map_async(longest_chain, consumers);

    for first in (1..LIMIT).step_by(EACH as usize) {
        starts.put(first..LIMIT.min(first + EACH))?;
    }
    starts.close();

    let (length, start) = results.get()?.into_iter().max().expect("there is a worker");
    println!("below {LIMIT}, the longest chain has {length} numbers and begins at {start}");
    if starts.is_empty() {
        println!("nothing is left in the queue");
    }
    Ok(())
}

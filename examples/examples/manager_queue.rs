//! A manager's queue, filled by a pool's tasks: they put what they find when they find it, and the program
//! has it while they still search.
//!
//! A task gives one result, when it ends; into a queue it can put any number of things, at any time. Where
//! all is one program, as here, `procession::Queue` does the same and is faster. A manager's can do more: it
//! can have a name, and lie within other managed values.
//!
//! ```text
//! 220 and 284
//! 1184 and 1210
//! 2620 and 2924
//! 5020 and 5564
//! 6232 and 6368
//! 10744 and 10856
//! 12285 and 14595
//! 17296 and 18416
//! 8 amicable pairs below 20000, found by 20 tasks
//! ```

use std::collections::BTreeSet;
use std::ops::Range;
use std::thread;

use procession::manager::Queue;
use procession::{Manager, ManagerError, Pool, task};

const LIMIT: u64 = 20_000;
const EACH: u64 = 1_000;

/// The sum of what divides `n`, but for itself.
fn divisor_sum(n: u64) -> u64 {
    (2..).take_while(|d| d * d <= n).filter(|d| n.is_multiple_of(*d)).fold(1, |sum, d| {
        let other = n / d;
        sum + d + if other == d { 0 } else { other }
    })
}

/// Puts each pair of numbers of which one is the other's sum of divisors, if the smaller one is in the range.
#[task]
fn search(range: Range<u64>, found: Queue<Option<(u64, u64)>>) -> Result<(), ManagerError> {
    for a in range {
        let b = divisor_sum(a);
        if a < b && divisor_sum(b) == a {
            found.put(Some((a, b)))?;
        }
    }
    Ok(())
}

#[procession::main]
fn main() -> Result<(), procession::Error> {
    let manager = Manager::new()?;
    let found = manager.queue(None)?;
    let pool = Pool::new()?;
    let ranges = (1..LIMIT).step_by(EACH as usize).map(|first| first..LIMIT.min(first + EACH));
    let searching = pool.starmap_async(search, ranges.map(|range| (range, found.clone())));

    let pairs = thread::scope(|scope| {
        // A queue has no end of its own: this says it, also when a task has failed.
        let end = scope.spawn(|| {
            searching.wait();
            found.put(None)
        });
        let mut pairs = BTreeSet::new();
        while let Some(pair) = found.get()? {
            pairs.insert(pair);
        }
        end.join().expect("it doesn't panic")?;
        Ok::<_, procession::Error>(pairs)
    })?;
    let tasks = searching.get()?.into_iter().collect::<Result<Vec<()>, _>>()?.len();

    // They were found in another order on each run.
    for (a, b) in &pairs {
        println!("{a} and {b}");
    }
    println!("{} amicable pairs below {LIMIT}, found by {tasks} tasks", pairs.len());
    Ok(())
}

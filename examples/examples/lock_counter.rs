//! Four processes count in one shared value, each by reading it and writing one more: without a lock they
//! overwrite each other's counts, with one they don't.
//!
//! For a count alone, `SharedValue::fetch_add` would do. A lock is for whatever takes more than one step.
//!
//! ```text
//! without a lock: 25, and 75 are lost
//! with a lock: 100
//! ```

use procession::sync::{Barrier, Lock};
use procession::{Error, Process, SharedValue, task};

const PROCESSES: u64 = 4;
/// How often each process counts.
const EACH: u64 = 25;

/// The barrier makes sure of the bad luck: nobody writes before all have read the same count.
#[task]
fn count_carelessly(counter: SharedValue<u64>, bad_luck: Barrier) {
    for _ in 0..EACH {
        let count = counter.get();
        bad_luck.wait().expect("nobody leaves before the end");
        counter.set(count + 1);
        // Nor does anybody read the next count before all have written this one.
        bad_luck.wait().expect("nobody leaves before the end");
    }
}

#[task]
fn count_under_a_lock(counter: SharedValue<u64>, lock: Lock) {
    for _ in 0..EACH {
        let _guard = lock.lock().expect("nobody dies while counting");
        counter.set(counter.get() + 1);
    }
}

#[procession::main]
fn main() -> Result<(), Error> {
    let counter = SharedValue::new(0)?;
    let bad_luck = Barrier::new(PROCESSES as usize)?;
    let running = (0..PROCESSES)
        .map(|_| Process::new(count_carelessly, (counter.clone(), bad_luck.clone())).start())
        .collect::<Result<Vec<_>, _>>()?;
    running.iter().try_for_each(Process::join)?;
    let lost = PROCESSES * EACH - counter.get();
    println!("without a lock: {}, and {lost} are lost", counter.get());

    counter.set(0);
    let lock = Lock::new()?;
    let running = (0..PROCESSES)
        .map(|_| Process::new(count_under_a_lock, (counter.clone(), lock.clone())).start())
        .collect::<Result<Vec<_>, _>>()?;
    running.iter().try_for_each(Process::join)?;
    println!("with a lock: {}", counter.get());
    Ok(())
}

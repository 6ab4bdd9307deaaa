//! The two kinds of time limit: one on waiting, which leaves the task running, and one on the task,
//! whose worker is killed and replaced.
//!
//! ```text
//! slow: not ready after 50 ms; the task goes on
//! slow: done after 300 ms
//! endless: stopped at its limit
//! quick: done after 1 ms
//! ```

use std::{thread::sleep, time::Duration};

use procession::{Pool, task};

#[task]
fn work(millis: u64) -> u64 {
    sleep(Duration::from_millis(millis));
    millis
}

#[procession::main]
fn main() -> Result<(), procession::Error> {
    let pool = Pool::builder().processes(2).build()?;

    let slow = pool.apply_async(work, (300,));
    match slow.get_timeout(Duration::from_millis(50)) {
        Err(error) if error.is_timeout() => {
            println!("slow: not ready after 50 ms; the task goes on");
        }
        other => println!("slow: unexpectedly {other:?}"),
    }
    println!("slow: done after {} ms", slow.get()?);

    let limit = Duration::from_millis(200);
    match pool.call(work).timeout(limit).apply((u64::MAX,)) {
        Err(error) if error.is_timeout() => println!("endless: stopped at its limit"),
        other => println!("endless: unexpectedly {other:?}"),
    }
    println!("quick: done after {} ms", pool.apply(work, (1,))?);
    Ok(())
}

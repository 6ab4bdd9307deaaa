//! One function in a process of its own, three times at once; `join` gives its result.
//!
//! ```text
//! worker-0: 0 squared is 0, says process …
//! worker-1: 1 squared is 1, says process …
//! worker-2: 2 squared is 4, says process …
//! ```

use procession::{Process, task};

#[task]
fn worker(number: u32) -> String {
    format!("{number} squared is {}, says process {}", number * number, std::process::id())
}

#[procession::main]
fn main() -> Result<(), procession::Error> {
    let running = (0..3)
        .map(|number| Process::new(worker, (number,)).name(format!("worker-{number}")).start())
        .collect::<Result<Vec<_>, _>>()?;
    for process in running {
        println!("{}: {}", process.name(), process.join()?);
    }
    Ok(())
}

//! Two processes talk through a pipe, whose ends send and receive different types: one guesses a number,
//! the other one knows it.
//!
//! ```text
//! 50? lower
//! 25? higher
//! 37? higher
//! 43? lower
//! 40? higher
//! 41? higher
//! 42? that's it
//! found in 7 guesses
//! ```

use std::cmp::Ordering;

use procession::{Connection, Process, pipe, task};
use serde::{Deserialize, Serialize};

const NUMBER: u32 = 42;

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Answer {
    Higher,
    Lower,
    Right,
}

/// Sends guesses and receives answers; how many guesses it took.
#[task]
fn guess(chat: Connection<u32, Answer>) -> Result<u32, String> {
    let (mut least, mut most) = (1, 100);
    for guesses in 1.. {
        let middle = u32::midpoint(least, most);
        chat.send(middle).map_err(|error| error.to_string())?;
        match chat.recv().map_err(|error| error.to_string())? {
            Answer::Higher => least = middle + 1,
            Answer::Lower => most = middle - 1,
            Answer::Right => return Ok(guesses),
        }
    }
    unreachable!("a hundred numbers aren't halved for ever")
}

#[procession::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (ours, theirs) = pipe()?;
    let process = Process::new(guess, (theirs,)).start()?;

    // The guesser has gone when it has found the number: that ends the conversation.
    while let Ok(guess) = ours.recv() {
        let (answer, text) = match NUMBER.cmp(&guess) {
            Ordering::Greater => (Answer::Higher, "higher"),
            Ordering::Less => (Answer::Lower, "lower"),
            Ordering::Equal => (Answer::Right, "that's it"),
        };
        println!("{guess}? {text}");
        ours.send(answer)?;
    }
    println!("found in {} guesses", process.join()??);
    Ok(())
}

//! The most frequent words of some files, which a pool's tasks count together in a manager's dictionary:
//!
//! ```sh
//! cargo run --release --example word_count -- [HOW_MANY [FILE…]]
//! ```
//!
//! It prints what this does, McIlroy's answer to Knuth:
//!
//! ```sh
//! cat FILE… | tr -cs A-Za-z '\n' | grep . | tr A-Z a-z |
//!     sort | uniq -c | sort -k1,1nr -k2 | head -n HOW_MANY
//! ```
//!
//! A word is one of letters of ASCII; among words that are equally frequent the first in the alphabet comes
//! first. Without arguments it counts those of procession's licences:
//!
//! ```text
//!      97 the
//!      74 or
//!      71 of
//!      49 and
//!      43 to
//!      32 any
//!      32 work
//!      27 in
//!      26 license
//!      24 you
//! ```
//!
//! A file that can't be read is named on stderr, the words of the rest are counted, and the exit code is 1.

use std::collections::HashMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::{env, fs};

use procession::manager::Lock;
use procession::{Dict, Error, Manager, Pool, task};

const LICENCES: [&str; 2] = [
    concat!(env!("CARGO_MANIFEST_DIR"), "/../LICENSE-APACHE"),
    concat!(env!("CARGO_MANIFEST_DIR"), "/../LICENSE-MIT"),
];

fn words(text: &[u8]) -> impl Iterator<Item = String> {
    let runs = text.split(|byte| !byte.is_ascii_alphabetic()).filter(|run| !run.is_empty());
    runs.map(|run| run.iter().map(|letter| char::from(letter.to_ascii_lowercase())).collect())
}

/// Adds the words of a file to the counts of all.
#[task]
fn count(path: OsString, counts: Dict<String, u64>, lock: Lock) -> Result<(), String> {
    let text = fs::read(&path).map_err(|error| format!("{path:?}: {error}"))?;
    let mut ours = HashMap::<String, u64>::new();
    for word in words(&text) {
        *ours.entry(word).or_default() += 1;
    }

    // To read and then to write are two calls: nobody else may write between them.
    let _guard = lock.lock().expect("nobody dies while adding");
    let all = counts.to_map().expect("the manager outlives the tasks");
    for (word, count) in &mut ours {
        *count += all.get(word).unwrap_or(&0);
    }
    counts.extend(ours).expect("the manager outlives the tasks");
    Ok(())
}

/// Prints the most frequent words. Whether all files were read.
fn run(how_many: usize, files: Vec<OsString>) -> Result<bool, Error> {
    let manager = Manager::new()?;
    let (counts, lock) = (manager.dict()?, manager.lock()?);
    let calls = files.into_iter().map(|file| (file, counts.clone(), lock.clone()));
    let counted = Pool::new()?.starmap(count, calls)?;

    let mut sorted: Vec<(String, u64)> = counts.to_map()?.into_iter().collect();
    sorted.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
    for (word, count) in sorted.iter().take(how_many) {
        println!("{count:7} {word}");
    }
    for error in counted.iter().filter_map(|file| file.as_ref().err()) {
        eprintln!("word_count: {error}");
    }
    Ok(counted.iter().all(Result::is_ok))
}

#[procession::main]
fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let how_many = args.next().map_or(Some(10), |arg| arg.to_str()?.parse().ok());
    let Some(how_many) = how_many else {
        eprintln!("usage: word_count [HOW_MANY [FILE…]]");
        return ExitCode::from(2);
    };
    let mut files: Vec<OsString> = args.collect();
    if files.is_empty() {
        files = LICENCES.map(OsString::from).into();
    }
    match run(how_many, files) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("word_count: {error}");
            ExitCode::FAILURE
        }
    }
}

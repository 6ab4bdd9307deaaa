//! The SHA-256 of every file below some folders, hashed by all cores, as `sha256sum` prints it:
//!
//! ```sh
//! cargo run --release --example hash_tree -- FOLDER… > sums
//! sha256sum -c sums
//! ```
//!
//! For a folder `greek` with the files `alpha` ("a") and `beta/gamma` (empty), it prints
//!
//! ```text
//! ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  greek/alpha
//! e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  greek/beta/gamma
//! ```
//!
//! and on stderr `2 files, 1 bytes, … s, … workers`.
//!
//! - The files are those of `find FOLDER… -type f`: regular ones, no link is followed. A FOLDER may
//!   be a plain file.
//! - They come in the byte order of their paths, which is that of `LC_ALL=C sort`, as long as no
//!   FOLDER lies inside another one.
//! - What can't be read is named on stderr, the rest is hashed, and the exit code is 1.
//! - A reader of stdout that goes away ends the program quietly.
//! - A terminal on stderr shows how far it is, unless the sums go to a terminal as well.
//! - Memory doesn't grow with the number or size of the files, only with that of the folders that
//!   are open: the walk reads a folder when it comes to it, and stays a bounded way ahead.

mod hash;
mod line;
mod progress;
mod walk;

use std::{
    env,
    io::{self, BufWriter, ErrorKind, Write},
    os::unix::ffi::OsStringExt as _,
    path::PathBuf,
    process::ExitCode,
    sync::mpsc,
    time::Instant,
};

use indicatif::ProgressBar;
use procession::Pool;
use walk::Walk;

/// What has come out so far.
#[derive(Default)]
struct Totals {
    files: u64,
    bytes: u64,
    failures: u64,
}

#[procession::main]
fn main() -> ExitCode {
    let folders: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    if folders.is_empty() {
        report("usage: hash_tree FOLDER…");
        return ExitCode::from(2);
    }
    let pool = match Pool::new() {
        Ok(pool) => pool,
        Err(error) => {
            report(format_args!("hash_tree: {error}"));
            return ExitCode::FAILURE;
        }
    };

    let start = Instant::now();
    let bar = progress::bar(&folders);
    let mut totals = Totals::default();
    let written = hash_all(&pool, folders, &bar, &mut totals);
    bar.finish_and_clear();
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(error) => {
            report(format_args!("hash_tree: can't write to stdout: {error}"));
            return ExitCode::FAILURE;
        }
        Ok(()) => {}
    }

    let Totals { files, bytes, failures } = totals;
    let (seconds, workers) = (start.elapsed().as_secs_f64(), pool.processes());
    report(format_args!("{files} files, {bytes} bytes, {seconds:.2} s, {workers} workers"));
    match failures {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Writes a line for each file. The error is stdout's; all others are reported and counted.
fn hash_all(
    pool: &Pool,
    folders: Vec<PathBuf>,
    bar: &ProgressBar,
    totals: &mut Totals,
) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    let fail = |totals: &mut Totals, failure: &dyn std::fmt::Display| {
        bar.suspend(|| report(format_args!("hash_tree: {failure}")));
        totals.failures += 1;
    };

    // What the walk has found and the results haven't come to: as bounded as `imap`'s input is.
    let (found, in_flight) = mpsc::channel();
    let paths = Walk::new(folders).filter_map(move |item| {
        let path = item.as_ref().ok().cloned();
        // Nobody listens any more once writing to stdout has failed.
        let _ = found.send(item);
        path.map(|path| path.into_os_string().into_vec())
    });

    for result in pool.imap(hash::hash_file, paths) {
        let path = loop {
            match in_flight.recv().expect("a path was sent ahead of its result") {
                Ok(path) => break path,
                Err(failure) => fail(totals, &failure),
            }
        };
        match result {
            Ok(Ok((digest, bytes))) => {
                line::write(&mut out, &digest, &path)?;
                totals.files += 1;
                totals.bytes += bytes;
            }
            Ok(Err(error)) => fail(totals, &format_args!("{path:?}: {error}")),
            Err(error) => fail(totals, &format_args!("{path:?}: {error}")),
        }
        bar.inc(1);
    }
    for item in in_flight.try_iter() {
        if let Err(failure) = item {
            fail(totals, &failure);
        }
    }
    out.flush()
}

/// Prints a line on stderr, or nothing if nobody reads it, where `eprintln!` would panic.
fn report(message: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{message}");
}

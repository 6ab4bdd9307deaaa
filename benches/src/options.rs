//! What the command line and the environment ask for.

use std::time::Duration;

use crate::measure::Budget;
use crate::work::Work;

/// The workers that every peer gets when nobody says otherwise: more than one, and what small machines
/// and the free runners of CI have.
const PROCESSES: usize = 2;

/// Nine rounds make a median that two disturbed ones don't move. More of them, of one row and alone, are
/// for a profiler.
const ROUNDS: usize = 9;

/// How the comparison is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Workers for every peer.
    pub processes: usize,
    /// Whether this is a measurement; otherwise everything is only tried once.
    pub measured: bool,
    /// Part of the titles of the rows that are wanted; all when empty.
    pub rows: Vec<String>,
    /// Whether only procession runs.
    pub alone: bool,
    /// At most so many rounds.
    pub rounds: usize,
}

impl Options {
    /// Reads `--processes N` (or `PROCESSION_BENCH_PROCESSES`), `--rounds N`, `--bench`, `--alone`, and
    /// words that a row's title has in it.
    ///
    /// # Errors
    /// An option that isn't known, or a number that is none.
    pub fn read(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut processes = std::env::var("PROCESSION_BENCH_PROCESSES").ok();
        let mut options = Self {
            processes: PROCESSES,
            measured: false,
            rows: Vec::new(),
            alone: false,
            rounds: ROUNDS,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // `cargo bench` adds it, `cargo test` doesn't.
                "--bench" => options.measured = true,
                "--alone" => options.alone = true,
                "--processes" => processes = arguments.next(),
                "--rounds" => options.rounds = number(arguments.next(), "rounds")?,
                row if !row.starts_with('-') => options.rows.push(row.to_owned()),
                other => return Err(format!("unknown option {other}")),
            }
        }
        if processes.is_some() {
            options.processes = number(processes, "workers")?;
        }
        Ok(options)
    }

    /// The rows to measure.
    pub fn works(&self) -> Vec<Work> {
        let wanted = |work: &Work| self.rows.iter().any(|row| work.title().contains(row));
        Work::ALL.into_iter().filter(|work| self.rows.is_empty() || wanted(work)).collect()
    }

    /// How long the comparison may take; the time keeps a slow machine's run bearable.
    pub fn budget(&self) -> Budget {
        let rounds = if self.measured { self.rounds } else { 1 };
        Budget { time: Duration::from_secs(75), rounds }
    }
}

fn number(text: Option<String>, of_what: &str) -> Result<usize, String> {
    let text = text.unwrap_or_default();
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{text:?} is no number of {of_what}"))
}

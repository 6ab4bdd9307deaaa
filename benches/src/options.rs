//! What the command line and the environment ask for.

use std::path::PathBuf;
use std::time::Duration;

use crate::measure::Budget;
use crate::work::Work;

/// The workers that every peer gets when nobody says otherwise: more than one, and what small machines
/// and the free runners of CI have.
const PROCESSES: usize = 2;

/// Nine rounds make a median that two disturbed ones don't move. More of them, of one row and alone, are
/// for a profiler.
const ROUNDS: usize = 9;

/// The repository's root.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

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
    /// Where BENCHMARKS.md and its charts are written; none when the tables are only printed.
    pub report: Option<PathBuf>,
}

impl Options {
    /// Reads `--processes N` (or `PROCESSION_BENCH_PROCESSES`), `--rounds N`, `--report`,
    /// `--report-to FOLDER`, `--bench`, `--alone`, and words that a row's title has in it.
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
            report: None,
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                // `cargo bench` adds it, `cargo test` doesn't.
                "--bench" => options.measured = true,
                "--alone" => options.alone = true,
                "--processes" => processes = arguments.next(),
                "--rounds" => options.rounds = number(arguments.next(), "rounds")?,
                "--report" => options.report = Some(PathBuf::from(ROOT)),
                "--report-to" => {
                    let folder = arguments.next().ok_or("--report-to needs a folder")?;
                    options.report = Some(PathBuf::from(folder));
                }
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
        Work::all().into_iter().filter(|work| self.rows.is_empty() || wanted(work)).collect()
    }

    /// How long the comparison may take; the time keeps a slow machine's run bearable.
    pub fn budget(&self) -> Budget {
        let minutes = if self.report.is_some() { 8 } else { 3 };
        let rounds = if self.measured { self.rounds } else { 1 };
        Budget { time: Duration::from_secs(60 * minutes), rounds }
    }
}

fn number(text: Option<String>, of_what: &str) -> Result<usize, String> {
    let text = text.unwrap_or_default();
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{text:?} is no number of {of_what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        Options::read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn a_report_is_written_only_when_it_is_asked_for() {
        assert_eq!(read("--bench").unwrap().report, None);
        assert!(read("--bench --report").unwrap().report.unwrap().ends_with(".."));
        assert_eq!(read("--report-to there").unwrap().report, Some(PathBuf::from("there")));
        read("--report-to").unwrap_err();
    }

    #[test]
    fn rows_are_chosen_by_their_titles() {
        let works = read("unlock").unwrap().works();
        assert_eq!(works, [Work::Lock, Work::LockContended]);
        assert_eq!(read("").unwrap().works(), Work::all());
    }

    #[test]
    fn what_is_no_option_is_said_to_be_none() {
        assert!(read("--fast").unwrap_err().contains("--fast"));
        assert!(read("--rounds 0").unwrap_err().contains("rounds"));
    }
}

//! BENCHMARKS.md and its charts.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::charts::{Chart, charts};
use crate::goals::{Verdict, verdicts};
use crate::measure::Figures;
use crate::results::{goals, results};
use crate::work::{Section, Work};

/// Where the charts are, from the report.
const CHARTS: &str = "benches/charts";

/// What must be said about a table so that it isn't misread.
fn about(section: Section) -> &'static str {
    match section {
        Section::Processes => {
            "posix_spawn is the bare system call on the same binary, whose `main` returns at once; the \
             bare fork server is a single-threaded copy of it that forks for each byte that it reads, \
             and whose child leaves at once. Private memory is every page that a worker has written and \
             nobody else has, by `/proc/…/smaps`; pages of files that it has only read are the kernel's \
             cache and don't count, nor does memory that it shares with its parent. Python's workers \
             share their parent's heap as long as nobody writes to it."
        }
        Section::Calls => {
            "Warm: one call after the other. Asleep: 5 ms of pause before each, so that everybody \
             sleeps. Bare words are two threads and words in shared memory: a round trip that spins \
             for the first, one on a futex with both asleep for the second. Submitting is the time \
             until the last call of many is submitted; the results are taken afterwards."
        }
        Section::Maps => {
            "Default chunks: procession's figure is from an iterator to a `Vec` of results; rayon's is \
             over items that are encoded already, into memory that is there, and so is without making \
             the input and taking the results. With chunksize 1, and for 1000 items, rayon maps and \
             collects plain integers. Bare words are threads that claim ranges of an arena, or single \
             items, with the arena filled and read by the caller. futures, loky and procspawn have one \
             item a chunk by default."
        }
        Section::Bulk => {
            "The rate is the size of a block over the time that it takes there and back. memcpy is two \
             copies in one thread between buffers that are there; in new memory it pays for the pages, \
             as everybody does whose results belong to the caller."
        }
        Section::Between => {
            "Channels and locks of std are those of threads; its pipe is the kernel's."
        }
        Section::Managers => {
            "Each client is a process, and all work on the same object. The figure is the time from the moment \
             when all begin until the last is done, by the number of calls of all together; a put and a get \
             count as one. A thousand sets at once are a batch of calls; Python has none, and there it is \
             one `update`. One client and the server have a processor each; of 64 clients most wait for one. Through sockets, std \
             is a thread that answers as many bytes with as many."
        }
        Section::Lengths => {
            "Ideal over measured time: each task spins until its length is over by the clock. Only maps \
             with default chunks."
        }
        Section::Uneven => {
            "The time of a map as a multiple of the ideal, which is the greater of all work by the \
             number of workers, and the longest task. The tasks are the same for all, and spin until \
             their length is over by the clock; chunks are everybody's default."
        }
        Section::Programs => {
            "From the input, which lies in files that are in the kernel's cache, to the whole result, \
             which is checked. In Python the same work is done in plain Python, by `hashlib` and by \
             `re`."
        }
    }
}

/// Writes BENCHMARKS.md into a folder, and its charts below it.
///
/// # Errors
/// The folder can't be written to.
pub fn write(
    folder: &Path,
    figures: &Figures,
    works: &[Work],
    peers: &[&'static str],
    notes: &[String],
    machine: &[(String, String)],
) -> io::Result<()> {
    let charts = charts(figures, works, peers);
    fs::create_dir_all(folder.join(CHARTS))?;
    for chart in &charts {
        fs::write(folder.join(CHARTS).join(chart.file), &chart.svg)?;
    }
    let report = report(figures, works, peers, notes, &charts, machine);
    fs::write(folder.join("BENCHMARKS.md"), report)
}

fn report(
    figures: &Figures,
    works: &[Work],
    peers: &[&'static str],
    notes: &[String],
    charts: &[Chart],
    machine: &[(String, String)],
) -> String {
    let (rounds, workers) = (figures.rounds, figures.processes);
    let verdicts = verdicts(figures);
    let met = verdicts.iter().filter(|verdict| Verdict::is_met(verdict)).count();
    let mut text = format!(
        "# Benchmarks\n\n\
         procession beside its peers, all in one run on one machine. This file is written by\n\n\
         ```sh\ncargo bench -p procession-benches -- --report\n```\n\n\
         and so are its charts; `--processes N` chooses the number of workers, which was {workers} \
         here. The peers take turns, row by row, for {rounds} rounds. A peer whose workers should be \
         warm does a row of calls, maps, large data, managers or a program twice and is timed the second time: \
         it has been idle for seconds, and its caches are cold by then. A figure is the median of the rounds, \
         ± half of what lies between the quartiles as a part of it, and (n×) says how many times as fast \
         procession is. What another machine, or a busy one, shows is different; the \
         ratios carry over better than the times.\n\n\
         ## Goals\n\n{met} of {} are met.\n\n{}",
        verdicts.len(),
        goals(figures, &verdicts).markdown()
    );
    for section in Section::ALL {
        let rows: Vec<Work> =
            works.iter().copied().filter(|work| work.section() == section).collect();
        if rows.is_empty() {
            continue;
        }
        let title = section.title();
        let table = results("", figures, &rows, peers).markdown();
        let _ = write!(text, "\n## {}\n\n{}\n\n{table}", capital(title), about(section));
        for Chart { file, title, .. } in charts.iter().filter(|chart| chart.section == section) {
            let _ = write!(text, "\n![{title}]({CHARTS}/{file})\n");
        }
    }
    text += "\n## The machine\n\n";
    for (name, value) in machine {
        let _ = writeln!(text, "- {name}: {value}");
    }
    for note in notes {
        let _ = writeln!(text, "- {note}");
    }
    text
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Figure;
    use crate::peers::{procession, python, rayon};

    #[test]
    fn a_report_has_goals_tables_charts_and_the_machine() {
        let mut figures = Figures { processes: 2, rounds: 5, ..Figures::default() };
        let peers = [procession::NAME, python::NAME, rayon::NAME];
        for (peer, median) in peers.into_iter().zip([3.0, 300.0, 1.0]) {
            figures.figures.insert((Work::Map, peer), Figure { median, spread: 0.02 });
        }
        let charts = charts(&figures, &[Work::Map], &peers);
        let machine = [("kernel".to_owned(), "6.1".to_owned())];
        let notes = ["without loky".to_owned()];
        let text = report(&figures, &[Work::Map], &peers, &notes, &charts, &machine);
        for wanted in [
            "1 of 2 are met",
            "| map, default chunks, an item | Python | 100 × as fast | at least 50.0 × as fast | pass |",
            "| map, default chunks, an item | rayon | 3.00 × its time | at most 2.50 × its time | MISS |",
            "| 3.0 ns ±2% | 300 ns ±2% (100×) | 1.0 ns ±2% (0.33×) |",
            "![Maps of tiny items](benches/charts/maps.svg)",
            "- kernel: 6.1",
            "- without loky",
        ] {
            assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
        }
        assert_eq!(charts.len(), 1);
    }
}

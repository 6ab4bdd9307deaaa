//! The tables as text.

use std::fmt::Write as _;

use crate::goals::{Beside, Goal, Verdict};
use crate::measure::Figures;
use crate::peers::procession;
use crate::work::{BLOCK, Work};

/// One row for each work, one column for each peer that does any of them: its figure, and how many times
/// procession's speed is its speed.
pub fn results(title: &str, figures: &Figures, works: &[Work], peers: &[&'static str]) -> String {
    let does_any = |peer: &&str| works.iter().any(|work| figures.get(*work, peer).is_some());
    let peers: Vec<&str> = peers.iter().copied().filter(does_any).collect();
    let mut rows = vec![vec![title.to_owned()]];
    rows[0].extend(peers.iter().map(|peer| (*peer).to_owned()));
    for work in works {
        let ours = figures.get(*work, procession::NAME);
        let mut row = vec![work.title().to_owned()];
        for peer in &peers {
            row.push(match (figures.get(*work, peer), ours) {
                (None, _) => "-".to_owned(),
                (Some(theirs), Some(ours)) if *peer != procession::NAME => {
                    format!("{} ({}×)", figure(*work, theirs), ratio(theirs / ours))
                }
                (Some(nanos), _) => figure(*work, nanos),
            });
        }
        rows.push(row);
    }
    align(&rows)
}

/// One row for each goal.
pub fn goals(verdicts: &[Verdict]) -> String {
    let header = ["goal", "beside", "procession", "goal", ""];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for verdict in verdicts {
        let Goal { work, beside, bound } = verdict.goal;
        // Speeds say more than times do, but for a time that is promised itself.
        let (name, amount): (_, fn(Work, f64) -> String) = match beside {
            Beside::Peer(peer) => (peer, |_, times| format!("{}×", ratio(1.0 / times))),
            Beside::Own(work) => (work.title(), |_, times| format!("{}×", ratio(1.0 / times))),
            Beside::Clock => ("the clock", figure),
        };
        let bound = match beside {
            Beside::Clock => format!("at most {}", amount(work, bound)),
            _ => format!("at least {}", amount(work, bound)),
        };
        rows.push(vec![
            work.title().to_owned(),
            name.to_owned(),
            amount(work, verdict.measured),
            bound,
            if verdict.is_met() { "pass" } else { "MISS" }.to_owned(),
        ]);
    }
    align(&rows)
}

fn figure(work: Work, nanos: f64) -> String {
    if work.is_of_blocks() {
        // Bytes in a nanosecond are gigabytes in a second.
        return format!("{:.2} GB/s", BLOCK as f64 / nanos);
    }
    match nanos {
        n if n < 100.0 => format!("{n:.1} ns"),
        n if n < 10_000.0 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.1} µs", n / 1e3),
        n => format!("{:.2} ms", n / 1e6),
    }
}

fn ratio(ratio: f64) -> String {
    match ratio {
        r if r < 10.0 => format!("{r:.2}"),
        r if r < 100.0 => format!("{r:.1}"),
        r => format!("{r:.0}"),
    }
}

/// The first column to the left, the others to the right.
fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |column| rows.iter().filter_map(move |row: &Vec<String>| row.get(column));
    let width = |column| cells(column).map(|cell: &String| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(line, "{cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_or_so() {
        assert_eq!(figure(Work::Map, 35.55), "35.5 ns");
        assert_eq!(figure(Work::Map, 123_456.0), "123.5 µs");
        assert_eq!(figure(Work::Blocks, BLOCK as f64 / 2.0), "2.00 GB/s");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [vec!["a".to_owned(), "µs".to_owned()], vec!["bcd".to_owned(), "1".to_owned()]];
        assert_eq!(align(&rows), "a    µs\nbcd   1\n");
    }
}

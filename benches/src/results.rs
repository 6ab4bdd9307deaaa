//! The figures and the verdicts as tables.

use crate::goals::{Beside, Goal, Verdict};
use crate::measure::Figures;
use crate::peers::procession;
use crate::schedule::{ideal, lengths};
use crate::table::Table;
use crate::work::{Unit, Work};

/// One row for each work, one column for each peer that does any of them: its figure, and how many times
/// procession's speed is its speed.
pub fn results(title: &str, figures: &Figures, works: &[Work], peers: &[&'static str]) -> Table {
    let does_any = |peer: &&str| works.iter().any(|work| figures.get(*work, peer).is_some());
    let peers: Vec<&str> = peers.iter().copied().filter(does_any).collect();
    let head = [title].into_iter().chain(peers.iter().copied()).map(str::to_owned);
    let mut table = Table::new(head.collect());
    for work in works {
        let mut row = vec![work.title().to_owned()];
        row.extend(peers.iter().map(|peer| cell(figures, *work, peer)));
        table.push(row);
    }
    table
}

fn cell(figures: &Figures, work: Work, peer: &str) -> String {
    let Some(theirs) = figures.figure(work, peer) else {
        return "-".to_owned();
    };
    let mut cell = amount(figures, work, theirs.median);
    if figures.rounds > 1 {
        cell += &format!(" ±{:.0}%", theirs.spread * 100.0);
    }
    let is_compared = matches!(work.unit(), Unit::Time | Unit::Rate(_) | Unit::Memory);
    if let Some(ours) = figures.get(work, procession::NAME)
        && peer != procession::NAME
        && is_compared
    {
        cell += &format!(" ({}×)", ratio(theirs.median / ours));
    }
    cell
}

/// One row for each goal.
pub fn goals(figures: &Figures, verdicts: &[Verdict]) -> Table {
    let head = ["goal", "beside", "procession", "goal", ""];
    let mut table = Table::new(head.map(str::to_owned).to_vec());
    for verdict in verdicts {
        let Goal { work, beside, bound } = verdict.goal;
        let (name, measured, bound) = match beside {
            // Speeds say more than times do, but for a time that is promised itself.
            Beside::Peer(peer) => times(peer, verdict.measured, bound),
            Beside::PeerFor(peer, other) => {
                let name = format!("{peer}, {}", other.title());
                times(name, verdict.measured, bound)
            }
            Beside::Own(work) => times(work.title(), verdict.measured, bound),
            Beside::Ideal => (
                "the ideal".to_owned(),
                format!("{:.3} × its time", verdict.measured),
                format!("at most {bound:.2} × its time"),
            ),
            Beside::Clock | Beside::Byte => {
                let name = if beside == Beside::Clock { "the clock" } else { "-" }.to_owned();
                let measured = amount(figures, work, verdict.measured);
                (name, measured, format!("at most {}", amount(figures, work, bound)))
            }
        };
        let met = if verdict.is_met() { "pass" } else { "MISS" };
        let row = [work.title(), &name, &measured, &bound, met];
        table.push(row.map(str::to_owned).to_vec());
    }
    table
}

/// Bounds below a tenth or so of the other's time are promised as its multiple, others as its part.
fn times(name: impl Into<String>, measured: f64, bound: f64) -> (String, String, String) {
    let name = name.into();
    if bound < 1.0 {
        let speed = |time: f64| format!("{} × as fast", ratio(1.0 / time));
        (name, speed(measured), format!("at least {}", speed(bound)))
    } else {
        let time = |time: f64| format!("{} × its time", ratio(time));
        (name, time(measured), format!("at most {}", time(bound)))
    }
}

/// A figure in the unit of its work.
pub(crate) fn amount(figures: &Figures, work: Work, value: f64) -> String {
    let best = || lengths(work, figures.processes, figures.measured);
    let best = || best().map_or(f64::NAN, |lengths| ideal(&lengths, figures.processes));
    match work.unit() {
        Unit::Time => time(value),
        // Bytes in a nanosecond are gigabytes in a second.
        Unit::Rate(bytes) => format!("{:.2} GB/s", bytes as f64 / value),
        Unit::Memory => format!("{:.2} MiB", value / (1 << 20) as f64),
        Unit::Efficiency => format!("{:.1} %", best() / value * 100.0),
        Unit::TimesIdeal => format!("{:.3}×", value / best()),
    }
}

fn time(nanos: f64) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Shape;
    use crate::work::BLOCK;

    #[test]
    fn figures_have_three_digits_or_so() {
        let figures = Figures { processes: 2, measured: true, ..Figures::default() };
        let amount = |work, value| amount(&figures, work, value);
        assert_eq!(amount(Work::Map, 35.55), "35.5 ns");
        assert_eq!(amount(Work::Map, 123_456.0), "123.5 µs");
        assert_eq!(amount(Work::Blocks, BLOCK as f64 / 2.0), "2.00 GB/s");
        assert_eq!(amount(Work::Memory, 1.5 * 1_048_576.0), "1.50 MiB");
    }

    #[test]
    fn maps_are_beside_their_ideal() {
        let figures = Figures { processes: 2, measured: true, ..Figures::default() };
        assert_eq!(amount(&figures, Work::Length(1_000_000), 120e6), "50.0 %");
        assert_eq!(amount(&figures, Work::Uneven(Shape::Constant), 90e6), "1.500×");
    }

    #[test]
    fn a_goal_is_a_speed_or_a_time() {
        let (_, measured, bound) = times("other", 0.01, 1.0 / 50.0);
        assert_eq!((&*measured, &*bound), ("100 × as fast", "at least 50.0 × as fast"));
        let (_, measured, bound) = times("other", 3.0, 2.5);
        assert_eq!((&*measured, &*bound), ("3.00 × its time", "at most 2.50 × its time"));
    }
}

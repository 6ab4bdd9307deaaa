//! Which figures go into which chart.

use crate::chart::{Axis, Plot, Series, bars, dots, lines};
use crate::measure::Figures;
use crate::schedule::{ideal, lengths};
use crate::work::{Section, Unit, Work};

/// A chart.
#[derive(Debug)]
pub(crate) struct Chart {
    /// The name of its file.
    pub(crate) file: &'static str,
    /// The table that it belongs to.
    pub(crate) section: Section,
    /// What it shows, for who can't see it.
    pub(crate) title: String,
    /// The file.
    pub(crate) svg: String,
}

const TIME: Axis =
    Axis { title: "time for one each (logarithmic)", label: time, log: true, mark: None };

const WHOLE_TIME: Axis = Axis { title: "time (logarithmic)", label: time, log: true, mark: None };

const EFFICIENCY: Axis =
    Axis { title: "efficiency: ideal / measured", label: percent, log: false, mark: Some(1.0) };

const TIMES_IDEAL: Axis = Axis {
    title: "time, as a multiple of the ideal",
    label: multiple,
    log: false,
    mark: Some(1.0),
};

/// All charts for which there are figures.
pub(crate) fn charts(figures: &Figures, works: &[Work], peers: &[&'static str]) -> Vec<Chart> {
    let workers = figures.processes;
    let all = [
        (Section::Processes, "start.svg", "Starting a process and joining it".to_owned()),
        (Section::Calls, "calls.svg", "One call, and many at once".to_owned()),
        (Section::Maps, "maps.svg", "Maps of tiny items".to_owned()),
        (Section::Between, "between.svg", "Between processes".to_owned()),
        (Section::Managers, "managers.svg", "Calls of a manager's objects".to_owned()),
        (Section::Lengths, "lengths.svg", format!("Efficiency of map with {workers} workers")),
        (Section::Uneven, "uneven.svg", format!("Uneven tasks on {workers} workers")),
        (Section::Programs, "programs.svg", format!("Three programs on {workers} workers")),
    ];
    let chart = |(section, file, title): (Section, &'static str, String)| {
        let plot = plot(figures, works, peers, section, title.clone())?;
        let svg = match section {
            Section::Lengths => lines(&plot, "length of a task (logarithmic)", &EFFICIENCY),
            Section::Uneven => bars(&plot, &TIMES_IDEAL),
            Section::Programs => bars(&plot, &WHOLE_TIME),
            _ => dots(&plot, &TIME),
        };
        Some(Chart { file, section, title, svg })
    };
    all.into_iter().filter_map(chart).collect()
}

/// The figures of a section; none when there are none.
fn plot(
    figures: &Figures,
    works: &[Work],
    peers: &[&'static str],
    section: Section,
    title: String,
) -> Option<Plot> {
    // A dot is a time; what is a rate or a size stands in its table alone.
    let shown = |work: &&Work| {
        work.section() == section && !matches!(work.unit(), Unit::Rate(_) | Unit::Memory)
    };
    let works: Vec<Work> = works.iter().filter(shown).copied().collect();
    let series = peers.iter().enumerate().map(|(style, peer)| {
        let values = works.iter().map(|work| value(figures, *work, peer)).collect();
        Series { name: (*peer).to_owned(), style, values }
    });
    let series: Vec<Series> =
        series.filter(|series| series.values.iter().any(Option::is_some)).collect();
    let places = works.iter().map(|work| place(*work)).collect();
    (!series.is_empty()).then_some(Plot { title, places, series })
}

fn value(figures: &Figures, work: Work, peer: &str) -> Option<f64> {
    let nanos = figures.get(work, peer)?;
    let best = || lengths(work, figures.processes, figures.measured);
    Some(match work.unit() {
        Unit::Efficiency => ideal(&best()?, figures.processes) / nanos,
        Unit::TimesIdeal => nanos / ideal(&best()?, figures.processes),
        _ => nanos,
    })
}

fn place(work: Work) -> String {
    match work {
        Work::Length(nanos) => time(nanos as f64),
        Work::Uneven(_) => work.title().trim_start_matches("tasks, ").to_owned(),
        _ => work.title().to_owned(),
    }
}

/// A round time, as axes have them.
fn time(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n} ns"),
        n if n < 1e6 => format!("{} µs", n / 1e3),
        n if n < 1e9 => format!("{} ms", n / 1e6),
        n => format!("{} s", n / 1e9),
    }
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

fn multiple(times: f64) -> String {
    format!("{times:.1}×")
}

//! What procession promises, most of it as a ratio to a peer in the same run.

use crate::measure::Figures;
use crate::peers::{bare, procession, procspawn, python, std, words};
use crate::work::Work;

/// A promise: procession takes at most so long.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// For what.
    pub work: Work,
    /// In what unit the bound is.
    pub beside: Beside,
    /// The highest number of these units.
    pub bound: f64,
}

/// What procession's time is compared with.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Beside {
    /// A peer's time for the same work.
    Peer(&'static str),
    /// procession's own time for other work.
    Own(Work),
    /// A nanosecond.
    Clock,
}

/// A goal and what was measured.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// The goal.
    pub goal: Goal,
    /// procession's time in the goal's unit.
    pub measured: f64,
}

impl Verdict {
    /// Whether the goal is met.
    pub fn is_met(&self) -> bool {
        self.measured <= self.goal.bound
    }
}

const fn goal(work: Work, beside: Beside, bound: f64) -> Goal {
    Goal { work, beside, bound }
}

const PYTHON: Beside = Beside::Peer(python::NAME);

const GOALS: [Goal; 13] = [
    goal(Work::StartAndJoin, Beside::Peer(bare::NAME), 1.3),
    goal(Work::Apply, PYTHON, 1.0),
    goal(Work::Map, PYTHON, 1.0 / 3.0),
    goal(Work::Map, Beside::Peer(procspawn::NAME), 1.0 / 100.0),
    goal(Work::MapOneByOne, PYTHON, 1.0 / 5.0),
    goal(Work::Queue, PYTHON, 1.0 / 15.0),
    goal(Work::Queue, Beside::Clock, 500.0),
    goal(Work::QueueBlocks, PYTHON, 1.0 / 5.0),
    goal(Work::Pipe, Beside::Peer(std::NAME), 1.5),
    goal(Work::Lock, Beside::Peer(words::NAME), 2.0),
    goal(Work::Lock, PYTHON, 1.0 / 3.0),
    // As long for a gigabyte as for a kilobyte, but for what two measurements of the same differ by.
    goal(Work::SliceLarge, Beside::Own(Work::SliceSmall), 1.1),
    goal(Work::Handle, Beside::Clock, 5_000.0),
];

/// The goals for which there are figures.
pub fn verdicts(figures: &Figures) -> Vec<Verdict> {
    let verdict = |goal: Goal| {
        let unit = match goal.beside {
            Beside::Peer(peer) => figures.get(goal.work, peer)?,
            Beside::Own(work) => figures.get(work, procession::NAME)?,
            Beside::Clock => 1.0,
        };
        Some(Verdict { goal, measured: figures.get(goal.work, procession::NAME)? / unit })
    };
    GOALS.into_iter().filter_map(verdict).collect()
}

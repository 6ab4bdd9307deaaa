//! What procession promises, each as a ratio to a peer in the same run.

use crate::measure::Figures;
use crate::peers::{bare, procession, procspawn, python};
use crate::work::Work;

/// A promise: procession takes at most `bound` times what the peer takes.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Of what.
    pub work: Work,
    /// Beside whom.
    pub peer: &'static str,
    /// The highest ratio of procession's time to the peer's.
    pub bound: f64,
}

/// A goal and what was measured.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// The goal.
    pub goal: Goal,
    /// procession's time in the peer's.
    pub ratio: f64,
}

impl Verdict {
    /// Whether the goal is met.
    pub fn is_met(&self) -> bool {
        self.ratio <= self.goal.bound
    }
}

const GOALS: [Goal; 5] = [
    Goal { work: Work::StartAndJoin, peer: bare::NAME, bound: 1.3 },
    Goal { work: Work::Apply, peer: python::NAME, bound: 1.0 },
    Goal { work: Work::Map, peer: python::NAME, bound: 1.0 / 3.0 },
    Goal { work: Work::Map, peer: procspawn::NAME, bound: 1.0 / 100.0 },
    Goal { work: Work::MapOneByOne, peer: python::NAME, bound: 1.0 / 5.0 },
];

/// The goals for which there are figures.
pub fn verdicts(figures: &Figures) -> Vec<Verdict> {
    let verdict = |goal: Goal| {
        let ours = figures.get(goal.work, procession::NAME)?;
        Some(Verdict { goal, ratio: ours / figures.get(goal.work, goal.peer)? })
    };
    GOALS.into_iter().filter_map(verdict).collect()
}

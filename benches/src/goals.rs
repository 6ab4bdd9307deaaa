//! What procession promises, most of it as a ratio to a peer in the same run.

use crate::managed::{Managed, Through};
use crate::measure::Figures;
use crate::peers::{
    bare, crossbeam, fork_server, memcpy, procession, procspawn, python, rayon, sockets, std, words,
};
use crate::schedule::{Shape, ideal, lengths};
use crate::work::{Section, Work};

/// A promise: procession takes at most so much.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// For what.
    pub work: Work,
    /// In what unit the bound is.
    pub beside: Beside,
    /// The highest number of these units.
    pub bound: f64,
}

/// What procession's figure is compared with.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Beside {
    /// A peer's time for the same work.
    Peer(&'static str),
    /// A peer's time for other work.
    PeerFor(&'static str, Work),
    /// procession's own time for other work.
    Own(Work),
    /// The time that so many workers need at least.
    Ideal,
    /// A nanosecond.
    Clock,
    /// A byte.
    Byte,
}

/// A goal and what was measured.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// The goal.
    pub goal: Goal,
    /// procession's figure in the goal's unit.
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

/// Python sets values of a managed dictionary one by one.
const ONE_BY_ONE: Beside = Beside::PeerFor(python::NAME, Work::Managed(Managed::Set(1)));

/// What two measurements of the same differ by.
const SAME: f64 = 1.1;

const fn managed(work: Managed, beside: Beside, bound: f64) -> Goal {
    goal(Work::Managed(work), beside, bound)
}

const GOALS: [Goal; 45] = [
    goal(Work::Map, PYTHON, 1.0 / 50.0),
    goal(Work::Map, Beside::Peer(rayon::NAME), 2.5),
    goal(Work::Map, Beside::Peer(procspawn::NAME), 1.0 / 100.0),
    goal(Work::MapOneByOne, PYTHON, 1.0 / 1000.0),
    goal(Work::MapThousand, Beside::Peer(rayon::NAME), 1.0),
    goal(Work::Submit, Beside::Clock, 60.0),
    goal(Work::ApplyAsync, Beside::Peer(crossbeam::NAME), SAME),
    goal(Work::ApplyAsync, PYTHON, 1.0 / 300.0),
    goal(Work::Apply, Beside::Peer(words::NAME), 2.0),
    goal(Work::Apply, PYTHON, 1.0),
    goal(Work::ApplyAsleep, Beside::Peer(words::NAME), 1.2),
    goal(Work::Bulk64, Beside::Peer(memcpy::NAME), 1.0 / 0.8),
    goal(Work::HandleSmall, Beside::Clock, 2_000.0),
    goal(Work::Handle, Beside::Clock, 2_000.0),
    // As long for a gigabyte as for a kilobyte.
    goal(Work::Handle, Beside::Own(Work::HandleSmall), SAME),
    goal(Work::SliceLarge, Beside::Own(Work::SliceSmall), SAME),
    goal(Work::StartForked, Beside::Peer(fork_server::NAME), 1.3),
    goal(Work::StartAndJoin, Beside::Peer(bare::NAME), 1.1),
    goal(Work::Memory, Beside::Byte, 1.5 * (1 << 20) as f64),
    goal(Work::Uneven(Shape::Constant), Beside::Ideal, 1.05),
    goal(Work::Uneven(Shape::Exponential), Beside::Ideal, 1.05),
    goal(Work::Uneven(Shape::Ascending), Beside::Ideal, 1.05),
    goal(Work::Uneven(Shape::Descending), Beside::Ideal, 1.05),
    goal(Work::Uneven(Shape::Burst), Beside::Ideal, 1.05),
    goal(Work::Uneven(Shape::Pareto), Beside::Ideal, 1.05),
    goal(Work::Queue, PYTHON, 1.0 / 15.0),
    goal(Work::Queue, Beside::Clock, 500.0),
    goal(Work::QueueBlocks, PYTHON, 1.0 / 5.0),
    goal(Work::Pipe, Beside::Peer(std::NAME), 1.5),
    goal(Work::Lock, Beside::Peer(words::NAME), 2.0),
    goal(Work::Lock, PYTHON, 1.0 / 3.0),
    managed(Managed::Get(1), PYTHON, 1.0 / 8.0),
    managed(Managed::Get(2), PYTHON, 1.0 / 8.0),
    managed(Managed::Get(8), PYTHON, 1.0 / 8.0),
    managed(Managed::Get(64), PYTHON, 1.0 / 8.0),
    managed(Managed::PutAndGet(1), PYTHON, 1.0 / 8.0),
    managed(Managed::PutAndGet(2), PYTHON, 1.0 / 8.0),
    managed(Managed::PutAndGet(8), PYTHON, 1.0 / 8.0),
    managed(Managed::PutAndGet(64), PYTHON, 1.0 / 8.0),
    // Many clients do as much together as two.
    managed(Managed::Get(64), Beside::Own(Work::Managed(Managed::Get(2))), SAME),
    managed(Managed::Set(64), Beside::Own(Work::Managed(Managed::Set(2))), SAME),
    managed(Managed::PutAndGet(64), Beside::Own(Work::Managed(Managed::PutAndGet(2))), SAME),
    managed(Managed::SetMany, ONE_BY_ONE, 1.0 / 100.0),
    managed(Managed::Afar(Through::Tcp), Beside::Peer(std::NAME), 1.5),
    managed(Managed::Afar(Through::Unix), Beside::Peer(std::NAME), 1.5),
];

/// The goals for which there are figures, and that nothing got slower than it is through sockets.
pub fn verdicts(figures: &Figures) -> Vec<Verdict> {
    let through_sockets = Work::all()
        .into_iter()
        .filter(|work| matches!(work.section(), Section::Calls | Section::Maps | Section::Bulk));
    let none_slower = through_sockets.map(|work| goal(work, Beside::Peer(sockets::NAME), SAME));
    GOALS.into_iter().chain(none_slower).filter_map(|goal| verdict(figures, goal)).collect()
}

fn verdict(figures: &Figures, goal: Goal) -> Option<Verdict> {
    let unit = match goal.beside {
        Beside::Peer(peer) => figures.get(goal.work, peer)?,
        Beside::PeerFor(peer, work) => figures.get(work, peer)?,
        Beside::Own(work) => figures.get(work, procession::NAME)?,
        Beside::Ideal => {
            ideal(&lengths(goal.work, figures.processes, figures.measured)?, figures.processes)
        }
        Beside::Clock | Beside::Byte => 1.0,
    };
    Some(Verdict { goal, measured: figures.get(goal.work, procession::NAME)? / unit })
}

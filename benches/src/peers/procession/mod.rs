//! procession itself.

mod between;
mod calls;
mod managed;
mod tasks;

use procession::{Pool, Process, StartMethod, task};

use self::between::Between;
pub(super) use self::calls::Calls;
use self::managed::Managers;
use super::{Peer, Setup};
use crate::measure::{median, p50};
use crate::memory::private_bytes;
use crate::schedule::lengths;
use crate::work::{Section, Speed, Work};

/// The head of the column.
pub const NAME: &str = "procession";

#[task]
fn nothing() {}

/// A pool, and processes and a manager of their own where that is measured.
#[derive(Debug)]
pub struct Procession {
    calls: Calls,
    between: Between,
    managers: Managers,
    setup: Setup,
}

impl Procession {
    /// With a pool of so many workers, which are warm.
    ///
    /// # Panics
    /// The pool can't be started.
    pub fn new(setup: &Setup) -> Self {
        let calls = Calls::new(setup.processes);
        let (between, managers) = (Between::default(), Managers::default());
        Self { calls, between, managers, setup: setup.clone() }
    }
}

impl Peer for Procession {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        let Setup { processes, measured, .. } = self.setup;
        let count = work.count(self.setup.speed(Speed::Fast));
        if let Some(lengths) = lengths(work, processes, measured) {
            return Some(tasks::spinning(self.calls.pool(), lengths));
        }
        match (work, work.section()) {
            (Work::StartAndJoin, _) => Some(p50(count, || start_and_join(StartMethod::Spawn))),
            (Work::StartForked, _) => Some(p50(count, || start_and_join(StartMethod::ForkServer))),
            (Work::Memory, _) => Some(idle_worker(processes)),
            (Work::Program(program), _) => {
                Some(tasks::program(self.calls.pool(), program, &self.setup.inputs))
            }
            (Work::Managed(managed), _) => Some(self.managers.run(managed, count)),
            (_, Section::Between) => self.between.run(work, count, self.calls.pool(), measured),
            _ => self.calls.run(work, count),
        }
    }
}

fn start_and_join(method: StartMethod) {
    let process = Process::new(nothing, ()).start_method(method).start().expect("a process");
    process.join().expect("its result");
}

/// The private memory of a worker that has done something, and has nothing to do.
fn idle_worker(processes: usize) -> f64 {
    let pool = Pool::builder().processes(processes).build().expect("a pool");
    pool.map(calls::increment, 0..10_000).expect("results");
    let workers = pool.worker_pids().into_iter();
    median(workers.map(|pid| private_bytes(pid).expect("a worker")).collect())
}

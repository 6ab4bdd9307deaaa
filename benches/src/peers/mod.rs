//! Who does the work: one peer a file.

use crate::work::Work;

pub mod bare;
pub mod ipc_channel;
pub mod procession;
pub mod procspawn;
pub mod python;
pub mod rayon;
pub mod std;
pub mod words;

/// Someone who does the work that is measured. Its processes or threads are there from the first
/// [`run`](Self::run) on, so that only the first round pays for them.
pub trait Peer {
    /// The head of its column.
    fn name(&self) -> &'static str;

    /// Does one round of `work` and gives the nanoseconds for one each; none for what it can't do.
    ///
    /// # Panics
    /// The work fails: a comparison with a broken peer is worth nothing.
    fn run(&mut self, work: Work) -> Option<f64>;
}

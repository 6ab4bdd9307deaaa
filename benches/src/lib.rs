//! procession beside its peers, measured in one run.
//!
//! `cargo bench` prints tables and says which goals are met; `cargo bench -- --processes 4` does so
//! with four workers. A [`Peer`] does the same [`Work`] as every other one; the rounds interleave, so
//! that what else the machine does meets all of them alike.

mod goals;
mod measure;
mod options;
pub mod peers;
mod table;
mod work;

pub use goals::{Beside, Goal, Verdict, verdicts};
pub use measure::{Budget, Figures, measure, median};
pub use options::Options;
pub use peers::Peer;
pub use table::{goals as goals_table, results as results_table};
pub use work::Work;

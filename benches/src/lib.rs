//! procession beside its peers, measured in one run.
//!
//! `cargo bench` prints tables and says which goals are met; `cargo bench -- --report` writes them to
//! BENCHMARKS.md, with charts; `cargo bench -- --processes 4` measures with four workers. A [`Peer`]
//! does the same [`Work`] as every other one; the rounds interleave, so that what else the machine does
//! meets all of them alike.

mod chart;
mod charts;
mod goals;
mod machine;
mod managed;
mod measure;
mod memory;
mod options;
pub mod peers;
mod programs;
mod report;
mod results;
mod schedule;
mod table;
mod work;

pub use goals::{Beside, Goal, Verdict, verdicts};
pub use machine::describe as describe_machine;
pub use managed::Managed;
pub use measure::{Budget, Figure, Figures, measure, median};
pub use options::Options;
pub use peers::{Peer, Setup};
pub use programs::{Inputs, Program};
pub use report::write as write_report;
pub use results::{goals as goals_table, results as results_table};
pub use schedule::Shape;
pub use table::Table;
pub use work::{Section, Unit, Work};

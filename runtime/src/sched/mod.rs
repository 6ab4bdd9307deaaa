//! Who runs what: jobs, workers, and the threads that look after both.
//!
//! `sched` does not know the user's types: it sees encoded bytes, a callable's number and a name.

mod answers;
mod arena;
mod boards;
mod breaker;
pub(crate) mod callbacks;
pub(crate) mod children;
mod chunk;
mod core;
mod crew;
mod deadlines;
mod fd_watch;
mod feeding;
pub(crate) mod forkserver;
mod inquest;
mod job;
mod ledger;
mod method;
mod obituary;
mod outcome;
mod parts;
mod queue;
mod recycling;
mod retrial;
mod silence;
mod spec;
mod spin;
mod staff;
mod start;
mod stats;
mod supervisor;
mod turnover;
mod waiting;
mod warning;

pub(crate) use breaker::Breaker;
pub(crate) use crew::{Crew, Identity};
pub(crate) use fd_watch::FdWatch;
pub use job::Progress;
pub(crate) use job::{Group, Inputs, Job};
pub use method::StartMethod;
pub(crate) use outcome::Outcome;
pub(crate) use recycling::Recycling;
pub use retrial::Backoff;
pub(crate) use spec::{Bound, Spec};
pub(crate) use staff::{Plan, Task};
pub use start::Stdio;
pub(crate) use start::Surroundings;
pub use stats::{PoolStats, WorkerStats};
pub(crate) use waiting::What;

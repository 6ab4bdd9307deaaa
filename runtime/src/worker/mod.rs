//! The life of a worker after the guard has recognised it.
//!
//! `worker` knows items and callables, not pools: which items it gets is the parent's affair.
//!
//! A worker has two threads. The first watches the parent and ends the process when it dies. The
//! second, with a name and a stack of known size, runs the tasks one after another. A process that may
//! outlive its parent has nothing to watch, and runs its task on the first if the stack is large enough.

mod boards;
pub(crate) mod build;
pub(crate) mod dispatch;
mod forkserver;
pub(crate) mod identity;
pub(crate) mod item;
pub(crate) mod kill_points;
pub(crate) mod life;
mod outlet;
pub(crate) mod panics;
mod sheet;
pub(crate) mod shift;
mod tasks;

pub(crate) use life::run;

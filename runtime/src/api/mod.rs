//! What users see: thin handles over `sched`, with the documentation.

pub(crate) mod address;
#[cfg(test)]
mod board_kills;
pub(crate) mod builder;
pub(crate) mod call;
pub(crate) mod connection;
pub(crate) mod current;
#[cfg(test)]
mod forged;
pub(crate) mod imap;
pub(crate) mod limits;
pub(crate) mod listener;
pub mod manager;
pub(crate) mod pipe;
pub(crate) mod poison;
pub(crate) mod pool;
pub(crate) mod process;
pub(crate) mod queue;
pub(crate) mod result;
pub(crate) mod shared;
pub mod sync;
mod target;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod wait;

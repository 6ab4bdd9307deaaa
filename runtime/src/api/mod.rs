//! What users see: thin handles over `sched`, with the documentation.

pub(crate) mod builder;
pub(crate) mod call;
pub(crate) mod current;
pub(crate) mod imap;
pub(crate) mod pool;
pub(crate) mod process;
pub(crate) mod result;
mod target;

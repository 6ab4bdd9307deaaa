//! What happens in a worker.

pub(crate) mod dispatch;

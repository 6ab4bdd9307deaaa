//! What callers wait for.

use std::sync::{Arc, Condvar};

use super::core::{Core, News};
use super::job::{Group, Job};

/// A caller that waits and does not lead.
pub(super) struct Waiter {
    pub(super) what: What,
    pub(super) wake: Condvar,
}

/// What a caller waits for.
#[derive(Clone)]
pub(crate) enum What {
    Job(Arc<Job>),
    /// Any job of a group.
    Group(Arc<Group>),
    /// All workers to have gone.
    NoWorkers,
}

impl What {
    pub(super) fn is_done(&self, core: &Core) -> bool {
        match self {
            Self::Job(job) => job.outcome().is_some(),
            Self::Group(group) => !group.is_empty(),
            Self::NoWorkers => core.is_deserted(),
        }
    }

    pub(super) fn is_in(&self, news: &News) -> bool {
        match self {
            Self::Job(job) => news.done.iter().any(|done| Arc::ptr_eq(done, job)),
            Self::Group(group) => news.done.iter().any(|done| done.is_in(group)),
            Self::NoWorkers => news.staff_changed,
        }
    }
}

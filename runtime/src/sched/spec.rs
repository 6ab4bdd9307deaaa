//! What a call asks for, the same for all of its items.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::retrial::Backoff;
use crate::shm::heap::Object;
use crate::transport::SharedBytes;
use crate::transport::codec::cells::Shape;
use crate::transport::message::CalleeBytes;

/// What a call asks for.
pub(crate) struct Spec {
    pub(crate) callee: CalleeBytes,
    pub(crate) task: Cow<'static, str>,
    pub(crate) bound: Option<Arc<Bound>>,
    /// Hard, for each item, from its own start.
    pub(crate) time_limit: Option<Duration>,
    /// From when on an item is told that it had better end, from its own start.
    pub(crate) soft_limit: Option<Duration>,
    /// How long after its hard limit a worker may still take to end, once it was asked to.
    pub(crate) grace: Duration,
    /// How often an item runs again after its worker was lost.
    pub(crate) retries: u32,
    /// How long such an item waits before; none: not at all.
    pub(crate) backoff: Option<Backoff>,
    pub(crate) chunk: Option<usize>,
    /// Higher goes first.
    pub(crate) priority: i32,
    /// Whether the bound arguments are for this job alone, and may be forgotten when it is done.
    pub(crate) bound_once: bool,
    /// Whether the error of the lowest failing index is the outcome of all.
    pub(crate) first_error_counts: bool,
    /// Both sides know the types of arguments and results.
    pub(crate) typed: bool,
    /// What all results are like, where they are of one size.
    pub(crate) results: Option<Shape>,
    /// Workers may claim its items for themselves. Those of a stream are so few that they are sent.
    pub(crate) shared: bool,
}

impl Spec {
    /// Whether workers are to tell when items begin.
    pub(super) fn is_timed(&self) -> bool {
        self.time_limit.is_some() || self.soft_limit.is_some()
    }
}

/// Arguments that go to each worker once.
pub(crate) struct Bound {
    /// Never 0, and never used again in this process.
    pub(crate) number: u64,
    pub(crate) bytes: SharedBytes,
    /// The handles in them, held for the workers that have yet to decode them.
    _handles: Vec<Object>,
}

impl Bound {
    pub(crate) fn new(bytes: Vec<u8>, handles: Vec<Object>) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed) as u64;
        Self { number, bytes: SharedBytes::new(bytes), _handles: handles }
    }
}

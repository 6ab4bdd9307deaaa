//! What this process is called, and who started it.

use std::sync::{PoisonError, RwLock};

use crate::transport::hello::Hello;

static HELLO: RwLock<Option<&'static Hello>> = RwLock::new(None);

/// Remembers what the parent has said. Once, when a process becomes a worker, and once before that in the
/// fork server of which it is a copy.
pub(crate) fn set(hello: Hello) {
    let hello = Box::leak(Box::new(hello));
    *HELLO.write().unwrap_or_else(PoisonError::into_inner) = Some(hello);
}

/// What the parent said, if this process is a worker.
pub(crate) fn hello() -> Option<&'static Hello> {
    *HELLO.read().unwrap_or_else(PoisonError::into_inner)
}

/// The name of this process.
pub(crate) fn name() -> &'static str {
    hello().map_or("MainProcess", |hello| &hello.name)
}

/// The numbers of this process among its siblings, outermost first; empty in the first process.
pub(crate) fn lineage() -> &'static [u32] {
    hello().map_or(&[], |hello| &hello.lineage)
}

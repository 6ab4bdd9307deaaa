//! What this process is called, and who started it.

use std::sync::OnceLock;

use crate::transport::hello::Hello;

static HELLO: OnceLock<Hello> = OnceLock::new();

/// Remembers what the parent has said. Once, when a process becomes a worker.
pub(crate) fn set(hello: Hello) {
    let _ = HELLO.set(hello);
}

/// What the parent said, if this process is a worker.
pub(crate) fn hello() -> Option<&'static Hello> {
    HELLO.get()
}

/// The name of this process.
pub(crate) fn name() -> &'static str {
    hello().map_or("MainProcess", |hello| &hello.name)
}

/// The numbers of this process among its siblings, outermost first; empty in the first process.
pub(crate) fn lineage() -> &'static [u32] {
    hello().map_or(&[], |hello| &hello.lineage)
}

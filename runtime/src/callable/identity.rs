//! How the parent names a callable on the wire.

use std::any::TypeId;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::OnceLock;

use super::task_fn::TaskFn;
use crate::worker::dispatch::{Callee, PROCESSION_0_1_TASKS};

/// Names a callable: a `#[task]` by its index in the dispatch table, any other by the place of its
/// descriptor.
pub(crate) fn callee_of<M, F: TaskFn<M>>(callable: &F) -> Callee {
    // Each type has its own index or descriptor; a task under two attributes can't be.
    static INDICES: OnceLock<HashMap<TypeId, u32>> = OnceLock::new();
    thread_local! {
        /// Most calls are of the callable of the one before.
        static LATEST: Cell<Option<(TypeId, Callee)>> = const { Cell::new(None) };
    }
    let id = TypeId::of::<F>();
    if let Some((_, callee)) = LATEST.get().filter(|(latest, _)| *latest == id) {
        return callee;
    }
    let indices = INDICES.get_or_init(|| {
        let ids = PROCESSION_0_1_TASKS.iter().map(|entry| entry.descriptor.type_id());
        ids.zip(0..).collect()
    });
    let descriptor = callable.descriptor();
    let callee = match indices.get(&id) {
        Some(&index) => Callee::Entry(index),
        None => Callee::of_static(descriptor),
    };
    LATEST.set(Some((id, callee)));
    callee
}

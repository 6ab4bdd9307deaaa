//! Memory that the parent and a worker both see. `shm` does not know what a task is: it counts items.

pub(crate) mod claim;
pub(crate) mod note;
pub(crate) mod outbox;
pub(crate) mod page;

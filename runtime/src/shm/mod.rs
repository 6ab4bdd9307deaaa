//! Memory that several processes see. `shm` does not know what a task is: it counts items.

pub(crate) mod alarm;
pub(crate) mod bell;
pub(crate) mod board;
pub(crate) mod channel;
pub(crate) mod claim;
pub(crate) mod data;
pub(crate) mod hand;
pub(crate) mod heap;
pub(crate) mod lock;
#[cfg(test)]
pub(crate) mod model;
pub(crate) mod note;
pub(crate) mod orders;
pub(crate) mod outbox;
pub(crate) mod page;
pub(crate) mod platform;
pub(crate) mod reception;
pub(crate) mod ring;
pub(crate) mod stream;
pub(crate) mod sync;
pub(crate) mod system;
#[cfg(test)]
pub(crate) mod threads;
pub(crate) mod value;
pub(crate) mod words;

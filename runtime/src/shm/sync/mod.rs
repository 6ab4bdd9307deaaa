//! The state machines of `sync`, over [`Platform`](super::platform::Platform). They know words, owners and
//! sleeping, and nothing of handles, guards or the user's data.

pub(crate) mod barrier;
pub(crate) mod claims;
pub(crate) mod condition;
pub(crate) mod event;
pub(crate) mod lock;
pub(crate) mod rlock;
pub(crate) mod semaphore;

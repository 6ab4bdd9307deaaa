//! Locks, and other things to wait for, between processes and threads: Python's, with std's guards.
//!
//! Each is a handle of a few bytes on a place in memory that processes share. It travels in calls and
//! results, in anything that it is part of, through queues and pipes; a clone is the same lock. The place is
//! given back when the last handle is gone.
//!
//! What they have in common:
//!
//! - Threads count as well as processes do: two threads of one process exclude each other.
//! - Nobody waits for the dead. What a process held when it was killed is free within some 50 ms, and
//!   where that may have left something half done ([`Lock`], [`RLock`], [`RwLock`]), the next one is told,
//!   by a [`Poisoned`](crate::Poisoned) guard.
//! - A process that is stopped, not dead, still holds what it holds. Against that, only the methods with a
//!   time-out help.
//! - A guard gives back what it stands for when it is dropped. One that is forgotten
//!   ([`std::mem::forget`]) holds it until the process ends.
//!
//! | | who passes | after a death |
//! |---|---|---|
//! | [`Lock`] | one at a time | the next one is told |
//! | [`RLock`] | one thread at a time, as often as it likes | the next one is told |
//! | [`RwLock`] | one writer, or many readers | the next one is told of a dead writer |
//! | [`Semaphore`], [`BoundedSemaphore`] | as many as there are permits | its permits come back |
//! | [`Condition`] | who is notified | it is passed over |
//! | [`Event`] | everybody, once it is set | |
//! | [`Barrier`] | all parties together | it breaks |

mod barrier;
mod condition;
mod event;
mod handle;
mod lock;
mod rlock;
mod rwlock;
mod semaphore;

pub use self::barrier::{Barrier, BrokenBarrier};
pub use self::condition::Condition;
pub use self::event::Event;
pub use self::lock::{Lock, LockGuard};
pub use self::rlock::{RLock, RLockGuard};
pub use self::rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use self::semaphore::{BoundedSemaphore, Semaphore, SemaphoreGuard};

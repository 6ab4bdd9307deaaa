//! Who holds a lock, or a permit, in a server: a thread of a process.
//!
//! Holders say themselves who they are. One that lies can spoil the lock that it uses, and nothing else.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use crate::shm::heap;
use crate::shm::platform::Owner;

/// See the file's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[doc(hidden)]
pub struct Holder {
    process: u32,
    thread: u64,
}

impl Holder {
    /// This thread. It has a proxy in hand, so its process has joined the heap.
    pub(super) fn here() -> Self {
        static THREADS: AtomicU64 = AtomicU64::new(0);
        thread_local! {
            static THREAD: u64 = THREADS.fetch_add(1, Relaxed);
        }
        Self { process: heap::me().bits(), thread: THREAD.with(|thread| *thread) }
    }

    /// Whether its process has died, as far as anybody has noticed. Those that never were are dead.
    pub(super) fn has_died(self) -> bool {
        Owner::in_word(self.process).is_none_or(heap::is_known_dead)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::shm::heap::{Kind, Object, Request};

    #[test]
    fn threads_differ_and_the_living_are_alive() {
        let _joined = Object::create(Request::small(Kind::Event)).unwrap();
        let here = Holder::here();
        assert_eq!(here, Holder::here());
        assert!(!here.has_died());
        let there = thread::spawn(Holder::here).join().unwrap();
        assert_ne!(here, there);
        assert!(Holder { process: 0, thread: 0 }.has_died());
        assert!(Holder { process: Owner::MASK, thread: 0 }.has_died());
    }
}

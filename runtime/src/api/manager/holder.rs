//! Who holds a lock, or a permit, in a server: a thread of a process, or one of a session of another program's.
//!
//! Holders say themselves who they are. One that lies can spoil the lock that it uses, and nothing else.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Deserializer, Serialize};

use crate::manage::afar::{host, peer};
use crate::shm::heap;
use crate::shm::platform::Owner;

/// See the file's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[doc(hidden)]
pub struct Holder {
    process: u32,
    thread: u64,
    /// Found out by the server; then the process means nothing here.
    #[serde(skip)]
    session: Option<u64>,
}

impl<'de> Deserialize<'de> for Holder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (process, thread) = Deserialize::deserialize(deserializer)?;
        Ok(Self { process, thread, session: peer::session() })
    }
}

impl Holder {
    /// This thread.
    pub(super) fn here() -> Self {
        static THREADS: AtomicU64 = AtomicU64::new(0);
        thread_local! {
            static THREAD: u64 = THREADS.fetch_add(1, Relaxed);
        }
        // Who has a proxy of the family's in hand has joined the heap; to others it means nothing.
        let process = heap::joined().map_or(0, Owner::bits);
        Self { process, thread: THREAD.with(|thread| *thread), session: None }
    }

    /// Whether its process has died, as far as anybody has noticed, or its session is over. Those that never
    /// were are dead.
    pub(super) fn has_died(self) -> bool {
        match self.session {
            Some(session) => !host::has_session(session),
            None => Owner::in_word(self.process).is_none_or(heap::is_known_dead),
        }
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
        assert!(Holder { process: 0, thread: 0, session: None }.has_died());
        assert!(Holder { process: Owner::MASK, thread: 0, session: None }.has_died());
    }
}

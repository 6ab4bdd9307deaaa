//! A mutex in shared memory that its owner never lets go, so that the owner's end is seen in it.
//!
//! The kernel looks through a thread's robust mutexes when the thread ends, however it comes to end, and
//! before it frees the process's memory: it marks each that is still held, and wakes one who sleeps there.
//! The C library keeps the kernel's list, so the same thread may have other robust mutexes.
//!
//! ```text
//! 0 ---held by a thread---> tid ---looked at---> tid | WAITERS ---the thread ends---> OWNER_DIED | WAITERS
//! ```
//!
//! The owner moves the word first, whoever watches it asks for the wake, and the kernel tells the end. A
//! change of any other kind means nothing. The rest of the mutex is the owner's and its C library's alone:
//! the pointers in it are never followed by another process.

#![expect(unsafe_code, reason = "robust mutexes are the C library's")]

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc;

use super::memory::Shareable;

/// Where the C libraries keep the word that the kernel looks at, in words from the mutex's beginning.
const WORD: usize = if cfg!(target_env = "musl") { 1 } else { 0 };

/// All zeros at first.
#[repr(C, align(128))]
pub(crate) struct Robust {
    mutex: UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>,
    /// Whether somebody holds it, or has tried to.
    taken: AtomicU32,
}

// SAFETY: `taken` is an atomic. The mutex is in an `UnsafeCell`, and any bits are a `MaybeUninit` of it. Of
// it only the one word is ever used by more than one thread, and by all of them with atomic operations, by
// `word` as by the C library, whose lock it is; the rest is used by the one thread that moved `taken`.
unsafe impl Sync for Robust {}
// SAFETY: as above; nothing that a change from outside could break is read here but the atomic words.
unsafe impl Shareable for Robust {}

/// What a robust mutex tells of its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// Nobody has held it so far.
    None,
    /// It lives while the word has this value; when it ends, one who sleeps on the word is woken.
    Lives(u32),
    Ended,
}

impl Robust {
    /// The calling thread holds it until it ends.
    ///
    /// # Errors
    /// The C library or the kernel has no robust mutexes, or this isn't the first call.
    pub(crate) fn hold(&'static self) -> io::Result<()> {
        if self.taken.swap(1, Ordering::Relaxed) != 0 {
            return Err(io::Error::other("it is held already"));
        }
        let mutex = self.mutex.get().cast::<libc::pthread_mutex_t>();
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let attributes = attributes.as_mut_ptr();
        let (shared, robust) = (libc::PTHREAD_PROCESS_SHARED, libc::PTHREAD_MUTEX_ROBUST);
        // SAFETY: `attributes` is storage for one attribute object, which the call initialises.
        check(unsafe { libc::pthread_mutexattr_init(attributes) })?;
        // SAFETY: it was initialised above.
        check(unsafe { libc::pthread_mutexattr_setpshared(attributes, shared) })?;
        // SAFETY: it was initialised above.
        check(unsafe { libc::pthread_mutexattr_setrobust(attributes, robust) })?;
        // SAFETY: the attributes were initialised above. `mutex` is aligned memory for a mutex; only one call
        // gets here, as `taken` never goes back, so nobody has made one of it.
        check(unsafe { libc::pthread_mutex_init(mutex, attributes) })?;
        // SAFETY: it was initialised above and isn't used again.
        check(unsafe { libc::pthread_mutexattr_destroy(attributes) })?;
        // SAFETY: it is a mutex since the call above. The C library links it into this thread's list, where
        // it stays, since nobody unlocks it, and so does its memory: `self` lives as long as the process.
        check(unsafe { libc::pthread_mutex_lock(mutex) })
    }

    /// The word that the kernel changes when the owner ends.
    pub(crate) fn word(&self) -> &AtomicU32 {
        const { assert!(size_of::<libc::pthread_mutex_t>() > WORD * size_of::<AtomicU32>()) };
        let word = self.mutex.get().cast::<u32>().wrapping_add(WORD);
        // SAFETY: the word is inside of the mutex (by the assertion), aligned, as the mutex is for more than
        // it, and lives as long as `self`. Who uses it, in any process, does so by atomic operations.
        unsafe { AtomicU32::from_ptr(word) }
    }

    /// Looks at the owner, and has the kernel wake one who sleeps on the word when it ends.
    pub(crate) fn owner(&self) -> Owner {
        let word = self.word();
        if word.load(Ordering::Acquire) == 0 {
            // The mark would make a free mutex look like one that is held.
            return Owner::None;
        }
        let value = word.fetch_or(libc::FUTEX_WAITERS, Ordering::AcqRel) | libc::FUTEX_WAITERS;
        if value & libc::FUTEX_OWNER_DIED == 0 { Owner::Lives(value) } else { Owner::Ended }
    }
}

fn check(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::os::futex;
    use crate::os::memory::Shared;

    fn robust() -> &'static Robust {
        let (shared, _) = Shared::<Robust>::create(c"procession-test").unwrap();
        // For ever: the C library has it in a list.
        Box::leak(Box::new(shared))
    }

    #[test]
    fn the_end_of_a_thread_is_seen() {
        let robust = robust();
        assert_eq!(robust.owner(), Owner::None);
        let (let_go, gate) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            robust.hold().unwrap();
            assert!(robust.hold().is_err());
            let _ = gate.recv();
            nix::unistd::gettid().as_raw().unsigned_abs()
        });
        let value = loop {
            if let Owner::Lives(value) = robust.owner() {
                break value;
            }
            thread::yield_now();
        };
        assert_eq!(robust.word().load(Ordering::Relaxed), value);
        drop(let_go);
        // The kernel's wake ends the sleep.
        while robust.owner() != Owner::Ended {
            futex::wait(robust.word(), value, None);
        }
        assert_eq!(value, thread.join().unwrap() | libc::FUTEX_WAITERS);
    }

    /// As where a task has robust mutexes of its own.
    #[test]
    fn it_is_seen_in_all_mutexes_that_the_thread_holds() {
        let all = [robust(), robust(), robust()];
        thread::spawn(move || all.iter().for_each(|robust| robust.hold().unwrap())).join().unwrap();
        // Whoever joins a thread may be faster than the kernel's last work on it.
        while all.iter().any(|robust| robust.owner() != Owner::Ended) {
            thread::yield_now();
        }
    }
}

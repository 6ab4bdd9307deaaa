//! Sleeping on a word of shared memory, and waking whoever sleeps there.

#![expect(unsafe_code, reason = "the C library has no function for these system calls")]

use std::io;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use nix::libc;

/// At most so many words can be slept on at once.
pub(crate) const MOST_WORDS: usize = 128;

/// Sleeps while `word` holds `expected`, until it is woken, interrupted, or `timeout` has passed. Whoever
/// returns has to look at the word again: this may return for no reason.
pub(crate) fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
    let timeout = timeout.map(timespec);
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word is a live, aligned `u32`, and the time is null or a live `timespec`. The operation
    // reads both and writes neither. It is not the private kind: other processes wake this word.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, timeout);
    }
}

/// Wakes at most `count` sleepers, in any process; says how many there were.
pub(crate) fn wake(word: &AtomicU32, count: u32) -> u32 {
    let count = count.min(i32::MAX.unsigned_abs());
    // SAFETY: the word is a live, aligned `u32`; the operation only uses its address.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    u32::try_from(woken).unwrap_or(0)
}

/// Whether this process may use futexes at all: a filter of system calls can forbid it.
pub(crate) fn works() -> bool {
    let word = AtomicU32::new(0);
    // SAFETY: as in `wake`; nobody sleeps on this word.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
    woken == 0
}

/// One word to sleep on with others, and what it holds while there is nothing to wake for.
#[repr(C)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// `FUTEX2_SIZE_U32`: a shared word of 32 bits.
const SIZE_U32: u32 = 2;
/// The same number on every architecture, as for all system calls of its age.
const SYS_FUTEX_WAITV: libc::c_long = 449;

/// Sleeps while every word holds what stands beside it, as [`wait`]. Linux has this since 5.16.
///
/// # Errors
/// The kernel doesn't have it, or there are more than [`MOST_WORDS`] words.
pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], timeout: Option<Duration>) -> io::Result<()> {
    let waiters: Vec<Waiter> = words
        .iter()
        .map(|(word, expected)| Waiter {
            value: u64::from(*expected),
            address: word.as_ptr() as u64,
            flags: SIZE_U32,
            reserved: 0,
        })
        .collect();
    let until = timeout.map(|timeout| timespec(super::clock::now().saturating_add(timeout)));
    let until = until.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let (array, count, flags) = (waiters.as_ptr(), waiters.len(), 0);
    // SAFETY: the array has `count` entries that outlive the call, each with the address of a live,
    // aligned `u32`; the time is null or a live `timespec`.
    let result = unsafe {
        libc::syscall(SYS_FUTEX_WAITV, array, count, flags, until, libc::CLOCK_MONOTONIC)
    };
    if result >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ETIMEDOUT | libc::EINTR) => Ok(()),
        _ => Err(error),
    }
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_changed_word_is_not_slept_on() {
        let word = AtomicU32::new(1);
        wait(&word, 0, None);
        wait_any(&[(&word, 0)], None).unwrap();
    }

    #[test]
    fn time_ends_a_sleep() {
        let (word, limit) = (AtomicU32::new(0), Duration::from_millis(5));
        let start = Instant::now();
        wait(&word, 0, Some(limit));
        wait_any(&[(&word, 0)], Some(limit)).unwrap();
        assert!(start.elapsed() >= 2 * limit);
    }

    #[test]
    fn a_wake_ends_a_sleep() {
        let words = [AtomicU32::new(0), AtomicU32::new(0)];
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                while words[1].load(Ordering::SeqCst) == 0 {
                    wait_any(&[(&words[0], 0), (&words[1], 0)], None).unwrap();
                }
            });
            words[1].store(1, Ordering::SeqCst);
            while !sleeper.is_finished() {
                wake(&words[1], 1);
            }
        });
    }

    #[test]
    fn too_many_words_are_an_error() {
        let word = AtomicU32::new(0);
        assert!(wait_any(&vec![(&word, 0); MOST_WORDS + 1], Some(Duration::ZERO)).is_err());
    }
}

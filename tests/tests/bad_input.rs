//! Workers that send what no worker sends: they are killed and replaced, the item that they ran has an
//! error that says so, and the pool goes on.
//!
//! The tasks write to the ring, the page and the socket of their own worker, behind the runtime's back.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use procession::{Error, Pool, task};
use procession_tests::forge::{
    frame, inject, inject_into_the_socket, kind, place, uses_sockets, word,
};
use procession_tests::scratch::{Scratch, note, notes, open, pass};
use procession_tests::{alone, is_running, wait_until};

#[task]
fn spoil(bytes: Vec<u8>) -> u32 {
    inject(&bytes);
    1
}

/// Goes on for ever afterwards, as far as it gets.
#[task]
fn spoil_and_hang(bytes: Vec<u8>) {
    inject(&bytes);
    std::thread::sleep(Duration::from_secs(3600));
}

#[task]
fn spoil_and_die(bytes: Vec<u8>) {
    inject(&bytes);
    std::process::abort();
}

#[task]
fn hold(gate: String) -> u32 {
    pass(&gate);
    std::process::id()
}

#[task]
fn spoil_at_4(item: (u32, Vec<u8>, String)) -> u32 {
    let (item, bytes, log) = item;
    note(&log, item);
    if item == 4 {
        inject(&bytes);
        std::thread::sleep(Duration::from_secs(3600));
    }
    item
}

/// Sends `bytes` from a worker that then does no more: alone, and in the middle of a chunk.
fn is_refused(bytes: &[u8], says: &str) {
    let scratch = Scratch::new();
    let gate = scratch.path("gate");
    let pool = Pool::builder().processes(2).build().unwrap();
    let innocent = pool.apply_async(hold, (gate.clone(),));
    let check = |error: &Error| {
        let text = error.to_string();
        // To one that claims its items itself no result is due at all.
        let is_said = text.contains(says) || text.contains("a result that nobody waits for");
        assert!(is_said && text.contains("was killed"), "{text}");
        // The error doesn't wait for the kernel to take the process apart.
        let pid = error.pid().expect(&text);
        wait_until("it has gone", || !is_running(pid));
        assert!(!error.is_worker_lost() && !error.is_timeout() && !error.is_closed());
    };
    let error = pool.apply(spoil_and_hang, (bytes.to_vec(),)).unwrap_err();
    check(&error);
    assert_eq!(error.task(), Some("bad_input::spoil_and_hang"));

    let log = scratch.path("log");
    let inputs = (0..10).map(|item| (item, bytes.to_vec(), log.clone()));
    // The parent may have read the results before it from the worker's memory; then it skips as many
    // bytes of the socket, these ones, and all that it sees is a task that doesn't end.
    let call = pool.call(spoil_at_4).chunksize(10).timeout(Duration::from_millis(500));
    let results = call.try_map(inputs);
    for (i, result) in results.into_iter().enumerate() {
        match result {
            Ok(x) => assert!(x as usize == i && i != 4),
            // The results before it, which the worker had gathered, come behind the bad bytes.
            Err(error) => {
                assert!(i <= 4 && error.index() == Some(i), "{error}");
                if !error.is_timeout() {
                    check(&error);
                }
            }
        }
    }
    assert_eq!(notes(&log).len(), 10);

    open(&gate);
    let survivor = innocent.get().unwrap();
    assert!(pool.worker_pids().contains(&survivor));
    assert_eq!(pool.apply(spoil, (Vec::new(),)).unwrap(), 1);
}

#[test]
fn bytes_that_are_no_frame() {
    alone(|| {
        is_refused(&[0x7f; 64], "0x7f7f7f7f");
        // A high first byte is the mark of a tiny result.
        is_refused(&[0xff; 64], "the number 16777215, which isn't due");
        is_refused(b"HTTP/1.1 400 Bad Request\r\n\r\n", "a frame that begins with");
        is_refused(&[0; 16], "0x00000000");
        // The bytes between the kind and the number are zero.
        is_refused(&[kind::VALUE, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "0x00000144");
    });
}

#[test]
fn a_length_beyond_all_memory() {
    alone(|| {
        is_refused(&frame(kind::VALUE, 1, u64::MAX, &[]), &u64::MAX.to_string());
        is_refused(&frame(kind::VALUE, 1, (1 << 40) + 1, &[]), "1099511627777 bytes");
    });
}

#[test]
fn a_result_of_an_item_that_it_does_not_have() {
    alone(|| {
        is_refused(&frame(kind::VALUE, 77, 0, &[]), "a result for item 77");
        is_refused(&frame(kind::VALUE, 0, 0, &[]), "a result for item 0");
        is_refused(&frame(kind::VALUE, u32::MAX, 3, b"abc"), "a result for item 4294967295");
    });
}

#[test]
fn a_frame_that_only_parents_send() {
    alone(|| {
        is_refused(&frame(kind::TASKS, 1, 0, &[]), "only parents send");
        is_refused(&frame(kind::EXIT, 0, 0, &[]), "only parents send");
    });
}

#[test]
fn a_garbled_body() {
    alone(|| {
        is_refused(&frame(kind::SPENT, 1, 3, b"abc"), "half a report");
        is_refused(&frame(kind::PANICKED, 1, 4, &[0xff; 4]), "a garbled panic");
    });
}

/// These end a pool when they are true: one worker must not be able to do that later.
#[test]
fn a_refusal_that_comes_too_late() {
    alone(|| {
        is_refused(&frame(kind::REFUSED, 0, 4, b"no!!"), "a frame Refused");
        is_refused(&frame(kind::INIT_FAILED, 0, 4, b"no!!"), "a frame InitFailed");
    });
}

#[test]
fn a_greeting_that_comes_again_changes_nothing() {
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        let mut bytes = frame(kind::READY, 0, 0, &[]);
        bytes.extend(frame(kind::INIT_DONE, 0, 0, &[]));
        for _ in 0..3 {
            // The stream is longer now than the worker knows, which it must not be trusted in: its result
            // may even end where that began, and be overlooked.
            let call = pool.call(spoil).timeout(Duration::from_millis(500));
            let _ = call.apply((bytes.clone(),));
        }
        pool.apply(spoil, (Vec::new(),)).unwrap();
    });
}

#[test]
fn a_frame_that_never_ends_is_bounded_by_the_time_limit() {
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        for bytes in [frame(kind::VALUE, 1, 1 << 39, b"abc"), vec![kind::VALUE, 0, 0]] {
            let limit = Duration::from_millis(200);
            let call = pool.call(spoil_and_hang).timeout(limit);
            assert!(call.apply((bytes.clone(),)).unwrap_err().is_timeout());
            // The task ends in time, but its result is lost in the middle of that frame, unless it is
            // written over what nobody had seen yet.
            let call = pool.call(spoil).timeout(limit);
            assert!(call.apply((bytes,)).map_or(true, |result| result == 1 && !uses_sockets()));
            assert_eq!(pool.apply(spoil, (Vec::new(),)).unwrap(), 1);
        }
    });
}

#[test]
fn a_frame_that_death_cuts_off() {
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        for bytes in [frame(kind::VALUE, 1, 100, b"abc"), vec![kind::VALUE, 0, 0]] {
            assert!(pool.apply(spoil_and_die, (bytes,)).unwrap_err().is_worker_lost());
            assert_eq!(pool.apply(spoil, (Vec::new(),)).unwrap(), 1);
        }
    });
}

/// Writes a number over a word that the runtime keeps in the page.
#[task]
fn scribble(place: usize, number: u64) -> u32 {
    word(place).store(number, Ordering::SeqCst);
    inject_into_the_socket(&[0]);
    1
}

/// The counts and flags of the rings, anything in them: the call ends, and the pool works.
#[test]
fn words_that_no_worker_writes() {
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        let lines = (place::LINES..place::LINES + 896).step_by(128);
        for place in lines.flat_map(|line| [line, line + 8]) {
            for number in [0, 1, u64::MAX, 12345] {
                let limit = Duration::from_millis(100);
                let _ = pool.call(scribble).timeout(limit).apply((place, number));
                let again = || pool.call(spoil).timeout(limit).retries(3).apply((Vec::new(),));
                // The worker may have spoilt its own way, which it is killed for, or what it is given.
                procession_tests::wait_until("the pool works", || again().is_ok());
            }
        }
    });
}

#[task]
fn scribble_and_hang(place: usize, number: u64) {
    scribble(place, number);
    std::thread::sleep(Duration::from_secs(3600));
}

/// The parent believes neither side's counts, and says so.
#[test]
fn counts_that_can_not_be() {
    if uses_sockets() {
        return;
    }
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        for place in [place::TAIL, place::DOWN_HEAD] {
            let spoilt = pool.apply_async(scribble_and_hang, (place, u64::MAX));
            // The count of what it has read matters when there is no room for what is sent.
            let next = pool.apply_async(spoil, (vec![0; 2 << 20],));
            let error = spoilt.get().unwrap_err();
            // It spoils the next worker's ring, which writes its result over that at once; who is first
            // is seen.
            let _ = next.get();
            assert!(error.to_string().contains("a position in its stream"), "{error}");
            assert_eq!(pool.apply(spoil, (Vec::new(),)).unwrap(), 1);
        }
    });
}

/// What is in the socket doesn't matter where rings are.
#[test]
fn bytes_in_the_socket() {
    if uses_sockets() {
        return;
    }
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        for bytes in [&b"x"[..], &[0xff; 100_000]] {
            assert_eq!(pool.apply(fill_the_socket, (bytes.to_vec(),)).unwrap(), 2);
        }
        assert_eq!(pool.apply(spoil, (Vec::new(),)).unwrap(), 1);
    });
}

#[task]
fn fill_the_socket(bytes: Vec<u8>) -> u32 {
    inject_into_the_socket(&bytes);
    2
}

/// Random bytes may even be frames: whatever they are, the call ends, and the pool works.
#[test]
fn random_bytes() {
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        let mut random = 7_u64;
        for _ in 0..60 {
            let bytes: Vec<u8> = (0..48)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    // Often the kinds that are nearly right, and small numbers.
                    let byte = (random >> 40) as u8;
                    if byte < 128 { byte % 4 } else { 60 + byte % 16 }
                })
                .collect();
            let call = pool.call(spoil).timeout(Duration::from_millis(100));
            let _ = call.apply((bytes,));
        }
        assert_eq!(pool.apply(spoil, (Vec::new(),)).unwrap(), 1);
    });
}

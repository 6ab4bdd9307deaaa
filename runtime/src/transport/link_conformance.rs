//! What every link must do, whatever it is made of. A backend takes part with one line at the end.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::link::{Link, LinkError};
use crate::os::wait;

/// The two ends of a way.
type Ends = (Box<dyn Link>, Box<dyn Link>);

const ANY: u64 = u64::MAX;

/// Around every threshold: nothing, one byte, what is reserved at first, what a socket or ring holds, what
/// is taken in one go.
const SIZES: [usize; 14] = [
    0,
    1,
    0,
    7,
    8,
    9,
    4096,
    65_535,
    65_536,
    65_537,
    (1 << 20) + 1,
    4 << 20,
    (4 << 20) + 1,
    64 << 20,
];

/// Bytes that differ from one place, and from one message, to the next.
fn body(seed: usize, length: usize) -> Vec<u8> {
    // A prime number of bytes, so that no buffer's size is a multiple of it.
    let pattern: Vec<u8> = (0..251).map(|i| (i + seed) as u8).collect();
    let mut bytes = pattern.repeat(length / 251 + 1);
    bytes.truncate(length);
    bytes
}

/// Much longer than anything takes, so that what hangs fails.
fn patience() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(60))
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(20))
}

fn now() -> Option<Instant> {
    Some(Instant::now())
}

fn send(link: &dyn Link, bytes: &[u8]) {
    link.send(&[bytes], patience()).unwrap();
}

fn receive(link: &dyn Link) -> Vec<u8> {
    link.receive(ANY, patience()).unwrap()
}

fn assert_gone(result: Result<Vec<u8>, LinkError>) {
    assert!(matches!(result, Err(LinkError::Disconnected)), "{result:?}");
}

fn assert_late<T: std::fmt::Debug>(result: Result<T, LinkError>) {
    assert!(matches!(result, Err(LinkError::TimedOut)), "{result:?}");
}

fn assert_too_long(result: Result<Vec<u8>, LinkError>, expected: u64, allowed: u64) {
    match result {
        Err(LinkError::TooLong { length, limit }) => {
            assert_eq!((length, limit), (expected, allowed));
        }
        other => panic!("{other:?}"),
    }
}

fn messages_arrive_whole_in_order_and_apart((left, right): Ends) {
    thread::scope(|scope| {
        scope.spawn(|| {
            for (seed, size) in SIZES.into_iter().enumerate() {
                send(&*left, &body(seed, size));
            }
        });
        for (seed, size) in SIZES.into_iter().enumerate() {
            assert!(receive(&*right) == body(seed, size), "{size} bytes");
        }
    });
    assert_late(right.receive(ANY, now()));
}

fn parts_make_one_message((left, right): Ends) {
    let long = body(3, 100_000);
    let many: Vec<&[u8]> = long.chunks(37).collect();
    let some: [&[&[u8]]; 5] =
        [&[], &[b""], &[b"", b"a", b"", b"bc", b""], &[b"x", &long, b"y"], &many];
    for parts in some {
        thread::scope(|scope| {
            scope.spawn(|| left.send(parts, patience()).unwrap());
            assert!(receive(&*right) == parts.concat());
        });
    }
}

fn both_ways_work_at_once((left, right): Ends) {
    let echo = |link: &dyn Link, seed| {
        thread::scope(|scope| {
            scope.spawn(move || (0..200).for_each(|i| send(link, &body(seed + i, i * 1000))));
            for i in 0..200 {
                assert!(receive(link) == body(1 - seed + i, i * 1000));
            }
        });
    };
    thread::scope(|scope| {
        scope.spawn(|| echo(&*left, 0));
        scope.spawn(|| echo(&*right, 1));
    });
}

fn the_end_comes_after_the_last_message((left, right): Ends) {
    (0..5).for_each(|i| send(&*left, &body(i, i)));
    drop(left);
    (0..5).for_each(|i| assert_eq!(receive(&*right), body(i, i)));
    for _ in 0..3 {
        assert!(right.poll(ANY, now()));
        assert_gone(right.receive(ANY, None));
        let sent = right.send(&[b"into the void"], None);
        assert!(matches!(sent, Err(LinkError::Disconnected)), "{sent:?}");
    }
}

fn the_end_wakes_who_waits((left, right): Ends) {
    thread::scope(|scope| {
        let receivers: Vec<_> =
            (0..3).map(|_| scope.spawn(|| right.receive(ANY, patience()))).collect();
        let poller = scope.spawn(|| right.poll(ANY, patience()));
        let sender = scope.spawn(|| while right.send(&[&[0; 10_000]], patience()).is_ok() {});
        thread::sleep(Duration::from_millis(5));
        drop(left);
        receivers.into_iter().for_each(|receiver| assert_gone(receiver.join().unwrap()));
        assert!(poller.join().unwrap());
        sender.join().unwrap();
    });
}

fn a_limit_refuses_one_message_and_no_other((left, right): Ends) {
    thread::scope(|scope| {
        scope.spawn(|| {
            for (seed, size) in [11, 10, 3 << 20, 0, 5, 10 << 20, 10].into_iter().enumerate() {
                send(&*left, &body(seed, size));
            }
        });
        assert_too_long(right.receive(10, patience()), 11, 10);
        assert_eq!(right.receive(10, patience()).unwrap(), body(1, 10));
        assert_too_long(right.receive(10, patience()), 3 << 20, 10);
        assert_eq!(right.receive(0, patience()).unwrap(), b"");
        assert_too_long(right.receive(0, patience()), 5, 0);
        assert!(right.poll(10, patience()), "that it is too long can be had without waiting");
        assert_too_long(right.receive(10, now()), 10 << 20, 10);
        assert!(right.poll(10, patience()));
        assert_eq!(right.receive(10, now()).unwrap(), body(6, 10));
    });
}

fn a_deadline_ends_a_wait((left, right): Ends) {
    let start = Instant::now();
    assert_late(right.receive(ANY, soon()));
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert!(!right.poll(ANY, soon()));
    assert!(start.elapsed() >= Duration::from_millis(40));
    assert_late(right.receive(ANY, now()));
    send(&*left, b"here");
    assert!(right.poll(ANY, patience()));
    assert_eq!(right.receive(ANY, now()).unwrap(), b"here");
    assert!(!right.poll(ANY, now()));
}

fn a_message_is_received_whole_over_many_deadlines((left, right): Ends) {
    thread::scope(|scope| {
        scope.spawn(|| (0..3).for_each(|i| send(&*left, &body(i, 8 << 20))));
        let start = Instant::now();
        for i in 0..3 {
            let bytes = loop {
                match right.receive(ANY, now()) {
                    Ok(bytes) => break bytes,
                    Err(LinkError::TimedOut) => {}
                    Err(other) => panic!("{other}"),
                }
                right.poll(ANY, now());
                assert!(start.elapsed() < Duration::from_secs(60));
            };
            assert!(bytes == body(i, 8 << 20));
        }
    });
}

fn poll_is_true_when_a_message_is_whole((left, right): Ends) {
    thread::scope(|scope| {
        scope.spawn(|| {
            for size in SIZES {
                send(&*left, &body(size, size));
            }
        });
        for size in SIZES {
            assert!(right.poll(ANY, patience()));
            assert!(right.poll(ANY, now()), "it stays true");
            if let Some(fd) = right.fd() {
                let ready = wait::ready(&[fd], Some(Duration::ZERO)).unwrap();
                assert_eq!(ready, [0], "its descriptor says so, too");
            }
            assert!(right.receive(ANY, now()).unwrap() == body(size, size), "{size} bytes");
        }
        assert!(!right.poll(ANY, now()));
    });
}

/// A message of which its sender was told that it was not sent isn't received, and all others are.
fn what_was_late_is_not_sent((left, right): Ends) {
    let mut sent = 0;
    let start = Instant::now();
    loop {
        match left.send(&[&body(sent, 1000 + sent % 7000)], soon()) {
            Ok(()) => sent += 1,
            Err(LinkError::TimedOut) => break,
            Err(other) => panic!("{other}"),
        }
        assert!(start.elapsed() < Duration::from_secs(60), "there is no end to what nobody reads");
    }
    drop(left);
    for i in 0..sent {
        assert!(receive(&*right) == body(i, 1000 + i % 7000));
    }
    assert_gone(right.receive(ANY, patience()));
}

fn who_waits_to_receive_does_not_hold_up_who_sends((left, right): Ends) {
    thread::scope(|scope| {
        let waits = scope.spawn(|| receive(&*left));
        let another = scope.spawn(|| receive(&*left));
        assert_late(left.receive(ANY, soon()));
        send(&*left, b"ping");
        assert_eq!(receive(&*right), b"ping");
        send(&*right, b"pong");
        send(&*right, b"pong");
        assert_eq!(
            (waits.join().unwrap(), another.join().unwrap()),
            (b"pong"[..].into(), b"pong"[..].into())
        );
    });
}

fn who_waits_to_send_does_not_hold_up_others((left, right): Ends) {
    thread::scope(|scope| {
        let waits = scope.spawn(|| send(&*left, &body(1, 32 << 20)));
        while !right.poll(0, now()) {
            thread::yield_now();
        }
        let start = Instant::now();
        assert_late(left.send(&[b"late"], soon()));
        assert!(start.elapsed() >= Duration::from_millis(20));
        send(&*right, b"other way");
        assert_eq!(receive(&*left), b"other way");
        assert!(receive(&*right) == body(1, 32 << 20));
        waits.join().unwrap();
        send(&*left, b"next");
        assert_eq!(receive(&*right), b"next");
    });
}

fn threads_share_a_link((left, right): Ends) {
    const EACH: u32 = 500;
    let (seen, left, right) = (AtomicU32::new(0), &*left, &*right);
    let message = |thread: u32, i: u32| {
        let mut bytes = body((thread * EACH + i) as usize, (i * 97 % 5000) as usize);
        bytes.extend_from_slice(&(thread * EACH + i).to_le_bytes());
        bytes
    };
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || (0..EACH).for_each(|i| send(left, &message(thread, i))));
        }
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut numbers = Vec::new();
                    while seen.fetch_add(1, Ordering::Relaxed) < 4 * EACH {
                        let bytes = receive(right);
                        let number = u32::from_le_bytes(*bytes.last_chunk().unwrap());
                        assert!(bytes == message(number / EACH, number % EACH));
                        numbers.push(number);
                    }
                    for thread in 0..4 {
                        let of_one = numbers.iter().filter(|number| *number / EACH == thread);
                        assert!(of_one.is_sorted(), "each sender's messages stay in order");
                    }
                    numbers
                })
            })
            .collect();
        let mut all: Vec<u32> =
            receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..4 * EACH), "each message is received once");
    });
}

fn a_message_may_have_more_than_two_gibibytes((left, right): Ends) {
    const LENGTH: usize = (2 << 30) + 11;
    thread::scope(|scope| {
        scope.spawn(|| {
            let bytes = body(5, LENGTH);
            send(&*left, &bytes);
            send(&*left, b"next");
        });
        let bytes = receive(&*right);
        assert_eq!(bytes.len(), LENGTH);
        let tail = body(5, 251 * 3 + LENGTH % 251);
        assert!(bytes.ends_with(&tail) && bytes.starts_with(&tail));
        assert_eq!(receive(&*right), b"next");
    });
}

/// Input: the backend's name, and what connects its ends. Output: the suite for it.
macro_rules! conforms {
    ($backend:ident: $ends:expr; $($test:ident)*) => {
        mod $backend {
            fn ends() -> super::Ends {
                $ends
            }

            $(
                #[test]
                fn $test() {
                    super::$test(ends());
                }
            )*

            #[test]
            #[ignore = "takes 5 GiB of memory"]
            fn a_message_may_have_more_than_two_gibibytes() {
                super::a_message_may_have_more_than_two_gibibytes(ends());
            }
        }
    };
    ($backend:ident: $ends:expr) => {
        conforms! {
            $backend: $ends;
            messages_arrive_whole_in_order_and_apart
            parts_make_one_message
            both_ways_work_at_once
            the_end_comes_after_the_last_message
            the_end_wakes_who_waits
            a_limit_refuses_one_message_and_no_other
            a_deadline_ends_a_wait
            a_message_is_received_whole_over_many_deadlines
            poll_is_true_when_a_message_is_whole
            what_was_late_is_not_sent
            who_waits_to_receive_does_not_hold_up_who_sends
            who_waits_to_send_does_not_hold_up_others
            threads_share_a_link
        }
    };
}

conforms!(unix: {
    let (left, right) = std::os::unix::net::UnixStream::pair().unwrap();
    let link = |socket| Box::new(crate::transport::stream::StreamLink::new(socket).unwrap());
    (link(left), link(right))
});

conforms!(tcp: {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let left = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (right, _) = listener.accept().unwrap();
    let link = |socket| {
        let socket = crate::transport::stream::from_tcp(socket);
        Box::new(crate::transport::stream::StreamLink::new(socket).unwrap())
    };
    (link(left), link(right))
});

conforms!(pipe: {
    let [left, right] = crate::transport::pipe::Pipe::pair([0, 0]).unwrap();
    (Box::new(left), Box::new(right))
});

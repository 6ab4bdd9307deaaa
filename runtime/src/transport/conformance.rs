//! What every backend must do, whatever it is made of. A backend takes part with one line at the end.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::fence;
use std::thread;
use std::time::{Duration, Instant};

use super::board::APART;
use super::frame::{Body, Header, Kind, LONG, MAX_BODY, Malformed};
use super::{LongBytes, ParentEnd, ROOM, Received, SharedBytes, WorkerInput, WorkerOutput};
use crate::os::memory::{Shared, copy_in};
use crate::os::wait;
use crate::shm::page::Page;

/// Connected ends. Those of the worker block, so what is long is done on a thread of its own.
type Ends = (Box<dyn ParentEnd>, Box<dyn WorkerInput>, Box<dyn WorkerOutput>);

/// Around every threshold: the header's size, what is shared, what is read at once, what is large.
const SIZES: [usize; 17] = [
    0,
    1,
    15,
    16,
    17,
    4095,
    4096,
    4097,
    65_519,
    65_520,
    65_536,
    262_143,
    262_144,
    262_145,
    1 << 20,
    (3 << 20) + 1,
    64 << 20,
];

/// Bytes that differ from one place, and from one frame, to the next.
fn body(seed: u32, length: usize) -> Vec<u8> {
    // A prime number of bytes, so that no buffer's size is a multiple of it.
    let pattern: Vec<u8> = (0..251).map(|i| (i + seed) as u8).collect();
    let mut bytes = pattern.repeat(length / 251 + 1);
    bytes.truncate(length);
    bytes
}

/// All of a body.
fn whole(body: &mut Body<'_>) -> Vec<u8> {
    let tail = body.take_tail().unwrap_or_default();
    [body.bytes(), &tail].concat()
}

fn frame(kind: Kind, number: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Header::new(kind, number, body.len()).to_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// Waits until something may have arrived.
fn rest(parent: &dyn ParentEnd) {
    let _ = wait::ready(&[parent.as_fd()], Some(Duration::from_millis(1)));
}

fn tell(output: &mut dyn WorkerOutput, parts: [&[u8]; 2]) -> io::Result<()> {
    output.write(parts)?;
    output.flush()
}

fn flush(parent: &mut dyn ParentEnd) -> io::Result<()> {
    let start = Instant::now();
    while !parent.flush()? {
        assert!(start.elapsed() < Duration::from_secs(60), "nobody takes what is sent");
        thread::yield_now();
    }
    Ok(())
}

/// The next frame, with its body copied; none at the end of the stream.
fn receive(parent: &mut dyn ParentEnd) -> Result<Option<(Header, Vec<u8>)>, Malformed> {
    let start = Instant::now();
    loop {
        if let Some((header, mut body)) = parent.next()? {
            return Ok(Some((header, whole(&mut body))));
        }
        match parent.receive().expect("the system reads") {
            Received::Some => {}
            Received::Nothing => rest(parent),
            Received::End => return Ok(None),
        }
        assert!(start.elapsed() < Duration::from_secs(60), "a frame is missing");
    }
}

fn frames_reach_the_worker_in_order_and_whole((mut parent, mut input, _output): Ends) {
    let worker = thread::spawn(move || {
        for (number, size) in (0..).zip(SIZES) {
            let (header, bytes) = input.next().unwrap().unwrap();
            assert_eq!((header.kind, header.number), (Kind::Tasks, number));
            assert!(bytes.bytes() == body(number, size), "{size} bytes");
        }
        assert!(input.next().unwrap().is_none(), "the end comes after the last frame");
    });
    for (number, size) in (0..).zip(SIZES) {
        parent.queue(&frame(Kind::Tasks, number, &body(number, size)));
        if number % 3 == 0 {
            flush(&mut *parent).unwrap();
        }
    }
    flush(&mut *parent).unwrap();
    drop((parent, _output));
    worker.join().unwrap();
}

fn frames_reach_the_parent_in_order_and_whole((mut parent, input, mut output): Ends) {
    let worker = thread::spawn(move || {
        for (number, size) in (0..).zip(SIZES) {
            let body = body(number, size);
            let header = Header::new(Kind::Value, number, size).to_bytes();
            tell(&mut *output, [&header, &body]).unwrap();
        }
        drop(input);
    });
    let mut total = 0;
    for (number, size) in (0..).zip(SIZES) {
        let (header, bytes) = receive(&mut *parent).unwrap().unwrap();
        assert_eq!((header.kind, header.number), (Kind::Value, number));
        assert!(bytes == body(number, size), "{size} bytes");
        total += (Header::SIZE + size) as u64;
    }
    assert_eq!(parent.received(), total);
    worker.join().unwrap();
    assert!(receive(&mut *parent).unwrap().is_none(), "the end comes after the last frame");
}

fn many_small_frames_go_in_one_flush((mut parent, mut input, _output): Ends) {
    const COUNT: u32 = 100_000;
    let worker = thread::spawn(move || {
        for number in 0..COUNT {
            let (header, bytes) = input.next().unwrap().unwrap();
            assert_eq!((header.number, bytes.bytes()), (number, &number.to_le_bytes()[..]));
        }
    });
    (0..COUNT).for_each(|n| parent.queue(&frame(Kind::Tasks, n, &n.to_le_bytes())));
    flush(&mut *parent).unwrap();
    worker.join().unwrap();
}

fn shared_ranges_are_sent_as_if_copied((mut parent, mut input, _output): Ends) {
    let shared = SharedBytes::new(body(7, 1 << 20));
    let ranges =
        [0..0, 0..1, 5..4100, 4096..8192, 100..100, 8191..1 << 20, 0..1 << 20, 3..4, 1000..70_000];
    let worker = {
        let (shared, ranges) = (Arc::clone(&shared), ranges.clone());
        thread::spawn(move || {
            for (number, range) in (0..).zip(ranges) {
                let (header, bytes) = input.next().unwrap().unwrap();
                assert_eq!(header.number, number);
                assert!(bytes.bytes() == &shared[range]);
            }
        })
    };
    for (number, range) in (0..).zip(ranges) {
        parent.queue(&Header::new(Kind::Tasks, number, range.len()).to_bytes());
        parent.queue_shared(&shared, range);
    }
    flush(&mut *parent).unwrap();
    worker.join().unwrap();
    assert_eq!(Arc::strong_count(&shared), 1, "what has been sent is let go");
}

fn a_full_way_is_no_error_and_loses_nothing((mut parent, mut input, _output): Ends) {
    let mut sent = 0;
    // More and more, until it doesn't pass at once; then more on top of it.
    loop {
        parent.queue(&frame(Kind::Tasks, sent, &body(sent, 50_000)));
        sent += 1;
        if !parent.flush().unwrap() {
            break;
        }
        assert!(sent < 10_000, "there is no end to what nobody reads");
    }
    for _ in 0..50 {
        parent.queue(&frame(Kind::Tasks, sent, &body(sent, 5000)));
        sent += 1;
        assert!(!parent.flush().unwrap());
    }
    let worker = thread::spawn(move || {
        for number in 0..sent {
            let (header, bytes) = input.next().unwrap().unwrap();
            assert_eq!(header.number, number);
            assert!(bytes.bytes() == body(number, bytes.bytes().len()));
        }
    });
    flush(&mut *parent).unwrap();
    worker.join().unwrap();
}

/// The lengths of what comes before tails, and of tails.
const SPLITS: [(usize, usize); 9] = [
    (4, 0),
    (0, 1),
    (100, LONG),
    (0, LONG + 1),
    (65_534, 200_000),
    (5, 1 << 20),
    (112, (1 << 20) + 16),
    (68, 3 << 20),
    (1, 64 << 20),
];

fn long_ends_of_results_have_memory_of_their_own((mut parent, _input, mut output): Ends) {
    let worker = thread::spawn(move || {
        for (number, (head, tail)) in (0..).zip(SPLITS) {
            let header = Header::with_tail(Kind::Value, number, head, tail).to_bytes();
            let head = [&header, &body(number, head)[..]].concat();
            tell(&mut *output, [&head, &body(number, tail)]).unwrap();
            // Others stand between them.
            tell(&mut *output, [&frame(Kind::Value, 99, b"x"), b""]).unwrap();
        }
        output
    });
    for (number, (head, tail)) in (0..).zip(SPLITS) {
        let (first, second) = loop {
            if let Some((header, mut body)) = parent.next().unwrap() {
                assert_eq!(header.number, number);
                let second = body.take_tail();
                break (body.bytes().to_vec(), second);
            }
            if parent.receive().unwrap() == Received::Nothing {
                rest(&*parent);
            }
        };
        if tail > 1 << 20 {
            assert_eq!((first.len(), second.as_ref().unwrap().len()), (head, tail));
        }
        let got = [first, second.unwrap_or_default()].concat();
        assert!(got == [body(number, head), body(number, tail)].concat());
        assert_eq!(receive(&mut *parent).unwrap().unwrap().1, b"x");
    }
    worker.join().unwrap();
}

fn long_results_are_not_copied_with_others((mut parent, _input, mut output): Ends) {
    let frames = [(Kind::Value, 2 << 20), (Kind::Apart, 3 << 20), (Kind::Value, 64 << 20)];
    let worker = thread::spawn(move || {
        for (number, (kind, size)) in (0..).zip(frames) {
            tell(&mut *output, [&frame(kind, number, &body(number, size)), b""]).unwrap();
        }
        output
    });
    for (number, (kind, size)) in (0..).zip(frames) {
        let (first, second) = loop {
            if let Some((header, mut body)) = parent.next().unwrap() {
                assert_eq!((header.kind, header.number), (kind, number));
                let second = body.take_tail();
                break (body.bytes().to_vec(), second.unwrap());
            }
            if parent.receive().unwrap() == Received::Nothing {
                rest(&*parent);
            }
        };
        assert_eq!(first.len(), if kind == Kind::Apart { APART } else { 0 });
        assert!([first, second].concat() == body(number, size));
        assert!(parent.is_grown(), "memory is kept for the next one");
    }
    worker.join().unwrap();
    parent.shrink();
    assert!(!parent.is_grown());
}

/// What is the last of long memory isn't dropped on the way: whoever has this end may hold a lock.
fn long_memory_that_comes_free_is_handed_out((mut parent, mut input, _output): Ends) {
    let long: LongBytes = Arc::new(body(1, 3 << 20));
    let is_there = Arc::downgrade(&long);
    parent.queue(&Header::with_tail(Kind::Tasks, 0, 0, 3 << 20).to_bytes());
    parent.queue_long(&long);
    drop(long);
    let worker = thread::spawn(move || {
        let (_, mut body) = input.next().unwrap().unwrap();
        assert_eq!(whole(&mut body).len(), 3 << 20);
    });
    flush(&mut *parent).unwrap();
    worker.join().unwrap();
    assert_eq!(is_there.strong_count(), 1);
    assert_eq!(parent.take_freed().len(), 1);
    assert_eq!(is_there.strong_count(), 0);
    // As is what was never sent.
    let long: LongBytes = Arc::new(body(1, 3 << 20));
    let is_there = Arc::downgrade(&long);
    parent.queue_long(&long);
    drop(long);
    parent.give_up();
    assert_eq!(is_there.strong_count(), 1);
    drop(parent.take_freed());
    assert_eq!(is_there.strong_count(), 0);
    assert!(parent.flush().unwrap(), "nothing is left to send");
}

fn long_arguments_are_sent_from_where_they_are((mut parent, mut input, _output): Ends) {
    let worker = thread::spawn(move || {
        for (number, (head, tail)) in (0..).zip(SPLITS) {
            let (header, mut bytes) = input.next().unwrap().unwrap();
            assert_eq!(header.number, number);
            assert!(whole(&mut bytes) == [body(number, head), body(number, tail)].concat());
        }
    });
    let mut all = Vec::new();
    for (number, (head, tail)) in (0..).zip(SPLITS) {
        let long: LongBytes = Arc::new(body(number, tail));
        parent.queue(&Header::with_tail(Kind::Tasks, number, head, tail).to_bytes());
        parent.queue(&body(number, head));
        parent.queue_long(&long);
        all.push(long);
    }
    flush(&mut *parent).unwrap();
    worker.join().unwrap();
    assert!(all.iter().all(|long| Arc::strong_count(long) == 1), "what was sent is let go");
}

/// The stream is cut in three: what the parent was told of, what it takes in before it is told, and the
/// rest.
fn what_is_published_is_seen_once(ends: &dyn Fn() -> Ends) {
    let mut stream = Vec::new();
    for number in 0..3 {
        stream.extend(frame(Kind::Value, number, &body(number, 5)));
    }
    for first in 0..=stream.len() {
        for second in (first..=stream.len()).step_by(3) {
            let (mut parent, _input, mut output) = ends();
            output.write([&stream[..first], b""]).unwrap();
            output.flush().unwrap();
            while parent.received() < first as u64 {
                if parent.receive().unwrap() == Received::Nothing {
                    rest(&*parent);
                }
            }
            let mut seen = 0;
            let mut look = |parent: &mut dyn ParentEnd| {
                while let Some((header, bytes)) = parent.next().unwrap() {
                    assert_eq!((header.number, bytes.bytes()), (seen, &body(seen, 5)[..]));
                    seen += 1;
                }
            };
            look(&mut *parent);
            output.write([&stream[first..second], b""]).unwrap();
            assert_eq!(parent.look(), second > first);
            assert!(!parent.look());
            assert_eq!(parent.received(), second as u64);
            look(&mut *parent);
            output.write([b"", &stream[second..]]).unwrap();
            output.flush().unwrap();
            drop((output, _input));
            while parent.receive().unwrap() != Received::End {
                look(&mut *parent);
            }
            look(&mut *parent);
            assert_eq!((seen, parent.received()), (3, stream.len() as u64));
        }
    }
}

/// A worker dies with something published and something only written.
fn what_is_written_and_not_published_can_be_seen_afterwards(ends: &dyn Fn() -> Ends) {
    for published in [0, 1, 20, 5000, ROOM] {
        for written in [0, 1, 20, ROOM] {
            let (mut parent, input, mut output) = ends();
            let (first, second) = (body(1, published), body(2, written));
            output.write([&first, b""]).unwrap();
            copy_in(output.room(written).unwrap(), &second);
            drop((input, output));
            while parent.receive().unwrap() != Received::End {}
            parent.look();
            assert_eq!((parent.received(), parent.bytes()), (published as u64, &first[..]));
            assert_eq!(parent.unpublished(written), second);
        }
    }
}

fn the_worker_sees_the_parents_end((mut parent, mut input, mut output): Ends) {
    parent.queue(&frame(Kind::Tasks, 1, b"last"));
    flush(&mut *parent).unwrap();
    drop(parent);
    assert_eq!(input.next().unwrap().unwrap().1.bytes(), b"last");
    assert!(input.next().unwrap().is_none());
    assert!(tell(&mut *output, [b"into the void", b""]).is_err());
}

fn a_frame_that_the_parent_cuts_off_is_the_end((mut parent, mut input, _output): Ends) {
    parent.queue(&frame(Kind::Tasks, 1, b"cut off")[..20]);
    flush(&mut *parent).unwrap();
    drop(parent);
    assert!(!input.is_ready());
    assert!(input.next().unwrap().is_none());
}

fn the_parent_sees_the_workers_end((mut parent, input, mut output): Ends) {
    tell(&mut *output, [&frame(Kind::Value, 1, b"last"), &frame(Kind::Value, 2, b"cut off")[..20]])
        .unwrap();
    // What the worker hasn't read doesn't hide what it has sent.
    parent.queue(&frame(Kind::Tasks, 1, &[0; 1000]));
    flush(&mut *parent).unwrap();
    drop((input, output));
    assert_eq!(receive(&mut *parent).unwrap().unwrap().1, b"last");
    assert!(receive(&mut *parent).unwrap().is_none());
    assert!(receive(&mut *parent).unwrap().is_none(), "it stays the end");
}

fn a_worker_that_goes_while_it_is_sent_to_is_an_error((mut parent, input, output): Ends) {
    parent.queue(&frame(Kind::Tasks, 1, &body(0, 16 << 20)));
    assert!(!parent.flush().unwrap());
    drop((input, output));
    assert!(flush(&mut *parent).is_err());
}

fn what_is_no_frame_is_said_on_either_side(ends: &dyn Fn() -> Ends) {
    let too_long = Header { length: MAX_BODY + 1, ..Header::new(Kind::Value, 0, 0) }.to_bytes();
    for garbage in [[0xff; 16], [0; 16], *b"GET / HTTP/1.1\r\n", too_long] {
        let (mut parent, mut input, mut output) = ends();
        tell(&mut *output, [&frame(Kind::Value, 9, b"good"), &garbage]).unwrap();
        assert_eq!(receive(&mut *parent).unwrap().unwrap().1, b"good");
        receive(&mut *parent).unwrap_err();
        receive(&mut *parent).unwrap_err();
        parent.queue(&frame(Kind::Tasks, 9, b"good"));
        parent.queue(&garbage);
        flush(&mut *parent).unwrap();
        assert_eq!(input.next().unwrap().unwrap().1.bytes(), b"good");
        assert!(input.next().is_err());
    }
}

/// The parent waits on the descriptor, as it does in the program.
fn what_is_told_ends_a_wait((mut parent, _input, mut output): Ends) {
    let watch = parent.watch();
    for number in 0..100 {
        let worker = thread::spawn(move || {
            tell(&mut *output, [&frame(Kind::Value, number, b"x"), b""]).unwrap();
            output
        });
        while parent.next().unwrap().is_none() {
            if let Some(watch) = &watch {
                watch.arm();
                fence(SeqCst);
            }
            if !watch.as_ref().is_some_and(|watch| watch.has_news()) {
                let ready = wait::ready(&[parent.as_fd()], Some(Duration::from_secs(60))).unwrap();
                assert_eq!(ready, [0], "nobody is told");
            }
            if let Some(watch) = &watch {
                watch.disarm();
            }
            parent.receive().unwrap();
        }
        output = worker.join().unwrap();
    }
}

/// A worker that waits sleeps soon, and wakes up for every frame.
fn what_is_sent_ends_a_wait((mut parent, mut input, _output): Ends) {
    assert!(!input.wait(Duration::from_millis(1)));
    let worker = thread::spawn(move || {
        for number in 0..100 {
            while !input.wait(Duration::from_secs(60)) {}
            assert_eq!(input.next().unwrap().unwrap().0.number, number);
        }
    });
    for number in 0..100 {
        parent.queue(&frame(Kind::Tasks, number, b"x"));
        assert!(parent.flush().unwrap());
        if number % 10 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    worker.join().unwrap();
}

fn memory_that_is_given_back_is_taken_again((mut parent, mut input, mut output): Ends) {
    for number in 0..3 {
        let long = body(number, 3 << 20);
        parent.queue(&frame(Kind::Tasks, number, &long));
        let worker = thread::spawn(move || {
            let body = input.next().unwrap().unwrap().1.bytes().to_vec();
            tell(&mut *output, [&frame(Kind::Value, number, &body), b""]).unwrap();
            (input, output)
        });
        flush(&mut *parent).unwrap();
        assert!(receive(&mut *parent).unwrap().unwrap().1 == long);
        (input, output) = worker.join().unwrap();
        parent.shrink();
        output.shrink();
        assert!(!parent.is_grown() && !output.is_grown());
        // What is small goes through what is left.
        parent.queue(&frame(Kind::Tasks, number, b"small"));
        assert!(parent.flush().unwrap());
        assert_eq!(input.next().unwrap().unwrap().1.bytes(), b"small");
    }
}

fn nothing_to_read_is_nothing((mut parent, mut input, _output): Ends) {
    assert_eq!(parent.receive().unwrap(), Received::Nothing);
    assert!(parent.next().unwrap().is_none());
    assert!(parent.flush().unwrap(), "nothing is left to send");
    assert!(!input.is_ready());
    assert_eq!(parent.received(), 0);
}

/// Input: the backend's name, and what connects its ends. Output: the suite for it.
macro_rules! conforms {
    ($backend:ident: $ends:expr; $($one:ident)*; $($many:ident)*) => {
        mod $backend {
            use super::*;

            fn ends() -> Ends {
                $ends
            }

            $(
                #[test]
                fn $one() {
                    super::$one(ends());
                }
            )*
            $(
                #[test]
                fn $many() {
                    super::$many(&ends);
                }
            )*
        }
    };
    ($backend:ident: $ends:expr) => {
        conforms! {
            $backend: $ends;
            frames_reach_the_worker_in_order_and_whole
            frames_reach_the_parent_in_order_and_whole
            many_small_frames_go_in_one_flush
            shared_ranges_are_sent_as_if_copied
            a_full_way_is_no_error_and_loses_nothing
            long_results_are_not_copied_with_others
            long_memory_that_comes_free_is_handed_out
            long_ends_of_results_have_memory_of_their_own
            long_arguments_are_sent_from_where_they_are
            the_worker_sees_the_parents_end
            a_frame_that_the_parent_cuts_off_is_the_end
            the_parent_sees_the_workers_end
            a_worker_that_goes_while_it_is_sent_to_is_an_error
            what_is_told_ends_a_wait
            what_is_sent_ends_a_wait
            memory_that_is_given_back_is_taken_again
            nothing_to_read_is_nothing;
            what_is_published_is_seen_once
            what_is_written_and_not_published_can_be_seen_afterwards
            what_is_no_frame_is_said_on_either_side
        }
    };
}

conforms!(ring: {
    let (ours, theirs) = crate::os::socket::pair().unwrap();
    let (memory, fd) = crate::transport::ring::Memory::create().unwrap();
    let page = Arc::new(Shared::<Page>::open(fd.as_fd()).unwrap());
    let socket = Arc::new(theirs.into());
    let (input, output) = crate::transport::ring::worker_ends(socket, page, fd.as_fd()).unwrap();
    let parent = crate::transport::ring::ParentRing::new(ours, memory, 50_000);
    (Box::new(parent), Box::new(input), Box::new(output))
});

conforms!(socket: {
    let (ours, theirs) = crate::os::socket::pair().unwrap();
    let (page, fd) = Shared::<Page>::create(c"test").unwrap();
    let theirs_page = Arc::new(Shared::open(fd.as_fd()).unwrap());
    let (input, output) = crate::transport::socket::worker_ends(Arc::new(theirs.into()), theirs_page, crate::shm::outbox::CAPACITY);
    (Box::new(crate::transport::socket::ParentSocket::new(ours, Arc::new(page), crate::shm::outbox::CAPACITY)), Box::new(input), Box::new(output))
});

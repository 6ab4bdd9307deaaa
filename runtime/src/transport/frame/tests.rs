//! Frames, however the bytes come that make them.

use super::*;

fn feed(incoming: &mut Incoming, mut bytes: &[u8], step: usize) {
    while !bytes.is_empty() {
        let count = incoming
            .fill(|buffer, most| {
                let count = step.min(bytes.len()).min(most);
                buffer.extend_from_slice(&bytes[..count]);
                Ok(count)
            })
            .unwrap();
        bytes = &bytes[count..];
    }
}

fn frame(kind: Kind, number: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Header::new(kind, number, body.len()).to_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// A frame whose body ends with a tail.
fn apart(number: u32, body: &[u8], head: usize) -> Vec<u8> {
    let header = Header::with_tail(Kind::Value, number, head, body.len() - head);
    [&header.to_bytes(), body].concat()
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7) as u8).collect()
}

fn next(incoming: &mut Incoming) -> (u32, Vec<u8>, Option<Vec<u8>>) {
    assert!(incoming.is_ready());
    let (header, mut body) = incoming.next().unwrap().unwrap();
    let tail = body.take_tail();
    (header.number, body.bytes().to_vec(), tail)
}

#[test]
fn frames_come_out_however_they_were_cut() {
    let bodies = [0, 1, 15, 16, 17, CHUNK - 16, CHUNK, 4 * CHUNK, 12 * CHUNK + 1];
    for step in [1, 7, 16, 4096, usize::MAX] {
        let mut incoming = Incoming::default();
        for (number, length) in (0..).zip(bodies) {
            if step < 16 && length > CHUNK {
                continue;
            }
            let body = body(length);
            feed(&mut incoming, &frame(Kind::Panicked, number, &body), step);
            assert_eq!(next(&mut incoming), (number, body, None));
            assert!(incoming.next().unwrap().is_none());
        }
    }
}

#[test]
fn tails_come_out_however_they_were_cut() {
    let tails = [0, 1, 127, 128, 4096, CHUNK, 5 * CHUNK + 1];
    for head in [0, 1, 40, 300] {
        for step in [1, 16, 61, 4096, CHUNK + 1, usize::MAX] {
            let tails = || tails.iter().filter(|tail| step > 1 || **tail <= 4096);
            let mut stream = Vec::new();
            for (number, tail) in (0..).zip(tails()) {
                stream.extend(apart(number, &body(head + tail), head));
                stream.extend(frame(Kind::Value, 99, b"between"));
            }
            // In whatever way the bytes come.
            for way in 0..3 {
                let mut incoming = Incoming::default();
                let mut seen = Vec::new();
                let mut rest = &stream[..];
                while !rest.is_empty() {
                    let count = step.min(rest.len());
                    match way {
                        0 => feed(&mut incoming, &rest[..count], count),
                        1 => incoming.append(&rest[..count]),
                        _ => {
                            let count = count.min(incoming.wanted());
                            let shared: Vec<AtomicU8> =
                                rest[..count].iter().map(|byte| AtomicU8::new(*byte)).collect();
                            incoming.append_shared(&shared);
                            rest = &rest[count..];
                        }
                    }
                    if way < 2 {
                        rest = &rest[count..];
                    }
                    while incoming.is_ready() {
                        let (number, first, tail) = next(&mut incoming);
                        assert!(tail.is_none() || first.len() == head, "it begins at its place");
                        seen.push((number, [first, tail.unwrap_or_default()].concat()));
                    }
                }
                let mut seen = seen.into_iter();
                for (number, tail) in (0..).zip(tails()) {
                    assert_eq!(seen.next(), Some((number, body(head + tail))));
                    assert_eq!(seen.next(), Some((99, b"between".to_vec())));
                }
                assert_eq!(seen.next(), None);
            }
        }
    }
}

/// What has no tail in its header comes apart all the same, if it is a long result, and all that is no result
/// of its kind stays before it.
#[test]
fn long_results_come_apart() {
    for (kind, head) in [(Kind::Value, 0), (Kind::Apart, APART)] {
        for length in [LONG - 1, LONG, 5 * LONG + 1] {
            let long = body(length);
            let mut incoming = Incoming::default();
            feed(&mut incoming, &frame(kind, 3, &long), 5000);
            let (number, first, tail) = next(&mut incoming);
            let at = if length >= LONG { head } else { length };
            assert_eq!((number, first.len(), tail.is_some()), (3, at, length >= LONG));
            assert!([first, tail.unwrap_or_default()].concat() == long);
        }
    }
    // What follows the head is mostly moved.
    for length in [LONG - 1, LONG, 5 * LONG + 1] {
        let long = body(length);
        let mut incoming = Incoming::default();
        feed(&mut incoming, &frame(Kind::Apart, 4, &long), 5000);
        let at = incoming.tail.as_ref().map(|tail| tail.bytes.as_ptr());
        let (_, whole) = incoming.next().unwrap().unwrap();
        let (first, rest) = whole.split_off::<APART>().unwrap();
        assert!([&first[..], &rest].concat() == long);
        assert_eq!(at.is_some_and(|at| at == rest.as_ptr()), length >= LONG);
    }
    let mut incoming = Incoming::default();
    feed(&mut incoming, &frame(Kind::Apart, 1, &[0; APART - 1]), 1);
    let (_, body) = incoming.next().unwrap().unwrap();
    assert!(body.split_off::<APART>().is_none());
}

#[test]
fn an_empty_buffer_that_was_long_is_given_back() {
    let mut incoming = Incoming::default();
    feed(&mut incoming, &frame(Kind::Panicked, 1, &body(4 * CHUNK)), CHUNK);
    assert!(incoming.shrink().is_none(), "it is in use");
    next(&mut incoming);
    assert!(incoming.shrink().is_some_and(|buffer| buffer.capacity() > 4 * CHUNK));
    assert!(incoming.shrink().is_none());
    feed(&mut incoming, &frame(Kind::Panicked, 2, b"short"), 1);
    assert_eq!(next(&mut incoming), (2, b"short".to_vec(), None));
}

/// Each time that a long buffer grows, all of it may be moved: over a socket, which brings little at a
/// time, that took ten times as long as all the rest.
#[test]
fn a_long_body_is_not_moved_again_and_again() {
    let tail = 16 << 20;
    let mut incoming = Incoming::default();
    feed(&mut incoming, &Header::with_tail(Kind::Value, 1, 1, tail).to_bytes(), 16);
    feed(&mut incoming, b"x", 1);
    feed(&mut incoming, &[7; 5000], 5000);
    let at = incoming.tail.as_ref().unwrap().bytes.as_ptr();
    for _ in 0..(tail - 5000) / 5000 {
        feed(&mut incoming, &[7; 5000], 5000);
        assert_eq!(incoming.tail.as_ref().unwrap().bytes.as_ptr(), at);
    }
    // What has no tail: as many moves as it takes to double.
    let mut incoming = Incoming::default();
    feed(&mut incoming, &Header::new(Kind::Panicked, 1, tail).to_bytes(), 16);
    let (mut moves, mut capacity) = (0, 0);
    for _ in 0..tail / 5000 {
        feed(&mut incoming, &[7; 5000], 5000);
        moves += u32::from(incoming.buffer.capacity() != capacity);
        capacity = incoming.buffer.capacity();
    }
    assert!(moves < 16, "it has been moved {moves} times");
}

#[test]
fn a_claimed_length_costs_no_memory() {
    for header in [
        Header { length: MAX_BODY, ..Header::new(Kind::Value, 0, 0) },
        Header { length: MAX_BODY, tail: Some(4), ..Header::new(Kind::Value, 0, 0) },
    ] {
        let mut incoming = Incoming::default();
        feed(&mut incoming, &header.to_bytes(), 16);
        feed(&mut incoming, &[0; 100], 100);
        assert!(incoming.next().unwrap().is_none());
        // Nothing but what has come was written, and so nothing else touched.
        let tail = incoming.tail.as_ref().map_or(0, |tail| tail.bytes.len());
        assert_eq!(incoming.buffer.len() + tail, 116);
        assert!(incoming.buffer.capacity() <= 2 * AT_ONCE);
    }
}

#[test]
fn what_is_no_frame_is_said() {
    let mut incoming = Incoming::default();
    feed(&mut incoming, &[0xff; 16], 16);
    assert!(incoming.is_ready());
    assert!(incoming.next().is_err());
    let too_long = Header { length: MAX_BODY + 1, ..Header::new(Kind::Value, 0, 0) };
    // A tail that begins behind the body's end, and one where none belongs.
    let behind = Header { tail: Some(8), ..Header::new(Kind::Value, 0, 7) };
    for header in [too_long, behind] {
        let mut incoming = Incoming::default();
        feed(&mut incoming, &header.to_bytes(), 16);
        assert!(matches!(incoming.next(), Err(Malformed::Length(_))));
    }
    let mut incoming = Incoming::default();
    feed(&mut incoming, &Header::with_tail(Kind::Spent, 0, 1, 1).to_bytes(), 16);
    assert!(matches!(incoming.next(), Err(Malformed::Kind(_))));
}

#[test]
fn appended_bytes_continue_the_stream() {
    let mut incoming = Incoming::default();
    let bytes = frame(Kind::Panicked, 5, b"hello");
    feed(&mut incoming, &bytes[..9], 9);
    incoming.append(&bytes[9..]);
    assert_eq!(next(&mut incoming), (5, b"hello".to_vec(), None));
}

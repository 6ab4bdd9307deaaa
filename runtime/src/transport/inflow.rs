//! Cutting messages out of a stream of bytes that arrives in pieces.
//!
//! On the stream, a message is its length and its bytes. The length takes eight bytes, little-endian;
//! the highest two are a [mark](MARK), by which a stream of something else is found out.
//!
//! ```text
//! Head --8 bytes, marked--> Body --all bytes, by a receiver--> Head
//!   |                         |
//!   |                         +--a receiver's limit is lower--> Skip --all bytes--> Head
//!   +--8 bytes, no mark--> Malformed
//! ```
//!
//! A receiver takes bytes until a message is whole; one that gives up leaves the state as it is, for the
//! next. Never is a byte taken after the message's last one, and who only wants to know whether a message
//! is there leaves the last one where it is: so a whole message is never in here, and its descriptor is
//! readable as long as there is something to receive.
//!
//! A length claims no memory: the buffer at most doubles what has arrived.

use std::io::{self, ErrorKind, Read};

use super::link::LinkError;

/// In the two highest bytes of a message's head.
const MARK: u64 = 0x9c50;
const MARK_SHIFT: u32 = 48;
pub(super) const HEAD: usize = 8;

/// Longer than any memory of today; what a head can say.
pub(super) const MAX_LENGTH: u64 = (1 << MARK_SHIFT) - 1;

/// Reserved for a body of which nothing has arrived yet. Most messages are shorter, and take one read.
const FIRST: usize = 64 * 1024;

/// Taken in one go, so that a peer that sends faster than we read doesn't keep a receiver from its
/// deadline. It is much more than a socket holds.
const TURN: usize = 4 << 20;

/// The head of a message.
pub(super) fn head(length: u64) -> [u8; HEAD] {
    assert!(length <= MAX_LENGTH, "no memory holds so much");
    (MARK << MARK_SHIFT | length).to_le_bytes()
}

fn length_in(head: [u8; HEAD]) -> Option<u64> {
    let word = u64::from_le_bytes(head);
    (word >> MARK_SHIFT == MARK).then_some(word & MAX_LENGTH)
}

/// Where the bytes come from; it doesn't block, but says `WouldBlock`.
pub(super) trait Source: Read {
    /// The next byte, which stays there; none at the end.
    fn peek(&mut self) -> io::Result<Option<u8>>;
}

/// How far taking in has come.
#[derive(PartialEq, Eq, Debug)]
enum Found {
    /// What it was to come to.
    Goal,
    /// There are no more bytes for now.
    Blocked,
    /// There may be more bytes, but it is time to look at the clock.
    Busy,
}

/// What a receiver found.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Received {
    Message(Vec<u8>),
    /// No whole message; bytes have to arrive first.
    Blocked,
    /// No whole message yet, but there may be more bytes.
    Busy,
}

/// Whether a receiver would find something.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Prospect {
    Good,
    Blocked,
    Busy,
}

#[derive(Debug)]
enum State {
    Head { bytes: [u8; HEAD], have: usize },
    Body { length: u64, body: Vec<u8> },
    Skip { left: u64 },
    Malformed,
}

impl State {
    const NEW: Self = Self::Head { bytes: [0; HEAD], have: 0 };
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Inflow {
    state: State,
}

impl Default for Inflow {
    fn default() -> Self {
        Self { state: State::NEW }
    }
}

impl Inflow {
    /// Whether nothing of a message has been taken in that hasn't been received.
    pub(super) fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Head { have: 0, .. })
    }

    /// Takes in what is there until a message is whole.
    ///
    /// # Errors
    /// As [`Link::receive`](super::link::Link::receive), but that it never waits.
    pub(super) fn receive(
        &mut self,
        source: &mut impl Source,
        limit: u64,
    ) -> Result<Received, LinkError> {
        let limit = limit.min(isize::MAX as u64);
        match self.take_in(source, limit, false)? {
            Found::Blocked => return Ok(Received::Blocked),
            Found::Busy => return Ok(Received::Busy),
            Found::Goal => {}
        }
        match std::mem::replace(&mut self.state, State::NEW) {
            State::Body { length, body } if length > limit => {
                self.state = State::Skip { left: length - body.len() as u64 };
                Err(LinkError::TooLong { length, limit })
            }
            State::Body { body, .. } => Ok(Received::Message(body)),
            _ => {
                self.state = State::Malformed;
                Err(LinkError::Malformed)
            }
        }
    }

    /// Takes in all but the last byte of a message.
    pub(super) fn look(&mut self, source: &mut impl Source, limit: u64) -> Prospect {
        match self.take_in(source, limit.min(isize::MAX as u64), true) {
            Ok(Found::Blocked) => Prospect::Blocked,
            Ok(Found::Busy) => Prospect::Busy,
            Ok(Found::Goal) | Err(_) => Prospect::Good,
        }
    }

    /// Goes on until the state is a whole body, one above the limit, or malformed; or, to `leave` it
    /// there, until one more byte makes it so.
    fn take_in(
        &mut self,
        source: &mut impl Source,
        limit: u64,
        leave: bool,
    ) -> Result<Found, LinkError> {
        let mut turn = TURN;
        while turn > 0 {
            match &mut self.state {
                State::Malformed => return Ok(Found::Goal),
                State::Head { bytes, have: HEAD } => {
                    self.state = match length_in(*bytes) {
                        Some(length) => State::Body { length, body: Vec::new() },
                        None => State::Malformed,
                    };
                }
                State::Head { bytes, have } => {
                    let last = HEAD - 1;
                    if leave && *have == last {
                        let Some(byte) = peek(source)? else { return Ok(Found::Blocked) };
                        bytes[last] = byte;
                        if length_in(*bytes).is_none_or(|length| length == 0 || length > limit) {
                            return Ok(Found::Goal);
                        }
                    }
                    let end = if leave && *have < last { last } else { HEAD };
                    match read(source, &mut bytes[*have..end])? {
                        Some(count) => *have += count,
                        None => return Ok(Found::Blocked),
                    }
                }
                State::Body { length, body } => {
                    let missing = *length - body.len() as u64;
                    if *length > limit || missing == 0 {
                        return Ok(Found::Goal);
                    }
                    if leave && missing == 1 {
                        let next = peek(source)?;
                        return Ok(if next.is_some() { Found::Goal } else { Found::Blocked });
                    }
                    let missing = usize::try_from(missing).expect("the limit is below it");
                    let wanted = (missing - usize::from(leave)).min(turn);
                    match append(source, body, wanted, missing)? {
                        Some(count) => turn -= count,
                        None => return Ok(Found::Blocked),
                    }
                }
                State::Skip { left: 0 } => self.state = State::NEW,
                State::Skip { left } => {
                    let mut sink = [0; 16 * 1024];
                    let most = usize::try_from(*left).unwrap_or(usize::MAX).min(sink.len());
                    match read(source, &mut sink[..most])? {
                        Some(count) => {
                            *left -= count as u64;
                            turn = turn.saturating_sub(count);
                        }
                        None => return Ok(Found::Blocked),
                    }
                }
            }
        }
        Ok(Found::Busy)
    }
}

/// Reads at least one byte; none: there isn't any yet.
fn read(source: &mut impl Source, buffer: &mut [u8]) -> Result<Option<usize>, LinkError> {
    loop {
        match source.read(buffer) {
            Ok(0) => return Err(LinkError::Disconnected),
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Appends at most `wanted` bytes of those that are `missing`, and says how many; none: there are no more
/// for now.
fn append(
    source: &mut impl Source,
    body: &mut Vec<u8>,
    wanted: usize,
    missing: usize,
) -> Result<Option<usize>, LinkError> {
    if body.capacity() == body.len() {
        body.reserve_exact(missing.min(body.len().max(FIRST)));
    }
    let most = wanted.min(body.capacity() - body.len());
    let before = body.len();
    match source.take(most as u64).read_to_end(body) {
        Ok(_) if body.len() - before < most => Err(LinkError::Disconnected),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn peek(source: &mut impl Source) -> Result<Option<u8>, LinkError> {
    loop {
        match source.peek() {
            Ok(None) => return Err(LinkError::Disconnected),
            Ok(byte) => return Ok(byte),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// Knuth's MMIX generator: the same numbers in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % end
        }
    }

    /// Pieces that arrive one by one: after each, the source blocks once.
    #[derive(Default)]
    struct Pieces(VecDeque<VecDeque<u8>>);

    impl Pieces {
        fn cut(bytes: &[u8], random: &mut Random) -> Self {
            let mut pieces = VecDeque::new();
            let mut rest = bytes;
            while !rest.is_empty() {
                let most = [1, 3, 20, 5000][random.below(4)];
                let (piece, tail) = rest.split_at(random.below(most + 1).min(rest.len()));
                pieces.push_back(piece.iter().copied().collect());
                rest = tail;
            }
            Self(pieces)
        }

        /// The piece that is there; none at the end.
        fn first(&mut self) -> io::Result<Option<&mut VecDeque<u8>>> {
            if self.0.front().is_some_and(VecDeque::is_empty) {
                self.0.pop_front();
                return Err(ErrorKind::WouldBlock.into());
            }
            Ok(self.0.front_mut())
        }
    }

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.first()?.map_or(Ok(0), |piece| piece.read(buffer))
        }
    }

    impl Source for Pieces {
        fn peek(&mut self) -> io::Result<Option<u8>> {
            Ok(self.first()?.map(|piece| piece[0]))
        }
    }

    fn message(bytes: &[u8]) -> Vec<u8> {
        [&head(bytes.len() as u64), bytes].concat()
    }

    /// Every cut, every mix of looking and receiving, every limit: the same messages.
    #[test]
    fn messages_survive_any_cut() {
        let mut random = Random(1);
        for _ in 0..2000 {
            let lengths: Vec<usize> = (0..6)
                .map(|_| {
                    let most = [1, 3, 10, 300, 20_000][random.below(5)];
                    random.below(most)
                })
                .collect();
            let bodies: Vec<Vec<u8>> =
                (0..).zip(&lengths).map(|(i, length)| vec![i; *length]).collect();
            let stream: Vec<u8> = bodies.iter().flat_map(|body| message(body)).collect();
            let mut source = Pieces::cut(&stream, &mut random);
            let mut inflow = Inflow::default();
            for body in bodies {
                let limit = [0, 5, 100, u64::MAX][random.below(4)];
                loop {
                    let was_good = match random.below(3) {
                        0 => inflow.look(&mut source, limit) == Prospect::Good,
                        _ => false,
                    };
                    match inflow.receive(&mut source, limit) {
                        Ok(Received::Message(bytes)) => {
                            assert!(bytes == body);
                            break;
                        }
                        Ok(_) => assert!(!was_good, "what looked good has to be there"),
                        Err(LinkError::TooLong { length, limit: allowed }) => {
                            assert_eq!((length, allowed), (body.len() as u64, limit));
                            assert!(length > limit);
                            break;
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            assert!(
                source.0.iter().all(VecDeque::is_empty)
                    || matches!(inflow.state, State::Skip { .. })
            );
        }
    }

    #[test]
    fn garbage_is_told_from_messages_and_stays_what_it_is() {
        let mut random = Random(2);
        let mut malformed = 0;
        for _ in 0..20_000 {
            let length = random.below(200);
            let mut stream: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            if random.below(2) == 0 && length >= HEAD {
                // A mark in front of whatever length there is.
                stream[6..8].copy_from_slice(&(MARK as u16).to_le_bytes());
            }
            let mut source = Pieces::cut(&stream, &mut random);
            let mut inflow = Inflow::default();
            loop {
                match inflow.receive(&mut source, u64::MAX) {
                    Ok(Received::Message(bytes)) => assert!(bytes.len() < 200),
                    Ok(_) | Err(LinkError::TooLong { .. }) => {}
                    Err(LinkError::Disconnected) => break,
                    Err(LinkError::Malformed) => {
                        malformed += 1;
                        assert_eq!(inflow.look(&mut source, 0), Prospect::Good);
                        let again = inflow.receive(&mut source, 0);
                        assert!(matches!(again, Err(LinkError::Malformed)), "{again:?}");
                        break;
                    }
                    Err(LinkError::TimedOut | LinkError::System(_)) => panic!("not here"),
                }
            }
        }
        assert!(malformed > 5000, "{malformed}");
    }

    #[test]
    fn a_length_claims_no_memory() {
        let mut stream = head(1 << 40).to_vec();
        stream.extend([7; 100_000]);
        let mut inflow = Inflow::default();
        let mut source = Pieces(VecDeque::from([stream.into()]));
        assert_eq!(inflow.receive(&mut source, u64::MAX).unwrap(), Received::Blocked);
        match &inflow.state {
            State::Body { body, .. } => assert!(body.capacity() <= 200_000, "{}", body.capacity()),
            other => panic!("{other:?}"),
        }
        // It is refused as soon as somebody allows less, and what was kept of it is let go.
        assert!(matches!(inflow.receive(&mut source, 100), Err(LinkError::TooLong { .. })));
        assert!(matches!(inflow.state, State::Skip { left } if left == (1 << 40) - 100_000));
    }

    #[test]
    fn one_that_never_ends_does_not_keep_a_receiver_from_its_deadline() {
        struct Endless(Vec<u8>);

        impl Read for Endless {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let head = self.0.len().min(buffer.len());
                buffer[..head].copy_from_slice(&self.0[..head]);
                self.0.drain(..head);
                Ok(buffer.len())
            }
        }

        impl Source for Endless {
            fn peek(&mut self) -> io::Result<Option<u8>> {
                Ok(Some(self.0.first().copied().unwrap_or(0)))
            }
        }

        let mut source = Endless(head(1 << 47).into());
        let mut inflow = Inflow::default();
        assert_eq!(inflow.receive(&mut source, u64::MAX).unwrap(), Received::Busy);
        assert_eq!(inflow.look(&mut source, u64::MAX), Prospect::Busy);
        inflow.receive(&mut source, 0).unwrap_err();
        assert_eq!(inflow.receive(&mut source, 0).unwrap(), Received::Busy);
        assert_eq!(inflow.look(&mut source, 0), Prospect::Busy);
    }
}

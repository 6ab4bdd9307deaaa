//! Frames: 16 bytes of header and a body, little-endian, cut out of a stream of bytes.
//!
//! ```text
//! kind u8 | 0 u8 | 0 u16 | number u32 | length of the body u64 | body
//! ```
//!
//! Results are mostly tiny and many, so those of up to 127 bytes have a head of their own:
//!
//! ```text
//! 128 + length u8 | number, the lowest 24 bits | result
//! ```

use std::io;
use std::sync::atomic::AtomicU8;

use crate::os::memory::copy_owned;

/// Longer bodies are refused. It is above any memory of today, and keeps sums of lengths from
/// overflowing.
pub(crate) const MAX_BODY: u64 = 1 << 40;

/// Read at a time; also how much is kept when nothing is in it.
const CHUNK: usize = 64 * 1024;

/// Read at first: a process that gets one short task touches no more memory than that.
const FIRST: usize = 4 * 1024;

/// A body at least this long is read to its exact end, so that its buffer can be given away whole.
const LARGE: usize = 256 * 1024;

/// What a frame is about. The numbers are on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Parent: run this once before any task.
    Init = 1,
    /// Parent: items of one callable.
    Tasks = 2,
    /// Parent: a callable with bound arguments, to be kept under a number.
    Bind = 3,
    /// Parent: forget that number.
    Forget = 4,
    /// Parent: end.
    Exit = 5,
    /// Parent: a board to claim items from.
    Join = 6,
    /// Parent, to a fork server: make a process for the socket that comes with it.
    Fork = 7,

    /// Worker: it runs the right build and takes tasks.
    Ready = 64,
    /// Worker: it can't serve, with the reason.
    Refused = 65,
    /// Worker: the initializer is done.
    InitDone = 66,
    /// Worker: the initializer failed, with the reason.
    InitFailed = 67,
    /// Worker: an item's result.
    Value = 68,
    /// Worker: an item panicked.
    Panicked = 69,
    /// Worker: an item's arguments can't be decoded.
    BadArguments = 70,
    /// Worker: an item's result can't be encoded.
    BadResult = 71,
    /// Worker: an item's result with handles in it, as the name of a parcel.
    Parcel = 73,
    /// Fork server: it has made a process; its number.
    Forked = 78,
    /// Fork server: the system doesn't let it make one; the error's number.
    NotForked = 79,
    /// Worker: the nanoseconds that some items have taken.
    Spent = 72,
    /// Worker: results of items that it has claimed.
    Values = 74,
    /// Worker: what became of one such item, when that isn't a short result.
    Apart = 75,
    /// Worker: it finds no more items on a board; how many it has run, and their nanoseconds.
    Left = 76,
    /// Worker: there is more work on a board than those can do soon who were told of it.
    More = 77,
}

impl Kind {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        use Kind::*;
        // The most frequent come first: this runs for every item.
        [
            Value,
            Tasks,
            Spent,
            Values,
            Join,
            Left,
            Panicked,
            Init,
            Bind,
            Forget,
            Exit,
            Ready,
            Refused,
            InitDone,
            InitFailed,
            Parcel,
            BadArguments,
            BadResult,
            Apart,
            More,
            Fork,
            Forked,
            NotForked,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// The head of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) number: u32,
    pub(crate) length: u64,
}

impl Header {
    pub(crate) const SIZE: usize = 16;

    pub(crate) fn new(kind: Kind, number: u32, length: usize) -> Self {
        Self { kind, number, length: length as u64 }
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0] = self.kind as u8;
        bytes[4..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::SIZE]) -> Result<Self, Malformed> {
        let word = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        let length = u64::from_le_bytes(bytes[8..].try_into().expect("eight bytes"));
        let kind = Kind::from_byte(word as u8).filter(|_| word & 0xffff_ff00 == 0);
        let kind = kind.ok_or(Malformed::Kind(word as u32))?;
        if length > MAX_BODY {
            return Err(Malformed::Length(length));
        }
        Ok(Self { kind, number: (word >> 32) as u32, length })
    }
}

/// The head of a tiny result.
pub(crate) struct Small;

impl Small {
    pub(crate) const SIZE: usize = 4;
    pub(crate) const MAX: usize = 127;
    /// The part of the number that it holds.
    pub(crate) const NUMBER: u32 = 0x00ff_ffff;
    const MARK: u8 = 128;

    pub(crate) fn to_bytes(number: u32, length: usize) -> [u8; Self::SIZE] {
        let [low, middle, high, _] = number.to_le_bytes();
        [Self::MARK | length as u8, low, middle, high]
    }

    /// The number and the length of the tiny result that begins here, if one does.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(u32, usize)> {
        let [mark, low, middle, high] = *bytes.first_chunk::<{ Self::SIZE }>()?;
        let number = u32::from_le_bytes([low, middle, high, 0]);
        (mark >= Self::MARK).then_some((number, usize::from(mark & !Self::MARK)))
    }

    /// Whether what begins here is, or will be, a tiny result.
    pub(crate) fn begins(bytes: &[u8]) -> bool {
        bytes.first().is_some_and(|mark| *mark >= Self::MARK)
    }
}

/// Bytes that are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Malformed {
    Kind(u32),
    Length(u64),
    /// There are no bytes where they should be.
    Position,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kind(word) => write!(f, "a frame that begins with {word:#010x}"),
            Self::Length(length) => write!(f, "a frame that claims {length} bytes"),
            Self::Position => f.write_str("a position in its stream where it can't be"),
        }
    }
}

/// The body of a frame: borrowed, or taken whole when it is large.
pub(crate) struct Body<'a> {
    incoming: &'a mut Incoming,
    start: usize,
    end: usize,
}

impl Body<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.incoming.buffer[self.start..self.end]
    }

    /// The buffer that the body ends, and where it begins in it; none if it is small.
    pub(crate) fn take_large(&mut self) -> Option<(Vec<u8>, usize)> {
        let incoming = &mut *self.incoming;
        if self.end - self.start < LARGE || self.end != incoming.end {
            return None;
        }
        let mut buffer = std::mem::take(&mut incoming.buffer);
        buffer.truncate(self.end);
        incoming.start = 0;
        incoming.end = 0;
        Some((buffer, self.start))
    }
}

/// The bytes that have arrived and don't make a frame yet, or weren't asked for.
#[derive(Default)]
pub(crate) struct Incoming {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Incoming {
    /// Reads once, as much as there is room for. Zero: the stream has ended.
    pub(crate) fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let room = self.make_room();
        let count = read(&mut self.buffer[self.end..self.end + room])?;
        self.end += count;
        if count == room && self.buffer.len() < CHUNK {
            // There is more than a little: the next read takes a lot.
            self.buffer.resize(CHUNK, 0);
        }
        Ok(count)
    }

    /// Appends bytes that came another way.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.buffer.truncate(self.end);
        self.buffer.extend_from_slice(bytes);
        self.end = self.buffer.len();
    }

    /// How many bytes are best taken next, of many: a large body is taken to its exact end.
    pub(crate) fn wanted(&self) -> usize {
        match self.header() {
            Some(Ok(header)) if header.length >= LARGE as u64 && self.missing() > 0 => {
                self.missing()
            }
            _ => usize::MAX,
        }
    }

    /// Appends bytes of shared memory, copied once.
    pub(crate) fn append_shared(&mut self, bytes: &[AtomicU8]) {
        self.buffer.truncate(self.end);
        if self.start == self.end {
            self.buffer.clear();
            self.start = 0;
            if self.buffer.capacity() > 4 * CHUNK {
                self.buffer = Vec::new();
            }
        } else if self.start > self.end / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        copy_owned(bytes, &mut self.buffer);
        self.end = self.buffer.len();
    }

    /// Room at the end for one read, without trust in the length that a header claims: the buffer at
    /// most doubles.
    fn make_room(&mut self) -> usize {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.buffer.len() > 4 * CHUNK {
                self.buffer = Vec::new();
            }
        }
        let missing = self.missing();
        if self.start > 0 && (self.buffer.len() - self.end) < missing.clamp(1, CHUNK) {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let least = if self.buffer.is_empty() { FIRST } else { CHUNK };
        let wanted = missing.clamp(least, self.end.max(least));
        if self.buffer.len() - self.end < wanted.min(missing.max(1)) || self.buffer.is_empty() {
            self.buffer.resize(self.end + wanted, 0);
        }
        let room = self.buffer.len() - self.end;
        if missing >= LARGE { room.min(missing) } else { room }
    }

    /// How many bytes the frame that has begun still lacks.
    fn missing(&self) -> usize {
        let have = self.end - self.start;
        match self.header() {
            Some(Ok(header)) => (header.length as usize + Header::SIZE).saturating_sub(have),
            _ => Header::SIZE.saturating_sub(have),
        }
    }

    fn header(&self) -> Option<Result<Header, Malformed>> {
        let bytes = self.buffer[self.start..self.end].first_chunk::<{ Header::SIZE }>()?;
        Some(Header::from_bytes(*bytes))
    }

    /// Whether a whole frame is there, or bytes that can't be one.
    pub(crate) fn is_ready(&self) -> bool {
        match self.header() {
            None => false,
            Some(Err(_)) => true,
            Some(Ok(_)) => self.missing() == 0,
        }
    }

    /// Cuts the next whole frame off.
    pub(crate) fn next(&mut self) -> Result<Option<(Header, Body<'_>)>, Malformed> {
        let Some(header) = self.header().transpose()? else { return Ok(None) };
        let start = self.start + Header::SIZE;
        let end = start + header.length as usize;
        if end > self.end {
            return Ok(None);
        }
        self.start = end;
        Ok(Some((header, Body { incoming: self, start, end })))
    }

    /// All bytes that are there.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Skips bytes that were handled.
    pub(crate) fn skip(&mut self, count: usize) {
        self.start += count.min(self.end - self.start);
    }

    /// As [`next`](Self::next), with the body borrowed.
    pub(crate) fn next_bytes(&mut self) -> Result<Option<(Header, &[u8])>, Malformed> {
        Ok(self.next()?.map(|(header, body)| {
            let Body { incoming, start, end } = body;
            (header, &incoming.buffer[start..end])
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(incoming: &mut Incoming, mut bytes: &[u8], step: usize) {
        while !bytes.is_empty() {
            let count = incoming
                .fill(|buffer| {
                    let count = step.min(bytes.len()).min(buffer.len());
                    buffer[..count].copy_from_slice(&bytes[..count]);
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

    #[test]
    fn frames_come_out_however_they_were_cut() {
        let bodies = [0, 1, 15, 16, 17, CHUNK - 16, CHUNK, LARGE, 3 * LARGE + 1];
        for step in [1, 7, 16, 4096, usize::MAX] {
            let mut incoming = Incoming::default();
            for (number, length) in (0..).zip(bodies) {
                if step < 16 && length > CHUNK {
                    continue;
                }
                let body: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
                feed(&mut incoming, &frame(Kind::Value, number, &body), step);
                assert!(incoming.is_ready());
                let (header, got) = incoming.next().unwrap().unwrap();
                assert_eq!((header.number, got.bytes()), (number, &body[..]));
                assert!(incoming.next().unwrap().is_none());
            }
        }
    }

    #[test]
    fn a_large_body_is_given_away_whole() {
        let mut incoming = Incoming::default();
        let body = vec![9; LARGE];
        feed(&mut incoming, &frame(Kind::Value, 1, &body), CHUNK);
        let (_, mut got) = incoming.next().unwrap().unwrap();
        let (buffer, start) = got.take_large().unwrap();
        assert_eq!(&buffer[start..], &body[..]);
        feed(&mut incoming, &frame(Kind::Value, 2, b"x"), CHUNK);
        assert_eq!(incoming.next_bytes().unwrap().unwrap().1, b"x");
    }

    #[test]
    fn a_claimed_length_costs_no_memory() {
        let mut incoming = Incoming::default();
        feed(
            &mut incoming,
            &Header { kind: Kind::Value, number: 0, length: MAX_BODY }.to_bytes(),
            16,
        );
        feed(&mut incoming, &[0; 100], 100);
        assert!(incoming.next().unwrap().is_none());
        assert!(incoming.buffer.len() <= 4 * CHUNK);
    }

    #[test]
    fn what_is_no_frame_is_said() {
        let mut incoming = Incoming::default();
        feed(&mut incoming, &[0xff; 16], 16);
        assert!(incoming.is_ready());
        assert!(incoming.next().is_err());
        let mut incoming = Incoming::default();
        let header = Header { kind: Kind::Value, number: 0, length: MAX_BODY + 1 };
        feed(&mut incoming, &header.to_bytes(), 16);
        assert!(matches!(incoming.next(), Err(Malformed::Length(_))));
    }

    #[test]
    fn appended_bytes_continue_the_stream() {
        let mut incoming = Incoming::default();
        let bytes = frame(Kind::Panicked, 5, b"hello");
        feed(&mut incoming, &bytes[..9], 9);
        incoming.append(&bytes[9..]);
        assert_eq!(incoming.next_bytes().unwrap().unwrap().1, b"hello");
    }
}

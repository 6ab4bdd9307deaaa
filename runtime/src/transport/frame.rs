//! Frames: 16 bytes of header and a body, little-endian, cut out of a stream of bytes.
//!
//! ```text
//! kind u8 | 0 u8 | tail u16 | number u32 | length of the body u64 | body
//! ```
//!
//! A body may have a *tail*: long bytes at its end, which whoever receives them may keep as they are. So
//! they come into memory of their own, without a copy on the way. The header says where the tail begins in
//! the body, plus one; 0 if the sender makes none. Then a long [`Value`](Kind::Value) is all tail, and a long
//! [`Apart`](Kind::Apart) is but for its head: a parent moves long results, it doesn't copy them.
//!
//! Where a frame is split doesn't depend on what its bytes mean; but a tail that the header tells of is the
//! text or the vector that the value ends with, and any other is the end of what was encoded as a whole. And
//! a frame that is there before it is looked for, with others, is not split: the tail stands with the rest.
//!
//! Results are mostly tiny and many, so those of up to 127 bytes have a head of their own:
//!
//! ```text
//! 128 + length u8 | number, the lowest 24 bits | result
//! ```

use std::io;
use std::sync::atomic::AtomicU8;

use super::board::APART;
use super::spare;
use crate::os::memory::{append, copy_owned};

/// Longer bodies are refused. It is above any memory of today, and keeps sums of lengths from
/// overflowing.
pub(crate) const MAX_BODY: u64 = 1 << 40;

/// Read at a time; also a measure for how much is kept when nothing is in it.
const CHUNK: usize = 64 * 1024;

/// The first time less is read: all that a process for a single call ever gets, for which its heap need not
/// grow.
const FIRST: usize = 2 * 1024;

/// Read at most at a time, of a long body: more than a socket holds.
const AT_ONCE: usize = 1 << 20;

/// Long bytes at the end of a body are worth a tail, of this length or more. Shorter ones pass through memory
/// that the processor has at hand, and copies of them cost little.
pub(crate) const LONG: usize = 64 * 1024;

/// Of a frame whose beginning isn't known so much is looked at first, where a long one may begin: its header,
/// and mostly all before the tail.
pub(super) const BEGINNING: usize = 128;

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
    /// Where the tail of the body begins, if it has one.
    pub(crate) tail: Option<u16>,
}

impl Header {
    pub(crate) const SIZE: usize = 16;

    pub(crate) fn new(kind: Kind, number: u32, length: usize) -> Self {
        Self { kind, number, length: length as u64, tail: None }
    }

    /// That of a frame whose body ends with a tail, which begins at `head`.
    pub(crate) fn with_tail(kind: Kind, number: u32, head: usize, tail: usize) -> Self {
        let at = u16::try_from(head).ok().filter(|at| *at < u16::MAX);
        Self { tail: at, ..Self::new(kind, number, head + tail) }
    }

    /// How many bytes come before the tail, and how many it has.
    fn split(self) -> Option<(usize, usize)> {
        let head = match (self.tail, self.kind) {
            (Some(at), _) => usize::from(at),
            (None, Kind::Value) if self.length >= LONG as u64 => 0,
            (None, Kind::Apart) if self.length >= LONG as u64 => APART,
            _ => return None,
        };
        Some((Self::SIZE + head, self.length as usize - head))
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[0] = self.kind as u8;
        bytes[2..4].copy_from_slice(&self.tail.map_or(0, |at| at + 1).to_le_bytes());
        bytes[4..8].copy_from_slice(&self.number.to_le_bytes());
        bytes[8..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::SIZE]) -> Result<Self, Malformed> {
        let word = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        let length = u64::from_le_bytes(bytes[8..].try_into().expect("eight bytes"));
        let kind = Kind::from_byte(word as u8).filter(|_| word & 0xff00 == 0);
        let kind = kind.ok_or(Malformed::Kind(word as u32))?;
        let tail = ((word >> 16) as u16).checked_sub(1);
        if tail.is_some() && !matches!(kind, Kind::Tasks | Kind::Value) {
            return Err(Malformed::Kind(word as u32));
        }
        if length > MAX_BODY || tail.is_some_and(|at| u64::from(at) > length) {
            return Err(Malformed::Length(length));
        }
        Ok(Self { kind, number: (word >> 32) as u32, length, tail })
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

/// The body of a frame: what is borrowed, and behind it a tail, unless that came together with the rest.
pub(crate) struct Body<'a> {
    bytes: &'a [u8],
    tail: Option<Vec<u8>>,
}

impl<'a> Body<'a> {
    /// All of it but the tail.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes that follow, if they have memory of their own.
    pub(crate) fn take_tail(&mut self) -> Option<Vec<u8>> {
        self.tail.take()
    }

    /// All but the first `N` bytes, in memory of their own, and these. None: there are fewer.
    pub(crate) fn split_off<const N: usize>(self) -> Option<([u8; N], Vec<u8>)> {
        let (head, rest) = self.bytes.split_first_chunk()?;
        let rest = match self.tail {
            Some(tail) if rest.is_empty() => tail,
            tail => [rest, &tail.unwrap_or_default()].concat(),
        };
        Some((*head, rest))
    }
}

/// The bytes that have arrived and don't make a frame yet, or weren't asked for.
///
/// They stand in the buffer, one behind the other, but for the tail of the first frame if that hadn't arrived
/// as a whole when this frame became the first. Nothing is touched, nor zeroed, before something has arrived
/// for it, so a length that somebody claims costs nothing.
#[derive(Default)]
pub(crate) struct Incoming {
    buffer: Vec<u8>,
    start: usize,
    tail: Option<Tail>,
}

/// The tail of the first frame, as far as it has arrived.
struct Tail {
    bytes: Vec<u8>,
    length: usize,
}

impl Tail {
    fn missing(&self) -> usize {
        self.length - self.bytes.len()
    }

    /// Has room for so many bytes more. The memory at most doubles: see [`spare::take`] for its beginning.
    fn make_room(&mut self, count: usize) {
        if self.bytes.capacity() - self.bytes.len() < count {
            let more = self.missing().min(self.bytes.len().max(count));
            self.bytes.reserve_exact(more);
        }
    }
}

impl Incoming {
    /// Reads once, as `read` does onto a vector, so many bytes at most. Zero: the stream has ended.
    pub(crate) fn fill(
        &mut self,
        read: impl FnOnce(&mut Vec<u8>, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if let Some(tail) = self.arriving() {
            let most = tail.missing().min(AT_ONCE);
            tail.make_room(most);
            return read(&mut tail.bytes, most);
        }
        let least = if self.buffer.capacity() == 0 { FIRST } else { CHUNK };
        let most = self.missing().clamp(least, AT_ONCE);
        self.make_room(most);
        read(&mut self.buffer, most)
    }

    /// Appends bytes that came another way.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) {
        if let Some(tail) = self.arriving() {
            let (first, rest) = bytes.split_at(bytes.len().min(tail.missing()));
            tail.make_room(first.len());
            append(first, &mut tail.bytes);
            bytes = rest;
        }
        self.make_room(bytes.len());
        append(bytes, &mut self.buffer);
    }

    /// How many bytes are best taken next, of many.
    pub(crate) fn wanted(&mut self) -> usize {
        if let Some(tail) = self.arriving() {
            return tail.missing();
        }
        if self.start == self.buffer.len() { BEGINNING } else { usize::MAX }
    }

    /// Whether more is to come of a tail.
    pub(crate) fn is_arriving(&mut self) -> bool {
        self.arriving().is_some()
    }

    /// Whether the first frame is there, with a tail.
    pub(crate) fn has_tail(&self) -> bool {
        self.tail.as_ref().is_some_and(|tail| tail.missing() == 0)
    }

    /// Appends bytes of shared memory, copied once: as many as are [`wanted`](Self::wanted), or fewer.
    pub(crate) fn append_shared(&mut self, bytes: &[AtomicU8]) {
        match self.arriving() {
            Some(tail) => {
                tail.make_room(bytes.len());
                copy_owned(bytes, &mut tail.bytes);
            }
            None => {
                self.make_room(bytes.len());
                copy_owned(bytes, &mut self.buffer);
            }
        }
    }

    /// The tail of the first frame, if there is more to come of it.
    fn arriving(&mut self) -> Option<&mut Tail> {
        if self.tail.is_none() {
            let (before, length) = self.header()?.ok()?.split()?;
            let at = self.start + before;
            if self.buffer.len() < at || self.buffer.len() - at >= length {
                return None;
            }
            let mut bytes = spare::take(length);
            append(&self.buffer[at..], &mut bytes);
            self.buffer.truncate(at);
            self.tail = Some(Tail { bytes, length });
        }
        self.tail.as_mut().filter(|tail| tail.missing() > 0)
    }

    /// Room in the buffer for so many bytes more.
    fn make_room(&mut self, count: usize) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
            if self.buffer.capacity() > 4 * CHUNK {
                self.buffer = Vec::new();
            }
        } else if self.start > self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.reserve(count);
    }

    /// How many bytes the frame that has begun still lacks.
    fn missing(&self) -> usize {
        let have = self.buffer.len() - self.start;
        match self.header() {
            Some(Ok(header)) => match &self.tail {
                Some(tail) => tail.missing(),
                None => (header.length as usize + Header::SIZE).saturating_sub(have),
            },
            _ => Header::SIZE.saturating_sub(have),
        }
    }

    fn header(&self) -> Option<Result<Header, Malformed>> {
        let bytes = self.buffer[self.start..].first_chunk::<{ Header::SIZE }>()?;
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
        if self.missing() > 0 {
            return Ok(None);
        }
        let tail = self.tail.take().map(|tail| tail.bytes);
        let tail_length = tail.as_ref().map_or(0, Vec::len);
        let start = self.start + Header::SIZE;
        self.start = start + header.length as usize - tail_length;
        Ok(Some((header, Body { bytes: &self.buffer[start..self.start], tail })))
    }

    /// All bytes that are there, but for a tail of the first frame.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Skips bytes that were handled.
    pub(crate) fn skip(&mut self, count: usize) {
        self.start += count.min(self.buffer.len() - self.start);
    }

    /// Hands out the memory of a buffer that was long and is empty.
    pub(crate) fn shrink(&mut self) -> Option<Vec<u8>> {
        let is_empty = self.start == self.buffer.len() && self.tail.is_none();
        (is_empty && self.buffer.capacity() > CHUNK).then(|| {
            self.start = 0;
            std::mem::take(&mut self.buffer)
        })
    }
}

#[cfg(test)]
mod tests;

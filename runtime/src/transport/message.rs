//! The body of a [`Tasks`](super::frame::Kind::Tasks) frame: a head, then the items.
//!
//! ```text
//! callee 17 bytes | timed u8 | typed u8 | 0 u8 | epoch u32 | bound arguments' number u64 | count u32 | 0 u32
//! then for each item: length u64 | encoded arguments
//! ```
//!
//! Typed arguments of a fixed size follow each other without their lengths.
//!
//! The frame's own number is that of the first item in its epoch.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::AtomicU8;

use smallvec::SmallVec;

use super::codec::passing;
use super::frame::LONG;
use super::{LongBytes, SharedBytes, scratch};
use crate::os::memory::copy_owned;
use crate::shm::heap::Object;

/// A callable's identity, as [`Callee`](crate::worker::dispatch::Callee) writes it.
pub(crate) type CalleeBytes = [u8; 17];

/// What the items of a frame have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TaskHead {
    pub(crate) callee: CalleeBytes,
    /// The worker tells when each item starts.
    pub(crate) timed: bool,
    /// Arguments and results are encoded as [`typed`](super::codec::typed) ones.
    pub(crate) typed: bool,
    pub(crate) epoch: u32,
    /// The number under which the callable's bound arguments were sent; 0 if it has none.
    pub(crate) bound: u64,
    pub(crate) count: u32,
    /// How often they have been tried before.
    pub(crate) attempt: u32,
}

impl TaskHead {
    pub(crate) const SIZE: usize = 40;

    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..17].copy_from_slice(&self.callee);
        bytes[17] = u8::from(self.timed);
        bytes[18] = u8::from(self.typed);
        bytes[20..24].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.bound.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.count.to_le_bytes());
        bytes[36..].copy_from_slice(&self.attempt.to_le_bytes());
        bytes
    }

    /// The head and the bytes of the items behind it.
    pub(crate) fn split(body: &[u8]) -> Option<(Self, &[u8])> {
        let (head, items) = body.split_first_chunk::<{ Self::SIZE }>()?;
        let word = |at: usize| u32::from_le_bytes(*head[at..].first_chunk().expect("four bytes"));
        let head = Self {
            callee: *head.first_chunk().expect("the head begins with the callee"),
            timed: head[17] != 0,
            typed: head[18] != 0,
            epoch: word(20),
            bound: u64::from(word(24)) | u64::from(word(28)) << 32,
            count: word(32),
            attempt: word(36),
        };
        Some((head, items))
    }
}

/// At most so many bytes are reserved on the word of an iterator.
const MOST_EXPECTED: usize = 16 << 20;

/// So many bytes of a single item need no memory of their own.
const FEW: usize = 48;

/// The encoded arguments of some items, in the form in which they travel.
#[derive(Debug)]
pub(crate) enum Inputs {
    /// A single item that is short, without handles. `is_fixed`: all of its kind are as long.
    One {
        bytes: SmallVec<[u8; FEW]>,
        is_fixed: bool,
    },
    Many(Box<Many>),
}

#[derive(Default, Debug)]
pub(crate) struct Many {
    bytes: SharedBytes,
    /// The long ends of items, which aren't among these bytes.
    tails: Tails,
    /// Where each item begins; the end is the next one's beginning. Empty if all are of one size.
    starts: Vec<usize>,
    /// The size of every item, and how many there are, if they are of one.
    fixed: Option<(usize, usize)>,
    /// The handles in them, held until the items are done.
    handles: Vec<Object>,
    /// The memory in which items of one size lie instead, and from where on, until somebody wants them here.
    elsewhere: Option<(Object, usize)>,
}

impl Many {
    /// The memory to which items are added.
    fn bytes(&mut self) -> &mut Vec<u8> {
        SharedBytes::get_mut(&mut self.bytes).expect("inputs are shared once complete")
    }

    fn start(&self, item: usize) -> usize {
        match self.fixed {
            Some((size, _)) => item * size,
            None => self.starts.get(item).copied().unwrap_or(self.bytes.len()),
        }
    }

    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        let tails = self.tails.all.iter().flat_map(move |(item, (_, tail))| {
            let end = self.start(item + 1);
            let before = &self.bytes[std::mem::replace(&mut at, end)..end];
            [Some(before), tail.as_ref().map(|tail| (**tail).as_ref())].into_iter().flatten()
        });
        let last = self.tails.all.keys().next_back().map_or(0, |item| self.start(item + 1));
        tails.chain([&self.bytes[last..]])
    }
}

impl Default for Inputs {
    fn default() -> Self {
        Self::of_size(None)
    }
}

/// The bytes of some items.
pub(crate) enum Span<'a> {
    Shared(&'a SharedBytes, Range<usize>),
    Few(&'a [u8]),
    /// They lie where other processes may write.
    Elsewhere(&'a [AtomicU8]),
}

impl<'a> Span<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Shared(_, range) => range.len(),
            Self::Few(bytes) => bytes.len(),
            Self::Elsewhere(memory) => memory.len(),
        }
    }

    /// The bytes, copied if they lie elsewhere.
    pub(crate) fn bytes(&self) -> Cow<'a, [u8]> {
        match self {
            Self::Shared(bytes, range) => Cow::Borrowed(&bytes[range.clone()]),
            Self::Few(bytes) => Cow::Borrowed(bytes),
            Self::Elsewhere(memory) => {
                let mut bytes = Vec::new();
                copy_owned(memory, &mut bytes);
                Cow::Owned(bytes)
            }
        }
    }
}

impl Inputs {
    /// None yet; if a size is given, it is that of each.
    pub(crate) fn of_size(size: Option<usize>) -> Self {
        Self::Many(Box::new(Many { fixed: size.map(|size| (size, 0)), ..Many::default() }))
    }

    /// A single item that `encode` writes, but for a long end that it hands out. `size` is that of all items of its kind, if there is one.
    #[inline]
    pub(crate) fn one<E>(
        size: Option<usize>,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<Option<LongBytes>, E>,
    ) -> Result<Self, E> {
        scratch::with(|bytes| {
            if size.is_none() {
                bytes.extend_from_slice(&[0; 8]);
            }
            let start = bytes.len();
            let (encoded, handles) = match size {
                Some(_) => (encode(bytes), Vec::new()),
                None => passing::collecting(|| encode(bytes)),
            };
            let tail = encoded?;
            if size.is_none() {
                let apart = tail.as_ref().map_or(0, |tail| (**tail).as_ref().len());
                let length = (bytes.len() - start + apart) as u64;
                bytes[..start].copy_from_slice(&length.to_le_bytes());
            }
            if bytes.len() <= FEW && handles.is_empty() && tail.is_none() {
                let bytes = SmallVec::from_slice(bytes);
                return Ok(Self::One { bytes, is_fixed: size.is_some() });
            }
            // Long memory is given away; otherwise the next call has it again.
            let is_long = bytes.len() >= LONG;
            let bytes = if is_long { std::mem::take(bytes) } else { bytes.clone() };
            let bytes = SharedBytes::new(bytes);
            let starts = if size.is_none() { vec![0] } else { Vec::new() };
            let fixed = size.map(|size| (size, 1));
            let mut tails = Tails::default();
            if let Some(tail) = tail {
                tails.push(0, tail);
            }
            let elsewhere = None;
            Ok(Self::Many(Box::new(Many { bytes, tails, starts, fixed, handles, elsewhere })))
        })
    }

    /// Whether dropping them takes no more time than dropping a few bytes.
    pub(crate) fn is_trivial(&self) -> bool {
        matches!(self, Self::One { .. })
    }

    fn many(&mut self) -> &mut Many {
        match self {
            Self::Many(many) => many,
            Self::One { .. } => unreachable!("nothing is added to a single item"),
        }
    }

    /// Appends an item that `encode` writes; an error leaves everything as it was.
    pub(crate) fn push<E>(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let many = self.many();
        let bytes = many.bytes();
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 8]);
        if let Err(error) = encode(bytes) {
            bytes.truncate(start);
            return Err(error);
        }
        let length = (bytes.len() - start - 8) as u64;
        bytes[start..start + 8].copy_from_slice(&length.to_le_bytes());
        many.starts.push(start);
        Ok(())
    }

    /// As [`push`](Self::push); what `encode` hands out is the item's end, and isn't copied.
    pub(crate) fn push_apart<E>(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<Option<LongBytes>, E>,
    ) -> Result<(), E> {
        let mut tail = None;
        self.push(|out| encode(out).map(|bytes| tail = bytes))?;
        if let Some(tail) = tail {
            let many = self.many();
            let start = *many.starts.last().expect("an item was pushed just now");
            let bytes = many.bytes();
            let length = (bytes.len() - start - 8 + (*tail).as_ref().len()) as u64;
            bytes[start..start + 8].copy_from_slice(&length.to_le_bytes());
            many.tails.push(many.starts.len() - 1, tail);
        }
        Ok(())
    }

    /// So many items of this size, which lie in an object from there on.
    pub(crate) fn lying_in(memory: Object, at: usize, size: usize, count: usize) -> Self {
        let (fixed, elsewhere) = (Some((size, count)), Some((memory, at)));
        Self::Many(Box::new(Many { fixed, elsewhere, ..Many::default() }))
    }

    /// The object in which they lie, if they aren't here.
    pub(crate) fn memory(&self) -> Option<&Object> {
        match self {
            Self::One { .. } => None,
            Self::Many(many) => many.elsewhere.as_ref().map(|(memory, _)| memory),
        }
    }

    /// Copies them here, if they lie elsewhere.
    pub(crate) fn fetch(&mut self) {
        let Self::Many(many) = self else { return };
        let Some((memory, at)) = many.elsewhere.take() else { return };
        let (size, count) = many.fixed.expect("only items of one size lie elsewhere");
        let range = at..at + size * count;
        let memory = memory.atomics(range).expect("it was mapped when it was written");
        copy_owned(memory, many.bytes());
    }

    /// Appends at most so many items of a fixed size, as `write` does with each.
    #[inline]
    pub(crate) fn extend_fixed<T>(
        &mut self,
        items: &mut impl Iterator<Item = T>,
        most: usize,
        write: impl Fn(&T, &mut Vec<u8>),
    ) {
        let many = self.many();
        let (size, mut count) = many.fixed.expect("the items are of a fixed size");
        let bytes = many.bytes();
        bytes.reserve(size.saturating_mul(items.size_hint().0).min(MOST_EXPECTED));
        for item in items.take(most.saturating_sub(count)) {
            write(&item, bytes);
            count += 1;
        }
        debug_assert_eq!(bytes.len(), size * count, "each item has the size that was said");
        many.fixed = Some((size, count));
    }

    /// The size of every item, if they are of one.
    pub(crate) fn fixed_size(&self) -> Option<usize> {
        match self {
            Self::One { bytes, is_fixed } => is_fixed.then_some(bytes.len()),
            Self::Many(many) => many.fixed.map(|(size, _)| size),
        }
    }

    /// Where each item begins, and the end, if they are of different sizes.
    pub(crate) fn starts(&self) -> impl ExactSizeIterator<Item = usize> {
        let mut tails = 0;
        (0..self.len() + 1).map(move |item| {
            let start = self.start(item) + tails;
            tails += self.tails().map_or(0, |all| all.length(item..item + 1));
            start
        })
    }

    fn tails(&self) -> Option<&Tails> {
        match self {
            Self::One { .. } => None,
            Self::Many(many) => Some(&many.tails),
        }
    }

    /// All of their bytes, as they follow each other.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let (one, many) = match self {
            Self::One { bytes, .. } => (Some(&bytes[..]), None),
            Self::Many(many) => (None, Some(many.parts())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    fn start(&self, item: usize) -> usize {
        match self {
            Self::One { .. } if item == 0 => 0,
            Self::One { bytes, .. } => bytes.len(),
            Self::Many(many) => many.start(item),
        }
    }

    /// Runs `encode`, which pushes items, and holds the handles in these.
    pub(crate) fn collect<R>(&mut self, encode: impl FnOnce(&mut Self) -> R) -> R {
        let (result, mut handles) = passing::collecting(|| encode(self));
        self.many().handles.append(&mut handles);
        result
    }

    /// Appends an item without arguments, which stands for one that can't be sent.
    pub(crate) fn push_gap(&mut self) {
        let Ok(()) = self.push(|_| Ok::<(), std::convert::Infallible>(()));
    }

    /// Makes room for so many items, if they are like those that are there.
    pub(crate) fn expect(&mut self, items: usize) {
        let many = self.many();
        let each = many.bytes.len() / many.starts.len().max(1);
        many.bytes().reserve(each.saturating_mul(items).min(MOST_EXPECTED));
        many.starts.reserve(items.min(MOST_EXPECTED / 8));
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One { .. } => 1,
            Self::Many(many) => many.fixed.map_or(many.starts.len(), |(_, count)| count),
        }
    }

    /// How many bytes they take.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::One { bytes, .. } => bytes.len(),
            Self::Many(many) => match many.fixed {
                Some((size, count)) => size * count,
                None => many.bytes.len() + many.tails.length(0..many.starts.len()),
            },
        }
    }

    /// The bytes that hold the items of a range, without their tails.
    pub(crate) fn span(&self, items: Range<usize>) -> Span<'_> {
        let range = self.start(items.start)..self.start(items.end);
        match self {
            Self::One { bytes, .. } => Span::Few(&bytes[range]),
            Self::Many(many) => match &many.elsewhere {
                None => Span::Shared(&many.bytes, range),
                Some((memory, at)) => {
                    let range = at + range.start..at + range.end;
                    let memory = memory.atomics(range).expect("it was mapped when it was written");
                    Span::Elsewhere(memory)
                }
            },
        }
    }

    /// How many bytes the items of a range take.
    pub(crate) fn length(&self, items: Range<usize>) -> usize {
        let span = self.start(items.end) - self.start(items.start);
        span + self.tails().map_or(0, |tails| tails.length(items))
    }

    /// The long end of an item, if that is apart from its other bytes.
    pub(crate) fn tail(&self, item: usize) -> Option<&LongBytes> {
        self.tails()?.get(item)
    }

    /// How far a frame with the first of these items can go on: one with a long end is alone in its frame.
    pub(crate) fn end_of_frame(&self, items: Range<u32>) -> u32 {
        let first =
            self.tails().and_then(|tails| tails.first(items.start as usize..items.end as usize));
        match first.map(|item| item as u32) {
            Some(item) if item == items.start => item + 1,
            Some(item) => item,
            None => items.end,
        }
    }

    /// Lets go of the long end of an item that nobody needs any more.
    pub(crate) fn let_go(&mut self, item: usize) -> Option<LongBytes> {
        match self {
            Self::One { .. } => None,
            Self::Many(many) => many.tails.take(item),
        }
    }
}

/// The long ends of some of many items.
#[derive(Default)]
struct Tails {
    /// By item. One that was let go has left its length.
    all: BTreeMap<usize, (usize, Option<LongBytes>)>,
}

impl std::fmt::Debug for Tails {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all.iter().map(|(item, (length, _))| (item, length))).finish()
    }
}

impl Tails {
    fn push(&mut self, item: usize, bytes: LongBytes) {
        self.all.insert(item, ((*bytes).as_ref().len(), Some(bytes)));
    }

    fn get(&self, item: usize) -> Option<&LongBytes> {
        self.all.get(&item)?.1.as_ref()
    }

    fn take(&mut self, item: usize) -> Option<LongBytes> {
        if self.all.is_empty() {
            return None;
        }
        self.all.get_mut(&item)?.1.take()
    }

    /// The first of a range of items that has one.
    fn first(&self, items: Range<usize>) -> Option<usize> {
        if self.all.is_empty() {
            return None;
        }
        let mut held = self.all.range(items).filter(|(_, (_, tail))| tail.is_some());
        held.next().map(|(item, _)| *item)
    }

    /// How many bytes those of a range of items have.
    fn length(&self, items: Range<usize>) -> usize {
        if self.all.is_empty() {
            return 0;
        }
        self.all.range(items).map(|(_, (length, _))| length).sum()
    }
}

/// The items of a frame, one after the other. Ends early, with `None`, where a length is wrong.
pub(crate) struct Items<'a> {
    rest: &'a [u8],
    size: Option<usize>,
}

impl<'a> Items<'a> {
    /// `size` is that of every item, if they are of one.
    pub(crate) fn new(rest: &'a [u8], size: Option<usize>) -> Self {
        Self { rest, size }
    }

    /// The bytes of all items that are left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = match self.size {
            Some(size) => (size, self.rest),
            None => {
                let (length, rest) = self.rest.split_first_chunk::<8>()?;
                (usize::try_from(u64::from_le_bytes(*length)).ok()?, rest)
            }
        };
        let (item, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(item)
    }
}

#[cfg(test)]
mod tests;

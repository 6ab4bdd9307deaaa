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

use std::ops::Range;

use super::SharedBytes;
use super::codec::passing;
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
        };
        Some((head, items))
    }
}

/// At most so many bytes are reserved on the word of an iterator.
const MOST_EXPECTED: usize = 16 << 20;

/// The encoded arguments of many items, in the form in which they travel.
#[derive(Default, Debug)]
pub(crate) struct Inputs {
    bytes: SharedBytes,
    /// Where each item begins; the end is the next one's beginning. Empty if all are of one size.
    starts: Vec<usize>,
    /// The size of every item, and how many there are, if they are of one.
    fixed: Option<(usize, usize)>,
    /// The handles in them, held until the items are done.
    handles: Vec<Object>,
}

impl Inputs {
    /// Appends an item that `encode` writes; an error leaves everything as it was.
    pub(crate) fn push<E>(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let bytes = SharedBytes::get_mut(&mut self.bytes).expect("inputs are shared once complete");
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 8]);
        if let Err(error) = encode(bytes) {
            bytes.truncate(start);
            return Err(error);
        }
        let length = (bytes.len() - start - 8) as u64;
        bytes[start..start + 8].copy_from_slice(&length.to_le_bytes());
        self.starts.push(start);
        Ok(())
    }

    /// None yet; if a size is given, it is that of each.
    pub(crate) fn of_size(size: Option<usize>) -> Self {
        Self { fixed: size.map(|size| (size, 0)), ..Self::default() }
    }

    /// Appends at most so many items of a fixed size, as `write` does with each.
    #[inline]
    pub(crate) fn extend_fixed<T>(
        &mut self,
        items: &mut impl Iterator<Item = T>,
        most: usize,
        write: impl Fn(&T, &mut Vec<u8>),
    ) {
        let bytes = SharedBytes::get_mut(&mut self.bytes).expect("inputs are shared once complete");
        let (size, count) = self.fixed.as_mut().expect("the items are of a fixed size");
        bytes.reserve(size.saturating_mul(items.size_hint().0).min(MOST_EXPECTED));
        for item in items.take(most.saturating_sub(*count)) {
            write(&item, bytes);
            *count += 1;
        }
        debug_assert_eq!(bytes.len(), *size * *count, "each item has the size that was said");
    }

    /// The size of every item, if they are of one.
    pub(crate) fn fixed_size(&self) -> Option<usize> {
        self.fixed.map(|(size, _)| size)
    }

    /// Where each item begins, and the end, if they are of different sizes.
    pub(crate) fn starts(&self) -> impl ExactSizeIterator<Item = usize> {
        (0..self.starts.len() + 1).map(|item| self.start(item))
    }

    fn start(&self, item: usize) -> usize {
        match self.fixed {
            Some((size, _)) => item * size,
            None => self.starts.get(item).copied().unwrap_or(self.bytes.len()),
        }
    }

    /// Runs `encode`, which pushes items, and holds the handles in these.
    pub(crate) fn collect<R>(&mut self, encode: impl FnOnce(&mut Self) -> R) -> R {
        let (result, mut handles) = passing::collecting(|| encode(self));
        self.handles.append(&mut handles);
        result
    }

    /// Appends an item without arguments, which stands for one that can't be sent.
    pub(crate) fn push_gap(&mut self) {
        let Ok(()) = self.push(|_| Ok::<(), std::convert::Infallible>(()));
    }

    /// Makes room for so many items, if they are like those that are there.
    pub(crate) fn expect(&mut self, items: usize) {
        let bytes = SharedBytes::get_mut(&mut self.bytes).expect("inputs are shared once complete");
        let each = bytes.len() / self.starts.len().max(1);
        bytes.reserve(each.saturating_mul(items).min(MOST_EXPECTED));
        self.starts.reserve(items.min(MOST_EXPECTED / 8));
    }

    pub(crate) fn len(&self) -> usize {
        self.fixed.map_or(self.starts.len(), |(_, count)| count)
    }

    /// How many bytes they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes that hold the items of a range.
    pub(crate) fn span(&self, items: Range<usize>) -> (&SharedBytes, Range<usize>) {
        (&self.bytes, self.start(items.start)..self.start(items.end))
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
mod tests {
    use super::*;

    #[test]
    fn heads_come_back() {
        let head = TaskHead {
            callee: *b"abcdefghijklmnopq",
            timed: true,
            typed: true,
            epoch: 0x0102_0304,
            bound: u64::MAX - 5,
            count: 77,
        };
        let mut bytes = head.to_bytes().to_vec();
        bytes.push(9);
        assert_eq!(TaskHead::split(&bytes), Some((head, &[9][..])));
        assert_eq!(TaskHead::split(&bytes[..39]), None);
    }

    #[test]
    fn items_come_back_and_a_failed_one_leaves_nothing() {
        let mut inputs = Inputs::default();
        for item in [&b"one"[..], b"", b"three"] {
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(item);
                Ok::<(), ()>(())
            };
            inputs.push(write).unwrap();
            assert!(
                inputs
                    .push(|out| {
                        out.push(1);
                        Err(())
                    })
                    .is_err()
            );
        }
        assert_eq!(inputs.len(), 3);
        let (bytes, range) = inputs.span(1..3);
        let mut items = Items::new(&bytes[range], None);
        assert_eq!(items.next(), Some(&b""[..]));
        assert_eq!(items.next(), Some(&b"three"[..]));
        assert_eq!(items.next(), None);
    }

    #[test]
    fn a_wrong_length_ends_the_items() {
        assert_eq!(Items::new(&[255; 12], None).next(), None);
        assert_eq!(Items::new(&[5, 0, 0, 0, 0, 0, 0, 0, 1], None).next(), None);
    }
}

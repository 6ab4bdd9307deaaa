//! Data that several processes see: the types, and what they have in common.

pub(crate) mod array;
pub(crate) mod memory;
pub(crate) mod plain;
pub(crate) mod slice;
pub(crate) mod value;
#[cfg(feature = "ndarray")]
mod views;

use std::io;
use std::ops::{Bound, Range, RangeBounds};

use crate::error::Error;

/// The error of making something; `what` says with how many items.
fn cannot_make(what: &str, error: &io::Error) -> Error {
    Error::system(&format!("can't make {what}"), error)
}

/// The error of making something of no size.
fn empty(what: &str) -> Error {
    Error::usage(format!("{what} can't be empty: there would be nothing to share"))
}

/// A range within `length`; none if it isn't inside.
fn resolve(range: &impl RangeBounds<usize>, length: usize) -> Option<Range<usize>> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.checked_add(1)?,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.checked_add(1)?,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => length,
    };
    (start <= end && end <= length).then_some(start..end)
}

/// A range within `length`, or a panic, as with a slice.
#[track_caller]
fn inside(range: &impl RangeBounds<usize>, length: usize) -> Range<usize> {
    resolve(range, length).unwrap_or_else(|| {
        let (start, end) = (range.start_bound(), range.end_bound());
        panic!("the range from {start:?} to {end:?} is not inside of 0..{length}")
    })
}

/// `0..length` in pieces of `size`, the last of which may be shorter.
#[track_caller]
fn pieces(
    length: usize,
    size: usize,
) -> impl ExactSizeIterator<Item = Range<usize>> + DoubleEndedIterator + Clone {
    assert!(size > 0, "a chunk has at least one item");
    (0..length.div_ceil(size)).map(move |i| i * size..length.min((i + 1).saturating_mul(size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_inside_or_none() {
        assert_eq!(resolve(&.., 5), Some(0..5));
        assert_eq!(resolve(&(1..=3), 5), Some(1..4));
        assert_eq!(resolve(&(5..), 5), Some(5..5));
        assert_eq!(resolve(&(6..), 5), None);
        assert_eq!(resolve(&(0..=usize::MAX), 5), None);
        #[expect(clippy::reversed_empty_ranges, reason = "it is refused")]
        let reversed = resolve(&(3..2), 5);
        assert_eq!(reversed, None);
    }

    #[test]
    fn pieces_cover_all_once() {
        for (length, size) in [(10, 3), (9, 3), (1, 5), (5, 1), (7, usize::MAX)] {
            let all: Vec<usize> = pieces(length, size).flatten().collect();
            assert_eq!(all, (0..length).collect::<Vec<_>>());
        }
        assert_eq!(pieces(10, 3).len(), 4);
        assert_eq!(pieces(10, 3).next_back(), Some(9..10));
    }
}

//! What parent and workers tell each other about work on a board: see [`Board`](crate::shm::board::Board).
//!
//! A [`Join`](super::frame::Kind::Join) frame tells a worker of the board. The work has a number, which
//! stands before everything that is told about it. Results come in
//! [`Values`](super::frame::Kind::Values) frames, by runs of consecutive items:
//!
//! ```text
//! work u64 | then for each run: first item u32 | how many u32 | the results
//! ```
//!
//! Results of a fixed size follow each other; any other has its length before it, as a u32. A worker
//! writes the frame where the parent sees it, result by result, before it publishes the whole. In the
//! last run of one that was never published there is a 0 for how many: as many as there are bytes for.
//!
//! What is no short result comes [`Apart`](super::frame::Kind::Apart): the frame's number is the item's,
//! and in the body another frame's kind and body follow.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::frame::{Header, Kind};
use super::message::CalleeBytes;

/// Where the inputs lie in an arena: behind the board's word.
pub(crate) const INPUTS: usize = 128;

/// Arenas up to this size are used again: the parent keeps some, and a worker the one that it has used last.
pub(crate) const LARGEST_KEPT: usize = 16 << 20;

/// What a worker has to know to take part.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Join {
    pub(crate) work: u64,
    pub(crate) callee: CalleeBytes,
    /// The number under which the callable's bound arguments were sent; 0 if it has none.
    pub(crate) bound: u64,
    /// Arguments and results are encoded as [`typed`](super::codec::typed) ones.
    pub(crate) typed: bool,
    /// The worker tells when each item starts.
    pub(crate) timed: bool,
    /// The name of the arena, an object in the family's heap.
    pub(crate) arena: u64,
    pub(crate) generation: u32,
    pub(crate) items: u32,
    /// How many bytes of inputs there are.
    pub(crate) bytes: u64,
    /// Where in the arena it stands where each item begins and the last one ends, as u32s counted from the
    /// inputs' beginning; 0 if all items are of one size.
    pub(crate) starts: u64,
    /// Boards of a higher priority come first.
    pub(crate) priority: i32,
    /// How many workers share the work.
    pub(crate) workers: u32,
    /// How many of them are told at once.
    pub(crate) told: u32,
    /// How many items to claim at once; none: as many as are worth it.
    pub(crate) chunk: Option<u32>,
    /// The nanoseconds that an item takes, as far as that is known; else 0.
    pub(crate) mean: u64,
    /// How many items the worker may run at most.
    pub(crate) budget: u64,
}

/// What stands before the runs of a frame of results, its header included.
pub(crate) const HEAD: usize = Header::SIZE + 8;

/// What stands before the results of a run.
pub(crate) const RUN_HEAD: usize = 8;

/// What stands before a result that isn't of a fixed size.
pub(crate) const VALUE_HEAD: usize = 4;

/// The beginning of a frame of results whose body will have so many bytes.
pub(crate) fn head(work: u64, body: usize) -> [u8; HEAD] {
    let mut bytes = [0; HEAD];
    bytes[..Header::SIZE].copy_from_slice(&Header::new(Kind::Values, 0, body).to_bytes());
    bytes[Header::SIZE..].copy_from_slice(&work.to_le_bytes());
    bytes
}

/// The beginning of a run.
pub(crate) fn run_head(start: u32, count: u32) -> [u8; RUN_HEAD] {
    (u64::from(count) << 32 | u64::from(start)).to_le_bytes()
}

/// Some consecutive results of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) items: Range<u32>,
    pub(crate) results: &'a [u8],
}

/// The runs in the body of a frame, behind the work's number.
pub(crate) struct Runs<'a> {
    rest: &'a [u8],
    size: Option<usize>,
    /// From how many bytes before the end on there is one last run, whatever its head says.
    open: Option<usize>,
}

impl<'a> Runs<'a> {
    /// `size` is that of every result, if they are of one. `open` is where the last run begins, if the frame
    /// was never published: its count may be missing, or is being written.
    pub(crate) fn new(rest: &'a [u8], size: Option<usize>, open: Option<usize>) -> Self {
        Self { rest, size, open: open.and_then(|at| rest.len().checked_sub(at)) }
    }

    /// The next one; none at the end.
    ///
    /// # Errors
    /// These are no runs.
    pub(crate) fn next(&mut self) -> Result<Option<Run<'a>>, &'static str> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let is_open = self.open.is_some_and(|left| self.rest.len() <= left);
        let (head, rest) = self.rest.split_first_chunk::<RUN_HEAD>().ok_or("half a run")?;
        let head = u64::from_le_bytes(*head);
        let (start, count) = (head as u32, (head >> 32) as u32);
        if count == 0 && !is_open {
            return Err("a run of nothing");
        }
        let most = if is_open { usize::MAX } else { count as usize };
        let (found, length) = match self.size {
            Some(size) => {
                let found = rest.len().checked_div(size).unwrap_or(0).min(most);
                (found, found * size)
            }
            None => {
                let mut values = Values { rest };
                let mut found = 0;
                while found < most && values.next().is_some() {
                    found += 1;
                }
                (found, rest.len() - values.rest.len())
            }
        };
        if found < most && !is_open {
            return Err("half a run");
        }
        let count = found;
        let (results, after) = rest.split_at_checked(length).ok_or("half a run")?;
        self.rest = if is_open { &[] } else { after };
        let count = u32::try_from(count).map_err(|_| "too many results")?;
        let end = start.checked_add(count).ok_or("items that there can't be")?;
        Ok(Some(Run { items: start..end, results }))
    }
}

/// The results of a run that are not of one size.
pub(crate) struct Values<'a> {
    rest: &'a [u8],
}

impl<'a> Values<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<VALUE_HEAD>()?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        Some(value)
    }
}

/// The beginning of the body of a frame about one item: the work, and the kind of frame that it would be.
pub(crate) const APART: usize = 16;

/// See [`APART`].
pub(crate) fn apart(work: u64, kind: Kind) -> [u8; APART] {
    let mut bytes = [0; APART];
    bytes[..8].copy_from_slice(&work.to_le_bytes());
    bytes[8] = kind as u8;
    bytes
}

/// The work that a body begins with, and the rest.
pub(crate) fn split(body: &[u8]) -> Option<(u64, &[u8])> {
    let (work, rest) = body.split_first_chunk()?;
    Some((u64::from_le_bytes(*work), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(
        bytes: &[u8],
        size: Option<usize>,
        open: Option<usize>,
    ) -> Result<Vec<Run<'_>>, &'static str> {
        let mut runs = Runs::new(bytes, size, open);
        std::iter::from_fn(|| runs.next().transpose()).collect()
    }

    fn run(items: Range<u32>, results: &[u8]) -> Run<'_> {
        Run { items, results }
    }

    #[test]
    fn runs_of_a_fixed_size_come_back() {
        let bytes = [
            &run_head(5, 2)[..],
            &[1, 2, 3, 4],
            &run_head(100, 1),
            &[5, 6],
            &run_head(7, 0),
            &[9; 5],
        ]
        .concat();
        let closed = [run(5..7, &[1, 2, 3, 4]), run(100..101, &[5, 6])];
        assert_eq!(runs(&bytes[..22], Some(2), None).unwrap(), closed);
        assert!(runs(&bytes, Some(2), None).is_err());
        let open = [&closed[..], &[run(7..9, &[9; 4])]].concat();
        assert_eq!(runs(&bytes, Some(2), Some(22)).unwrap(), open);
    }

    #[test]
    fn runs_of_any_size_come_back() {
        let values = [&[2, 0, 0, 0, 8, 9][..], &[0; 4], &[1, 0, 0, 0, 7]].concat();
        let bytes = [&run_head(3, 3)[..], &values, &run_head(9, 0), &values, &[5, 0]].concat();
        let closed = run_head(3, 3).len() + values.len();
        let found = runs(&bytes[..closed], None, None).unwrap();
        assert_eq!(found, [run(3..6, &values)]);
        let mut each = Values::new(found[0].results);
        assert_eq!(
            [each.next(), each.next(), each.next()],
            [Some(&[8, 9][..]), Some(&[]), Some(&[7])]
        );
        assert_eq!(each.next(), None);
        assert_eq!(
            runs(&bytes, None, Some(closed)).unwrap(),
            [run(3..6, &values), run(9..12, &values)]
        );
    }

    #[test]
    fn what_is_no_run_is_an_error() {
        for size in [Some(0), Some(1), Some(8), None] {
            assert!(runs(&[1; 7], size, Some(0)).is_err());
            assert!(runs(&run_head(u32::MAX, u32::MAX), size, None).is_err());
            assert!(runs(&run_head(0, 0), size, None).is_err());
        }
        assert!(runs(&run_head(0, 2), Some(8), None).is_err());
        assert!(runs(&[&run_head(0, 1)[..], &[255; 4]].concat(), None, None).is_err());
    }
}

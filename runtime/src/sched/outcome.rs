//! What became of the items of a job, one by one: encoded results and errors.
//!
//! Each item is open, and then answered, once. Results of any size have a slot each; those of which all
//! have one size lie behind each other in input order, as they will be decoded.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use smallvec::SmallVec;

use crate::error::{Error, Kind};
use crate::shm::heap::{Object, parcel};
use crate::transport::codec::cells::{Cells, Shape};
use crate::transport::frame::Small;

/// So many bytes of results need no memory of their own: a tiny one.
const FEW: usize = 24;

/// What became of the items.
pub(crate) struct Outcome {
    items: usize,
    results: Results,
    /// What the items without a result of their own ended with.
    rest: Option<Error>,
}

enum Results {
    Any { slots: SmallVec<[Slot; 1]>, packed: SmallVec<[u8; FEW]> },
    Dense(Dense),
}

enum Slot {
    Open,
    /// Where the result lies in `packed`.
    Packed(usize, usize),
    /// A result with handles in it, and what holds these: it may be decoded any number of times.
    Parcel(Object),
    /// A large result whose end has memory of its own, and what comes before that.
    Large(Box<(Vec<u8>, Vec<u8>)>),
    Failed(Error),
}

/// Results of one size.
struct Dense {
    size: usize,
    cells: Box<dyn Cells>,
    /// A bit for each item that is answered.
    answered: Vec<u64>,
    failed: BTreeMap<u32, Error>,
}

/// An answer to one item.
pub(super) enum Answer<'a> {
    Value(&'a [u8]),
    /// The beginning of a large result, and its end in memory of its own.
    Large(Vec<u8>, Vec<u8>),
    /// A result with handles in it, in what holds these.
    Parcel(Object),
    Failed(Error),
}

/// For at most so many results room is made on the size of the first ones.
const MOST_EXPECTED: usize = 1 << 20;

impl Outcome {
    /// `shape` is that of every result, if they are of one size.
    pub(super) fn new(items: usize, shape: Option<Shape>) -> Self {
        let results = match shape {
            None => {
                let slots = std::iter::repeat_with(|| Slot::Open).take(items).collect();
                Results::Any { slots, packed: SmallVec::new() }
            }
            Some(shape) => Results::Dense(Dense {
                size: shape.size,
                cells: shape.cells(items),
                answered: vec![0; items.div_ceil(64)],
                failed: BTreeMap::new(),
            }),
        };
        Self { items, results, rest: None }
    }

    pub(crate) fn items(&self) -> usize {
        self.items
    }

    /// The encoded result of an item.
    #[inline]
    pub(crate) fn get(&self, item: usize) -> Result<Cow<'_, [u8]>, Error> {
        if let Some(error) = self.error(item) {
            return Err(error.clone());
        }
        match &self.results {
            Results::Any { slots, packed } => match &slots[item] {
                Slot::Packed(at, length) => Ok(Cow::Borrowed(&packed[*at..*at + *length])),
                Slot::Large(parts) if parts.0.is_empty() => Ok(Cow::Borrowed(&parts.1)),
                Slot::Large(parts) => Ok(Cow::Owned([&parts.0[..], &parts.1].concat())),
                Slot::Parcel(parcel) => open(parcel).map(Cow::Owned),
                Slot::Failed(_) | Slot::Open => unreachable!("these have an error"),
            },
            Results::Dense(dense) => {
                Ok(Cow::Borrowed(&dense.cells.bytes()[item * dense.size..][..dense.size]))
            }
        }
    }

    /// The encoded result of an item in two parts, if it has come so.
    pub(crate) fn large(&self, item: usize) -> Option<(&[u8], &[u8])> {
        match &self.results {
            Results::Any { slots, .. } => match &slots[item] {
                Slot::Large(parts) => Some((&parts.0, &parts.1)),
                _ => None,
            },
            Results::Dense(_) => None,
        }
    }

    /// As [`large`](Self::large), the second part in memory of its own. For whoever asks for each item's once.
    pub(crate) fn take_large(&mut self, item: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        match &mut self.results {
            Results::Any { slots, .. } => match &mut slots[item] {
                Slot::Large(parts) => Some(std::mem::take(&mut **parts)),
                _ => None,
            },
            Results::Dense(_) => None,
        }
    }

    /// All results behind each other, if they are of one size and none failed.
    pub(crate) fn all(&self) -> Option<(&[u8], usize)> {
        match &self.results {
            Results::Dense(dense) if dense.failed.is_empty() && self.rest.is_none() => {
                Some((dense.cells.bytes(), dense.size))
            }
            _ => None,
        }
    }

    /// The same as the memory in which they lie.
    ///
    /// # Errors
    /// There is no such memory, or something failed: the outcome comes back.
    pub(crate) fn into_cells(self) -> Result<Box<dyn Cells>, Self> {
        match self.results {
            Results::Dense(dense) if dense.failed.is_empty() && self.rest.is_none() => {
                Ok(dense.cells)
            }
            results => Err(Self { results, ..self }),
        }
    }

    /// How many bytes the encoded result of an item has, with what holds its handles.
    pub(crate) fn size(&self, item: usize) -> usize {
        match &self.results {
            Results::Any { slots, .. } => match &slots[item] {
                Slot::Packed(_, length) => *length,
                Slot::Large(parts) => parts.0.len() + parts.1.len(),
                Slot::Parcel(parcel) => parcel.bytes(),
                Slot::Failed(_) | Slot::Open => 0,
            },
            Results::Dense(dense) => dense.size,
        }
    }

    #[inline]
    fn error(&self, item: usize) -> Option<&Error> {
        let is_open = match &self.results {
            Results::Any { slots, .. } => match &slots[item] {
                Slot::Failed(error) => return Some(error),
                Slot::Open => true,
                _ => false,
            },
            Results::Dense(dense) => {
                if let Some(error) = dense.failed.get(&(item as u32)) {
                    return Some(error);
                }
                !dense.is_answered(item)
            }
        };
        is_open.then(|| self.rest.as_ref().expect("a job without a result has an error"))
    }

    /// Whether an item failed.
    pub(crate) fn first_error(&self) -> Option<Error> {
        (0..self.items()).find_map(|item| self.error(item).cloned())
    }

    pub(super) fn is_answered(&self, item: u32) -> bool {
        match &self.results {
            Results::Any { slots, .. } => !matches!(slots[item as usize], Slot::Open),
            Results::Dense(dense) => dense.is_answered(item as usize),
        }
    }

    /// Notes the answer to an open item. True: it failed.
    pub(super) fn set(&mut self, item: u32, answer: Answer<'_>) -> bool {
        match &mut self.results {
            Results::Any { slots, packed } => {
                let slot = &mut slots[item as usize];
                *slot = match answer {
                    Answer::Value(bytes) => {
                        packed.extend_from_slice(bytes);
                        Slot::Packed(packed.len() - bytes.len(), bytes.len())
                    }
                    Answer::Large(head, tail) => Slot::Large(Box::new((head, tail))),
                    Answer::Parcel(parcel) => Slot::Parcel(parcel),
                    Answer::Failed(error) => Slot::Failed(error),
                };
                matches!(slot, Slot::Failed(_))
            }
            Results::Dense(dense) => {
                dense.answered[item as usize / 64] |= 1 << (item % 64);
                let error = match answer {
                    Answer::Value(bytes) if bytes.len() == dense.size => {
                        dense.slot(item).copy_from_slice(bytes);
                        return false;
                    }
                    Answer::Failed(error) => error,
                    _ => Error::new(Kind::Data("its result is of another size".to_owned())),
                };
                dense.failed.insert(item, error);
                true
            }
        }
    }

    /// Notes the tiny results that `bytes` begin with, for the items from `items.start` on, whose first
    /// has this number; those above the cut-off don't matter. Returns how many there were, their bytes,
    /// and how many of them are answers to open items.
    pub(super) fn set_tiny(
        &mut self,
        items: Range<u32>,
        number: u32,
        bytes: &[u8],
        cut_off: u32,
    ) -> (u32, usize, usize) {
        let (mut count, mut at, mut answered) = (0, 0, 0);
        let next = |count: u32, at: usize| {
            let (got, length) = Small::parse(&bytes[at..])?;
            let start = at + Small::SIZE;
            let due = number.wrapping_add(count) & Small::NUMBER;
            (got == due && bytes.len() - start >= length).then_some(start..start + length)
        };
        match &mut self.results {
            Results::Any { slots, packed } => {
                let base = packed.len();
                for slot in &mut slots[items.start as usize..items.end as usize] {
                    let Some(result) = next(count, at) else { break };
                    if matches!(slot, Slot::Open) && items.start + count <= cut_off {
                        let packed = Slot::Packed(base + result.start, result.len());
                        // What was there is empty: nothing to drop, which the compiler can't see.
                        std::mem::forget(std::mem::replace(slot, packed));
                        answered += 1;
                    }
                    count += 1;
                    at = result.end;
                }
                if base == 0 && count > 0 {
                    // The others are likely to be of this size, too.
                    let each = at / count as usize + 1;
                    packed.reserve(each * slots.len().min(MOST_EXPECTED));
                }
                packed.extend_from_slice(&bytes[..at]);
            }
            Results::Dense(_) => {
                for item in items {
                    let Some(result) = next(count, at) else { break };
                    if item <= cut_off && !self.is_answered(item) {
                        self.set(item, Answer::Value(&bytes[result.clone()]));
                        answered += 1;
                    }
                    count += 1;
                    at = result.end;
                }
            }
        }
        (count, at, answered)
    }

    /// Notes results of one size that follow each other; those of items that are answered are dropped.
    /// Returns how many were open.
    pub(super) fn set_run(&mut self, items: Range<u32>, results: &[u8]) -> usize {
        let Results::Dense(dense) = &mut self.results else { return 0 };
        let size = dense.size;
        if dense.answer_all(items.clone()) {
            let count = items.len();
            dense.cells.bytes_mut()[items.start as usize * size..][..count * size]
                .copy_from_slice(&results[..count * size]);
            return count;
        }
        let mut open = 0;
        for (nth, item) in items.enumerate() {
            if !self.is_answered(item) {
                self.set(item, Answer::Value(&results[nth * size..][..size]));
                open += 1;
            }
        }
        open
    }

    /// Ends the job: items without an answer have failed with `rest`, or with what the item at the cut-off
    /// has failed with.
    pub(super) fn end(&mut self, rest: Option<Error>, cut_off: u32) {
        self.rest = rest;
        if self.rest.is_none() && cut_off != u32::MAX {
            self.rest = self.error(cut_off as usize).cloned();
        }
    }
}

impl Dense {
    fn is_answered(&self, item: usize) -> bool {
        self.answered[item / 64] & 1 << (item % 64) != 0
    }

    fn slot(&mut self, item: u32) -> &mut [u8] {
        &mut self.cells.bytes_mut()[item as usize * self.size..][..self.size]
    }

    /// Marks items as answered, if all of them are open.
    fn answer_all(&mut self, items: Range<u32>) -> bool {
        let (start, end) = (items.start as usize, items.end as usize);
        let words = |answered: &mut [u64], each: &mut dyn FnMut(&mut u64, u64) -> bool| {
            let mut item = start;
            while item < end {
                let (word, bit) = (item / 64, item % 64);
                let count = (64 - bit).min(end - item);
                if !each(&mut answered[word], (u64::MAX >> (64 - count)) << bit) {
                    return false;
                }
                item += count;
            }
            true
        };
        let are_open = words(&mut self.answered, &mut |word, mask| *word & mask == 0);
        are_open
            && words(&mut self.answered, &mut |word, mask| {
                *word |= mask;
                true
            })
    }
}

/// The bytes of a result with handles in it.
#[cold]
fn open(parcel: &Object) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let opened = parcel::bytes(parcel, &mut bytes);
    opened.map_err(|error| Error::system("a result's memory can't be used", &error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Answer<'static> {
        Answer::Failed(Error::new(Kind::Cancelled))
    }

    #[test]
    fn results_of_one_size_lie_in_input_order() {
        let mut outcome = Outcome::new(200, Some(Shape::of_bytes(2)));
        let results: Vec<u8> = (0..200).flat_map(|i| [i, i]).collect();
        assert_eq!(outcome.set_run(70..200, &results[140..]), 130);
        assert!(outcome.is_answered(70) && !outcome.is_answered(69));
        assert!(!outcome.set(3, Answer::Value(&[3, 3])));
        // What is answered stays what it is.
        assert_eq!(outcome.set_run(0..71, &[&results[..140], &[9, 9]].concat()), 69);
        assert!((0..200).all(|item| outcome.get(item).unwrap()[..] == [item as u8; 2]));
        assert_eq!(outcome.all(), Some((&results[..], 2)));
    }

    #[test]
    fn results_without_bytes_are_counted() {
        let mut outcome = Outcome::new(3, Some(Shape::of_bytes(0)));
        assert_eq!(outcome.set_run(1..3, &[0, 0]), 2);
        assert!(!outcome.set(0, Answer::Value(&[])));
        assert!(outcome.get(0).unwrap().is_empty());
        assert_eq!(outcome.set_run(0..3, &[0; 3]), 0);
    }

    #[test]
    fn a_failed_item_is_an_error_among_results_of_one_size() {
        let mut outcome = Outcome::new(3, Some(Shape::of_bytes(1)));
        assert!(outcome.set(1, failure()));
        assert!(outcome.set(2, Answer::Value(&[1, 2])), "it has another size");
        assert_eq!(outcome.set_run(0..3, &[7, 7, 7]), 1);
        assert_eq!((outcome.get(0).unwrap()[0], outcome.all()), (7, None));
        assert!(outcome.get(1).is_err() && outcome.get(2).is_err());
    }
}

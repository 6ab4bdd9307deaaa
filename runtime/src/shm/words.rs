//! Bytes that others may change at any time, as they are read and written: by atomic words.
//!
//! Every access is one of a whole, aligned word, also where only some of its bytes are meant: two accesses
//! then never overlap in part, which would be a data race even between atomics. A word is read and
//! written at once; more than a word isn't.

use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

pub(crate) const WORD: usize = size_of::<u64>();

/// Copies bytes out.
///
/// # Panics
/// They aren't all inside.
pub(crate) fn read(words: &[AtomicU64], offset: usize, to: &mut [u8]) {
    let (head, at) = cut(words, offset, to.len());
    let (first, rest) = to.split_at_mut(head.len());
    if !head.is_empty() {
        first.copy_from_slice(&bytes_of(&words[offset / WORD])[head]);
    }
    let (whole, last) = rest.as_chunks_mut::<WORD>();
    for (bytes, word) in whole.iter_mut().zip(&words[at..]) {
        *bytes = bytes_of(word);
    }
    if !last.is_empty() {
        last.copy_from_slice(&bytes_of(&words[at + whole.len()])[..last.len()]);
    }
}

/// Copies bytes in.
///
/// # Panics
/// They don't fit.
pub(crate) fn write(words: &[AtomicU64], offset: usize, from: &[u8]) {
    let (head, at) = cut(words, offset, from.len());
    let (first, rest) = from.split_at(head.len());
    if !head.is_empty() {
        change(&words[offset / WORD], head, |bytes| bytes.copy_from_slice(first));
    }
    let (whole, last) = rest.as_chunks::<WORD>();
    for (bytes, word) in whole.iter().zip(&words[at..]) {
        word.store(u64::from_ne_bytes(*bytes), Relaxed);
    }
    if !last.is_empty() {
        let word = &words[at + whole.len()];
        change(word, 0..last.len(), |bytes| bytes.copy_from_slice(last));
    }
}

/// Writes the same byte again and again.
///
/// # Panics
/// The range isn't inside.
pub(crate) fn fill(words: &[AtomicU64], range: Range<usize>, byte: u8) {
    let (head, at) = cut(words, range.start, range.len());
    let rest = range.len() - head.len();
    if !head.is_empty() {
        change(&words[range.start / WORD], head, |bytes| bytes.fill(byte));
    }
    let whole = &words[at..][..rest / WORD];
    whole.iter().for_each(|word| word.store(u64::from_ne_bytes([byte; WORD]), Relaxed));
    if !rest.is_multiple_of(WORD) {
        change(&words[at + whole.len()], 0..rest % WORD, |bytes| bytes.fill(byte));
    }
}

/// Which bytes of the first word are meant, if not all, and which word is the first one behind them.
fn cut(words: &[AtomicU64], offset: usize, length: usize) -> (Range<usize>, usize) {
    let end = offset.checked_add(length).expect("the range is inside");
    assert!(end <= size_of_val(words), "the range is inside");
    let within = offset % WORD;
    let head = if within == 0 { 0 } else { length.min(WORD - within) };
    (within..within + head, offset.div_ceil(WORD))
}

fn bytes_of(word: &AtomicU64) -> [u8; WORD] {
    word.load(Relaxed).to_ne_bytes()
}

/// Changes some bytes of a word, and leaves the others as they are, whoever changes those meanwhile.
fn change(word: &AtomicU64, part: Range<usize>, change: impl Fn(&mut [u8])) {
    let changed = |before: u64| {
        let mut bytes = before.to_ne_bytes();
        change(&mut bytes[part.clone()]);
        Some(u64::from_ne_bytes(bytes))
    };
    word.fetch_update(Relaxed, Relaxed, changed).expect("it is always changed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_is_written_and_read_and_nothing_beside_it() {
        for start in 0..20 {
            for end in start..=24 {
                let words: [AtomicU64; 3] = Default::default();
                let mut expected = [9; 24];
                fill(&words, 0..24, 9);
                let bytes: Vec<u8> = (1..).take(end - start).collect();
                write(&words, start, &bytes);
                expected[start..end].copy_from_slice(&bytes);
                let mut all = [0; 24];
                read(&words, 0, &mut all);
                assert_eq!(all, expected);
                let mut part = vec![0; end - start];
                read(&words, start, &mut part);
                assert_eq!(part, bytes);
                fill(&words, start..end, 7);
                expected[start..end].fill(7);
                read(&words, 0, &mut all);
                assert_eq!(all, expected, "{start}..{end}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "inside")]
    fn what_does_not_fit_is_not_written() {
        write(&[AtomicU64::new(0)], 1, &[0; 8]);
    }

    #[test]
    #[should_panic(expected = "inside")]
    fn no_offset_overflows() {
        read(&[AtomicU64::new(0)], usize::MAX, &mut [0; 8]);
    }
}

//! What lies in a buffer: records, each at a multiple of 8 and in one piece.
//!
//! ```text
//! message   length u32 | 1 u32 | bytes
//! parcel    length u32 | 2 u32 | id u64 | weight u64 | bytes
//! skip      0 u32      | 3 u32         go on at the buffer's start
//! hop       k u32      | 4 u32         go on at the start of buffer k
//! ```

use std::sync::atomic::AtomicU8;

use super::position::LAST_BUFFER;
use super::store::Parcel;
use crate::os::memory::{read_word, write_word};

/// Messages with more bytes than this go into a parcel. A record is then at most 32 KiB long, so that
/// a copy under the ring's lock takes a microsecond or so.
pub(crate) const MOST_INLINE: usize = 32 * 1024 - PARCEL_HEAD;

/// The length of a skip, of a hop, and of a message's head.
pub(super) const HEAD: usize = 8;
const PARCEL_HEAD: usize = 24;

const MESSAGE: u32 = 1;
const PARCEL: u32 = 2;
const SKIP: u32 = 3;
const HOP: u32 = 4;

/// A record's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Head {
    Message { length: usize, parcel: Option<Parcel> },
    Skip,
    Hop(u32),
}

impl Head {
    /// How long the record is, from its head to the next record.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Message { length, parcel: None } => (HEAD + length).next_multiple_of(8),
            Self::Message { length, parcel: Some(_) } => (PARCEL_HEAD + length).next_multiple_of(8),
            Self::Skip | Self::Hop(_) => HEAD,
        }
    }

    /// What a message counts for where the bytes are bounded. Its head counts as well, so that there is a
    /// bound to empty messages, too.
    pub(super) fn weight(self) -> u64 {
        let parcel = match self {
            Self::Message { parcel: Some(parcel), .. } => parcel.weight,
            _ => 0,
        };
        (self.size() as u64).saturating_add(parcel)
    }

    /// Where in the record its bytes begin.
    pub(super) fn length(self) -> usize {
        match self {
            Self::Message { parcel: Some(_), .. } => PARCEL_HEAD,
            _ => HEAD,
        }
    }

    /// Writes it to the front of `to`, which is long enough.
    #[inline]
    pub(super) fn write(self, to: &[AtomicU8]) {
        let (low, kind) = match self {
            Self::Message { length, parcel: None } => (length as u32, MESSAGE),
            Self::Message { length, parcel: Some(_) } => (length as u32, PARCEL),
            Self::Skip => (0, SKIP),
            Self::Hop(k) => (k, HOP),
        };
        write_word(to, u64::from(kind) << 32 | u64::from(low));
        if let Self::Message { parcel: Some(Parcel { id, weight }), .. } = self {
            write_word(&to[8..], id);
            write_word(&to[16..], weight);
        }
    }

    /// What begins at the front of `from`. None: nothing that [`write`](Self::write) writes, or it would
    /// not end in there.
    #[inline]
    pub(super) fn read(from: &[AtomicU8]) -> Option<Self> {
        let word = read_word(from)?;
        let (low, kind) = (word as u32, (word >> 32) as u32);
        let head = match kind {
            MESSAGE => Self::Message { length: low as usize, parcel: None },
            PARCEL => {
                let (id, weight) = (read_word(&from[8..])?, read_word(from.get(16..)?)?);
                Self::Message { length: low as usize, parcel: Some(Parcel { id, weight }) }
            }
            SKIP => return Some(Self::Skip),
            HOP => return (low <= LAST_BUFFER).then_some(Self::Hop(low)),
            _ => return None,
        };
        (low as usize <= MOST_INLINE && head.size() <= from.len()).then_some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(length: usize) -> Vec<AtomicU8> {
        (0..length).map(|_| AtomicU8::new(0xAA)).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let parcel = Some(Parcel { id: u64::MAX, weight: 1 << 40 });
        for head in [
            Head::Message { length: 0, parcel: None },
            Head::Message { length: MOST_INLINE, parcel: None },
            Head::Message { length: 0, parcel },
            Head::Message { length: MOST_INLINE, parcel },
            Head::Skip,
            Head::Hop(LAST_BUFFER),
        ] {
            let memory = memory(head.size());
            head.write(&memory);
            assert_eq!(Head::read(&memory), Some(head));
            // A buffer that ends too early.
            assert_eq!(Head::read(&memory[..head.size() - 8]), None);
        }
    }

    #[test]
    fn what_nobody_writes_is_refused() {
        let memory = memory(64);
        assert_eq!(Head::read(&memory), None);
        for word in [0, u64::from(HOP) << 32 | 21, u64::from(MESSAGE) << 32 | 57, 5 << 32] {
            write_word(&memory, word);
            assert_eq!(Head::read(&memory), None, "{word:x}");
        }
        assert_eq!(Head::read(&memory[..7]), None);
    }
}

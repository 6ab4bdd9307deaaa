//! What a parent has to send and couldn't yet: bytes of its own, and ranges that it shares.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use super::frame::LONG;
use super::{Freed, LongBytes, SharedBytes};

/// Shorter ranges are copied: a system call's cost for one more part is that of copying about this.
pub(super) const WORTH_SHARING: usize = 4 * 1024;

enum Part {
    Owned(Vec<u8>),
    Shared(SharedBytes, Range<usize>),
    Long(LongBytes),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes, range) => &bytes[range.clone()],
            Self::Long(bytes) => (**bytes).as_ref(),
        }
    }

    /// Whether much memory comes free with it: mostly a job has its inputs as long as they are being sent.
    fn is_last(&self) -> bool {
        let is_last = match self {
            Self::Owned(_) => true,
            Self::Shared(bytes, _) => Arc::strong_count(bytes) == 1,
            Self::Long(bytes) => Arc::strong_count(bytes) == 1,
        };
        is_last && self.bytes().len() >= LONG
    }
}

#[derive(Default)]
pub(super) struct Outgoing {
    parts: VecDeque<Part>,
    /// How much of the first part has been sent.
    sent: usize,
    /// What was sent and nobody else has, and what else has come free.
    pub(super) freed: Freed,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        match self.parts.back_mut() {
            _ if bytes.is_empty() => {}
            Some(Part::Owned(last)) => last.extend_from_slice(bytes),
            _ => self.parts.push_back(Part::Owned(bytes.to_vec())),
        }
    }

    pub(super) fn push_shared(&mut self, bytes: &SharedBytes, range: Range<usize>) {
        if range.len() < WORTH_SHARING {
            self.push(&bytes[range]);
        } else {
            self.parts.push_back(Part::Shared(SharedBytes::clone(bytes), range));
        }
    }

    pub(super) fn push_long(&mut self, bytes: &LongBytes) {
        if !(**bytes).as_ref().is_empty() {
            self.parts.push_back(Part::Long(LongBytes::clone(bytes)));
        }
    }

    /// What is left of the first part; empty when nothing is.
    pub(super) fn first(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| &part.bytes()[self.sent..])
    }

    /// What is left of the first parts, at most so many of them.
    pub(super) fn slices(&self, most: usize) -> Vec<IoSlice<'_>> {
        let rest = |i| if i == 0 { self.sent } else { 0 };
        let parts = self.parts.iter().take(most).enumerate();
        parts.map(|(i, part)| IoSlice::new(&part.bytes()[rest(i)..])).collect()
    }

    /// The first `count` bytes have been sent.
    pub(super) fn forget(&mut self, mut count: usize) {
        while let Some(first) = self.parts.front() {
            let left = first.bytes().len() - self.sent;
            if count < left {
                self.sent += count;
                return;
            }
            count -= left;
            self.sent = 0;
            let part = self.parts.pop_front();
            self.free(part.filter(Part::is_last));
        }
    }

    /// Nothing is to be sent any more.
    pub(super) fn give_up(&mut self) {
        let parts = std::mem::take(&mut self.parts);
        self.sent = 0;
        self.free(Some(parts));
    }

    /// Hands memory out with what was sent.
    pub(super) fn free(&mut self, memory: Option<impl Send + 'static>) {
        self.freed.extend(memory.map(|memory| Box::new(memory) as Box<dyn Send>));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_leave_in_order_however_they_are_cut() {
        for step in 1..50 {
            let shared = Arc::new((0..WORTH_SHARING + 9).map(|i| i as u8).collect::<Vec<_>>());
            let mut outgoing = Outgoing::default();
            outgoing.push(b"ab");
            outgoing.push_shared(&shared, 1..3);
            outgoing.push_shared(&shared, 3..WORTH_SHARING + 5);
            outgoing.push(b"");
            outgoing.push(b"z");
            let long: LongBytes = Arc::new(*b"long");
            outgoing.push_long(&long);
            outgoing.push_long(&(Arc::new([]) as LongBytes));
            let mut sent = Vec::new();
            while !outgoing.is_empty() {
                let count = outgoing.first().len().min(step);
                sent.extend_from_slice(&outgoing.first()[..count]);
                assert_eq!(outgoing.slices(1)[0].len(), outgoing.first().len());
                outgoing.forget(count);
            }
            assert_eq!(sent, [b"ab", &shared[1..WORTH_SHARING + 5], b"zlong"].concat());
            assert_eq!((Arc::strong_count(&shared), Arc::strong_count(&long)), (1, 1));
        }
    }
    #[test]
    fn the_last_of_long_parts_is_handed_out() {
        let (shared, long): (_, LongBytes) = (Arc::new(vec![1; LONG]), Arc::new(vec![2; LONG]));
        let mut outgoing = Outgoing::default();
        for _ in 0..2 {
            outgoing.push_shared(&shared, 0..LONG);
            outgoing.push_long(&long);
        }
        outgoing.push(b"short");
        outgoing.forget(2 * LONG);
        assert!(outgoing.freed.is_empty());
        drop((shared, long));
        outgoing.forget(2 * LONG + 5);
        assert!(outgoing.is_empty());
        assert_eq!(outgoing.freed.len(), 2);
    }
}

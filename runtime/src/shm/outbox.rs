//! The end of a worker's result stream that hasn't been sent yet.
//!
//! Results form one stream of bytes. The worker gathers its end here and sends it with one system
//! call for many results. Because the parent sees these bytes, too, a result is safe from the moment
//! at which [`Outbox::push`] returns: when the worker dies, the parent reads on here where the socket
//! ended, and it may do so at any time when a result is overdue.
//!
//! One word publishes the state: the stream position of the first byte, and how many are here. Only
//! the worker writes; bytes below the length never change until the position does.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering, fence};

use crate::os::memory::{copy_out, copy_owned};

/// Enough for a few thousand tiny results in one system call, and 16 pages of memory a worker.
pub(crate) const CAPACITY: usize = 64 * 1024;

const LENGTH_BITS: u32 = 24;
const LENGTH_MASK: u64 = (1 << LENGTH_BITS) - 1;
/// Positions are counted modulo 2^40; parent and worker are never that far apart.
const POSITION_MASK: u64 = (1 << (64 - LENGTH_BITS)) - 1;

#[repr(C, align(128))]
pub(crate) struct Outbox {
    word: AtomicU64,
    bytes: [AtomicU8; CAPACITY],
}

impl Outbox {
    /// Where the bytes begin.
    pub(crate) const BYTES_AT: usize = std::mem::offset_of!(Outbox, bytes);

    fn state(&self) -> (u64, usize) {
        let word = self.word.load(Ordering::Acquire);
        (word >> LENGTH_BITS, ((word & LENGTH_MASK) as usize).min(CAPACITY))
    }

    fn publish(&self, position: u64, length: usize) {
        self.word.store(position << LENGTH_BITS | length as u64, Ordering::Release);
    }

    /// The bytes behind those that are here, for the worker to write to. What it writes there the parent
    /// sees after its death alone. Memory is there for the first `limit` bytes of the box.
    pub(crate) fn room_within(&self, limit: usize) -> &[AtomicU8] {
        let bytes = &self.bytes[..limit];
        &bytes[self.state().1.min(limit)..]
    }

    /// The worker appends the first `count` bytes of the [room](Self::room_within), all at once.
    pub(crate) fn push(&self, count: usize) {
        let (position, length) = self.state();
        self.publish(position, (length + count).min(CAPACITY));
    }

    /// The worker copies what is here, to send it.
    pub(crate) fn copy_to(&self, to: &mut Vec<u8>) {
        copy_owned(&self.bytes[..self.state().1], to);
    }

    /// How many bytes are here.
    pub(crate) fn len(&self) -> usize {
        self.state().1
    }

    /// The worker has sent `count` bytes, all that waited or, when none did, bytes that never were here.
    pub(crate) fn sent(&self, count: usize) {
        self.publish((self.state().0 + count as u64) & POSITION_MASK, 0);
        // The bytes of the next `push` must not be seen before the new position is.
        fence(Ordering::Release);
    }

    /// The parent appends to `to` what comes after the first `received` bytes of the stream, where memory is
    /// there for the first `limit` bytes of the box alone.
    ///
    /// The worker may empty the box meanwhile; then nothing is appended, as the bytes are in the
    /// socket. It is one that the worker can forge: what is read is no better than what it sends.
    pub(crate) fn read_after(&self, received: u64, limit: usize, to: &mut Vec<u8>) -> usize {
        let before = to.len();
        let (position, length) = self.state();
        let length = length.min(limit);
        let known = received.wrapping_sub(position) & POSITION_MASK;
        let Ok(known) = usize::try_from(known) else { return 0 };
        if known >= length {
            return 0;
        }
        copy_out(&self.bytes[known..length], to);
        fence(Ordering::SeqCst);
        if self.state().0 != position {
            to.truncate(before);
        }
        to.len() - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::memory::copy_in;

    fn outbox() -> Box<Outbox> {
        Box::new(Outbox { word: AtomicU64::new(0), bytes: [const { AtomicU8::new(0) }; CAPACITY] })
    }

    fn push(outbox: &Outbox, bytes: &[u8]) {
        copy_in(outbox.room_within(CAPACITY), bytes);
        outbox.push(bytes.len());
    }

    #[test]
    fn the_stream_goes_on_where_the_socket_ended() {
        let outbox = outbox();
        push(&outbox, b"abcd");
        let mut read = Vec::new();
        assert_eq!(outbox.read_after(0, CAPACITY, &mut read), 4);
        assert_eq!(outbox.read_after(3, CAPACITY, &mut read), 1);
        assert_eq!(read, b"abcdd");
        outbox.sent(4);
        assert_eq!(outbox.read_after(4, CAPACITY, &mut read), 0);
        push(&outbox, b"ef");
        read.clear();
        assert_eq!(outbox.read_after(4, CAPACITY, &mut read), 2);
        assert_eq!(read, b"ef");
    }

    #[test]
    fn bytes_that_were_sent_directly_count() {
        let outbox = outbox();
        outbox.sent(1 << 20);
        push(&outbox, b"x");
        let mut read = Vec::new();
        assert_eq!(outbox.read_after(1 << 20, CAPACITY, &mut read), 1);
        // The parent is behind: what it lacks is still in the socket.
        assert_eq!(outbox.read_after((1 << 20) - 1, CAPACITY, &mut Vec::new()), 0);
        // It is ahead while a large result was half sent.
        assert_eq!(outbox.read_after((1 << 20) + 5, CAPACITY, &mut Vec::new()), 0);
    }

    #[test]
    fn a_box_can_be_filled_to_the_last_byte() {
        let outbox = outbox();
        push(&outbox, &[0; CAPACITY - 1]);
        push(&outbox, b"a");
        assert_eq!(outbox.state().1, CAPACITY);
    }

    #[test]
    fn a_forged_length_is_bounded() {
        let outbox = outbox();
        outbox.word.store(u64::MAX, Ordering::Relaxed);
        let mut read = Vec::new();
        for limit in [CAPACITY, 4096, 0] {
            read.clear();
            assert_eq!(outbox.read_after(POSITION_MASK, limit, &mut read), limit);
            assert_eq!(read.len(), limit);
        }
    }
}

//! The producers' side of a ring.

use std::io;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::position::{LAST_BUFFER, Position, Way};
use super::record::Head;
use super::{MOST_INLINE, Parcel, Ring, RingError, Store, buffer, buffer_size, enter, wait};
use crate::os::memory::copy_in;
use crate::shm::platform::{Deadline, Platform, Word};

/// A message that is to be put.
#[derive(Clone, Copy)]
struct Message<'a> {
    bytes: &'a [u8],
    head: Head,
    weight: u64,
}

impl<'a> Message<'a> {
    fn new(bytes: &'a [u8], parcel: Option<Parcel>) -> Self {
        assert!(bytes.len() <= MOST_INLINE, "long messages go into parcels");
        let head = Head::Message { length: bytes.len(), parcel };
        Self { bytes, head, weight: head.weight() }
    }
}

impl<P: Platform> Ring<P> {
    /// Puts a message of at most [`MOST_INLINE`] bytes if there is room now; says its number.
    #[inline]
    pub(crate) fn try_put(
        &self,
        store: &impl Store,
        bytes: &[u8],
        parcel: Option<Parcel>,
    ) -> Result<u64, RingError> {
        self.put_once(store, Message::new(bytes, parcel), None)
    }

    /// Puts a message of at most [`MOST_INLINE`] bytes, and waits for room; says its number.
    #[inline]
    pub(crate) fn put(
        &self,
        store: &impl Store,
        bytes: &[u8],
        parcel: Option<Parcel>,
        deadline: Deadline,
    ) -> Result<u64, RingError> {
        let message = Message::new(bytes, parcel);
        match self.put_once(store, message, Some(deadline)) {
            Err(RingError::TimedOut) => self.put_patiently(store, message, deadline),
            done => done,
        }
    }

    #[cold]
    fn put_patiently(
        &self,
        store: &impl Store,
        message: Message<'_>,
        deadline: Deadline,
    ) -> Result<u64, RingError> {
        loop {
            let may_try = || self.may_have_room(message.weight).then_some(());
            wait(&self.calls.room, &self.head.end, deadline, may_try)?;
            match self.put_once(store, message, Some(deadline)) {
                Err(RingError::TimedOut) if !deadline.has_passed::<P>() => {}
                done => {
                    // One wake may have been for the room of many.
                    if self.may_have_room(0) {
                        self.calls.room.ring(1);
                    }
                    return done;
                }
            }
        }
    }

    fn put_once(
        &self,
        store: &impl Store,
        message: Message<'_>,
        deadline: Option<Deadline>,
    ) -> Result<u64, RingError> {
        let lock = &self.tail.end.lock;
        let mut held = enter(lock, deadline).ok_or(RingError::TimedOut)?;
        if held.is_poisoned() {
            self.settle(store);
            held.set_poisoned(false);
        }
        let result = self.append(store, message);
        lock.release(held);
        if result.is_ok() {
            self.calls.arrivals.ring(1);
        }
        result
    }

    /// The owner of the tail before this one was killed: decides what becomes of its parcel.
    #[cold]
    pub(super) fn settle(&self, store: &impl Store) {
        let tail = &self.tail;
        let number = tail.pending.load(Acquire);
        if number != 0 {
            if number > tail.end.count() {
                store.abandon(tail.parcel.load(Relaxed));
            }
            tail.pending.store(0, Release);
        }
    }

    /// Under the tail's lock.
    fn append(&self, store: &impl Store, message: Message<'_>) -> Result<u64, RingError> {
        let tail = &self.tail;
        if tail.end.closed.load(Relaxed) != 0 {
            return Err(RingError::Closed);
        }
        let puts = tail.end.count();
        let position = tail.end.position(puts)?;
        if !self.has_room(puts, position.total, message.weight)? {
            self.see_head()?;
            if !self.has_room(puts, position.total, message.weight)? {
                return Err(RingError::TimedOut);
            }
        }
        let number = puts.checked_add(1).ok_or(RingError::Corrupt)?;
        let (position, buffer) = self.prepare(store, position, message.head.size())?;
        let record = buffer.get(position.offset()..).ok_or(RingError::Corrupt)?;
        message.head.write(record);
        copy_in(&record[message.head.length()..], message.bytes);
        let position = position.passed(message.head.size(), message.weight);
        let Head::Message { parcel: Some(parcel), .. } = message.head else {
            tail.end.commit(number, position);
            return Ok(number);
        };
        tail.parcel.store(parcel.id, Relaxed);
        tail.pending.store(number, Release);
        store.attach(parcel.id, number);
        tail.end.commit(number, position);
        tail.pending.store(0, Release);
        Ok(number)
    }

    /// Whether the bounds allow a message, from what is known of the head.
    fn has_room(&self, puts: u64, total: u64, weight: u64) -> Result<bool, RingError> {
        let items = puts.checked_sub(self.tail.seen_gets.load(Acquire));
        let bytes = total.wrapping_sub(self.tail.seen_total.load(Acquire));
        Ok(self.bounds_allow(items.ok_or(RingError::Corrupt)?, bytes, weight))
    }

    /// Whether the bounds allow a message besides so many items and bytes.
    fn bounds_allow(&self, items: u64, bytes: u64, weight: u64) -> bool {
        let most_items = self.calls.most_items.load(Relaxed);
        let most_bytes = self.calls.most_bytes.load(Relaxed);
        items == 0
            || (most_items == 0 || items < most_items)
                && (most_bytes == 0 || bytes.saturating_add(weight) <= most_bytes)
    }

    /// Looks where the head is by now, under the tail's lock. Each of the three words only grows, so that
    /// any mixture of old and new ones is on the safe side.
    #[cold]
    fn see_head(&self) -> Result<(), RingError> {
        if let Some((gets, position)) = self.head.end.look()? {
            self.tail.seen_gets.store(gets, Release);
            self.tail.seen_at.store(position.at, Release);
            self.tail.seen_total.store(position.total, Release);
        }
        Ok(())
    }

    /// Finds the place of a record of `size` bytes, writes what leads there, and gives its buffer.
    fn prepare<'a>(
        &self,
        store: &'a impl Store,
        tail: Position,
        size: usize,
    ) -> Result<(Position, &'a [AtomicU8]), RingError> {
        if tail.at == 0 {
            store.make(0).map_err(RingError::Memory)?;
        }
        let way = tail.way(self.tail.seen_at.load(Acquire), size)?;
        if way == Way::Here {
            return Ok((tail, buffer(store, tail)?));
        }
        self.leave(store, tail, size)
    }

    /// As [`prepare`](Self::prepare), at the end of a lap or of the room.
    #[cold]
    fn leave<'a>(
        &self,
        store: &'a impl Store,
        tail: Position,
        size: usize,
    ) -> Result<(Position, &'a [AtomicU8]), RingError> {
        self.see_head()?;
        let seen_at = self.tail.seen_at.load(Acquire);
        let is_alone = self.head.cleared.load(Acquire) == tail.start;
        let (next, mark) = match tail.way(seen_at, size)? {
            Way::Here => (tail, None),
            Way::Around if is_alone && self.shrink(store, tail, seen_at, size)? => {
                let smaller = tail.buffer - 1;
                (tail.hopped(smaller, tail.buffer), Some(Head::Hop(smaller)))
            }
            Way::Around if tail.offset() == 0 => (tail, None),
            Way::Around => (tail.skipped(), Some(Head::Skip)),
            Way::Out => {
                let ceiling = if is_alone { tail.buffer } else { tail.ceiling };
                let larger =
                    (ceiling + 1..=LAST_BUFFER).find(|k| buffer_size(*k) >= 2 * size as u64);
                let larger = larger.ok_or(RingError::Memory(io::ErrorKind::OutOfMemory.into()))?;
                store.make(larger).map_err(RingError::Memory)?;
                (tail.hopped(larger, larger), Some(Head::Hop(larger)))
            }
        };
        if let Some(mark) = mark {
            mark.write(buffer(store, tail)?.get(tail.offset()..).ok_or(RingError::Corrupt)?);
        }
        Ok((next, buffer(store, next)?))
    }

    /// Makes the next smaller buffer, if it is better to go there than around.
    fn shrink(
        &self,
        store: &impl Store,
        tail: Position,
        seen_at: u64,
        size: usize,
    ) -> Result<bool, RingError> {
        // An eighth: what is in flight may double twice before it needs this buffer again.
        let needed = tail.used(seen_at)?.max(size as u64);
        let is_wide = tail.buffer > 0 && needed <= buffer_size(tail.buffer) / 8;
        // Without memory for it, this buffer does as well.
        Ok(is_wide && store.make(tail.buffer - 1).is_ok())
    }

    /// Whether it is worth while to take the lock for a message of this weight.
    fn may_have_room(&self, weight: u64) -> bool {
        // The head first: it never passes the tail.
        let (head, tail) = (self.head.end.look(), self.tail.end.look());
        let (Ok(Some((gets, head))), Ok(Some((puts, tail)))) = (head, tail) else {
            return true;
        };
        let (items, bytes) = (puts.saturating_sub(gets), tail.total.wrapping_sub(head.total));
        self.is_closed() || self.bounds_allow(items, bytes, weight)
    }
}

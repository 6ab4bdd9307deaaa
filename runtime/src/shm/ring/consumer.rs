//! The consumers' side of a ring.

use std::io::ErrorKind;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::position::Position;
use super::record::Head;
use super::{Got, Ring, RingError, Store, buffer, enter, wait};
use crate::os::memory::copy_owned;
use crate::shm::platform::{Deadline, Platform, Word};

impl<P: Platform> Ring<P> {
    /// Gets a message if there is one now: appends its bytes to `to`.
    #[inline]
    pub(crate) fn try_get(&self, store: &impl Store, to: &mut Vec<u8>) -> Result<Got, RingError> {
        self.get_once(store, to, None)
    }

    /// Gets a message, and waits for one: appends its bytes to `to`.
    #[inline]
    pub(crate) fn get(
        &self,
        store: &impl Store,
        to: &mut Vec<u8>,
        deadline: Deadline,
    ) -> Result<Got, RingError> {
        match self.get_once(store, to, Some(deadline)) {
            Err(RingError::TimedOut) => self.get_patiently(store, to, deadline),
            done => done,
        }
    }

    #[cold]
    fn get_patiently(
        &self,
        store: &impl Store,
        to: &mut Vec<u8>,
        deadline: Deadline,
    ) -> Result<Got, RingError> {
        loop {
            let may_try = || self.ready_to_get().then_some(());
            wait(&self.calls.arrivals, &self.tail.end, deadline, may_try)?;
            match self.get_once(store, to, Some(deadline)) {
                Err(RingError::TimedOut) if !deadline.has_passed::<P>() => {}
                done => {
                    // One wake may have been for many messages.
                    if self.ready_to_get() {
                        self.calls.arrivals.ring(1);
                    }
                    return done;
                }
            }
        }
    }

    fn get_once(
        &self,
        store: &impl Store,
        to: &mut Vec<u8>,
        deadline: Option<Deadline>,
    ) -> Result<Got, RingError> {
        let lock = &self.head.end.lock;
        let mut held = enter(lock, deadline).ok_or(RingError::TimedOut)?;
        // Who was killed here has left nothing undone but a buffer, which `take` looks for anyway.
        held.set_poisoned(false);
        let result = self.take(store, to);
        lock.release(held);
        let is_past = match &result {
            Err(RingError::Memory(error)) => error.kind() == ErrorKind::NotFound,
            result => result.is_ok(),
        };
        if is_past {
            self.tell_producers();
        }
        result
    }

    /// There is room for a message more.
    fn tell_producers(&self) {
        if self.calls.most_bytes.load(Relaxed) != 0 {
            // Whether it is enough for the one who would be woken is known to nobody else.
            self.calls.room.ring(u32::MAX);
        } else if self.calls.most_items.load(Relaxed) != 0 {
            self.calls.room.ring(1);
        }
    }

    /// Under the head's lock.
    fn take(&self, store: &impl Store, to: &mut Vec<u8>) -> Result<Got, RingError> {
        let head = &self.head;
        let gets = head.end.count();
        let position = head.end.position(gets)?;
        self.give_back(store, gets, position);
        if head.seen_puts.load(Acquire) <= gets {
            // In this order: after the flag is set, nothing is put.
            let is_closed = self.is_closed();
            let puts = self.tail.end.count();
            head.seen_puts.store(puts, Release);
            match puts.checked_sub(gets) {
                None => return Err(RingError::Corrupt),
                Some(0) if is_closed => return Err(RingError::Closed),
                Some(0) => return Err(RingError::TimedOut),
                Some(_) => {}
            }
        }
        let number = gets.checked_add(1).ok_or(RingError::Corrupt)?;
        let (position, buffer, record) = find(store, position)?;
        let Head::Message { length, parcel } = record else { return Err(RingError::Corrupt) };
        let first = position.offset() + record.length();
        let before = to.len();
        copy_owned(buffer.get(first..first + length).ok_or(RingError::Corrupt)?, to);
        if let Some(parcel) = parcel
            && let Err(error) = store.adopt(parcel.id)
        {
            to.truncate(before);
            if error.kind() == ErrorKind::NotFound {
                // Nobody will ever have it: the next one is not to stumble over it again.
                let position = position.passed(record.size(), record.weight());
                head.end.commit(number, position);
            }
            return Err(RingError::Memory(error));
        }
        let position = position.passed(record.size(), record.weight());
        head.end.commit(number, position);
        self.give_back(store, number, position);
        Ok(Got { number, parcel })
    }

    /// Gives the buffer back that the last get has left, if that hasn't been done.
    #[inline]
    fn give_back(&self, store: &impl Store, gets: u64, position: Position) {
        let cleared = &self.head.cleared;
        if cleared.load(Relaxed) == position.start {
            return;
        }
        // The position before this one is still there: the next get writes over it.
        if let Ok(before) = self.head.end.position(gets.wrapping_sub(1))
            && before.buffer != position.buffer
        {
            store.retire(before.buffer);
        }
        cleared.store(position.start, Release);
    }
}

/// The next message's place, its buffer and its head. At most one skip or hop leads there.
#[inline]
fn find(store: &impl Store, head: Position) -> Result<(Position, &[AtomicU8], Head), RingError> {
    let read = |position: Position| {
        let memory = buffer(store, position)?;
        let record = memory.get(position.offset()..).and_then(Head::read);
        Ok((position, memory, record.ok_or(RingError::Corrupt)?))
    };
    let found = read(head)?;
    match found.2 {
        Head::Message { .. } => Ok(found),
        Head::Skip => read(head.skipped()),
        Head::Hop(k) => read(head.hopped(k, k.max(head.ceiling))),
    }
}

//! Rings in shared objects: one in a queue, two in a pipe.
//!
//! ```text
//! block of the queue: area 0 [, area 1 of a pipe]        area: ring | names of buffers 1.. | buffer 0
//! ```
//!
//! Larger buffers are parts of the queue, each an object of its own. They are made at most once, and stay
//! while the queue does; it is their memory that is given back. So whoever has one mapped has it mapped
//! for good.

#![expect(unsafe_code, reason = "the type vouches for its fields")]

use std::cell::Cell;
use std::io;
use std::mem::offset_of;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::time::Duration;

use super::heap::{Fill, Id, Kind, Object, Request, parcel};
use super::platform::Deadline;
use super::ring::{LAST_BUFFER, MOST_INLINE, Parcel, Ring, RingError, Store, buffer_size};
use super::system::System;
use crate::os::memory::Shareable;
use crate::os::region::Window;

const FIRST: usize = 4096;
const LARGER: usize = LAST_BUFFER as usize;

/// The memory of larger buffers is given back when they are left.
const WORTH_GIVING_BACK: u64 = 256 << 10;

/// See the file's head.
#[repr(C, align(128))]
struct Area {
    ring: Ring<System>,
    buffers: [AtomicU64; LARGER],
    first: [AtomicU8; FIRST],
}

// SAFETY: all fields are atomics, or made of atomics alone, for which every bit pattern is a value.
unsafe impl Shareable for Area {}
// SAFETY: as above.
unsafe impl Shareable for Ring<System> {}

/// How many bytes the block of an object with so many rings needs.
pub(crate) const fn bytes(rings: usize) -> u64 {
    (rings * size_of::<Area>()) as u64
}

/// The ring's number stands in the upper bits of its messages' numbers, where these are parcels' numbers.
const RING_SHIFT: u32 = 63;

/// One ring of an object, with the buffers that this process has mapped.
pub(crate) struct Channel {
    object: Object,
    number: usize,
    buffers: [OnceLock<Object>; LARGER],
}

impl Channel {
    /// # Errors
    /// The object's memory can't be mapped, or it has no such ring.
    pub(crate) fn new(object: Object, number: usize) -> io::Result<Self> {
        let channel = Self { object, number, buffers: [const { OnceLock::new() }; LARGER] };
        channel.object.get::<Area>(channel.at())?;
        Ok(channel)
    }

    fn at(&self) -> usize {
        self.number * size_of::<Area>()
    }

    fn area(&self) -> &Area {
        self.object.get(self.at()).expect("`new` has seen that it is there")
    }

    #[inline]
    pub(crate) fn ring(&self) -> &Ring<System> {
        &self.area().ring
    }

    /// The object that the ring lies in.
    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    fn larger(&self, k: u32) -> io::Result<(&OnceLock<Object>, &AtomicU64)> {
        let index = (k as usize).wrapping_sub(1);
        let no_such = || io::Error::other("a queue has no such buffer");
        let mapped = self.buffers.get(index).ok_or_else(no_such)?;
        Ok((mapped, &self.area().buffers[index]))
    }

    /// Buffer `k`, if it has been made.
    fn find(&self, k: u32) -> io::Result<Option<&Object>> {
        let (mapped, name) = self.larger(k)?;
        if let Some(object) = mapped.get() {
            return Ok(Some(object));
        }
        let Some(id) = Id::from_bits(name.load(Acquire)) else { return Ok(None) };
        // Its maker may have been killed before it was the queue's; then it is gone.
        let Ok(object) = Object::receive(id) else { return Ok(None) };
        if !object.is(Kind::Buffer, 0) || object.bytes() as u64 != buffer_size(k) {
            return Err(io::Error::other("a queue's buffer is none"));
        }
        Ok(Some(mapped.get_or_init(|| object)))
    }
}

/// How long to wait for room, or for a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    None,
    Until(Deadline),
}

impl Patience {
    /// For ever, or for a time-out.
    pub(crate) fn of(timeout: Option<Duration>) -> Self {
        Self::Until(Deadline::of::<System>(timeout))
    }
}

impl Channel {
    /// Puts a message. The handles in it are held until it has been received.
    ///
    /// # Errors
    /// See [`RingError`]; nothing has been put.
    pub(crate) fn send(
        &self,
        bytes: &[u8],
        handles: &[Object],
        patience: Patience,
    ) -> Result<(), RingError> {
        if handles.is_empty() && bytes.len() <= MOST_INLINE {
            return self.put(bytes, None, patience);
        }
        let parcel = parcel::pack(Some(self.object.id()), handles, bytes);
        let parcel = parcel.map_err(RingError::Memory)?;
        let named = Parcel { id: parcel.id().to_bits(), weight: bytes.len() as u64 };
        self.put(&[], Some(named), patience)
    }

    #[inline]
    fn put(
        &self,
        bytes: &[u8],
        parcel: Option<Parcel>,
        patience: Patience,
    ) -> Result<(), RingError> {
        match patience {
            Patience::None => self.ring().try_put(self, bytes, parcel),
            Patience::Until(deadline) => self.ring().put(self, bytes, parcel, deadline),
        }
        .map(drop)
    }

    /// Gets a message: its bytes are in `to`, or else in the parcel that is returned. That holds the
    /// handles in them until they are decoded.
    ///
    /// # Errors
    /// See [`RingError`].
    #[inline]
    pub(crate) fn receive(
        &self,
        to: &mut Vec<u8>,
        patience: Patience,
    ) -> Result<Option<Object>, RingError> {
        let got = match patience {
            Patience::None => self.ring().try_get(self, to)?,
            Patience::Until(deadline) => self.ring().get(self, to, deadline)?,
        };
        Ok(got.parcel.map(|_| ADOPTED.take().expect("the ring has adopted it")))
    }
}

impl Store for Channel {
    #[inline]
    fn buffer(&self, k: u32) -> io::Result<&[AtomicU8]> {
        if k == 0 {
            return Ok(&self.area().first);
        }
        let gone = || io::Error::other("a queue's buffer is gone");
        let object = self.find(k)?.ok_or_else(gone)?;
        object.atomics(0..buffer_size(k) as usize)
    }

    fn make(&self, k: u32) -> io::Result<()> {
        if k == 0 {
            return Ok(());
        }
        if let Some(object) = self.find(k)? {
            object.attach(true);
            return object.reserve();
        }
        let object = Object::create(Request {
            bytes: buffer_size(k),
            fill: Fill::Anything,
            parent: Some(self.object.id()),
            ..Request::small(Kind::Buffer)
        })?;
        // If this process is killed before the next line, the buffer goes with it; after that, whoever
        // makes the buffer next finds it.
        let (mapped, name) = self.larger(k)?;
        name.store(object.id().to_bits(), Release);
        object.attach(true);
        let _ = mapped.set(object);
        Ok(())
    }

    fn retire(&self, k: u32) {
        if buffer_size(k) >= WORTH_GIVING_BACK
            && let Ok(Some(object)) = self.find(k)
        {
            object.give_back();
        }
    }

    fn attach(&self, parcel: u64, number: u64) {
        if let Some(id) = Id::from_bits(parcel) {
            parcel::attach(id, number | (self.number as u64) << RING_SHIFT);
        }
    }

    fn adopt(&self, parcel: u64) -> io::Result<()> {
        let id = Id::from_bits(parcel).ok_or_else(|| io::Error::other("a message is damaged"))?;
        let object = Object::receive(id)?;
        // This thread may be ending, and calls from a destructor.
        ADOPTED.try_with(|adopted| adopted.set(Some(object))).map_err(io::Error::other)
    }

    fn abandon(&self, parcel: u64) {
        if let Some(id) = Id::from_bits(parcel) {
            parcel::abandon(id);
        }
    }
}

thread_local! {
    /// The parcel of the message that this thread is getting.
    static ADOPTED: Cell<Option<Object>> = const { Cell::new(None) };
}

fn ring_in(window: &Window, start: usize, number: usize) -> Option<&Ring<System>> {
    window.get(start + number * size_of::<Area>() + offset_of!(Area, ring))
}

/// Whether the message of a parcel with this number hasn't been taken out of its ring. In doubt, it
/// hasn't.
pub(super) fn has_not_taken(window: &Window, start: usize, number: u64) -> bool {
    let ring = ring_in(window, start, (number >> RING_SHIFT) as usize);
    ring.is_none_or(|ring| ring.gets() < number & !(1 << RING_SHIFT))
}

/// One end of a pipe is gone.
pub(super) fn hang_up(window: &Window, start: usize) {
    for number in 0..2 {
        if let Some(ring) = ring_in(window, start, number) {
            ring.hang_up();
        }
    }
}

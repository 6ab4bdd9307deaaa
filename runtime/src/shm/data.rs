//! Plain data in shared memory, as slices of Rust.
//!
//! A `&[T]` promises that nobody writes, a `&mut [T]` that nobody else looks. Two things keep that promise
//! across processes:
//!
//! - A [`Frozen`] one never changes. No process maps it writable (see
//!   [`Kind::Slice`]), and its maker, the only one who ever writes to it, has done so before there is a
//!   handle.
//! - A [`Cells`]' items are given out under a [claim](Claims) on their range alone. Who has died claims
//!   nothing, and does nothing, any more.
//!
//! The memory is there while an [`Object`] is; offsets and lengths are checked against its mapping. `T` is
//! [`Pod`]: any bytes are a value of it.

#![expect(unsafe_code, reason = "slices are made of memory that other processes see, too")]

use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::thread;

use bytemuck::Pod;

use super::heap::{Fill, Kind, Object, Request, layout_of};
use super::platform::Deadline;
use super::sync::claims::{Claim, Claims, Mode};
use super::system::System;

/// Where blocks begin, and so the most that a type can be aligned to.
const PAGE: usize = 4096;

/// Refuses, when the program is compiled, types that can't be shared.
///
/// ```compile_fail
/// let _ = procession::SharedSlice::from_slice(&[(), ()]);
/// ```
/// ```compile_fail
/// let _ = procession::SharedArray::<()>::new(3);
/// ```
/// ```compile_fail
/// let _ = procession::SharedValue::new(());
/// ```
const fn check<T>() {
    const {
        assert!(size_of::<T>() > 0, "a type without any bytes can't be shared");
        assert!(
            align_of::<T>() <= PAGE,
            "a type that is aligned to more than a page can't be shared"
        );
    }
}

fn bytes<T>(length: usize) -> io::Result<usize> {
    let too_long = || io::Error::from(io::ErrorKind::OutOfMemory);
    length.checked_mul(size_of::<T>()).ok_or_else(too_long)
}

/// Whether a handle's range lies in its object.
fn check_range(object: &Object, start: usize, length: usize) -> io::Result<()> {
    let end = start.checked_add(length).and_then(|end| u64::try_from(end).ok());
    if end.is_some_and(|end| end <= object.length()) {
        Ok(())
    } else {
        Err(io::Error::other("the range of the handle is outside of the shared object"))
    }
}

/// Items that never change.
pub(crate) struct Frozen<T> {
    object: Object,
    start: usize,
    items: NonNull<[T]>,
}

// SAFETY: it gives out `&[T]` alone, to items that nobody writes, as an `Arc<[T]>` does.
unsafe impl<T: Send + Sync> Send for Frozen<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Frozen<T> {}

impl<T: Pod> Frozen<T> {
    /// A copy of these items.
    ///
    /// # Errors
    /// There is no memory.
    pub(crate) fn create(items: &[T]) -> io::Result<Self> {
        let object = Object::create(Request {
            layout: layout_of::<T>(),
            length: items.len() as u64,
            bytes: size_of_val(items) as u64,
            fill: Fill::Anything,
            ..Request::small(Kind::Slice)
        })?;
        object.write(0, bytemuck::cast_slice(items))?;
        Self::open(object, 0, items.len())
    }

    /// Some of an object's items.
    ///
    /// # Errors
    /// It can't be mapped, holds something else, or not so much.
    pub(crate) fn open(object: Object, start: usize, length: usize) -> io::Result<Self> {
        check::<T>();
        if !object.is(Kind::Slice, layout_of::<T>()) {
            return Err(io::Error::other("the handle is one of another type"));
        }
        check_range(&object, start, length)?;
        let items = if length == 0 {
            NonNull::slice_from_raw_parts(NonNull::dangling(), 0)
        } else {
            let (window, block) = object.window()?;
            let (from, length) = (block + bytes::<T>(start)?, bytes::<T>(length)?);
            // SAFETY: the object is a `Slice`: no process maps it writable for good, and `create`, the only
            // one to write to it, has done so before it told anybody the object's name. While `object` is held, its memory goes
            // to no other one.
            let bytes = unsafe { window.bytes(from..from + length) };
            NonNull::from(bytemuck::cast_slice::<u8, T>(bytes.ok_or_else(outside)?))
        };
        Ok(Self { object, start, items })
    }
}

impl<T> Frozen<T> {
    /// Some of them.
    ///
    /// # Panics
    /// The range isn't inside, as with a slice.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        let items = NonNull::from(&self[range.clone()]);
        Self { object: self.object.clone(), start: self.start + range.start, items }
    }

    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// Where they begin in the object, in items.
    pub(crate) fn start(&self) -> usize {
        self.start
    }
}

impl<T> Clone for Frozen<T> {
    fn clone(&self) -> Self {
        Self { object: self.object.clone(), ..*self }
    }
}

impl<T> Deref for Frozen<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `open` made it of bytes in the object's mapping, which stays while `object` does, and
        // which nobody writes; `part` has made it of a part of those.
        unsafe { self.items.as_ref() }
    }
}

/// Items that change, all of an object's or some.
pub(crate) struct Cells<T> {
    object: Object,
    start: usize,
    length: usize,
    items: PhantomData<T>,
}

impl<T: Pod> Cells<T> {
    /// Where the items begin in the block: behind the claims.
    const ITEMS: usize = size_of::<Claims<System>>().next_multiple_of(PAGE);

    /// So many items, all zeros.
    ///
    /// # Errors
    /// There is no memory.
    pub(crate) fn create(length: usize) -> io::Result<Self> {
        let too_long = || io::Error::from(io::ErrorKind::OutOfMemory);
        let bytes = bytes::<T>(length)?.checked_add(Self::ITEMS).ok_or_else(too_long)?;
        let object = Object::create(Request {
            layout: layout_of::<T>(),
            length: length as u64,
            bytes: bytes as u64,
            ..Request::small(Kind::Array)
        })?;
        Self::open(object, 0, length)
    }

    /// Some of an object's items.
    ///
    /// # Errors
    /// It can't be mapped, holds something else, or not so much.
    pub(crate) fn open(object: Object, start: usize, length: usize) -> io::Result<Self> {
        check::<T>();
        if !object.is(Kind::Array, layout_of::<T>()) {
            return Err(io::Error::other("the handle is one of another type"));
        }
        check_range(&object, start, length)?;
        let _ = object.get::<Claims<System>>(0)?;
        Ok(Self { object, start, length, items: PhantomData })
    }

    /// Waits for the right to read. None: the deadline has passed.
    pub(crate) fn read(&self, deadline: Deadline) -> Option<Reading<'_, T>> {
        let claim = self.claim(Mode::Read, deadline)?;
        let (window, range) = self.place();
        // SAFETY: the claim to read is held by `claim`, as long as the result lives: nobody has, or gets,
        // one to write in this range, and nobody writes without.
        let bytes = unsafe { window.bytes(range) }.expect("`open` has checked the range");
        Some(Reading { items: NonNull::from(bytemuck::cast_slice(bytes)), claim })
    }

    /// Waits for the right to write. None: the deadline has passed.
    pub(crate) fn write(&self, deadline: Deadline) -> Option<Writing<'_, T>> {
        let claim = self.claim(Mode::Write, deadline)?;
        let (window, range) = self.place();
        // SAFETY: the claim to write is held by `claim`, as long as the result lives: nobody has, or gets,
        // any other one in this range, and nobody looks without.
        let bytes = unsafe { window.bytes_mut(range) }.expect("`open` has checked the range");
        let items = NonNull::from(bytemuck::cast_slice_mut(bytes));
        Some(Writing { items, claim, was_panicking: thread::panicking() })
    }

    fn claim(&self, mode: Mode, deadline: Deadline) -> Option<Claim<'_, System>> {
        let (start, end) = (self.start as u64, (self.start + self.length) as u64);
        self.claims().claim(&(start..end), mode, deadline)
    }

    /// Where the items lie.
    fn place(&self) -> (&crate::os::region::Window, Range<usize>) {
        let (window, block) = self.object.window().expect("`open` has mapped it");
        let from = block + Self::ITEMS + self.start * size_of::<T>();
        (window, from..from + self.length * size_of::<T>())
    }
}

impl<T> Cells<T> {
    /// Some of them.
    ///
    /// # Panics
    /// The range isn't inside.
    pub(crate) fn part(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.length, "the range is inside");
        let object = self.object.clone();
        Self { object, start: self.start + range.start, length: range.len(), items: PhantomData }
    }

    pub(crate) fn claims(&self) -> &Claims<System> {
        self.object.get(0).expect("`open` has mapped it")
    }

    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// Where they begin in the object, in items.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }
}

impl<T> Clone for Cells<T> {
    fn clone(&self) -> Self {
        self.part(0..self.length)
    }
}

/// Items that nobody writes meanwhile.
pub(crate) struct Reading<'a, T> {
    /// No reference: it would have to be good until the end of `drop`, after the claim's.
    items: NonNull<[T]>,
    claim: Claim<'a, System>,
}

// SAFETY: a shared one gives out `&[T]` alone, as a slice does.
unsafe impl<T: Sync> Sync for Reading<'_, T> {}

impl<T> Reading<'_, T> {
    pub(crate) fn is_poisoned(&self) -> bool {
        self.claim.is_poisoned()
    }
}

impl<T> Deref for Reading<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `read` made it of bytes that are mapped while the borrow of the `Cells` lasts, and that
        // nobody writes while `claim` is there.
        unsafe { self.items.as_ref() }
    }
}

/// Items that nobody else sees meanwhile.
pub(crate) struct Writing<'a, T> {
    items: NonNull<[T]>,
    claim: Claim<'a, System>,
    was_panicking: bool,
}

// SAFETY: a shared one gives out `&[T]` alone, as a slice does.
unsafe impl<T: Sync> Sync for Writing<'_, T> {}

impl<T> Writing<'_, T> {
    pub(crate) fn is_poisoned(&self) -> bool {
        self.claim.is_poisoned()
    }
}

impl<T> Deref for Writing<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: `write` made it of bytes that are mapped while the borrow of the `Cells` lasts, and that
        // nobody else sees while `claim` is there; `self` is borrowed.
        unsafe { self.items.as_ref() }
    }
}

impl<T> DerefMut for Writing<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; `self` is borrowed mutably.
        unsafe { self.items.as_mut() }
    }
}

impl<T> Drop for Writing<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() && !self.was_panicking {
            self.claim.poison();
        }
    }
}

fn outside() -> io::Error {
    io::Error::other("the shared object is shorter than its handle says")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_of_another_type_or_range_are_errors() {
        let frozen = Frozen::create(&[1_u32, 2, 3]).unwrap();
        let object = frozen.object();
        assert_eq!(*Frozen::<u32>::open(object.clone(), 1, 2).unwrap(), [2, 3]);
        for (start, length) in [(0, 4), (4, 0), (1, 3), (usize::MAX, 2), (2, usize::MAX)] {
            assert!(Frozen::<u32>::open(object.clone(), start, length).is_err());
        }
        assert!(Frozen::<i32>::open(object.clone(), 0, 1).is_err());
        assert!(Frozen::<[u32; 3]>::open(object.clone(), 0, 1).is_err());
        assert!(Cells::<u32>::open(object.clone(), 0, 1).is_err());
        let cells = Cells::<u32>::create(3).unwrap();
        assert!(Frozen::<u32>::open(cells.object().clone(), 0, 1).is_err());
        assert!(Cells::<u32>::open(cells.object().clone(), 3, 1).is_err());
        assert!(Cells::<u64>::open(cells.object().clone(), 0, 1).is_err());
    }

    #[test]
    fn another_mapping_sees_the_same_items() {
        let cells = Cells::<u64>::create(10).unwrap();
        let other = Cells::<u64>::open(cells.object().clone(), 5, 5).unwrap();
        other.write(Deadline::NEVER).unwrap().fill(7);
        let items = cells.read(Deadline::NEVER).unwrap();
        assert_eq!(*items, [0, 0, 0, 0, 0, 7, 7, 7, 7, 7]);
        assert!(other.write(Deadline::after::<System>(std::time::Duration::ZERO)).is_none());
        drop(items);
        assert!(other.write(Deadline::after::<System>(std::time::Duration::ZERO)).is_some());
    }
}

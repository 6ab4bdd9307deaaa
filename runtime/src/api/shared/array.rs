//! Items that many processes change, each range by one at a time.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::plain::Plain;
use super::{cannot_make, empty, pieces};
use crate::api::poison::{Poisoned, TryLockError};
use crate::error::Error;
use crate::shm::data::{Cells, Reading, Writing};
use crate::shm::heap::Object;
use crate::shm::platform::Deadline;
use crate::shm::system::System;

/// Items that many processes read and change, zeros at first: an `Arc<RwLock<[T]>>` for processes that
/// can be locked in parts.
///
/// An array is the [chunk](SharedChunk) of all its items, and has all of its methods:
/// [`read`](SharedChunk::read) and [`write`](SharedChunk::write) for all items at once, and
/// [`split`](SharedChunk::split) and [`chunks`](SharedChunk::chunks) for parts that different
/// processes hold at the same time.
///
/// `T` is plain data, as the crate [`bytemuck`](https://docs.rs/bytemuck) defines it: numbers, arrays
/// of them, and types that derive `bytemuck::Pod`. One that is aligned to more than 4096, or has no
/// bytes at all, is refused when the program is compiled.
///
/// A handle travels in calls and results. The memory is given back when the last one is gone.
///
/// ```
/// use procession::{Pool, SharedArray, SharedChunk, task};
///
/// #[task]
/// fn squares(numbers: SharedChunk<u64>) -> Result<(), String> {
///     let first = numbers.start() as u64;
///     let mut numbers = numbers.write().map_err(|error| error.to_string())?;
///     for (number, i) in numbers.iter_mut().zip(first..) {
///         *number = i * i;
///     }
///     Ok(())
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let pool = Pool::builder().processes(2).build()?;
/// let numbers = SharedArray::new(1000)?;
/// pool.map(squares, numbers.split(4))?;
/// assert_eq!(numbers.read()?[999], 998_001);
/// # Ok(())
/// # }
/// ```
pub struct SharedArray<T> {
    all: SharedChunk<T>,
}

impl<T: Plain> SharedArray<T> {
    /// So many items, all zeros.
    ///
    /// # Errors
    /// `len` is 0, or there is no memory.
    pub fn new(len: usize) -> Result<Self, Error> {
        if len == 0 {
            return Err(empty("a shared array"));
        }
        let cannot = |error| cannot_make(&format!("a shared array of {len} items"), &error);
        Ok(Self { all: SharedChunk { items: Cells::create(len).map_err(cannot)? } })
    }

    /// A shared copy of these items.
    ///
    /// # Errors
    /// There are none, or there is no memory for them.
    pub fn from_slice(items: &[T]) -> Result<Self, Error> {
        let array = Self::new(items.len())?;
        array.write()?.copy_from_slice(items);
        Ok(array)
    }
}

impl<T> Deref for SharedArray<T> {
    type Target = SharedChunk<T>;

    fn deref(&self) -> &SharedChunk<T> {
        &self.all
    }
}

impl<T> Clone for SharedArray<T> {
    /// Another handle on the same items.
    fn clone(&self) -> Self {
        Self { all: self.all.clone() }
    }
}

impl<T> fmt::Debug for SharedArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedArray").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<T> Serialize for SharedArray<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.all.serialize(serializer)
    }
}

impl<'de, T: Plain> Deserialize<'de> for SharedArray<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { all: SharedChunk::deserialize(deserializer)? })
    }
}

/// Some items of a [`SharedArray`], or all of them.
///
/// Many can read a chunk at a time, or one can write it. Chunks without an item in common don't disturb
/// each other. Whoever waits to write goes before those who come later to read.
///
/// A thread that waits for a chunk while it has a guard on one that overlaps it waits for itself for ever,
/// unless both only read.
///
/// # Poisoning
/// When a process dies, or panics, with a guard to write, its items may be half changed. Nobody waits for
/// the dead: the next one gets the guard, in a [`Poisoned`]. That goes for the whole array, from the
/// time when somebody who waits has seen the death, until [`clear_poison`](Self::clear_poison).
pub struct SharedChunk<T> {
    items: Cells<T>,
}

/// What [`SharedChunk::read`] gives.
type Read<'a, T> = Result<SharedReadGuard<'a, T>, Poisoned<SharedReadGuard<'a, T>>>;
/// What [`SharedChunk::write`] gives.
type Write<'a, T> = Result<SharedWriteGuard<'a, T>, Poisoned<SharedWriteGuard<'a, T>>>;

impl<T: Plain> SharedChunk<T> {
    /// Waits until nobody writes any of the items, and keeps it so until the guard is dropped.
    ///
    /// # Errors
    /// The array is [poisoned](Self#poisoning).
    pub fn read(&self) -> Result<SharedReadGuard<'_, T>, Poisoned<SharedReadGuard<'_, T>>> {
        self.read_until(Deadline::NEVER).expect("there is no deadline")
    }

    /// As [`read`](Self::read), without waiting.
    ///
    /// # Errors
    /// Somebody writes, or waits to write, some of the items; or the array is
    /// [poisoned](Self#poisoning).
    pub fn try_read(&self) -> Result<SharedReadGuard<'_, T>, TryLockError<SharedReadGuard<'_, T>>> {
        self.read_timeout(Duration::ZERO)
    }

    /// As [`read`](Self::read), at most for `timeout`.
    ///
    /// # Errors
    /// As [`try_read`](Self::try_read).
    pub fn read_timeout(
        &self,
        timeout: Duration,
    ) -> Result<SharedReadGuard<'_, T>, TryLockError<SharedReadGuard<'_, T>>> {
        TryLockError::check(self.read_until(Deadline::after::<System>(timeout)))
    }

    /// Waits until nobody reads or writes any of the items, and keeps it so until the guard is dropped.
    ///
    /// # Errors
    /// The array is [poisoned](Self#poisoning).
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let array = procession::SharedArray::<f32>::new(100)?;
    /// let halves = array.split(2);
    /// let (mut first, mut second) = (halves[0].write()?, halves[1].write()?);
    /// first.swap_with_slice(&mut second);
    /// # Ok(())
    /// # }
    /// ```
    pub fn write(&self) -> Result<SharedWriteGuard<'_, T>, Poisoned<SharedWriteGuard<'_, T>>> {
        self.write_until(Deadline::NEVER).expect("there is no deadline")
    }

    /// As [`write`](Self::write), without waiting.
    ///
    /// # Errors
    /// Somebody has a guard on some of the items; or the array is [poisoned](Self#poisoning).
    pub fn try_write(
        &self,
    ) -> Result<SharedWriteGuard<'_, T>, TryLockError<SharedWriteGuard<'_, T>>> {
        self.write_timeout(Duration::ZERO)
    }

    /// As [`write`](Self::write), at most for `timeout`.
    ///
    /// # Errors
    /// As [`try_write`](Self::try_write).
    pub fn write_timeout(
        &self,
        timeout: Duration,
    ) -> Result<SharedWriteGuard<'_, T>, TryLockError<SharedWriteGuard<'_, T>>> {
        TryLockError::check(self.write_until(Deadline::after::<System>(timeout)))
    }

    fn read_until(&self, deadline: Deadline) -> Option<Read<'_, T>> {
        let items = self.items.read(deadline)?;
        let is_poisoned = items.is_poisoned();
        Some(Poisoned::check(SharedReadGuard { items }, is_poisoned))
    }

    fn write_until(&self, deadline: Deadline) -> Option<Write<'_, T>> {
        let items = self.items.write(deadline)?;
        let is_poisoned = items.is_poisoned();
        Some(Poisoned::check(SharedWriteGuard { items }, is_poisoned))
    }
}

impl<T> SharedChunk<T> {
    /// How many items it has.
    pub fn len(&self) -> usize {
        self.items.length()
    }

    /// False: there is at least one item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The position of its first item in the array.
    pub fn start(&self) -> usize {
        self.items.start()
    }

    /// The same items in `n` chunks, whose lengths differ by one at most. None is empty: if there are
    /// less than `n` items, there are less chunks.
    ///
    /// # Panics
    /// `n` is 0.
    #[track_caller]
    pub fn split(&self, n: usize) -> Vec<Self> {
        assert!(n > 0, "an array is split into one chunk at least");
        let n = n.min(self.len());
        let (each, longer) = (self.len() / n, self.len() % n);
        // The first ones take what is left over, one each.
        let start = |i: usize| i * each + i.min(longer);
        (0..n).map(|i| Self { items: self.items.part(start(i)..start(i + 1)) }).collect()
    }

    /// The same items in chunks of `len`, the last of which may be shorter.
    ///
    /// # Panics
    /// `len` is 0.
    #[track_caller]
    pub fn chunks(
        &self,
        len: usize,
    ) -> impl ExactSizeIterator<Item = Self> + DoubleEndedIterator + Clone + use<T> {
        let whole = self.clone();
        pieces(self.len(), len).map(move |range| Self { items: whole.items.part(range) })
    }

    /// Whether a process has died, or panicked, with a guard to write, as far as is known; see
    /// [there](Self#poisoning).
    pub fn is_poisoned(&self) -> bool {
        self.items.claims().is_poisoned()
    }

    /// The array's items are as they should be again: the next guards are ordinary ones.
    pub fn clear_poison(&self) {
        self.items.claims().clear_poison();
    }
}

impl<T> Clone for SharedChunk<T> {
    /// Another handle on the same items.
    fn clone(&self) -> Self {
        Self { items: self.items.clone() }
    }
}

impl<T> fmt::Debug for SharedChunk<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("SharedChunk");
        text.field("start", &self.start()).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<T> Serialize for SharedChunk<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.items.object(), self.start(), self.len()).serialize(serializer)
    }
}

impl<'de, T: Plain> Deserialize<'de> for SharedChunk<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (object, start, length) = <(Object, usize, usize)>::deserialize(deserializer)?;
        let items = Cells::open(object, start, length).map_err(D::Error::custom)?;
        if length == 0 {
            return Err(D::Error::custom("a chunk of no items"));
        }
        Ok(Self { items })
    }
}

/// The right to read a [`SharedChunk`]'s items.
#[must_use = "if unused, the items are given back at once"]
pub struct SharedReadGuard<'a, T> {
    items: Reading<'a, T>,
}

impl<T> Deref for SharedReadGuard<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T: fmt::Debug> fmt::Debug for SharedReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The right to read and change a [`SharedChunk`]'s items.
#[must_use = "if unused, the items are given back at once"]
pub struct SharedWriteGuard<'a, T> {
    items: Writing<'a, T>,
}

impl<T> Deref for SharedWriteGuard<'_, T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> DerefMut for SharedWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

impl<T: fmt::Debug> fmt::Debug for SharedWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn chunks_are_held_apart_and_the_whole_is_not() {
        let array = SharedArray::<u32>::new(10).unwrap();
        let chunks = array.split(3);
        assert_eq!(chunks.iter().map(SharedChunk::len).collect::<Vec<_>>(), [4, 3, 3]);
        let mut first = chunks[0].write().unwrap();
        let mut last = chunks[2].write().unwrap();
        first.fill(1);
        last.fill(3);
        assert!(matches!(array.try_read(), Err(TryLockError::WouldBlock)));
        assert!(matches!(chunks[0].try_write(), Err(TryLockError::WouldBlock)));
        let between = chunks[1].try_read().unwrap();
        let late = chunks[1].write_timeout(Duration::from_millis(2)).unwrap_err();
        assert!(Error::from(late).is_timeout());
        drop((first, between, last));
        assert_eq!(*array.read().unwrap(), [1, 1, 1, 1, 0, 0, 0, 3, 3, 3]);
        let part = array.chunks(4).next_back().unwrap();
        assert_eq!((part.start(), part.len()), (8, 2));
        assert_eq!(array.split(100).len(), 10);
        assert_eq!(*part.split(2)[1].read().unwrap(), [3]);
    }

    #[test]
    fn a_panic_poisons_until_that_is_cleared() {
        let array = SharedArray::from_slice(&[1, 2]).unwrap();
        let failed = catch_unwind(AssertUnwindSafe(|| {
            array.write().unwrap()[0] = 9;
            let mut guard = array.write().unwrap();
            guard[1] = 9;
            panic!("on purpose");
        }));
        assert!(failed.is_err() && array.is_poisoned());
        let guard = array.read().unwrap_err().into_inner();
        assert_eq!(*guard, [9, 9]);
        assert!(matches!(array.try_read(), Err(TryLockError::Poisoned(_))));
        array.clear_poison();
        assert!(array.try_read().is_ok());
    }

    #[test]
    fn no_items_and_too_many_are_errors() {
        for len in [0, usize::MAX, usize::MAX / 8, 1 << 40] {
            assert!(SharedArray::<u64>::new(len).is_err(), "{len}");
        }
        assert!(SharedArray::<u64>::from_slice(&[]).is_err());
    }
}

//! Items that never change, shared without a copy.

use std::fmt;
use std::ops::{Deref, RangeBounds};

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::plain::Plain;
use super::{cannot_make, empty, inside, pieces};
use crate::error::Error;
use crate::shm::data::Frozen;
use crate::shm::heap::Object;

/// Items that many processes read, where they lie: an `Arc<[T]>` for processes.
///
/// The items are copied once, when it is made. From then on nobody can change them, so every process
/// reads them as a plain slice; a handle, which travels in calls and results, is a few bytes, whatever
/// it covers. So are its [parts](Self::slice) and [chunks](Self::chunks). The memory is given back
/// when the last handle of the last process is gone.
///
/// `T` is plain data, as the crate [`bytemuck`](https://docs.rs/bytemuck) defines it: numbers, arrays
/// of them, and types that derive `bytemuck::Pod`. One that is aligned to more than 4096, or has no
/// bytes at all, is refused when the program is compiled.
///
/// ```
/// use procession::{Pool, SharedSlice, task};
///
/// #[task]
/// fn sum(numbers: SharedSlice<u64>) -> u64 {
///     numbers.iter().sum()
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let pool = Pool::builder().processes(2).build()?;
/// let numbers: SharedSlice<u64> = (0..100_000).collect();
/// let sums = pool.map(sum, numbers.chunks(4096))?; // No number is copied.
/// assert_eq!(sums.iter().sum::<u64>(), 4_999_950_000);
/// # Ok(())
/// # }
/// ```
pub struct SharedSlice<T> {
    items: Frozen<T>,
}

impl<T: Plain> SharedSlice<T> {
    /// A shared copy of these items.
    ///
    /// # Errors
    /// There are none, or there is no memory for them.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let primes = procession::SharedSlice::from_slice(&[2, 3, 5, 7])?;
    /// assert_eq!(primes[2], 5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_slice(items: &[T]) -> Result<Self, Error> {
        if items.is_empty() { Err(empty("a shared slice")) } else { Self::copy(items) }
    }

    /// As [`from_slice`](Self::from_slice). The vector's own memory is given back.
    ///
    /// # Errors
    /// As [`from_slice`](Self::from_slice).
    pub fn from_vec(items: Vec<T>) -> Result<Self, Error> {
        Self::from_slice(&items)
    }

    /// Collects an iterator's items. Where `collect` would panic, this is an error. One that yields
    /// nothing gives an empty slice.
    ///
    /// # Errors
    /// There is no memory for them.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let squares = procession::SharedSlice::try_from_iter((0_u32..4).map(|i| i * i))?;
    /// assert_eq!(squares, [0, 1, 4, 9]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_from_iter(items: impl IntoIterator<Item = T>) -> Result<Self, Error> {
        Self::copy(&items.into_iter().collect::<Vec<T>>())
    }

    fn copy(items: &[T]) -> Result<Self, Error> {
        let what = || format!("a shared slice of {} items", items.len());
        let items = Frozen::create(items).map_err(|error| cannot_make(&what(), &error))?;
        Ok(Self { items })
    }
}

impl<T> SharedSlice<T> {
    /// Some of the items, without a copy. It keeps all of them in memory.
    ///
    /// # Panics
    /// The range isn't inside. It may be empty.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let letters = procession::SharedSlice::from_slice(b"procession")?;
    /// assert_eq!(letters.slice(3..7), b"cess");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        Self { items: self.items.part(inside(&range, self.len())) }
    }

    /// Parts of `size` items each, the last of which may be shorter, without a copy: the inputs of a
    /// `map`. For borrowed ones there is the slice's own method, `(*shared).chunks(size)`.
    ///
    /// # Panics
    /// `size` is 0.
    #[track_caller]
    pub fn chunks(
        &self,
        size: usize,
    ) -> impl ExactSizeIterator<Item = Self> + DoubleEndedIterator + Clone + use<T> {
        let whole = self.clone();
        pieces(self.len(), size).map(move |range| whole.slice(range))
    }
}

impl<T> Clone for SharedSlice<T> {
    /// Another handle on the same items.
    fn clone(&self) -> Self {
        Self { items: self.items.clone() }
    }
}

impl<T> Deref for SharedSlice<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> AsRef<[T]> for SharedSlice<T> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<'a, T> IntoIterator for &'a SharedSlice<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: Plain> FromIterator<T> for SharedSlice<T> {
    /// # Panics
    /// There is no memory, as with a vector. [`try_from_iter`](SharedSlice::try_from_iter) doesn't
    /// panic.
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self::try_from_iter(items).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl<T: PartialEq, U: AsRef<[T]> + ?Sized> PartialEq<U> for SharedSlice<T> {
    fn eq(&self, other: &U) -> bool {
        **self == *other.as_ref()
    }
}

impl<T: Eq> Eq for SharedSlice<T> {}

impl<T: fmt::Debug> fmt::Debug for SharedSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T> Serialize for SharedSlice<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.items.object(), self.items.start(), self.len()).serialize(serializer)
    }
}

impl<'de, T: Plain> Deserialize<'de> for SharedSlice<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (object, start, length) = <(Object, usize, usize)>::deserialize(deserializer)?;
        let items = Frozen::open(object, start, length).map_err(D::Error::custom)?;
        Ok(Self { items })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::codec::{self, passing};

    fn sent<T: Serialize, U: serde::de::DeserializeOwned>(value: &T) -> Result<U, codec::Error> {
        let mut bytes = Vec::new();
        let (encoded, _handles) = passing::collecting(|| codec::encode(value, &mut bytes));
        encoded?;
        assert!(bytes.len() <= 30, "a handle is a few bytes");
        passing::receiving(|| codec::decode(&bytes))
    }

    #[test]
    fn a_sent_slice_is_the_same_memory() {
        let slice = SharedSlice::from_vec((0..10_000_u64).collect()).unwrap();
        let part: SharedSlice<u64> = sent(&slice.slice(5000..)).unwrap();
        assert_eq!(part, slice[5000..]);
        assert_eq!(part.as_ptr(), slice[5000..].as_ptr());
        let again: SharedSlice<u64> = sent(&part.slice(1..3)).unwrap();
        assert_eq!(again, [5001, 5002]);
    }

    #[test]
    fn a_forged_handle_is_an_error() {
        let slice = SharedSlice::from_slice(&[1_u32, 2, 3]).unwrap();
        let object = slice.items.object();
        assert!(sent::<_, SharedSlice<u32>>(&(object, 0_usize, 3_usize)).is_ok());
        for (start, length) in [(0, 4), (3, 1), (usize::MAX, 1), (1, usize::MAX)] {
            assert!(sent::<_, SharedSlice<u32>>(&(object, start, length)).is_err());
        }
        let error = sent::<_, SharedSlice<f32>>(&slice).unwrap_err();
        assert!(error.to_string().contains("another type"), "{error}");
        let gone = ((u32::MAX, 1_u32), 0_usize, 1_usize);
        assert!(sent::<_, SharedSlice<u32>>(&gone).is_err());
    }

    #[test]
    fn emptiness_is_an_error_unless_it_comes_about() {
        assert!(SharedSlice::<u8>::from_slice(&[]).is_err());
        assert!(SharedSlice::<u8>::from_vec(Vec::new()).is_err());
        let none: SharedSlice<u8> = std::iter::empty().collect();
        assert!(none.is_empty() && none.chunks(3).len() == 0);
        let slice = SharedSlice::from_slice(&[1_u8, 2]).unwrap();
        let end: SharedSlice<u8> = sent(&slice.slice(2..)).unwrap();
        assert_eq!(end, []);
        assert_eq!(sent::<_, SharedSlice<u8>>(&none).unwrap(), none);
    }

    #[test]
    #[should_panic(expected = "not inside of 0..2")]
    fn a_part_from_outside_panics() {
        let _ = SharedSlice::from_slice(&[1_u8, 2]).unwrap().slice(1..3);
    }
}

//! Raw bytes that many processes read and write at any time.

use std::fmt;
use std::ops::RangeBounds;
use std::sync::atomic::AtomicU64;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::plain::Plain;
use super::{cannot_make, empty, resolve};
use crate::error::Error;
use crate::shm::heap::{Kind, Object, Request};
use crate::shm::words;
use crate::transport::codec::passing;

/// Raw bytes, zeros at first, that every holder of a handle reads and writes at any time.
///
/// There is no lock, and no slice is ever given out: bytes are copied in and out. Nothing that is longer
/// than one byte is read or written at once; what several processes write at the same time may come out
/// mixed. For plain data with an owner, use [`SharedArray`](crate::SharedArray); for one value that is
/// always whole, [`SharedValue`](crate::SharedValue).
///
/// A handle travels in calls and results. The memory is given back when the last one is gone.
///
/// ```
/// # fn main() -> Result<(), procession::Error> {
/// use procession::SharedMemory;
///
/// let memory = SharedMemory::new(4096)?;
/// memory.write_at(100, b"procession")?;
/// assert_eq!(memory.copy_to_vec(100..103)?, b"pro");
/// memory.store(8, 1.5_f64)?;
/// assert_eq!(memory.load::<f64>(8)?, 1.5);
/// assert!(memory.write_at(4090, b"too long").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SharedMemory {
    object: Object,
}

impl SharedMemory {
    /// So many bytes, all zeros.
    ///
    /// # Errors
    /// `size` is 0, or there is no memory.
    pub fn new(size: usize) -> Result<Self, Error> {
        if size == 0 {
            return Err(empty("shared memory"));
        }
        let cannot = |error| cannot_make(&format!("{size} bytes of shared memory"), &error);
        let object = Object::create(Request {
            length: size as u64,
            bytes: (size as u64).checked_next_multiple_of(words::WORD as u64).unwrap_or(u64::MAX),
            ..Request::small(Kind::Memory)
        });
        Self::open(object.map_err(cannot)?).map_err(cannot)
    }

    fn open(object: Object) -> std::io::Result<Self> {
        let memory = Self { object };
        let _ = memory.object.words(memory.len().div_ceil(words::WORD))?;
        Ok(memory)
    }

    fn words(&self) -> &[AtomicU64] {
        self.object.words(self.len().div_ceil(words::WORD)).expect("`open` has mapped it")
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        usize::try_from(self.object.length()).unwrap_or(usize::MAX)
    }

    /// False: there is at least one byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes out, as many as `to` has.
    ///
    /// # Errors
    /// They aren't all inside; then nothing is copied.
    pub fn read_at(&self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        self.check(offset, to.len())?;
        words::read(self.words(), offset, to);
        Ok(())
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// They don't all fit; then nothing is copied.
    pub fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), Error> {
        self.check(offset, from.len())?;
        words::write(self.words(), offset, from);
        Ok(())
    }

    /// Reads a value of plain data. The offset needn't be aligned.
    ///
    /// # Errors
    /// It isn't all inside.
    pub fn load<T: Plain>(&self, offset: usize) -> Result<T, Error> {
        let mut value = T::zeroed();
        self.read_at(offset, bytemuck::bytes_of_mut(&mut value))?;
        Ok(value)
    }

    /// Writes a value of plain data. The offset needn't be aligned.
    ///
    /// # Errors
    /// It doesn't fit; then nothing is written.
    pub fn store<T: Plain>(&self, offset: usize, value: T) -> Result<(), Error> {
        self.write_at(offset, bytemuck::bytes_of(&value))
    }

    /// Copies a range out.
    ///
    /// # Errors
    /// It isn't inside.
    pub fn copy_to_vec(&self, range: impl RangeBounds<usize>) -> Result<Vec<u8>, Error> {
        let range = resolve(&range, self.len()).ok_or_else(|| self.outside(&range))?;
        let mut bytes = vec![0; range.len()];
        words::read(self.words(), range.start, &mut bytes);
        Ok(bytes)
    }

    /// Writes the same byte to all of a range.
    ///
    /// # Errors
    /// It isn't inside; then nothing is written.
    pub fn fill(&self, range: impl RangeBounds<usize>, byte: u8) -> Result<(), Error> {
        let range = resolve(&range, self.len()).ok_or_else(|| self.outside(&range))?;
        words::fill(self.words(), range, byte);
        Ok(())
    }

    fn check(&self, offset: usize, length: usize) -> Result<(), Error> {
        let end = offset.checked_add(length).filter(|end| *end <= self.len());
        end.map(|_| ()).ok_or_else(|| {
            Error::usage(format!(
                "{length} bytes at {offset} aren't inside of shared memory of {} bytes",
                self.len()
            ))
        })
    }

    fn outside(&self, range: &impl RangeBounds<usize>) -> Error {
        let (start, end) = (range.start_bound(), range.end_bound());
        Error::usage(format!(
            "the range from {start:?} to {end:?} isn't inside of shared memory of {} bytes",
            self.len()
        ))
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemory").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Serialize for SharedMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::open(passing::receive(deserializer, Kind::Memory, 0)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_zeroed_and_bounded() {
        let memory = SharedMemory::new(13).unwrap();
        assert_eq!(memory.copy_to_vec(..).unwrap(), [0; 13]);
        memory.fill(.., 1).unwrap();
        memory.store(9, 0x0403_0201_u32.to_le()).unwrap();
        assert_eq!(memory.copy_to_vec(8..).unwrap(), [1, 1, 2, 3, 4]);
        assert!(memory.store(10, 0_u32).is_err());
        assert!(memory.load::<u8>(13).is_err());
        assert!(memory.load::<u64>(usize::MAX).is_err());
        assert!(memory.copy_to_vec(..14).is_err());
        let error = memory.fill(5..=13, 0).unwrap_err().to_string();
        assert!(error.contains("of 13 bytes"), "{error}");
        assert_eq!(memory.copy_to_vec(..8).unwrap(), [1; 8]);
    }

    #[test]
    fn no_size_and_too_much_are_errors() {
        for size in [0, usize::MAX, usize::MAX / 2, 1 << 43] {
            assert!(SharedMemory::new(size).is_err(), "{size}");
        }
    }
}

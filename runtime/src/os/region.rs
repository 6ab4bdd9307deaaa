//! One sparse file in memory, which many processes map in windows.
//!
//! The file is far longer than any memory, and sealed in its length, so that no look into a window is
//! ever fatal. Memory is taken where it is [reserved](SparseFile::reserve), or else by the first touch.

#![expect(unsafe_code, reason = "mappings are raw memory")]

use std::ffi::CStr;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

use super::memory::Shareable;

/// Requests above this are first compared with the memory that is there.
const LARGE: u64 = 16 << 20;

/// The least that is taken at once.
const SMALL: u64 = 64 << 10;

// SAFETY: an atomic integer has interior mutability, and every bit pattern is a value.
unsafe impl Shareable for AtomicU8 {}
// SAFETY: as above.
unsafe impl Shareable for AtomicU32 {}
// SAFETY: as above.
unsafe impl Shareable for AtomicU64 {}

/// See the file's head.
pub(crate) struct SparseFile {
    file: std::fs::File,
}

impl SparseFile {
    /// A new file of this length, which takes no memory yet.
    ///
    /// # Errors
    /// No descriptor is left, or the limit on the size of files (`ulimit -f`) is lower.
    pub(crate) fn create(name: &CStr, length: u64) -> io::Result<Self> {
        if !may_write_up_to(length) {
            // The kernel would end the process.
            return Err(io::Error::other(
                "the limit on the size of files (`ulimit -f`) is too low",
            ));
        }
        let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&fd, signed(length)?)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&fd, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(Self { file: fd.into() })
    }

    /// The file that another process has created.
    pub(crate) fn open(fd: OwnedFd, length: u64) -> io::Result<Self> {
        let seals = fcntl(&fd, FcntlArg::F_GET_SEALS)?;
        let sealed = SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SHRINK);
        if !sealed || u64::try_from(fstat(&fd)?.st_size).unwrap_or(0) < length {
            return Err(io::Error::other("the shared memory isn't what it should be"));
        }
        Ok(Self { file: fd.into() })
    }

    /// Takes memory for a range, so that touching it can't fail.
    ///
    /// # Errors
    /// There isn't so much memory.
    pub(crate) fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        // The kernel would try, and then have a process killed.
        if length > LARGE && super::available::memory().is_some_and(|there| length > there) {
            return Err(io::Error::from(io::ErrorKind::OutOfMemory));
        }
        // In steps, because a signal may undo the whole of one; shorter ones where signals are frequent.
        let end = offset.saturating_add(length);
        let (mut at, mut most) = (offset, LARGE);
        while at < end {
            let step = (end - at).min(most);
            let flags = FallocateFlags::FALLOC_FL_KEEP_SIZE;
            match fallocate(&self.file, flags, signed(at)?, signed(step)?) {
                Ok(()) => at += step,
                Err(Errno::EINTR) => most = (most / 2).max(SMALL),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives the memory of a range back; it reads as zeros afterwards.
    pub(crate) fn give_back(&self, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        loop {
            match fallocate(&self.file, flags, signed(offset)?, signed(length)?) {
                Err(Errno::EINTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Writes without a lasting mapping. Nobody reads these bytes meanwhile.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if may_write_up_to(offset.saturating_add(bytes.len() as u64)) {
            return self.file.write_all_at(bytes, offset);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        // The limit came after the file, which has its length already; it is no limit for mappings.
        let ahead = (offset % 4096) as usize;
        let window = self.window(offset - ahead as u64, ahead + bytes.len(), true)?;
        let target = window.slice::<AtomicU8>(ahead, bytes.len());
        super::memory::copy_in(target.expect("the window is as long as that"), bytes);
        Ok(())
    }

    /// Writes zeros.
    pub(crate) fn zero(&self, offset: u64, length: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        let mut done = 0;
        while done < length {
            let step = (length - done).min(ZEROS.len() as u64);
            self.write(offset + done, &ZEROS[..step as usize])?;
            done += step;
        }
        Ok(())
    }

    /// Maps a range whose beginning lies on a page.
    pub(crate) fn window(&self, offset: u64, length: usize, writable: bool) -> io::Result<Window> {
        let length =
            NonZeroUsize::new(length).ok_or(io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut protection = ProtFlags::PROT_READ;
        protection.set(ProtFlags::PROT_WRITE, writable);
        let (flags, offset) = (MapFlags::MAP_SHARED, signed(offset)?);
        // SAFETY: the kernel chooses the place, so no existing memory is replaced; the file is longer
        // than anything that is mapped, and, being sealed, stays so.
        let at = unsafe { mmap(None, length, protection, flags, &self.file, offset) }?;
        Ok(Window { at: at.cast(), length: length.get(), writable })
    }
}

impl AsFd for SparseFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether the limit on the size of files lets this process write so far.
pub(super) fn may_write_up_to(end: u64) -> bool {
    getrlimit(Resource::RLIMIT_FSIZE).is_ok_and(|(limit, _)| end <= limit)
}

fn signed(number: u64) -> io::Result<i64> {
    i64::try_from(number).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// A part of the file in this process's memory, unmapped on drop.
pub(crate) struct Window {
    at: NonNull<u8>,
    length: usize,
    writable: bool,
}

// SAFETY: the mapping belongs to no thread; what is given out is `Sync` by `Shareable`, or vouched for
// by the caller of an unsafe method.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    fn place<T>(&self, offset: usize, count: usize) -> Option<NonNull<T>> {
        let bytes = count.checked_mul(size_of::<T>())?;
        if offset.checked_add(bytes)? > self.length || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        const { assert!(align_of::<T>() <= 4096) };
        // SAFETY: `offset` is at most `length`, the size of the mapping that begins at `at`.
        Some(unsafe { self.at.add(offset) }.cast())
    }

    /// The `T` at an offset; none if it isn't inside, isn't aligned, or may not be written.
    pub(crate) fn get<T: Shareable>(&self, offset: usize) -> Option<&T> {
        let at = self.place::<T>(offset, 1).filter(|_| self.writable)?;
        // SAFETY: `place` has checked bounds and alignment (the mapping begins on a page); any bits
        // are a valid `T`, whose fields all are atomics; the mapping outlives the borrow of `self`.
        Some(unsafe { at.as_ref() })
    }

    /// As [`get`](Self::get), several in a row.
    pub(crate) fn slice<T: Shareable>(&self, offset: usize, count: usize) -> Option<&[T]> {
        let at = self.place::<T>(offset, count).filter(|_| self.writable)?;
        // SAFETY: as in `get`, for `count` of them.
        Some(unsafe { std::slice::from_raw_parts(at.as_ptr(), count) })
    }

    /// Plain bytes.
    ///
    /// # Safety
    /// No process writes these bytes while the result lives.
    pub(crate) unsafe fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        let length = range.end.checked_sub(range.start)?;
        let at = self.place::<u8>(range.start, length)?;
        // SAFETY: `place` has checked the bounds, any byte is a `u8`, the mapping outlives the borrow
        // of `self`, and the caller vouches that nobody writes.
        Some(unsafe { std::slice::from_raw_parts(at.as_ptr(), length) })
    }

    /// Plain bytes to write.
    ///
    /// # Safety
    /// Nobody else, in any process, reads or writes these bytes while the result lives.
    #[expect(clippy::mut_from_ref, reason = "the caller vouches that there is no other one")]
    pub(crate) unsafe fn bytes_mut(&self, range: Range<usize>) -> Option<&mut [u8]> {
        let length = range.end.checked_sub(range.start)?;
        let at = self.place::<u8>(range.start, length).filter(|_| self.writable)?;
        // SAFETY: as in `bytes`; the window is writable, and the caller vouches that nobody else
        // looks.
        Some(unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), length) })
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: `window` made this mapping with this length, and no reference into it outlives
        // `self`.
        let _ = unsafe { munmap(self.at.cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn windows_see_the_same_memory() {
        let file = SparseFile::create(c"test", 1 << 40).unwrap();
        let far = 1 << 39;
        file.reserve(far, 8192).unwrap();
        file.write(far + 8, &[7; 8]).unwrap();
        let one = file.window(far, 8192, true).unwrap();
        let two = file.window(far, 4096, false).unwrap();
        assert_eq!(one.get::<AtomicU64>(8).unwrap().load(Ordering::Relaxed), 0x0707_0707_0707_0707);
        one.get::<AtomicU8>(9).unwrap().store(1, Ordering::Relaxed);
        // SAFETY: this test's one thread doesn't write meanwhile.
        assert_eq!(unsafe { two.bytes(8..11) }.unwrap(), [7, 1, 7]);
        file.give_back(far, 4096).unwrap();
        assert_eq!(one.get::<AtomicU8>(9).unwrap().load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_outside_is_not_there() {
        let file = SparseFile::create(c"test", 1 << 20).unwrap();
        let window = file.window(0, 4096, true).unwrap();
        assert!(window.get::<AtomicU64>(4088).is_some());
        assert!(window.get::<AtomicU64>(4096).is_none());
        assert!(window.get::<AtomicU64>(1).is_none());
        assert!(window.slice::<AtomicU64>(8, usize::MAX).is_none());
        let window = file.window(0, 4096, false).unwrap();
        assert!(window.get::<AtomicU64>(0).is_none());
    }

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        let file = SparseFile::create(c"test", 1 << 50).unwrap();
        assert!(file.reserve(0, 1 << 49).is_err());
    }
}

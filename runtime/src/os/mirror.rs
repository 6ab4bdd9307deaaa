//! A range of a file in memory that is mapped twice, one view right behind the other.
//!
//! What runs over the end of the range goes on in the second view, which shows the beginning: any bytes of
//! a ring, up to all of them, lie in one piece.

#![expect(unsafe_code, reason = "mappings are raw memory")]

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU8;

use nix::libc;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use nix::sys::stat::fstat;

/// No page is larger on any system that we know, nor smaller than 4 KiB.
pub(crate) const LARGEST_PAGE: usize = 64 * 1024;

/// Since Linux 5.14; the C library may not know it.
const MADV_POPULATE_WRITE: libc::c_int = 23;

/// See the file's head. Both views are unmapped on drop.
pub(crate) struct Mirror {
    at: NonNull<AtomicU8>,
    /// Of one view.
    length: usize,
}

// SAFETY: the mapping belongs to no thread, and only shared references to atomics are given out.
unsafe impl Send for Mirror {}
// SAFETY: as above.
unsafe impl Sync for Mirror {}

impl Mirror {
    /// Maps `length` bytes of a sealed file, twice. Offset and length are multiples of
    /// [`LARGEST_PAGE`].
    ///
    /// # Errors
    /// The file is too short, or there is no room for so much.
    pub(crate) fn map(fd: BorrowedFd<'_>, offset: usize, length: usize) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let end = offset.checked_add(length).ok_or_else(invalid)?;
        if !offset.is_multiple_of(LARGEST_PAGE) || !length.is_multiple_of(LARGEST_PAGE) {
            return Err(invalid());
        }
        if usize::try_from(fstat(fd)?.st_size).unwrap_or(0) < end {
            return Err(io::Error::other("the shared memory is too short"));
        }
        let both = length.checked_mul(2).and_then(NonZeroUsize::new).ok_or_else(invalid)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: the kernel chooses the place, so no existing memory is replaced.
        let at = unsafe { mmap_anonymous(None, both, ProtFlags::PROT_NONE, flags) }?;
        // From here on the address space is given back by `drop`, whatever fails.
        let mirror = Self { at: at.cast(), length };
        mirror.show(fd, offset, 0)?;
        mirror.show(fd, offset, length)?;
        Ok(mirror)
    }

    /// Puts a view of the file at `place`, 0 or the length of one.
    fn show(&self, fd: BorrowedFd<'_>, offset: usize, place: usize) -> io::Result<()> {
        assert!(place == 0 || place == self.length, "there are two places");
        // SAFETY: `place` is within the two lengths that `map` has reserved at `at`.
        let at = unsafe { self.at.byte_add(place) };
        let length = NonZeroUsize::new(self.length).expect("`map` has checked that it isn't empty");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        let offset = i64::try_from(offset).expect("the file is longer");
        // SAFETY: what is replaced is half of the reservation of `map`, in which nobody has a reference
        // yet; the file is long enough, as `map` has checked, and, being sealed, stays so.
        unsafe { mmap(Some(at.addr()), length, protection, flags, fd, offset) }?;
        Ok(())
    }

    /// Bytes from an offset within the range on, in one piece.
    ///
    /// # Panics
    /// The offset is outside, or there are more bytes than the range has.
    #[inline]
    pub(crate) fn bytes(&self, offset: usize, count: usize) -> &[AtomicU8] {
        assert!(offset < self.length && count <= self.length, "the bytes are in the two views");
        // SAFETY: by the assertion the bytes end within twice the length, all of which is mapped.
        let at = unsafe { self.at.add(offset) };
        // SAFETY: so many bytes are mapped at `at`, readable and writable, as long as `self` lives; that
        // some are seen at two addresses breaks no rule, for they are atomics.
        unsafe { std::slice::from_raw_parts(at.as_ptr(), count) }
    }

    /// Takes memory for a part of the range, so that touching it can't fail.
    ///
    /// # Errors
    /// There isn't so much memory, or the kernel is older than Linux 5.14.
    pub(crate) fn reserve(&self, part: Range<usize>) -> io::Result<()> {
        self.advise(part, MADV_POPULATE_WRITE)
    }

    /// Gives the memory of a part back; it reads as zeros afterwards, in all processes.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn give_back(&self, part: Range<usize>) -> io::Result<()> {
        self.advise(part, libc::MADV_REMOVE)
    }

    fn advise(&self, part: Range<usize>, advice: libc::c_int) -> io::Result<()> {
        assert!(part.start <= part.end && part.end <= self.length, "the part is inside");
        loop {
            // SAFETY: `part` is within the first view.
            let at = unsafe { self.at.byte_add(part.start) };
            // SAFETY: the range lies in this mapping. Neither advice makes it shorter or changes what may
            // be done with it; bytes that change meanwhile are atomics.
            let code = unsafe { libc::madvise(at.as_ptr().cast(), part.len(), advice) };
            if code == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        // SAFETY: `map` reserved twice the length at this place, and no reference into it outlives
        // `self`.
        let _ = unsafe { munmap(self.at.cast(), 2 * self.length) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};
    use std::sync::atomic::Ordering;

    use nix::sys::memfd::{MFdFlags, memfd_create};
    use nix::sys::stat::fstat;
    use nix::unistd::ftruncate;

    use super::*;

    const LENGTH: usize = 2 * LARGEST_PAGE;

    fn file() -> OwnedFd {
        let fd = memfd_create(c"test", MFdFlags::MFD_CLOEXEC).unwrap();
        ftruncate(&fd, (LARGEST_PAGE + LENGTH) as i64).unwrap();
        fd
    }

    #[test]
    fn the_end_goes_on_at_the_beginning() {
        let file = file();
        let mirror = Mirror::map(file.as_fd(), LARGEST_PAGE, LENGTH).unwrap();
        let over_the_end = mirror.bytes(LENGTH - 2, 4);
        (1..).zip(over_the_end).for_each(|(value, byte)| byte.store(value, Ordering::Relaxed));
        let read =
            |offset| mirror.bytes(offset, 2).iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let (first, last): (Vec<u8>, Vec<u8>) = (read(0), read(LENGTH - 2));
        assert_eq!((first, last), (vec![3, 4], vec![1, 2]));
        let whole = mirror.bytes(LENGTH - 1, LENGTH);
        assert_eq!(whole[0].load(Ordering::Relaxed), 2);
        assert_eq!(whole[1].load(Ordering::Relaxed), 3);
    }

    #[test]
    fn memory_is_taken_and_given_back() {
        let file = file();
        let mirror = Mirror::map(file.as_fd(), LARGEST_PAGE, LENGTH).unwrap();
        let taken = || fstat(&file).unwrap().st_blocks * 512;
        assert_eq!(taken(), 0);
        mirror.reserve(0..LARGEST_PAGE).unwrap();
        assert_eq!(taken(), LARGEST_PAGE as i64);
        mirror.give_back(0..LARGEST_PAGE).unwrap();
        assert_eq!(taken(), 0);
    }

    #[test]
    fn a_range_that_is_not_there_is_an_error() {
        let file = file();
        assert!(Mirror::map(file.as_fd(), 2 * LARGEST_PAGE, LENGTH).is_err());
        assert!(Mirror::map(file.as_fd(), 1, LENGTH).is_err());
        assert!(Mirror::map(file.as_fd(), 0, 0).is_err());
    }

    #[test]
    #[should_panic(expected = "the bytes are in the two views")]
    fn nothing_beyond_is_shown() {
        let file = file();
        Mirror::map(file.as_fd(), 0, LENGTH).unwrap().bytes(1, LENGTH + 1);
    }
}

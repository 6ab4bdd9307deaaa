//! Anonymous memory that two processes share.

#![expect(unsafe_code, reason = "mappings are raw memory")]

use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU64};

use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

/// A type that may lie in memory which another process changes at will.
///
/// # Safety
/// Every bit pattern is a valid value, in particular all zeros, and all fields have interior
/// mutability (atomics or arrays of them), so that a change from outside breaks no rule of Rust.
pub(crate) unsafe trait Shareable: Sized + Sync {}

/// A `T` in a mapping of its own, unmapped on drop.
pub(crate) struct Shared<T: Shareable> {
    at: NonNull<T>,
}

// SAFETY: the mapping belongs to no thread, and `T: Sync` by `Shareable`.
unsafe impl<T: Shareable> Send for Shared<T> {}
// SAFETY: only `&T` is given out, and `T: Sync` by `Shareable`.
unsafe impl<T: Shareable> Sync for Shared<T> {}

impl<T: Shareable> Shared<T> {
    const SIZE: NonZeroUsize = NonZeroUsize::new(size_of::<T>()).expect("nothing empty is shared");

    /// New zeroed memory, reserved, so that writing to it can't fail later, and its descriptor.
    pub(crate) fn create(name: &std::ffi::CStr) -> io::Result<(Self, OwnedFd)> {
        let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        let size = i64::try_from(Self::SIZE.get()).expect("shared types are small");
        fallocate(&fd, FallocateFlags::empty(), 0, size)?;
        seal(&fd)?;
        Ok((Self::map(fd.as_fd())?, fd))
    }

    /// New zeroed memory in a file of `length` bytes, of which nothing but the first `reserved` takes
    /// memory before it is touched, or reserved by whoever maps it.
    ///
    /// # Errors
    /// The system refuses, or the limit on the size of files (`ulimit -f`) is lower.
    pub(crate) fn create_in(
        name: &std::ffi::CStr,
        reserved: usize,
        length: usize,
    ) -> io::Result<(Self, OwnedFd)> {
        assert!(reserved <= length && Self::SIZE.get() <= length, "it is long enough");
        if !super::region::may_write_up_to(length as u64) {
            // The kernel would end the process.
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        let size = |size| i64::try_from(size).expect("shared types are small");
        ftruncate(&fd, size(length))?;
        fallocate(&fd, FallocateFlags::empty(), 0, size(reserved))?;
        seal(&fd)?;
        Ok((Self::map(fd.as_fd())?, fd))
    }

    /// Maps memory that another process has created.
    pub(crate) fn open(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let size = usize::try_from(fstat(fd)?.st_size).unwrap_or(0);
        if size < Self::SIZE.get() {
            return Err(io::Error::other("the shared memory is too short"));
        }
        Self::map(fd)
    }

    fn map(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses the place, so no existing memory is replaced; the file is at
        // least as long as the mapping and, being sealed by `create`, stays so.
        let at = unsafe { mmap(None, Self::SIZE, protection, MapFlags::MAP_SHARED, fd, 0) }?;
        Ok(Self { at: at.cast() })
    }
}

impl<T: Shareable> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        const { assert!(align_of::<T>() <= 4096) };
        // SAFETY: the mapping lives as long as `self`, is page-aligned and long enough; any bits are
        // a valid `T`, and all its fields are atomics (`Shareable`).
        unsafe { self.at.as_ref() }
    }
}

impl<T: Shareable> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: `map` made this mapping with this size, and no reference into it outlives `self`.
        let _ = unsafe { munmap(self.at.cast(), Self::SIZE.get()) };
    }
}

/// Nobody can shorten the file any more, which would make a look at it fatal.
fn seal(fd: &OwnedFd) -> io::Result<()> {
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(fd, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(())
}

/// The same memory as another type; none if it is too short or not aligned.
pub(crate) fn view<T: Shareable>(words: &[AtomicU64]) -> Option<&T> {
    let at = NonNull::from(words).cast::<T>();
    if size_of_val(words) < size_of::<T>() || !at.is_aligned() {
        return None;
    }
    // SAFETY: length and alignment were just checked, any bits are a valid `T`, whose fields are all
    // atomics, as the words are (`Shareable`), and the borrow is that of `words`.
    Some(unsafe { at.as_ref() })
}

/// Copies go in pieces of this size, since glibc turns longer ones into `rep movsb`, which takes up to 15
/// times as long on AMD's Zen where the target lies a few bytes behind the source, modulo the page size.
const PIECE: usize = 1024;

/// Copies `from` to the front of `to`, as fast as plain memory. Only the side that owns these bytes
/// by the protocol of the memory may call it.
#[inline(always)]
pub(crate) fn copy_in(to: &[AtomicU8], from: &[u8]) {
    assert!(from.len() <= to.len(), "the copy fits");
    // Where the length is known to be short, nothing is left of the loop.
    if from.len() <= PIECE {
        return copy_piece(to, from);
    }
    for (to, from) in to.chunks(PIECE).zip(from.chunks(PIECE)) {
        copy_piece(to, from);
    }
}

#[inline(always)]
fn copy_piece(to: &[AtomicU8], from: &[u8]) {
    let to = &to[..from.len()];
    let target = to.as_ptr().cast_mut().cast::<u8>();
    // SAFETY: `to` is as long as `from`, being cut so; atomics may be written through a shared reference.
    // No other thread of this process touches the bytes (the caller of `copy_in` owns them), and what
    // another process reads meanwhile is discarded there by its check of the published length.
    unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), target, from.len()) };
}

/// Appends bytes, as `extend_from_slice`, which is slow for long ones that lie unluckily: see [`PIECE`].
#[inline]
pub(crate) fn append(from: &[u8], to: &mut Vec<u8>) {
    if from.len() >= WORTH_HUGE && to.is_empty() {
        reserve_long(to, from.len());
    }
    to.reserve(from.len());
    for from in from.chunks(PIECE) {
        to.extend_from_slice(from);
    }
}

/// Shorter memory is left in small pages. A block of this size lies in huge pages but for its ends.
const WORTH_HUGE: usize = 4 << 20;

/// Makes room for `count` more elements at least, as far as there is memory, and takes none before it is written.
/// For room that is made once: it is exact, and the next time that it grows everything may be moved.
///
/// The first write to a small page costs more than copying it does, three to five times in all; one to a
/// huge page next to nothing. So long memory, which will be filled soon, is asked for in huge pages.
///
/// The advice stays with the addresses. The allocator mostly unmaps a block of this size when it is freed, and
/// the advice is gone. But the GNU C library, once it has freed one, puts blocks of up to 32 MiB into its heap,
/// where what comes later to the place of the block will lie in huge pages as well. That takes no more
/// memory than the block did, and the heap keeps most of that anyway; it can't be undone, since the opposite
/// advice would stay, too.
pub(crate) fn reserve_long<T>(to: &mut Vec<T>, count: usize) {
    let before = to.capacity();
    if to.try_reserve_exact(count).is_err() || to.capacity() == before {
        return;
    }
    let spare = to.spare_capacity_mut();
    let (at, length) = (spare.as_mut_ptr().addr(), size_of_val(spare));
    if length < WORTH_HUGE {
        return;
    }
    let (start, end) = (at.next_multiple_of(PAGE), (at + length) / PAGE * PAGE);
    let start_of_pages = std::ptr::without_provenance_mut(start);
    // SAFETY: the range lies in the allocation of `to`, at whole pages. The advice changes nothing of what
    // is there, only in which pages it lies; a system that doesn't know it says so, and all is as before.
    unsafe { libc::madvise(start_of_pages, end - start, libc::MADV_HUGEPAGE) };
}

/// The kernel wants advice for whole pages. Where they are longer it refuses, or the ends are lucky.
const PAGE: usize = 4096;

/// Appends bytes that another process has written; each is read once.
pub(crate) fn copy_out(from: &[AtomicU8], to: &mut Vec<u8>) {
    to.extend(from.iter().map(|byte| byte.load(std::sync::atomic::Ordering::Relaxed)));
}

/// Appends bytes that are in shared memory, as fast as plain memory. Only the side that owns these bytes
/// by the protocol of the memory may call it.
#[inline]
pub(crate) fn copy_owned(from: &[AtomicU8], to: &mut Vec<u8>) {
    to.reserve(from.len());
    for from in from.chunks(PIECE) {
        let (source, length) = (from.as_ptr().cast::<u8>(), to.len() + from.len());
        let target = to.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        // SAFETY: `from` is readable over its length, and the spare capacity, which is private memory, was
        // reserved for all pieces. No other thread of this process writes these bytes (the caller owns
        // them), and what another process writes against the protocol only changes which bytes are
        // copied: all are valid.
        unsafe { std::ptr::copy_nonoverlapping(source, target, from.len()) };
        // SAFETY: the capacity was reserved, and the bytes up to the new length were written just now.
        unsafe { to.set_len(length) };
    }
}

/// Appends at most `most` bytes that a socket has; what is read isn't zeroed before.
///
/// # Errors
/// As `read`.
pub(crate) fn read_onto(
    socket: BorrowedFd<'_>,
    to: &mut Vec<u8>,
    most: usize,
) -> io::Result<usize> {
    to.reserve(most);
    let room = to.spare_capacity_mut().as_mut_ptr();
    // SAFETY: `most` bytes of spare capacity were reserved just now, and the kernel writes no more.
    let count = unsafe { libc::read(socket.as_raw_fd(), room.cast(), most) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written so many bytes behind the old length, within the capacity.
    unsafe { to.set_len(to.len() + count) };
    Ok(count)
}

/// The first eight bytes, little-endian, if there are so many. Only the side that owns these bytes by the
/// protocol of the memory may call it.
#[inline]
pub(crate) fn read_word(from: &[AtomicU8]) -> Option<u64> {
    let bytes = from.first_chunk::<8>()?;
    // SAFETY: the eight bytes are readable, and any address is aligned for bytes. No other thread of this
    // process writes them (the caller owns them), and what another process writes against the protocol
    // only changes the number, which is the caller's to check.
    let bytes = unsafe { bytes.as_ptr().cast::<[u8; 8]>().read() };
    Some(u64::from_le_bytes(bytes))
}

/// Writes a number to the first eight bytes, little-endian, as [`copy_in`].
#[inline]
pub(crate) fn write_word(to: &[AtomicU8], word: u64) {
    let bytes = to.first_chunk::<8>().expect("the number fits");
    let target = bytes.as_ptr().cast_mut().cast::<[u8; 8]>();
    // SAFETY: eight bytes are there, any address is aligned for bytes, and atomics may be written through
    // a shared reference. No other thread of this process touches them (the caller owns them), and what
    // another process reads meanwhile is discarded there by its check of what was published.
    unsafe { target.write(word.to_le_bytes()) };
}

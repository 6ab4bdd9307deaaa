//! A pair of fences of which one is nearly free, because the other one does the work of both.
//!
//! Two parties each store to a word of their own and then load the other's: at least one of them has to
//! see the other's store. That takes a full fence on both sides, 5 ns each. Where one side comes past
//! millions of times for each time that the other one does, `membarrier` (Linux 4.16) lets the rare side
//! pay for both: it makes every processor that runs a registered process pass a full fence.
//!
//! A process uses [`light`] fences that are free only after it was [registered](register), best while it has
//! one thread, since it takes milliseconds afterwards; until then, and
//! where the kernel has no `membarrier`, they are full ones. [`heavy`] is always a full fence, too, so
//! that it goes with either kind, as long as it is [able](can_be_heavy) to do what registered ones rely on.

#![expect(unsafe_code, reason = "the C library has no function for this system call")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};

use nix::libc::{self, c_int, c_long};

const GLOBAL_EXPEDITED: c_int = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: c_int = 1 << 2;

static REGISTERED: AtomicBool = AtomicBool::new(false);

/// Lets this process's light fences be free. The caller knows that every process that is the other side
/// [can be heavy](can_be_heavy).
pub(crate) fn register() {
    if !REGISTERED.load(Ordering::Relaxed) && membarrier(REGISTER_GLOBAL_EXPEDITED) {
        REGISTERED.store(true, Ordering::Relaxed);
    }
}

/// The side that is passed often.
#[inline]
pub(crate) fn light() {
    if REGISTERED.load(Ordering::Relaxed) {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// The side that is passed rarely. False: the kernel had no memory for it, so that it reached nobody whose
/// fences are free.
pub(crate) fn heavy() -> bool {
    fence(Ordering::SeqCst);
    let reached = !can_be_heavy() || membarrier(GLOBAL_EXPEDITED);
    fence(Ordering::SeqCst);
    reached
}

/// Whether this process's heavy fences reach others.
pub(crate) fn can_be_heavy() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| membarrier(GLOBAL_EXPEDITED))
}

fn membarrier(command: c_int) -> bool {
    let (flags, cpu): (c_int, c_int) = (0, 0);
    // SAFETY: the system call takes three numbers and touches no memory of this process.
    let result: c_long = unsafe { libc::syscall(libc::SYS_membarrier, command, flags, cpu) };
    result == 0
}

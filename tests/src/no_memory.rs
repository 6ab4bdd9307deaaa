//! A kernel that has no memory to reserve in shared files: `fallocate` fails, by a filter on system calls.

#![expect(unsafe_code, reason = "the C library has no function for seccomp")]

use nix::libc;

/// Which reservations fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoMemory {
    /// All.
    AtAll,
    /// All in a worker's rings, but for their first 64 KiB: see `shm/page.rs` for where they lie. The
    /// first 64 KiB of the heap's entries lie at the same place of their file, and can be had as well.
    InRings,
}

impl NoMemory {
    /// From now on this thread, and all processes that it starts, live with that.
    ///
    /// # Panics
    /// The kernel has no filters.
    pub fn begin(self) {
        const OFFSET: u32 = std::mem::offset_of!(libc::seccomp_data, args) as u32 + 2 * 8;
        let (low, high) = if cfg!(target_endian = "little") { (0, 4) } else { (4, 0) };
        let load = |at| stmt(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
        let allow = stmt(libc::BPF_RET, libc::SECCOMP_RET_ALLOW);
        let fail = stmt(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | libc::ENOSPC as u32);
        let is = |number, then, otherwise| jump(libc::BPF_JEQ, number, then, otherwise);
        let from = |number, then, otherwise| jump(libc::BPF_JGE, number, then, otherwise);
        let number = libc::SYS_fallocate as u32;
        let mut filter = match self {
            Self::AtAll => vec![load(0), is(number, 0, 1), fail, allow],
            Self::InRings => vec![
                load(0),
                is(number, 0, 8),
                load(OFFSET + high),
                is(0, 0, 6),
                load(OFFSET + low),
                // Behind the first part of the ring to the worker, but for the beginning of the entries …
                from(0x30000, 0, 4),
                is(0x10_0000, 3, 0),
                // … and of the ring from it.
                is(0x12_0000, 2, 0),
                from(0x22_0000, 1, 0),
                fail,
                allow,
            ],
        };
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: it takes four numbers, and only forbids this thread to gain rights.
        let is_set = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        assert_eq!(is_set, 0, "a process may give up rights");
        let mode = libc::SECCOMP_MODE_FILTER;
        // SAFETY: `program` and the filter that it points to live until the call has ended, and the kernel
        // copies them.
        let is_set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
        assert_eq!(is_set, 0, "the kernel has filters");
    }
}

fn stmt(code: u32, number: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: 0, k: number }
}

/// Skips so many instructions if the comparison holds, or if it doesn't.
fn jump(comparison: u32, number: u32, then: u8, otherwise: u8) -> libc::sock_filter {
    let code = (libc::BPF_JMP | comparison | libc::BPF_K) as u16;
    libc::sock_filter { code, jt: then, jf: otherwise, k: number }
}

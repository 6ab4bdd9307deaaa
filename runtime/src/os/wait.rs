//! Waiting for, killing and reaping a child through its pidfd.

#![expect(unsafe_code, reason = "pidfd_open, and waitid with its usage, have no safe wrapper")]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout};

use crate::error::Usage;

/// A descriptor for the process `pid`; readable when it has ended.
pub(crate) fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and returns a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).expect("descriptors are C ints");
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, close-on-exec, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What became of a child that was waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ended {
    Not,
    With(ExitStatus, Usage),
    /// Somebody else in this process has taken the status (SIGCHLD ignored, or a foreign `wait`).
    Unknown,
}

/// Reaps the child if it has ended; never blocks.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> io::Result<Ended> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut used = MaybeUninit::<libc::rusage>::zeroed();
    let id = pidfd.as_raw_fd();
    let options = libc::WEXITED | libc::WNOHANG;
    let (info_at, used_at) = (info.as_mut_ptr(), used.as_mut_ptr());
    // SAFETY: both are storage for one value of their type. The C library's function lacks the last argument.
    let code =
        unsafe { libc::syscall(libc::SYS_waitid, libc::P_PIDFD, id, info_at, options, used_at) };
    if code < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::ECHILD) => Ok(if ended(pidfd)? { Ended::Unknown } else { Ended::Not }),
            Some(libc::EINTR) => reap(pidfd),
            _ => Err(error),
        };
    }
    // SAFETY: it was zeroed, which is a valid siginfo_t, and the call has filled it or left it.
    let info = unsafe { info.assume_init() };
    // SAFETY: after waitid the child fields are the ones in use; zeroed ones read as 0.
    let pid = unsafe { info.si_pid() };
    if pid == 0 {
        return Ok(Ended::Not);
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let raw = match info.si_code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status | 0x80,
        _ => status,
    };
    // SAFETY: as `info` above.
    let used = unsafe { used.assume_init() };
    let usage = Usage {
        user: duration(used.ru_utime),
        system: duration(used.ru_stime),
        max_resident: u64::try_from(used.ru_maxrss).ok().map(|kib| kib * 1024),
    };
    Ok(Ended::With(ExitStatus::from_raw(raw), usage))
}

fn duration(time: libc::timeval) -> Duration {
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    Duration::from_secs(part(time.tv_sec)) + Duration::from_micros(part(time.tv_usec))
}

/// Whether the process is a child of this one that hasn't been reaped.
pub(crate) fn is_child(pidfd: BorrowedFd<'_>) -> bool {
    let id = pidfd.as_raw_fd() as libc::id_t;
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the call fills no memory when it is given none.
    unsafe { libc::waitid(libc::P_PIDFD, id, std::ptr::null_mut(), options) == 0 }
}

/// Whether the process has ended.
pub(crate) fn ended(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(!ready(&[pidfd], Some(Duration::ZERO))?.is_empty())
}

/// Sends a signal; a process that is gone already is no error.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let fd = pidfd.as_raw_fd();
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the call takes a descriptor, a number, a null pointer (allowed) and no flags.
    let code = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) };
    if code == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// Waits until at least one of `fds` is readable or hung up and returns the indices of all that
/// are; none when the time is over first.
pub(crate) fn ready(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<usize>> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)).collect();
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        match nix::poll::poll(&mut polled, poll_timeout(left)) {
            Ok(0) if left.is_none_or(|left| !left.is_zero()) => {}
            Ok(0) => return Ok(Vec::new()),
            Ok(_) => break,
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((0..polled.len()).filter(|i| polled[*i].any().unwrap_or(true)).collect())
}

/// Waits until `fd` is readable or hung up. False: the deadline has passed first.
pub(crate) fn readable(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    until(fd, PollFlags::POLLIN, deadline)
}

/// Waits until `fd` is writable or hung up. False: the deadline has passed first.
pub(crate) fn writable(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    until(fd, PollFlags::POLLOUT, deadline)
}

/// Whether the peer of `socket` has closed it, or its sending side. What it had sent may still wait here.
pub(crate) fn has_hung_up(socket: BorrowedFd<'_>) -> io::Result<bool> {
    until(socket, PollFlags::from_bits_retain(libc::POLLRDHUP), Some(Instant::now()))
}

fn until(fd: BorrowedFd<'_>, what: PollFlags, deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        match nix::poll::poll(&mut [PollFd::new(fd, what)], poll_timeout(left)) {
            Ok(0) if left.is_none_or(|left| !left.is_zero()) => {}
            Ok(0) => return Ok(false),
            Ok(_) => return Ok(true),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits until the peer of `socket` has closed it or the process `peer` has ended.
pub(crate) fn hung_up(socket: BorrowedFd<'_>, peer: Option<BorrowedFd<'_>>) -> io::Result<()> {
    // A hang-up is reported without being asked for; arriving bytes are not.
    let mut polled = vec![PollFd::new(socket, PollFlags::empty())];
    polled.extend(peer.map(|peer| PollFd::new(peer, PollFlags::POLLIN)));
    loop {
        match nix::poll::poll(&mut polled, PollTimeout::NONE) {
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// Milliseconds, rounded up, so that a wait is never shorter than asked for.
pub(crate) fn poll_timeout(left: Option<Duration>) -> PollTimeout {
    let Some(left) = left else { return PollTimeout::NONE };
    let millis = left.as_nanos().div_ceil(1_000_000);
    i32::try_from(millis).map_or(PollTimeout::MAX, |millis| {
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
    })
}

//! Stream sockets: pairs, descriptors beside bytes, looking without taking, and connecting in time.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Instant;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType,
    SockaddrLike, SockaddrStorage, UnixAddr, connect, getsockname, getsockopt, recv, recvmsg,
    send as send_bytes, sendmsg, setsockopt, shutdown, socket, sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::geteuid;

use super::spawn::CHILD_SOCKET;

/// Two connected ends, close-on-exec, the first for this process and non-blocking, the second to
/// be handed to a child.
pub(crate) fn pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((ours, above_child_socket(theirs.into())?))
}

/// The same descriptor, numbered above the one that the child will see, so that moving it there
/// can't overwrite another one that is still to be moved.
pub(crate) fn above_child_socket(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > CHILD_SOCKET {
        return Ok(fd);
    }
    let number = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(CHILD_SOCKET + 1))?;
    owned(number)
}

/// Sends as much of `parts` as the socket takes, with `fds` beside the first byte.
pub(crate) fn send(
    socket: impl AsFd,
    parts: &[IoSlice<'_>],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let numbers: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    let number = socket.as_fd().as_raw_fd();
    loop {
        match sendmsg::<()>(number, parts, control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// Sends one byte, without waiting. A full socket is no error: whoever reads it will wake up anyway.
pub(crate) fn kick(socket: &UnixStream) -> io::Result<()> {
    loop {
        match send_bytes(socket.as_raw_fd(), &[0], MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT)
        {
            Err(Errno::EINTR) => {}
            Ok(_) | Err(Errno::EAGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives bytes and at most eight descriptors, which are close-on-exec from birth.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = cmsg_space!([RawFd; 8]);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            result => break result?,
        }
    };
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            for number in numbers {
                fds.push(owned(number)?);
            }
        }
    }
    Ok((message.bytes, fds))
}

/// Waits until the buffer is full, or the peer has closed: how many bytes there are.
pub(crate) fn read_all(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match recv(socket.as_raw_fd(), &mut buffer[filled..], MsgFlags::MSG_WAITALL) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}

/// Looks at the bytes that wait in the socket without taking them; never blocks.
pub(crate) fn peek(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    Ok(recv(socket.as_raw_fd(), buffer, flags)?)
}

/// Connects to a Unix address. std's `connect` waits without an end while the listener's backlog is full.
///
/// # Errors
/// Nobody listens there; the time was over first, which is [`io::ErrorKind::TimedOut`].
pub(crate) fn connect_unix(
    address: &SocketAddr,
    deadline: Option<Instant>,
) -> io::Result<UnixStream> {
    let address = match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => UnixAddr::new(path)?,
        (None, Some(name)) => UnixAddr::new_abstract(name)?,
        (None, None) => return Err(io::Error::from(io::ErrorKind::InvalidInput)),
    };
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    loop {
        if let Some(deadline) = deadline {
            // No time at all would mean no limit.
            let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
            let seconds = i64::try_from(left / 1000).unwrap_or(i64::MAX);
            let time = TimeVal::new(seconds, (left % 1000 * 1000) as i64);
            setsockopt(&fd, sockopt::SendTimeout, &time)?;
        }
        match connect(fd.as_raw_fd(), &address) {
            Ok(()) => return Ok(fd.into()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(io::Error::from(io::ErrorKind::TimedOut)),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes over a descriptor number that the environment names, if it is a Unix socket that `belongs`
/// to us. Otherwise it is left as it is.
pub(crate) fn adopt(
    number: RawFd,
    belongs: impl FnOnce(BorrowedFd<'_>) -> bool,
) -> Option<OwnedFd> {
    let name = getsockname::<SockaddrStorage>(number).ok()?;
    if name.family() != Some(AddressFamily::Unix) {
        return None;
    }
    let socket = owned(number).ok()?;
    if belongs(socket.as_fd()) {
        Some(socket)
    } else {
        // It is somebody else's.
        let _ = socket.into_raw_fd();
        None
    }
}

/// Whether the process at the other end of a Unix socket runs as the same user.
pub(crate) fn is_of_this_user(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(getsockopt(&socket, PeerCredentials)?.uid() == geteuid().as_raw())
}

/// Has nobody connect to a listening socket any more, whoever has it: its address is free.
pub(crate) fn stop_listening(socket: impl AsFd) {
    // One that isn't listening any more comes to the same.
    let _ = shutdown(socket.as_fd().as_raw_fd(), Shutdown::Both);
}

/// Asks the system to find out, within half a minute, when the machine at the other end of a connection is
/// gone without a word.
pub(crate) fn notice_a_lost_peer(socket: impl AsFd) {
    // Only TCP knows the numbers, and only TCP needs them.
    let _ = setsockopt(&socket, sockopt::KeepAlive, &true);
    let _ = setsockopt(&socket, sockopt::TcpKeepIdle, &10);
    let _ = setsockopt(&socket, sockopt::TcpKeepInterval, &5);
    let _ = setsockopt(&socket, sockopt::TcpKeepCount, &4);
    // The same where something is under way that nobody confirms: in milliseconds.
    let _ = setsockopt(&socket, sockopt::TcpUserTimeout, &30_000);
}

/// Makes sure that no program that is started from here inherits the descriptor.
pub(crate) fn close_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

#[expect(unsafe_code, reason = "descriptor numbers come out of C interfaces")]
fn owned(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: the callers have the number from `F_DUPFD_CLOEXEC` or `SCM_RIGHTS`, both of which give
    // a new descriptor that nobody else owns, or, in `adopt`, have checked that it is an open socket
    // that the parent passed for this one purpose.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

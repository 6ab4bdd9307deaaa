//! Forking a process that has one thread, as a sibling and not as a child.
//!
//! The C library's `fork` can't be told whose child the new process is, so it is made by the system call.
//! What the library does besides for a process with one thread is done here: the new thread's id goes
//! where the library keeps its own (musl keeps it elsewhere, so it isn't supported), and the list of robust
//! locks is registered again. No lock of the library can be held, since nobody else runs.

#![expect(unsafe_code, reason = "clone, and what the C library keeps of a thread, are raw")]

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::{self, c_int, c_long, c_void};

/// How long a thread that has been joined may still be listed: it has told its end before it is gone.
const LINGER: Duration = Duration::from_millis(200);

/// Whether processes can be forked with this C library.
pub(crate) const IS_SUPPORTED: bool = cfg!(target_env = "gnu");

/// That this process had one thread when it was looked at. Who holds it starts no other.
pub(crate) struct Alone {
    /// Where the C library keeps the id of this thread.
    id_at: *mut c_void,
    robust: *mut c_void,
    robust_size: usize,
}

/// Which of the two a process is after a fork.
pub(crate) enum Forked {
    /// The one that has called; the number of the other.
    Caller(u32),
    New,
}

impl Alone {
    /// Looks whether this process has one thread.
    ///
    /// # Errors
    /// It has more: their names. Or the system doesn't say.
    pub(crate) fn find() -> Result<Self, String> {
        let limit = Instant::now() + LINGER;
        loop {
            let others = other_threads().map_err(|error| format!("can't list threads: {error}"))?;
            if others.is_empty() {
                return Self::look().map_err(|error| format!("can't prepare to fork: {error}"));
            }
            if Instant::now() > limit {
                return Err(format!("it has other threads: {}", others.join(", ")));
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn look() -> io::Result<Self> {
        let mut id_at: *mut c_void = ptr::null_mut();
        // SAFETY: the call writes an address to `id_at`, which is storage for one.
        let code = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut id_at) };
        if code < 0 || id_at.is_null() {
            return Err(io::Error::last_os_error());
        }
        let (mut robust, mut robust_size) = (ptr::null_mut(), 0_usize);
        let (at, size) = (&raw mut robust, &raw mut robust_size);
        // SAFETY: the call writes an address and a size of the calling thread to storage for each.
        let code = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, at, size) };
        if code < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { id_at, robust, robust_size })
    }

    /// Forks this process. The new one is a child of this one's parent, who is told of its end by SIGCHLD
    /// as of this one's. Its number stands in `noted` before it runs, and whatever becomes of the caller.
    ///
    /// # Errors
    /// The system refuses.
    pub(crate) fn fork_sibling(&self, noted: &AtomicU32) -> io::Result<Forked> {
        noted.store(0, Ordering::SeqCst);
        let flags = libc::CLONE_PARENT
            | libc::CLONE_PARENT_SETTID
            | libc::CLONE_CHILD_SETTID
            | libc::CLONE_CHILD_CLEARTID
            | libc::SIGCHLD;
        let no_stack: *mut c_void = ptr::null_mut();
        // Where it stands differs between processors, and the other place isn't looked at.
        let (id, same) = (self.id_at, self.id_at);
        // SAFETY: without CLONE_VM the new process has a copy of all memory and goes on from here on its
        // copy of this stack. The kernel writes its number to `noted`, an atomic, and, in its own
        // memory, to where the C library keeps it, an address that comes from that library (`look`). No
        // other thread can be within a lock: there is none, as the existence of `self` says.
        let pid = unsafe {
            libc::syscall(libc::SYS_clone, flags as c_long, no_stack, noted.as_ptr(), id, same)
        };
        match pid {
            0 => {
                // SAFETY: the list is the C library's for this thread, at the same address in the copy;
                // it is empty, or holds private locks that nobody else can wait for.
                unsafe { libc::syscall(libc::SYS_set_robust_list, self.robust, self.robust_size) };
                Ok(Forked::New)
            }
            pid if pid < 0 => Err(io::Error::last_os_error()),
            pid => Ok(Forked::Caller(u32::try_from(pid).expect("process ids are positive"))),
        }
    }
}

/// The names of all threads of this process but the calling one.
fn other_threads() -> io::Result<Vec<String>> {
    // SAFETY: the call takes nothing and returns a number.
    let own = unsafe { libc::gettid() }.to_string();
    let mut names = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        if entry.file_name().to_str() != Some(&own) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            names.push(format!("`{}`", name.trim_end()));
        }
    }
    Ok(names)
}

/// The number of this command in all of Linux's ABIs; libc doesn't name it for all C libraries.
const F_SETSIG: c_int = 10;

/// Has the kernel kill this process when the peer of `socket` closes it, or sends anything: for the time
/// in which nobody can look. Ends it again with `false`.
pub(crate) fn die_with_peer(socket: BorrowedFd<'_>, whether: bool) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    let check = |code: c_int| {
        if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) }
    };
    let own = c_int::try_from(std::process::id()).expect("process ids are C ints");
    // SAFETY: the call takes integers.
    check(unsafe { libc::fcntl(fd, libc::F_SETOWN, own) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGKILL) })?;
    // SAFETY: as above.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    let flags = if whether { flags | libc::O_ASYNC } else { flags & !libc::O_ASYNC };
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags) })?;
    Ok(())
}

/// Makes the directory of this descriptor the current one.
pub(crate) fn go_to(directory: BorrowedFd<'_>) -> io::Result<()> {
    Ok(nix::unistd::fchdir(directory)?)
}

/// Replaces a standard stream of this process, which has said nothing on it yet.
pub(crate) fn replace_stream(number: usize, by: BorrowedFd<'_>) -> io::Result<()> {
    match number {
        0 => nix::unistd::dup2_stdin(by)?,
        1 => nix::unistd::dup2_stdout(by)?,
        _ => nix::unistd::dup2_stderr(by)?,
    }
    Ok(())
}

/// Writes out what waits in the C library's streams, so that no copy of this process writes it again.
pub(crate) fn flush_streams() {
    // SAFETY: a null pointer stands for all streams.
    unsafe { libc::fflush(ptr::null_mut()) };
}

/// Has the kernel copy what is mapped of this process's code when it forks, as far as it was used here.
///
/// It leaves that out where nothing was ever written, for each copy can fetch it again from the page cache.
/// But that takes a fault for every 64 KiB, some thirty in a worker's life and more than the fork itself. So
/// one byte in each such mapping is written as it is, through the file that debuggers use, which needs no
/// mapping to be writable. It costs a page each. Where that isn't allowed, things stay as they were.
pub(crate) fn pass_code_on() -> io::Result<()> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let memory = File::options().read(true).write(true).open("/proc/self/mem")?;
    let mappings: Vec<_> = maps.lines().filter_map(Mapping::parse).collect();
    let holds_code = |file| mappings.iter().any(|other| other.file == file && other.is("r-xp"));
    for mapping in &mappings {
        // Not what else is read from files, which may be any amount.
        if (mapping.is("r--p") || mapping.is("r-xp")) && holds_code(mapping.file) {
            let mut byte = [0];
            // One that goes beyond the end of its file has nothing to write.
            let _ = memory
                .read_exact_at(&mut byte, mapping.start)
                .and_then(|()| memory.write_all_at(&byte, mapping.start));
        }
    }
    Ok(())
}

/// A line of proc_pid_maps(5) about a file.
struct Mapping<'a> {
    start: u64,
    access: &'a str,
    /// Its device and number.
    file: (&'a str, &'a str),
}

impl<'a> Mapping<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let (start, _) = fields.next()?.split_once('-')?;
        let start = u64::from_str_radix(start, 16).ok()?;
        let (access, _offset) = (fields.next()?, fields.next()?);
        let file = (fields.next()?, fields.next()?);
        (file.1 != "0").then_some(Self { start, access, file })
    }

    fn is(&self, access: &str) -> bool {
        self.access == access
    }
}

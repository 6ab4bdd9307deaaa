//! Starting a process with `posix_spawn`, so that the parent's page tables are never copied.

#![expect(unsafe_code, reason = "posix_spawn and its attribute objects are C")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use nix::libc;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

/// The descriptor at which a child finds its end of the socket.
pub(crate) const CHILD_SOCKET: RawFd = 3;

/// Everything that a new process gets.
pub(crate) struct Command<'a> {
    pub(crate) program: &'a CStr,
    pub(crate) argv: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) directory: Option<CString>,
    /// Becomes [`CHILD_SOCKET`]; it must be numbered above it.
    pub(crate) socket: BorrowedFd<'a>,
    pub(crate) stdio: [Source<'a>; 3],
    /// Whether the child starts with SIGINT blocked.
    pub(crate) block_interrupts: bool,
}

/// Where a standard stream of the child comes from.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Inherit,
    Null,
    Fd(BorrowedFd<'a>),
}

/// A child and the descriptor that stands for it.
pub(crate) struct Child {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// Starts `command`. No descriptor above [`CHILD_SOCKET`] reaches the child.
pub(crate) fn spawn(command: &Command<'_>) -> io::Result<Child> {
    let attributes = Attributes::new(command.block_interrupts)?;
    let mut actions = Actions::new()?;
    if let Some(directory) = &command.directory {
        actions.change_directory(directory)?;
    }
    for (stream, source) in (0..).zip(command.stdio) {
        match source {
            Source::Inherit => {}
            Source::Null => actions.open_null(stream)?,
            Source::Fd(fd) => actions.duplicate(fd.as_raw_fd(), stream)?,
        }
    }
    actions.duplicate(command.socket.as_raw_fd(), CHILD_SOCKET)?;
    actions.close_from(CHILD_SOCKET + 1)?;

    let argv = null_terminated(&command.argv);
    let env = null_terminated(&command.env);
    let mut pid = 0;
    // SAFETY: every pointer is to a live object of this frame: the two attribute objects were
    // initialised by their constructors, and both arrays are null-terminated lists of C strings
    // that `command` keeps alive.
    check(unsafe {
        libc::posix_spawn(
            &mut pid,
            command.program.as_ptr(),
            &actions.0,
            &attributes.0,
            argv.as_ptr().cast(),
            env.as_ptr().cast(),
        )
    })?;
    match super::wait::open(pid) {
        Ok(pidfd) => Ok(Child { pid, pidfd }),
        Err(error) => {
            // Without a descriptor for it, it can't be watched: it must not live.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            while waitpid(Pid::from_raw(pid), None) == Err(nix::Error::EINTR) {}
            Err(error)
        }
    }
}

fn null_terminated(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

fn check(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    /// A signal mask of its own and SIGPIPE's default: a supervisor thread that blocks all signals, and
    /// std's ignored SIGPIPE, must not be inherited.
    fn new(block_interrupts: bool) -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: `raw` is storage for one attribute object, which the call initialises.
        check(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        // SAFETY: the call above succeeded and has initialised it.
        let mut attributes = Self(unsafe { raw.assume_init() });

        let mut mask = SigSet::empty();
        if block_interrupts {
            mask.add(Signal::SIGINT);
        }
        let mut defaults = SigSet::empty();
        defaults.add(Signal::SIGPIPE);
        // SAFETY: both objects are initialised and live.
        check(unsafe { libc::posix_spawnattr_setsigmask(&mut attributes.0, mask.as_ref()) })?;
        // SAFETY: both objects are initialised and live.
        check(unsafe {
            libc::posix_spawnattr_setsigdefault(&mut attributes.0, defaults.as_ref())
        })?;
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        // SAFETY: the object is initialised; the flags are the two that were just given values.
        check(unsafe { libc::posix_spawnattr_setflags(&mut attributes.0, flags as _) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: `new` initialised it, and nothing uses it after the drop.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: `raw` is storage for one object, which the call initialises.
        check(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) })?;
        // SAFETY: the call above succeeded and has initialised it.
        Ok(Self(unsafe { raw.assume_init() }))
    }

    fn open_null(&mut self, at: RawFd) -> io::Result<()> {
        let path = c"/dev/null".as_ptr();
        // SAFETY: the object is initialised and the path is a static C string.
        check(unsafe {
            libc::posix_spawn_file_actions_addopen(&mut self.0, at, path, libc::O_RDWR, 0)
        })
    }

    fn duplicate(&mut self, from: RawFd, to: RawFd) -> io::Result<()> {
        // SAFETY: the object is initialised; the numbers are checked by the kernel in the child.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&mut self.0, from, to) })
    }

    fn change_directory(&mut self, to: &CStr) -> io::Result<()> {
        // SAFETY: the object is initialised and the path is a live C string, which is copied.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&mut self.0, to.as_ptr()) })
    }

    /// Closes everything from `first` up, also what foreign code opened without close-on-exec.
    ///
    /// glibc has this since 2.34; elsewhere the descriptors that are open now are listed one by one,
    /// which misses those that another thread opens meanwhile.
    fn close_from(&mut self, first: RawFd) -> io::Result<()> {
        if let Some(add_close_from) = close_from_function() {
            // SAFETY: the symbol has this signature in every C library that has it, and the object
            // is initialised.
            return check(unsafe { add_close_from(&mut self.0, first) });
        }
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let number = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
            if let Some(number) = number.filter(|number| *number >= first) {
                // SAFETY: the object is initialised; closing a number that is no longer open is
                // ignored in the child.
                check(unsafe { libc::posix_spawn_file_actions_addclose(&mut self.0, number) })?;
            }
        }
        Ok(())
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: `new` initialised it, and nothing uses it after the drop.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

type CloseFrom = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, c_int) -> c_int;

fn close_from_function() -> Option<CloseFrom> {
    static FOUND: OnceLock<Option<CloseFrom>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let name = c"posix_spawn_file_actions_addclosefrom_np".as_ptr();
        // SAFETY: the name is a static C string.
        let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name) };
        if symbol.is_null() {
            return None;
        }
        // SAFETY: a non-null result is the function of that name, whose C signature is `CloseFrom`.
        Some(unsafe { std::mem::transmute::<*mut libc::c_void, CloseFrom>(symbol) })
    })
}

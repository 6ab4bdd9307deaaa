//! Starting a worker: what it finds around it, and the start method that runs the program's own executable
//! again. [`forkserver`](super::forkserver) is the other one.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process;
use std::sync::{Arc, OnceLock};

use super::spin::Permit;
use crate::os::limits::Kept;
use crate::os::memory::Shared;
use crate::os::spawn::{self, CHILD_SOCKET, Source};
use crate::os::{barrier, image, socket, spin};
use crate::shm::heap;
use crate::shm::page::{BRIEF, Page};
use crate::transport::hello::{self, Descriptors, Hello, Nonce, Role};
use crate::transport::ring::{Memory, ParentRing};
use crate::transport::socket::ParentSocket;
use crate::transport::{ParentEnd, outbox_of};
use crate::worker::{build, identity};

/// Where a standard stream of a child process comes from or goes to.
///
/// ```
/// use procession::{Process, Stdio, task};
///
/// #[task]
/// fn speak() {
///     println!("hello");
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::io::Read;
/// let (mut reader, writer) = std::io::pipe()?;
/// let process = Process::new(speak, ()).stdout(Stdio::from(writer)).start()?;
/// process.join()?;
/// let mut said = String::new();
/// reader.read_to_string(&mut said)?;
/// assert_eq!(said, "hello\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Stdio(Stream);

#[derive(Debug, Default)]
enum Stream {
    #[default]
    Inherit,
    Null,
    Fd(OwnedFd),
}

impl Stdio {
    /// The same as the parent's.
    pub fn inherit() -> Self {
        Self(Stream::Inherit)
    }

    /// `/dev/null`.
    pub fn null() -> Self {
        Self(Stream::Null)
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.0, Stream::Null)
    }

    pub(super) fn source(&self) -> Source<'_> {
        match &self.0 {
            Stream::Inherit => Source::Inherit,
            Stream::Null => Source::Null,
            Stream::Fd(fd) => Source::Fd(fd.as_fd()),
        }
    }

    fn above_child_socket(self) -> io::Result<Self> {
        Ok(Self(match self.0 {
            Stream::Fd(fd) => Stream::Fd(socket::above_child_socket(fd)?),
            other => other,
        }))
    }
}

/// A file, one end of `std::io::pipe`, a socket: whatever owns a descriptor.
impl<T: Into<OwnedFd>> From<T> for Stdio {
    fn from(owner: T) -> Self {
        Self(Stream::Fd(owner.into()))
    }
}

/// What a new process finds around it.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) stdio: [Stdio; 3],
    pub(crate) clear_env: bool,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) stack_size: usize,
}

/// A worker reads nothing from the terminal, which belongs to the parent.
impl Default for Surroundings {
    fn default() -> Self {
        Self {
            stdio: [Stdio::null(), Stdio::inherit(), Stdio::inherit()],
            clear_env: false,
            env: Vec::new(),
            directory: None,
            stack_size: 8 << 20,
        }
    }
}

impl Surroundings {
    /// Makes the descriptors ready to be handed over; once, before the first start.
    pub(crate) fn settle(mut self) -> io::Result<Self> {
        let [stdin, stdout, stderr] = self.stdio;
        self.stdio = [
            stdin.above_child_socket()?,
            stdout.above_child_socket()?,
            stderr.above_child_socket()?,
        ];
        Ok(self)
    }
}

/// A process that has been started and not heard of.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) pidfd: Arc<OwnedFd>,
    pub(super) end: Box<dyn ParentEnd>,
    pub(super) page: Arc<Shared<Page>>,
    /// Whether the worker may spin.
    pub(super) permit: Option<Permit>,
}

/// What a new worker is told about itself.
pub(super) fn hello(
    name: &str,
    lineage: Vec<u32>,
    role: Role,
    surroundings: &Surroundings,
    limits: &Kept,
) -> Hello {
    Hello {
        parent: process::id(),
        parent_name: identity::name().to_owned(),
        name: name.to_owned(),
        lineage,
        role,
        stack_size: surroundings.stack_size as u64,
        with_rings: false,
        build: build::own().clone(),
        light_fences: barrier::can_be_heavy(),
        limits: (!limits.is_empty()).then(|| Box::new(limits.clone())),
        changes: None,
    }
}

/// Starts a worker by running the executable again. The hello is in its socket before it runs.
pub(super) fn spawn(hello: &Hello, surroundings: &Surroundings) -> io::Result<Started> {
    let nonce = Nonce::random();
    let (ours, theirs) = socket::pair()?;
    let common = Common::new(hello.role)?;
    common.greet(&ours, nonce, hello, &[])?;
    let command = spawn::Command {
        program: &image::program(),
        argv: arguments()?,
        env: environment(surroundings, nonce)?,
        directory: surroundings
            .directory
            .as_ref()
            .map(|directory| CString::new(directory.as_os_str().as_bytes()))
            .transpose()?,
        socket: theirs.as_fd(),
        stdio: surroundings.stdio.each_ref().map(Stdio::source),
        block_interrupts: matches!(hello.role, Role::Pool | Role::Server),
    };
    let child = spawn::spawn(&command)?;
    let pid = u32::try_from(child.pid).expect("process ids are positive");
    Ok(common.started(pid, Arc::new(child.pidfd), ours))
}

/// The memory that this process and one worker have in common, which decides how they talk.
pub(super) struct Common {
    page: Arc<Shared<Page>>,
    fd: OwnedFd,
    rings: Option<Memory>,
    /// How much of the outbox there is.
    outbox: usize,
}

impl Common {
    pub(super) fn new(role: Role) -> io::Result<Self> {
        if role == Role::Pool
            && ring_is_wanted()
            && let Ok((memory, fd)) = Memory::create()
        {
            let page = Arc::clone(memory.page());
            return Ok(Self { page, fd, rings: Some(memory), outbox: 0 });
        }
        let name = c"procession";
        let (page, fd) = match role {
            Role::Process { .. } => Shared::<Page>::create_in(name, BRIEF, size_of::<Page>())?,
            Role::Pool | Role::Server => Shared::<Page>::create(name)?,
        };
        Ok(Self { page: Arc::new(page), fd, rings: None, outbox: outbox_of(role) })
    }

    /// Puts the hello into the socket.
    pub(super) fn greet(
        &self,
        socket: &UnixStream,
        nonce: Nonce,
        hello: &Hello,
        changes: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let (page, changes) = (self.fd.as_fd(), changes.to_vec());
        let fds = Descriptors { page, changes, heap: heap::for_children() };
        let hello = Hello { with_rings: self.rings.is_some(), ..hello.clone() };
        hello::send(socket, nonce, &hello, fds)
    }

    /// The worker, which has been made.
    pub(super) fn started(self, pid: u32, pidfd: Arc<OwnedFd>, socket: UnixStream) -> Started {
        let Self { page, rings, outbox, .. } = self;
        let permit = if rings.is_some() { Permit::take() } else { None };
        let end: Box<dyn ParentEnd> = match rings {
            Some(memory) => {
                let spin = permit.as_ref().map_or(0, |_| spin::limit());
                Box::new(ParentRing::new(socket, memory, spin))
            }
            None => Box::new(ParentSocket::new(socket, Arc::clone(&page), outbox)),
        };
        Started { pid, pidfd, end, page, permit }
    }
}

/// Whether pools talk to their workers through rings in memory, as they do where the environment doesn't
/// say otherwise. A single process, which gets one task, starts faster without.
fn ring_is_wanted() -> bool {
    static WANTED: OnceLock<bool> = OnceLock::new();
    *WANTED.get_or_init(|| {
        std::env::var_os("PROCESSION_TRANSPORT").is_none_or(|name| name != "socket")
    })
}

/// The parent's own arguments, so that a program that looks at them before its guard sees the same,
/// and so that `ps` shows what the worker belongs to.
fn arguments() -> io::Result<Vec<CString>> {
    std::env::args_os().map(|argument| Ok(CString::new(argument.into_vec())?)).collect()
}

fn environment(surroundings: &Surroundings, nonce: Nonce) -> io::Result<Vec<CString>> {
    let inherited = (!surroundings.clear_env).then(std::env::vars_os).into_iter().flatten();
    let replaced = |name: &OsString| surroundings.env.iter().any(|(other, _)| other == name);
    let mut all: Vec<(OsString, OsString)> = inherited
        .filter(|(name, _)| !replaced(name))
        .chain(surroundings.env.iter().cloned())
        // A second one would hide ours, and the child would run the program once more.
        .filter(|(name, _)| name != hello::VARIABLE)
        .collect();
    all.push((hello::VARIABLE.into(), format!("{CHILD_SOCKET}.{}", nonce.to_hex()).into()));
    all.into_iter()
        .map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            Ok(CString::new(name.into_vec())?)
        })
        .collect()
}

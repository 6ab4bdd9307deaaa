//! Starting a worker. The one start method so far is to run the program's own executable again.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process;
use std::sync::Arc;

use crate::os::memory::Shared;
use crate::os::spawn::{self, CHILD_SOCKET, Source};
use crate::os::{image, socket};
use crate::shm::heap;
use crate::shm::page::Page;
use crate::transport::ParentEnd;
use crate::transport::hello::{self, Hello, Nonce, Role};
use crate::transport::socket::ParentSocket;
use crate::worker::{build, identity};

/// How a new process comes to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum StartMethod {
    /// The program's own executable is started again, from scratch. It takes nothing from the parent
    /// but what it is given, and is safe whatever threads the parent has.
    #[default]
    Spawn,
}

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

    fn source(&self) -> Source<'_> {
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
    pub(super) page: Shared<Page>,
}

/// Starts a worker. The hello is in its socket before it runs.
pub(super) fn start(
    name: &str,
    lineage: Vec<u32>,
    role: Role,
    surroundings: &Surroundings,
) -> io::Result<Started> {
    let nonce = Nonce::random();
    let (ours, theirs) = socket::pair()?;
    let (page, page_fd) = Shared::<Page>::create(c"procession")?;
    let hello = Hello {
        parent: process::id(),
        parent_name: identity::name().to_owned(),
        name: name.to_owned(),
        lineage,
        role,
        stack_size: surroundings.stack_size as u64,
        build: build::own().clone(),
    };
    hello::send(&ours, nonce, &hello, page_fd.as_fd(), heap::for_children())?;
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
        block_interrupts: role == Role::Pool,
    };
    let child = spawn::spawn(&command)?;
    let pid = u32::try_from(child.pid).expect("process ids are positive");
    let end = Box::new(ParentSocket::new(ours));
    Ok(Started { pid, pidfd: Arc::new(child.pidfd), end, page })
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

//! The first message: it lies in the socket before the worker starts.
//!
//! ```text
//! magic 8 bytes | nonce 16 bytes | length u32 | Hello, encoded           + descriptors
//! ```
//!
//! The descriptors are those of the page that parent and worker share, of what a forked process has to
//! change about itself ([`Changes`]), and of the family's heap.
//!
//! The nonce stands in the worker's environment, too. A process that finds the variable without a
//! socket in which this very message waits is no worker, whatever the variable says.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use super::codec;
use crate::os::limits::Kept;
use crate::os::socket;

/// The environment variable that makes a process a worker: `descriptor.nonce`.
pub(crate) const VARIABLE: &str = "PROCESSION_WORKER";

const MAGIC: [u8; 8] = *b"procsn\x00\x01";
const HEAD: usize = MAGIC.len() + NONCE;
const NONCE: usize = 16;
/// Names and build ids are short; what is longer is no hello.
const MAX: usize = 64 * 1024;

/// What ties an environment variable to its socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nonce([u8; NONCE]);

impl Nonce {
    /// From std's random hash keys, which cost no system call. It tells a worker's socket from any
    /// other; it keeps no secret.
    pub(crate) fn random() -> Self {
        let half = || RandomState::new().build_hasher().finish();
        Self((u128::from(half()) << 64 | u128::from(half())).to_le_bytes())
    }

    pub(crate) fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 2 * NONCE || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; NONCE];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// What a worker is told about itself.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Hello {
    pub(crate) parent: u32,
    pub(crate) parent_name: String,
    pub(crate) name: String,
    /// The numbers of this process among its siblings, from the outermost ancestor down.
    pub(crate) lineage: Vec<u32>,
    pub(crate) role: Role,
    pub(crate) stack_size: u64,
    /// Whether frames go through rings behind the page, not through the socket.
    pub(crate) with_rings: bool,
    pub(crate) build: Build,
    /// Whether the parent's fences are such that the worker's may be light: `os/barrier.rs`.
    pub(crate) light_fences: bool,
    /// What it is to stay within.
    pub(crate) limits: Option<Box<Kept>>,
    /// For a process that a fork server makes.
    pub(crate) changes: Option<Changes>,
}

/// What a forked process changes about itself, so that it is as if its parent had started it just now. Its
/// pool's workers are as the server is.
#[derive(Clone, Default, Serialize, Deserialize, Debug)]
pub(crate) struct Changes {
    /// Variables of the environment with their new value; none: they are unset.
    pub(crate) env: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Whether a descriptor of its directory comes along.
    pub(crate) directory: bool,
    /// For which standard streams descriptors come along, behind that of the directory.
    pub(crate) streams: [bool; 3],
}

impl Changes {
    fn descriptors(&self) -> usize {
        usize::from(self.directory) + self.streams.iter().filter(|comes| **comes).count()
    }
}

/// What kind of worker a process is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) enum Role {
    /// Takes tasks until it is told to stop, and never outlives its parent.
    Pool,
    /// Runs one task and ends as it ended; a daemon never outlives its parent.
    Process { daemon: bool },
    /// Makes workers by forking itself, runs no tasks, and never outlives its parent.
    Server,
}

/// Which build of which program this is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub(crate) struct Build {
    /// The build id that the linker left, if it did.
    pub(crate) id: Option<Vec<u8>>,
    /// The executable's device, inode, size and time of change.
    pub(crate) file: (u64, u64, u64, i64, i64),
    /// Over the names and signatures of all tasks.
    pub(crate) tasks: u64,
}

impl Build {
    /// Whether task numbers and offsets mean the same in both.
    pub(crate) fn agrees_with(&self, other: &Self) -> bool {
        let same_code = match (&self.id, &other.id) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.file == other.file,
        };
        same_code && self.tasks == other.tasks
    }
}

/// What comes with a hello, or goes with it.
pub(crate) struct Descriptors<T> {
    pub(crate) page: T,
    /// As [`Changes`] lists them.
    pub(crate) changes: Vec<T>,
    pub(crate) heap: Option<T>,
}

/// Puts the hello and its descriptors into a socket that nobody reads yet.
pub(crate) fn send(
    socket: &UnixStream,
    nonce: Nonce,
    hello: &Hello,
    fds: Descriptors<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut body = Vec::new();
    codec::encode(hello, &mut body).map_err(io::Error::other)?;
    if body.len() > MAX {
        let text = "the process's name, or what it is to change in its environment, is too long";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let length = (body.len() as u32).to_le_bytes();
    let parts = [&MAGIC[..], &nonce.0, &length, &body].map(IoSlice::new);
    let fds: Vec<_> = [fds.page].into_iter().chain(fds.changes).chain(fds.heap).collect();
    let sent = socket::send(socket, &parts, &fds)?;
    if sent == HEAD + length.len() + body.len() {
        Ok(())
    } else {
        Err(io::Error::other("a new socket takes no hello"))
    }
}

/// Whether the hello with this nonce waits in the socket; takes nothing out.
pub(crate) fn waits_in(socket: BorrowedFd<'_>, nonce: Nonce) -> bool {
    let mut head = [0; HEAD];
    let count = socket::peek(socket, &mut head).unwrap_or(0);
    count == HEAD && head[..MAGIC.len()] == MAGIC && head[MAGIC.len()..] == nonce.0
}

/// Takes the hello and its descriptors out of the socket in which it waits.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> io::Result<(Hello, Descriptors<OwnedFd>)> {
    let mut head = [0; HEAD + 4];
    let (count, fds) = socket::receive(socket, &mut head)?;
    let length = u32::from_le_bytes(*head.last_chunk().expect("the head ends with a length"));
    let incomplete = || io::Error::other("the hello is incomplete");
    let mut body = vec![0; (length as usize).min(MAX)];
    if count != head.len() || socket::read_all(socket, &mut body)? != body.len() {
        return Err(incomplete());
    }
    let mut fds = fds.into_iter();
    let hello: Hello = codec::decode(&body).map_err(io::Error::other)?;
    let page = fds.next().ok_or_else(incomplete)?;
    let expected = hello.changes.as_ref().map_or(0, Changes::descriptors);
    let changes: Vec<_> = fds.by_ref().take(expected).collect();
    if changes.len() < expected {
        return Err(incomplete());
    }
    let fds = Descriptors { page, changes, heap: fds.next() };
    Ok((hello, fds))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn hello() -> Hello {
        Hello {
            parent: 7,
            parent_name: "MainProcess".into(),
            name: "Process-1".into(),
            lineage: vec![1],
            role: Role::Process { daemon: true },
            stack_size: 1 << 20,
            with_rings: true,
            light_fences: true,
            limits: None,
            build: Build { id: Some(vec![1, 2]), file: (0, 0, 0, 0, 0), tasks: 3 },
            changes: Some(Changes { directory: true, ..Changes::default() }),
        }
    }

    #[test]
    fn a_hello_crosses_with_its_descriptors() {
        let (ours, theirs) = socket::pair().unwrap();
        let nonce = Nonce::random();
        let page = std::fs::File::open("/dev/null").unwrap();
        let fd = page.as_fd();
        let fds = Descriptors { page: fd, changes: vec![fd], heap: Some(fd) };
        send(&ours, nonce, &hello(), fds).unwrap();
        assert!(waits_in(theirs.as_fd(), nonce));
        assert!(!waits_in(theirs.as_fd(), Nonce::random()));
        let (received, fds) = receive(theirs.as_fd()).unwrap();
        assert_eq!(received.name, "Process-1");
        assert!(fds.changes.len() == 1 && fds.heap.is_some());
        assert!(!waits_in(theirs.as_fd(), nonce));
    }

    #[test]
    fn a_nonce_survives_the_environment() {
        let nonce = Nonce::random();
        assert!(Nonce::from_hex(&nonce.to_hex()) == Some(nonce));
        for text in ["", "12", &"g".repeat(32), &"é".repeat(16)] {
            assert!(Nonce::from_hex(text).is_none());
        }
    }

    #[test]
    fn builds_agree_by_id_or_by_file() {
        let build = hello().build;
        let moved = Build { file: (1, 2, 3, 4, 5), ..build.clone() };
        assert!(build.agrees_with(&moved));
        assert!(!build.agrees_with(&Build { tasks: 4, ..build.clone() }));
        assert!(!build.agrees_with(&Build { id: Some(vec![9]), ..build.clone() }));
        assert!(build.agrees_with(&Build { id: None, ..build.clone() }));
        assert!(!build.agrees_with(&Build { id: None, ..moved }));
    }
}

//! Where a listener listens, and how one gets there.

use std::fmt;
use std::fs;
use std::io;
use std::net::{self, IpAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::door::Entrance;
use super::stream;
use crate::os::socket;

/// See the file's head.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(crate) enum Place {
    Tcp {
        host: String,
        port: u16,
    },
    /// The path of a Unix socket.
    Path(PathBuf),
    /// The abstract name of a Unix socket.
    Abstract(Vec<u8>),
}

impl Place {
    pub(crate) fn of_tcp(address: net::SocketAddr) -> Self {
        let host = match address {
            // The scope of a link-local address is part of what names the host.
            net::SocketAddr::V6(address) if address.scope_id() != 0 => {
                format!("{}%{}", address.ip(), address.scope_id())
            }
            address => IpAddr::to_string(&address.ip()),
        };
        Self::Tcp { host, port: address.port() }
    }
}

impl fmt::Display for Place {
    /// As a user writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Path(path) if is_plain(path) => path.display().fmt(f),
            Self::Path(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "@{}", String::from_utf8_lossy(name)),
        }
    }
}

/// Whether a path can be told from other addresses.
fn is_plain(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.contains(&b'/') && !bytes.starts_with(b"unix:")
}

/// The system's form of a path.
fn of_path(path: &Path) -> io::Result<SocketAddr> {
    SocketAddr::from_pathname(path)
}

/// The system's form of an abstract name.
fn of_name(name: &[u8]) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(name)
}

/// Listens there. Also gives the place with the port that the system has chosen, and the file that was made.
///
/// # Errors
/// The place is in use, isn't one of this machine, or may not be used.
pub(crate) fn enter(place: &Place) -> io::Result<(Entrance, Place, Option<SocketFile>)> {
    Ok(match place {
        Place::Tcp { host, port } => {
            let listener = TcpListener::bind((host.as_str(), *port))?;
            let local = Place::of_tcp(listener.local_addr()?);
            (Entrance::Tcp(listener), local, None)
        }
        Place::Path(path) => {
            let listener = UnixListener::bind_addr(&of_path(path)?)?;
            (Entrance::Unix(listener), place.clone(), Some(SocketFile::at(path)?))
        }
        Place::Abstract(name) => {
            let listener = UnixListener::bind_addr(&of_name(name)?)?;
            (Entrance::Unix(listener), place.clone(), None)
        }
    })
}

/// Connects to the first of the host's addresses where somebody listens.
///
/// # Errors
/// Nobody listens there; the time was over first, which is [`io::ErrorKind::TimedOut`].
pub(crate) fn reach(place: &Place, deadline: Option<Instant>) -> io::Result<UnixStream> {
    let (host, port) = match place {
        Place::Tcp { host, port } => (host, port),
        Place::Path(path) => return socket::connect_unix(&of_path(path)?, deadline),
        Place::Abstract(name) => return socket::connect_unix(&of_name(name)?, deadline),
    };
    let mut result = Err(io::Error::other("the host has no address"));
    for candidate in (host.as_str(), *port).to_socket_addrs()? {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let stream = match left {
            // std takes no time at all for a mistake.
            Some(left) => {
                TcpStream::connect_timeout(&candidate, left.max(Duration::from_millis(1)))
            }
            None => TcpStream::connect(candidate),
        };
        match stream {
            Ok(stream) => return Ok(stream::from_tcp(stream)),
            Err(error) => result = Err(error),
        }
    }
    result
}

/// The file of a Unix socket, removed when it is dropped, if it is still the same one.
pub(crate) struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        // The current directory may be another one by then.
        let path = std::path::absolute(path)?;
        Ok(Self { id: Self::id(&path)?, path })
    }

    fn id(path: &Path) -> io::Result<(u64, u64)> {
        fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if Self::id(&self.path).is_ok_and(|id| id == self.id) {
            // There is nobody to tell, and the next `bind` says what is in its way.
            let _ = fs::remove_file(&self.path);
        }
    }
}

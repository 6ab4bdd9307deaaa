//! Where a listener listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::transport::place::Place;

/// Where a [`Listener`](crate::Listener) listens: a TCP port, a Unix socket's path, or a Unix socket's
/// abstract name.
///
/// | text | what it is |
/// |---|---|
/// | `localhost:5000`, `[::1]:5000` | TCP; port 0 lets the system choose one |
/// | `unix:service.sock`, `/run/service.sock`, `./service.sock` | the path of a Unix socket: after `unix:`, or with a slash in it |
/// | `@service` | the abstract name of a Unix socket: no file, this machine only |
///
/// A Unix socket is the better choice on one machine: a path can be protected by its directory's
/// permissions. Addresses can be sent to other processes.
///
/// ```
/// use procession::Address;
///
/// # fn main() -> Result<(), procession::Error> {
/// let address: Address = "localhost:5000".parse()?;
/// assert_eq!(address, Address::tcp("localhost", 5000));
/// assert_eq!("/run/service.sock".parse::<Address>()?, Address::unix("/run/service.sock"));
/// assert_eq!(Address::abstract_name("service").to_string(), "@service");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Address(Place);

impl Address {
    /// A TCP port of a host, which is a name or an IP address.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self(Place::Tcp { host: host.into(), port })
    }

    /// The path of a Unix socket. The system takes up to 107 bytes.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(Place::Path(path.into()))
    }

    /// The abstract name of a Unix socket, of up to 107 bytes. Any user of the machine can connect to it,
    /// or take the name first.
    pub fn abstract_name(name: impl AsRef<[u8]>) -> Self {
        Self(Place::Abstract(name.as_ref().to_vec()))
    }

    pub(super) fn place(&self) -> &Place {
        &self.0
    }
}

impl From<Place> for Address {
    fn from(place: Place) -> Self {
        Self(place)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Address {
    type Err = Error;

    /// See the table above.
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(no_address(text)) } else { Ok(Self::unix(path)) };
        }
        if let Some(name) = text.strip_prefix('@') {
            return if name.is_empty() {
                Err(no_address(text))
            } else {
                Ok(Self::abstract_name(name))
            };
        }
        if text.contains('/') {
            return Ok(Self::unix(text));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| no_address(text))?;
        let port = port.parse().map_err(|_| no_address(text))?;
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        let inner = if is_bracketed { &host[1..host.len() - 1] } else { host };
        if inner.is_empty() || inner.contains(':') != is_bracketed {
            return Err(no_address(text));
        }
        Ok(Self::tcp(inner, port))
    }
}

fn no_address(text: &str) -> Error {
    Error::usage(format!(
        "{text:?} is no address; write `host:port`, `[IPv6 address]:port`, `unix:path`, a path with a slash \
         in it, or `@name`"
    ))
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(Place::of_tcp(address))
    }
}

impl From<(&str, u16)> for Address {
    fn from((host, port): (&str, u16)) -> Self {
        Self::tcp(host, port)
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Self {
        Self::unix(path)
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::unix(path)
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Self {
        address.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_shown() {
        let addresses = [
            Address::tcp("localhost", 0),
            Address::tcp("::1", 65535),
            Address::tcp("10.0.0.1", 80),
            Address::unix("/tmp/a"),
            Address::unix("a"),
            Address::unix("a:1"),
            Address::unix("@a"),
            Address::unix("unix:/a"),
            Address::unix("./unix:a"),
            Address::abstract_name("a/b:1"),
        ];
        for address in addresses {
            assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
        assert_eq!(Address::from(SocketAddr::from(([0, 0, 0, 0], 7))).to_string(), "0.0.0.0:7");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "a", ":1", "a:", "a:b", "a:65536", "a:-1", "::1:5", "[a]:1", "@", "unix:"]
        {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.to_string().contains("is no address"), "{text}");
        }
    }
}

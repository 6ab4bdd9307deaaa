//! TLS over a TCP connection, with the feature `tls`; without it there are its names, of which there can be no
//! value.

#[cfg(not(feature = "tls"))]
mod off;
#[cfg(feature = "tls")]
mod on;

#[cfg(not(feature = "tls"))]
pub(crate) use self::off::{Acceptor, Client, Server, Stream};
#[cfg(feature = "tls")]
pub(crate) use self::on::{Acceptor, Client, Server, Stream};

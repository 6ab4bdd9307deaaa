//! There is no TLS.

use std::io::{self, IoSlice};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use crate::transport::duplex::Duplex;

/// See [`on`](super::on).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Client {}

/// See [`on`](super::on).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Server {}

/// See [`on`](super::on).
pub(crate) enum Acceptor {}

/// See [`on`](super::on).
#[derive(Debug)]
pub(crate) enum Stream {}

impl Client {
    pub(crate) fn connect(&self, _: UnixStream) -> io::Result<Duplex> {
        match *self {}
    }
}

impl Server {
    pub(crate) fn acceptor(&self) -> Result<Acceptor, String> {
        match *self {}
    }
}

impl Acceptor {
    pub(crate) fn accept(&self, _: UnixStream) -> io::Result<Duplex> {
        match *self {}
    }
}

impl Stream {
    pub(crate) fn send(&self, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn flush(&self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn read(&self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn peek(&self) -> io::Result<Option<u8>> {
        match *self {}
    }

    pub(crate) fn has_more(&self) -> bool {
        match *self {}
    }

    pub(crate) fn socket(&self) -> &UnixStream {
        match *self {}
    }
}

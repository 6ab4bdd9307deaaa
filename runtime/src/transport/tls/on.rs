//! TLS 1.3 by `rustls`.
//!
//! - The handshake goes on whenever somebody reads; what is sent before its end goes then.
//! - What is in this process's buffers and isn't in the socket's yet goes with the next call. Who waits for an
//!   answer flushes first.
//! - No session is resumed, and no ticket sent: nothing crosses that isn't an answer.
//! - A process that was forked has none of it: two that send with the same key would give it away.
//! - An end without TLS's own word for it is an end. That nothing was cut off, messages say by their length.

use std::fmt;
use std::io::{self, BufRead as _, ErrorKind, IoSlice, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, Connection, Error, Reader, RootCertStore,
    ServerConfig, ServerConnection,
};
use serde::{Deserialize, Serialize};

use crate::os::socket;
use crate::transport::duplex::Duplex;

/// Whom a client trusts, and whom it wants to reach.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Client {
    /// Certificates, as PEM.
    roots: Vec<u8>,
    name: String,
}

/// What a server shows, and proves.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Server {
    /// Certificates, as PEM, its own first.
    chain: Vec<u8>,
    key: Vec<u8>,
}

/// Begins the servers' side of connections.
pub(crate) struct Acceptor(Arc<ServerConfig>);

/// A connection.
pub(crate) struct Stream {
    /// Whose it is.
    process: u32,
    socket: UnixStream,
    connection: Mutex<Connection>,
}

/// The system takes at most so many pieces at once (`IOV_MAX`).
const MOST_PIECES: usize = 1024;

/// So often more is read in one go while nothing comes that is meant for the program: a peer can say nothing for
/// ever, in any number of bytes.
const ROUNDS: usize = 32;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let certificates =
        certificates.map_err(|error| format!("the certificates are no PEM: {error}"))?;
    if certificates.is_empty() {
        return Err(
            "there is no certificate in the PEM: it has sections `BEGIN CERTIFICATE`".into()
        );
    }
    Ok(certificates)
}

impl Client {
    /// Trusts those whom the `roots` have signed, which are PEM, if they have this name.
    ///
    /// # Errors
    /// They are no certificates, or it is no name, with the text to say.
    pub(crate) fn new(roots: Vec<u8>, name: String) -> Result<Self, String> {
        name_of(&name)?;
        let client = Self { roots, name };
        client.config().map(|_| client)
    }

    fn config(&self) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.roots)? {
            roots.add(certificate).map_err(|error| format!("a root can't be used: {error}"))?;
        }
        let builder = ClientConfig::builder_with_provider(provider());
        let builder =
            builder.with_protocol_versions(&[&TLS13]).map_err(|error| error.to_string())?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    /// Begins a connection.
    ///
    /// # Errors
    /// There is none any more.
    pub(crate) fn connect(&self, socket: UnixStream) -> io::Result<Duplex> {
        let name = name_of(&self.name).map_err(io::Error::other)?;
        let config = self.config().map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::new(config), name);
        Stream::over(socket, connection.map_err(io::Error::other)?.into())
    }
}

fn name_of(name: &str) -> Result<ServerName<'static>, String> {
    let name = name.to_owned();
    let wrong = format!("`{name}` is neither a DNS name nor an IP address, as a certificate has");
    ServerName::try_from(name).map_err(|_| wrong)
}

impl Server {
    /// With certificates, its own first, and its private key, all as PEM.
    ///
    /// # Errors
    /// They aren't that, or don't fit, with the text to say.
    pub(crate) fn new(chain: Vec<u8>, key: Vec<u8>) -> Result<Self, String> {
        let server = Self { chain, key };
        server.acceptor().map(|_| server)
    }

    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn acceptor(&self) -> Result<Acceptor, String> {
        let chain = certificates(&self.chain)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| match error {
            pem::Error::NoItemsFound => "there is no private key in the PEM".to_owned(),
            error => format!("the private key is no PEM: {error}"),
        })?;
        let builder = ServerConfig::builder_with_provider(provider());
        let builder =
            builder.with_protocol_versions(&[&TLS13]).map_err(|error| error.to_string())?;
        let config = builder.with_no_client_auth().with_single_cert(chain, key);
        let mut config = config.map_err(|error| match error {
            Error::InconsistentKeys(_) => "the private key isn't the certificate's".to_owned(),
            error => format!("certificate and private key can't be used: {error}"),
        })?;
        config.send_tls13_tickets = 0;
        Ok(Acceptor(Arc::new(config)))
    }
}

impl Acceptor {
    /// Begins a connection.
    ///
    /// # Errors
    /// There is none any more.
    pub(crate) fn accept(&self, socket: UnixStream) -> io::Result<Duplex> {
        let connection = ServerConnection::new(Arc::clone(&self.0)).map_err(io::Error::other)?;
        Stream::over(socket, connection.into())
    }
}

impl Stream {
    fn over(socket: UnixStream, connection: Connection) -> io::Result<Duplex> {
        socket.set_nonblocking(true)?;
        let connection = Mutex::new(connection);
        let stream = Self { process: process::id(), socket, connection };
        Ok(Duplex::Tls(Box::new(stream)))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Sends some of these bytes, or all.
    ///
    /// # Errors
    /// As [`Duplex::send`].
    pub(crate) fn send(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut connection = self.connection();
        self.write_out(&mut connection)?;
        let count = connection.writer().write_vectored(pieces)?;
        // They are taken; if something is wrong, the next call says so.
        let _ = self.write_out(&mut connection);
        Ok(count)
    }

    /// # Errors
    /// As [`Duplex::flush`].
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.write_out(&mut self.connection())
    }

    /// Writes what is to be written.
    fn write_out(&self, connection: &mut Connection) -> io::Result<()> {
        if self.process != process::id() {
            return Err(io::Error::other("the connection is the parent's"));
        }
        while connection.wants_write() {
            match connection.write_tls(&mut Out(&self.socket)) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.take(0, |reader| reader.read(buffer))
    }

    /// The next byte, which stays there; none at the end.
    pub(crate) fn peek(&self) -> io::Result<Option<u8>> {
        self.take(None, |reader| Ok(reader.fill_buf()?.first().copied()))
    }

    /// Whether something was read from the socket already that wasn't taken.
    pub(crate) fn has_more(&self) -> bool {
        match self.connection().reader().fill_buf() {
            Ok(_) => true,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }

    /// Has `take` take what has come. If it has found out about an end by itself, that is the `end`.
    fn take<T>(
        &self,
        end: T,
        mut take: impl FnMut(&mut Reader<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut connection = self.connection();
        for round in 0.. {
            let processed = connection.process_new_packets().map(drop);
            // What the handshake has to say, or why it ends. If it can't go now, it goes with the next call.
            let _ = self.write_out(&mut connection);
            if let Err(error) = processed {
                return Err(io::Error::new(ErrorKind::InvalidData, text_of(&error)));
            }
            match take(&mut connection.reader()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(end),
                taken => return taken,
            }
            // If there is more, the descriptor says so.
            if round == ROUNDS {
                break;
            }
            connection.read_tls(&mut &self.socket)?;
        }
        Err(ErrorKind::WouldBlock.into())
    }
}

/// Writes to a socket, without the signal that a peer's end may bring.
struct Out<'a>(&'a UnixStream);

impl io::Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        socket::send(self.0, &[IoSlice::new(bytes)], &[])
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        socket::send(self.0, &pieces[..pieces.len().min(MOST_PIECES)], &[])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is wrong, and what to do.
fn text_of(error: &Error) -> String {
    match error {
        Error::InvalidMessage(_) => {
            "the peer doesn't speak TLS: either both sides use it, or none does".to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            "the server's certificate isn't signed by any of the roots given: is the certificate of who has \
             signed it among them?"
                .to_owned()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("{error}; `TlsClient::server_name` says which name to expect"),
        Error::AlertReceived(_) => format!("the peer refused: {error}"),
        error if error.to_string().contains("CaUsedAsEndEntity") => {
            "the server's certificate is one for signing others: it may be a root, but a server shows one that \
             isn't a CA's (for `openssl req`: `-addext basicConstraints=critical,CA:FALSE`)"
                .to_owned()
        }
        error => error.to_string(),
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut connection = self.connection();
        connection.send_close_notify();
        // Without it, the end of the stream is an end as well.
        let _ = self.write_out(&mut connection);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Server {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

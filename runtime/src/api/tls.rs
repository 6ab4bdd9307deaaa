//! TLS for a manager's connections: what the two sides bring along.

use std::fmt;

use crate::error::Error;
use crate::transport::tls::{Client, Server};

/// A server's certificate and its private key, for [`ManagerBuilder::tls`](crate::ManagerBuilder::tls).
///
/// The private key goes to the manager's own server process, and nowhere else.
#[derive(Clone)]
pub struct TlsServer(Server);

/// Whom a client trusts, for [`Manager::connect_tls`](crate::Manager::connect_tls).
#[derive(Clone)]
pub struct TlsClient {
    roots: Vec<u8>,
    name: Option<String>,
}

impl TlsServer {
    /// Takes a chain of certificates, the server's own first, and its private key (PKCS #8, PKCS #1 or SEC 1), as
    /// PEM: what the files of `openssl`, `certbot` and the like have.
    ///
    /// ```no_run
    /// use procession::{Address, AuthKey, Manager, TlsServer};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tls = TlsServer::from_pem(std::fs::read("chain.pem")?, std::fs::read("key.pem")?)?;
    /// let manager = Manager::builder()
    ///     .bind(Address::tcp("0.0.0.0", 7700))
    ///     .auth_key(&AuthKey::new("a long and random secret"))
    ///     .tls(tls)
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// They aren't that, or the key isn't the certificate's.
    pub fn from_pem(
        cert_chain: impl Into<Vec<u8>>,
        private_key: impl Into<Vec<u8>>,
    ) -> Result<Self, Error> {
        let server = Server::new(cert_chain.into(), private_key.into());
        server.map(Self).map_err(Error::usage)
    }

    pub(super) fn into_inner(self) -> Server {
        self.0
    }
}

impl TlsClient {
    /// Trusts servers whose certificates were signed by one of these, which are PEM. A certificate that has signed
    /// itself is its own root, unless it is one for signing others (a CA's).
    ///
    /// ```no_run
    /// use procession::{Address, AuthKey, Manager, TlsClient};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tls = TlsClient::from_pem(std::fs::read("root.pem")?)?.server_name("jobs.example.org");
    /// let key = AuthKey::new("a long and random secret");
    /// let remote = Manager::connect_tls(Address::tcp("10.0.0.7", 7700), &key, &tls)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// They are no certificates.
    pub fn from_pem(roots: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let roots = roots.into();
        Client::new(roots.clone(), "localhost".to_owned()).map_err(Error::usage)?;
        Ok(Self { roots, name: None })
    }

    /// The name that the server's certificate has to be for, a DNS name or an IP address. If this isn't called, it
    /// is the host in the address.
    #[must_use = "it gives what has the name"]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// For a server at this host.
    ///
    /// # Errors
    /// What is to be its name can't be one.
    pub(super) fn to_reach(&self, host: &str) -> Result<Client, Error> {
        let name = self.name.clone().unwrap_or_else(|| host.to_owned());
        Client::new(self.roots.clone(), name).map_err(Error::usage)
    }
}

impl fmt::Debug for TlsServer {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").finish_non_exhaustive()
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").field("server_name", &self.name).finish_non_exhaustive()
    }
}

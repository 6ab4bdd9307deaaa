//! Managers for other programs.

use std::path::{self, PathBuf};
use std::time::Duration;

use super::super::address::Address;
use super::super::listener::{self, AuthKey};
#[cfg(feature = "tls")]
use super::super::tls::{TlsClient, TlsServer};
use super::Manager;
use crate::error::{Error, Kind};
use crate::manage::afar::client::{Client, ConnectError};
use crate::manage::afar::host::{self, Limits, Listen};
use crate::manage::afar::wire::Target;
use crate::manage::handle::{self, Way};
use crate::transport::link::LinkError;
use crate::transport::place::Place;
use crate::transport::tls;

/// The default of [`ManagerBuilder::max_connections`]: a thread each.
const CONNECTIONS: usize = 1024;

/// The default of [`ManagerBuilder::max_message`]: far above what programs send, and below what brings a
/// machine down.
const MESSAGE: u64 = 1 << 30;

/// The default of [`ManagerBuilder::message_timeout`].
const TIME: Duration = Duration::from_secs(30);

/// The default of [`ManagerBuilder::grace`]: many times what connecting anew takes.
const GRACE: Duration = Duration::from_secs(10);

/// Describes a [`Manager`] that other programs can connect to, or that keeps its objects: made by
/// [`Manager::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ManagerBuilder {
    bind: Option<Address>,
    key: Option<AuthKey>,
    limits: Limits,
    tls: Option<tls::Server>,
    snapshot: Option<PathBuf>,
}

impl ManagerBuilder {
    /// Where it listens: a TCP port, the path of a Unix socket, or an abstract name. The default is nowhere.
    pub fn bind(mut self, address: impl Into<Address>) -> Self {
        self.bind = Some(address.into());
        self
    }

    /// The key that both sides prove to each other to have. There is no default.
    pub fn auth_key(mut self, key: &AuthKey) -> Self {
        self.key = Some(key.clone());
        self
    }

    /// Has all connections use TLS 1.3, with this certificate: then what goes over the network is encrypted and
    /// signed, and clients know whom they talk to. Both sides prove the key all the same, within TLS. Clients use
    /// [`Manager::connect_tls`]. It is for TCP, and needs the feature `tls`.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, server: TlsServer) -> Self {
        self.tls = Some(server.into_inner());
        self
    }

    /// How many connections from other programs there may be at a time, 1024 if this isn't called. One more
    /// is told so and closed.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.limits.connections = count;
        self
    }

    /// How many bytes a request, or a reply, of another program may have, a gigabyte if this isn't called.
    /// Memory for a request is only taken as it arrives.
    ///
    /// A call whose result is longer has been executed all the same: what a queue's `get` has taken out is
    /// lost. Of a batch with such a reply, the calls are executed up to the one whose result has no room any
    /// more.
    pub fn max_message(mut self, bytes: u64) -> Self {
        self.limits.message = bytes;
        self
    }

    /// How long one message of another program may take from its first byte to its last, 30 seconds if this
    /// isn't called. A client that sends or reads more slowly loses its connection.
    pub fn message_timeout(mut self, limit: Duration) -> Self {
        self.limits.time = limit;
        self
    }

    /// For how long what another program holds is kept after its last connection has ended, 10 seconds if
    /// this isn't called: for so long it can come back to it. It also keeps for so long, once it has gone for
    /// good, an object that a reply gave it which was lost on the way.
    pub fn grace(mut self, limit: Duration) -> Self {
        self.limits.grace = limit;
        self
    }

    /// Keeps the objects that have a [name](Manager::name) in this file, a *snapshot*: a manager with the same
    /// path has them under their names again. The default is nowhere.
    ///
    /// It is written when the `Manager` ends, or the process that has it, however that ends, and by
    /// [`Manager::save`]; as a whole, so that whatever happens there is the old one or the new one. Whoever got an
    /// answer before the end finds in it what the call has done. What has changed since the last one is lost if the
    /// server's own process is killed: by a service manager that sends a signal to all processes of a service, say
    /// (for systemd there is `KillMode=mixed`).
    ///
    /// What a type under `#[managed]` needs for that is the option `persist`, and serde's traits; dictionaries,
    /// lists, sets, queues, values and namespaces have it. Locks and the like can't be kept, nor can values
    /// that have proxies, queues or other handles in them. An object that is poisoned is so again.
    ///
    /// ```
    /// use procession::{Dict, Manager};
    ///
    /// # fn main() -> Result<(), procession::Error> {
    /// # let path = std::env::temp_dir().join(format!("ages-{}", std::process::id()));
    /// let manager = Manager::builder().persist(&path).build()?;
    /// let ages: Dict<String, u32> = manager.dict()?;
    /// manager.name("ages", &ages)?;
    /// ages.insert("Ann".into(), 31)?;
    /// manager.shutdown()?;
    ///
    /// // Another time:
    /// let manager = Manager::builder().persist(&path).build()?;
    /// let ages: Dict<String, u32> = manager.named("ages")?;
    /// assert_eq!(ages.get("Ann")?, Some(31));
    /// # manager.shutdown()?;
    /// # std::fs::remove_file(&path).unwrap();
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A program of another build can have it, too, if the types are called the same and look the same to
    /// serde: the same fields of the same types, in the same order. Nothing checks that, so a type that has
    /// changed takes another name.
    ///
    /// An object is made anew when somebody first asks for its name, and until then stays in the
    /// snapshot as it is; programs that are [connected](Manager::connect) and of another build find built-in
    /// types' objects after that.
    ///
    /// An item that was taken out of a queue is gone, also if it isn't done yet.
    ///
    /// One manager at a time has a snapshot. Its file is for this user alone.
    pub fn persist(mut self, path: impl Into<PathBuf>) -> Self {
        self.snapshot = Some(path.into());
        self
    }

    /// Starts the server.
    ///
    /// # Errors
    /// As [`Manager::new`]; the address can't be listened at; there is an address and no key, or the key is
    /// empty; the snapshot is damaged, or of another version, or can't be read, or another manager has it for
    /// longer than ten seconds.
    pub fn build(self) -> Result<Manager, Error> {
        let Self { bind, key, limits, tls, snapshot } = self;
        let absolute = |path: PathBuf| {
            path::absolute(&path).map_err(|error| {
                Error::system(&format!("can't have a snapshot at {}", path.display()), &error)
            })
        };
        let snapshot = snapshot.map(absolute).transpose()?;
        let Some(address) = bind else { return Manager::start(None, snapshot) };
        let key = key.ok_or_else(|| {
            Error::usage("a manager that listens needs a key: call `auth_key` before `build`")
        })?;
        let (place, key) = (address.place().clone(), key.usable()?.clone());
        if tls.is_some() && !matches!(place, Place::Tcp { .. }) {
            return Err(only_for_tcp(&address));
        }
        let target = Target { place, key, tls: None };
        let mut manager = Manager::start(Some(Listen { target, tls, limits }), snapshot)?;
        let place = handle::run(&manager.way, &host::place, &()).map_err(super::of_manager)?;
        manager.address = place.map(Address::from);
        Ok(manager)
    }
}

impl Manager {
    /// A manager that other programs can [connect](Self::connect) to, or that [keeps](ManagerBuilder::persist)
    /// its objects.
    ///
    /// What they can reach are the objects that have a [name](Self::name), those that they make themselves,
    /// and those that calls give them; and of these, the methods. They run no other code of this program.
    /// What goes over the network is neither encrypted nor signed after both sides have proved their key: use
    /// TCP in a network that you trust, through a tunnel, or with TLS (the feature `tls`).
    ///
    /// ```
    /// use procession::{Address, AuthKey, Dict, Manager};
    ///
    /// # fn main() -> Result<(), procession::Error> {
    /// let key = AuthKey::new("a long and random secret");
    /// let manager = Manager::builder().bind(Address::tcp("localhost", 0)).auth_key(&key).build()?;
    /// let ages: Dict<String, u32> = manager.dict()?;
    /// manager.name("ages", &ages)?;
    /// let address = manager.address().expect("it listens");
    ///
    /// // In another program, which needs to know address and key:
    /// let remote = Manager::connect(address, &key)?;
    /// let ages: Dict<String, u32> = remote.named("ages")?;
    /// ages.insert("Ann".into(), 31)?;
    /// assert_eq!(ages.get("Ann")?, Some(31));
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> ManagerBuilder {
        let limits =
            Limits { connections: CONNECTIONS, message: MESSAGE, time: TIME, grace: GRACE };
        ManagerBuilder { bind: None, key: None, limits, tls: None, snapshot: None }
    }

    /// The manager of another program, of this machine or another one.
    ///
    /// Objects are found by their [names](Self::named). Programs of the same build as the server's can make
    /// new ones, too. Proxies can be sent to other processes of the program, which connect by themselves.
    ///
    /// A connection that ends is replaced by the next call. The call that was under way is an error,
    /// [`ManagerError::Interrupted`](super::ManagerError::Interrupted), and isn't repeated, as it may have
    /// been executed. What this program held is still there if it comes back [in time](ManagerBuilder::grace)
    /// and to the same server; otherwise calls are [`ManagerError::Gone`](super::ManagerError::Gone), and
    /// objects are to be found anew.
    ///
    /// # Errors
    /// Nobody listens there, or doesn't answer within 5 seconds ([`Error::is_timeout`]); it has another key,
    /// or is something else ([`Error::is_authentication`]); it has too many connections; or the key is empty.
    pub fn connect(address: impl Into<Address>, key: &AuthKey) -> Result<Self, Error> {
        let address = address.into();
        let (place, key) = (address.place().clone(), key.usable()?.clone());
        Self::reach(address, Target { place, key, tls: None })
    }

    /// As [`connect`](Self::connect), to a manager that [uses TLS](ManagerBuilder::tls), whose certificate has to
    /// be one that the client trusts, and for the right name. It needs the feature `tls`.
    ///
    /// # Errors
    /// As [`connect`](Self::connect). [`Error::is_authentication`], if the certificate isn't trusted, or for another
    /// name, or there is no TLS. The address isn't one of TCP, or there is no name that a certificate could be for.
    #[cfg(feature = "tls")]
    pub fn connect_tls(
        address: impl Into<Address>,
        key: &AuthKey,
        tls: &TlsClient,
    ) -> Result<Self, Error> {
        let address = address.into();
        let (place, key) = (address.place().clone(), key.usable()?.clone());
        let Place::Tcp { host, .. } = &place else { return Err(only_for_tcp(&address)) };
        let tls = Some(tls.to_reach(host)?);
        Self::reach(address, Target { place, key, tls })
    }

    fn reach(address: Address, target: Target) -> Result<Self, Error> {
        let client = Client::of(target);
        client.connect().map_err(|error| described(&error, &address))?;
        Ok(Self { way: Way::Afar(client), own: None, address: Some(address) })
    }

    /// Where it listens, or was connected to. For port 0, it is the port that the system has chosen.
    pub fn address(&self) -> Option<Address> {
        self.address.clone()
    }
}

fn only_for_tcp(address: &Address) -> Error {
    Error::usage(format!("{address} isn't a TCP address, and TLS is for TCP"))
}

fn described(error: &ConnectError, address: &Address) -> Error {
    let what = || format!("can't connect to {address}");
    let text = || format!("{}: {error}", what());
    match error {
        ConnectError::Auth(error) => listener::described(error, what),
        ConnectError::Reach(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            Error::new(Kind::Late(text()))
        }
        ConnectError::Link(LinkError::TimedOut) => Error::new(Kind::Late(text())),
        ConnectError::Reach(_) => Error::new(Kind::System(text())),
        ConnectError::Stranger => Error::new(Kind::Authentication(text())),
        ConnectError::Refused(_) => Error::new(Kind::Channel(text())),
        ConnectError::Link(_) => Error::new(Kind::Disconnected(text())),
    }
}

/// Whether two programs mean the same by a type: its name, and the methods with their signatures.
///
/// # Errors
/// They don't; what each of them means, for people.
pub(super) fn compare(ours: &[String], its: &[String]) -> Result<(), [String; 2]> {
    if ours == its {
        return Ok(());
    }
    let name = |described: &[String]| described.first().cloned().unwrap_or_default();
    if ours.first() != its.first() {
        return Err([name(ours), name(its)]);
    }
    let count = ours.len().max(its.len());
    let at = (1..count).find(|at| ours.get(*at) != its.get(*at)).unwrap_or_default();
    let with = |described: &[String]| {
        let method = described.get(at).map_or("no further method", String::as_str);
        format!("{} with `{method}`", name(described))
    };
    Err([with(ours), with(its)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list<const N: usize>(texts: [&str; N]) -> Vec<String> {
        texts.map(str::to_owned).into()
    }

    #[test]
    fn the_first_difference_is_told() {
        let ours = list(["Counter", "add fn(u64)", "get fn() -> u64"]);
        assert_eq!(compare(&ours, &ours.clone()), Ok(()));
        let other = list(["Adder", "add fn(u64)"]);
        assert_eq!(compare(&ours, &other), Err(["Counter".to_owned(), "Adder".to_owned()]));
        let [mine, its] = compare(&ours, &list(["Counter", "add fn(u32)"])).unwrap_err();
        assert_eq!(
            (mine.as_str(), its.as_str()),
            ("Counter with `add fn(u64)`", "Counter with `add fn(u32)`")
        );
        let [_, its] = compare(&ours, &ours[..2]).unwrap_err();
        assert_eq!(its, "Counter with `no further method`");
    }
}

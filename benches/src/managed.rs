//! What clients of a manager do to its objects.

/// The clients, each a process, of the rows that have several.
pub(crate) const CLIENTS: [usize; 4] = [1, 2, 8, 64];

/// The sets of [`Managed::SetMany`].
pub(crate) const MANY: usize = 1_000;

/// The keys of dictionaries.
pub(crate) const KEYS: u64 = 1_000;

/// The bytes of a get of a dictionary through a socket, with the heads of messages, and those of its reply.
pub(crate) const SENT: usize = 21;
pub(crate) const RECEIVED: usize = 15;

/// How a client of another program reaches a manager on the same machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Through {
    /// A TCP port.
    Tcp,
    /// A Unix socket.
    Unix,
}

/// Calls of a manager's objects.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Managed {
    /// So many clients at once get values of one dictionary.
    Get(usize),
    /// So many clients at once set values of one dictionary.
    Set(usize),
    /// So many clients at once put an item into one queue and get one from it.
    PutAndGet(usize),
    /// One client acquires a lock that nobody else wants, and releases it.
    Lock,
    /// One client sets a thousand values with one message, counted one by one; the median of a round.
    SetMany,
    /// One client gets values of a dictionary, as another program would; the median of a round.
    Afar(Through),
    /// A manager is started and shut down.
    StartAndStop,
}

impl Managed {
    /// All, in the order of the table.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for row in [Self::Get, Self::Set, Self::PutAndGet] {
            all.extend(CLIENTS.map(row));
        }
        all.extend([Self::Lock, Self::SetMany]);
        all.extend([Through::Tcp, Through::Unix].map(Self::Afar));
        all.push(Self::StartAndStop);
        all
    }

    /// The row's name.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Get(1) => "managed dict, get, 1 client",
            Self::Get(2) => "managed dict, get, 2 clients",
            Self::Get(8) => "managed dict, get, 8 clients",
            Self::Get(_) => "managed dict, get, 64 clients",
            Self::Set(1) => "managed dict, set, 1 client",
            Self::Set(2) => "managed dict, set, 2 clients",
            Self::Set(8) => "managed dict, set, 8 clients",
            Self::Set(_) => "managed dict, set, 64 clients",
            Self::PutAndGet(1) => "managed queue, put and get, 1 client",
            Self::PutAndGet(2) => "managed queue, put and get, 2 clients",
            Self::PutAndGet(8) => "managed queue, put and get, 8 clients",
            Self::PutAndGet(_) => "managed queue, put and get, 64 clients",
            Self::Lock => "managed lock, acquire and release",
            Self::SetMany => "managed dict, 1000 sets at once, a set",
            Self::Afar(Through::Tcp) => "managed dict, get, through TCP, p50",
            Self::Afar(Through::Unix) => "managed dict, get, through a Unix socket, p50",
            Self::StartAndStop => "manager, start and stop, p50",
        }
    }

    /// What peers in another language call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Get(_) => "managed_get",
            Self::Set(_) => "managed_set",
            Self::PutAndGet(_) => "managed_put_and_get",
            Self::Lock => "managed_lock",
            Self::SetMany => "managed_set_many",
            Self::Afar(_) => "managed_afar",
            Self::StartAndStop => "manager_start_and_stop",
        }
    }

    /// How many client processes there are. The rows for one alone need none besides the one that measures.
    pub(crate) fn clients(self) -> usize {
        match self {
            Self::Get(clients) | Self::Set(clients) | Self::PutAndGet(clients) => clients,
            Self::Lock | Self::SetMany | Self::Afar(_) | Self::StartAndStop => 0,
        }
    }

    /// How many of them a fast peer does in a round, and a slow one: all clients together.
    pub(crate) fn counts(self) -> (usize, usize) {
        match self {
            Self::Get(_) | Self::Set(_) | Self::PutAndGet(_) => (64 * 1_000, 64 * 25),
            Self::Lock => (20_000, 2_000),
            Self::SetMany => (50, 20),
            Self::Afar(_) => (5_000, 500),
            Self::StartAndStop => (20, 10),
        }
    }
}

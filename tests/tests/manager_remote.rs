//! Managers that other programs connect to, through sockets.
//!
//! The other programs are processes of this one, or this very process: a connected manager goes through
//! sockets wherever its server is.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use procession::manager::Queue;
use procession::{
    Address, AuthKey, Connection, Dict, List, Manager, ManagerBuilder, ManagerError, Pool, Process,
    Value, connect, managed, task,
};
use procession_tests::scratch::Scratch;
use procession_tests::{alone, heap_objects, wait_until};

/// A type under the attribute.
struct Counter {
    count: u64,
}

#[managed(name = "Counter")]
impl Counter {
    pub fn new(count: u64) -> Self {
        Self { count }
    }

    pub fn checked(count: u64) -> Result<Self, String> {
        if count > 100 { Err(format!("{count} are too many")) } else { Ok(Self { count }) }
    }

    pub fn add(&mut self, more: u64) -> u64 {
        self.count = self.count.checked_add(more).expect("it fits");
        self.count
    }

    pub fn nap(&self, millis: u64) -> u64 {
        thread::sleep(Duration::from_millis(millis));
        self.count
    }
}

fn key() -> AuthKey {
    AuthKey::new("a secret of these tests")
}

fn port() -> Address {
    Address::tcp("localhost", 0)
}

fn builder(address: impl Into<Address>) -> ManagerBuilder {
    Manager::builder().bind(address).auth_key(&key())
}

/// A manager at a TCP port, and one that is connected to it.
fn pair() -> (Manager, Manager) {
    let manager = builder(port()).build().unwrap();
    let remote = Manager::connect(manager.address().unwrap(), &key()).unwrap();
    (manager, remote)
}

/// A connection that has proved the key and says what no client says.
fn forger(manager: &Manager) -> Connection<(), ()> {
    let forger: Connection<(), ()> = connect(manager.address().unwrap(), &key()).unwrap();
    let welcome = forger.recv_bytes().unwrap();
    assert!(welcome.starts_with(b"manager"));
    forger
}

/// As [`forger`], with a session.
fn guest(manager: &Manager) -> Connection<(), ()> {
    let guest = forger(manager);
    guest.send_bytes(&[0]).unwrap();
    assert_eq!(guest.recv_bytes().unwrap().len(), 16, "a ticket");
    guest
}

#[track_caller]
fn assert_serves(manager: &Manager) {
    let begin = Instant::now();
    let value = Manager::connect(manager.address().unwrap(), &key()).unwrap().value(5_u8).unwrap();
    assert_eq!(value.get().unwrap(), 5);
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[track_caller]
fn assert_ends(connection: &Connection<(), ()>) {
    let begin = Instant::now();
    while connection.recv_bytes().is_ok() {}
    assert!(begin.elapsed() < Duration::from_secs(8), "it goes on for {:?}", begin.elapsed());
}

fn works(manager: &Manager, remote: &Manager) {
    let dict: Dict<String, Vec<u64>> = remote.dict().unwrap();
    assert_eq!(dict.insert("a".into(), vec![1]).unwrap(), None);
    assert_eq!(dict.insert("a".into(), vec![2; 300_000]).unwrap(), Some(vec![1]));
    assert_eq!(dict.get("a").unwrap().unwrap().len(), 300_000);

    // Proxies in arguments and in results.
    let nested: List<Dict<String, Vec<u64>>> = remote.list(vec![dict.clone()]).unwrap();
    nested.push(dict).unwrap();
    let inner = nested.get(1).unwrap().unwrap();
    assert_eq!(inner.len().unwrap(), 1);
    drop(nested);
    assert_eq!(inner.len().unwrap(), 1);

    let counter = CounterProxy::new(remote, 5).unwrap();
    assert_eq!(counter.add(2).unwrap(), 7);
    assert!(matches!(counter.add(u64::MAX), Err(ManagerError::Panicked { .. })));
    assert!(matches!(counter.add(1), Err(ManagerError::Poisoned(_))));
    counter.clear_poison().unwrap();
    assert_eq!(counter.add(1).unwrap(), 8);
    assert_eq!(CounterProxy::checked(remote, 101).unwrap().unwrap_err(), "101 are too many");
    assert_eq!(CounterProxy::checked(remote, 9).unwrap().unwrap().add(1).unwrap(), 10);

    let (last, found) = remote
        .batch(|tx| {
            for i in 0..1000 {
                drop(inner.on(tx).insert(i.to_string(), vec![i]));
            }
            (inner.on(tx).get("999"), counter.on(tx).add(1))
        })
        .unwrap();
    assert_eq!((last.get().unwrap(), found.get().unwrap()), (Some(vec![999]), 9));

    // Both see the same objects under names.
    remote.name("counter", &counter).unwrap();
    assert!(matches!(remote.name("counter", &counter), Err(ManagerError::Refused(_))));
    let same: CounterProxy = manager.named("counter").unwrap();
    assert_eq!(same.add(1).unwrap(), 10);
    assert!(remote.unname("counter").unwrap() && !manager.unname("counter").unwrap());
    assert!(matches!(remote.named::<CounterProxy>("counter"), Err(ManagerError::Gone(_))));

    // What blocks holds up nobody.
    let queue: Queue<u64> = remote.queue(None).unwrap();
    let getter = {
        let queue = queue.clone();
        thread::spawn(move || queue.get().unwrap())
    };
    let napper = thread::spawn(move || counter.nap(50).unwrap());
    while !napper.is_finished() {
        assert_eq!(same.add(0).unwrap(), 10);
        assert!(queue.is_empty().unwrap());
    }
    assert_eq!(napper.join().unwrap(), 10);
    queue.put(3).unwrap();
    assert_eq!(getter.join().unwrap(), 3);
}

#[test]
fn values_are_worked_on_over_tcp_unix_sockets_and_abstract_ones() {
    alone(|| {
        let scratch = Scratch::new();
        let path = Address::unix(scratch.path("socket"));
        let name = Address::abstract_name(format!("manager-{}", std::process::id()));
        for address in [port(), path, name] {
            let manager = builder(&address).build().unwrap();
            let before = heap_objects();
            let remote = Manager::connect(manager.address().unwrap(), &key()).unwrap();
            assert_eq!(remote.pid(), manager.pid());
            works(&manager, &remote);
            wait_until("nothing is left of it", || heap_objects() <= before);
            drop(remote);
            manager.shutdown().unwrap();
        }
        assert!(!std::fs::exists(scratch.path("socket")).unwrap(), "the socket's file is gone");
    });
}

#[task]
fn count_up(counter: CounterProxy, dict: Dict<u64, Value<u64>>, key: u64) -> Value<u64> {
    for _ in 0..50 {
        counter.add(1).unwrap();
    }
    let value = dict.get(&key).unwrap().unwrap();
    value.set(key).unwrap();
    value
}

#[test]
fn proxies_go_to_other_processes_which_connect_by_themselves() {
    alone(|| {
        let manager = builder(port()).grace(Duration::from_millis(100)).build().unwrap();
        let remote = Manager::connect(manager.address().unwrap(), &key()).unwrap();
        let before = heap_objects();
        let counter = CounterProxy::new(&remote, 0).unwrap();
        let dict: Dict<u64, Value<u64>> = remote.dict().unwrap();
        for key in 0..6 {
            dict.insert(key, remote.value(100).unwrap()).unwrap();
        }
        let pool = Pool::builder().processes(2).build().unwrap();
        let inputs: Vec<_> = (0..6).map(|key| (counter.clone(), dict.clone(), key)).collect();
        let values = pool.starmap(count_up, inputs).unwrap();
        drop(pool);
        assert_eq!(counter.add(0).unwrap(), 300);
        assert!((0..).zip(&values).all(|(i, value)| value.get().unwrap() == i));
        drop(values);
        // Not to another manager, which couldn't reach it.
        let other = Manager::new().unwrap();
        let list: List<CounterProxy> = other.list(vec![]).unwrap();
        list.push(counter.clone()).unwrap();
        let afar: List<Value<u8>> = remote.list(vec![]).unwrap();
        let near = other.value(1).unwrap();
        assert!(matches!(afar.push(near), Err(ManagerError::Data(_))));
        drop((list, afar, counter, dict, other));
        // The next call finds that nobody has what was lent.
        wait_until("nothing is left", || {
            drop(remote.value(0_u8).unwrap());
            heap_objects() <= before + 1
        });
        drop(remote);
        drop(manager);
    });
}

#[task]
fn own(value: Value<u64>) -> u64 {
    value.get().unwrap()
}

#[test]
fn proxies_that_wait_for_a_worker_are_not_taken_for_returned() {
    alone(|| {
        let manager = builder(port()).grace(Duration::from_millis(100)).build().unwrap();
        let remote = Manager::connect(manager.address().unwrap(), &key()).unwrap();
        let before = heap_objects();
        let pool = Pool::builder().processes(1).build().unwrap();
        for round in 0..20 {
            // This process has given them away, and they aren't anywhere else yet.
            let jobs: Vec<_> = (0..10)
                .map(|i| pool.apply_async(own, (remote.value(10 * round + i).unwrap(),)))
                .collect();
            for (i, job) in (0..).zip(jobs) {
                drop(remote.value(0_u8).unwrap());
                assert_eq!(job.get().unwrap(), 10 * round + i);
            }
        }
        drop(pool);
        wait_until("all has come back", || {
            drop(remote.value(0_u8).unwrap());
            heap_objects() <= before
        });
    });
}

#[test]
fn a_wrong_key_is_refused_and_learns_nothing() {
    alone(|| {
        let manager = builder(port()).build().unwrap();
        let address = manager.address().unwrap();
        let error = Manager::connect(&address, &AuthKey::new("a guess")).unwrap_err();
        assert!(error.is_authentication(), "{error}");
        assert!(Manager::builder().bind(port()).build().is_err(), "there is no key");
        assert!(builder(port()).auth_key(&AuthKey::new("")).build().is_err(), "it is empty");
        assert!(Manager::connect(&address, &AuthKey::new("")).is_err());
        // Whoever says nothing gets a greeting, which has no use of the key in it, and an end.
        let mut silent = raw(&manager);
        let mut bytes = Vec::new();
        let begin = Instant::now();
        silent.read_to_end(&mut bytes).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(7), "{:?}", begin.elapsed());
        assert_eq!(bytes.len(), 48);
        assert_serves(&manager);
    });
}

fn raw(manager: &Manager) -> TcpStream {
    TcpStream::connect(manager.address().unwrap().to_string()).unwrap()
}

#[test]
fn a_crowd_that_says_nothing_stops_nobody() {
    alone(|| {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let wanted = 10_000_u64;
        setrlimit(Resource::RLIMIT_NOFILE, hard.min(wanted + 200).max(soft), hard).unwrap();
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let count = wanted.min(limit - 100);
        let name = format!("crowd-{}", std::process::id());
        let manager = builder(Address::abstract_name(&name)).build().unwrap();
        let name = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let mut crowd = Vec::new();
        for i in 0..count {
            crowd.push(UnixStream::connect_addr(&name).unwrap());
            if i % 500 == 0 {
                assert_serves(&manager);
            }
        }
        println!("{} connections say nothing", crowd.len());
        assert_serves(&manager);
        drop(crowd);
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    });
}

#[test]
fn garbage_costs_its_connection_alone() {
    alone(|| {
        let (manager, remote) = pair();
        let value = remote.value(1_u64).unwrap();
        for garbage in [&[][..], &[7], &[1; 40], b"GET / HTTP/1.1\r\n"] {
            let forger = forger(&manager);
            forger.send_bytes(garbage).unwrap();
            assert_ends(&forger);
        }
        for garbage in [&[][..], &[9], &[0], &[0, 99], &[0, 1, 2, 3], &[1, 2], &[2; 24], &[2; 26]] {
            let guest = guest(&manager);
            guest.send_bytes(garbage).unwrap();
            assert_ends(&guest);
            assert_eq!(value.get().unwrap(), 1);
        }
        // What is no message at all.
        let mut raw = raw(&manager);
        raw.write_all(&[0x55; 100]).unwrap();
        let _ = raw.read_to_end(&mut Vec::new());
        assert_serves(&manager);
    });
}

/// What an honest client never asks for.
#[test]
fn nothing_can_be_reached_but_what_was_given() {
    alone(|| {
        let (manager, remote) = pair();
        let value: Value<u64> = remote.value(1).unwrap();
        let guest = guest(&manager);
        // The one that is there, as its own proxy says.
        let of_value = format!("{value:?}");
        let (index, generation) = of_value
            .rsplit_once('#')
            .and_then(|(_, id)| id.trim_end_matches(')').split_once('.'))
            .map(|(index, generation)| (index.parse().unwrap(), generation.parse().unwrap()))
            .unwrap();
        let ask = |request: &[u8]| {
            guest.send_bytes(request).unwrap();
            guest.recv_bytes().unwrap()
        };
        // All numbers that objects may have: of none it has been told.
        let others = (0..200_u64).flat_map(|index| [(index, 1_u64), (index, 2)]);
        for (index, generation) in std::iter::once((index, generation)).chain(others) {
            let mut call = vec![0, 1];
            call.extend((generation << 32 | index).to_le_bytes());
            call.extend([0, 0]);
            assert_eq!(ask(&call)[0], 1, "it has failed");
            // Nor can it give them a name, nor claim them.
            let mut name = vec![0, 6];
            name.extend((generation << 32 | index).to_le_bytes());
            name.extend(b"mine");
            assert_eq!(ask(&name)[0], 1);
            let mut claim = vec![2];
            claim.extend([index as u8; 16]);
            claim.extend((generation << 32 | index).to_le_bytes());
            assert_eq!(ask(&claim), [0; 4], "no object");
        }
        // Makers that aren't any.
        for offset in (0..4096_u64).chain([u64::MAX, 1 << 40]) {
            let mut make = vec![0, 5];
            make.extend(offset.wrapping_mul(8).to_le_bytes());
            make.extend([0; 8]);
            assert_eq!(ask(&make)[0], 1);
        }
        // Tasks, by their place in the table: that alone ends the connection.
        let mut run = vec![0, 4, 0];
        run.extend([0; 16]);
        guest.send_bytes(&run).unwrap();
        assert_ends(&guest);
        assert_eq!(value.get().unwrap(), 1);
    });
}

#[test]
fn limits_are_kept() {
    alone(|| {
        let manager = builder(port())
            .max_connections(3)
            .max_message(100_000)
            .message_timeout(Duration::from_millis(300))
            .build()
            .unwrap();
        let address = manager.address().unwrap();
        let remote = Manager::connect(&address, &key()).unwrap();
        let list: List<Vec<u8>> = remote.list(vec![]).unwrap();
        let error = list.push(vec![0; 100_001]).unwrap_err();
        assert!(matches!(error, ManagerError::Data(_)), "{error}");
        for _ in 0..2 {
            list.push(vec![0; 60_000]).unwrap();
        }
        let error = list.to_vec().unwrap_err();
        assert!(error.to_string().contains("longer than the manager's limit"), "{error}");
        assert_eq!(list.len().unwrap(), 2);
        // What isn't sent back isn't made, either: the calls behind are not executed.
        let error = remote
            .batch(|tx| {
                let last: Vec<_> = (0..1000).map(|_| list.on(tx).get(0)).collect();
                list.on(tx).clear();
                last
            })
            .unwrap_err();
        assert!(error.to_string().contains("longer than the manager's limit"), "{error}");
        assert_eq!(list.len().unwrap(), 2);

        // Who doesn't keep to them loses the connection: a message that is too long,
        let guest_1 = guest(&manager);
        let guest_2 = guest(&manager);
        let error = connect::<(), ()>(&address, &key()).unwrap().recv_bytes();
        let refusal = String::from_utf8_lossy(&error.unwrap()).into_owned();
        assert!(refusal.contains("3 connections"), "{refusal}");
        drop(guest_1.send_bytes(&vec![0; 200_000]));
        assert_ends(&guest_1);
        // and replies that nobody reads.
        manager.name("list", &manager.list(vec![0_u8]).unwrap()).unwrap();
        let begin = Instant::now();
        while guest_2.send_bytes(&[&[0, 8][..], &[0; 16], b"list"].concat()).is_ok() {
            assert!(begin.elapsed() < Duration::from_secs(20), "the connection goes on");
        }
        drop((guest_1, guest_2));
        wait_until("there is room again", || Manager::connect(&address, &key()).is_ok());
        assert_eq!(list.len().unwrap(), 2);
    });
}

#[test]
fn types_are_compared_by_name_and_methods() {
    mod other {
        pub(super) struct Counter;

        #[procession::managed(name = "Counter", proxy = OtherProxy)]
        impl Counter {
            pub fn new(_count: u64) -> Self {
                Self
            }

            pub fn add(&mut self, more: u32) -> u32 {
                more
            }
        }
    }

    alone(|| {
        let (manager, remote) = pair();
        let counter = CounterProxy::new(&manager, 5).unwrap();
        manager.name("counter", &counter).unwrap();
        assert_eq!(remote.named::<CounterProxy>("counter").unwrap().add(1).unwrap(), 6);
        let error = remote.named::<other::OtherProxy>("counter").unwrap_err();
        let ManagerError::TypeMismatch { expected, found, .. } = &error else { panic!("{error}") };
        assert!(expected.contains("u32") && found.contains("u64"), "{error}");
        let error = remote.named::<Dict<u8, u8>>("counter").unwrap_err();
        let ManagerError::TypeMismatch { expected, found, .. } = &error else { panic!("{error}") };
        assert!(expected.contains("Dict") && found == "Counter", "{error}");
        manager.name("dict", &manager.dict::<u8, u16>().unwrap()).unwrap();
        assert!(remote.named::<Dict<u8, u16>>("dict").is_ok());
        let error = remote.named::<Dict<u8, u8>>("dict").unwrap_err();
        assert!(matches!(error, ManagerError::TypeMismatch { .. }), "{error}");
    });
}

/// What a round trip takes, next to a bare one of the same bytes between the same two processes. Not a test:
/// `cargo test --release -p procession-tests --test manager_remote -- --ignored --nocapture`.
#[test]
#[ignore = "it measures"]
fn round_trips() {
    const COUNT: u32 = 200;
    const ROUNDS: usize = 300;
    alone(|| {
        let scratch = Scratch::new();
        for address in [port(), Address::unix(scratch.path("socket"))] {
            let manager = builder(&address).build().unwrap();
            let remote = Manager::connect(manager.address().unwrap(), &key()).unwrap();
            let dict: Dict<u64, u64> = remote.dict().unwrap();
            dict.insert(1, 2).unwrap();
            let bare = Bare::start(&address);
            let mut rounds: Vec<_> = (0..ROUNDS)
                .map(|_| {
                    let begin = Instant::now();
                    for _ in 0..COUNT {
                        assert_eq!(dict.get(&1).unwrap(), Some(2));
                    }
                    let ours = begin.elapsed() / COUNT;
                    let begin = Instant::now();
                    (0..COUNT).for_each(|_| bare.exchange());
                    (ours, begin.elapsed() / COUNT)
                })
                .collect();
            let mut middle = |key: fn(&(Duration, Duration)) -> Duration| {
                rounds.sort_by_key(key);
                (key(&rounds[0]), key(&rounds[ROUNDS / 2]))
            };
            let (ours, bare) = (middle(|round| round.0), middle(|round| round.1));
            println!("{address}: least and median of a call {ours:?}, bare {bare:?}");
        }
    });
}

/// The bytes of a `get` of the dictionary above, there and back: with the heads of messages.
const THERE: usize = 8 + 1 + 11 + 1;
const BACK: usize = 8 + 1 + 2 + 4;

/// A socket to a process that answers as many bytes with as many.
struct Bare {
    socket: UnixStream,
    _echo: Process<()>,
}

#[task]
fn echo(address: Address, port: Address) {
    let mut socket = Bare::connect(&address, &port);
    let mut bytes = [0; THERE];
    while socket.read_exact(&mut bytes).is_ok() {
        socket.write_all(&bytes[..BACK]).unwrap();
    }
}

impl Bare {
    fn start(address: &Address) -> Self {
        let scratch = Scratch::new();
        let path = Address::unix(scratch.path("bare"));
        let is_tcp = !address.to_string().contains('/');
        if is_tcp {
            let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let port = Address::from(listener.local_addr().unwrap());
            let echo = Process::new(echo, (path, port)).daemon(true).start().unwrap();
            let socket = listener.accept().unwrap().0;
            socket.set_nodelay(true).unwrap();
            Self { socket: OwnedFd::from(socket).into(), _echo: echo }
        } else {
            let listener = UnixListener::bind(scratch.path("bare")).unwrap();
            let none = Address::tcp("", 0);
            let echo = Process::new(echo, (path, none)).daemon(true).start().unwrap();
            Self { socket: listener.accept().unwrap().0, _echo: echo }
        }
    }

    fn connect(path: &Address, port: &Address) -> UnixStream {
        if *port == Address::tcp("", 0) {
            return UnixStream::connect(path.to_string()).unwrap();
        }
        let socket = TcpStream::connect(port.to_string()).unwrap();
        socket.set_nodelay(true).unwrap();
        OwnedFd::from(socket).into()
    }

    fn exchange(&self) {
        (&self.socket).write_all(&[7; THERE]).unwrap();
        (&self.socket).read_exact(&mut [0; BACK]).unwrap();
    }
}

//! Managers that other programs connect to with TLS.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use procession::manager::Queue;
use procession::{
    Address, AuthKey, Dict, List, Manager, ManagerBuilder, ManagerError, Pool, TlsClient,
    TlsServer, Value, connect, task,
};
use procession_tests::relay::Relay;
use procession_tests::{alone, heap_objects, wait_until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
struct Signed {
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, names: &[&str]) -> Signed {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        Signed { chain: certificate.pem(), key: key.serialize_pem() }
    }

    fn client(&self) -> TlsClient {
        TlsClient::from_pem(self.0.pem()).unwrap()
    }
}

fn key() -> AuthKey {
    AuthKey::new("a secret of these tests")
}

fn port() -> Address {
    Address::tcp("localhost", 0)
}

fn builder(authority: &Authority) -> ManagerBuilder {
    // The address of a manager is the number, even if it was bound by a name.
    let Signed { chain, key: private } = authority.sign(&["localhost", "127.0.0.1", "::1"]);
    let tls = TlsServer::from_pem(chain, private).unwrap();
    Manager::builder().bind(port()).auth_key(&key()).tls(tls)
}

fn pair() -> (Authority, Manager, Manager) {
    let authority = Authority::new();
    let manager = builder(&authority).build().unwrap();
    let address = manager.address().unwrap();
    let remote = Manager::connect_tls(address, &key(), &authority.client()).unwrap();
    (authority, manager, remote)
}

fn raw(manager: &Manager) -> TcpStream {
    TcpStream::connect(manager.address().unwrap().to_string()).unwrap()
}

#[task]
fn double(value: Value<u64>, all: List<u64>) -> u64 {
    all.push(2 * value.get().unwrap()).unwrap();
    value.get().unwrap()
}

#[test]
fn values_are_worked_on() {
    alone(|| {
        let (authority, manager, remote) = pair();
        let before = heap_objects();
        let dict: Dict<String, Vec<u8>> = remote.dict().unwrap();
        // Both ways, through sockets that are full.
        let long: Vec<u8> = (0..64 << 20).map(|i: u32| (i >> 8) as u8).collect();
        assert_eq!(dict.insert("long".into(), long.clone()).unwrap(), None);
        assert!(dict.get("long").unwrap() == Some(long));
        dict.clear().unwrap();
        let lengths = remote
            .batch(|tx| {
                (0..1000_usize)
                    .map(|i| {
                        drop(dict.on(tx).insert("x".into(), vec![0; i]));
                        dict.on(tx).get("x")
                    })
                    .collect::<Vec<_>>()
            })
            .unwrap();
        let lengths = lengths.into_iter().map(|later| later.get().unwrap().unwrap().len());
        assert!(lengths.eq(0..1000));

        // Calls at the same time, one of which waits.
        let queue: Queue<u64> = remote.queue(None).unwrap();
        thread::scope(|scope| {
            let got = scope.spawn(|| queue.get().unwrap());
            for _ in 0..500 {
                assert!(queue.is_empty().unwrap());
            }
            queue.put(3).unwrap();
            assert_eq!(got.join().unwrap(), 3);
        });

        // Workers connect by themselves, with the same certificates.
        let all: List<u64> = remote.list(vec![]).unwrap();
        let pool = Pool::builder().processes(2).build().unwrap();
        let inputs = (0..20).map(|i| (remote.value(i).unwrap(), all.clone())).collect::<Vec<_>>();
        assert_eq!(pool.starmap(double, inputs).unwrap(), (0..20).collect::<Vec<_>>());
        drop(pool);
        let mut all_of_them = all.to_vec().unwrap();
        all_of_them.sort_unstable();
        assert!(all_of_them.into_iter().eq((0..40).step_by(2)));
        drop((all, queue, dict));
        wait_until("nothing is left", || {
            drop(remote.value(0_u8).unwrap());
            heap_objects() <= before
        });
        drop((authority, remote, manager));
    });
}

#[test]
fn who_is_cut_off_comes_back() {
    alone(|| {
        let authority = Authority::new();
        let manager = builder(&authority).build().unwrap();
        let relay = Relay::to(&manager.address().unwrap());
        let remote = Manager::connect_tls(relay.address(), &key(), &authority.client()).unwrap();
        let value = remote.value(0_u64).unwrap();
        for i in 0..5 {
            value.set(i).unwrap();
            relay.cut();
            assert_eq!(value.get().unwrap(), i);
        }
        let event = remote.event().unwrap();
        let begun = remote.value(false).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                begun.set(true).unwrap();
                event.wait()
            });
            wait_until("it has begun", || begun.get().unwrap());
            relay.cut();
            if let Err(error) = waiting.join().unwrap() {
                assert!(matches!(error, ManagerError::Interrupted(_)), "{error}");
            } else {
                panic!("nobody has set it");
            }
        });
        drop((value, event, begun, remote));
    });
}

#[test]
fn who_isnt_trusted_is_told_why() {
    alone(|| {
        let (authority, manager, remote) = pair();
        let address = manager.address().unwrap();
        let refused = |address: &Address, tls: &TlsClient, says: &str| {
            let error = Manager::connect_tls(address, &key(), tls).unwrap_err();
            assert!(error.is_authentication() && error.to_string().contains(says), "{error}");
        };
        let stranger = Authority::new();
        refused(&address, &stranger.client(), "isn't signed by any of the roots");
        refused(
            &address,
            &authority.client().server_name("example.org"),
            "`TlsClient::server_name`",
        );
        let both = [stranger.0.pem(), authority.0.pem()].concat();
        let tls = TlsClient::from_pem(both).unwrap().server_name("localhost");
        assert!(Manager::connect_tls(&address, &key(), &tls).is_ok());
        // The key is proved all the same.
        let wrong = AuthKey::new("a guess");
        let error = Manager::connect_tls(&address, &wrong, &authority.client()).unwrap_err();
        assert!(error.is_authentication() && error.to_string().contains("same key"), "{error}");

        // One side with TLS, the other one without.
        let error = Manager::connect(&address, &key()).unwrap_err();
        assert!(error.is_authentication() && error.to_string().contains("uses TLS"), "{error}");
        let error = connect::<(), ()>(&address, &key()).unwrap_err();
        assert!(error.is_authentication() && error.to_string().contains("uses TLS"), "{error}");
        let plain = Manager::builder().bind(port()).auth_key(&key()).build().unwrap();
        let address = plain.address().unwrap();
        refused(&address, &authority.client(), "doesn't speak TLS");
        assert_eq!(remote.value(5).unwrap().get().unwrap(), 5);
        assert!(Manager::connect(&address, &key()).is_ok());
    });
}

#[test]
fn what_is_wrong_with_certificates_is_told() {
    alone(|| {
        let authority = Authority::new();
        let Signed { chain, key: private } = authority.sign(&["localhost"]);
        let other = authority.sign(&["localhost"]);
        let no_server = |chain: &str, key: &str, says: &str| {
            let error = TlsServer::from_pem(chain, key).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        };
        no_server(&chain, &other.key, "isn't the certificate's");
        no_server("", &private, "no certificate");
        no_server(&private, &private, "no certificate");
        no_server(&chain, "", "no private key");
        no_server(&chain, &chain, "no private key");
        let cut = chain.replace("-----END", "");
        no_server(&cut, &private, "no PEM");
        let error = TlsClient::from_pem("no PEM at all").unwrap_err().to_string();
        assert!(error.contains("no certificate"), "{error}");

        let tls = TlsServer::from_pem(chain, private).unwrap();
        let unix = Address::abstract_name(format!("tls-{}", std::process::id()));
        let bound = Manager::builder().bind(&unix).auth_key(&key()).tls(tls.clone()).build();
        assert!(bound.unwrap_err().to_string().contains("TLS is for TCP"));
        let error = Manager::connect_tls(&unix, &key(), &authority.client()).unwrap_err();
        assert!(error.to_string().contains("TLS is for TCP"), "{error}");
        let nameless = authority.client().server_name("no name!");
        let error = Manager::connect_tls(port(), &key(), &nameless).unwrap_err().to_string();
        assert!(error.contains("`no name!`"), "{error}");
        assert!(!format!("{tls:?} {nameless:?}").contains("BEGIN"), "secrets aren't shown");
    });
}

#[track_caller]
fn assert_ends(mut socket: TcpStream) {
    let begin = Instant::now();
    let _ = socket.read_to_end(&mut Vec::new());
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

#[test]
fn strangers_stop_nobody() {
    alone(|| {
        let (authority, manager, remote) = pair();
        let address = manager.address().unwrap();
        let serves = || {
            let begin = Instant::now();
            let remote = Manager::connect_tls(&address, &key(), &authority.client()).unwrap();
            assert_eq!(remote.value(1).unwrap().get().unwrap(), 1);
            assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        };
        // Some say nothing,
        let silent: Vec<_> = (0..400).map(|_| raw(&manager)).collect();
        serves();
        // others something else,
        for garbage in
            [&b"GET / HTTP/1.1\r\n\r\n"[..], &[22; 100], &[22, 3, 1, 0xff, 0xff], &[0; 5]]
        {
            let mut stranger = raw(&manager);
            stranger.write_all(garbage).unwrap();
            assert_ends(stranger);
        }
        serves();
        // and one begins as it should, and sends a byte now and then: it is cut off as late as all others.
        let mut slow = raw(&manager);
        let begin = Instant::now();
        slow.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 0xfc]).unwrap();
        while slow.write_all(&[3]).is_ok() {
            assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
            thread::sleep(Duration::from_millis(50));
        }
        assert!(begin.elapsed() > Duration::from_secs(4), "{:?}", begin.elapsed());
        silent.into_iter().for_each(assert_ends);
        serves();
        drop(remote);
    });
}

#[test]
fn limits_are_kept() {
    alone(|| {
        let authority = Authority::new();
        let manager = builder(&authority)
            .max_connections(2)
            .max_message(100_000)
            .message_timeout(Duration::from_millis(300))
            .build()
            .unwrap();
        let address = manager.address().unwrap();
        let client = authority.client();
        let remote = Manager::connect_tls(&address, &key(), &client).unwrap();
        let list: List<Vec<u8>> = remote.list(vec![]).unwrap();
        assert!(matches!(list.push(vec![0; 100_001]), Err(ManagerError::Data(_))));
        list.push(vec![1; 99_000]).unwrap();
        list.push(vec![2; 99_000]).unwrap();
        assert!(matches!(list.to_vec(), Err(ManagerError::Data(_))));
        let event = remote.event().unwrap();
        let begun = remote.value(0).unwrap();
        thread::scope(|scope| {
            // It has one of the two connections.
            let waiting = scope.spawn(|| {
                begun.set(1).unwrap();
                event.wait().unwrap();
            });
            wait_until("it waits", || begun.get().unwrap() == 1);
            wait_until("there is no connection more", || {
                match Manager::connect_tls(&address, &key(), &client) {
                    Err(error) => {
                        assert!(error.to_string().contains("2 connections"), "{error}");
                        true
                    }
                    Ok(_) => false,
                }
            });
            event.set().unwrap();
            waiting.join().unwrap();
        });
        drop((list, event, begun, remote));
    });
}

/// What a round trip takes, next to one without TLS. Not a test: `cargo test --release -p procession-tests
/// --features tls --test manager_tls -- --ignored --nocapture`.
#[test]
#[ignore = "it measures"]
fn round_trips() {
    const COUNT: u32 = 200;
    const ROUNDS: usize = 200;
    alone(|| {
        let (_authority, _manager, with) = pair();
        let plain = Manager::builder().bind(port()).auth_key(&key()).build().unwrap();
        let without = Manager::connect(plain.address().unwrap(), &key()).unwrap();
        let dicts = [&with, &without].map(|remote| remote.dict::<u64, u64>().unwrap());
        let mut times = [const { Vec::new() }; 2];
        for _ in 0..ROUNDS {
            for (dict, times) in dicts.iter().zip(&mut times) {
                let begin = Instant::now();
                for _ in 0..COUNT {
                    dict.get(&1).unwrap();
                }
                times.push(begin.elapsed() / COUNT);
            }
        }
        let [with, without] = times.map(|mut times| {
            times.sort_unstable();
            (times[0], times[ROUNDS / 2])
        });
        println!("least and median of a call with TLS {with:?}, without {without:?}");
    });
}

//! A service that several programs use at once: managed objects behind a TCP port.
//!
//! Started without arguments it serves, and starts two clients: this program again, as anybody on another
//! machine would start it, with the address and a name. In earnest they are programs of their own; what
//! they have in common is the type under `#[managed]`, in a library.
//!
//! ```text
//! the service listens at 127.0.0.1:…
//! Ann has counted 1000 words
//! Bob has counted 1000 words
//! together they have counted 2000 words, by Ann and Bob
//! a client with a wrong key is turned away
//! ```

use std::env;
use std::process::Command;

use procession::{Address, AuthKey, Dict, Manager, managed};

/// In earnest it is 32 random bytes from a file that only its owner can read.
const KEY: &str = "known to the service and its clients";

/// Counts for many.
struct Counter {
    count: u64,
}

#[managed(name = "Counter")]
impl Counter {
    pub fn new() -> Self {
        Self { count: 0 }
    }

    pub fn add(&mut self, more: u64) -> u64 {
        self.count += more;
        self.count
    }
}

type Anyhow = Box<dyn std::error::Error>;

/// Finds the service's objects by their names, and counts.
fn client(address: Address, name: &str) -> Result<(), Anyhow> {
    let service = Manager::connect(address, &AuthKey::new(KEY))?;
    let counter: CounterProxy = service.named("words")?;
    let clients: Dict<String, u64> = service.named("clients")?;
    for _ in 0..10 {
        counter.add(100)?;
    }
    clients.insert(name.to_owned(), 1000)?;
    println!("{name} has counted 1000 words");
    Ok(())
}

fn serve() -> Result<(), Anyhow> {
    let manager = Manager::builder()
        .bind(Address::tcp("127.0.0.1", 0))
        .auth_key(&AuthKey::new(KEY))
        .build()?;
    let counter = CounterProxy::new(&manager)?;
    let clients = manager.dict::<String, u64>()?;
    manager.name("words", &counter)?;
    manager.name("clients", &clients)?;
    let address = manager.address().ok_or("it listens")?;
    println!("the service listens at {address}");

    for name in ["Ann", "Bob"] {
        let status =
            Command::new(env::current_exe()?).args([&address.to_string(), name]).status()?;
        assert!(status.success(), "{name} has ended with {status}");
    }
    let mut names = clients.keys()?;
    names.sort();
    println!("together they have counted {} words, by {}", counter.add(0)?, names.join(" and "));

    match Manager::connect(address, &AuthKey::new("a guess")) {
        Err(error) if error.is_authentication() => {
            println!("a client with a wrong key is turned away");
        }
        other => println!("a client with a wrong key: {other:?}"),
    }
    Ok(())
}

#[procession::main]
fn main() -> Result<(), Anyhow> {
    let args: Vec<String> = env::args().skip(1).collect();
    match &args[..] {
        [] => serve(),
        [address, name] => client(address.parse()?, name),
        _ => Err("usage: counter_service [address name]".into()),
    }
}

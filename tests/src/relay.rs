//! What stands between a client and a server, and can cut what goes through it.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, thread};

use procession::Address;

/// See the file's head.
#[derive(Debug)]
pub struct Relay {
    address: Address,
    sockets: Arc<Sockets>,
    is_over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default, Debug)]
struct Sockets(Mutex<Vec<TcpStream>>);

impl Sockets {
    fn all(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Relay {
    /// Leads to a TCP server of this machine.
    ///
    /// # Panics
    /// The system has no port for it.
    pub fn to(server: &Address) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a port");
        let address = Address::from(listener.local_addr().expect("it is bound"));
        let sockets = Arc::new(Sockets::default());
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = {
            let (sockets, is_over) = (Arc::clone(&sockets), Arc::clone(&is_over));
            let server = server.to_string();
            thread::spawn(move || {
                let mut pumps = Vec::new();
                for client in listener.incoming() {
                    if is_over.load(Relaxed) {
                        break;
                    }
                    let both = client.and_then(|client| Ok([client, TcpStream::connect(&server)?]));
                    let Ok(both) = both else { continue };
                    for socket in both.iter().map(TcpStream::try_clone) {
                        sockets.all().push(socket.expect("there are descriptors"));
                    }
                    let [client, server] = both;
                    for (from, to) in [(&client, &server), (&server, &client)] {
                        let pipe = from.try_clone().and_then(|from| Ok((from, to.try_clone()?)));
                        let (mut from, mut to) = pipe.expect("there are descriptors");
                        pumps.push(thread::spawn(move || {
                            let _ = io::copy(&mut from, &mut to);
                            let _ = to.shutdown(Shutdown::Both);
                        }));
                    }
                }
                pumps.into_iter().for_each(|pump| pump.join().expect("it doesn't panic"));
            })
        };
        Self { address, sockets, is_over, thread: Some(thread) }
    }

    /// Where clients connect to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Ends all connections that there are.
    pub fn cut(&self) {
        for socket in self.sockets.all().drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        self.cut();
        drop(TcpStream::connect(self.address.to_string()));
        self.cut();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

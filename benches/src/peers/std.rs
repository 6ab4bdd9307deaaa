//! The standard library, between threads: its pipe, its channel, its mutex.
//!
//! Its threads share memory, and only the pipe and sockets go through the kernel, as they would between
//! processes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, mpsc};
use std::thread;

use super::{Peer, Setup};
use crate::managed::{Managed, RECEIVED, SENT, Through};
use crate::measure::{each, p50};
use crate::work::{Speed, Work};

/// The head of the column.
pub const NAME: &str = "std, threads";

/// Threads, which are started for each round.
#[derive(Debug)]
pub struct Std {
    threads: usize,
    speed: Speed,
}

impl Std {
    /// Nothing is started yet.
    pub fn new(setup: &Setup) -> Self {
        Self { threads: setup.processes, speed: setup.speed(Speed::Fast) }
    }
}

impl Peer for Std {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        let count = work.count(self.speed);
        Some(match work {
            Work::ApplyAsync => calls(count, self.threads),
            Work::Queue => channel(count),
            Work::Pipe => round_trip(count),
            Work::Managed(Managed::Afar(through)) => exchange(through, count),
            Work::Lock => {
                let lock = Mutex::new(0_u64);
                each(count, || (0..count).for_each(|_| add(&lock)))
            }
            Work::LockContended => {
                let lock = Mutex::new(0_u64);
                let half = || (0..count / 2).for_each(|_| add(&lock));
                let nanos = each(count, || {
                    thread::scope(|scope| {
                        scope.spawn(half);
                        half();
                    });
                });
                assert_eq!(*lock.lock().expect("nobody has panicked"), (count / 2 * 2) as u64);
                nanos
            }
            _ => return None,
        })
    }
}

fn add(lock: &Mutex<u64>) {
    *std::hint::black_box(lock).lock().expect("nobody has panicked") += 1;
}

/// Values are moved, not encoded.
fn channel(count: usize) -> f64 {
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let consumer = scope.spawn(move || receiver.iter().count());
        each(count, || {
            for message in 0..count as u64 {
                sender.send(message).expect("the consumer is there");
            }
            drop(sender);
            assert_eq!(consumer.join().expect("a count"), count);
        })
    })
}

/// A channel has one receiver, so each thread has a channel; the tasks go to them by turns.
fn calls(count: usize, threads: usize) -> f64 {
    let (done, results) = mpsc::channel();
    thread::scope(|scope| {
        let start = |_| {
            let ((sender, todo), done) = (mpsc::channel::<u64>(), done.clone());
            scope.spawn(move || {
                for argument in todo {
                    done.send(argument.wrapping_add(1)).expect("somebody waits for it");
                }
            });
            sender
        };
        let channels: Vec<_> = (0..threads).map(start).collect();
        each(count, || {
            for (task, channel) in (0..count as u64).zip(channels.iter().cycle()) {
                channel.send(task).expect("the thread is there");
            }
            let sum = results.iter().take(count).sum::<u64>();
            drop(channels);
            sum
        })
    })
}

/// Eight bytes through one kernel pipe, and eight back through another.
fn round_trip(count: usize) -> f64 {
    let (mut their_input, mut our_output) = std::io::pipe().expect("a pipe");
    let (mut our_input, mut their_output) = std::io::pipe().expect("a pipe");
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut number = [0; 8];
            while their_input.read_exact(&mut number).is_ok() {
                their_output.write_all(&number).expect("the other end waits");
            }
        });
        let mut number = [1; 8];
        let nanos = p50(count, || {
            our_output.write_all(&number).expect("the thread is there");
            our_input.read_exact(&mut number).expect("it answers");
        });
        drop(our_output);
        nanos
    })
}

/// As many bytes through a socket and back as a call of a manager's object has.
fn exchange(through: Through, count: usize) -> f64 {
    match through {
        Through::Tcp => {
            let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
            let address = listener.local_addr().expect("it has one");
            let (ours, theirs) = (
                TcpStream::connect(address).expect("the port"),
                listener.accept().expect("ours").0,
            );
            for socket in [&ours, &theirs] {
                socket.set_nodelay(true).expect("it is connected");
            }
            exchanges(ours, theirs, count)
        }
        Through::Unix => {
            let (ours, theirs) = UnixStream::pair().expect("sockets");
            exchanges(ours, theirs, count)
        }
    }
}

fn exchanges<S: Read + Write + Send>(mut ours: S, mut theirs: S, count: usize) -> f64 {
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut request = [0; SENT];
            while theirs.read_exact(&mut request).is_ok() {
                theirs.write_all(&request[..RECEIVED]).expect("the other end waits");
            }
        });
        let nanos = p50(count, || {
            ours.write_all(&[1; SENT]).expect("the thread is there");
            ours.read_exact(&mut [0; RECEIVED]).expect("it answers");
        });
        drop(ours);
        nanos
    })
}

//! The crate ipc-channel: channels over Unix sockets, between processes that procspawn starts.

use ipc_channel::ipc::{IpcReceiver, IpcSender, channel};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Peer, Setup};
use crate::measure::{each, p50};
use crate::work::{BLOCK, Speed, Work};

/// The head of the column.
pub const NAME: &str = "ipc-channel";

/// Channels to a process that is started for each round.
#[derive(Debug)]
pub struct IpcChannel {
    speed: Speed,
}

impl IpcChannel {
    /// Nothing is started yet.
    pub fn new(setup: &Setup) -> Self {
        Self { speed: setup.speed(Speed::Slow) }
    }
}

impl Peer for IpcChannel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        let count = work.count(self.speed);
        Some(match work {
            Work::Queue => one_to_one((0..count as u64).collect(), take::<u64>),
            Work::QueueBlocks => one_to_one(vec![vec![1_u8; BLOCK]; count], take::<Vec<u8>>),
            Work::Pipe => round_trip(count),
            _ => return None,
        })
    }
}

/// Its process takes all that comes, and says when it is there and how many came.
type Consumer<T> = fn((IpcReceiver<T>, IpcSender<usize>));

fn take<T: Serialize + DeserializeOwned>((all, reports): (IpcReceiver<T>, IpcSender<usize>)) {
    reports.send(0).expect("a report");
    let mut taken = 0;
    while all.recv().is_ok() {
        taken += 1;
    }
    reports.send(taken).expect("a report");
}

fn one_to_one<T>(all: Vec<T>, consumer: Consumer<T>) -> f64
where
    T: Serialize + DeserializeOwned + 'static,
{
    let (sender, theirs) = channel().expect("a channel");
    let (their_reports, reports) = channel().expect("a channel");
    let consumer = procspawn::spawn((theirs, their_reports), consumer);
    reports.recv().expect("it is there");
    let count = all.len();
    let nanos = each(count, || {
        for message in all {
            sender.send(message).expect("the process is there");
        }
        drop(sender);
        assert_eq!(reports.recv().expect("a report"), count);
    });
    consumer.join().expect("its end");
    nanos
}

fn echo((numbers, answers): (IpcReceiver<u64>, IpcSender<u64>)) {
    while let Ok(number) = numbers.recv() {
        answers.send(number).expect("the other end waits");
    }
}

fn round_trip(count: usize) -> f64 {
    let (sender, theirs) = channel().expect("a channel");
    let (their_answers, answers) = channel().expect("a channel");
    let process = procspawn::spawn((theirs, their_answers), echo);
    let nanos = p50(count, || {
        sender.send(1).expect("the process is there");
        answers.recv().expect("it answers");
    });
    drop(sender);
    process.join().expect("its end");
    nanos
}

//! procession itself with its pool's other transport, through sockets, in a copy of this program.
//!
//! The transport is chosen by the environment when the first pool is built, so it takes a process of its
//! own. What is compared is calls and maps; nothing else goes through the transport.

use std::io::{self, BufRead, Write};
use std::process::Command;

use super::conversation::Conversation;
use super::procession::Calls;
use super::{Peer, Setup};
use crate::work::{Section, Speed, Work};

/// The head of the column.
pub const NAME: &str = "by sockets";

/// The argument by which the child knows what it is.
pub(super) const SERVE: &str = "--by-sockets";

/// The variable that chooses the transport, and its value for sockets.
const TRANSPORT: (&str, &str) = ("PROCESSION_TRANSPORT", "socket");

/// A copy of this program and the conversation with it.
#[derive(Debug)]
pub struct Sockets {
    conversation: Conversation,
    speed: Speed,
}

impl Sockets {
    /// Starts the copy, with a pool of as many workers.
    ///
    /// # Panics
    /// It can't be started.
    pub fn new(setup: &Setup) -> Self {
        let mut command = Command::new("/proc/self/exe");
        command.arg(SERVE).arg(setup.processes.to_string()).env(TRANSPORT.0, TRANSPORT.1);
        let conversation = Conversation::start(&mut command).expect("a copy of this program");
        Self { conversation, speed: setup.speed(Speed::Fast) }
    }
}

impl Peer for Sockets {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        if !matches!(work.section(), Section::Calls | Section::Maps | Section::Bulk) {
            return None;
        }
        let answer = self.conversation.ask(work.word(), work.count(self.speed), "");
        answer.expect("an answer").map(|answer| answer.nanos)
    }
}

/// What the copy does until its input ends.
pub(super) fn serve() {
    let processes = std::env::args().nth(2).and_then(|text| text.parse().ok());
    let mut calls = Calls::new(processes.expect("a number of workers"));
    for line in io::stdin().lock().lines() {
        let line = line.expect("a question");
        let mut words = line.split(' ');
        let word = words.next().expect("a line has a first word");
        let count = words.next().and_then(|count| count.parse().ok()).expect("a count");
        let work = Work::all().into_iter().find(|work| work.word() == word).expect("a work");
        match calls.run(work, count) {
            Some(nanos) => println!("{nanos}"),
            None => println!("-"),
        }
        io::stdout().flush().expect("somebody waits for it");
    }
}

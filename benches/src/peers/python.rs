//! Python's multiprocessing, run by the machine's `python3`.
//!
//! One interpreter lives as long as the comparison and holds a warm pool. It reads a line for each round
//! (the work and the count) and answers with the nanoseconds for one each, which it has timed itself, so
//! that this conversation isn't measured.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;

use super::Peer;
use crate::work::{Speed, Work};

/// The head of the column of its pool, and of processes that it forks.
pub const NAME: &str = "Python";

/// The head of the column of processes that it spawns, as procession does.
pub const NAME_SPAWN: &str = "Python spawn";

/// The head of the column of its `SimpleQueue`, which has no bound, no time-out and no thread.
pub const NAME_SIMPLE: &str = "SimpleQueue";

/// The script, which need not be there any more when the benchmark runs.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/multiprocessing_peer.py");

/// One of its columns.
#[derive(Debug)]
pub struct Python {
    name: &'static str,
    interpreter: Rc<RefCell<Interpreter>>,
    measured: bool,
}

/// Its columns, which share one interpreter.
///
/// # Errors
/// There is no `python3`, or it can't run the script.
pub fn columns(processes: usize, measured: bool) -> io::Result<[Python; 3]> {
    let interpreter = Rc::new(RefCell::new(Interpreter::start(processes)?));
    let peer = |name| Python { name, interpreter: Rc::clone(&interpreter), measured };
    Ok([peer(NAME), peer(NAME_SPAWN), peer(NAME_SIMPLE)])
}

impl Peer for Python {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        let word = word(self.name, work)?;
        let speed = match work {
            _ if !self.measured => Speed::Tried,
            Work::Map => Speed::Fast,
            Work::StartAndJoin if self.name == NAME => Speed::Fast,
            _ => Speed::Slow,
        };
        let answer = self.interpreter.borrow_mut().ask(word, work.count(speed));
        Some(answer.expect("Python's answer"))
    }
}

/// What the script calls it; none for what this column doesn't have.
fn word(column: &str, work: Work) -> Option<&'static str> {
    Some(match (column, work) {
        (NAME_SPAWN, Work::StartAndJoin) => "start_spawn",
        (NAME_SIMPLE, Work::Queue) => "simple_queue",
        (NAME_SIMPLE, Work::QueueBlocks) => "simple_queue_blocks",
        (NAME, Work::StartAndJoin) => "start_fork",
        (NAME, Work::Apply) => "apply",
        (NAME, Work::Map) => "map",
        (NAME, Work::MapOneByOne) => "map_one_by_one",
        (NAME, Work::ApplyAsync) => "apply_async",
        (NAME, Work::Blocks) => "blocks",
        (NAME, Work::Queue) => "queue",
        (NAME, Work::QueueBlocks) => "queue_blocks",
        (NAME, Work::QueueCrowd) => "queue_crowd",
        (NAME, Work::Pipe) => "pipe",
        (NAME, Work::Lock) => "lock",
        (NAME, Work::LockContended) => "lock_contended",
        (NAME, Work::Value) => "value",
        (NAME, Work::Share) => "share",
        _ => return None,
    })
}

#[derive(Debug)]
struct Interpreter {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Interpreter {
    fn start(processes: usize) -> io::Result<Self> {
        let mut child = Command::new("python3")
            .arg(SCRIPT)
            .arg(processes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut interpreter = Self { child, questions, answers };
        interpreter.ask("apply", 10)?;
        Ok(interpreter)
    }

    fn ask(&mut self, work: &str, count: usize) -> io::Result<f64> {
        let questions = self.questions.as_mut().expect("it is open until the drop");
        writeln!(questions, "{work} {count}")?;
        questions.flush()?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        line.trim().parse().map_err(|_| io::Error::other(format!("it says {line:?}")))
    }
}

/// The end of its input ends the script.
impl Drop for Interpreter {
    fn drop(&mut self) {
        self.questions = None;
        let _ = self.child.wait();
    }
}

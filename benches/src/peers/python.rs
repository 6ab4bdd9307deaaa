//! Python's multiprocessing, its concurrent.futures, and the packages mpire and loky, as far as the
//! machine's `python3` has them.
//!
//! One interpreter for each lives as long as the comparison and holds a warm pool.

use std::cell::RefCell;
use std::io;
use std::process::{Command, Stdio};
use std::rc::Rc;

use super::conversation::Conversation;
use super::{Peer, Setup};
use crate::managed::Managed;
use crate::memory::private_bytes;
use crate::schedule::lengths;
use crate::work::{Section, Speed, Work};

/// The head of the column of `multiprocessing.Pool`, and of processes that it forks.
pub const NAME: &str = "Python";

/// The head of the column of processes that it spawns, as procession does.
pub const NAME_SPAWN: &str = "Python spawn";

/// The head of the column of its `SimpleQueue`, which has no bound, no time-out and no thread.
pub const NAME_SIMPLE: &str = "SimpleQueue";

/// The head of the column of `concurrent.futures.ProcessPoolExecutor`.
pub const NAME_FUTURES: &str = "futures";

/// The head of the column of the package mpire.
pub const NAME_MPIRE: &str = "mpire";

/// The head of the column of the package loky.
pub const NAME_LOKY: &str = "loky";

/// The scripts, which need not be there any more when the benchmark runs.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers");

/// One of its columns.
#[derive(Debug)]
pub struct Python {
    name: &'static str,
    interpreter: Rc<RefCell<Conversation>>,
    setup: Setup,
}

/// The columns of what there is, and a note for each that isn't.
pub fn columns(setup: &Setup) -> (Vec<Python>, Vec<String>) {
    let peers = [
        ("multiprocessing", "multiprocessing_peer.py", &[NAME, NAME_SPAWN, NAME_SIMPLE][..]),
        ("concurrent.futures", "executor_peer.py", &[NAME_FUTURES]),
        ("mpire", "mpire_peer.py", &[NAME_MPIRE]),
        ("loky", "executor_peer.py", &[NAME_LOKY]),
    ];
    let (mut columns, mut notes) = (Vec::new(), Vec::new());
    for (module, script, names) in peers {
        match interpreter(module, script, setup.processes) {
            Ok(interpreter) => {
                let interpreter = Rc::new(RefCell::new(interpreter));
                columns.extend(names.iter().map(|name| {
                    let interpreter = Rc::clone(&interpreter);
                    Python { name, interpreter, setup: setup.clone() }
                }));
            }
            Err(error) => notes.push(format!("without Python's {module}: {error}")),
        }
    }
    (columns, notes)
}

fn interpreter(module: &str, script: &str, processes: usize) -> io::Result<Conversation> {
    let mut import = Command::new("python3");
    import.args(["-c", &format!("import {module}")]).stderr(Stdio::null());
    let status = import.status().map_err(|error| other("can't run python3", &error))?;
    if !status.success() {
        return Err(io::Error::other("it isn't installed"));
    }
    let mut command = Command::new("python3");
    command.arg("-B").arg(format!("{SCRIPTS}/{script}"));
    let mut interpreter = Conversation::start(command.arg(processes.to_string()).arg(module))?;
    interpreter.ask("apply", 10, "")?;
    Ok(interpreter)
}

fn other(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

impl Peer for Python {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        let word = self.word(work)?;
        let count = work.count(self.setup.speed(self.speed(work)));
        let argument = match work {
            Work::Program(program) => self.setup.inputs.argument(program),
            Work::Managed(managed) => managed.clients().to_string(),
            _ => match lengths(work, self.setup.processes, self.setup.measured) {
                Some(lengths) => lengths.iter().map(u64::to_string).collect::<Vec<_>>().join(","),
                None => String::new(),
            },
        };
        let answer = self.interpreter.borrow_mut().ask(word, count, &argument);
        let answer = answer.expect("Python's answer")?;
        if let Work::Program(program) = work {
            assert_eq!(answer.result, Some(self.setup.inputs.expected(program)), "{word}");
        }
        Some(match work {
            Work::Memory => private_bytes(answer.nanos as u32).expect("its worker is there"),
            _ => answer.nanos,
        })
    }
}

impl Python {
    /// What the script calls it; none for what this column doesn't have.
    fn word(&self, work: Work) -> Option<&'static str> {
        match (self.name, work) {
            (NAME_SPAWN, Work::StartAndJoin) => Some("start_spawn"),
            (NAME_SIMPLE, Work::Queue) => Some("simple_queue"),
            (NAME_SIMPLE, Work::QueueBlocks) => Some("simple_queue_blocks"),
            (NAME_SPAWN | NAME_SIMPLE, _) => None,
            // Its managers are always reached through sockets: those rows are the others.
            (_, Work::Managed(Managed::Afar(_))) => None,
            (NAME, _) => Some(work.word()),
            // An item a chunk is what they do by default: a hundred thousand tasks would take them minutes.
            (_, Work::Length(_)) => None,
            _ if matches!(work.section(), Section::Between | Section::Managers) => None,
            _ => Some(work.word()),
        }
    }

    fn speed(&self, work: Work) -> Speed {
        match (self.name, work) {
            (NAME, Work::Map | Work::MapThousand | Work::StartAndJoin) => Speed::Fast,
            (NAME | NAME_SPAWN | NAME_SIMPLE, _) => Speed::Slow,
            _ => Speed::VerySlow,
        }
    }
}

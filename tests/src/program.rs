//! Helper programs: started in a process group of their own, spoken with line by line.
//!
//! Most of them play one of the [`scenarios`](crate::scenarios), chosen by the first argument.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// A running helper program. Dropping it kills it and everything in its group.
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: Option<JoinHandle<String>>,
}

/// How a program ended and what it has said since it was last listened to.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// The rest of its output.
    pub stdout: String,
    /// All that went to its standard error.
    pub stderr: String,
}

impl Program {
    /// Starts a program with a pipe at each of its standard streams.
    pub fn start(path: impl AsRef<OsStr>, arguments: &[&str]) -> Self {
        let mut command = Command::new(path);
        command.args(arguments).stdin(Stdio::piped());
        Self::start_command(command)
    }

    /// Starts a program whose standard input is as the command has it.
    pub fn start_command(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().expect("it was asked for");
        let mut stderr = child.stderr.take().expect("it was asked for");
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).expect("messages are text");
            text
        });
        let stdin = child.stdin.take();
        Self { child, stdin, stdout: BufReader::new(stdout), stderr: Some(stderr) }
    }

    /// Its process id, which is its group's, too.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its next line.
    ///
    /// # Panics
    /// It has closed its output.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let count = self.stdout.read_line(&mut line).expect("its lines are text");
        assert!(count > 0, "the program has ended its output: {:?}", self.child.try_wait());
        line.trim_end().to_owned()
    }

    /// The number in its next line, which must be `word number`.
    #[track_caller]
    pub fn number(&mut self, word: &str) -> u32 {
        let line = self.line();
        let number = line.strip_prefix(word).and_then(|rest| rest.trim().parse().ok());
        number.unwrap_or_else(|| panic!("{line:?} instead of a number of {word}"))
    }

    /// Its standard input.
    pub fn stdin(&mut self) -> &mut ChildStdin {
        self.stdin.as_mut().expect("its input is a pipe that is still open")
    }

    /// Ends its standard input, and that of every child that has inherited it.
    pub fn close_stdin(&mut self) {
        self.stdin.take();
    }

    /// Whether it hasn't ended.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.as_nix(), signal).expect("it hasn't been waited for");
    }

    /// Sends a signal to its whole group, as a terminal does.
    pub fn signal_group(&self, signal: Signal) {
        killpg(self.as_nix(), signal).expect("it hasn't been waited for");
    }

    /// Waits for its end alone, not for that of its children.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it is our child")
    }

    /// Waits until it and everything else that holds its output has ended.
    pub fn finish(mut self) -> Ended {
        self.close_stdin();
        let mut stdout = String::new();
        self.stdout.read_to_string(&mut stdout).expect("its lines are text");
        let status = self.wait();
        let stderr = self.stderr.take().expect("only taken here").join().expect("it doesn't panic");
        Ended { status, stdout, stderr }
    }

    fn as_nix(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are small"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Whoever is left of the group; when nobody is, that is an error that doesn't matter.
        let _ = killpg(self.as_nix(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

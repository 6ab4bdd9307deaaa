//! A peer in a process of its own, which is asked line by line.
//!
//! A question is a word for the work, the count, and an argument; the answer is the nanoseconds for one
//! each, or `-` for what the peer doesn't do, and after it what a program's result came to. The peer
//! times the work itself, so that this conversation isn't measured.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The peer's process. The end of its input ends it.
#[derive(Debug)]
pub(super) struct Conversation {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// What it says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Answer {
    /// Nanoseconds for one each.
    pub(super) nanos: f64,
    /// What a program's result came to.
    pub(super) result: Option<u64>,
}

impl Conversation {
    /// Starts the process.
    ///
    /// # Errors
    /// It can't be started.
    pub(super) fn start(command: &mut Command) -> io::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let questions = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("it was asked for"));
        Ok(Self { child, questions, answers })
    }

    /// Asks for a work; none if the peer doesn't do it.
    ///
    /// # Errors
    /// The process has ended, or its answer is none.
    pub(super) fn ask(
        &mut self,
        word: &str,
        count: usize,
        argument: &str,
    ) -> io::Result<Option<Answer>> {
        let questions = self.questions.as_mut().expect("it is open until the drop");
        writeln!(questions, "{word} {count} {argument}")?;
        questions.flush()?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        parse(&line).ok_or_else(|| io::Error::other(format!("{word}: it says {line:?}")))
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.questions = None;
        let _ = self.child.wait();
    }
}

fn parse(line: &str) -> Option<Option<Answer>> {
    let mut words = line.split_whitespace();
    let nanos = words.next()?;
    if nanos == "-" {
        return Some(None);
    }
    let nanos = nanos.parse().ok()?;
    let result = words.next().map(str::parse).transpose().ok()?;
    Some(Some(Answer { nanos, result }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_numbers_or_a_dash() {
        assert_eq!(parse("-\n"), Some(None));
        assert_eq!(parse("12.5\n"), Some(Some(Answer { nanos: 12.5, result: None })));
        assert_eq!(parse("12.5 7\n"), Some(Some(Answer { nanos: 12.5, result: Some(7) })));
        assert_eq!(parse("Traceback\n"), None);
        assert_eq!(parse(""), None);
    }
}

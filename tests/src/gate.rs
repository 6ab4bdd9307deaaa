//! Processes that run until a test lets them end.

use std::io::{PipeWriter, Read, pipe, stdin};

use procession::{Process, ProcessBuilder, task};

/// Starts a process whose standard input is a pipe, and gives the other end, the gate.
pub fn gated<R>(builder: ProcessBuilder<R>) -> (Process<R>, PipeWriter) {
    let (reader, writer) = pipe().expect("there are descriptors");
    (builder.stdin(reader).start().expect("it can start"), writer)
}

/// Runs until its gate is dropped.
#[task]
pub fn until_the_gate_opens(result: u32) -> u32 {
    stdin().read_to_end(&mut Vec::new()).expect("it is a pipe");
    result
}

//! Tasks that crash, hang, exit or panic cost only themselves: the batch finishes.
//!
//! ```text
//! length of "procession"    10
//! length of ""              killed by signal 11
//! wait for ever             stopped at its limit of 500 ms
//! exit with code 3          exited with code 3
//! divide by zero            panicked: attempt to divide by zero
//! length of "still here"    10
//! ```

use std::{ffi::CString, fmt, os::unix::process::ExitStatusExt as _, time::Duration};

use procession::{Error, Pool, task};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
enum Job {
    /// Calls a C library that dereferences null if the text is empty.
    Length(String),
    Wait,
    Exit(i32),
    Divide(i32),
}

#[expect(unsafe_code, reason = "the parser is a C library")]
mod native {
    use std::ffi::{CStr, c_char, c_int};

    unsafe extern "C" {
        fn parser_length(text: *const c_char) -> c_int;
    }

    /// The length of `text`. An empty text crashes the process: that is the library's bug.
    pub(crate) fn length(text: &CStr) -> i32 {
        // SAFETY: `text` ends with a nul byte, which is all that the library asks for. It breaks
        // its promise for an empty text by reading from null, a page that is never mapped, so the
        // process ends there, which is what this example is about.
        unsafe { parser_length(text.as_ptr()) }
    }
}

#[task]
fn run(job: Job) -> i32 {
    match job {
        Job::Length(text) => native::length(&CString::new(text).expect("no nul byte is inside")),
        Job::Wait => loop {
            std::thread::park();
        },
        Job::Exit(code) => std::process::exit(code),
        Job::Divide(by) => 1 / by,
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Job::Length(text) => f.pad(&format!("length of {text:?}")),
            Job::Wait => f.pad("wait for ever"),
            Job::Exit(code) => f.pad(&format!("exit with code {code}")),
            Job::Divide(_) => f.pad("divide by zero"),
        }
    }
}

const LIMIT: Duration = Duration::from_millis(500);

fn describe(error: &Error) -> String {
    if error.is_timeout() {
        return format!("stopped at its limit of {} ms", LIMIT.as_millis());
    }
    if let Some(panic) = error.panic() {
        return format!("panicked: {}", panic.message());
    }
    let status = error.exit_status();
    if let Some(signal) = status.and_then(|status| status.signal()) {
        return format!("killed by signal {signal}");
    }
    match status.and_then(|status| status.code()) {
        Some(code) => format!("exited with code {code}"),
        None => error.to_string(),
    }
}

#[procession::main]
fn main() -> Result<(), Error> {
    let jobs = [
        Job::Length("procession".into()),
        Job::Length(String::new()),
        Job::Wait,
        Job::Exit(3),
        Job::Divide(0),
        Job::Length("still here".into()),
    ];
    let pool = Pool::builder().processes(2).build()?;
    let outcomes = pool.call(run).timeout(LIMIT).try_map(jobs.clone());
    for (job, outcome) in jobs.iter().zip(outcomes) {
        match outcome {
            Ok(value) => println!("{job:<25} {value}"),
            Err(error) => println!("{job:<25} {}", describe(&error)),
        }
    }
    Ok(())
}

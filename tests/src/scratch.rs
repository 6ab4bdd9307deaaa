//! What processes of a test tell each other, and the test, through files: which items ran and where,
//! and gates that hold them up until the test opens them.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::wait_until;

/// A directory that is removed when the test ends.
#[derive(Debug)]
pub struct Scratch(String);

impl Scratch {
    /// A new, empty one.
    #[expect(clippy::new_without_default, reason = "it makes a directory")]
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("procession-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("the directory for temporary files can be written to");
        Self(path.to_str().expect("its name is made of letters").to_owned())
    }

    /// The path of a file in it, as tasks take it.
    pub fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Adds a line to a file, which any number of processes may do at once.
///
/// # Panics
/// The file can't be written to.
pub fn note(path: &str, line: impl std::fmt::Display) {
    let mut file =
        OpenOptions::new().append(true).create(true).open(path).expect("notes can be taken");
    file.write_all(format!("{line}\n").as_bytes()).expect("a note can be written");
}

/// The lines that were added so far; none if there is no such file.
pub fn notes(path: &str) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Lets pass who waits at a gate, now and later.
///
/// # Panics
/// The file can't be made.
pub fn open(gate: &str) {
    fs::write(gate, "").expect("a gate can be opened");
}

/// Waits until a gate is open.
pub fn pass(gate: &str) {
    wait_until("the gate opens", || Path::new(gate).exists());
}

//! Tasks by name: the list of them, and the look-up that `apply_named` does.

use std::fmt;

use crate::worker::dispatch::{Callee, Entry, PROCESSION_0_1_TASKS};

/// A function under `#[task]`: see [`tasks`].
#[derive(Clone, Copy)]
pub struct TaskInfo {
    entry: &'static Entry,
}

impl TaskInfo {
    /// The name under which it can be called: `module::path::function`, or what
    /// `#[task(name = "…")]` says. It need not be the only task of that name.
    pub fn name(&self) -> &'static str {
        self.entry.name
    }

    /// The signature as it was written, such as `fn(u64, String) -> Vec<u8>`.
    pub fn signature(&self) -> &'static str {
        self.entry.signature
    }

    /// The source file, as in [`std::file!`].
    pub fn file(&self) -> &'static str {
        self.entry.file
    }

    /// The line of the function's name in its file, from 1.
    pub fn line(&self) -> u32 {
        self.entry.line
    }

    /// The column of the function's name in its line, from 1.
    pub fn column(&self) -> u32 {
        self.entry.column
    }
}

impl fmt::Debug for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskInfo")
            .field("name", &self.name())
            .field("signature", &self.signature())
            .field("file", &self.file())
            .field("line", &self.line())
            .finish()
    }
}

/// All functions under `#[task]` in this program, those of its dependencies too, by name.
///
/// A dependency that the program never mentions is not linked, and its tasks are not here: write
/// `use that_crate as _;` to have them.
///
/// # Examples
/// ```
/// #[procession::task]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// let tasks = procession::tasks();
/// let square = tasks.iter().find(|task| task.name().ends_with("::square")).unwrap();
/// assert_eq!(square.signature(), "fn(u64) -> u64");
/// ```
pub fn tasks() -> Vec<TaskInfo> {
    let mut tasks: Vec<_> = PROCESSION_0_1_TASKS.iter().map(|entry| TaskInfo { entry }).collect();
    tasks.sort_by_key(|task| (task.name(), task.file(), task.line(), task.column()));
    tasks
}

/// A task that was asked for by name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) callee: Callee,
    pub(crate) entry: &'static Entry,
}

/// Why a name stands for no task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NameError {
    /// No task has it.
    Unknown { name: String, nearest: Option<&'static str> },
    /// More than one task has it; their places, as `file:line:column`.
    Ambiguous { name: String, places: Vec<String> },
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Unknown { name, nearest } => {
                write!(f, "there is no task `{name}`")?;
                if let Some(nearest) = nearest {
                    write!(f, "; did you mean `{nearest}`?")?;
                }
                f.write_str(
                    " (a task of a dependency is only there if the program mentions that crate, \
                     by `use that_crate as _;` at least)",
                )
            }
            NameError::Ambiguous { name, places } => write!(
                f,
                "the task name `{name}` is ambiguous: {}; give each its own name with \
                 `#[task(name = \"…\")]`",
                places.join(" and ")
            ),
        }
    }
}

impl std::error::Error for NameError {}

/// Finds the one task of this name.
///
/// # Errors
/// When there is none, or more than one.
pub(crate) fn find(name: &str) -> Result<Found, NameError> {
    find_in(&PROCESSION_0_1_TASKS, name)
}

fn find_in(table: &'static [Entry], name: &str) -> Result<Found, NameError> {
    let mut matches = (0..).zip(table).filter(|(_, entry)| entry.name == name);
    let Some((index, entry)) = matches.next() else {
        let names = table.iter().map(|entry| entry.name);
        return Err(NameError::Unknown { name: name.to_owned(), nearest: nearest(names, name) });
    };
    let others: Vec<_> = matches.map(|(_, entry)| entry).collect();
    if others.is_empty() {
        return Ok(Found { callee: Callee::Entry(index), entry });
    }
    let all = std::iter::once(entry).chain(others);
    let mut places: Vec<_> =
        all.map(|entry| format!("{}:{}:{}", entry.file, entry.line, entry.column)).collect();
    places.sort();
    Err(NameError::Ambiguous { name: name.to_owned(), places })
}

/// The name that was probably meant: one that differs by its path only, or else the most similar
/// one, if it differs in at most a third of what was written (as rustc does for its own
/// suggestions).
fn nearest(
    names: impl Iterator<Item = &'static str> + Clone,
    wanted: &str,
) -> Option<&'static str> {
    let last = |name: &str| name.rsplit("::").next().unwrap_or_default().to_owned();
    let wanted_last = last(wanted);
    let by_path = names.clone().filter(|name| last(name) == wanted_last);
    let by_letters =
        names.filter(|name| distance(name, wanted) <= wanted.chars().count().max(3) / 3);
    let closest = |name: &&'static str| (distance(name, wanted), *name);
    by_path.min_by_key(closest).or_else(|| by_letters.min_by_key(closest))
}

/// Levenshtein's distance: how many letters to insert, remove or replace to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    // `row[j]` is the distance of the letters of `a` so far to the first `j` of `b`.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

//! What a fork server was started with, and what has changed since.
//!
//! A process that is made for somebody's `Process` is to find environment, directory and streams as they are
//! at its start; the server's may be older.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;

use crate::os::spawn::Source;
use crate::sched::start::Surroundings;
use crate::transport::hello::{self, Changes};

type Variables = Vec<(OsString, OsString)>;

pub(super) struct Before {
    /// In the order of the environment.
    env: Variables,
    /// Device and number.
    directory: Option<(u64, u64)>,
}

impl Before {
    /// What a server that is started now will have.
    pub(super) fn now() -> Self {
        Self { env: std::env::vars_os().collect(), directory: place_of_directory() }
    }

    /// The directory that a process is to be in, if it isn't the server's.
    pub(super) fn directory_for(&self, surroundings: &Surroundings) -> io::Result<Option<File>> {
        let open = |path: &Path| {
            OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path)
        };
        match &surroundings.directory {
            Some(directory) => open(directory).map(Some),
            None if place_of_directory() == self.directory => Ok(None),
            None => open(".".as_ref()).map(Some),
        }
    }

    /// What differs between the server and a process with these surroundings: `null` and `own` are streams
    /// that it may get.
    pub(super) fn changes<'a>(
        &self,
        surroundings: &'a Surroundings,
        directory: Option<&'a File>,
        null: Option<BorrowedFd<'a>>,
        own: [BorrowedFd<'a>; 3],
    ) -> io::Result<(Changes, Vec<BorrowedFd<'a>>)> {
        let holds_zero = |text: &OsString| text.as_bytes().contains(&0);
        if surroundings.env.iter().any(|(name, value)| holds_zero(name) || holds_zero(value)) {
            // The one who spawns says so.
            return Err(ErrorKind::InvalidInput.into());
        }
        let now: Variables =
            if surroundings.clear_env { Vec::new() } else { std::env::vars_os().collect() };
        // As nearly always.
        let is_same = surroundings.env.is_empty() && now == self.env;
        let env = if is_same { Vec::new() } else { self.difference(now, &surroundings.env) };

        let mut fds: Vec<_> = directory.map(AsFd::as_fd).into_iter().collect();
        let mut streams = [false; 3];
        for (number, (stream, own)) in surroundings.stdio.iter().zip(own).enumerate() {
            let fd = match (stream.source(), number) {
                // The server's is the same.
                (Source::Null, 0) => continue,
                (Source::Null, _) => null.ok_or(ErrorKind::InvalidInput)?,
                (Source::Fd(fd), _) => fd,
                (Source::Inherit, _) => own,
            };
            streams[number] = true;
            fds.push(fd);
        }
        Ok((Changes { env, directory: directory.is_some(), streams }, fds))
    }

    /// How to come from the server's environment to this one, with these variables in it.
    fn difference(&self, now: Variables, set: &Variables) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let before = to_map(self.env.iter().cloned());
        let wanted = to_map(now.into_iter().chain(set.iter().cloned()));
        let gone = before.keys().filter(|name| !wanted.contains_key(*name));
        let mut changes: Vec<_> = gone.map(|name| (name.clone().into_vec(), None)).collect();
        changes.extend(
            wanted
                .into_iter()
                .filter(|(name, value)| before.get(name) != Some(value))
                .map(|(name, value)| (name.into_vec(), Some(value.into_vec()))),
        );
        changes
    }
}

/// What comes later counts.
fn to_map(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> HashMap<OsString, OsString> {
    variables.into_iter().filter(|(name, _)| name != hello::VARIABLE).collect()
}

/// Which directory this process is in.
fn place_of_directory() -> Option<(u64, u64)> {
    fs::metadata(".").ok().map(|place| (place.dev(), place.ino()))
}

//! The file that a server's named objects are kept in.
//!
//! ```text
//! "procession snapshot\n" | version u32 | length u64 | SHA-256 of the content | content: the records, encoded
//! ```
//!
//! - The file is replaced as a whole: a new one is written beside it (`.new`), brought to the disk, and renamed.
//!   So there is always the old one or the new one, whatever ends the process or the machine.
//! - One process at a time has a snapshot: it holds a lock on a file beside it (`.lock`), which it removes at
//!   the end. What a killed one leaves of both is in nobody's way.
//! - A file that isn't whole, or isn't one of ours, is an error which names it, and stays as it is.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::os::lock::{self, Locked};
use crate::transport::codec;

const MAGIC: &[u8] = b"procession snapshot\n";

/// Of what follows the magic words, and of the records.
const VERSION: u32 = 1;

/// Magic words, version, length, checksum.
const HEAD: usize = MAGIC.len() + 4 + 8 + 32;

/// How long a new server waits for the one before it, which may be writing still: far longer than that takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks whether the one before has ended.
const LOOK: Duration = Duration::from_millis(5);

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) names: Vec<String>,
    /// The name of its class: the first that [`described`](super::class::described) gives.
    pub(crate) class: String,
    pub(crate) is_poisoned: bool,
    /// As its class [keeps](super::keeper::Kept) it.
    pub(crate) value: Vec<u8>,
}

/// See the file's head.
pub(crate) struct Snapshot {
    path: PathBuf,
    _lock: Lock,
}

struct Lock {
    path: PathBuf,
    _file: Locked,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // It is held still, so this is the file that was locked.
        let _ = fs::remove_file(&self.path);
    }
}

impl Snapshot {
    /// Takes the snapshot at this path, for this process alone, and reads it. There need be none yet.
    ///
    /// # Errors
    /// It can't be read, or written beside; another process has it; it isn't a whole snapshot.
    pub(crate) fn open(path: PathBuf) -> io::Result<(Self, Vec<Record>)> {
        let opened = resolved(&path).and_then(|path| {
            let lock = lock(beside(&path, ".lock"))?;
            let snapshot = Self { path, _lock: lock };
            let records = snapshot.records()?;
            Ok((snapshot, records))
        });
        opened.map_err(|error| about(&path, "open", &error))
    }

    /// What is in it.
    ///
    /// # Errors
    /// It can't be read, or isn't a whole one.
    pub(crate) fn read(&self) -> io::Result<Vec<Record>> {
        self.records().map_err(|error| about(&self.path, "read", &error))
    }

    fn records(&self) -> io::Result<Vec<Record>> {
        match fs::read(&self.path) {
            Ok(bytes) => parse(&bytes).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Puts other records in the place of what is there.
    ///
    /// # Errors
    /// The system can't; then what was there still is, unless it is the folder alone that couldn't be brought to
    /// the disk.
    pub(crate) fn write(&self, records: &[Record]) -> io::Result<()> {
        let new = beside(&self.path, ".new");
        let written = formed(records).and_then(|bytes| replace(&self.path, &new, &bytes));
        written.map_err(|error| {
            // What is left of it takes room, which may be what there is too little of.
            let _ = fs::remove_file(&new);
            about(&self.path, "write", &error)
        })
    }
}

fn about(path: &Path, what: &str, error: &io::Error) -> io::Error {
    let text = format!("can't {what} the snapshot {}: {error}", path.display());
    io::Error::new(error.kind(), text)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

fn lock(path: PathBuf) -> io::Result<Lock> {
    let end = Instant::now() + PATIENCE;
    loop {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        let inode = file.metadata()?.ino();
        if let Some(file) = lock::try_lock(file)? {
            // Whoever had it before may have removed it since it was opened.
            if fs::metadata(&path).is_ok_and(|there| there.ino() == inode) {
                return Ok(Lock { path, _file: file });
            }
        } else if Instant::now() >= end {
            return Err(io::Error::other("another manager has it"));
        }
        thread::sleep(LOOK);
    }
}

/// Where the file is that the path leads to, so that all paths to it are one.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    if fs::symlink_metadata(path).is_ok() {
        return fs::canonicalize(path);
    }
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    Ok(fs::canonicalize(folder_of(path))?.join(name))
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn replace(path: &Path, new: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = File::open(folder_of(path))?;
    // One that was left there may be anybody's.
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(new, path)?;
    folder.sync_all()
}

/// Records as a file has them.
fn formed(records: &[Record]) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEAD];
    codec::encode(records, &mut bytes).map_err(io::Error::other)?;
    let (head, content) = bytes.split_at_mut(HEAD);
    let parts: [&[u8]; 4] = [
        MAGIC,
        &VERSION.to_le_bytes(),
        &(content.len() as u64).to_le_bytes(),
        &Sha256::digest(&*content),
    ];
    head.copy_from_slice(&parts.concat());
    Ok(bytes)
}

/// The records in a file's bytes.
///
/// # Errors
/// What is wrong with it, for people.
fn parse(bytes: &[u8]) -> Result<Vec<Record>, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| {
        match MAGIC.starts_with(bytes) {
            true => "it is cut off",
            false => "it is no snapshot of a manager",
        }
        .to_owned()
    })?;
    let cut = || "it is cut off".to_owned();
    let (version, rest) = rest.split_first_chunk().ok_or_else(cut)?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(format!(
            "it is of version {version}, and this program knows version {VERSION} alone"
        ));
    }
    let (length, rest) = rest.split_first_chunk().ok_or_else(cut)?;
    let (sum, content) = rest.split_first_chunk::<32>().ok_or_else(cut)?;
    let length = u64::from_le_bytes(*length);
    if (content.len() as u64) < length {
        return Err(cut());
    }
    let damaged = || "it is damaged".to_owned();
    if content.len() as u64 > length || Sha256::digest(content)[..] != sum[..] {
        return Err(damaged());
    }
    codec::decode(content).map_err(|_| damaged())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let record = |name: &str, is_poisoned| Record {
            names: vec![name.to_owned(), format!("{name} too")],
            class: "Counter".to_owned(),
            is_poisoned,
            value: vec![7; 1000],
        };
        vec![record("one", false), record("two", true)]
    }

    #[test]
    fn a_file_of_records_gives_them_back() {
        assert_eq!(parse(&formed(&records()).unwrap()).unwrap(), records());
        assert_eq!(parse(&formed(&[]).unwrap()).unwrap(), []);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused() {
        let bytes = formed(&records()).unwrap();
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]).unwrap_err(), "it is cut off", "{length}");
        }
    }

    #[test]
    fn a_file_with_any_other_bit_is_refused() {
        let bytes = formed(&records()).unwrap();
        for bit in 0..8 * bytes.len() {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bytes).is_err(), "{bit}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(parse(&longer).unwrap_err(), "it is damaged");
    }

    #[test]
    fn what_another_version_has_written_is_told() {
        let mut bytes = formed(&records()).unwrap();
        bytes[MAGIC.len()] = 2;
        assert!(parse(&bytes).unwrap_err().contains("version 2"));
        assert!(parse(b"#!/bin/sh").unwrap_err().contains("no snapshot"));
    }

    #[test]
    fn one_has_a_snapshot_at_a_time_and_leaves_no_other_file() {
        let folder = std::env::temp_dir().join(format!("procession-lock-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("snapshot");
        let (snapshot, found) = Snapshot::open(path.clone()).unwrap();
        assert_eq!(found, []);
        let other = {
            let path = path.clone();
            thread::spawn(move || Snapshot::open(path).map(|(_, records)| records))
        };
        snapshot.write(&records()).unwrap();
        drop(snapshot);
        // It has waited, or has come later: in either case it finds what was written.
        assert_eq!(other.join().unwrap().unwrap(), records());
        let left = fs::read_dir(&folder).unwrap().count();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(left, 1);
    }
}

//! Which executable a worker is started from.
//!
//! `/proc/self/exe` names the very file that this process runs, also when its path has been deleted
//! or replaced meanwhile, so workers always run the same build.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The last one counts. The earlier ones stay open: a start may be under way from them.
static OVERRIDES: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Starts later workers from `path`. The file is opened now, so that they all run the same build.
pub(crate) fn set(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    OVERRIDES.lock().unwrap_or_else(PoisonError::into_inner).push(file);
    Ok(())
}

/// The path to give to the kernel.
pub(crate) fn program() -> CString {
    let chosen = OVERRIDES.lock().unwrap_or_else(PoisonError::into_inner);
    let path = match chosen.last() {
        None => "/proc/self/exe".to_owned(),
        // Through this process's table: in the child the descriptor is closed before the start.
        Some(file) => format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()),
    };
    CString::new(path).expect("the path is made of digits and letters")
}

//! Changing the environment of a process that has just been made.

#![expect(unsafe_code, reason = "changing the environment is unsafe while threads run")]

use std::ffi::OsString;

/// The variable's value, if it is set and is text; it is unset.
pub(crate) fn take(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?;
    // SAFETY: only reached when the variable is set, that is in a worker that has just started, from
    // the constructor before `main` or from the guard that stands first in `main`: the program has
    // started no thread yet that could read the environment without std's lock.
    unsafe { std::env::remove_var(name) };
    value.into_string().ok()
}

/// Sets variables, or unsets those without a value.
pub(crate) fn change(changes: &[(OsString, Option<OsString>)]) {
    for (name, value) in changes {
        match value {
            // SAFETY: only reached in a process that was forked from one with a single thread and has
            // started none yet: nobody else can read the environment.
            Some(value) => unsafe { std::env::set_var(name, value) },
            // SAFETY: as above.
            None => unsafe { std::env::remove_var(name) },
        }
    }
}

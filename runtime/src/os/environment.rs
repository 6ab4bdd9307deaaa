//! Taking a variable out of the environment.

#![expect(unsafe_code, reason = "changing the environment is unsafe while threads run")]

/// The variable's value, if it is set and is text; it is unset.
pub(crate) fn take(name: &str) -> Option<String> {
    let value = std::env::var_os(name)?;
    // SAFETY: only reached when the variable is set, that is in a worker that has just started, from
    // the constructor before `main` or from the guard that stands first in `main`: the program has
    // started no thread yet that could read the environment without std's lock.
    unsafe { std::env::remove_var(name) };
    value.into_string().ok()
}

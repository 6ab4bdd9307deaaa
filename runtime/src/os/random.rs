//! Bytes that nobody can foresee.

#![expect(unsafe_code, reason = "the C library's getrandom has no safe wrapper here")]

use std::io;

use nix::libc;

/// As many random bytes as asked for, from the kernel's generator.
///
/// # Errors
/// The system refuses the call, which no Linux does that this crate runs on.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut have = 0;
    while have < N {
        let rest = &mut bytes[have..];
        // SAFETY: the pointer and the length are those of `rest`, which is ours alone and may be written.
        let count = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(count) {
            Ok(count) => have += count,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_draws_are_the_same() {
        let draws: Vec<[u8; 32]> = (0..8).map(|_| bytes().unwrap()).collect();
        for (i, draw) in draws.iter().enumerate() {
            assert!(!draws[..i].contains(draw));
        }
    }
}

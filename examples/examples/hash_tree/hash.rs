//! What the workers do.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, ErrorKind, Read},
    os::unix::ffi::OsStringExt as _,
};

use procession::task;
use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub(crate) type Digest = [u8; 32];

/// Large enough that the system calls cost nothing beside the hashing (64 KiB take about 0.1 ms),
/// small enough for a stack.
const BUFFER: usize = 64 << 10;

/// The digest and the length of the file at `path`, or why it can't be read.
///
/// The path travels as bytes: serde refuses paths that aren't UTF-8.
#[task]
pub(crate) fn hash_file(path: Vec<u8>) -> Result<(Digest, u64), String> {
    File::open(OsString::from_vec(path)).and_then(hash).map_err(|error| error.to_string())
}

fn hash(mut input: impl Read) -> io::Result<(Digest, u64)> {
    let mut sha = Sha256::new();
    let mut buffer = [0; BUFFER];
    let mut len = 0;
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return Ok((sha.finalize().into(), len)),
            Ok(read) => {
                sha.update(&buffer[..read]);
                len += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digest: Digest) -> String {
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn known_digests() {
        let (digest, len) = hash(&b""[..]).unwrap();
        assert_eq!(len, 0);
        assert_eq!(hex(digest), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        // NIST's one million times "a", in reads that don't match the buffer.
        let (digest, len) = hash(io::repeat(b'a').take(1_000_000)).unwrap();
        assert_eq!(len, 1_000_000);
        assert_eq!(hex(digest), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }

    #[test]
    fn an_error_says_why() {
        let error = hash_file(b"/nonexistent/\xff".to_vec()).unwrap_err();
        assert!(error.starts_with("No such file or directory"), "{error}");
        let error = hash_file(b"/".to_vec()).unwrap_err();
        assert!(error.starts_with("Is a directory"), "{error}");
    }
}

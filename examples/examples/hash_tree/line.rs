//! The lines of `sha256sum`, in text mode.

use std::{
    io::{self, Write},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use super::hash::Digest;

/// Writes the digest in hex, two spaces and the path, with a line feed.
///
/// If the path holds a line feed, a carriage return or a backslash, they become `\n`, `\r` and
/// `\\`, and the line begins with a backslash, as coreutils 9 does; all other bytes stay as they are.
pub(crate) fn write(out: &mut impl Write, digest: &Digest, path: &Path) -> io::Result<()> {
    let path = path.as_os_str().as_bytes();
    if path.iter().any(|&byte| escaped(byte).is_some()) {
        out.write_all(b"\\")?;
    }
    for byte in digest {
        write!(out, "{byte:02x}")?;
    }
    out.write_all(b"  ")?;
    for byte in path {
        match escaped(*byte) {
            Some(escape) => out.write_all(escape)?,
            None => out.write_all(&[*byte])?,
        }
    }
    out.write_all(b"\n")
}

fn escaped(byte: u8) -> Option<&'static [u8]> {
    match byte {
        b'\n' => Some(b"\\n"),
        b'\r' => Some(b"\\r"),
        b'\\' => Some(b"\\\\"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn line(path: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, &[0xa0; 32], Path::new(OsStr::from_bytes(path))).unwrap();
        out
    }

    #[test]
    fn plain_paths_stay_as_they_are() {
        for path in [&b"a/b"[..], b" lead *", b"tab\t", b"\xff\xfe", "ünï".as_bytes()] {
            assert_eq!(line(path), [&b"a0".repeat(32)[..], b"  ", path, b"\n"].concat());
        }
    }

    #[test]
    fn three_bytes_are_escaped() {
        let expected = [b"\\", &b"a0".repeat(32)[..], b"  x\\ny\\r\\\\n\xff\n"].concat();
        assert_eq!(line(b"x\ny\r\\n\xff"), expected);
    }
}

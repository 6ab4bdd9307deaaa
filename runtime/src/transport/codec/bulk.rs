//! Long vectors of bytes in one piece.
//!
//! Serde takes a `Vec<u8>` element by element, which costs several times what copying costs. As one piece
//! of bytes it is encoded the same, to the bit: the length, then the bytes. So a value that is such a
//! vector, or a tuple of just one, as the arguments of a task are, is taken for what it is.

use std::fmt;

use serde::de::{Deserializer as _, Error, Visitor};

use super::de::Deserializer;
use super::error::Cause;
use crate::os::conjure::{as_same, into_same, is_same};
use crate::os::memory;

/// The bytes, if the value is nothing else.
#[inline]
pub(super) fn of<T: ?Sized>(value: &T) -> Option<&[u8]> {
    match as_same::<T, Vec<u8>>(value) {
        Some(bytes) => Some(bytes),
        None => as_same::<T, (Vec<u8>,)>(value).map(|(bytes,)| &bytes[..]),
    }
}

/// Decodes such a value; none if `T` isn't one.
#[inline]
pub(super) fn decode<T>(deserializer: &mut Deserializer<'_>) -> Option<Result<T, Cause>> {
    if is_same::<T, Vec<u8>>() {
        let bytes = deserializer.deserialize_byte_buf(Bytes);
        return bytes.map(|bytes| into_same(bytes).ok()).transpose();
    }
    if is_same::<T, (Vec<u8>,)>() {
        let bytes = deserializer.deserialize_byte_buf(Bytes);
        return bytes.map(|bytes| into_same((bytes,)).ok()).transpose();
    }
    None
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        let mut copy = Vec::new();
        memory::append(bytes, &mut copy);
        Ok(copy)
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode, encode};
    use super::of;

    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Wrapped(Vec<u8>);

    #[test]
    fn the_bytes_are_the_same_as_without() {
        for length in [0, 1, 127, 128, 70_000] {
            let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let (mut short, mut long, mut tuple) = (Vec::new(), Vec::new(), Vec::new());
            encode(&bytes, &mut short).unwrap();
            encode(&Wrapped(bytes.clone()), &mut long).unwrap();
            encode(&(bytes.clone(),), &mut tuple).unwrap();
            assert!(of(&bytes).is_some() && of(&Wrapped(Vec::new())).is_none());
            assert!(short == long && short == tuple);
            assert_eq!(decode::<Vec<u8>>(&long).unwrap(), bytes);
            assert_eq!(decode::<Wrapped>(&short).unwrap().0, bytes);
            assert_eq!(decode::<(Vec<u8>,)>(&long).unwrap().0, bytes);
        }
    }

    #[test]
    fn wrong_bytes_are_errors() {
        for bytes in [&[5, 1][..], &[1, 2, 3], &[], &[0xff; 12]] {
            assert!(decode::<Vec<u8>>(bytes).is_err());
            assert!(decode::<(Vec<u8>,)>(bytes).is_err());
        }
    }
}

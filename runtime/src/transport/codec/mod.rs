//! The one place that turns values into bytes and bytes into values.
//!
//! The bytes are postcard's, bit for bit; `ser` and `de` walk the value and leave every primitive
//! to postcard. They exist because postcard alone drops the text of serde's custom errors, and
//! because the bytes may come from a process that is broken or hostile. `limits` is the account of
//! what a value may cost.
//!
//! - An error names the type and the cause, with the words of the user's own impl.
//! - A value nests at most [`limits::MAX_DEPTH`] levels, so neither side overflows its stack.
//! - A length claims no memory: at most as many elements are reserved as bytes are there.
//! - At most [`limits::MAX_EMPTY_ELEMENTS`] elements may take no bytes, so a length costs no
//!   unbounded time either.
//! - No byte is left over, and a value that the format can't express (a field left out by
//!   `skip_serializing_if`, a wrong length) is an error, not other bytes.
//!
//! Handles on shared objects travel only where [`passing`] sees to it that they arrive.
//!
//! Both sides apply the same limits: what [`encode`] accepts, [`decode`] doesn't refuse for its
//! shape. The codec knows nothing of frames, tasks or processes.

mod bulk;
pub(crate) mod cells;
mod de;
mod error;
mod limits;
mod long;
pub(crate) mod passing;
mod ser;
#[cfg(test)]
mod tests;
pub(crate) mod typed;

pub(crate) use error::Error;
use limits::Limits;
use serde::{Serialize, Serializer as _, de::DeserializeOwned};

/// Appends the encoded `value` to `out`.
///
/// # Errors
/// When a `Serialize` impl in it returns an error, when it nests deeper than
/// [`limits::MAX_DEPTH`], or when it holds something that the format can't express (a sequence of
/// unknown length, a field left out by `skip_serializing_if`). `out` is then as it was before, and
/// so it is if an impl panics.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut rollback = Rollback { len: out.len(), out };
    let mut limits = Limits::new();
    let serializer = ser::Serializer::new(rollback.out, &mut limits);
    let encoded = match bulk::of(value) {
        Some(bytes) => serializer.serialize_bytes(bytes),
        None => value.serialize(serializer),
    };
    encoded.map_err(|cause| Error::encoding::<T>(cause))?;
    rollback.len = rollback.out.len();
    Ok(())
}

/// Decodes a value from exactly these `bytes`.
///
/// `T` owns what it holds: a type that borrows from the bytes (`&str`) is refused by its bound.
///
/// # Errors
/// When the bytes end too early or too late, when they aren't a `T`, when a `Deserialize` impl
/// returns an error, or when a limit of this module is exceeded.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut deserializer = de::Deserializer::new(bytes);
    let decoded =
        bulk::decode(&mut deserializer).unwrap_or_else(|| T::deserialize(&mut deserializer));
    let result = decoded.and_then(|value: T| deserializer.end().map(|()| value));
    result.map_err(|cause| {
        let at = bytes.len() - deserializer.remaining();
        Error::decoding::<T>(cause, at, bytes.len())
    })
}

/// Cuts `out` back to `len` when it is dropped.
struct Rollback<'a> {
    out: &'a mut Vec<u8>,
    len: usize,
}

impl Drop for Rollback<'_> {
    fn drop(&mut self) {
        self.out.truncate(self.len);
    }
}

//! Values as bytes.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a value could not be encoded or decoded.
#[derive(Clone, Debug)]
pub struct Error {
    message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// Appends the encoded value to `out`.
///
/// # Errors
/// When the value refuses to be serialised.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    let bytes = postcard::to_allocvec(value).map_err(|error| failed::<T>("encode", &error))?;
    out.extend_from_slice(&bytes);
    Ok(())
}

/// Reads a value from all of `bytes`.
///
/// # Errors
/// When the bytes aren't exactly one value of this type.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(failed::<T>("decode", &"bytes are left over")),
        Err(error) => Err(failed::<T>("decode", &error)),
    }
}

fn failed<T: ?Sized>(verb: &str, why: &dyn fmt::Display) -> Error {
    Error { message: format!("could not {verb} `{}`: {why}", std::any::type_name::<T>()) }
}

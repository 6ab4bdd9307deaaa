//! What went wrong in the codec: [`Cause`] inside the walk, [`Error`] outside.

use std::{any::type_name, borrow::Cow, fmt};

/// A value couldn't be encoded or decoded.
///
/// Its text names the type and the cause, in the words of the type's own `Serialize` or
/// `Deserialize` impl if that was it.
#[derive(Clone, Debug)]
pub struct Error {
    type_name: &'static str,
    cause: Cause,
    /// Where in how many bytes decoding stopped; none if it was encoding that failed.
    place: Option<(usize, usize)>,
}

impl Error {
    pub(super) fn encoding<T: ?Sized>(cause: Cause) -> Self {
        Self { type_name: type_name::<T>(), cause, place: None }
    }

    pub(super) fn decoding<T: ?Sized>(cause: Cause, at: usize, len: usize) -> Self {
        Self { type_name: type_name::<T>(), cause, place: Some((at, len)) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { type_name, cause, place } = self;
        match place {
            None => write!(f, "can't encode {type_name}: {cause}"),
            Some((at, len)) => {
                write!(f, "can't decode {type_name}: {cause} (at byte {at} of {len})")
            }
        }
    }
}

impl std::error::Error for Error {}

/// The error type of our `Serializer` and `Deserializer`: it keeps the text.
///
/// It is one thin pointer, so that the `Result` of each step of the walk stays in a register.
#[derive(Clone, Debug)]
pub(crate) struct Cause(Box<Cow<'static, str>>);

impl Cause {
    #[cold]
    pub(super) fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(text.into()))
    }

    #[cold]
    pub(super) fn too_deep() -> Self {
        Self::new(format!("it nests deeper than {} levels", super::limits::MAX_DEPTH))
    }

    #[cold]
    pub(super) fn too_many_empty(len: usize, bytes: usize) -> Self {
        Self::new(format!(
            "a sequence or map of {len} elements has only {bytes} bytes; at most {} elements of a \
             value may take no bytes",
            super::limits::MAX_EMPTY_ELEMENTS
        ))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

impl serde::ser::Error for Cause {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}

impl serde::de::Error for Cause {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }
}

/// Postcard's own errors, in our words: those that its primitives can return.
impl From<postcard::Error> for Cause {
    #[cold]
    fn from(error: postcard::Error) -> Self {
        use postcard::Error as P;
        match error {
            P::SerializeSeqLengthUnknown => Self::new(
                "the length of a sequence or map must be known before its elements; #[serde(flatten)] \
                 and iterators without an exact length can't be sent",
            ),
            P::DeserializeUnexpectedEnd => Self::new("the bytes end too early"),
            P::DeserializeBadVarint => Self::new("an integer is out of its type's range"),
            P::DeserializeBadBool => Self::new("a bool is neither 0 nor 1"),
            P::DeserializeBadChar => Self::new("a char is not valid"),
            P::DeserializeBadUtf8 => Self::new("a string is not valid UTF-8"),
            P::DeserializeBadOption => Self::new("an Option is neither None nor Some"),
            other => Self::new(other.to_string()),
        }
    }
}

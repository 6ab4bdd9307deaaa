//! One method as both sides know it: its number, and how its arguments and its result become bytes.
//!
//! The client encodes the arguments and decodes the result, the server the other way round. Both have the
//! same constant, made by `call_0` to `call_12`, and so they can't differ. The bytes are the codec's, of
//! the arguments as a tuple: the same in every process and on every machine.
//!
//! A [`Call`] is made once for a method, and this is the only place that asks for a [`Payload`]. So the
//! compiler reports a type that can't be sent once, under that type.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::afar::peer;
use super::handle::Handle;
use crate::callable::task_fn::Payload;
use crate::shm::heap;
use crate::transport::codec::{self, passing};

/// A method, or constructor, of `T` that takes `A`, a tuple, and gives `R`.
pub struct Call<T, A, R> {
    number: u16,
    name: &'static str,
    encode_args: Encode<A>,
    decode_args: Decode<A>,
    encode_result: Encode<R>,
    decode_result: Decode<R>,
    of: PhantomData<fn(&T)>,
}

/// Appends a value, and hands out the handles in it, which are to be held until they have arrived.
type Encode<V> = fn(&V, &mut Vec<u8>) -> Result<Held, codec::Error>;

pub(crate) type Decode<V> = fn(&[u8]) -> Result<V, codec::Error>;

impl<T, A, R> Call<T, A, R> {
    /// Its place among the methods, or among the constructors, of its class.
    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    /// Its name in the source.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// Appends the arguments, and hands out the handles in them.
    ///
    /// # Errors
    /// As `codec::encode`; `out` is then as it was.
    pub(crate) fn encode_args(&self, args: &A, out: &mut Vec<u8>) -> Result<Held, codec::Error> {
        (self.encode_args)(args, out)
    }

    /// Makes arguments of exactly these `bytes`.
    ///
    /// # Errors
    /// As `codec::decode`.
    pub(crate) fn decode_args(&self, bytes: &[u8]) -> Result<A, codec::Error> {
        (self.decode_args)(bytes)
    }

    /// Appends the result, and hands out the handles in it.
    ///
    /// # Errors
    /// As `codec::encode`; `out` is then as it was.
    pub(crate) fn encode_result(
        &self,
        result: &R,
        out: &mut Vec<u8>,
    ) -> Result<Held, codec::Error> {
        (self.encode_result)(result, out)
    }

    /// What [`decode_result`](Self::decode_result) does, without the types of object and arguments.
    pub(crate) const fn result_decoder(&self) -> Decode<R> {
        self.decode_result
    }

    /// Makes a result of exactly these `bytes`.
    ///
    /// # Errors
    /// As `codec::decode`.
    pub(crate) fn decode_result(&self, bytes: &[u8]) -> Result<R, codec::Error> {
        (self.decode_result)(bytes)
    }
}

impl<T, A, R> Call<T, A, R> {
    /// The same method for a client that takes the result as another type, by `decode`.
    pub(crate) fn taken_by<S: Serialize>(self, decode: Decode<S>) -> Call<T, A, S> {
        let Self { number, name, encode_args, decode_args, .. } = self;
        Call {
            number,
            name,
            encode_args,
            decode_args,
            encode_result: encode,
            decode_result: decode,
            of: PhantomData,
        }
    }
}

impl<T, A: Payload, R: Payload> Call<T, A, R> {
    /// Describes a method of any number of arguments.
    pub(crate) const fn of(number: u16, name: &'static str) -> Self {
        Call {
            number,
            name,
            encode_args: encode,
            decode_args: decode,
            encode_result: encode,
            decode_result: decode,
            of: PhantomData,
        }
    }
}

impl<T, A, R> Clone for Call<T, A, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, A, R> Copy for Call<T, A, R> {}

impl<T, A, R> fmt::Debug for Call<T, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("number", &self.number).field("name", &self.name).finish()
    }
}

/// What is in a message besides bytes, to be held until that has arrived: handles on what the family shares,
/// or, on the way through a socket, on managed objects alone.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) objects: Vec<heap::Object>,
    pub(crate) handles: Vec<Handle>,
}

impl Held {
    /// Holds these, too.
    pub(crate) fn extend(&mut self, other: Self) {
        self.objects.extend(other.objects);
        self.handles.extend(other.handles);
    }
}

impl From<Vec<heap::Object>> for Held {
    fn from(objects: Vec<heap::Object>) -> Self {
        Self { objects, handles: Vec::new() }
    }
}

/// As [`codec::encode`], with the handles in the value, for this thread's [peer](peer::current).
pub(crate) fn encode<V: Serialize>(value: &V, out: &mut Vec<u8>) -> Result<Held, codec::Error> {
    if let Some(peer) = peer::current() {
        let ((), handles) = peer::coding(peer, || codec::encode(value, out))?;
        return Ok(Held { objects: Vec::new(), handles });
    }
    let (encoded, objects) = passing::collecting(|| codec::encode(value, out));
    encoded.map(|()| objects.into())
}

/// As [`codec::decode`], of values that may have handles in them.
pub(crate) fn decode<V: DeserializeOwned>(bytes: &[u8]) -> Result<V, codec::Error> {
    if let Some(peer) = peer::current() {
        return peer::coding(peer, || codec::decode(bytes)).map(|(value, _)| value);
    }
    passing::receiving(|| codec::decode(bytes))
}

/// Input: the function's name, and the arguments of one arity. Output: the function.
macro_rules! call {
    ($call:ident $($A:ident)*) => {
        /// Describes a method of this number of arguments.
        pub const fn $call<T, $($A,)* R>(
            number: u16,
            name: &'static str,
        ) -> Call<T, ($($A,)*), R>
        where
            $($A: Payload,)*
            R: Payload,
        {
            Call::of(number, name)
        }
    };
}

// One each, and not through `for_each_arity`, because an error about a type shows the one.
call! { call_0 }
call! { call_1 A1 }
call! { call_2 A1 A2 }
call! { call_3 A1 A2 A3 }
call! { call_4 A1 A2 A3 A4 }
call! { call_5 A1 A2 A3 A4 A5 }
call! { call_6 A1 A2 A3 A4 A5 A6 }
call! { call_7 A1 A2 A3 A4 A5 A6 A7 }
call! { call_8 A1 A2 A3 A4 A5 A6 A7 A8 }
call! { call_9 A1 A2 A3 A4 A5 A6 A7 A8 A9 }
call! { call_10 A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 }
call! { call_11 A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 }
call! { call_12 A1 A2 A3 A4 A5 A6 A7 A8 A9 A10 A11 A12 }

#[cfg(test)]
mod tests {
    use super::*;

    struct Owner;

    const PUT: Call<Owner, (u64, String), Option<bool>> =
        call_2::<Owner, u64, String, Option<bool>>(3, "put");

    #[test]
    fn both_sides_agree_on_the_bytes() {
        let (mut args, mut result) = (vec![9], vec![9]);
        PUT.encode_args(&(300, "five".to_owned()), &mut args).unwrap();
        PUT.encode_result(&Some(true), &mut result).unwrap();
        assert_eq!((args[0], result[0]), (9, 9), "they are appended");
        assert_eq!(PUT.decode_args(&args[1..]).unwrap(), (300, "five".to_owned()));
        assert_eq!(PUT.decode_result(&result[1..]).unwrap(), Some(true));
        assert_eq!((PUT.number(), PUT.name()), (3, "put"));
    }

    #[test]
    fn arguments_that_are_borrowed_are_encoded_as_owned_ones() {
        let (mut owned, mut borrowed) = (Vec::new(), Vec::new());
        PUT.encode_args(&(5, "five".to_owned()), &mut owned).unwrap();
        encode(&(&5_u64, "five"), &mut borrowed).unwrap();
        assert_eq!(owned, borrowed);
    }

    #[test]
    fn wrong_bytes_are_errors() {
        assert!(PUT.decode_args(&[]).is_err());
        assert!(PUT.decode_args(&[1, 200, 1]).is_err());
        assert!(PUT.decode_args(&[1, 0, 0]).unwrap_err().to_string().contains("left over"));
        assert!(PUT.decode_result(&[2]).is_err());
    }
}

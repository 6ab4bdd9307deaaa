//! The arguments of a call as bytes: each by the rule of its own type, one behind the other.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::task_fn::Payload;
use crate::transport::LongBytes;
use crate::transport::codec::{self, typed};

/// All arguments of a call: a tuple of 0 to 12 `Payload`s. Nobody can implement it for anything
/// else, as it can't be named outside of this crate.
#[doc(hidden)]
pub trait Arguments: Serialize + DeserializeOwned + Sized + 'static {
    /// How many bytes they always take, if each argument's type has a fixed size. A constant in a
    /// release build. Such arguments hold no handles, so that [`encode`](Self::encode) and
    /// [`decode`](Self::decode) need no `codec::passing` around them; all others do.
    fn fixed_size() -> Option<usize>;

    /// Appends them to `out`.
    ///
    /// # Errors
    /// As `codec::encode`; `out` is then as it was.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), codec::Error>;

    /// As [`encode`](Self::encode), but for the long bytes that the last argument ends with, if it is a text
    /// or a vector of numbers: they are handed out.
    ///
    /// # Errors
    /// As `codec::encode`; `out` is then as it was.
    fn encode_apart(self, out: &mut Vec<u8>) -> Result<Option<LongBytes>, codec::Error>;

    /// Hands out the same bytes, each argument's by itself, one after the other: for memory that isn't a
    /// vector.
    ///
    /// # Panics
    /// They have no [`fixed_size`](Self::fixed_size).
    fn write(&self, put: impl FnMut(&[u8]));

    /// Makes them of exactly these `bytes`. Those of fixed size cost no more than a copy, and nothing
    /// is allocated.
    ///
    /// # Errors
    /// As `codec::decode`.
    fn decode(bytes: &[u8]) -> Result<Self, codec::Error>;

    /// Makes them of `bytes` that end with a tail, in memory of its own, which the last argument may keep.
    ///
    /// # Errors
    /// As `codec::decode`.
    fn decode_apart(bytes: &[u8], tail: Vec<u8>) -> Result<Self, codec::Error>;
}

/// Input: the arguments of one arity. Output: the implementation for their tuple.
macro_rules! impl_arguments {
    ($($A:ident)*) => {
        #[diagnostic::do_not_recommend]
        #[allow(non_snake_case, reason = "arguments are named as their types")]
        #[allow(unused_variables, unused_mut, clippy::unused_unit, reason = "there may be none")]
        impl<$($A: Payload),*> Arguments for ($($A,)*) {
            #[inline(always)]
            fn fixed_size() -> Option<usize> {
                Some(0 $(+ typed::fixed_size::<$A>()?)*)
            }

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) -> Result<(), codec::Error> {
                let ($($A,)*) = self;
                typed::encode_all::<Self>(out, |encoder| {
                    $(encoder.put($A)?;)*
                    Ok(())
                })
            }

            #[inline]
            fn encode_apart(self, out: &mut Vec<u8>) -> Result<Option<LongBytes>, codec::Error> {
                let ($($A,)*) = self;
                typed::encode_all_apart::<Self>(out, |encoder| {
                    $(encoder.put_apart($A)?;)*
                    Ok(())
                })
            }

            #[inline]
            fn write(&self, mut put: impl FnMut(&[u8])) {
                let ($($A,)*) = self;
                $(put(typed::raw($A).expect("only what has a fixed size is written"));)*
            }

            #[inline]
            fn decode(bytes: &[u8]) -> Result<Self, codec::Error> {
                typed::decode_all(bytes, |decoder| Ok(($(decoder.take::<$A>()?,)*)))
            }

            fn decode_apart(bytes: &[u8], tail: Vec<u8>) -> Result<Self, codec::Error> {
                typed::decode_all_apart(bytes, tail, |decoder| Ok(($(decoder.take::<$A>()?,)*)))
            }
        }
    };
}

for_each_arity!(impl_arguments);

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn encoded<A: Arguments>(args: &A) -> Vec<u8> {
        let mut out = vec![7];
        args.encode(&mut out).unwrap();
        assert_eq!(out.remove(0), 7, "they are appended");
        out
    }

    #[track_caller]
    fn decode_error<A: Arguments + Debug>(bytes: &[u8]) -> String {
        A::decode(bytes).unwrap_err().to_string()
    }

    #[track_caller]
    fn round_trip<A: Arguments + PartialEq + Debug>(args: A, fixed_size: Option<usize>) -> Vec<u8> {
        assert_eq!(A::fixed_size(), fixed_size);
        let bytes = encoded(&args);
        assert_eq!(A::decode(&bytes).unwrap(), args);
        if let Some(size) = fixed_size {
            assert_eq!(bytes.len(), size);
            let mut written = Vec::new();
            args.write(|part| written.extend_from_slice(part));
            assert_eq!(written, bytes);
        }
        for len in 0..bytes.len() {
            let error = decode_error::<A>(&bytes[..len]);
            assert!(error.contains("the bytes end too early"), "{error}");
        }
        let longer = [&bytes[..], &[0]].concat();
        let error = decode_error::<A>(&longer);
        assert!(error.contains("1 bytes are left over"), "{error}");
        bytes
    }

    #[test]
    fn each_argument_goes_by_its_own_rule() {
        assert_eq!(round_trip((), Some(0)), []);
        assert_eq!(round_trip(((),), Some(0)), []);
        assert_eq!(round_trip((1_u8, -1_i8, true), Some(3)), [1, 255, 1]);
        round_trip((u64::MAX,), Some(8));
        round_trip((i128::MIN, char::MAX, usize::MAX), Some(28));
        round_trip((1_u8, u128::MAX, 0.5_f32, (), false, -0.0_f64), Some(30));
        assert_eq!(round_trip((1_u8, "ab".to_owned(), 2_u8), None), [1, 2, b'a', b'b', 2]);
        assert_eq!(round_trip((vec![5_u8], 6_u8), None), [1, 5, 6]);
        // The same type within a tuple that is an argument is postcard's: 300 is a varint there.
        assert_eq!(round_trip((300_u16, (300_u16,)), None)[2..], [0xac, 0x02]);
        round_trip((vec![1.5_f64; 3], Some(7_u64), 'x', vec!["y".to_owned()]), None);
        round_trip(
            (1_u8, 2_u8, 3_u8, 4_u8, 5_u8, 6_u8, 7_u8, 8_u8, 9_u8, 10_u8, 11_u8, 12_u8),
            Some(12),
        );
    }

    #[test]
    fn an_error_names_all_arguments_and_the_place() {
        assert_eq!(
            decode_error::<(u8, bool, u8)>(&[1, 2, 3]),
            "can't decode (u8, bool, u8): a bool is neither 0 nor 1 (at byte 2 of 3)"
        );
        assert_eq!(
            decode_error::<(u8, Option<u8>)>(&[1, 2, 3]),
            "can't decode (u8, core::option::Option<u8>): an Option is neither None nor Some \
             (at byte 2 of 3)"
        );
    }

    #[test]
    fn arguments_that_can_not_be_encoded_leave_nothing_behind() {
        #[derive(Debug, serde::Deserialize)]
        struct Refuses;
        impl Serialize for Refuses {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("refused"))
            }
        }
        let mut out = vec![7];
        let error = (1_u64, "x".to_owned(), Refuses).encode(&mut out).unwrap_err().to_string();
        assert!(error.ends_with("Refuses): refused"), "{error}");
        assert_eq!(out, [7]);
    }

    #[test]
    #[should_panic(expected = "only what has a fixed size is written")]
    fn a_text_is_not_written() {
        (1_u8, String::new()).write(|_| {});
    }

    #[test]
    fn random_bytes_are_arguments_or_an_error() {
        // Marsaglia's xorshift64: the same bytes each time.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as u8
        };
        let mut decoded = 0;
        for _ in 0..100_000 {
            let len = random() % 16;
            // Small numbers are good counts, and valid values of more types.
            let mask = [1, 3, 0xff][usize::from(random()) % 3];
            let bytes: Vec<u8> = (0..len).map(|_| random() & mask).collect();
            macro_rules! check {
                ($($A:ty)*) => {$(
                    if let Ok(args) = <$A as Arguments>::decode(&bytes) {
                        decoded += 1;
                        assert!(encoded(&args).len() <= bytes.len(), "{args:?}");
                    }
                )*};
            }
            check! {
                () (bool,) (u8, bool) (char, u8) (String, u8) (Vec<u64>, String)
                (u8, Vec<u16>, Option<String>) (Vec<Vec<u8>>, bool) (u16, (u16, bool), Vec<f32>)
            }
        }
        assert!(decoded > 1_000, "only {decoded} of these were arguments");
    }
}

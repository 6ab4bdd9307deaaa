//! The encoding of typed calls, where both sides know the very same Rust type.
//!
//! Such bytes never leave the processes of one image, so they need not describe themselves, nor look
//! the same on every machine. Each value is encoded by the first rule that fits its type:
//!
//! | type | bytes |
//! |---|---|
//! | integers, floats, `bool`, `char`, `()` | as they lie in memory: a fixed size |
//! | `String`, `Vec` of integers or floats | how many there are, as postcard's varint, and the elements as they lie in memory |
//! | everything else | postcard's, by `ser` and `de` |
//!
//! Several values follow each other without anything in between: the arguments of a call are the
//! [`Encoder`]'s and the [`Decoder`]'s.
//!
//! - The type decides, never the bytes: which rule holds is known when the program is built, and a
//!   release build has no trace of the others left. So what is [`fixed_size`] is as fast as a copy.
//! - What `de` promises about forged bytes holds here as well: errors, and no memory for a length that
//!   the bytes don't bear out.
//! - A value of fixed size holds no handle. Whoever encodes or decodes any other has
//!   [`passing`](super::passing) around it.

use std::any::{Any, TypeId};

use bytemuck::{AnyBitPattern, CheckedBitPattern};
use serde::{Serialize, Serializer as _, de::DeserializeOwned};

use super::error::{Cause, Error};
use super::limits::Limits;
use super::long::take_long;
use super::{Rollback, de, ser};
use crate::os::memory;
use crate::transport::LongBytes;

/// Calls a macro with all types that are encoded as they lie in memory.
macro_rules! for_raw_types {
    ($callback:ident) => {
        $callback! { () bool char u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 }
    };
}

/// Calls a macro with those of them that make up vectors.
macro_rules! for_numbers {
    ($callback:ident) => {
        $callback! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 }
    };
}

pub(super) use for_numbers;

/// How many bytes every value of this type takes; none if that depends on the value, or nobody knows.
#[inline(always)]
pub(crate) fn fixed_size<T: 'static>() -> Option<usize> {
    macro_rules! is_one_of {
        ($($Raw:ty)*) => { $(TypeId::of::<T>() == TypeId::of::<$Raw>())||* };
    }
    for_raw_types!(is_one_of).then_some(size_of::<T>())
}

/// Whether any bits of the right size are a value of this type.
#[inline(always)]
pub(crate) fn is_number<T: 'static>() -> bool {
    macro_rules! is_one_of {
        ($($Number:ty)*) => { $(TypeId::of::<T>() == TypeId::of::<$Number>())||* };
    }
    for_numbers!(is_one_of)
}

/// The encoded bytes of a value whose type has a [`fixed_size`], as they lie in memory.
#[inline(always)]
pub(crate) fn raw<T: 'static>(value: &T) -> Option<&[u8]> {
    let value: &dyn Any = value;
    macro_rules! find {
        ($($Raw:ty)*) => {$(
            if let Some(value) = value.downcast_ref::<$Raw>() {
                return Some(bytemuck::bytes_of(value));
            }
        )*};
    }
    for_raw_types!(find);
    None
}

/// Appends the encoded `value` to `out`.
///
/// # Errors
/// As [`codec::encode`](super::encode).
#[inline]
pub(crate) fn encode<T: Serialize + 'static>(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    encode_all::<T>(out, |encoder| encoder.put(value))
}

/// As [`encode`], but for the long bytes of a text or a vector of numbers: these are handed out, to be sent
/// behind the others from where they are.
///
/// # Errors
/// As [`codec::encode`](super::encode).
#[inline]
pub(crate) fn encode_apart<T: Serialize + 'static>(
    value: T,
    out: &mut Vec<u8>,
) -> Result<Option<LongBytes>, Error> {
    encode_all_apart::<T>(out, |encoder| encoder.put_apart(value))
}

/// Decodes a value from exactly these `bytes`.
///
/// # Errors
/// As [`codec::decode`](super::decode).
#[inline]
pub(crate) fn decode<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<T, Error> {
    decode_all(bytes, |decoder| decoder.take())
}

/// As [`decode`], from `bytes` that end with a tail, in memory of its own. That is the memory of the text, or
/// of the vector of bytes, that the value ends with.
///
/// # Errors
/// As [`codec::decode`](super::decode), and if the value doesn't end with bytes like those of the tail.
pub(crate) fn decode_apart<T: DeserializeOwned + 'static>(
    bytes: &[u8],
    tail: Vec<u8>,
) -> Result<T, Error> {
    decode_all_apart(bytes, tail, |decoder| decoder.take())
}

/// Appends what `put` puts, which together is a `Whole`; nothing if that fails.
#[inline(always)]
pub(crate) fn encode_all<Whole>(
    out: &mut Vec<u8>,
    put: impl FnOnce(&mut Encoder<'_>) -> Result<(), Cause>,
) -> Result<(), Error> {
    encode_all_apart::<Whole>(out, put).map(|_| ())
}

/// As [`encode_all`]; hands out the bytes that are to follow, if the last value was put apart and is long.
#[inline(always)]
pub(crate) fn encode_all_apart<Whole>(
    out: &mut Vec<u8>,
    put: impl FnOnce(&mut Encoder<'_>) -> Result<(), Cause>,
) -> Result<Option<LongBytes>, Error> {
    let mut rollback = Rollback { len: out.len(), out };
    let mut encoder = Encoder { out: rollback.out, limits: Limits::new(), tail: None };
    put(&mut encoder).map_err(Error::encoding::<Whole>)?;
    let tail = encoder.tail;
    rollback.len = rollback.out.len();
    Ok(tail)
}

/// Decodes what `take` takes; none of the bytes may be left.
#[inline(always)]
pub(crate) fn decode_all<Whole>(
    bytes: &[u8],
    take: impl FnOnce(&mut Decoder<'_>) -> Result<Whole, Cause>,
) -> Result<Whole, Error> {
    let mut decoder = Decoder { bytes, walk: de::Deserializer::new(bytes), tail: None };
    let taken = take(&mut decoder).and_then(|whole| decoder.walk.end().map(|()| whole));
    taken.map_err(|cause| {
        let at = bytes.len() - decoder.walk.remaining();
        Error::decoding::<Whole>(cause, at, bytes.len())
    })
}

/// As [`decode_all`], from bytes that end with a `tail`.
#[inline]
pub(crate) fn decode_all_apart<Whole>(
    bytes: &[u8],
    tail: Vec<u8>,
    take: impl FnOnce(&mut Decoder<'_>) -> Result<Whole, Cause>,
) -> Result<Whole, Error> {
    let length = bytes.len() + tail.len();
    let mut decoder = Decoder { bytes, walk: de::Deserializer::new(bytes), tail: Some(tail) };
    let taken = take(&mut decoder).and_then(|whole| {
        decoder.walk.end()?;
        match decoder.tail {
            None => Ok(whole),
            Some(_) => Err(Cause::from(postcard::Error::DeserializeBadEncoding)),
        }
    });
    let at = bytes.len() - decoder.walk.remaining();
    taken.map_err(|cause| Error::decoding::<Whole>(cause, at, length))
}

/// Puts values behind each other; they have one account of what they may cost.
pub(crate) struct Encoder<'o> {
    out: &'o mut Vec<u8>,
    limits: Limits,
    /// The long bytes of the last value, if it was put apart.
    tail: Option<LongBytes>,
}

impl Encoder<'_> {
    /// Appends one value.
    #[inline(always)]
    pub(crate) fn put<T: Serialize + 'static>(&mut self, value: &T) -> Result<(), Cause> {
        if let Some(bytes) = raw(value) {
            self.out.extend_from_slice(bytes);
            return Ok(());
        }
        if let Some((count, bytes)) = counted(value) {
            self.serializer().serialize_u64(count as u64)?;
            memory::append(bytes, self.out);
            return Ok(());
        }
        value.serialize(self.serializer())
    }

    /// Appends one value, but for its bytes if these are long and it is a text or a vector of numbers. They follow
    /// when another value does, which is how those of the last one are left.
    #[inline(always)]
    pub(crate) fn put_apart<T: Serialize + 'static>(&mut self, value: T) -> Result<(), Cause> {
        if let Some(tail) = self.tail.take() {
            memory::append((*tail).as_ref(), self.out);
        }
        let mut value = Some(value);
        if let Some((count, tail)) = take_long(&mut value) {
            self.tail = Some(tail);
            return self.serializer().serialize_u64(count as u64);
        }
        self.put(&value.expect("it is taken for its long bytes alone"))
    }

    #[inline]
    fn serializer(&mut self) -> ser::Serializer<'_> {
        ser::Serializer::new(self.out, &mut self.limits)
    }
}

/// Takes values that follow each other.
pub(crate) struct Decoder<'b> {
    bytes: &'b [u8],
    walk: de::Deserializer<'b>,
    /// What follows, and has memory of its own.
    tail: Option<Vec<u8>>,
}

impl Decoder<'_> {
    /// Takes one value.
    #[inline(always)]
    pub(crate) fn take<T: DeserializeOwned + 'static>(&mut self) -> Result<T, Cause> {
        let mut value: Option<T> = None;
        self.take_raw(&mut value)?;
        if value.is_none() {
            self.take_counted(&mut value)?;
        }
        match value {
            Some(value) => Ok(value),
            None => T::deserialize(&mut self.walk),
        }
    }

    /// Fills `value`, an `Option<T>`, if `T` is encoded as it lies in memory.
    #[inline(always)]
    fn take_raw(&mut self, value: &mut dyn Any) -> Result<(), Cause> {
        macro_rules! fill {
            ($($Raw:ty)*) => {$(
                if let Some(value) = value.downcast_mut::<Option<$Raw>>() {
                    *value = Some(read(self.walk.take_bytes(size_of::<$Raw>())?)?);
                    return Ok(());
                }
            )*};
        }
        for_raw_types!(fill);
        Ok(())
    }

    /// Fills `value`, an `Option<T>`, if `T` is a text or a vector of numbers.
    #[inline(always)]
    fn take_counted(&mut self, value: &mut dyn Any) -> Result<(), Cause> {
        if let Some(value) = value.downcast_mut::<Option<String>>() {
            let text = match self.take_tail(1)? {
                Some(text) => text,
                None => self.bytes()?,
            };
            let text = String::from_utf8(text).map_err(|_| postcard::Error::DeserializeBadUtf8)?;
            *value = Some(text);
            return Ok(());
        }
        if let Some(value) = value.downcast_mut::<Option<Vec<u8>>>() {
            *value = Some(match self.take_tail(1)? {
                Some(bytes) => bytes,
                None => self.bytes()?,
            });
            return Ok(());
        }
        macro_rules! fill {
            ($($Number:ty)*) => {$(
                if let Some(value) = value.downcast_mut::<Option<Vec<$Number>>>() {
                    *value = Some(match self.take_tail(size_of::<$Number>())? {
                        Some(bytes) => copied(&bytes),
                        None => self.numbers()?,
                    });
                    return Ok(());
                }
            )*};
        }
        for_numbers!(fill);
        Ok(())
    }

    fn numbers<N: AnyBitPattern>(&mut self) -> Result<Vec<N>, Cause> {
        let count = self.walk.take::<usize>()?;
        // Memory is claimed after the bytes were seen to be there. A product that doesn't fit into a
        // `usize` is more than any bytes.
        Ok(copied(self.walk.take_bytes(count.saturating_mul(size_of::<N>()))?))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Cause> {
        let mut bytes = Vec::new();
        memory::append(self.walk.take::<&[u8]>()?, &mut bytes);
        Ok(bytes)
    }

    /// The tail, if nothing comes before it but the count of its elements, each of which has this size.
    fn take_tail(&mut self, size: usize) -> Result<Option<Vec<u8>>, Cause> {
        if self.tail.is_none() {
            return Ok(None);
        }
        // The count may belong to an argument before the last, whose bytes are no tail.
        let mut ahead =
            de::Deserializer::new(&self.bytes[self.bytes.len() - self.walk.remaining()..]);
        ahead.take::<usize>()?;
        if ahead.remaining() > 0 {
            return Ok(None);
        }
        let count = self.walk.take::<usize>()?;
        let is_whole = |tail: &mut Vec<u8>| count.checked_mul(size) == Some(tail.len());
        let tail = self.tail.take_if(is_whole).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        Ok(Some(tail))
    }
}

/// The numbers that lie in these bytes.
pub(super) fn copied<N: AnyBitPattern>(bytes: &[u8]) -> Vec<N> {
    let mut numbers = Vec::new();
    memory::reserve_long(&mut numbers, bytes.len() / size_of::<N>());
    // The compiler makes this a copy, and one that no unlucky place slows down: see `memory::append`.
    numbers.extend(bytes.chunks_exact(size_of::<N>()).map(bytemuck::pod_read_unaligned::<N>));
    numbers
}

/// How many elements there are in a text or a vector of numbers, and their bytes.
#[inline(always)]
fn counted(value: &dyn Any) -> Option<(usize, &[u8])> {
    if let Some(text) = value.downcast_ref::<String>() {
        return Some((text.len(), text.as_bytes()));
    }
    macro_rules! find {
        ($($Number:ty)*) => {$(
            if let Some(numbers) = value.downcast_ref::<Vec<$Number>>() {
                return Some((numbers.len(), bytemuck::cast_slice(numbers)));
            }
        )*};
    }
    for_numbers!(find);
    None
}

/// A value from its bytes, of which there are as many as it takes.
#[inline(always)]
fn read<R: CheckedBitPattern + 'static>(bytes: &[u8]) -> Result<R, Cause> {
    bytemuck::checked::try_pod_read_unaligned(bytes).map_err(|_| invalid::<R>())
}

/// Only these two types refuse any bits.
#[cold]
fn invalid<R: 'static>() -> Cause {
    if TypeId::of::<R>() == TypeId::of::<bool>() {
        Cause::from(postcard::Error::DeserializeBadBool)
    } else {
        Cause::from(postcard::Error::DeserializeBadChar)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;

    use serde::{Deserialize, Serialize};

    use super::super::tests::Lcg;
    use super::*;
    use crate::transport::codec;

    fn encoded<T: Serialize + 'static>(value: &T) -> Vec<u8> {
        let mut out = vec![7];
        encode(value, &mut out).unwrap();
        assert_eq!(out.remove(0), 7, "it is appended");
        out
    }

    #[track_caller]
    fn decode_error<T: DeserializeOwned + 'static>(bytes: &[u8]) -> String {
        match decode::<T>(bytes) {
            Ok(_) => panic!("{bytes:?} decoded as {}", std::any::type_name::<T>()),
            Err(error) => error.to_string(),
        }
    }

    /// The value comes back, no part of its bytes is one, and nothing may follow them.
    #[track_caller]
    fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug + 'static>(value: &T) {
        let mut bytes = encoded(value);
        assert_eq!(&decode::<T>(&bytes).unwrap(), value);
        for len in (0..bytes.len()).rev().take(100) {
            let error = decode_error::<T>(&bytes[..len]);
            assert!(error.contains("the bytes end too early"), "{error}");
        }
        bytes.push(0);
        let error = decode_error::<T>(&bytes);
        assert!(error.contains("1 bytes are left over"), "{error}");
    }

    #[test]
    fn what_has_a_fixed_size_goes_as_it_lies_in_memory() {
        macro_rules! check {
            ($($T:ty: $($value:expr),*;)*) => {$(
                assert_eq!(fixed_size::<$T>(), Some(size_of::<$T>()));
                for value in [$($value),*] {
                    round_trip::<$T>(&value);
                    assert_eq!(encoded::<$T>(&value), value.to_ne_bytes());
                    assert_eq!(raw::<$T>(&value).unwrap(), value.to_ne_bytes());
                }
            )*};
        }
        check! {
            u8: 0, 1, u8::MAX; u16: 0, 1, u16::MAX; u32: 0, 1, u32::MAX; u64: 0, 1, u64::MAX;
            u128: 0, 1, u128::MAX; usize: 0, 1, usize::MAX;
            i8: i8::MIN, -1, i8::MAX; i16: i16::MIN, -1, i16::MAX; i32: i32::MIN, -1, i32::MAX;
            i64: i64::MIN, -1, i64::MAX; i128: i128::MIN, -1, i128::MAX;
            isize: isize::MIN, -1, isize::MAX;
            f32: f32::MIN, -0.0, f32::MIN_POSITIVE, f32::INFINITY;
            f64: f64::MIN, -0.0, f64::MIN_POSITIVE, f64::NEG_INFINITY;
        }
        let nan = f64::from_bits(0x7ff8_dead_beef_0001);
        assert_eq!(decode::<f64>(&encoded(&nan)).unwrap().to_bits(), nan.to_bits());
        [true, false].iter().for_each(round_trip);
        ['\0', 'ß', '\u{d7ff}', '\u{e000}', char::MAX].iter().for_each(round_trip);
        round_trip(&());
        let sizes = (fixed_size::<bool>(), fixed_size::<char>(), fixed_size::<()>());
        assert_eq!(sizes, (Some(1), Some(4), Some(0)));
    }

    #[test]
    fn what_is_neither_a_bool_nor_a_char_is_an_error() {
        for byte in 2..=u8::MAX {
            let error = decode_error::<bool>(&[byte]);
            let expected = "can't decode bool: a bool is neither 0 nor 1 (at byte 1 of 1)";
            assert_eq!(error, expected);
        }
        for code in [0xd800_u32, 0xdfff, 0x11_0000, u32::MAX] {
            let error = decode_error::<char>(&code.to_ne_bytes());
            assert_eq!(error, "can't decode char: a char is not valid (at byte 4 of 4)");
        }
    }

    #[test]
    fn texts_and_vectors_of_numbers_are_a_count_and_their_bytes() {
        // Around the lengths at which the varint grows, and the pieces in which long ones are copied.
        for len in [0, 1, 127, 128, 1023, 1024, 1025, 16_383, 16_384, 100_000] {
            macro_rules! check {
                ($($N:ty)*) => {$(
                    let value: Vec<$N> = (0..len).map(|i| (i * 37) as $N).collect();
                    round_trip(&value);
                    let mut expected = Vec::new();
                    codec::encode(&len, &mut expected).unwrap();
                    expected.extend(value.iter().flat_map(|number| number.to_ne_bytes()));
                    assert!(encoded(&value) == expected, "{len} of {}", stringify!($N));
                    assert!(fixed_size::<Vec<$N>>().is_none() && raw(&value).is_none());
                )*};
            }
            check! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 }
            let text = "€".repeat(len);
            round_trip(&text);
            let mut expected = Vec::new();
            codec::encode(&text, &mut expected).unwrap();
            assert!(encoded(&text) == expected);
        }
        let error = decode_error::<String>(&[2, 0xc3, 0x28]);
        assert_eq!(
            error,
            "can't decode alloc::string::String: a string is not valid UTF-8 (at byte 3 of 3)"
        );
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug, Clone)]
    enum Shape {
        Empty,
        Circle { radius: f64 },
        Named(String, Vec<u16>),
    }

    #[test]
    fn everything_else_is_postcard_s() {
        #[track_caller]
        fn check<T: Serialize + DeserializeOwned + PartialEq + Debug + 'static>(value: T) {
            round_trip(&value);
            assert_eq!(encoded(&value), postcard::to_allocvec(&value).unwrap());
            assert!(fixed_size::<T>().is_none() && raw(&value).is_none());
        }
        check(Some(300_u64));
        check((1_u64, 2_u64));
        check([1_u16, 300]);
        check(vec![true, false]);
        check(vec!['x', 'ß']);
        check(vec![(), ()]);
        check(vec!["a".to_owned(), String::new()]);
        check(vec![vec![300_u32], vec![]]);
        check(Box::new(300_u32));
        check(std::num::NonZeroU32::MAX);
        check(BTreeMap::from([("a".to_owned(), Ok::<u64, String>(1))]));
        check([Shape::Empty, Shape::Circle { radius: 0.5 }, Shape::Named("n".into(), vec![300])]);
    }

    #[test]
    fn an_error_of_an_impl_keeps_its_text_and_leaves_nothing_behind() {
        #[derive(Debug)]
        struct Refuses;
        impl Serialize for Refuses {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::{Error as _, SerializeTuple as _};
                serializer.serialize_tuple(2)?.serialize_element(&1_u8)?;
                Err(S::Error::custom("it is locked"))
            }
        }
        let mut out = vec![7];
        let error = encode(&Refuses, &mut out).unwrap_err().to_string();
        assert!(error.contains("Refuses: it is locked"), "{error}");
        assert_eq!(out, [7]);
    }

    #[test]
    fn a_forged_count_claims_no_memory() {
        for count in [3_u64, 1 << 20, 1 << 40, 1 << 61, u64::MAX / 8 + 1, u64::MAX] {
            let mut bytes = Vec::new();
            codec::encode(&count, &mut bytes).unwrap();
            bytes.extend([0; 2]);
            for error in [
                decode_error::<Vec<u8>>(&bytes),
                decode_error::<Vec<u64>>(&bytes),
                decode_error::<Vec<u128>>(&bytes),
                decode_error::<String>(&bytes),
            ] {
                assert!(error.contains("the bytes end too early"), "{error}");
            }
        }
    }

    /// What decodes has no more elements than there are bytes, and encodes to as many.
    #[test]
    fn random_bytes_are_a_value_or_an_error() {
        let mut random = Lcg(1);
        let mut decoded = 0;
        for _ in 0..20_000 {
            let len = usize::from(random.next()) % 40;
            // Small numbers are good counts, and valid values of more types.
            let mask = [1, 3, 0xff][usize::from(random.next()) % 3];
            let bytes: Vec<u8> = (0..len).map(|_| random.next() & mask).collect();
            macro_rules! check {
                ($($T:ty)*) => {$(
                    if let Ok(value) = decode::<$T>(&bytes) {
                        decoded += 1;
                        let again = encoded(&value);
                        assert!(again.len() <= bytes.len(), "{value:?}");
                        assert_eq!(encoded(&decode::<$T>(&again).unwrap()), again);
                    }
                )*};
            }
            check! {
                bool char u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64
                String Vec<u8> Vec<u16> Vec<u32> Vec<u64> Vec<u128> Vec<usize>
                Vec<i8> Vec<i16> Vec<i32> Vec<i64> Vec<i128> Vec<isize> Vec<f32> Vec<f64>
                Vec<bool> Vec<String> Option<char> Shape Vec<Shape> BTreeMap<String, u64>
            }
        }
        assert!(decoded > 10_000, "only {decoded} of these were values");
    }
}

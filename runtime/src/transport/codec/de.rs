//! Has postcard read the primitives and hands them to the visitors of a type.
//!
//! A visitor is never given to postcard, whose error would drop the text of what it has to say:
//! each primitive is taken from the bytes first, then visited with our error type.

use std::mem;

use postcard::de_flavors::Slice;
use serde::de::{
    self, Deserialize, DeserializeSeed, IntoDeserializer as _, Visitor, value::U32Deserializer,
};

use super::{error::Cause, limits::Limits};

type Postcard<'de> = postcard::Deserializer<'de, Slice<'de>>;

/// A walk over the bytes of one value.
pub(super) struct Deserializer<'de> {
    inner: Postcard<'de>,
    limits: Limits,
    /// How many of the sequences and maps that we are in have elements left.
    unfinished: usize,
}

impl<'de> Deserializer<'de> {
    /// A walk over all of `bytes`.
    #[inline]
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self { inner: Postcard::from_bytes(bytes), limits: Limits::new(), unfinished: 0 }
    }

    /// How many bytes haven't been read.
    ///
    /// Postcard tells this only at its end, so it ends and begins again; both cost nothing.
    #[inline]
    pub(super) fn remaining(&mut self) -> usize {
        self.rest().len()
    }

    #[inline]
    fn rest(&mut self) -> &'de [u8] {
        let inner = mem::replace(&mut self.inner, Postcard::from_bytes(&[]));
        let rest = inner.finalize().expect("a slice gives its rest back");
        self.inner = Postcard::from_bytes(rest);
        rest
    }

    /// The next `len` bytes, whatever they are.
    #[inline]
    pub(super) fn take_bytes(&mut self, len: usize) -> Result<&'de [u8], Cause> {
        let (taken, rest) =
            self.rest().split_at_checked(len).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        self.inner = Postcard::from_bytes(rest);
        Ok(taken)
    }

    /// Fails unless all bytes have been read.
    #[inline]
    pub(super) fn end(&mut self) -> Result<(), Cause> {
        match self.remaining() {
            0 => Ok(()),
            rest => Err(Cause::new(format!("{rest} bytes are left over"))),
        }
    }

    /// A primitive, or what postcard makes of several bytes.
    #[inline]
    pub(super) fn take<T: Deserialize<'de>>(&mut self) -> Result<T, Cause> {
        Ok(T::deserialize(&mut self.inner)?)
    }

    /// Runs `visit` one level down.
    #[inline]
    fn nested<T>(&mut self, visit: impl FnOnce(&mut Self) -> Result<T, Cause>) -> Result<T, Cause> {
        self.limits.enter()?;
        let value = visit(self)?;
        self.limits.leave();
        Ok(value)
    }

    /// Runs `visit` on the sequence or map whose length comes next.
    #[inline]
    fn elements<T>(
        &mut self,
        visit: impl FnOnce(Elements<'_, 'de>) -> Result<T, Cause>,
    ) -> Result<T, Cause> {
        let len = self.take::<usize>()?;
        let bytes = self.remaining();
        self.limits.allow(len, bytes)?;
        let unfinished = self.unfinished;
        self.unfinished += usize::from(len != 0);
        let value = self.nested(|walk| visit(Elements { walk, left: len, bytes }))?;
        if self.unfinished != unfinished {
            return Err(Cause::new(
                "its Deserialize impl left elements of a sequence or map unread",
            ));
        }
        let bytes = bytes - self.remaining();
        self.limits.charge(len, bytes)?;
        Ok(value)
    }
}

macro_rules! take_then_visit {
    ($($method:ident: $type:ty, $visit:ident;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Cause> {
            visitor.$visit(self.take::<$type>()?)
        }
    )*};
}

macro_rules! refuse {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Cause> {
            Err(Cause::new(concat!(
                "its Deserialize impl calls ", stringify!($method), ", which only self-describing \
                 formats answer; #[serde(untagged)], #[serde(tag)], #[serde(flatten)] and types \
                 like serde_json::Value can't be received"
            )))
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = Cause;

    take_then_visit! {
        deserialize_bool: bool, visit_bool;
        deserialize_i8: i8, visit_i8;
        deserialize_i16: i16, visit_i16;
        deserialize_i32: i32, visit_i32;
        deserialize_i64: i64, visit_i64;
        deserialize_i128: i128, visit_i128;
        deserialize_u8: u8, visit_u8;
        deserialize_u16: u16, visit_u16;
        deserialize_u32: u32, visit_u32;
        deserialize_u64: u64, visit_u64;
        deserialize_u128: u128, visit_u128;
        deserialize_f32: f32, visit_f32;
        deserialize_f64: f64, visit_f64;
        deserialize_char: char, visit_char;
        deserialize_str: &'de str, visit_borrowed_str;
        deserialize_string: &'de str, visit_borrowed_str;
        deserialize_bytes: &'de [u8], visit_borrowed_bytes;
        deserialize_byte_buf: &'de [u8], visit_borrowed_bytes;
    }

    refuse! { deserialize_any deserialize_identifier deserialize_ignored_any }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Cause> {
        // `Option<()>` is the tag alone: the value behind it is read here, on our own walk.
        match self.take::<Option<()>>()? {
            None => visitor.visit_none(),
            Some(()) => self.nested(|walk| visitor.visit_some(walk)),
        }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Cause> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Cause> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Cause> {
        self.nested(|walk| visitor.visit_newtype_struct(walk))
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Cause> {
        self.elements(|elements| visitor.visit_seq(elements))
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Cause> {
        self.nested(|walk| visitor.visit_seq(Fields { walk, left: len }))
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Cause> {
        self.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Cause> {
        self.elements(|elements| visitor.visit_map(elements))
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Cause> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Cause> {
        visitor.visit_enum(self)
    }
}

/// A sequence or map whose length stands in the bytes.
struct Elements<'a, 'de> {
    walk: &'a mut Deserializer<'de>,
    left: usize,
    /// How many bytes there were before the first element.
    bytes: usize,
}

impl Elements<'_, '_> {
    /// As many as there were bytes at most. Where elements take no bytes, that is too few, which a
    /// hint may be.
    #[inline]
    fn hint(&self) -> usize {
        self.left.min(self.bytes)
    }
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Cause;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Cause> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let element = seed.deserialize(&mut *self.walk)?;
        if self.left == 0 {
            self.walk.unfinished -= 1;
        }
        Ok(Some(element))
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

impl<'de> de::MapAccess<'de> for Elements<'_, 'de> {
    type Error = Cause;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Cause> {
        // The key stands for its entry.
        de::SeqAccess::next_element_seed(self, seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Cause> {
        seed.deserialize(&mut *self.walk)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

/// A tuple or struct, whose number of parts the type knows.
struct Fields<'a, 'de> {
    walk: &'a mut Deserializer<'de>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Fields<'_, 'de> {
    type Error = Cause;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Cause> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.walk).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> de::EnumAccess<'de> for &mut Deserializer<'de> {
    type Error = Cause;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Cause> {
        let index: U32Deserializer<Cause> = self.take::<u32>()?.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Deserializer<'de> {
    type Error = Cause;

    #[inline]
    fn unit_variant(self) -> Result<(), Cause> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Cause> {
        self.nested(|walk| seed.deserialize(walk))
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Cause> {
        de::Deserializer::deserialize_tuple(self, len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Cause> {
        de::Deserializer::deserialize_tuple(self, fields.len(), visitor)
    }
}

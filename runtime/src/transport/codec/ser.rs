//! Walks a value and has postcard write its primitives.
//!
//! Postcard's compound types have no state and write nothing but a length or a variant's index in
//! front, so the elements can come back here, to a serializer whose error keeps the text.

use std::fmt::{Display, Write as _};

use postcard::ser_flavors::Flavor;
use serde::ser::{self, Serialize};

use super::{error::Cause, limits::Limits};

/// A walk over one value. It is two pointers, so it is passed on in registers.
pub(super) struct Serializer<'a> {
    out: &'a mut Vec<u8>,
    limits: &'a mut Limits,
}

impl<'a> Serializer<'a> {
    /// A walk that appends to `out`, with the limits of a new value.
    #[inline]
    pub(super) fn new(out: &'a mut Vec<u8>, limits: &'a mut Limits) -> Self {
        Self { out, limits }
    }

    #[inline]
    fn postcard(&mut self) -> postcard::Serializer<Append<'_>> {
        postcard::Serializer { output: Append(self.out) }
    }

    #[inline]
    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Cause> {
        value.serialize(Serializer { out: self.out, limits: self.limits })
    }

    /// A value that is all that there is one level down.
    #[inline]
    fn only_part<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), Cause> {
        self.limits.enter()?;
        self.part(value)?;
        self.limits.leave();
        Ok(())
    }

    #[inline]
    fn fields(self) -> Result<Fields<'a>, Cause> {
        self.limits.enter()?;
        Ok(Fields { walk: self })
    }

    #[inline]
    fn elements(self, len: Option<usize>) -> Result<Elements<'a>, Cause> {
        self.limits.enter()?;
        let (start, len) = (self.out.len(), len.unwrap_or(0));
        Ok(Elements { walk: self, start, len, left: len })
    }
}

/// Methods that have nothing to walk into.
macro_rules! leave_to_postcard {
    ($($method:ident($($argument:ident: $type:ty),*);)*) => {$(
        #[inline]
        fn $method(mut self, $($argument: $type),*) -> Result<(), Cause> {
            Ok(self.postcard().$method($($argument),*)?)
        }
    )*};
}

impl<'a> ser::Serializer for Serializer<'a> {
    type Ok = ();
    type Error = Cause;
    type SerializeSeq = Elements<'a>;
    type SerializeTuple = Fields<'a>;
    type SerializeTupleStruct = Fields<'a>;
    type SerializeTupleVariant = Fields<'a>;
    type SerializeMap = Elements<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Fields<'a>;

    leave_to_postcard! {
        serialize_bool(v: bool);
        serialize_i8(v: i8);
        serialize_i16(v: i16);
        serialize_i32(v: i32);
        serialize_i64(v: i64);
        serialize_i128(v: i128);
        serialize_u8(v: u8);
        serialize_u16(v: u16);
        serialize_u32(v: u32);
        serialize_u64(v: u64);
        serialize_u128(v: u128);
        serialize_f32(v: f32);
        serialize_f64(v: f64);
        serialize_char(v: char);
        serialize_str(v: &str);
        serialize_bytes(v: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    /// Formats once: postcard formats twice, and a `Display` that differs would corrupt the bytes.
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Cause> {
        let mut text = String::new();
        write!(text, "{value}").map_err(|_| Cause::new("a Display impl returned an error"))?;
        self.serialize_str(&text)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), Cause> {
        self.postcard().serialize_some(&())?;
        self.only_part(value)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Cause> {
        self.only_part(value)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Cause> {
        self.postcard().serialize_unit_variant(name, index, variant)?;
        self.only_part(value)
    }

    #[inline]
    fn serialize_seq(mut self, len: Option<usize>) -> Result<Elements<'a>, Cause> {
        self.postcard().serialize_seq(len)?;
        self.elements(len)
    }

    #[inline]
    fn serialize_tuple(self, _len: usize) -> Result<Fields<'a>, Cause> {
        self.fields()
    }

    #[inline]
    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Fields<'a>, Cause> {
        self.fields()
    }

    #[inline]
    fn serialize_tuple_variant(
        mut self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Fields<'a>, Cause> {
        self.postcard().serialize_unit_variant(name, index, variant)?;
        self.fields()
    }

    #[inline]
    fn serialize_map(mut self, len: Option<usize>) -> Result<Elements<'a>, Cause> {
        self.postcard().serialize_map(len)?;
        self.elements(len)
    }

    #[inline]
    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Fields<'a>, Cause> {
        self.fields()
    }

    #[inline]
    fn serialize_struct_variant(
        mut self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Fields<'a>, Cause> {
        self.postcard().serialize_unit_variant(name, index, variant)?;
        self.fields()
    }
}

/// A sequence or map whose length stands in front of it.
pub(super) struct Elements<'a> {
    walk: Serializer<'a>,
    /// Where the first element begins.
    start: usize,
    /// How many elements were announced.
    len: usize,
    /// How many of them have yet to come. It wraps around if there are too many, which shows at
    /// the end as well.
    left: usize,
}

impl Elements<'_> {
    #[inline]
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Cause> {
        self.left = self.left.wrapping_sub(1);
        self.walk.part(value)
    }

    #[inline]
    fn finish(self) -> Result<(), Cause> {
        if self.left != 0 {
            return Err(wrong_length());
        }
        let bytes = self.walk.out.len() - self.start;
        self.walk.limits.leave();
        self.walk.limits.charge(self.len, bytes)
    }
}

/// A reader would take what follows for the missing elements, or too many for what follows.
#[cold]
fn wrong_length() -> Cause {
    Cause::new("its Serialize impl wrote more or fewer elements than it had announced")
}

impl ser::SerializeSeq for Elements<'_> {
    type Ok = ();
    type Error = Cause;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Cause> {
        self.element(value)
    }

    #[inline]
    fn end(self) -> Result<(), Cause> {
        self.finish()
    }
}

impl ser::SerializeMap for Elements<'_> {
    type Ok = ();
    type Error = Cause;

    /// The key stands for its entry.
    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Cause> {
        self.element(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Cause> {
        self.walk.part(value)
    }

    #[inline]
    fn end(self) -> Result<(), Cause> {
        self.finish()
    }
}

/// A tuple, struct or variant, whose number of parts the type knows.
pub(super) struct Fields<'a> {
    walk: Serializer<'a>,
}

macro_rules! fields {
    ($($trait:ident: $method:ident($($key:ident: $type:ty)?), $($skip:ident)?;)*) => {$(
        impl ser::$trait for Fields<'_> {
            type Ok = ();
            type Error = Cause;

            #[inline]
            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($key: $type,)?
                value: &T,
            ) -> Result<(), Cause> {
                self.walk.part(value)
            }

            $(
                /// A reader can't know that the field is missing: it would take the next one's
                /// bytes for it.
                fn $skip(&mut self, field: &'static str) -> Result<(), Cause> {
                    Err(Cause::new(format!(
                        "its field `{field}` was left out by skip_serializing_if, which only \
                         self-describing formats allow"
                    )))
                }
            )?

            #[inline]
            fn end(self) -> Result<(), Cause> {
                self.walk.limits.leave();
                Ok(())
            }
        }
    )*};
}

fields! {
    SerializeTuple: serialize_element(), ;
    SerializeTupleStruct: serialize_field(), ;
    SerializeTupleVariant: serialize_field(), ;
    SerializeStruct: serialize_field(_key: &'static str), skip_field;
    SerializeStructVariant: serialize_field(_key: &'static str), skip_field;
}

/// Postcard's output. Its own `AllocVec` owns its vector, and its `ExtendFlavor` copies by iterator.
struct Append<'o>(&'o mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

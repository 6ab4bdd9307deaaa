//! What makes values of built-in types, whose parameters the linker's tables can't list.
//!
//! A [`Maker`] is a static for each type that some program code makes; it is named by where it lies, as
//! callables are ([`dispatch`](crate::worker::dispatch)). Whoever has the key of a server afar can have these
//! run, and nothing else of the program: a name is looked up among the program's constants, and is one only
//! where a maker lies.

#![expect(unsafe_code, reason = "vouches for the magic number in a maker")]

use serde::de::DeserializeOwned;

use super::class::{self, Failure, Invocation, Made, Managed};
use crate::os::module::{Marked, Module};
use crate::shm::heap::layout_of;

/// See the file's head.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Maker {
    magic: u64,
    /// Tells types apart, in all processes of one image.
    types: fn() -> u64,
    /// The name of what it makes, as other programs know it: see [`described`](class::described).
    class: fn() -> String,
    make: fn(&mut Invocation<'_>) -> Result<Option<Made>, Failure>,
}

// SAFETY: `repr(C)`, and `magic` is first, a `u64`, and `MAGIC` in each value, because `of` is the only
// constructor and fields are private to this file. The number was drawn at random and stands nowhere else.
// Function pointers have no interior mutability.
unsafe impl Marked for Maker {
    const MAGIC: u64 = 0xb7c4_19e2_605d_f83a;
}

impl Maker {
    /// What makes a `T` of an `A`.
    pub(crate) const fn of<T: Managed + From<A>, A: DeserializeOwned>() -> &'static Self {
        const {
            &Self {
                magic: Self::MAGIC,
                types: layout_of::<(T, A)>,
                class: class::name_of::<T>,
                make: make::<T, A>,
            }
        }
    }

    /// The name for the server, a process of the same image.
    pub(crate) fn name(&'static self) -> Name {
        Name { offset: Module::current().offset_of(self), types: (self.types)() }
    }

    /// The name of the class of what it makes.
    pub(crate) fn class(&self) -> String {
        (self.class)()
    }

    /// Makes a value.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) fn make(&self, invocation: &mut Invocation<'_>) -> Result<Option<Made>, Failure> {
        class::catch(|| (self.make)(invocation))
    }
}

fn make<T: Managed + From<A>, A: DeserializeOwned>(
    invocation: &mut Invocation<'_>,
) -> Result<Option<Made>, Failure> {
    let (args,): (A,) = invocation.args()?;
    Ok(Some(Made::new(T::from(args))))
}

/// A maker's name, which may come from anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    offset: u64,
    types: u64,
}

impl Name {
    /// The name of none.
    pub(crate) const NONE: Self = Self { offset: 0, types: 0 };

    pub(crate) fn encode(self) -> [u8; 16] {
        (u128::from(self.types) << 64 | u128::from(self.offset)).to_le_bytes()
    }

    pub(crate) fn decode(bytes: [u8; 16]) -> Self {
        let both = u128::from_le_bytes(bytes);
        Self { offset: both as u64, types: (both >> 64) as u64 }
    }

    /// The maker, if it is one.
    pub(crate) fn resolve(self) -> Option<&'static Maker> {
        let found = Module::current().static_at::<Maker>(self.offset).ok()?;
        ((found.types)() == self.types).then_some(found)
    }
}

//! The types under `#[managed]` in this program, gathered by the linker.
//!
//! Each has one [`Entry`], with its constructors: all processes of one image have the same table, so an
//! index into it names a type in each of them. Other programs name it by its name.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use super::class::{self, Failure, Invocation, Made, Managed};
use super::maker::Maker;

/// The managed types of this program, in the order in which the linker gathered them.
///
/// The section that linkme makes is named after this static alone, so the name has to be one that
/// no other crate has, nor another version of this one, whose entries look different.
#[linkme::distributed_slice]
pub static PROCESSION_0_1_MANAGED: [Entry];

/// One managed type.
pub struct Entry {
    /// `module::path::Type`, or what `#[managed(name = "…")]` says.
    name: &'static str,
    place: (&'static str, u32, u32),
    type_id: fn() -> TypeId,
    constructors: &'static [Constructor],
    /// What makes a value of what a snapshot has of it, if that can be.
    maker: Option<&'static Maker>,
}

impl Entry {
    /// Called by the expansion of `#[managed]`.
    pub const fn new<T: Managed>(
        name: &'static str,
        file: &'static str,
        line: u32,
        column: u32,
        constructors: &'static [Constructor],
    ) -> Self {
        let maker = match &T::KEPT {
            Some(kept) => Some(kept.maker()),
            None => None,
        };
        Entry { name, place: (file, line, column), type_id: TypeId::of::<T>, constructors, maker }
    }

    /// Runs the constructor of this number.
    ///
    /// # Errors
    /// There is no object; see [`Failure`].
    pub(crate) fn construct(
        &self,
        number: u16,
        invocation: &mut Invocation<'_>,
    ) -> Result<Option<Made>, Failure> {
        let found = self.constructors.get(usize::from(number));
        let make = found.and_then(|found| found.make).ok_or(Failure::NoMethod(number))?;
        class::catch(|| make(invocation))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, line, column) = self.place;
        f.debug_struct("Entry")
            .field("name", &self.name)
            .field("place", &format_args!("{file}:{line}:{column}"))
            .field("constructors", &self.constructors)
            .finish()
    }
}

/// One constructor of a managed type.
pub struct Constructor {
    name: &'static str,
    signature: &'static str,
    make: Option<Make>,
}

impl fmt::Debug for Constructor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.signature)
    }
}

type Make = fn(&mut Invocation<'_>) -> Result<Option<Made>, Failure>;

impl Constructor {
    /// A constructor, with its signature as text, such as `fn(u64) -> Self`.
    pub const fn new(name: &'static str, signature: &'static str, make: Make) -> Self {
        Self { name, signature, make: Some(make) }
    }

    /// Stands where there would be a constructor under other conditions (`#[cfg(…)]`).
    pub const fn absent() -> Self {
        Self { name: "", signature: "", make: None }
    }
}

/// The index of a type's entry, if it has one: types that have parameters have none.
pub(crate) fn index_of<T: Managed>() -> Option<u32> {
    static INDICES: OnceLock<HashMap<TypeId, u32>> = OnceLock::new();
    let indices = INDICES.get_or_init(|| {
        PROCESSION_0_1_MANAGED.iter().map(|entry| (entry.type_id)()).zip(0..).collect()
    });
    indices.get(&TypeId::of::<T>()).copied()
}

/// What makes values of the type with this name, if snapshots can have them.
pub(crate) fn maker_of(name: &str) -> Option<&'static Maker> {
    let mut entries = PROCESSION_0_1_MANAGED.static_slice().iter();
    entries.find_map(|entry| entry.maker.filter(|_| entry.name == name))
}

/// The entry with this index, which may come from anybody.
pub(crate) fn entry(index: u32) -> Option<&'static Entry> {
    PROCESSION_0_1_MANAGED.static_slice().get(usize::try_from(index).ok()?)
}

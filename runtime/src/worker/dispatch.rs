//! What a worker can run, and how a message names it.
//!
//! The dispatch table has one [`Entry`] for each `#[task]` in the program, gathered by the linker:
//! parent and worker run the same image, so an index into the table names a task in both. A
//! callable that is not a task has no entry; it is named by where its [`Descriptor`], a static,
//! lies in the module that holds this runtime.
//!
//! Invariants: the table never changes while the program runs; a [`Descriptor`] is only handed out
//! for a value of the callable that it describes; nothing that a message says is trusted before it
//! is checked.

#![expect(unsafe_code, reason = "promises that a descriptor is marked by its magic")]

use std::any::TypeId;
use std::fmt;
use std::hash::{Hash, Hasher};

use super::shift::Shift;
use crate::os::module::{BadOffset, Marked, Module};
use crate::shm::heap::Object;
use crate::transport::{LongBytes, codec};

/// The tasks of this program, in the order in which the linker gathered them.
///
/// The section that linkme makes is named after this static alone, so the name has to be one that
/// no other crate has, nor another version of this one, whose entries look different.
#[linkme::distributed_slice]
pub static PROCESSION_0_1_TASKS: [Entry];

/// The functions under `#[procession::main]` in this program.
#[linkme::distributed_slice]
pub static PROCESSION_0_1_MAINS: [Main];

/// One task in the dispatch table.
#[derive(Debug)]
pub struct Entry {
    pub(crate) name: &'static str,
    pub(crate) file: &'static str,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) signature: &'static str,
    pub(crate) descriptor: &'static Descriptor,
}

impl Entry {
    /// Called by the expansion of `#[task]`.
    pub const fn new(
        name: &'static str,
        file: &'static str,
        line: u32,
        column: u32,
        signature: &'static str,
        descriptor: &'static Descriptor,
    ) -> Self {
        Entry { name, file, line, column, signature, descriptor }
    }
}

/// A function under `#[procession::main]`.
#[derive(Debug)]
pub struct Main {
    module: &'static str,
}

impl Main {
    /// Called by the expansion of `#[main]`.
    pub const fn new(module: &'static str) -> Self {
        Main { module }
    }

    /// Whether the function is at the root of its crate, where a program's own `main` is. A merged
    /// doctest, for one, has its `main` in a module, and another one that runs first.
    pub(crate) fn is_at_root(&self) -> bool {
        !self.module.contains("::")
    }
}

/// Whether this program has a `main` under `#[procession::main]`, in which a worker takes over.
pub(crate) fn waits_for_main() -> bool {
    PROCESSION_0_1_MAINS.iter().any(Main::is_at_root)
}

/// What runs a callable in a worker: one static for each callable type.
#[repr(C)]
pub struct Descriptor {
    magic: u64,
    type_id: fn() -> TypeId,
    name: fn() -> &'static str,
    prepare: Prepare,
}

/// Makes a callable of what was bound to it.
pub(crate) type Prepare = fn(&[u8], Witness) -> Result<Box<dyn Run>, codec::Error>;

// SAFETY: `repr(C)`, and `magic` is first, a `u64`, and `MAGIC` in each value, because `new` is
// the only constructor and fields are private to this file. The number was drawn at random and
// stands nowhere else. Function pointers have no interior mutability.
unsafe impl Marked for Descriptor {
    const MAGIC: u64 = 0x8d3f_6b0e_c1a7_5294;
}

/// Proof that code runs for a [`Descriptor`] that somebody had in hand, and so that a value of the
/// callable existed: see [`Descriptor::new`].
pub struct Witness(());

impl Descriptor {
    /// A descriptor of one callable type. It must only be handed out for a value of that type.
    pub(crate) const fn new(
        type_id: fn() -> TypeId,
        name: fn() -> &'static str,
        prepare: Prepare,
    ) -> Self {
        Descriptor { magic: Self::MAGIC, type_id, name, prepare }
    }

    /// The callable's type, for telling callables apart within one process.
    pub(crate) fn type_id(&self) -> TypeId {
        (self.type_id)()
    }

    /// The name of the callable's type, for people.
    pub(crate) fn name(&self) -> &'static str {
        (self.name)()
    }

    /// Makes the callable, given what was bound to it: see `TaskFn::bound`.
    ///
    /// # Errors
    /// When the bound arguments can't be decoded.
    pub(crate) fn prepare(&self, bound: &[u8]) -> Result<Box<dyn Run>, codec::Error> {
        (self.prepare)(bound, Witness(()))
    }

    /// Tells one callable type from another, in all processes of one image.
    fn type_hash(&self) -> u64 {
        let mut hash = Fnv::default();
        self.type_id().hash(&mut hash);
        hash.write(self.name().as_bytes());
        hash.finish()
    }
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Descriptor").field(&self.name()).finish()
    }
}

/// A callable that is ready to run, any number of times.
pub(crate) trait Run {
    /// Decodes the arguments, calls, and appends the encoded result; on an error `result` is as it
    /// was. A panic of the callable passes through. Arguments and result are typed ones, or postcard's.
    fn run(&self, args: Args<'_>, typed: bool, result: &mut Vec<u8>) -> Result<Ran, RunError>;

    /// What is known of the sizes of typed arguments and results.
    fn sizes(&self) -> Sizes;

    /// Runs items of a shift until there is none left, or one's arguments can't be decoded. For arguments
    /// and results of fixed sizes. A panic of the callable passes through.
    fn run_shift(&self, shift: &mut Shift<'_>) -> Result<(), codec::Error>;
}

/// Encoded arguments.
pub(crate) enum Args<'a> {
    Whole(&'a [u8]),
    /// Typed ones that end with a tail, in memory of its own.
    Apart(&'a [u8], Vec<u8>),
}

/// What a result has besides the bytes that were appended.
pub(crate) struct Ran {
    /// The handles in it.
    pub(crate) handles: Vec<Object>,
    /// Long bytes that follow. Then there are no handles.
    pub(crate) tail: Option<LongBytes>,
}

/// The bytes of typed arguments and of a typed result, where they are the same for all values.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Sizes {
    pub(crate) args: Option<usize>,
    pub(crate) result: Option<usize>,
}

impl Sizes {
    /// How many bytes a result takes among others: one, where it has none, so that they can be counted.
    pub(crate) fn slot(self) -> Option<usize> {
        self.result.map(|size| size.max(1))
    }
}

/// Why a call has no result although the callable did not panic.
#[derive(Clone, Debug)]
pub(crate) enum RunError {
    /// The arguments can't be decoded; the callable was not called.
    Args(codec::Error),
    /// The callable returned, but its result can't be encoded.
    Result(codec::Error),
}

/// What a message runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Callee {
    /// The entry with this index in the dispatch table.
    Entry(u32),
    /// The static descriptor at this offset from the module's base.
    Static {
        /// Bytes from the module's base.
        offset: u64,
        /// What the descriptor's type hash must be.
        type_hash: u64,
    },
}

impl Callee {
    /// Bytes of an encoded callee: a tag and two numbers.
    pub(crate) const LEN: usize = 17;
    const TAG_ENTRY: u8 = 0;
    const TAG_STATIC: u8 = 1;

    /// Names a callable that has no entry.
    pub(crate) fn of_static(descriptor: &'static Descriptor) -> Self {
        Callee::Static {
            offset: Module::current().offset_of(descriptor),
            type_hash: descriptor.type_hash(),
        }
    }

    /// As bytes, little endian.
    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let (tag, first, second) = match *self {
            Callee::Entry(index) => (Self::TAG_ENTRY, u64::from(index), 0),
            Callee::Static { offset, type_hash } => (Self::TAG_STATIC, offset, type_hash),
        };
        let mut bytes = [tag; Self::LEN];
        bytes[1..9].copy_from_slice(&first.to_le_bytes());
        bytes[9..].copy_from_slice(&second.to_le_bytes());
        bytes
    }

    /// From bytes, which may be anything: `None` for those that `encode` never gives.
    pub(crate) fn decode(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let [tag, numbers @ ..] = bytes;
        let (first, second) = numbers.split_at(8);
        let first = u64::from_le_bytes(first.try_into().ok()?);
        let second = u64::from_le_bytes(second.try_into().ok()?);
        match (*tag, second) {
            (Self::TAG_ENTRY, 0) => u32::try_from(first).ok().map(Callee::Entry),
            (Self::TAG_STATIC, _) => Some(Callee::Static { offset: first, type_hash: second }),
            _ => None,
        }
    }

    /// Finds what is named, trusting none of the numbers.
    ///
    /// # Errors
    /// Says why this program has no such callable.
    pub(crate) fn resolve(&self) -> Result<&'static Descriptor, String> {
        match *self {
            Callee::Entry(index) => entry(index).map(|entry| entry.descriptor),
            Callee::Static { offset, type_hash } => {
                let why = match Module::current().static_at::<Descriptor>(offset) {
                    Ok(found) if found.type_hash() == type_hash => return Ok(found),
                    Ok(found) => format!("there is another callable there, `{}`", found.name()),
                    Err(BadOffset::Outside) => "it is outside the program's constants".to_owned(),
                    Err(BadOffset::Unaligned) => "it is not aligned".to_owned(),
                    Err(BadOffset::NoMagic) => "no callable is there".to_owned(),
                };
                Err(format!(
                    "offset {offset:#x} names no callable of this program: {why}; \
                     parent and worker must run the same executable"
                ))
            }
        }
    }

    /// The callable's name for messages to people: a task's name in the table, or the name of the
    /// type, or what could not be resolved.
    #[cfg(test)]
    pub(crate) fn name(&self) -> String {
        match *self {
            Callee::Entry(index) => match entry(index) {
                Ok(entry) => entry.name.to_owned(),
                Err(_) => format!("task {index}"),
            },
            Callee::Static { offset, .. } => match self.resolve() {
                Ok(descriptor) => descriptor.name().to_owned(),
                Err(_) => format!("callable at {offset:#x}"),
            },
        }
    }
}

fn entry(index: u32) -> Result<&'static Entry, String> {
    let tasks = PROCESSION_0_1_TASKS.static_slice();
    let found = usize::try_from(index).ok().and_then(|index| tasks.get(index));
    found.ok_or_else(|| {
        format!(
            "task {index} is not in this program's table, which has {}; \
             parent and worker must run the same executable",
            tasks.len()
        )
    })
}

/// What parent and worker must agree on: the names and signatures of all tasks, in order.
pub(crate) fn fingerprint() -> u64 {
    let mut hash = Fnv::default();
    for entry in PROCESSION_0_1_TASKS {
        for text in [entry.name, entry.signature] {
            hash.write(text.as_bytes());
            // Ends the text: the byte is never part of UTF-8.
            hash.write(&[0xff]);
        }
    }
    hash.finish()
}

/// FNV-1a, 64 bits: the same in every process, unlike std's hashers.
/// See <http://www.isthe.com/chongo/tech/comp/fnv/>.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

//! Handles: what a process holds of the heap.

use std::any::type_name;
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::sync::{Arc, OnceLock, Weak};

use super::layout::{Entry, size_of_class};
use super::{Heap, generation_of, phase_of};
use crate::os::memory::{self, Shareable};
use crate::os::region::Window;

/// What an object is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Kind {
    Lock = 1,
    RLock,
    Semaphore,
    BoundedSemaphore,
    Condition,
    Event,
    Barrier,
    RwLock,
    Value,
    Array,
    Slice,
    Memory,
    Queue,
    JoinableQueue,
    SimpleQueue,
    /// A queue's ring; its part.
    Buffer,
    /// Handles and bytes that are on their way.
    Parcel,
    Pipe,
    /// One end of a pipe; its part.
    PipeEnd,
    /// A socket that is on its way.
    Socket,
    /// What the items of a call lie in, for the workers that share them.
    Arena,
    /// Where clients find a manager's server.
    Reception,
    /// Stands for a value that a manager's server owns: whoever has a proxy holds it.
    Managed,
}

impl Kind {
    /// Whether no process maps it writable.
    fn is_immutable(self) -> bool {
        self == Self::Slice
    }
}

/// An object's name in the whole family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Id {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Id {
    /// As one number, never 0: generations begin at 1.
    pub(crate) fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        let generation = (bits >> 32) as u32;
        (generation != 0).then_some(Self { index: bits as u32, generation })
    }
}

/// What a new block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fill {
    Zeros,
    /// Whatever was there: the caller writes before anybody reads.
    Anything,
}

/// What is asked of the heap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    /// See [`layout_of`].
    pub(crate) layout: u64,
    /// How many items, in the kind's own units. It is told to everybody who receives a handle.
    pub(crate) length: u64,
    /// How long a block it needs.
    pub(crate) bytes: u64,
    pub(crate) fill: Fill,
    /// The object that it is a part of.
    pub(crate) parent: Option<Id>,
}

impl Request {
    /// An object that needs nothing but its entry.
    pub(crate) fn small(kind: Kind) -> Self {
        Self { kind, layout: 0, length: 0, bytes: 0, fill: Fill::Zeros, parent: None }
    }
}

/// Tells types apart: a handle says of which type its items are.
pub(crate) fn layout_of<T>() -> u64 {
    // FNV-1a over the name, and the size: the same in every process of one build.
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let name = type_name::<T>().bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    size_of::<T>().to_le_bytes().into_iter().fold(name, hash)
}

/// A handle on an object. While there is one in any process, the object is there. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct Object(Arc<Hold>);

/// What a process has of an object, once for all its handles.
pub(super) struct Hold {
    heap: &'static Heap,
    entry: &'static Entry,
    id: Id,
    kind: u32,
    layout: u64,
    length: u64,
    bytes: u64,
    block: OnceLock<(Arc<Window>, usize)>,
}

impl Object {
    /// A new object, held by this process. Its inline bytes are zeros.
    ///
    /// # Errors
    /// There is no memory, or there are too many objects.
    pub(crate) fn create(request: Request) -> io::Result<Self> {
        let heap = super::get()?;
        let id = heap.allocate(&request, request.kind.is_immutable())?;
        Ok(Self::enter(heap, &mut heap.holds(), id, heap.entry(id.index)?))
    }

    /// The object with this name, which somebody else holds.
    ///
    /// # Errors
    /// There is no such object (any more).
    pub(crate) fn receive(id: Id) -> io::Result<Self> {
        let heap = super::get()?;
        let mut holds = heap.holds();
        if let Some(hold) = holds.get(&id).and_then(Weak::upgrade) {
            return Ok(Self(hold));
        }
        let entry = heap.hold(id)?;
        Ok(Self::enter(heap, &mut holds, id, entry))
    }

    fn enter(
        heap: &'static Heap,
        holds: &mut HashMap<Id, Weak<Hold>>,
        id: Id,
        entry: &'static Entry,
    ) -> Self {
        let hold = Arc::new(Hold {
            heap,
            entry,
            id,
            kind: entry.kind.load(Relaxed),
            layout: entry.layout.load(Relaxed),
            length: entry.length.load(Relaxed),
            bytes: entry.bytes.load(Relaxed),
            block: OnceLock::new(),
        });
        holds.insert(id, Arc::downgrade(&hold));
        Self(hold)
    }

    pub(crate) fn id(&self) -> Id {
        self.0.id
    }

    /// Whether it is what its receiver takes it for.
    pub(crate) fn is(&self, kind: Kind, layout: u64) -> bool {
        self.0.kind == kind as u32 && self.0.layout == layout
    }

    /// Which type its items are of: see [`layout_of`].
    pub(crate) fn layout(&self) -> u64 {
        self.0.layout
    }

    /// Whether it is of this kind, of whatever layout.
    pub(crate) fn is_of(&self, kind: Kind) -> bool {
        self.0.kind == kind as u32
    }

    /// Whether it is a part of another one.
    pub(crate) fn is_part_of(&self, whole: &Self) -> bool {
        self.0.entry.parent.load(Relaxed) == whole.id().to_bits()
    }

    /// How many items it has, as its maker has said.
    pub(crate) fn length(&self) -> u64 {
        self.0.length
    }

    /// How many bytes its block has.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.0.bytes).expect("it was mapped, or can be")
    }

    /// What lies in its entry.
    ///
    /// # Panics
    /// `T` is longer than [`INLINE`](super::INLINE): a mistake in this crate.
    #[inline]
    pub(crate) fn inline<T: Shareable>(&self) -> &T {
        const { assert!(size_of::<T>() <= super::INLINE && align_of::<T>() <= 128) };
        memory::view(&self.0.entry.inline)
            .expect("entries are aligned, and this one is long enough")
    }

    fn block(&self) -> io::Result<&(Arc<Window>, usize)> {
        if let Some(block) = self.0.block.get() {
            return Ok(block);
        }
        let entry = self.0.entry;
        let block = self.0.heap.block(entry.class.load(Relaxed), entry.block.load(Relaxed))?;
        Ok(self.0.block.get_or_init(|| block))
    }

    fn is_inside(&self, range: &Range<usize>) -> bool {
        range.start <= range.end && range.end as u64 <= self.0.bytes
    }

    /// What lies at an offset of its block.
    ///
    /// # Errors
    /// It can't be mapped, or isn't inside.
    pub(crate) fn get<T: Shareable>(&self, offset: usize) -> io::Result<&T> {
        let (window, start) = self.block()?;
        let end = offset.checked_add(size_of::<T>()).ok_or_else(outside)?;
        let inside = self.is_inside(&(offset..end));
        inside.then(|| window.get(start + offset)).flatten().ok_or_else(outside)
    }

    /// Bytes of its block that others may change meanwhile.
    ///
    /// # Errors
    /// It can't be mapped, or they aren't inside.
    pub(crate) fn atomics(&self, range: Range<usize>) -> io::Result<&[AtomicU8]> {
        let (window, start) = self.block()?;
        let inside = self.is_inside(&range);
        let slice = || window.slice(start + range.start, range.end - range.start);
        inside.then(slice).flatten().ok_or_else(outside)
    }

    /// As [`atomics`](Self::atomics), by words, from the block's beginning.
    ///
    /// # Errors
    /// It can't be mapped, or isn't so long.
    pub(crate) fn words(&self, count: usize) -> io::Result<&[AtomicU64]> {
        let (window, start) = self.block()?;
        let bytes = count.checked_mul(size_of::<u64>()).ok_or_else(outside)?;
        let slice = || window.slice(*start, count);
        self.is_inside(&(0..bytes)).then(slice).flatten().ok_or_else(outside)
    }

    /// The inline bytes by words.
    #[inline]
    pub(crate) fn inline_words(&self) -> &[AtomicU64] {
        &self.0.entry.inline
    }

    /// The window in which the block lies, and where: for plain data, see
    /// [`data`](crate::shm::data).
    pub(crate) fn window(&self) -> io::Result<(&Window, usize)> {
        let (window, start) = self.block()?;
        Ok((window, *start))
    }

    /// Writes to the block without mapping it writable.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64).ok_or_else(outside)?;
        if end > self.0.bytes {
            return Err(outside());
        }
        self.0.heap.write(self.0.id.index, offset, bytes)
    }

    /// Takes memory for its block again, after [`give_back`](Self::give_back).
    pub(crate) fn reserve(&self) -> io::Result<()> {
        self.0.heap.reserve(self.0.entry)
    }

    /// Gives the memory of its block back until somebody [reserves](Self::reserve) it. What is in it is
    /// lost.
    pub(crate) fn give_back(&self) {
        self.0.heap.give_back(self.0.entry);
    }

    /// Whether its parent holds it, besides processes.
    pub(crate) fn attach(&self, attached: bool) {
        self.0.entry.attached.store(u32::from(attached), Release);
    }

    /// Whether another process holds it, or it is on its way to one.
    pub(crate) fn is_held_elsewhere(&self) -> bool {
        let _locked = self.0.heap.lock();
        super::is_held_besides(self.0.entry, super::me())
    }

    /// Whether this is the only handle of this process.
    pub(crate) fn is_only_handle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// Whether both are the same handle of this process.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the shared object is gone, or never was")
}

fn outside() -> io::Error {
    io::Error::other("the shared object is shorter than its handle says")
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "#{}.{}", self.0.id.index, self.0.id.generation)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // A copy of this process, which a task has forked, has nothing of its own to let go.
        if !super::processes::is_me() {
            return;
        }
        let mut holds = self.heap.holds();
        let is_last = holds.get(&self.id).is_some_and(|other| std::ptr::eq(other.as_ptr(), self));
        // Otherwise the object was received again in the meantime, by another thread.
        if is_last {
            holds.remove(&self.id);
            let punch = self.heap.let_go(self.id);
            drop(holds);
            self.heap.punch(punch);
        }
    }
}

impl Heap {
    fn write(&self, index: u32, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let entry = self.entry(index)?;
        let at = super::layout::block_at(entry.class.load(Relaxed), entry.block.load(Relaxed));
        self.file.write(at.ok_or_else(outside)? + offset, bytes)
    }

    /// Enters this process as a holder of all that it has handles of: copies, from a process that it was
    /// forked from.
    pub(super) fn hold_all(&'static self) -> io::Result<()> {
        let held: Vec<Id> = self.holds().keys().copied().collect();
        held.into_iter().try_for_each(|id| self.hold(id).map(|_| ()))
    }

    /// Holds an object that exists.
    fn hold(&'static self, id: Id) -> io::Result<&'static Entry> {
        let locked = self.lock();
        if id.index >= locked.top() {
            return Err(gone());
        }
        let entry = self.entry(id.index)?;
        if generation_of(entry) != id.generation || phase_of(entry) != super::allocate::LIVE {
            return Err(gone());
        }
        // All that is read of the block later stands on this.
        if entry.bytes.load(Relaxed) > size_of_class(entry.class.load(Relaxed)) {
            return Err(io::Error::other("the shared heap is damaged"));
        }
        super::allocate::set_holder(entry, super::me(), true);
        Ok(entry)
    }
}

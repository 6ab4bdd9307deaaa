//! The shared heap: one sparse file in memory for a whole family of processes, the first one and all
//! that are started from it, at any depth. Every lock, queue and array lies in it.
//!
//! A worker gets the file's descriptor with its hello and maps nothing before it meets its first handle.
//! An object is an *entry*, of a fixed size, and a *block* if it needs more. Its name is the entry's index
//! and generation: offsets and numbers travel, never pointers.
//!
//! # Who holds what
//! An entry has one bit for each process that holds the object. A process counts its own handles
//! ([`Object`]), privately, and changes its bit when the first comes and the last goes. When a process
//! has died, whoever sees it first, mostly its parent, takes its bits back ([`reclaim`]). Besides, an
//! object is held by the queue that it is a part of, and by a *parcel*: handles that are on their way
//! (see [`parcel`]).
//!
//! ```text
//! FREE ---allocate---> MAKING ---its memory is there---> LIVE ---nobody holds it---> FREE, next generation
//!                         |                                          ^
//!                         +---the maker has died---------------------+
//! ```
//!
//! # Death at any instruction
//! All changes are made under one robust lock ([`RawLock`](super::lock::RawLock)). The truth is what stands
//! in the entries, each changed by one store; free lists and counts follow from it, and are made anew
//! ([`allocate::rebuild`]) by whoever takes the lock over from a dead owner.

mod allocate;
mod layout;
mod object;
pub(crate) mod parcel;
mod processes;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use layout::{ENTRIES, ENTRIES_A_WINDOW, ENTRY, Entry, Header, LENGTH, MAGIC};

use self::object::Hold;
use super::lock::Held;
use super::platform::{Deadline, Owner};
use crate::os::available;
use crate::os::region::{SparseFile, Window};

pub(crate) use self::layout::INLINE;
pub(crate) use self::object::{Fill, Id, Kind, Object, Request, layout_of};
pub(crate) use self::processes::{is_alive, is_known_dead, joined, me};

/// Windows that are kept mapped although no object is in use there, for the next one, or for the same one
/// again: mapping and touching anew takes longer than a short task on a part of a long slice. What they
/// take is addresses; memory goes with the objects.
const KEPT_WINDOWS: usize = 64;
const KEPT_BYTES: usize = 4 << 30;

/// The family's heap, as this process sees it.
pub(crate) struct Heap {
    file: SparseFile,
    header: Window,
    entries: Box<[OnceLock<Window>]>,
    /// What this process holds.
    holds: Mutex<HashMap<Id, Weak<Hold>>>,
    windows: Mutex<Windows>,
}

#[derive(Default)]
struct Windows {
    mapped: HashMap<(u32, u64), Weak<Window>>,
    recent: VecDeque<Arc<Window>>,
    recent_bytes: usize,
}

static HEAP: OnceLock<Heap> = OnceLock::new();

/// What the heap comes from when it is first used.
enum Source {
    /// This process is the first of its family.
    New,
    /// A parent with this number has sent the descriptor with its hello.
    Parent(OwnedFd, u32),
    /// The parent has none to send.
    Nowhere,
    /// The heap is in use.
    Spent,
}

static SOURCE: Mutex<Source> = Mutex::new(Source::New);

/// Remembers what the parent, with this number, has sent of the family's heap.
pub(crate) fn inherit(fd: Option<OwnedFd>, parent: u32) {
    *SOURCE.lock().unwrap_or_else(PoisonError::into_inner) = match fd {
        Some(fd) => Source::Parent(fd, parent),
        None => Source::Nowhere,
    };
}

/// In a process that was just forked from one that may be in the heap: joins it as a process of its own, a
/// child of `parent`, and holds what the other one holds.
///
/// # Errors
/// There are too many processes, or the other one has ended and what it held is gone.
pub(crate) fn forked(parent: u32) -> io::Result<()> {
    let Some(heap) = in_use() else { return Ok(()) };
    heap.join(Some(parent))?;
    heap.hold_all()
}

/// The heap, joined or, in the first process, made at the first call.
///
/// # Errors
/// No memory, no descriptor, a limit on the size of files, or too many processes.
pub(crate) fn get() -> io::Result<&'static Heap> {
    if let Some(heap) = HEAP.get() {
        return Ok(heap);
    }
    let mut source = SOURCE.lock().unwrap_or_else(PoisonError::into_inner);
    let (heap, parent) = match &*source {
        Source::New => (Heap::create()?, None),
        Source::Parent(fd, parent) => (Heap::open(fd.try_clone()?)?, Some(*parent)),
        // A heap of its own would have other objects under the same names.
        Source::Nowhere => {
            return Err(io::Error::other("the parent process could not make shared memory"));
        }
        Source::Spent => return Ok(HEAP.get().expect("it is set before that is said")),
    };
    heap.join(parent)?;
    let heap = HEAP.get_or_init(|| heap);
    *source = Source::Spent;
    Ok(heap)
}

/// The heap, if this process has anything to do with it.
fn in_use() -> Option<&'static Heap> {
    HEAP.get()
}

/// What a child is given: the file. This process is in the table from now on, so that the child can
/// hold something for it. None: there is no heap to be had, and the family does without.
pub(crate) fn for_children() -> Option<BorrowedFd<'static>> {
    Some(get().ok()?.file.as_fd())
}

/// Whether there is such an object, whoever holds it.
pub(crate) fn is_there(id: Id) -> bool {
    let entry = in_use().and_then(|heap| heap.entry(id.index).ok());
    entry.is_some_and(|entry| {
        generation_of(entry) == id.generation && phase_of(entry) != allocate::FREE
    })
}

/// A child of this process has ended, and all that it has sent was received: takes back all that it
/// held. True: it had a part in shared memory, and so may its own children, whom nobody looks after now:
/// they should be [swept](sweep) when they had time to end.
pub(crate) fn child_ended(pid: u32) -> bool {
    let Some(heap) = in_use() else { return false };
    let dead = heap.dead_with_pid(pid);
    dead.iter().for_each(|owner| heap.reclaim(*owner, true));
    !dead.is_empty()
}

/// Looks for the dead that nobody takes note of: those whose parents have died before them. True: orphans
/// are alive, and should be looked for again.
pub(crate) fn sweep() -> bool {
    let Some(heap) = in_use() else { return false };
    let orphans = heap.orphans();
    orphans.dead.iter().for_each(|owner| heap.reclaim(*owner, false));
    orphans.are_left
}

/// Changes whenever nobody but its server may hold a managed value any more: after a death, too.
pub(crate) fn unclaimed() -> u32 {
    in_use().map_or(0, |heap| heap.header().unclaimed.load(Acquire))
}

/// As [`sweep`], for those who wait and have nothing better to do. One process does it for the whole
/// family, now and then, so it can be called often.
pub(crate) fn look_around() {
    if in_use().is_some_and(Heap::is_time_to_sweep) {
        sweep();
    }
}

impl Heap {
    fn create() -> io::Result<Self> {
        let file = SparseFile::create(c"procession-heap", LENGTH)?;
        file.reserve(0, size_of::<Header>() as u64)?;
        let heap = Self::map(file)?;
        let namespace = available::pid_namespace().unwrap_or(0);
        heap.header().namespace.store(namespace, Relaxed);
        heap.header().magic.store(MAGIC, Release);
        Ok(heap)
    }

    fn open(fd: OwnedFd) -> io::Result<Self> {
        let heap = Self::map(SparseFile::open(fd, LENGTH)?)?;
        if heap.header().magic.load(Acquire) == MAGIC {
            Ok(heap)
        } else {
            Err(io::Error::other("the shared memory is of another version of procession"))
        }
    }

    fn map(file: SparseFile) -> io::Result<Self> {
        let header = file.window(0, size_of::<Header>().next_multiple_of(4096), true)?;
        let entries = (0..ENTRIES / ENTRIES_A_WINDOW).map(|_| OnceLock::new()).collect();
        Ok(Self { file, header, entries, holds: Mutex::default(), windows: Mutex::default() })
    }

    fn header(&self) -> &Header {
        self.header.get(0).expect("the window is as long as the header")
    }

    /// How many entries have ever been used.
    fn top(&self) -> u32 {
        self.header().top.load(Acquire).min(ENTRIES as u32)
    }

    fn entry(&self, index: u32) -> io::Result<&Entry> {
        let index = index as usize;
        let window = self.entries.get(index / ENTRIES_A_WINDOW);
        let slot = window.ok_or_else(|| io::Error::other("there is no such object"))?;
        let window = match slot.get() {
            Some(window) => window,
            None => {
                let first = index / ENTRIES_A_WINDOW * ENTRIES_A_WINDOW;
                let bytes = ENTRIES_A_WINDOW * ENTRY;
                let mapped = self.file.window(layout::entry_at(first), bytes, true)?;
                // Another thread may have been faster; then this mapping goes.
                slot.get_or_init(|| mapped)
            }
        };
        Ok(window.get(index % ENTRIES_A_WINDOW * ENTRY).expect("entries divide their window"))
    }

    /// The part of the file in which a block lies, mapped, and where it begins there.
    fn block(&self, class: u32, block: u64) -> io::Result<(Arc<Window>, usize)> {
        let bad = || io::Error::other("the shared heap is damaged");
        let at = layout::block_at(class, block).ok_or_else(bad)?;
        let length = layout::size_of_class(class).max(2 << 20);
        let (start, offset) = (at / length * length, (at % length) as usize);
        let length = usize::try_from(length).map_err(|_| bad())?;
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (class, start);
        if let Some(window) = windows.mapped.get(&key).and_then(Weak::upgrade) {
            return Ok((window, offset));
        }
        let map = || self.file.window(start, length, layout::is_writable(class));
        let window = map().or_else(|error| {
            // There may be a limit on addresses: better none in reserve than an error.
            windows.give_up_reserve();
            map().map_err(|_| error)
        });
        let window = Arc::new(window?);
        windows.mapped.retain(|_, window| window.strong_count() > 0);
        windows.mapped.insert(key, Arc::downgrade(&window));
        windows.keep(&window, length);
        Ok((window, offset))
    }

    fn holds(&self) -> MutexGuard<'_, HashMap<Id, Weak<Hold>>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the heap's lock; after the death of its owner everything is put in order first.
    fn lock(&self) -> Locked<'_> {
        let held = self.header().lock.acquire(Deadline::NEVER).expect("there is no deadline");
        let must_rebuild = held.is_poisoned();
        let mut locked = Locked { heap: self, held: Some(held) };
        if must_rebuild {
            locked.rebuild();
            locked.held.as_mut().expect("it is taken on drop").set_poisoned(false);
        }
        locked
    }
}

impl Windows {
    fn keep(&mut self, window: &Arc<Window>, bytes: usize) {
        if bytes > KEPT_BYTES / 2 {
            return;
        }
        self.recent.push_back(Arc::clone(window));
        self.recent_bytes += bytes;
        while self.recent.len() > KEPT_WINDOWS || self.recent_bytes > KEPT_BYTES {
            if let Some(oldest) = self.recent.pop_front() {
                self.recent_bytes -= oldest.length();
            }
        }
    }

    fn give_up_reserve(&mut self) {
        self.recent.clear();
        self.recent_bytes = 0;
    }
}

/// The heap, while this thread has its lock.
struct Locked<'h> {
    heap: &'h Heap,
    held: Option<Held>,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            self.heap.header().lock.release(held);
        }
    }
}

impl std::ops::Deref for Locked<'_> {
    type Target = Heap;

    fn deref(&self) -> &Heap {
        self.heap
    }
}

/// The part of an entry's state that changes with each object.
fn generation_of(entry: &Entry) -> u32 {
    (entry.state.load(Acquire) >> 8) as u32
}

fn phase_of(entry: &Entry) -> u64 {
    entry.state.load(Acquire) & 0xff
}

fn set_state(entry: &Entry, generation: u32, phase: u64) {
    entry.state.store(u64::from(generation) << 8 | phase, Release);
}

fn is_held(entry: &Entry) -> bool {
    entry.holders.iter().any(|word| word.load(Relaxed) != 0)
}

/// Whether anybody but that process holds it, a parcel included.
fn is_held_besides(entry: &Entry, owner: Owner) -> bool {
    let slot = processes::slot_of(owner);
    let others = |(index, word): (usize, &AtomicU64)| {
        let own = if index == slot / 64 { 1 << (slot % 64) } else { 0 };
        word.load(Relaxed) & !own != 0
    };
    entry.parcels.load(Relaxed) > 0 || entry.holders.iter().enumerate().any(others)
}

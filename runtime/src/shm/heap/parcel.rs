//! Handles on their way from one process to another, with the bytes in which they stand.
//!
//! While a message travels, its sender may let its handles go, or die; so the message holds them itself.
//! A parcel is an object that lists them: `count` names (the entry's length), 8 bytes each, and then
//! the bytes. It is held
//!
//! - by the process that makes it, until it is sent,
//! - in a queue, by the queue, until it is taken out: it is then past the queue's count of takings,
//! - on the way of a task's result, by the process that waits for it, from before it is sent,
//! - by the process that opens it, until all handles have been received.
//!
//! Whoever holds a parcel holds its contents: each counts the parcels that it is in. That count is
//! changed under the heap's lock, with the parcel's length as the truth from which it can be made anew.

use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::allocate::{LIVE, set_holder};
use super::layout::Entry;
use super::object::{Fill, Id, Kind, Object, Request};
use super::{Locked, generation_of, phase_of};
use crate::os::memory;
use crate::shm::channel;

const NAME: usize = size_of::<u64>();

/// The most handles in one message.
pub(crate) const MOST: usize = 1 << 20;

/// Makes a parcel, held by this process.
///
/// # Errors
/// There is no memory, or there are more than [`MOST`] handles.
pub(crate) fn pack(parent: Option<Id>, contents: &[Object], bytes: &[u8]) -> io::Result<Object> {
    let mut ids: Vec<Id> = contents.iter().map(Object::id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() > MOST {
        return Err(io::Error::other(format!("a message holds at most {MOST} shared objects")));
    }
    let names = ids.len() * NAME;
    let parcel = Object::create(Request {
        bytes: (names + bytes.len()) as u64,
        fill: Fill::Anything,
        parent,
        ..Request::small(Kind::Parcel)
    })?;
    if !bytes.is_empty() {
        memory::copy_in(parcel.atomics(names..names + bytes.len())?, bytes);
    }
    if !ids.is_empty() {
        let block = parcel.atomics(0..names)?;
        for (name, id) in block.chunks_exact(NAME).zip(&ids) {
            memory::copy_in(name, &id.to_bits().to_le_bytes());
        }
        let heap = super::get()?;
        let _locked = heap.lock();
        let entry = heap.entry(parcel.id().index)?;
        for id in &ids {
            heap.entry(id.index)?.parcels.fetch_add(1, Relaxed);
        }
        entry.length.store(ids.len() as u64, Release);
    }
    Ok(parcel)
}

/// Appends the bytes in a parcel to `to`.
///
/// # Errors
/// It can't be mapped.
pub(crate) fn bytes(parcel: &Object, to: &mut Vec<u8>) -> io::Result<()> {
    let names = count(parcel)? * NAME;
    if names < parcel.bytes() {
        memory::copy_owned(parcel.atomics(names..parcel.bytes())?, to);
    }
    Ok(())
}

/// How many bytes a parcel has.
///
/// # Errors
/// It is damaged.
pub(crate) fn length(parcel: &Object) -> io::Result<usize> {
    Ok(parcel.bytes() - count(parcel)? * NAME)
}

fn count(parcel: &Object) -> io::Result<usize> {
    let count = super::get()?.entry(parcel.id().index)?.length.load(Acquire);
    let fits = usize::try_from(count).ok().filter(|count| *count <= parcel.bytes() / NAME);
    fits.ok_or_else(|| io::Error::other("the shared heap is damaged"))
}

/// From now on the process with this number holds the parcel, too, for the next time it looks.
///
/// # Errors
/// There is no such process.
pub(crate) fn give(parcel: &Object, pid: u32) -> io::Result<()> {
    let heap = super::get()?;
    let nobody = || io::Error::other("the parent has no part in shared memory");
    let owner = heap.owner_of(pid).ok_or_else(nobody)?;
    let _locked = heap.lock();
    if !heap.has_slot(owner) {
        return Err(nobody());
    }
    set_holder(heap.entry(parcel.id().index)?, owner, true);
    Ok(())
}

/// The parcel is about to be put into its queue, as the message of this number.
pub(crate) fn attach(parcel: Id, number: u64) {
    if let Some(entry) = entry_of(parcel) {
        entry.number.store(number, Relaxed);
        entry.attached.store(1, Release);
    }
}

/// The parcel will never be in its queue: its maker was killed.
pub(crate) fn abandon(parcel: Id) {
    if let Some(entry) = entry_of(parcel) {
        entry.attached.store(0, Release);
        // If nobody holds it, it goes with this handle.
        drop(Object::receive(parcel));
    }
}

fn entry_of(parcel: Id) -> Option<&'static Entry> {
    let entry = super::get().ok()?.entry(parcel.index).ok()?;
    let is_parcel = entry.kind.load(Relaxed) == Kind::Parcel as u32;
    (is_parcel && generation_of(entry) == parcel.generation).then_some(entry)
}

/// What a parcel lists.
///
/// # Errors
/// It can't be mapped.
pub(super) fn contents(heap: &Locked<'_>, entry: &Entry) -> io::Result<Vec<Id>> {
    let count = entry.length.load(Acquire).min(entry.bytes.load(Relaxed) / NAME as u64);
    if phase_of(entry) != LIVE || count == 0 || count > MOST as u64 {
        return Ok(Vec::new());
    }
    let (window, start) = heap.block(entry.class.load(Relaxed), entry.block.load(Relaxed))?;
    let Some(names) = window.slice(start, count as usize * NAME) else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    memory::copy_out(names, &mut bytes);
    let name = |bytes: &[u8]| u64::from_le_bytes(*bytes.first_chunk().expect("eight bytes each"));
    Ok(bytes.chunks_exact(NAME).filter_map(|bytes| Id::from_bits(name(bytes))).collect())
}

/// Whether a queue still has its parcel with this number: whoever takes it out counts it.
pub(super) fn is_in_queue(heap: &Locked<'_>, queue: &Entry, number: u64) -> bool {
    let block = heap.block(queue.class.load(Relaxed), queue.block.load(Relaxed));
    // What can't be looked into is taken for there: better a leak than a hole in the queue.
    block.map_or(true, |(window, start)| channel::has_not_taken(&window, start, number))
}

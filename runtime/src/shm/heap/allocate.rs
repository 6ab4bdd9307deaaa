//! Making and freeing objects: all of it under the heap's lock, by one store each that counts.

use std::io;
use std::sync::atomic::Ordering::{Relaxed, Release};

use super::layout::{
    CLASSES, ENTRIES, ENTRIES_A_STEP, ENTRY, Entry, PAGE, block_at, class_of, entry_at,
};
use super::object::{Fill, Id, Kind, Request};
use super::processes::{holds, slot_of};
use super::{Heap, Locked, generation_of, is_held, is_held_besides, me, phase_of, set_state};
use crate::shm::channel;
use crate::shm::platform::Owner;

pub(super) const FREE: u64 = 0;
pub(super) const MAKING: u64 = 1;
pub(super) const LIVE: u64 = 2;

/// Free entries keep their blocks' memory, for the next object, up to this much.
const KEEP: u64 = 256 << 20;
/// Longer blocks are made empty by giving their memory back, not by writing zeros.
const WORTH_PUNCHING: u64 = 1 << 20;

pub(super) fn set_holder(entry: &Entry, owner: Owner, held: bool) {
    let slot = slot_of(owner);
    let (word, bit) = (&entry.holders[slot / 64], 1 << (slot % 64));
    if held {
        word.fetch_or(bit, Relaxed)
    } else {
        word.fetch_and(!bit, Relaxed)
    };
}

/// Where a block begins in the file.
fn place(entry: &Entry) -> io::Result<u64> {
    let at = block_at(entry.class.load(Relaxed), entry.block.load(Relaxed));
    at.ok_or(io::Error::from(io::ErrorKind::OutOfMemory))
}

impl Heap {
    /// A new object that this process holds.
    pub(super) fn allocate(&self, request: &Request, immutable: bool) -> io::Result<Id> {
        let too_long = || io::Error::from(io::ErrorKind::OutOfMemory);
        let class = class_of(request.bytes, immutable).ok_or_else(too_long)?;
        let taken = self.lock().take_entry(class, request);
        let id = taken?;
        // Memory is taken outside of the lock: it may be much. If this process dies meanwhile, the entry
        // is freed with all that it holds.
        if let Err(error) = self.give_memory(id.index, request) {
            let punch = self.let_go(id);
            self.punch(punch);
            return Err(error);
        }
        set_state(self.entry(id.index)?, id.generation, LIVE);
        Ok(id)
    }

    fn give_memory(&self, index: u32, request: &Request) -> io::Result<()> {
        let entry = self.entry(index)?;
        if request.fill == Fill::Zeros && entry.committed.load(Relaxed) > 0 {
            if request.bytes > WORTH_PUNCHING {
                self.give_back(entry);
            }
            if entry.committed.load(Relaxed) > 0 {
                self.file.zero(place(entry)?, request.bytes)?;
            }
        }
        self.reserve(entry)
    }

    /// Takes memory for a block, if it hasn't got it. Only a holder does this.
    pub(super) fn reserve(&self, entry: &Entry) -> io::Result<()> {
        let need = entry.bytes.load(Relaxed).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        let committed = entry.committed.load(Relaxed);
        if committed < need {
            let (at, length) = (place(entry)? + committed, need - committed);
            if let Err(error) = self.file.reserve(at, length) {
                // A part of it may have been taken.
                let _ = self.file.give_back(at, length);
                return Err(error);
            }
            entry.committed.store(need, Relaxed);
        }
        Ok(())
    }

    /// Gives the memory of a block back. If that fails, it stays with the block, for its next object.
    pub(super) fn give_back(&self, entry: &Entry) {
        let committed = entry.committed.load(Relaxed);
        let given = place(entry).and_then(|at| self.file.give_back(at, committed));
        // Only now: a block that has no memory, as it says, is all zeros.
        if given.is_ok() {
            entry.committed.store(0, Relaxed);
        }
    }

    /// This process holds the object no longer. What comes back is to be [punched](Self::punch).
    #[must_use]
    pub(super) fn let_go(&self, id: Id) -> Vec<u32> {
        let locked = self.lock();
        match self.entry(id.index) {
            Ok(entry) if generation_of(entry) == id.generation => {
                set_holder(entry, me(), false);
                locked.free_if_unheld(id.index)
            }
            _ => Vec::new(),
        }
    }

    /// Takes back all that a dead process has held; and, if all that it has sent to this process was
    /// received, what it was about to give to this process, too.
    pub(super) fn reclaim(&self, dead: Owner, all_received: bool) {
        let received = self.holds();
        let mut punch = Vec::new();
        {
            let locked = self.lock();
            // Somebody else may have been here, and the slot may be another process's by now.
            if !self.has_slot(dead) {
                return;
            }
            for index in 0..locked.top() {
                let Ok(entry) = self.entry(index) else { continue };
                if phase_of(entry) == FREE {
                    continue;
                }
                let lost = all_received
                    && entry.kind.load(Relaxed) == Kind::Parcel as u32
                    && entry.creator.load(Relaxed) == dead.bits()
                    && holds(entry, slot_of(me()))
                    && !received.contains_key(&Id { index, generation: generation_of(entry) });
                if lost {
                    set_holder(entry, me(), false);
                }
                if lost || holds(entry, slot_of(dead)) {
                    set_holder(entry, dead, false);
                    punch.extend(locked.free_if_unheld(index));
                }
            }
            self.free_slot(dead);
        }
        drop(received);
        self.punch(punch);
    }

    /// Gives the memory of free entries back that would keep too much. They have been taken off the
    /// free lists for that, as if this process made objects of them.
    pub(super) fn punch(&self, entries: Vec<u32>) {
        for index in entries {
            let Ok(entry) = self.entry(index) else { continue };
            self.give_back(entry);
            self.lock().put_away(index, entry);
        }
    }
}

impl Locked<'_> {
    fn take_entry(&self, class: u32, request: &Request) -> io::Result<Id> {
        let index = match self.pop(class) {
            Some(index) => index,
            None => self.new_entry(class)?,
        };
        let entry = self.entry(index)?;
        let generation = generation_of(entry).max(1);
        entry.kind.store(request.kind as u32, Relaxed);
        entry.creator.store(me().bits(), Relaxed);
        entry.layout.store(request.layout, Relaxed);
        entry.length.store(request.length, Relaxed);
        entry.bytes.store(request.bytes, Relaxed);
        entry.attached.store(0, Relaxed);
        entry.parts.store(0, Relaxed);
        entry.parcels.store(0, Relaxed);
        entry.number.store(0, Relaxed);
        entry.inline.iter().for_each(|word| word.store(0, Relaxed));
        entry.holders.iter().for_each(|word| word.store(0, Relaxed));
        entry.parent.store(request.parent.map_or(0, Id::to_bits), Relaxed);
        set_holder(entry, me(), true);
        set_state(entry, generation, MAKING);
        self.count_part(entry, 1);
        Ok(Id { index, generation })
    }

    /// Counts a part with its parent, if that is still there.
    fn count_part(&self, entry: &Entry, change: u32) {
        let Some(parent) = Id::from_bits(entry.parent.load(Relaxed)) else { return };
        if let Ok(parent_entry) = self.entry(parent.index)
            && generation_of(parent_entry) == parent.generation
        {
            parent_entry.parts.fetch_add(change, Relaxed);
        }
    }

    fn pop(&self, class: u32) -> Option<u32> {
        let head = &self.header().free[class as usize];
        let index = head.load(Relaxed).checked_sub(1)?;
        let entry = self.entry(index).ok()?;
        if phase_of(entry) != FREE || entry.class.load(Relaxed) != class {
            // Somebody has written where nobody writes. What is left of the order is made anew.
            self.rebuild();
            return None;
        }
        head.store(entry.next.load(Relaxed), Relaxed);
        self.header().kept.fetch_sub(entry.committed.load(Relaxed), Relaxed);
        Some(index)
    }

    fn push(&self, index: u32, entry: &Entry) {
        let class = entry.class.load(Relaxed) as usize % CLASSES;
        let head = &self.header().free[class];
        entry.next.store(head.load(Relaxed), Relaxed);
        head.store(index + 1, Relaxed);
        self.header().kept.fetch_add(entry.committed.load(Relaxed), Relaxed);
    }

    fn new_entry(&self, class: u32) -> io::Result<u32> {
        let index = self.top();
        if index as usize == ENTRIES {
            // Entries keep their size for good.
            return Err(io::Error::other(format!(
                "there is room for {ENTRIES} shared objects, of all sizes that were ever in use"
            )));
        }
        if (index as usize).is_multiple_of(ENTRIES_A_STEP) {
            let bytes = ENTRIES_A_STEP * ENTRY;
            self.file.reserve(entry_at(index as usize), bytes as u64)?;
        }
        let entry = self.entry(index)?;
        let blocks = &self.header().blocks[class as usize];
        entry.class.store(class, Relaxed);
        entry.block.store(blocks.fetch_add(1, Relaxed), Relaxed);
        entry.committed.store(0, Relaxed);
        set_state(entry, 1, FREE);
        self.header().top.store(index + 1, Release);
        Ok(index)
    }

    /// Frees an object that nobody holds, and what it alone has held. Returns those whose memory is to
    /// be given back.
    pub(super) fn free_if_unheld(&self, index: u32) -> Vec<u32> {
        let (mut punch, mut rest) = (Vec::new(), vec![index]);
        while let Some(index) = rest.pop() {
            let Ok(entry) = self.entry(index) else { continue };
            if phase_of(entry) == FREE || is_held(entry) || self.is_kept(entry) {
                self.note_if_unclaimed(entry);
                continue;
            }
            // What can't be looked into stays, until the next one tries.
            if self.let_contents_go(entry, &mut rest).is_ok() {
                self.let_parts_go(index, entry, &mut rest);
                self.free(index, entry, &mut punch);
            }
        }
        punch
    }

    /// Lets a manager's server know that it may be the only one left that holds its value.
    fn note_if_unclaimed(&self, entry: &Entry) {
        if phase_of(entry) == LIVE
            && entry.kind.load(Relaxed) == Kind::Managed as u32
            && Owner::in_word(entry.creator.load(Relaxed))
                .is_some_and(|server| !is_held_besides(entry, server))
        {
            self.header().unclaimed.fetch_add(1, Release);
        }
    }

    /// Whether something other than a process holds it: its parent, or a parcel.
    fn is_kept(&self, entry: &Entry) -> bool {
        if entry.parcels.load(Relaxed) > 0 {
            return true;
        }
        if entry.attached.load(Relaxed) == 0 {
            return false;
        }
        let Some(parent) = Id::from_bits(entry.parent.load(Relaxed)) else { return false };
        let Ok(parent_entry) = self.entry(parent.index) else { return false };
        if generation_of(parent_entry) != parent.generation || phase_of(parent_entry) == FREE {
            return false;
        }
        // A parcel that was taken out of its queue is its taker's alone.
        let is_parcel = entry.kind.load(Relaxed) == Kind::Parcel as u32;
        let number = entry.number.load(Relaxed);
        !is_parcel || super::parcel::is_in_queue(self, parent_entry, number)
    }

    /// What a parcel has held is let go with it, and a pipe without one of its ends is closed for the
    /// other.
    fn let_contents_go(&self, entry: &Entry, rest: &mut Vec<u32>) -> io::Result<()> {
        let kind = entry.kind.load(Relaxed);
        if kind == Kind::PipeEnd as u32 && phase_of(entry) == LIVE {
            self.close_pipe(entry)?;
        }
        if kind == Kind::Parcel as u32 {
            for id in super::parcel::contents(self, entry)? {
                if let Ok(held) = self.entry(id.index)
                    && generation_of(held) == id.generation
                    && held.parcels.load(Relaxed) > 0
                {
                    held.parcels.fetch_sub(1, Relaxed);
                    rest.push(id.index);
                }
            }
        }
        Ok(())
    }

    /// What is a part of an object goes with it, unless a process holds it.
    fn let_parts_go(&self, index: u32, entry: &Entry, rest: &mut Vec<u32>) {
        let mut parts = entry.parts.load(Relaxed);
        let whole = Id { index, generation: generation_of(entry) }.to_bits();
        for part in 0..self.top() {
            if parts == 0 {
                break;
            }
            let Ok(part_entry) = self.entry(part) else { break };
            if phase_of(part_entry) != FREE && part_entry.parent.load(Relaxed) == whole {
                part_entry.parent.store(0, Relaxed);
                part_entry.attached.store(0, Relaxed);
                rest.push(part);
                parts -= 1;
            }
        }
    }

    fn close_pipe(&self, end: &Entry) -> io::Result<()> {
        let Some(pipe) = Id::from_bits(end.parent.load(Relaxed)) else { return Ok(()) };
        let entry = self.entry(pipe.index)?;
        if generation_of(entry) == pipe.generation && phase_of(entry) == LIVE {
            let (window, start) =
                self.block(entry.class.load(Relaxed), entry.block.load(Relaxed))?;
            channel::hang_up(&window, start);
        }
        Ok(())
    }

    /// An entry that this process alone has, without an object, becomes free.
    fn put_away(&self, index: u32, entry: &Entry) {
        set_holder(entry, me(), false);
        set_state(entry, generation_of(entry).wrapping_add(1).max(1), FREE);
        self.push(index, entry);
    }

    fn free(&self, index: u32, entry: &Entry, punch: &mut Vec<u32>) {
        self.count_part(entry, u32::MAX);
        let generation = generation_of(entry).wrapping_add(1).max(1);
        let committed = entry.committed.load(Relaxed);
        let kept = self.header().kept.load(Relaxed).saturating_add(committed);
        if committed > 0 && kept > KEEP {
            // Held by this process until the memory is back; see `punch`.
            entry.parent.store(0, Relaxed);
            entry.attached.store(0, Relaxed);
            entry.parts.store(0, Relaxed);
            entry.kind.store(0, Relaxed);
            set_holder(entry, me(), true);
            set_state(entry, generation, MAKING);
            punch.push(index);
        } else {
            set_state(entry, generation, FREE);
            self.push(index, entry);
        }
    }

    /// Makes all that follows from the entries anew: free lists, counts, and how far blocks are used.
    pub(super) fn rebuild(&self) {
        let header = self.header();
        header.free.iter().for_each(|head| head.store(0, Relaxed));
        header.kept.store(0, Relaxed);
        let entries = || (0..self.top()).filter_map(|index| Some((index, self.entry(index).ok()?)));
        let parcels =
            || entries().filter(|(_, entry)| entry.kind.load(Relaxed) == Kind::Parcel as u32);
        let contents: io::Result<Vec<_>> =
            parcels().map(|(_, entry)| super::parcel::contents(self, entry)).collect();
        for (_, entry) in entries() {
            entry.parts.store(0, Relaxed);
            // Where one can't be looked into, the old counts are better: at worst too high.
            if contents.is_ok() {
                entry.parcels.store(0, Relaxed);
            }
            let class = entry.class.load(Relaxed) as usize % CLASSES;
            // Each block has come with an entry of its own, so there can't be more of them.
            let used = entry.block.load(Relaxed).saturating_add(1);
            if used <= ENTRIES as u64 {
                header.blocks[class].fetch_max(used, Relaxed);
            }
        }
        for (index, entry) in entries() {
            if phase_of(entry) == FREE {
                self.push(index, entry);
                continue;
            }
            self.count_part(entry, 1);
        }
        for id in contents.into_iter().flatten().flatten() {
            if let Ok(held) = self.entry(id.index)
                && generation_of(held) == id.generation
            {
                held.parcels.fetch_add(1, Relaxed);
            }
        }
        // What the dead owner was freeing may be held by nobody now.
        for index in 0..self.top() {
            let punch = self.free_if_unheld(index);
            // Not worth a look at how much is kept: it goes back with the next one.
            for index in punch {
                if let Ok(entry) = self.entry(index) {
                    self.put_away(index, entry);
                }
            }
        }
    }
}

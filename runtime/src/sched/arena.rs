//! The memory in which the items of a call lie for all workers of a pool: see [`Board`].
//!
//! An arena is an object of the family's heap. It is used again for the next call that fits; so the
//! pages are there already, and the workers have them mapped.

use std::io;
use std::sync::{Mutex, PoisonError};

use crate::os::memory::copy_in;
use crate::shm::board::{Board, GENERATIONS};
use crate::shm::heap::{Fill, Kind, Object, Request};
use crate::shm::system::System;
use crate::transport::board::{INPUTS, LARGEST_KEPT};
use crate::transport::message::Inputs;

/// Calls with more bytes of arguments go through the workers' own channels.
const LARGEST: usize = 64 << 20;

/// So do those whose arguments are longer than this on average: they would be copied once more.
const LONGEST_ITEM: usize = 32 << 10;

/// So many arenas are kept for the next call.
const KEPT_COUNT: usize = 2;

/// The smallest arena.
const SMALLEST: usize = 64 << 10;

/// Memory with a board and the items that can be claimed there.
pub(super) struct Arena {
    object: Object,
    generation: u32,
    /// Where it stands where each item begins, if that isn't known otherwise.
    starts: usize,
}

impl Arena {
    pub(super) fn board(&self) -> &Board<System> {
        self.object.get(0).expect("it was mapped when it was filled")
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    pub(super) fn name(&self) -> u64 {
        self.object.id().to_bits()
    }

    pub(super) fn starts(&self) -> u64 {
        self.starts as u64
    }

    /// The arena that an object is.
    fn of(object: Object) -> io::Result<Self> {
        let generation = object.get::<Board<System>>(0)?.generation();
        Ok(Self { object, generation, starts: 0 })
    }

    /// Opens the board; what can be claimed is there.
    fn open(&mut self) {
        self.generation = (self.generation + 1) % GENERATIONS;
        self.board().open(self.generation);
    }

    /// Copies the inputs in.
    fn fill(&mut self, inputs: &Inputs) -> io::Result<()> {
        let memory = self.object.atomics(0..self.object.bytes())?;
        let mut at = INPUTS;
        for part in inputs.parts() {
            copy_in(&memory[at..], part);
            at += part.len();
        }
        self.starts = 0;
        if inputs.fixed_size().is_none() {
            self.starts = starts_at(inputs);
            let starts: Vec<u8> =
                inputs.starts().flat_map(|start| (start as u32).to_le_bytes()).collect();
            copy_in(&memory[self.starts..], &starts);
        }
        Ok(())
    }
}

fn starts_at(inputs: &Inputs) -> usize {
    INPUTS + inputs.bytes().next_multiple_of(8)
}

fn needed(inputs: &Inputs) -> usize {
    match inputs.fixed_size() {
        Some(_) => INPUTS + inputs.bytes(),
        None => starts_at(inputs) + 4 * (inputs.len() + 1),
    }
}

/// Whether so many inputs of so many bytes should lie in an arena.
fn is_worth_it(count: usize, bytes: usize) -> bool {
    count > 1 && bytes <= LARGEST && bytes / count <= LONGEST_ITEM
}

/// A pool's arenas that are not in use.
#[derive(Default)]
pub(super) struct Arenas(Mutex<Vec<Arena>>);

impl Arenas {
    /// An arena with these inputs; none where that isn't worth it, or there is no memory. Then the inputs
    /// are where they can be sent from.
    pub(super) fn fill(&self, inputs: &mut Inputs) -> Option<Arena> {
        let is_worth_it = is_worth_it(inputs.len(), inputs.bytes());
        if let Some(memory) = inputs.memory().filter(|_| is_worth_it)
            && let Ok(mut arena) = Arena::of(memory.clone())
        {
            arena.open();
            return Some(arena);
        }
        inputs.fetch();
        if !is_worth_it {
            return None;
        }
        let mut arena = self.with(needed(inputs))?;
        arena.fill(inputs).ok()?;
        arena.open();
        Some(arena)
    }

    /// Memory for so many inputs of this size, to be written from [`INPUTS`] on; none where that isn't worth
    /// it, or there is none.
    pub(super) fn memory_for(&self, count: usize, size: usize) -> Option<Object> {
        let bytes = count.checked_mul(size).filter(|bytes| is_worth_it(count, *bytes))?;
        Some(self.with(INPUTS + bytes)?.object)
    }

    /// An arena of this size.
    fn with(&self, size: usize) -> Option<Arena> {
        self.take(size).or_else(|| Arena::of(create(size).ok()?).ok())
    }

    /// The smallest that is large enough.
    fn take(&self, size: usize) -> Option<Arena> {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = spare.iter().enumerate().filter(|(_, arena)| arena.object.bytes() >= size);
        let (at, _) = fits.min_by_key(|(_, arena)| arena.object.bytes())?;
        Some(spare.swap_remove(at))
    }

    /// Takes one back that no worker looks into any more.
    pub(super) fn give_back(&self, arena: Arena) {
        let mut dropped = None;
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if arena.object.bytes() <= LARGEST_KEPT {
            spare.push(arena);
            if spare.len() > KEPT_COUNT {
                let smallest = (0..spare.len()).min_by_key(|at| spare[*at].object.bytes());
                dropped = smallest.map(|at| spare.swap_remove(at));
            }
        } else {
            dropped = Some(arena);
        }
        drop(spare);
        // Without the lock: giving memory back takes its time.
        drop(dropped);
    }
}

fn create(size: usize) -> io::Result<Object> {
    Object::create(Request {
        kind: Kind::Arena,
        layout: 0,
        length: 0,
        bytes: size.next_power_of_two().max(SMALLEST) as u64,
        fill: Fill::Anything,
        parent: None,
    })
}

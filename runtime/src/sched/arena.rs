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
use crate::transport::board::INPUTS;
use crate::transport::message::Inputs;

/// Calls with more bytes of arguments go through the workers' own channels.
const LARGEST: usize = 64 << 20;

/// So do those whose arguments are longer than this on average: they would be copied once more.
const LONGEST_ITEM: usize = 32 << 10;

/// Arenas up to this size are kept for the next call, and so many of them.
const KEPT: usize = 4 << 20;
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

    /// Copies the inputs in, and opens the board.
    fn fill(&mut self, inputs: &Inputs) -> io::Result<()> {
        let span = inputs.span(0..inputs.len());
        let memory = self.object.atomics(0..self.object.bytes())?;
        copy_in(&memory[INPUTS..], span.bytes());
        self.starts = 0;
        if inputs.fixed_size().is_none() {
            self.starts = starts_at(inputs);
            let starts: Vec<u8> =
                inputs.starts().flat_map(|start| (start as u32).to_le_bytes()).collect();
            copy_in(&memory[self.starts..], &starts);
        }
        self.generation = (self.generation + 1) % GENERATIONS;
        self.board().open(self.generation);
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

/// A pool's arenas that are not in use.
#[derive(Default)]
pub(super) struct Arenas(Mutex<Vec<Arena>>);

impl Arenas {
    /// An arena with these inputs; none where that isn't worth it, or there is no memory.
    pub(super) fn fill(&self, inputs: &Inputs) -> Option<Arena> {
        let is_worth_it = inputs.len() > 1
            && inputs.bytes() <= LARGEST
            && inputs.bytes() / inputs.len() <= LONGEST_ITEM;
        if !is_worth_it {
            return None;
        }
        let size = needed(inputs);
        let mut arena = match self.take(size) {
            Some(arena) => arena,
            None => Arena { object: create(size).ok()?, generation: 0, starts: 0 },
        };
        arena.fill(inputs).ok()?;
        Some(arena)
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
        if arena.object.bytes() <= KEPT {
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

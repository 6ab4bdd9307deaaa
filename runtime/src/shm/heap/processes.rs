//! The table of processes that use the heap.
//!
//! ```text
//! FREE ---compare-and-swap by a process that joins---> USED, next epoch ---its death was seen---> FREE
//! ```
//!
//! A slot's epoch tells a process from all that have had the slot before, so that what stands in a lock's
//! word is never mistaken for a later process.

use std::io;
use std::process;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::layout::{PROCESSES, Process};
use super::{Heap, in_use};
use crate::os::available::{self, Presence};
use crate::os::clock;
use crate::shm::platform::Owner;

const SLOT_BITS: u32 = PROCESSES.trailing_zeros();
const EPOCHS: u32 = 1 << (Owner::BITS - SLOT_BITS);

/// Milliseconds between two looks for dead orphans: a look reads a page of `/proc` for each process, and
/// what was held by a dead one is missed within a second.
const SWEEP_AFTER: u64 = 250;

/// This process; 0 until it joins.
static ME: AtomicU32 = AtomicU32::new(0);
static PID: AtomicU32 = AtomicU32::new(0);

/// For so many milliseconds a process that somebody has seen alive is taken to be alive still.
const SEEN_FOR: u64 = 10;

/// This process, as it stands in locks.
#[inline]
pub(crate) fn me() -> Owner {
    Owner::in_word(ME.load(Relaxed)).expect("who has a shared object has joined the heap")
}

/// As [`me`]; none: this process has nothing to do with the heap.
pub(crate) fn joined() -> Option<Owner> {
    Owner::in_word(ME.load(Relaxed))
}

/// Whether this is the process that has joined, and not one that it has forked.
pub(super) fn is_me() -> bool {
    PID.load(Relaxed) == process::id()
}

/// See [`Platform::is_alive`](crate::shm::platform::Platform::is_alive).
pub(crate) fn is_alive(owner: Owner) -> bool {
    in_use().is_none_or(|heap| heap.is_alive(owner))
}

/// See [`Platform::is_known_dead`](crate::shm::platform::Platform::is_known_dead).
pub(crate) fn is_known_dead(owner: Owner) -> bool {
    in_use().is_some_and(|heap| !heap.has_slot(owner))
}

/// A slot's state.
#[derive(Clone, Copy)]
struct State {
    pid: u32,
    epoch: u32,
    used: bool,
}

impl State {
    fn of(process: &Process) -> Self {
        let word = process.state.load(Acquire);
        let epoch = (word as u32 >> 1) % EPOCHS;
        Self { pid: (word >> 32) as u32, epoch, used: word & 1 != 0 }
    }

    fn to_word(self) -> u64 {
        u64::from(self.pid) << 32 | u64::from(self.epoch) << 1 | u64::from(self.used)
    }

    fn owner(self, slot: usize) -> Owner {
        Owner::in_word(self.epoch << SLOT_BITS | slot as u32).expect("epochs begin at 1")
    }
}

/// Which slot a process has.
pub(super) fn slot_of(owner: Owner) -> usize {
    owner.bits() as usize % PROCESSES
}

impl Heap {
    fn process(&self, slot: usize) -> &Process {
        &self.header().processes[slot]
    }

    /// Enters this process into the table, as a child of the one with the number `parent`.
    pub(super) fn join(&self, parent: Option<u32>) -> io::Result<()> {
        let namespace = available::pid_namespace().unwrap_or(0);
        let known = self.header().namespace.load(Acquire);
        if known != 0 && namespace != 0 && known != namespace {
            return Err(io::Error::other(
                "processes in different pid namespaces can't share memory: they can't see whether \
                 the others are alive",
            ));
        }
        let parent = parent.and_then(|pid| self.owner_of(pid)).map_or(0, Owner::bits);
        // Where to begin: far from those who begin at the same time, and from those that went last.
        let first = process::id() as usize;
        for round in 0..2 {
            for i in 0..PROCESSES {
                if let Some(owner) = self.take_slot((first + i) % PROCESSES, parent) {
                    ME.store(owner.bits(), Relaxed);
                    PID.store(process::id(), Relaxed);
                    return Ok(());
                }
            }
            if round == 0 {
                // Not yet: the lock needs an owner, and this process isn't one.
                self.free_the_dead();
            }
        }
        Err(io::Error::other(format!("more than {PROCESSES} processes would share memory")))
    }

    fn take_slot(&self, slot: usize, parent: u32) -> Option<Owner> {
        let process = self.process(slot);
        let before = State::of(process);
        if before.used {
            return None;
        }
        let epoch = if before.epoch + 1 < EPOCHS { before.epoch + 1 } else { 1 };
        let after = State { pid: process::id(), epoch, used: true };
        process.state.compare_exchange(before.to_word(), after.to_word(), AcqRel, Relaxed).ok()?;
        process.parent.store(u64::from(parent), Relaxed);
        if let Presence::Since(start) = available::presence(process::id()) {
            process.start.store(start, Release);
        }
        Some(after.owner(slot))
    }

    /// A last resort for a process that finds the table full: slots of the dead become free, although
    /// what they held stays held until somebody [sweeps](super::sweep).
    fn free_the_dead(&self) {
        for owner in self.orphans().dead {
            // Holders' bits stay with the slot, so a slot that holds something can't be given away.
            let holds = (0..self.top())
                .any(|index| self.entry(index).is_ok_and(|entry| holds(entry, slot_of(owner))));
            if !holds {
                self.free_slot(owner);
            }
        }
    }

    /// Makes the slot of a dead process free, once it holds nothing.
    pub(super) fn free_slot(&self, owner: Owner) {
        let process = self.process(slot_of(owner));
        let state = State::of(process);
        if state.used && state.owner(slot_of(owner)) == owner {
            process.start.store(0, Relaxed);
            process.parent.store(0, Relaxed);
            process.seen.store(0, Relaxed);
            let free = State { used: false, ..state };
            let _ =
                process.state.compare_exchange(state.to_word(), free.to_word(), AcqRel, Relaxed);
        }
    }

    /// Whether the slot is still that process's, alive or not.
    pub(super) fn has_slot(&self, owner: Owner) -> bool {
        let state = State::of(self.process(slot_of(owner)));
        state.used && state.owner(slot_of(owner)) == owner
    }

    fn is_alive(&self, owner: Owner) -> bool {
        let process = self.process(slot_of(owner));
        let state = State::of(process);
        if !state.used || state.owner(slot_of(owner)) != owner {
            return false;
        }
        // Asking the system takes some 20 µs; many may ask at once, or somebody for each try of a lock.
        let now = millis();
        let is_me = owner.bits() == ME.load(Relaxed);
        if is_me || now.wrapping_sub(process.seen.load(Relaxed)) < SEEN_FOR {
            return true;
        }
        let is_alive = runs(process, state);
        if is_alive {
            process.seen.store(now, Relaxed);
        }
        is_alive
    }

    /// Whether the last look is some time ago: then the caller is the one that looks.
    pub(super) fn is_time_to_sweep(&self) -> bool {
        let now = millis();
        let (swept, last) = (&self.header().swept, self.header().swept.load(Relaxed));
        now.saturating_sub(last) >= SWEEP_AFTER
            && swept.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    }

    /// Those with this number that have ended. It may be in use again.
    pub(super) fn dead_with_pid(&self, pid: u32) -> Vec<Owner> {
        self.used()
            .filter(|(state, _)| state.pid == pid)
            .filter(|(state, owner)| !runs(self.process(slot_of(*owner)), *state))
            .map(|(_, owner)| owner)
            .collect()
    }

    /// Those whose parent doesn't look after them any more, or who never had one. (A parent reaps its
    /// children itself: it alone knows what they have sent to it.)
    pub(super) fn orphans(&self) -> Orphans {
        let mut orphans = Orphans::default();
        for (state, owner) in self.used() {
            let process = self.process(slot_of(owner));
            let parent = Owner::in_word(process.parent.load(Relaxed) as u32);
            if parent.is_some_and(|parent| self.is_alive(parent)) {
                continue;
            }
            if !runs(process, state) {
                orphans.dead.push(owner);
            } else if parent.is_some() {
                orphans.are_left = true;
            }
        }
        orphans
    }

    /// The process with this number, if it uses the heap.
    pub(super) fn owner_of(&self, pid: u32) -> Option<Owner> {
        let alive = |(state, owner): &(State, Owner)| {
            state.pid == pid && runs(self.process(slot_of(*owner)), *state)
        };
        self.used().find(alive).map(|(_, owner)| owner)
    }

    fn used(&self) -> impl Iterator<Item = (State, Owner)> {
        (0..PROCESSES).filter_map(|slot| {
            let state = State::of(self.process(slot));
            (state.used && state.epoch > 0).then(|| (state, state.owner(slot)))
        })
    }
}

/// What became of processes without a parent.
#[derive(Default)]
pub(super) struct Orphans {
    pub(super) dead: Vec<Owner>,
    /// Whether one is alive.
    pub(super) are_left: bool,
}

fn millis() -> u64 {
    clock::nanos() / 1_000_000
}

/// Whether the process of a used slot runs: it may be another one with the same number.
fn runs(process: &Process, state: State) -> bool {
    let start = process.start.load(Acquire);
    match available::presence(state.pid) {
        Presence::Since(actual) => start == 0 || start == actual,
        Presence::Unknown => true,
        Presence::None => false,
    }
}

/// Whether the process in a slot holds an object.
pub(super) fn holds(entry: &super::layout::Entry, slot: usize) -> bool {
    entry.holders[slot / 64].load(Relaxed) & 1 << (slot % 64) != 0
}

//! The frame of results that a worker is writing: in shared memory, where it will be published from.
//!
//! ```text
//! BLANK ---a result---> OPEN ---closed: published---> BLANK
//! ```
//!
//! Each result in it is safe from the worker's death when [`Hand::fill`] has counted it; those of a tiny
//! run, [`Sheet::begin_run`], are counted by the next item's beginning. To the parent all of it is published
//! many at a time, since that costs more than a tiny result does.

use std::sync::atomic::{AtomicU8, Ordering, fence};

use super::kill_points::{Point, pass};
use super::outlet::Outlet;
use crate::os::memory::copy_in;
use crate::shm::hand::{Filled, Growth, Hand};
use crate::shm::system::System;
use crate::transport::ROOM;
use crate::transport::board::{self, HEAD, RUN_HEAD, VALUE_HEAD};
use crate::transport::frame::Header;

/// See the file's head.
#[derive(Default)]
pub(super) struct Sheet {
    work: u64,
    /// How many bytes are written; 0: the sheet is blank.
    used: usize,
    /// Where the latest run begins, its first item, and how many it has.
    run: usize,
    start: u32,
    count: u32,
    /// The room's position in the stream, if the sheet isn't blank.
    position: u64,
}

/// Inputs or results of tiny items that are run at once, in bytes: both, and where the inputs were copied
/// from, stay in a processor's first cache. Four of these, with their heads, make up a room.
const PIECE: usize = 8000;

impl Sheet {
    /// The longest result that goes here.
    pub(super) const LONGEST: usize = ROOM / 4;

    /// How many tiny items of these sizes, of arguments and of results, are best run at once.
    pub(super) fn fits(size: usize, slot: usize) -> u32 {
        const { assert!(PIECE < ROOM - HEAD - RUN_HEAD) };
        (PIECE / size.max(slot)) as u32
    }

    /// Begins a run for the results of tiny items of which `first` is the number of the first one in its
    /// range. Gives out the room for them.
    pub(super) fn begin_run<'o>(
        &mut self,
        outlet: &'o mut Outlet,
        hand: &Hand<System>,
        (work, start): (u64, u32),
        first: u32,
        (count, slot): (u32, usize),
    ) -> &'o [AtomicU8] {
        let room = self.run(outlet, hand, (work, start), count as usize * slot);
        let growth = Growth { run: self.run as u16, head: RUN_HEAD as u8, each: slot as u8 };
        hand.fill_by_begun(self.position, first, growth);
        &room[self.used..]
    }

    /// The run of tiny items is over; it has so many results, of this size.
    pub(super) fn end_run(&mut self, hand: &Hand<System>, count: u32, slot: usize) {
        self.count = count;
        self.used += count as usize * slot;
        hand.fill(self.position, self.filled());
    }

    /// Begins a run of results that together take so many bytes. Gives out the whole room.
    fn run<'o>(
        &mut self,
        outlet: &'o mut Outlet,
        hand: &Hand<System>,
        (work, start): (u64, u32),
        bytes: usize,
    ) -> &'o [AtomicU8] {
        if self.used > 0 && (self.work != work || self.used + RUN_HEAD + bytes > ROOM) {
            self.close(outlet, hand);
        }
        let position = outlet.position();
        let room = outlet.room(ROOM);
        if self.used == 0 {
            copy_in(room, &board::head(work, 0));
            (self.work, self.used, self.position) = (work, HEAD, position);
        } else {
            self.seal(room);
        }
        (self.run, self.start, self.count) = (self.used, start, 0);
        copy_in(&room[self.run..], &board::run_head(start, 0));
        self.used += RUN_HEAD;
        room
    }

    /// So much of the room is filled.
    fn filled(&self) -> Filled {
        Filled { run: self.run as u16, bytes: self.used as u16 }
    }

    /// Says in the latest run's head how many there are. Until then it has as many as were counted.
    fn seal(&mut self, room: &[AtomicU8]) {
        if self.count == 0 {
            self.used = self.run;
        } else {
            copy_in(&room[self.run..], &board::run_head(self.start, self.count));
            pass(Point::Sealed);
        }
    }

    /// Writes an item's result, of at most [`LONGEST`](Self::LONGEST) bytes; `dense` says that all results
    /// are of one size.
    pub(super) fn write(
        &mut self,
        outlet: &mut Outlet,
        hand: &Hand<System>,
        (work, item): (u64, u32),
        result: &[u8],
        dense: bool,
    ) {
        let bytes = result.len() + if dense { 0 } else { VALUE_HEAD };
        let follows = self.used > 0
            && self.work == work
            && self.start.wrapping_add(self.count) == item
            && self.used + bytes <= ROOM;
        let room =
            if follows { outlet.room(ROOM) } else { self.run(outlet, hand, (work, item), bytes) };
        if dense {
            copy_in(&room[self.used..], result);
        } else {
            copy_in(&room[self.used..], &(result.len() as u32).to_le_bytes());
            copy_in(&room[self.used + VALUE_HEAD..], result);
        }
        self.count += 1;
        self.used += bytes;
        pass(Point::Written);
        hand.fill(self.position, self.filled());
        pass(Point::Counted);
    }

    /// Publishes what is written.
    pub(super) fn close(&mut self, outlet: &mut Outlet, hand: &Hand<System>) {
        if self.used > 0 {
            self.seal(outlet.room(ROOM));
        }
        if self.used > HEAD {
            let head = board::head(self.work, self.used - Header::SIZE);
            copy_in(outlet.room(ROOM), &head);
            outlet.publish(self.used);
            pass(Point::Published);
            // What will stand there next isn't counted yet: said before anything is written there.
            hand.fill(outlet.position(), Filled::default());
            fence(Ordering::Release);
        }
        *self = Self::default();
    }
}

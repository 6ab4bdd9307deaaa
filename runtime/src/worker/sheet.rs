//! The frame of results that a worker is writing: in shared memory, where it will be published from.
//!
//! ```text
//! BLANK ---a result---> OPEN ---closed: published---> BLANK
//! ```
//!
//! Each result in it is safe from the worker's death when [`Hand::fill`] has counted it. To the parent it is
//! published many at a time, since that costs more than a tiny result does.

use std::sync::atomic::{AtomicU8, Ordering, fence};

use super::kill_points::{Point, pass};
use super::outlet::Outlet;
use crate::os::memory::copy_in;
use crate::shm::hand::{Filled, Hand};
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
}

impl Sheet {
    /// The longest result that goes here.
    pub(super) const LONGEST: usize = ROOM / 4;

    /// How many results of a size go into one run.
    pub(super) fn fits(size: usize) -> usize {
        (ROOM - HEAD - RUN_HEAD) / size
    }

    /// Begins a run of results that together take so many bytes. Gives out the room, where in it the run
    /// begins, and the room's position in the stream.
    pub(super) fn run<'o>(
        &mut self,
        outlet: &'o mut Outlet,
        hand: &Hand<System>,
        (work, start): (u64, u32),
        bytes: usize,
    ) -> (&'o [AtomicU8], usize, u64) {
        if self.used > 0 && (self.work != work || self.used + RUN_HEAD + bytes > ROOM) {
            self.close(outlet, hand);
        }
        let position = outlet.position();
        let room = outlet.room(ROOM);
        if self.used == 0 {
            copy_in(room, &board::head(work, 0));
            (self.work, self.used) = (work, HEAD);
        } else {
            self.seal(room);
        }
        (self.run, self.start, self.count) = (self.used, start, 0);
        copy_in(&room[self.run..], &board::run_head(start, 0));
        self.used += RUN_HEAD;
        (room, self.run, position)
    }

    /// So many results were written to the latest run, up to here in the room.
    pub(super) fn advance(&mut self, count: u32, used: usize) {
        self.count += count;
        self.used = used;
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
        let (room, run, position) = if follows {
            let position = outlet.position();
            (outlet.room(ROOM), self.run, position)
        } else {
            self.run(outlet, hand, (work, item), bytes)
        };
        let used = if follows { self.used } else { run + RUN_HEAD };
        if dense {
            copy_in(&room[used..], result);
        } else {
            copy_in(&room[used..], &(result.len() as u32).to_le_bytes());
            copy_in(&room[used + VALUE_HEAD..], result);
        }
        self.advance(1, used + bytes);
        pass(Point::Written);
        hand.fill(position, filled(run, self.used));
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

/// So many bytes hold results, and there the latest run begins.
#[inline(always)]
pub(super) fn filled(run: usize, bytes: usize) -> Filled {
    Filled { run: run as u16, bytes: bytes as u16 }
}

//! A range of items that a worker has claimed, and how it goes through it.
//!
//! [`Shift::begin`] and [`Shift::done`] are all that stands between two tiny items: two stores and a load
//! (see [`Hand`]), and the copy of the result to where the parent will find it.

use std::ops::Range;
use std::sync::atomic::AtomicU8;

use super::kill_points::{Point, pass};
use super::sheet::filled;
use crate::os::clock;
use crate::os::memory::copy_in;
use crate::shm::hand::{Hand, Holding};
use crate::shm::system::System;
use crate::transport::board::RUN_HEAD;

/// See the file's head.
pub(crate) struct Shift<'a> {
    hand: &'a Hand<System>,
    holding: &'a mut Holding,
    /// The items' numbers in the range that are to be run, from 1; its start is the next one.
    numbers: Range<u32>,
    /// The arguments of these.
    inputs: &'a [u8],
    /// Where results go; what is before `used` is written.
    room: &'a [AtomicU8],
    used: usize,
    /// Where the run of these results begins.
    run: usize,
    /// The room's position in the worker's stream.
    position: u64,
    timed: bool,
}

impl<'a> Shift<'a> {
    #[expect(clippy::too_many_arguments, reason = "what one loop has to do with")]
    pub(super) fn new(
        hand: &'a Hand<System>,
        holding: &'a mut Holding,
        numbers: Range<u32>,
        inputs: &'a [u8],
        room: &'a [AtomicU8],
        run: usize,
        position: u64,
        timed: bool,
    ) -> Self {
        Self { hand, holding, numbers, inputs, room, used: run + RUN_HEAD, run, position, timed }
    }

    /// Begins the next item. False: there is none.
    #[inline(always)]
    pub(crate) fn begin(&mut self) -> bool {
        let number = self.numbers.start;
        if number >= self.numbers.end || !self.hand.begin(self.holding, number) {
            return false;
        }
        pass(Point::Begun);
        if self.timed {
            self.hand.set_start(self.holding, number, clock::nanos());
        }
        self.numbers.start += 1;
        true
    }

    /// The encoded arguments of the item that has begun; all are of this size.
    #[inline(always)]
    pub(crate) fn input(&mut self, size: usize) -> &'a [u8] {
        let (input, rest) = self.inputs.split_at(size);
        self.inputs = rest;
        input
    }

    /// The item that has begun is done; its result is safe from here on.
    #[inline(always)]
    pub(crate) fn done(&mut self, result: &[u8]) {
        pass(Point::Called);
        copy_in(&self.room[self.used..], result);
        self.used += result.len();
        pass(Point::Written);
        self.hand.fill(self.position, filled(self.run, self.used));
        pass(Point::Counted);
    }

    /// The number of the item that would be next, and how many bytes of the room are written.
    pub(super) fn progress(&self) -> (u32, usize) {
        (self.numbers.start, self.used)
    }
}

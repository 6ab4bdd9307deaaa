//! A range of items that a worker has claimed, and how it goes through it.
//!
//! [`Shift::go_through`] is all that stands between two tiny items: a store and a load (see [`Hand`]), and
//! the copy of the result to where the parent will find it. What changes with each item it keeps in local
//! variables: all else would be stored and loaded again, since another process may write to shared memory
//! in between, and the compiler can't know what.

use std::ops::Range;
use std::sync::atomic::AtomicU8;

use super::kill_points::{Point, pass};
use crate::os::clock;
use crate::os::memory::copy_in;
use crate::shm::hand::{Hand, Holding};
use crate::shm::system::System;

/// See the file's head.
pub(crate) struct Shift<'a> {
    pub(super) hand: &'a Hand<System>,
    pub(super) holding: &'a mut Holding,
    /// The items' numbers in the range that are to be run, from 1; its start is the next one.
    pub(super) numbers: Range<u32>,
    /// The arguments of these.
    pub(super) inputs: &'a [u8],
    /// Where their results go.
    pub(super) room: &'a [AtomicU8],
    pub(super) timed: bool,
}

/// Where one item's result goes.
pub(crate) struct Place<'a>(&'a [AtomicU8]);

impl Shift<'_> {
    /// Runs the items one after the other, until there is none left or one fails. `run` gets the encoded
    /// arguments of each, `size` bytes, and the place for its result, `slot` bytes.
    ///
    /// # Errors
    /// That of the item that failed; it counts as one that was run.
    #[inline(always)]
    pub(crate) fn go_through<E>(
        &mut self,
        size: usize,
        slot: usize,
        mut run: impl FnMut(&[u8], Place<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { hand, timed, .. } = *self;
        let (mut inputs, mut room) = (self.inputs, self.room);
        let Range { start: mut number, end } = self.numbers;
        let mut holding = *self.holding;
        let mut result = Ok(());
        while result.is_ok() && number < end && hand.begin(&mut holding, number) {
            pass(Point::Begun);
            if timed {
                hand.set_start(&holding, number, clock::nanos());
            }
            number += 1;
            let (input, place);
            (input, inputs) = inputs.split_at(size);
            (place, room) = room.split_at(slot);
            result = run(input, Place(place));
        }
        *self.holding = holding;
        self.numbers.start = number;
        result
    }
}

impl Place<'_> {
    /// The item is done; its result is safe when the next one begins, or the shift has ended.
    #[inline(always)]
    pub(crate) fn put(self, result: &[u8]) {
        pass(Point::Called);
        copy_in(self.0, result);
        pass(Point::Written);
    }
}

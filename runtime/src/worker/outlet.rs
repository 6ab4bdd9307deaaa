//! The worker's side of the result stream, by frames.

use std::sync::atomic::AtomicU8;
use std::time::Duration;

use crate::os::exit;
use crate::transport::frame::{Header, Kind, Small};
use crate::transport::{WorkerInput, WorkerOutput, spare};

/// So long after the last task memory is given back: long results in a row reuse it.
const IDLE: Duration = Duration::from_secs(1);

pub(super) struct Outlet {
    output: Box<dyn WorkerOutput>,
    /// How many bytes were published.
    position: u64,
    /// Whether this process ends when its parent can't be reached.
    tied_to_parent: bool,
    _keeper: spare::Keeper,
}

impl Outlet {
    pub(super) fn new(output: Box<dyn WorkerOutput>, tied_to_parent: bool) -> Self {
        Self { output, position: 0, tied_to_parent, _keeper: spare::Keeper::new() }
    }

    /// Adds a frame. When it returns, the parent will get it, even if this process dies now.
    pub(super) fn put(&mut self, kind: Kind, number: u32, body: &[u8]) {
        if kind == Kind::Value && body.len() <= Small::MAX {
            self.write([&Small::to_bytes(number, body.len()), body]);
        } else {
            self.write([&Header::new(kind, number, body.len()).to_bytes(), body]);
        }
    }

    /// Adds a result that ends with long bytes, which keep to themselves on the way.
    pub(super) fn put_long(&mut self, number: u32, head: &[u8], tail: &[u8]) {
        let header = Header::with_tail(Kind::Value, number, head.len(), tail.len()).to_bytes();
        self.write([&[&header, head].concat(), tail]);
    }

    /// As [`put`](Self::put), with a body in two parts.
    pub(super) fn put_parts(&mut self, kind: Kind, number: u32, first: &[u8], second: &[u8]) {
        let header = Header::new(kind, number, first.len() + second.len()).to_bytes();
        self.write([&[&header, first].concat(), second]);
    }

    fn write(&mut self, parts: [&[u8]; 2]) {
        self.position += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let written = self.output.write(parts);
        self.reached(written);
    }

    /// How many bytes have been published.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes behind what was published, at least `least` of them.
    pub(super) fn room(&mut self, least: usize) -> &[AtomicU8] {
        match self.output.room(least) {
            Ok(room) => room,
            // Nobody is left to work for.
            Err(_) => exit::leave(0),
        }
    }

    /// Publishes the first bytes of the room.
    pub(super) fn publish(&mut self, count: usize) {
        self.position += count as u64;
        let published = self.output.publish(count);
        self.reached(published);
    }

    /// Tells the parent of all that was put.
    pub(super) fn flush(&mut self) {
        let flushed = self.output.flush();
        self.reached(flushed);
    }

    /// Gives memory back that only long results need, while nothing comes in.
    pub(super) fn rest(&mut self, input: &mut dyn WorkerInput) {
        while (self.output.is_grown() || spare::is_any()) && !input.wait(IDLE) {
            self.output.shrink();
            spare::release();
        }
    }

    /// A parent that can't be reached is gone, and nobody is left to work for.
    fn reached(&self, result: std::io::Result<()>) {
        if result.is_err() && self.tied_to_parent {
            exit::leave(0);
        }
    }
}

//! The worker's side of the result stream: gathered in the shared outbox, sent in few system calls.

use std::sync::Arc;

use crate::os::exit;
use crate::os::memory::Shared;
use crate::shm::outbox;
use crate::shm::page::Page;
use crate::transport::WorkerOutput;
use crate::transport::frame::{Header, Kind, Small};

/// Sent when this much has gathered, so that the parent can work while the worker goes on.
const ENOUGH: usize = 32 * 1024;

pub(super) struct Outlet {
    page: Arc<Shared<Page>>,
    output: Box<dyn WorkerOutput>,
    /// Whether this process ends when its parent can't be reached.
    tied_to_parent: bool,
    /// The same bytes as in the outbox, to send from.
    waiting: Vec<u8>,
}

impl Outlet {
    pub(super) fn new(
        page: Arc<Shared<Page>>,
        output: Box<dyn WorkerOutput>,
        tied_to_parent: bool,
    ) -> Self {
        Self { page, output, tied_to_parent, waiting: Vec::new() }
    }

    /// Adds a frame. When it returns, the parent will get it, even if this process dies now.
    pub(super) fn put(&mut self, kind: Kind, number: u32, body: &[u8]) {
        if kind == Kind::Value && body.len() <= Small::MAX {
            self.put_parts(&Small::to_bytes(number, body.len()), body);
        } else {
            self.put_parts(&Header::new(kind, number, body.len()).to_bytes(), body);
        }
    }

    fn put_parts(&mut self, header: &[u8], body: &[u8]) {
        if header.len() + body.len() > outbox::CAPACITY - self.waiting.len() {
            self.flush();
        }
        if header.len() + body.len() > outbox::CAPACITY {
            self.send([header, body]);
            self.page.outbox.sent(header.len() + body.len());
            return;
        }
        let before = self.waiting.len();
        self.waiting.extend_from_slice(header);
        self.waiting.extend_from_slice(body);
        self.page.outbox.push(&self.waiting[before..]);
        if self.waiting.len() >= ENOUGH {
            self.flush();
        }
    }

    /// Sends what has gathered.
    pub(super) fn flush(&mut self) {
        if !self.waiting.is_empty() {
            let mut waiting = std::mem::take(&mut self.waiting);
            self.send([&waiting, &[]]);
            self.page.outbox.sent(waiting.len());
            waiting.clear();
            self.waiting = waiting;
        }
    }

    /// A parent that can't be reached is gone, and nobody is left to work for.
    fn send(&mut self, parts: [&[u8]; 2]) {
        if self.output.send(parts).is_err() && self.tied_to_parent {
            exit::leave(0);
        }
    }
}

//! One worker's part in the work of boards: what it was told of and hasn't left.

use super::job::Work;
use super::staff::{Phase, Worker};
use crate::os::clock;
use crate::shm::hand::Running;
use crate::transport::board::Join;
use crate::transport::codec;
use crate::transport::frame::Kind;

/// A worker's part in the work of a board.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) board: u64,
    pub(super) budget: usize,
    /// The nanoseconds that each item may take.
    pub(super) limit: Option<u64>,
    /// How many bytes must have been sent until the worker has been told.
    pub(super) whole_at: u64,
    /// Whether somebody is told how far the job is.
    pub(super) reports: bool,
}

impl Worker {
    /// Tells it of a board.
    pub(super) fn take_part(&mut self, join: &Join, work: &Work, now: u64) {
        let spec = &work.job.spec;
        self.owes_from_now();
        self.queue_bound(spec.bound.as_deref(), &spec.callee);
        let budget = self.allowance;
        let mut body = Vec::new();
        let join = Join { budget: budget as u64, ..join.clone() };
        codec::encode(&join, &mut body).expect("numbers can be encoded");
        self.queue(Kind::Join, &body);
        if budget != usize::MAX {
            self.allowance = 0;
        }
        let limit = spec.time_limit.map(clock::nanos_of);
        let reports = work.job.is_urgent();
        let whole_at = self.end.queued();
        self.parts.push(Part { board: join.work, budget, limit, whole_at, reports });
        if self.has_hidden_results() {
            self.look_from(now);
        }
    }

    /// How soon it would begin: sooner for a lower number.
    pub(super) fn rank(&self) -> u32 {
        match self.phase == Phase::Ready && self.has_nothing() {
            true if self.permit.is_some() => 0,
            true => 1,
            false => 2,
        }
    }

    /// Whether it has nothing to do.
    pub(super) fn has_nothing(&self) -> bool {
        self.ledger.items() == 0 && self.parts.is_empty()
    }

    /// Whether it could do something and has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        let can_take = self.phase == Phase::Ready && self.open && !self.blocked;
        can_take && self.has_nothing() && self.allowance > 0
    }

    /// When a board's item that it has begun, or has not begun yet, may be late.
    pub(super) fn late_at(&self, now: u64) -> Option<u64> {
        let shortest = self.parts.iter().filter_map(|part| part.limit).min()?;
        let running = self.page.hand.running();
        let known = running.and_then(|running| Some((self.limit_of(running)?, running.since?)));
        // At least a millisecond, so that a limit of zero is no busy loop.
        let unknown = || now.saturating_add(shortest.max(1_000_000));
        Some(known.map_or_else(unknown, |(limit, since)| since.saturating_add(limit)))
    }

    pub(super) fn limit_of(&self, running: Running) -> Option<u64> {
        self.parts.iter().find(|part| part.board == running.work)?.limit
    }
}

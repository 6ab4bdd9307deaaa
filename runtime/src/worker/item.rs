//! What a task may know of the item that it works on, also from other threads of its process.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::life;
use crate::shm::claim::Position;

static ATTEMPT: AtomicU32 = AtomicU32::new(0);

/// The item that was begun last of those that were sent, as [`Position::pack`] gives it.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// How often the item that runs has been tried before.
pub(crate) fn attempt() -> u32 {
    ATTEMPT.load(Ordering::Relaxed)
}

/// The items that come next have been tried so often before.
pub(super) fn set_attempt(number: u32) {
    ATTEMPT.store(number, Ordering::Relaxed);
}

/// An item begins that was sent.
pub(super) fn begin(item: Position) {
    BEGUN.store(item.pack(), Ordering::Relaxed);
}

/// Whether the parent has said that the item which runs had better end.
pub(crate) fn is_stopped() -> bool {
    let Some(page) = life::page() else { return false };
    match page.hand.mark() {
        Some(mark) => page.orders.stops_held(mark),
        None => page.orders.stops_sent(BEGUN.load(Ordering::Relaxed)),
    }
}

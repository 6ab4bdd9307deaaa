//! What a parent tells a worker that is at work: words that the parent alone writes.
//!
//! A worker looks at them when it comes past. One that doesn't, or that overwrites them, gains nothing: what must
//! be, its parent brings about by other means.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// See the file's head. All are 0 as long as there is no order.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Orders {
    /// Whether it is to leave the boards that it takes part in.
    leaves: AtomicU32,
    /// The item of a board that had better end, by the mark of the worker's hand.
    held: AtomicU64,
    /// The item that was sent and had better end, by its position.
    sent: AtomicU64,
}

impl Orders {
    pub(crate) fn leave(&self) {
        self.leaves.store(1, Ordering::Release);
    }

    pub(crate) fn has_to_leave(&self) -> bool {
        self.leaves.load(Ordering::Acquire) != 0
    }

    /// False: it was said before.
    pub(crate) fn stop_held(&self, mark: u64) -> bool {
        self.held.swap(mark, Ordering::AcqRel) != mark
    }

    pub(crate) fn stops_held(&self, mark: u64) -> bool {
        self.held.load(Ordering::Acquire) == mark
    }

    /// False: it was said before.
    pub(crate) fn stop_sent(&self, item: u64) -> bool {
        self.sent.swap(item, Ordering::AcqRel) != item
    }

    pub(crate) fn stops_sent(&self, item: u64) -> bool {
        item != 0 && self.sent.load(Ordering::Acquire) == item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_for_one_item() {
        let orders = Orders::default();
        assert!(!orders.stops_sent(0) && !orders.stops_sent(5) && !orders.stops_held(5));
        assert!(orders.stop_sent(5) && !orders.stop_sent(5));
        assert!(orders.stops_sent(5) && !orders.stops_sent(6) && !orders.stops_held(5));
        assert!(orders.stop_held(7) && orders.stops_held(7));
        assert!(!orders.has_to_leave());
        orders.leave();
        assert!(orders.has_to_leave());
    }
}

//! The points on a worker's way through a board at which tests let it die.
//!
//! In any build but that of this crate's own tests, [`pass`] is nothing. There, a worker whose name says so
//! kills itself: `kill-begun-7:1` is the first worker of a pool named `kill-begun-7`, and dies when it
//! passes [`Point::Begun`] for the seventh time. Those that come after it have other numbers, and live.

/// Between which two instructions a worker is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Point {
    /// It has announced that it claims.
    Claiming,
    /// A range is its own, which its hand doesn't say yet.
    Claimed,
    /// Its hand says which.
    InHand,
    /// It has begun an item.
    Begun,
    /// The item's function has returned.
    Called,
    /// The result is written, and not counted.
    Written,
    /// It is counted.
    Counted,
    /// A run's head says how many results it has.
    Sealed,
    /// The sheet is published.
    Published,
    /// Its hand is empty.
    Resting,
    /// It has left the board.
    Left,
}

/// The worker is at this point.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn pass(_: Point) {}

#[cfg(test)]
pub(crate) use armed::{name_of, pass};

#[cfg(test)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, raise};

    use super::Point;
    use crate::worker::identity;

    /// What a pool is called whose first worker dies at its n-th pass of a point.
    pub(crate) fn name_of(point: Point, number: u64) -> String {
        format!("kill-{point:?}-{number}")
    }

    /// The worker is at this point, and may die.
    pub(crate) fn pass(point: Point) {
        static ORDER: OnceLock<Option<(String, u64)>> = OnceLock::new();
        static PASSES: AtomicU64 = AtomicU64::new(0);
        let order = ORDER.get_or_init(|| order(identity::name()));
        if let Some((name, number)) = order
            && *name == format!("{point:?}")
            && PASSES.fetch_add(1, Ordering::Relaxed) + 1 == *number
        {
            raise(Signal::SIGKILL).unwrap();
        }
    }

    fn order(worker: &str) -> Option<(String, u64)> {
        let mut parts = worker.strip_suffix(":1")?.strip_prefix("kill-")?.split('-');
        Some((parts.next()?.to_owned(), parts.next()?.parse().ok()?))
    }
}

//! Where a worker leaves the user's program.

/// Lets a worker take over. In every other process it does nothing.
pub fn init() {}

//! What goes between processes, and how.

pub(crate) mod codec;

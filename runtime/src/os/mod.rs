//! The only layer that talks to the operating system and to the loader.

pub(crate) mod conjure;
pub(crate) mod module;

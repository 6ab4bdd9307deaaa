//! The unit tests of `hash_tree`'s parts: an example itself is built, not tested.

#![allow(dead_code, reason = "the example uses what the tests don't")]

#[path = "../examples/hash_tree/hash.rs"]
mod hash;
#[path = "../examples/hash_tree/line.rs"]
mod line;
#[path = "../examples/hash_tree/walk.rs"]
mod walk;

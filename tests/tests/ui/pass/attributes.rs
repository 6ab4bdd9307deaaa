//! The generated code stands in a crate with strict lints.
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unused_qualifications, clippy::all, clippy::pedantic)]

use procession::{TaskFn as _, task};

/// Documented.
#[task]
#[must_use]
pub const fn square(x: u64) -> u64 {
    x * x
}

/// An old one.
#[deprecated]
#[task]
#[inline(never)]
pub fn old(mut x: u64, _: u8) -> u64 {
    x += 1;
    x
}

/// Raw.
#[task]
pub fn r#type(r#in: u64) -> Result<u64, Vec<Option<(u8, String)>>> {
    Ok(r#in)
}

/// All kinds of tokens in types.
#[task]
pub fn types(_: (u8,), _: [u8; 4], _: Option<std::collections::BTreeMap<String, ()>>) {
}

/// With a name.
#[task(name = "the name: \"ä\"")]
pub async fn named() {}

#[procession::main]
fn main() -> Result<(), std::num::ParseIntError> {
    #![allow(unused_variables)]
    let _: u64 = "1".parse()?;

    #[task]
    fn nested(x: u64) -> u64 {
        x + 1
    }
    assert_eq!(nested.run_here((1,)), 2);

    let tasks = procession::tasks();
    let tasks: Vec<_> = tasks.iter().map(|task| (task.name(), task.signature())).collect();
    let krate = module_path!();
    let path = |name: &str| format!("{krate}::{name}");
    assert_eq!(tasks.len(), 6);
    for (name, signature) in [
        (path("square"), "fn(u64) -> u64"),
        (path("old"), "fn(u64, u8) -> u64"),
        (path("type"), "fn(u64) -> Result<u64, Vec<Option<(u8, String)>>>"),
        (
            path("types"),
            "fn((u8,), [u8; 4], Option<std::collections::BTreeMap<String, ()>>)",
        ),
        (path("nested"), "fn(u64) -> u64"),
        ("the name: \"ä\"".to_owned(), "async fn()"),
    ] {
        assert!(tasks.contains(&(name.as_str(), signature)), "{name} {signature} {tasks:?}");
    }
    Ok(())
}

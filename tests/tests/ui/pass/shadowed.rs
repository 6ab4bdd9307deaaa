//! Names that the user has taken don't matter.
#![allow(non_camel_case_types, dead_code, unused_macros)]

mod core {}
mod std {}
mod alloc {}
mod serde {}
mod linkme {}
struct Option;
struct Result;
struct Some;
struct Ok;
struct Box;
struct Vec;
struct String;
struct Entry;
struct TASKS;
trait Fn {}
trait Copy {}
trait Send {}
macro_rules! concat { () => {}; }
macro_rules! module_path { () => {}; }
macro_rules! stringify { () => {}; }
macro_rules! line { () => {}; }
macro_rules! file { () => {}; }
macro_rules! column { () => {}; }

type u64 = ::core::primitive::u32;

mod procession {}

#[::procession::task]
fn square(x: u64) -> u64 {
    x * x
}

#[::procession::task(name = "async")]
async fn later(x: u64) {
    let _ = x;
}

#[::procession::main]
fn main() {
    assert_eq!(::procession::tasks().len(), 2);
    assert_eq!(::procession::TaskFn::run_here(&square, (3,)), 9);
}

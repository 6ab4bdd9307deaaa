//! The entry exists if, and only if, the function does.

use procession::task;

#[task]
#[cfg(any())]
fn absent(x: Missing) {}

#[task]
#[cfg(all())]
#[cfg_attr(all(), allow(unused_variables), cfg(all()))]
#[cfg_attr(any(), inline)]
fn present(x: u64) {}

#[task]
#[cfg_attr(all(), cfg(any()), doc = "none")]
fn absent_too(x: Missing) {}

#[cfg(any())]
#[task]
fn absent_from_outside(x: Missing) {}

#[task(name = "either")]
#[cfg(any())]
fn either() {}

#[task(name = "either")]
#[cfg(not(any()))]
fn either() {}

fn main() {
    present(1);
    let names: Vec<_> = procession::tasks().iter().map(|task| task.name()).collect();
    assert_eq!(names, ["either", concat!(module_path!(), "::present")]);
}

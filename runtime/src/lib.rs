//! Python's multiprocessing for Rust.

#[allow(dead_code, reason = "used by the pool and the process, which come next")]
mod callable;
mod guard;
#[allow(dead_code, reason = "used by the pool and the process, which come next")]
mod os;
mod transport;
#[allow(dead_code, reason = "used by the pool and the process, which come next")]
mod worker;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use crate::callable::bind::{Bound, bind};
pub use crate::callable::names::{TaskInfo, tasks};
pub use crate::callable::task_fn::{Payload, TaskFn};
pub use crate::guard::init;

/// Makes a function a task: one that other processes can run, and that can be called by name.
///
/// The function stays what it was: it can be called, passed on and made a function pointer.
/// Beside it one entry of the dispatch table is added, which [`tasks`] lists.
///
/// A function does not need this attribute to be run by another process. What it adds is the name,
/// and that types which can't be sent are found at the function, not where it is used.
///
/// # Options
/// - `name = "…"`: the task's name. Without it, it is `module::path::function`.
/// - `crate = path`: where this crate is found, if it isn't at `::procession`.
///
/// # Examples
/// ```
/// use procession::{TaskFn, task};
///
/// #[task]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// #[task(name = "parse")]
/// fn parse_number(text: String) -> Result<i64, String> {
///     text.trim().parse().map_err(|error| format!("{text:?}: {error}"))
/// }
///
/// #[task]
/// async fn later(x: u64) -> u64 {
///     x + 1
/// }
///
/// // Ordinary functions still:
/// assert_eq!(square(4), 16);
/// assert_eq!(Some("42".to_owned()).map(parse_number), Some(Ok(42)));
///
/// // And callables for other processes:
/// assert_eq!(later.run_here((1,)), 2);
/// assert!(procession::tasks().iter().any(|task| task.name() == "parse"));
/// ```
///
/// # Errors
/// These are compile errors, each at the place that causes it:
///
/// - anything but a function with a body
/// - a generic function: an instance of it, such as `largest::<u32>`, needs no attribute
/// - borrowed arguments or results, such as `&str`: take or return `String`
/// - an argument or result type that is no [`Payload`]: derive serde's traits for it
/// - `impl Trait` as an argument or result, and the result `!`
/// - a pattern in place of an argument's name; `mut x` and `_` are fine
/// - a method or an associated function: move it out of the `impl` block, or pass
///   `Type::function`, which needs no attribute
/// - `unsafe fn`, `extern fn`, and variadic functions
/// - more than 12 arguments
/// - an unknown option, an option that is given twice, an empty name, a name that another task in
///   the same module has, and a second `#[task]` on the same function
///
/// A name that is used twice in different modules is no compile error: calling it by name is an
/// error that shows both places.
///
/// ```compile_fail
/// #[procession::task]
/// fn shout(text: &str) -> String {
///     // error: a task's arguments live in another process, so they can't be borrowed: take `String`
///     text.to_uppercase()
/// }
/// ```
pub use procession_macros::task;

/// Guards the program's `main`: in a worker, it takes over here.
///
/// A worker is a copy of this program that was started anew. It must run tasks, not the program.
/// This attribute puts a call of [`init`] before everything else in `main`, and tells the hook
/// that would take over before `main` to leave it to that call.
///
/// In a test, `main` is the test harness's, and the attribute only adds the call.
///
/// # Options
/// - `crate = path`: where this crate is found, if it isn't at `::procession`.
///
/// # Examples
/// ```
/// #[procession::main]
/// fn main() -> Result<(), std::num::ParseIntError> {
///     let number: u64 = "42".parse()?;
///     assert_eq!(number, 42);
///     Ok(())
/// }
/// ```
///
/// With an attribute that starts an async runtime, this one goes below, so that `main` is an
/// ordinary function when it is expanded:
///
/// ```ignore
/// #[tokio::main]
/// #[procession::main]
/// async fn main() {}
/// ```
///
/// # Errors
/// These are compile errors: anything but a function of the name `main`, with arguments or
/// generics, `async` (after other attributes are expanded), `const`, `unsafe` or `extern`.
pub use procession_macros::main;

//! Python's multiprocessing for Rust: run functions in other processes, one by one or in a pool.
//!
//! Write [`#[task]`](macro@task) over a function, and a copy of your program runs it, as a [`Process`]
//! or in a [`Pool`]:
//!
//! ```
//! use procession::{task, Pool};
//!
//! #[task]
//! fn square(x: u64) -> u64 { x * x }
//!
//! #[procession::main]
//! fn main() -> Result<(), procession::Error> {
//!     let pool = Pool::new()?;                        // a worker for each available core
//!     let squares = pool.map(square, 0..10)?;         // Vec<u64>, in input order
//!     assert_eq!(squares[9], 81);
//!     Ok(())
//! }
//! ```
//!
//! Processes are for what threads can't do: native code that crashes, leaks or isn't thread-safe, work
//! that must be killed at a deadline, input from strangers. A worker that dies costs the one item that
//! it was running; its error says which, and how the worker ended. Where threads will do, use `rayon`.
//!
//! # Single processes
//!
//! ```
//! use procession::{task, Process};
//!
//! #[task]
//! fn worker(num: u32) -> String { format!("worker {num} in {}", std::process::id()) }
//!
//! #[procession::main]
//! fn main() -> Result<(), procession::Error> {
//!     let running = (0..3)
//!         .map(|i| Process::new(worker, (i,)).name(format!("worker-{i}")).start())
//!         .collect::<Result<Vec<_>, _>>()?;
//!     for p in running { println!("{}", p.join()?); }  // join gives the function's result
//!     Ok(())
//! }
//! ```
//!
//! # Pools, time-outs, initializers
//!
//! ```
//! use std::time::Duration;
//! use procession::{task, Pool};
//!
//! #[task]
//! fn init(path: String) { /* load the model once per worker */ let _ = path; }
//! #[task]
//! fn long_task(seconds: u64, tag: String) -> String { std::thread::sleep(Duration::from_secs(seconds)); tag }
//!
//! #[procession::main]
//! fn main() -> Result<(), procession::Error> {
//!     let pool = Pool::builder()
//!         .processes(3)
//!         .initializer(init, ("model.bin".to_owned(),))
//!         .max_tasks_per_child(1000)
//!         .build()?;
//!     let result = pool.apply_async(long_task, (60, "a".into()));
//!     match result.get_timeout(Duration::from_secs(1)) {
//!         Ok(tag) => println!("{tag}"),
//!         Err(e) if e.is_timeout() => println!("not ready yet; the task goes on"),
//!         Err(e) => return Err(e),
//!     }
//!     // A hard limit: the worker that overruns it is killed and replaced, the pool goes on.
//!     let late = pool.call(long_task).timeout(Duration::from_secs(2)).apply((60, "b".into()));
//!     assert!(late.unwrap_err().is_timeout());
//!     pool.close();
//!     pool.terminate();
//!     pool.join()?;
//!     Ok(())
//! }
//! ```
//!
//! # Between processes
//!
//! Queues, pipes, locks and shared memory are arguments and results like any other, of a pool's tasks,
//! too, and within your own types:
//!
//! ```
//! use procession::{Pool, Queue, SharedSlice, task};
//!
//! #[task]
//! fn sum(numbers: SharedSlice<f64>, log: Queue<String>) -> f64 {
//!     log.put(format!("{} numbers", numbers.len())).unwrap();
//!     numbers.iter().sum()
//! }
//!
//! #[procession::main]
//! fn main() -> Result<(), procession::Error> {
//!     let data = SharedSlice::from_vec((0..1_000_000).map(f64::from).collect())?;
//!     let log = Queue::unbounded()?;
//!     // A few bytes go to the workers for each chunk; the numbers stay where they are.
//!     let parts = data.chunks(100_000).map(|chunk| (chunk, log.clone()));
//!     let sums = Pool::new()?.starmap(sum, parts)?;
//!     assert_eq!(sums.iter().sum::<f64>(), 499_999_500_000.0);
//!     assert_eq!(log.len(), 10);
//!     Ok(())
//! }
//! ```
//!
//! - Messages: [`Queue`], [`JoinableQueue`], [`SimpleQueue`], [`pipe`], [`pipe_one_way`]; [`Listener`] and
//!   [`connect`] between unrelated programs; [`wait`] for several of them, and for processes.
//! - Data: [`SharedSlice`], which never changes; [`SharedArray`], under guards or in chunks; [`SharedValue`];
//!   [`SharedMemory`]. Their items are [`Plain`] data.
//! - [`sync`]: [`Lock`](sync::Lock), [`RLock`](sync::RLock), [`Semaphore`](sync::Semaphore),
//!   [`BoundedSemaphore`](sync::BoundedSemaphore), [`Condition`](sync::Condition), [`Event`](sync::Event),
//!   [`Barrier`](sync::Barrier), [`RwLock`](sync::RwLock).
//!
//! What doesn't fit into shared memory, any Rust value of your own too, can be owned by a [`Manager`], whose
//! [proxies](manager) travel in the same way.
//!
//! All of it lies in anonymous memory, which the program and all processes that it starts share: nothing
//! is left behind, however they end. A process that is killed in the middle of an operation neither
//! corrupts nor wedges the others. Handles can't leave the family: serialising one for a file, say, is an
//! error that says so.
//!
//! # What can be called
//!
//! Any function, `async` or not, with up to 12 owned arguments that serde can serialise; an instance of
//! a generic one; a closure that captures nothing; and [`bind`], which fixes some arguments of these.
//! See [`TaskFn`]. No code travels: the worker is the same program and finds the function by its place.
//!
//! # How a program becomes a worker
//!
//! A worker is started from the same executable file, also when that was rebuilt or deleted meanwhile.
//! It never runs your `main`: with the default feature `hook` it is taken over before `main`, so tests,
//! doctests, benches and examples need nothing. [`#[procession::main]`](macro@main) makes it wait until
//! std is set up, and is good style in a program. Code that runs *before* `main` (constructors of C++
//! libraries, say) runs in workers, too.
//!
//! # Features
//!
//! - `hook` (default): workers are taken over before `main`. Without it, `#[procession::main]` or
//!   [`init`] is needed; a program that forgot says so instead of starting itself over and over.
//! - `ndarray`: [`SharedSlice`] and the guards of [`SharedArray`] as views of the crate `ndarray`.
//! - `tls`: TLS for the connections of [`Manager`]s, by the crate `rustls`.
//!
//! # Questions
//!
//! *Why not `fork`?* After a fork of a program with threads, the child may only call what is
//! async-signal-safe; in Rust nearly nothing is.
//!
//! *What does a worker inherit?* Arguments, environment, current directory, standard output and error.
//! Standard input is `/dev/null`. No other descriptor of yours reaches it.
//!
//! *What happens to globals?* Each worker has its own, as they are at the start of a program. Use an
//! [initializer](PoolBuilder::initializer) to set them up once in each worker.
//!
//! *What if an item runs twice?* It doesn't: an item has begun or it hasn't, and one whose worker died
//! is an error, unless you asked for [`retries`](Call::retries).
//!
//! *Which systems?* Linux, so far.

mod api;
mod callable;
mod error;
mod guard;
mod manage;
mod os;
mod sched;
mod shm;
mod transport;
mod worker;

#[doc(hidden)]
#[path = "private.rs"]
pub mod __private;

pub use crate::api::address::Address;
pub use crate::api::builder::PoolBuilder;
pub use crate::api::call::{Call, Callback, Then};
pub use crate::api::connection::{Connection, Receiver, RecvError, SendError, Sender};
pub use crate::api::current::{
    CurrentProcess, ParentProcess, attempt, cancelled, cpu_count, current_process, parent_process,
    set_executable,
};
pub use crate::api::imap::{Imap, ImapUnordered};
pub use crate::api::limits::Limits;
pub use crate::api::listener::{AuthKey, Listener, connect, connect_timeout};
pub use crate::api::manager::{
    self, Batch, Dict, Later, List, ManagedProxy, Manager, ManagerBuilder, ManagerError, Namespace,
    Set, Value,
};
pub use crate::api::pipe::{pipe, pipe_one_way};
pub use crate::api::poison::{Poisoned, TryLockError};
pub use crate::api::pool::Pool;
pub use crate::api::process::{ActiveChild, Process, ProcessBuilder, active_children};
pub use crate::api::queue::{GetError, JoinableQueue, PutError, Queue, SimpleQueue};
pub use crate::api::result::{AsyncResult, ResultFuture};
pub use crate::api::shared::array::{SharedArray, SharedChunk, SharedReadGuard, SharedWriteGuard};
pub use crate::api::shared::memory::SharedMemory;
pub use crate::api::shared::plain::Plain;
pub use crate::api::shared::slice::SharedSlice;
pub use crate::api::shared::value::{Integer, SharedValue, SharedValueGuard};
pub use crate::api::sync;
#[cfg(feature = "tls")]
pub use crate::api::tls::{TlsClient, TlsServer};
pub use crate::api::wait::{Source, Waitable, wait};
pub use crate::callable::bind::{Bound, bind};
pub use crate::callable::names::{TaskInfo, tasks};
pub use crate::callable::task_fn::{Payload, TaskFn};
pub use crate::error::{Cause, Error, Limit, LimitBreach, PanicInfo, Usage, WorkerLost};
pub use crate::guard::init;
pub use crate::manage::class::Managed;
pub use crate::sched::{Backoff, PoolStats, Progress, StartMethod, Stdio, WorkerStats};

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

/// Lets a [`Manager`] own values of a type, for many processes to call their methods.
///
/// It goes on the type's `impl` block, which stays as it is. Beside it a handle is generated, named after
/// the type: `CounterProxy` for a `Counter`. The handle has
///
/// - each public method, which calls that of the value in the manager's process. Those with `&self` run side
///   by side, those with `&mut self` alone. What was `T` is now `Result<T, ManagerError>`; a method that
///   returns a `Result` itself gives one in the other.
/// - each public constructor, a function that returns `Self`, or `Result<Self, E>`, with the [`Manager`] as
///   another argument in front. Other functions without `self` are not part of it.
/// - `on`, the same methods in a [batch](Manager::batch).
/// - `is_poisoned` and `clear_poison`; see below.
///
/// A handle is a few bytes. It can be cloned, be an argument and a result of tasks, go through queues and
/// pipes, and lie within other managed values. The value lives as long as any handle on it does.
///
/// A panic of a method is a [`ManagerError`] of that one call. If it was one with `&mut self`, the value may
/// be half changed: it is poisoned, as std's `RwLock` would be, and further calls fail until somebody calls
/// `clear_poison`.
///
/// A method can call other managed values, through handles. It must not call its own value, which is busy with
/// it: it would wait for itself for ever. Nor must two values call each other in a circle.
///
/// Public methods that can't be called from another process, and are meant for their own only, go to another
/// `impl` block, without the attribute.
///
/// # Options
/// - `name = "…"`: the type's name for other programs. Without it, it is `module::path::Type`.
/// - `proxy = Name`: the name of the handle.
/// - `persist`: values can be in a [snapshot](ManagerBuilder::persist). The type is a [`Payload`] then.
/// - `crate = path`: where this crate is found, if it isn't at `::procession`.
///
/// # Examples
/// ```
/// use procession::{Manager, Pool, managed, task};
///
/// struct Counter {
///     value: u64,
/// }
///
/// #[managed]
/// impl Counter {
///     pub fn new(start: u64) -> Self {
///         Counter { value: start }
///     }
///
///     pub fn add(&mut self, n: u64) -> u64 {
///         self.value += n;
///         self.value
///     }
///
///     pub fn get(&self) -> u64 {
///         self.value
///     }
/// }
///
/// #[task]
/// fn count(n: u64, counter: CounterProxy) -> u64 {
///     counter.add(n).expect("the manager lives")
/// }
///
/// #[procession::main]
/// fn main() -> Result<(), procession::Error> {
///     let manager = Manager::new()?;
///     let counter = CounterProxy::new(&manager, 5)?;
///     let pool = Pool::builder().processes(2).build()?;
///     pool.starmap(count, (1..=10).map(|n| (n, counter.clone())))?;
///     assert_eq!(counter.get()?, 60);
///
///     // Many calls in one round trip:
///     let last = manager.batch(|tx| {
///         for _ in 0..100 {
///             counter.on(tx).add(1);
///         }
///         counter.on(tx).get()
///     })?;
///     assert_eq!(last.get()?, 160);
///     Ok(())
/// }
/// ```
///
/// # Errors
/// These are compile errors, each at the place that causes it:
///
/// - anything but an inherent `impl` block, and one without a public method
/// - a generic block: write it for one type, such as `impl Stack<u64>`
/// - a type that isn't `Send` and `Sync`: calls come from many threads
/// - `self` by value, or behind anything but `&` and `&mut`
/// - borrowed arguments or results, such as `&str`: take or return `String`
/// - an argument or result type that is no [`Payload`]: derive serde's traits for it
/// - generic methods, `impl Trait` as an argument or result, and the result `!`
/// - a pattern in place of an argument's name; `mut x` and `_` are fine
/// - `async fn`, `unsafe fn`, `extern fn`, and more than 12 arguments
/// - a public method of the name `on`, `is_poisoned` or `clear_poison`
/// - `persist` on a type that is no [`Payload`]
/// - an unknown option, an option that is given twice, an empty name, a name that another managed type in
///   the same module has, and a second `#[managed]` on the same block
///
/// ```compile_fail
/// struct Log(Vec<String>);
///
/// #[procession::managed]
/// impl Log {
///     pub fn write(&mut self, line: &str) {
///         // error: a managed method's arguments come from another process, so they can't be borrowed:
///         // take `String`
///         self.0.push(line.to_owned());
///     }
/// }
/// ```
pub use procession_macros::managed;

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

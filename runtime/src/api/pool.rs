//! The pool.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::PoolBuilder;
use super::call::{self, Call};
use super::imap::{Imap, ImapUnordered};
use super::result::AsyncResult;
use super::target::Target;
use crate::callable::names;
use crate::callable::task_fn::TaskFn;
use crate::error::Error;
use crate::sched::{Crew, PoolStats, What, callbacks};

/// How long the drop of a pool waits for its killed workers to be gone, so that none is left behind
/// for a caller who looks; a worker with much memory may take longer and is reaped in the background.
const DROP_PATIENCE: Duration = Duration::from_secs(1);

/// A pool of worker processes, as Python's `multiprocessing.Pool`.
///
/// It can be used from many threads at once, and cloned: a clone is the same pool. When the last clone
/// is dropped, the pool is terminated, as by Python's `with`.
///
/// A worker that dies costs the item that it was running and nothing else; it is replaced. Workers
/// start at once, but [`new`](Self::new) doesn't wait for them: if they can't work, the first call says
/// why.
///
/// ```
/// use procession::{Pool, task};
///
/// #[task]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let pool = Pool::new()?;
/// assert_eq!(pool.map(square, 0..5)?, [0, 1, 4, 9, 16]);
/// assert_eq!(pool.apply(square, (7,))?, 49);
///
/// let later = pool.apply_async(square, (8,));
/// assert_eq!(later.get()?, 64);
///
/// for result in pool.imap(square, 1..) {
///     if result? > 100 {
///         break;
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Pool(Arc<Handle>);

struct Handle {
    crew: Arc<Crew>,
    processes: usize,
    /// The process that has made the pool.
    owner: u32,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if std::process::id() != self.owner {
            // A copy of the program that somebody has forked: the workers aren't its.
            return;
        }
        self.crew.terminate();
        self.crew.wait_for(&What::NoWorkers, Some(DROP_PATIENCE));
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.crew.name())
            .field("processes", &self.processes)
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool with a worker for each core that this process may use: see
    /// [`cpu_count`](crate::cpu_count).
    ///
    /// # Errors
    /// A worker can't be started, or this program has no guard: see [`main`](macro@crate::main).
    pub fn new() -> Result<Self, Error> {
        Self::builder().build()
    }

    /// A pool that is described first.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    pub(super) fn from_crew(crew: Arc<Crew>, processes: usize) -> Self {
        Self(Arc::new(Handle { crew, processes, owner: std::process::id() }))
    }

    /// How many workers the pool was built with.
    pub fn processes(&self) -> usize {
        self.0.processes
    }

    /// The process ids of the workers that serve now.
    pub fn worker_pids(&self) -> Vec<u32> {
        self.0.crew.pids()
    }

    /// What the pool and its workers have done: takes some ten microseconds a worker.
    ///
    /// ```
    /// # use procession::{Pool, task};
    /// #[task]
    /// fn half(x: u32) -> u32 {
    ///     assert!(x % 2 == 0, "{x} is odd");
    ///     x / 2
    /// }
    ///
    /// # fn main() -> Result<(), procession::Error> {
    /// let pool = Pool::builder().processes(1).build()?;
    /// assert!(pool.map(half, [2, 4, 5]).is_err());
    /// let stats = pool.stats();
    /// assert_eq!((stats.tasks, stats.lost), (3, 0));
    /// let worker = &stats.workers[0];
    /// assert_eq!(worker.last_error.as_ref().unwrap().index(), Some(2));
    /// assert!(worker.usage.max_resident().unwrap() > 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> PoolStats {
        self.0.crew.stats()
    }

    /// Sets the options of one call, which a verb then ends.
    pub fn call<F>(&self, f: F) -> Call<'_, F> {
        Call::new(&self.0.crew, f)
    }

    /// Runs `f` once in a worker and waits for its result.
    ///
    /// # Errors
    /// `f` panicked, its worker died, its arguments or its result can't be sent, or the pool is closed.
    pub fn apply<M, F: TaskFn<M>>(&self, f: F, args: F::Args) -> Result<F::Output, Error> {
        const { F::CHECK };
        self.call(f).apply(args)
    }

    /// Runs `f` once in a worker; the result is asked for later. What goes wrong, also that the pool is
    /// closed, shows there.
    pub fn apply_async<M, F: TaskFn<M>>(&self, f: F, args: F::Args) -> AsyncResult<F::Output> {
        const { F::CHECK };
        self.call(f).apply_async(args)
    }

    /// Runs the `#[task]` function of this name and waits for its result.
    ///
    /// The types are not checked: `args` is a tuple of exactly what the function takes, `R` exactly what
    /// it returns. Write the types of numbers out, as in `(2_u32,)`: bytes of another type may decode
    /// to another value without an error.
    ///
    /// ```
    /// # use procession::{Pool, task};
    /// #[task(name = "add")]
    /// fn add(a: u32, b: u32) -> u32 {
    ///     a + b
    /// }
    ///
    /// # fn main() -> Result<(), procession::Error> {
    /// let pool = Pool::builder().processes(1).build()?;
    /// assert_eq!(pool.apply_named::<u32>("add", (2_u32, 3_u32))?, 5);
    ///
    /// let error = pool.apply_named::<u32>("ad", (2_u32, 3_u32)).unwrap_err();
    /// assert!(error.to_string().contains("did you mean `add`?"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`apply`](Self::apply); also that no task has the name, or more than one.
    pub fn apply_named<R>(&self, name: &str, args: impl Serialize) -> Result<R, Error>
    where
        R: DeserializeOwned + 'static,
    {
        let found = names::find(name).map_err(|error| Error::usage(error.to_string()))?;
        let target =
            Target { callee: found.callee.encode(), name: found.entry.name.into(), bound: None };
        call::by_name(&self.0.crew, target, &args)
    }

    /// Runs `f` on every input and waits for all results, which come in input order. The whole input
    /// is taken and encoded first; for more than memory holds, see [`imap`](Self::imap).
    ///
    /// # Errors
    /// The error of the lowest index that fails. Items above it that haven't begun never will.
    pub fn map<M, F, A>(
        &self,
        f: F,
        inputs: impl IntoIterator<Item = A>,
    ) -> Result<Vec<F::Output>, Error>
    where
        F: TaskFn<M, Args = (A,)>,
    {
        const { F::CHECK };
        self.call(f).map(inputs)
    }

    /// As [`map`](Self::map), without waiting.
    pub fn map_async<M, F, A>(
        &self,
        f: F,
        inputs: impl IntoIterator<Item = A>,
    ) -> AsyncResult<Vec<F::Output>>
    where
        F: TaskFn<M, Args = (A,)>,
    {
        const { F::CHECK };
        self.call(f).map_async(inputs)
    }

    /// Runs `f` on every input and waits for all of them; each has its own result or error.
    ///
    /// ```
    /// # use procession::{Pool, task};
    /// #[task]
    /// fn half(x: u32) -> u32 {
    ///     assert!(x % 2 == 0);
    ///     x / 2
    /// }
    ///
    /// # fn main() -> Result<(), procession::Error> {
    /// let pool = Pool::builder().processes(1).build()?;
    /// let halves = pool.try_map(half, 0..4);
    /// let good: Vec<u32> = halves.into_iter().filter_map(Result::ok).collect();
    /// assert_eq!(good, [0, 1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_map<M, F, A>(
        &self,
        f: F,
        inputs: impl IntoIterator<Item = A>,
    ) -> Vec<Result<F::Output, Error>>
    where
        F: TaskFn<M, Args = (A,)>,
    {
        const { F::CHECK };
        self.call(f).try_map(inputs)
    }

    /// As [`map`](Self::map) for a function of several arguments: each input is a tuple of them.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn starmap<M, F: TaskFn<M>>(
        &self,
        f: F,
        inputs: impl IntoIterator<Item = F::Args>,
    ) -> Result<Vec<F::Output>, Error> {
        const { F::CHECK };
        self.call(f).starmap(inputs)
    }

    /// As [`starmap`](Self::starmap), without waiting.
    pub fn starmap_async<M, F: TaskFn<M>>(
        &self,
        f: F,
        inputs: impl IntoIterator<Item = F::Args>,
    ) -> AsyncResult<Vec<F::Output>> {
        const { F::CHECK };
        self.call(f).starmap_async(inputs)
    }

    /// Runs `f` on every input and gives the results as an iterator, in input order, each with its own
    /// error. The input is taken as results are taken out, a bounded number ahead: it may be infinite,
    /// and a slow consumer slows the pool down.
    pub fn imap<'a, M, F, A>(
        &self,
        f: F,
        inputs: impl IntoIterator<Item = A, IntoIter: 'a>,
    ) -> Imap<'a, F::Output>
    where
        F: TaskFn<M, Args = (A,)>,
        A: Serialize,
    {
        const { F::CHECK };
        self.call(f).imap(inputs)
    }

    /// As [`imap`](Self::imap), in the order in which the items are done.
    pub fn imap_unordered<'a, M, F, A>(
        &self,
        f: F,
        inputs: impl IntoIterator<Item = A, IntoIter: 'a>,
    ) -> ImapUnordered<'a, F::Output>
    where
        F: TaskFn<M, Args = (A,)>,
        A: Serialize,
    {
        const { F::CHECK };
        self.call(f).imap_unordered(inputs)
    }

    /// Takes no more work. What was taken is still done; the workers end when it is.
    pub fn close(&self) {
        self.0.crew.close();
    }

    /// Ends now: workers are killed, and what wasn't done is an error for which
    /// [`Error::is_closed`] is true.
    pub fn terminate(&self) {
        self.0.crew.terminate();
    }

    /// Waits until all workers have ended and callbacks have run, after [`close`](Self::close) or
    /// [`terminate`](Self::terminate).
    ///
    /// # Errors
    /// Neither was called before, or the workers could not work at all: the cause is the error.
    pub fn join(&self) -> Result<(), Error> {
        if !self.0.crew.is_closed() {
            return Err(Error::usage("`join` comes after `close` or `terminate`"));
        }
        self.0.crew.wait_for(&What::NoWorkers, None);
        callbacks::wait_for_all();
        self.0.crew.failure().map_or(Ok(()), Err)
    }
}

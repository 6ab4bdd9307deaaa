//! What a pool is to be like.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::current::cpu_count;
use super::limits::Limits;
use super::pool::Pool;
use super::target::Target;
use crate::callable::task_fn::TaskFn;
use crate::error::Error;
use crate::guard;
use crate::sched::forkserver::ForkServer;
use crate::sched::{Breaker, Crew, Plan, Recycling, StartMethod, Surroundings, Task};
use crate::transport::hello::Role;

/// The default of [`PoolBuilder::start_timeout`]: many times what a start takes on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How many workers a fork server keeps ready at most: they take the place of those that end at about the
/// same time, while more are made.
const MOST_SPARES: usize = 4;

/// Describes a [`Pool`]: made by [`Pool::builder`].
///
/// ```
/// use procession::{Pool, task};
///
/// #[task]
/// fn load(model: String) {
///     // Runs once in each worker.
///     assert_eq!(model, "model.bin");
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let pool = Pool::builder()
///     .processes(2)
///     .initializer(load, ("model.bin".to_owned(),))
///     .max_tasks_per_child(1000)
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct PoolBuilder {
    processes: Option<usize>,
    initializer: Option<Result<Task, Error>>,
    max_tasks: Option<usize>,
    recycling: Recycling,
    breaker: Option<Breaker>,
    name: Option<String>,
    stack_size: Option<usize>,
    start_limit: Duration,
    start_method: Option<StartMethod>,
    preload: Option<Result<Task, Error>>,
    limits: Limits,
}

impl PoolBuilder {
    pub(super) fn new() -> Self {
        Self {
            processes: None,
            initializer: None,
            max_tasks: None,
            recycling: Recycling::default(),
            breaker: None,
            name: None,
            stack_size: None,
            start_limit: START_LIMIT,
            start_method: None,
            preload: None,
            limits: Limits::new(),
        }
    }

    /// How many workers. Default: [`cpu_count`].
    pub fn processes(mut self, count: usize) -> Self {
        self.processes = Some(count);
        self
    }

    /// Runs once in each worker before its first task. If it panics or ends the worker, the worker is
    /// replaced; if that happens three times in a row, the pool fails with the cause. Default: none.
    pub fn initializer<M, F: TaskFn<M>>(mut self, f: F, args: F::Args) -> Self {
        const { F::CHECK };
        self.initializer = Some(Target::new(&f).and_then(|target| target.with(&args)));
        self
    }

    /// After so many tasks a worker is replaced by a new one. Default: never.
    pub fn max_tasks_per_child(mut self, count: usize) -> Self {
        self.max_tasks = Some(count);
        self
    }

    /// After so long a worker is replaced by a new one, when it has done what it has begun. Default: never.
    pub fn max_age_per_child(mut self, age: Duration) -> Self {
        self.recycling.max_age = Some(age);
        self
    }

    /// A worker with more memory of its own than so many bytes is replaced by a new one, when it has done what it
    /// has begun. Memory is looked at some twenty times a second; what is shared, with files or with
    /// other processes, doesn't count. [`Limits::resident`] is for those that must not go on. Default: never.
    pub fn max_memory_per_child(mut self, bytes: u64) -> Self {
        self.recycling.max_memory = Some(bytes);
        self
    }

    /// The pool fails, with the last cause, when more than so many workers have died within a time: all that is
    /// asked of it is an error then. Workers that are replaced as they should be don't count. Default: never,
    /// but if workers die before they have worked, three in a row.
    pub fn max_restarts(mut self, count: u32, within: Duration) -> Self {
        self.breaker = Some(Breaker::new(count, within));
        self
    }

    /// The pool's name; its workers are called `name:1`, `name:2`, … Default: `Pool-1` and so on.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The stack of the thread that runs the tasks, in bytes, from 64 KiB on. Default: 8 MiB.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// How long a worker may take from its start until it is ready for its initializer; one that takes
    /// longer is killed. Default: 30 s.
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.start_limit = limit;
        self
    }

    /// What each worker may use. Default: nothing is limited but by what limits this process. With a
    /// [fork server](Self::preload), that one isn't limited.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How workers are started. Default: see [`StartMethod`]; with [`preload`](Self::preload), a fork server.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.start_method = Some(method);
        self
    }

    /// Runs once, in the pool's fork server, before any worker is made. All workers are copies of that
    /// process: what the task has left there, in statics, is in each of them, and takes memory once, as long
    /// as nobody writes to it. Default: none.
    ///
    /// It may read files and open them, and make handles of this crate. Threads that it starts must have
    /// ended when it returns: a process with threads can't be copied. So it can't use pools or
    /// processes. If it panics, so does [`build`](Self::build) fail, with that panic; what it returns is
    /// dropped. A server that is killed is replaced, and the task runs again, in the new one.
    ///
    /// ```
    /// use std::sync::OnceLock;
    /// use procession::{Pool, task};
    ///
    /// static WORDS: OnceLock<Vec<String>> = OnceLock::new();
    ///
    /// #[task]
    /// fn load(text: String) {
    ///     // Stands for what takes long, or much memory.
    ///     WORDS.set(text.split(' ').map(str::to_owned).collect()).expect("it runs once");
    /// }
    ///
    /// #[task]
    /// fn word(index: usize) -> String {
    ///     WORDS.get().expect("it is there before any task")[index].clone()
    /// }
    ///
    /// # fn main() -> Result<(), procession::Error> {
    /// let pool = Pool::builder().processes(2).preload(load, ("once upon a time".to_owned(),)).build()?;
    /// assert_eq!(pool.map(word, [1, 3])?, ["upon", "time"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn preload<M, F: TaskFn<M>>(mut self, f: F, args: F::Args) -> Self {
        const { F::CHECK };
        self.preload = Some(Target::new(&f).and_then(|target| target.with(&args)));
        self
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// Zero processes or tasks; limits that nobody can mean; arguments of the initializer or of the preload task that can't be encoded; a
    /// worker that can't be started (then none is left behind); a preload task that fails, or with
    /// [`StartMethod::Spawn`]; a program without a guard: see [`main`](macro@crate::main).
    pub fn build(self) -> Result<Pool, Error> {
        guard::check()?;
        let workers = self.processes.unwrap_or_else(cpu_count);
        if workers == 0 {
            return Err(Error::usage("a pool needs at least one process"));
        }
        if self.max_tasks == Some(0) {
            return Err(Error::usage("`max_tasks_per_child` must be at least 1"));
        }
        let method = self.start_method.or(self.preload.as_ref().map(|_| StartMethod::ForkServer));
        let method = StartMethod::settle(method)?;
        if self.preload.is_some() && method == StartMethod::Spawn {
            return Err(Error::usage(
                "`preload` needs `StartMethod::ForkServer`: spawned workers share nothing; to run a task \
                 in each of them there is `initializer`",
            ));
        }
        let mut surroundings = Surroundings::default();
        if let Some(stack_size) = self.stack_size {
            check_stack_size(stack_size)?;
            surroundings.stack_size = stack_size;
        }
        let (limits, most_memory) = self.limits.check()?;
        let recycling = Recycling { most_memory, ..self.recycling };
        let initializer = self.initializer.transpose()?;
        let server = match method {
            StartMethod::Spawn => None,
            StartMethod::ForkServer => {
                let spares = workers.min(MOST_SPARES);
                let server = ForkServer::new(Role::Pool, self.preload.transpose()?, spares);
                server.prepare(workers, self.start_limit)?;
                Some(server)
            }
        };
        let plan = Plan {
            name: self.name.unwrap_or_else(default_name),
            role: Role::Pool,
            workers,
            initializer,
            max_tasks: self.max_tasks,
            recycling,
            breaker: self.breaker,
            start_limit: self.start_limit,
            surroundings,
            limits,
            server,
        };
        Ok(Pool::from_crew(Crew::start(plan)?, workers))
    }
}

fn default_name() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    format!("Pool-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl std::fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("processes", &self.processes)
            .field("max_tasks_per_child", &self.max_tasks)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Less doesn't hold std's own frames; more is no address space that a machine has.
const STACK_SIZES: std::ops::RangeInclusive<usize> = 64 << 10..=1 << 40;

/// # Errors
/// No thread can run on such a stack.
pub(super) fn check_stack_size(bytes: usize) -> Result<(), Error> {
    if STACK_SIZES.contains(&bytes) {
        return Ok(());
    }
    Err(Error::usage(format!("`stack_size` is in bytes, from 64 KiB to 1 TiB; {bytes} isn't")))
}

/// The limit for a single process, too.
pub(super) const fn start_limit() -> Duration {
    START_LIMIT
}

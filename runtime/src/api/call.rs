//! One call with its options, and the verbs that end it.

use std::any::TypeId;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::imap::{Imap, ImapUnordered, Stream};
use super::result::{AsyncResult, Decode};
use super::target::{self, Target};
use crate::callable::task_fn::TaskFn;
use crate::error::Error;
use crate::sched::{Backoff, Crew, Inputs, Job, Outcome, Progress, Spec};

/// The largest chunk: positions are counted in 32 bits.
const MOST_ITEMS: usize = 1 << 30;

const OUTCOME: &str = "`run` returns when there is an outcome";

type ProgressCallback = Box<dyn FnMut(Progress) + Send>;

/// A call that is being put together: made by [`Pool::call`](crate::Pool::call), ended by a verb.
///
/// ```
/// use std::time::Duration;
/// use procession::{Pool, task};
///
/// #[task]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let pool = Pool::builder().processes(2).build()?;
/// let squares = pool
///     .call(square)
///     .timeout(Duration::from_secs(10))
///     .retries(1)
///     .chunksize(16)
///     .map(0..100)?;
/// assert_eq!(squares[99], 9801);
/// # Ok(())
/// # }
/// ```
#[must_use = "a call does nothing until it is ended by a verb such as `apply` or `map`"]
pub struct Call<'p, F, S = (), E = ()> {
    crew: &'p Arc<Crew>,
    f: F,
    options: Options,
    on_success: S,
    on_error: E,
}

#[derive(Default)]
struct Options {
    chunk: Option<usize>,
    time_limit: Option<Duration>,
    soft_limit: Option<Duration>,
    grace: Duration,
    retries: u32,
    backoff: Option<Backoff>,
    priority: i32,
    buffer: Option<usize>,
    progress: Option<ProgressCallback>,
}

/// What may stand in for a callback of [`Call`]: nothing, or a closure.
pub trait Callback<T>: Send + 'static {
    /// Whether there is anything to call.
    #[doc(hidden)]
    const IS_SOME: bool;

    /// Calls it.
    #[doc(hidden)]
    fn call_back(self, value: T);
}

impl<T> Callback<T> for () {
    const IS_SOME: bool = false;

    fn call_back(self, _: T) {}
}

/// A closure that is called back.
#[derive(Debug)]
pub struct Then<C>(C);

impl<T, C: FnOnce(T) + Send + 'static> Callback<T> for Then<C> {
    const IS_SOME: bool = true;

    fn call_back(self, value: T) {
        (self.0)(value);
    }
}

impl<'p, F> Call<'p, F> {
    pub(super) fn new(crew: &'p Arc<Crew>, f: F) -> Self {
        Self { crew, f, options: Options::default(), on_success: (), on_error: () }
    }
}

impl<'p, F, S, E> Call<'p, F, S, E> {
    /// How many items a worker gets at once. Unset, chunks adapt to the time that items take. In
    /// `imap`, also how many items are handed over together. Zero counts as one.
    pub fn chunksize(mut self, items: usize) -> Self {
        self.options.chunk = Some(items.clamp(1, MOST_ITEMS));
        self
    }

    /// A hard limit for each item, from its own start: the worker that overruns it is killed and
    /// replaced, and the item's error is a [timeout](Error::is_timeout). Unset, there is none.
    ///
    /// When the item began is read from memory that a task could overwrite. Against one that does, and
    /// whatever else it pretends, the limit is enforced some five seconds late; ten minutes, if it pretends that
    /// its [bound](crate::bind) arguments were still being decoded, which takes no item's time. In a worker that
    /// also takes part in a `map` without a limit such a task isn't found out: where inputs are hostile, give
    /// all calls of the pool a limit.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.options.time_limit = Some(limit);
        self
    }

    /// A limit for each item, from its own start, after which the task is asked to end: [`cancelled`](crate::cancelled)
    /// becomes true. Nothing else happens, and what it returns is its result. Unset, there is none.
    pub fn soft_timeout(mut self, limit: Duration) -> Self {
        self.options.soft_limit = Some(limit);
        self
    }

    /// How long the worker that overruns its [`timeout`](Self::timeout) may take to end itself: it gets SIGTERM,
    /// which ends it at once unless the task has a handler for that, and SIGKILL after this time. Unset, SIGKILL at
    /// once.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.options.grace = grace;
        self
    }

    /// How often an item runs again after its worker died. Unset, 0. A panic, an error or a time limit
    /// is not tried again. The error of one that has ended its worker each time tells how:
    /// [`Error::history`].
    pub fn retries(mut self, times: u32) -> Self {
        self.options.retries = times;
        self
    }

    /// How long an item waits before it runs again. Unset, not at all. [`attempt`](crate::attempt) tells a task which
    /// attempt it is.
    pub fn backoff(mut self, pauses: Backoff) -> Self {
        self.options.backoff = Some(pauses);
        self
    }

    /// Items of calls with a higher priority are given to workers first. Unset, 0.
    pub fn priority(mut self, priority: i32) -> Self {
        self.options.priority = priority;
        self
    }

    /// For `imap` and `imap_unordered`: how many items are taken from the input ahead of the results
    /// that were taken out. Unset, it adapts, from twice the number of workers, so that workers are
    /// kept busy with a few MiB in memory. At least one chunk.
    pub fn buffersize(mut self, items: usize) -> Self {
        self.options.buffer = Some(items.max(1));
        self
    }

    /// Is called as items are done, on the thread for callbacks; calls that it is too slow for are left
    /// out, the last one comes in any case.
    pub fn progress(mut self, callback: impl FnMut(Progress) + Send + 'static) -> Self {
        self.options.progress = Some(Box::new(callback));
        self
    }

    /// Is called with the result when all went well, on the thread for callbacks. Its parameter is
    /// what `get` gives, and needs its type written: `|squares: Vec<u64>| …`.
    pub fn on_success<C>(self, callback: C) -> Call<'p, F, Then<C>, E> {
        let Self { crew, f, options, on_error, .. } = self;
        Call { crew, f, options, on_success: Then(callback), on_error }
    }

    /// Is called with the error when something failed, on the thread for callbacks.
    pub fn on_error<C>(self, callback: C) -> Call<'p, F, S, Then<C>>
    where
        C: FnOnce(Error) + Send + 'static,
    {
        let Self { crew, f, options, on_success, .. } = self;
        Call { crew, f, options, on_success, on_error: Then(callback) }
    }

    /// Runs it once and waits for the result.
    ///
    /// # Errors
    /// As [`AsyncResult::get`].
    pub fn apply<M>(self, args: F::Args) -> Result<F::Output, Error>
    where
        F: TaskFn<M>,
        S: Callback<F::Output>,
        E: Callback<Error>,
    {
        const { F::CHECK };
        let call = self.one(args);
        call.run(one_result, take_one)
    }

    /// Runs it once; the result is asked for later.
    pub fn apply_async<M>(self, args: F::Args) -> AsyncResult<F::Output>
    where
        F: TaskFn<M>,
        S: Callback<F::Output>,
        E: Callback<Error>,
    {
        const { F::CHECK };
        let call = self.one(args);
        call.start(one_result)
    }

    /// Runs it on every input and waits for all results, which come in input order.
    ///
    /// # Errors
    /// The error of the lowest index that fails; items above it that haven't begun never will.
    pub fn map<M, A>(self, inputs: impl IntoIterator<Item = A>) -> Result<Vec<F::Output>, Error>
    where
        F: TaskFn<M, Args = (A,)>,
        S: Callback<Vec<F::Output>>,
        E: Callback<Error>,
    {
        const { F::CHECK };
        self.many(inputs.into_iter().map(|input| (input,)), true).run(all_results, target::take_all)
    }

    /// As [`map`](Self::map), without waiting.
    pub fn map_async<M, A>(self, inputs: impl IntoIterator<Item = A>) -> AsyncResult<Vec<F::Output>>
    where
        F: TaskFn<M, Args = (A,)>,
        S: Callback<Vec<F::Output>>,
        E: Callback<Error>,
    {
        const { F::CHECK };
        self.many(inputs.into_iter().map(|input| (input,)), true).start(all_results)
    }

    /// As [`map`](Self::map) for functions of several arguments: each input is a tuple of them.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    pub fn starmap<M>(
        self,
        inputs: impl IntoIterator<Item = F::Args>,
    ) -> Result<Vec<F::Output>, Error>
    where
        F: TaskFn<M>,
        S: Callback<Vec<F::Output>>,
        E: Callback<Error>,
    {
        const { F::CHECK };
        self.many(inputs, true).run(all_results, target::take_all)
    }

    /// As [`starmap`](Self::starmap), without waiting.
    pub fn starmap_async<M>(
        self,
        inputs: impl IntoIterator<Item = F::Args>,
    ) -> AsyncResult<Vec<F::Output>>
    where
        F: TaskFn<M>,
        S: Callback<Vec<F::Output>>,
        E: Callback<Error>,
    {
        const { F::CHECK };
        self.many(inputs, true).start(all_results)
    }

    fn one<M>(self, args: F::Args) -> Ready<'p, S, E>
    where
        F: TaskFn<M>,
    {
        let spec = self.options.spec(&self.f, Items::One);
        self.ready(spec, None, |spec| {
            let inputs =
                target::encode_one_call(args).map_err(|error| error.of_task(&spec.task))?;
            Ok((inputs, Vec::new()))
        })
    }

    fn many<M>(
        self,
        inputs: impl IntoIterator<Item = F::Args>,
        first_error_counts: bool,
    ) -> Ready<'p, S, E>
    where
        F: TaskFn<M>,
    {
        let crew = self.crew;
        let spec = self.options.spec(&self.f, Items::Many { first_error_counts });
        self.ready(spec, Some(0), |spec| target::encode_all(crew, spec, inputs))
    }

    fn ready(
        self,
        (spec, failure): (Arc<Spec>, Option<Error>),
        first_index: Option<usize>,
        encode: impl FnOnce(&Spec) -> Result<(Inputs, Failed), Error>,
    ) -> Ready<'p, S, E> {
        let Self { crew, options, on_success, on_error, .. } = self;
        let encoded = match failure {
            None => encode(&spec),
            Some(error) => Err(error),
        };
        Ready { crew, spec, encoded, first_index, progress: options.progress, on_success, on_error }
    }
}

/// The verbs that callbacks make no sense for: each item has its own result.
impl<'p, F> Call<'p, F> {
    /// Runs it on every input and waits for all of them; each has its own result or error, in input
    /// order.
    pub fn try_map<M, A>(self, inputs: impl IntoIterator<Item = A>) -> Vec<Result<F::Output, Error>>
    where
        F: TaskFn<M, Args = (A,)>,
    {
        const { F::CHECK };
        let ready = self.many(inputs.into_iter().map(|input| (input,)), false);
        let decode = |spec: &Spec, outcome: &Outcome| {
            let items = 0..outcome.items();
            Ok(items.map(|item| target::decode(spec, outcome, item, Some(item))).collect())
        };
        let take = |spec: &Spec, mut outcome: Outcome| {
            let items = 0..outcome.items();
            Ok(items.map(|item| target::take(spec, &mut outcome, item, Some(item))).collect())
        };
        ready.run(decode, take).unwrap_or_else(|error| vec![Err(error)])
    }

    /// Runs it on every input, taken as results are taken out, and gives the results in input order.
    pub fn imap<'a, M, A>(
        self,
        inputs: impl IntoIterator<Item = A, IntoIter: 'a>,
    ) -> Imap<'a, F::Output>
    where
        F: TaskFn<M, Args = (A,)>,
        A: Serialize,
    {
        const { F::CHECK };
        Imap::new(self.stream(inputs.into_iter().map(|input| (input,))))
    }

    /// As [`imap`](Self::imap), in the order in which the items are done.
    pub fn imap_unordered<'a, M, A>(
        self,
        inputs: impl IntoIterator<Item = A, IntoIter: 'a>,
    ) -> ImapUnordered<'a, F::Output>
    where
        F: TaskFn<M, Args = (A,)>,
        A: Serialize,
    {
        const { F::CHECK };
        ImapUnordered::new(self.stream(inputs.into_iter().map(|input| (input,))))
    }

    fn stream<'a, M>(self, mut inputs: impl Iterator<Item = F::Args> + 'a) -> Stream<'a>
    where
        F: TaskFn<M>,
    {
        let Self { crew, f, options, .. } = self;
        let (spec, failure) = options.spec(&f, Items::Stream);
        let item_size = target::inputs_for::<F::Args>().fixed_size();
        let next = move |into: &mut Inputs| Some(target::encode_typed(into, inputs.next()?));
        Stream::new(Arc::clone(crew), spec, options.buffer, failure, item_size, Box::new(next))
    }
}

impl<F, S, E> std::fmt::Debug for Call<'_, F, S, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("task", &std::any::type_name::<F>()).finish_non_exhaustive()
    }
}

/// What a call's items are.
#[derive(Clone, Copy)]
enum Items {
    One,
    /// All are known.
    Many {
        first_error_counts: bool,
    },
    Stream,
}

impl Options {
    /// What is asked for, and why it can't be done. A call without any options is mostly the same as the
    /// one before.
    fn spec<M, F: TaskFn<M>>(&self, f: &F, items: Items) -> (Arc<Spec>, Option<Error>) {
        thread_local! {
            static LATEST: RefCell<Option<(TypeId, Arc<Spec>)>> = const { RefCell::new(None) };
        }
        let is_plain = matches!(items, Items::One)
            && self.chunk.is_none()
            && self.time_limit.is_none()
            && self.soft_limit.is_none()
            && self.retries == 0
            && self.priority == 0
            // Arguments may be bound to what has a value.
            && size_of::<F>() == 0;
        let id = TypeId::of::<F>();
        // Where a thread's end runs the user's code it is gone.
        let latest = || LATEST.try_with(|latest| of_type(latest.borrow().as_ref(), id)).ok();
        if let Some(spec) = is_plain.then(latest).flatten().flatten() {
            return (spec, None);
        }
        let (spec, failure) = self.new_spec(f, items);
        let spec = Arc::new(spec);
        if is_plain && failure.is_none() && spec.bound.is_none() {
            let _ = LATEST.try_with(|latest| latest.replace(Some((id, Arc::clone(&spec)))));
        }
        (spec, failure)
    }

    fn new_spec<M, F: TaskFn<M>>(&self, f: &F, items: Items) -> (Spec, Option<Error>) {
        let (target, failure) = match Target::new(f) {
            Ok(target) => (target, None),
            Err(error) => {
                let name = error.task().unwrap_or_default().to_owned().into();
                (Target { callee: [0; 17], name, bound: None }, Some(error))
            }
        };
        let spec = Spec {
            time_limit: self.time_limit,
            soft_limit: self.soft_limit,
            grace: self.grace,
            retries: self.retries,
            backoff: self.backoff,
            chunk: self.chunk,
            priority: self.priority,
            first_error_counts: matches!(items, Items::Many { first_error_counts: true }),
            // Those of a stream are one for all its jobs, which forgets them at its end.
            bound_once: !matches!(items, Items::Stream),
            shared: matches!(items, Items::Many { .. }),
            ..target.typed::<F::Output>()
        };
        (spec, failure)
    }
}

fn of_type(latest: Option<&(TypeId, Arc<Spec>)>, id: TypeId) -> Option<Arc<Spec>> {
    latest.filter(|(latest, _)| *latest == id).map(|(_, spec)| Arc::clone(spec))
}

/// As [`Decode`], where nobody else will ask for the results.
type Take<R> = fn(&Spec, Outcome) -> Result<R, Error>;

type Failed = Vec<(u32, Error)>;

/// A call whose arguments are encoded.
struct Ready<'p, S, E> {
    crew: &'p Arc<Crew>,
    spec: Arc<Spec>,
    encoded: Result<(Inputs, Failed), Error>,
    first_index: Option<usize>,
    progress: Option<ProgressCallback>,
    on_success: S,
    on_error: E,
}

impl<S, E> Ready<'_, S, E> {
    fn run<R: 'static>(self, decode: Decode<R>, take: Take<R>) -> Result<R, Error>
    where
        S: Callback<R>,
        E: Callback<Error>,
    {
        let crew = self.crew;
        let (job, inputs, failed) = self.into_job(decode);
        crew.run(&job, inputs, failed);
        let spec = Arc::clone(&job.spec);
        match Arc::try_unwrap(job) {
            Ok(job) => take(&spec, job.into_outcome().expect(OUTCOME)),
            // A callback has it, too, or whoever has just finished it.
            Err(job) => decode(&spec, job.outcome().expect(OUTCOME)),
        }
    }

    fn start<R: 'static>(self, decode: Decode<R>) -> AsyncResult<R>
    where
        S: Callback<R>,
        E: Callback<Error>,
    {
        let crew = self.crew;
        let (job, inputs, failed) = self.into_job(decode);
        crew.submit(Arc::clone(&job), inputs, failed);
        AsyncResult::new(Arc::clone(crew), job, decode)
    }

    fn into_job<R: 'static>(self, decode: Decode<R>) -> (Arc<Job>, Inputs, Failed)
    where
        S: Callback<R>,
        E: Callback<Error>,
    {
        let Self { spec, encoded, first_index, progress, on_success, on_error, .. } = self;
        // What failed before it began is a job of one item that has failed.
        let (inputs, failed) = encoded.unwrap_or_else(|error| {
            let mut inputs = Inputs::default();
            inputs.push_gap();
            (inputs, vec![(0, error)])
        });
        let mut job = Job::new(spec, first_index).reporting(progress);
        if S::IS_SOME || E::IS_SOME {
            job = job.then(move |job| {
                let outcome = job.outcome().expect("callbacks follow the outcome");
                match decode(&job.spec, outcome) {
                    Ok(result) => on_success.call_back(result),
                    Err(error) => on_error.call_back(error),
                }
            });
        }
        (Arc::new(job), inputs, failed)
    }
}

/// Calls a task by its name.
pub(super) fn by_name<R: DeserializeOwned + 'static>(
    crew: &Arc<Crew>,
    target: Target,
    args: &impl Serialize,
) -> Result<R, Error> {
    let spec = Arc::new(target.plain());
    let mut inputs = Inputs::default();
    let encoded = target::encode(&mut inputs, args).map_err(|error| error.of_task(&spec.task));
    let encoded = encoded.map(|()| (inputs, Vec::new()));
    let ready = Ready {
        crew,
        spec,
        encoded,
        first_index: None,
        progress: None,
        on_success: (),
        on_error: (),
    };
    ready.run(one_result, take_one)
}

fn one_result<R: DeserializeOwned + 'static>(spec: &Spec, outcome: &Outcome) -> Result<R, Error> {
    target::decode(spec, outcome, 0, None)
}

fn take_one<R: DeserializeOwned + 'static>(spec: &Spec, mut outcome: Outcome) -> Result<R, Error> {
    target::take(spec, &mut outcome, 0, None)
}

fn all_results<R: DeserializeOwned + 'static>(
    spec: &Spec,
    outcome: &Outcome,
) -> Result<Vec<R>, Error> {
    target::decode_all(spec, outcome)
}

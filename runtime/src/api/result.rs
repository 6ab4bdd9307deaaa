//! Results that aren't there yet.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::sched::{Crew, Job, Outcome, Spec, What};

pub(super) type Decode<R> = fn(&Spec, &Outcome) -> Result<R, Error>;

/// The result of an asynchronous call, as in Python's `AsyncResult`.
///
/// The result is kept, encoded, whether or not anyone asks for it; [`get`](Self::get) decodes it, as
/// often as it is called. Dropping the handle costs nothing and stops nothing.
///
/// It can be awaited, on any executor:
///
/// ```
/// # use procession::{Pool, task};
/// #[task]
/// fn square(x: u64) -> u64 {
///     x * x
/// }
///
/// # async fn f() -> Result<(), procession::Error> {
/// let pool = Pool::new()?;
/// assert_eq!(pool.apply_async(square, (4,)).await?, 16);
/// # Ok(())
/// # }
/// ```
pub struct AsyncResult<R> {
    crew: Arc<Crew>,
    job: Arc<Job>,
    decode: Decode<R>,
}

impl<R> AsyncResult<R> {
    pub(super) fn new(crew: Arc<Crew>, job: Arc<Job>, decode: Decode<R>) -> Self {
        Self { crew, job, decode }
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// The task failed, or its worker died, or the pool was closed before or terminated meanwhile.
    pub fn get(&self) -> Result<R, Error> {
        self.wait();
        self.decoded()
    }

    /// Waits for the result, at most for `timeout`.
    ///
    /// # Errors
    /// As [`get`](Self::get). When the time is over first, [`Error::is_timeout`] says so; the task goes
    /// on, and its result can be asked for again.
    pub fn get_timeout(&self, timeout: Duration) -> Result<R, Error> {
        if self.wait_timeout(timeout) {
            return self.decoded();
        }
        Err(Error::new(Kind::NotReady(timeout)).of_task(&self.job.spec.task))
    }

    /// Waits until there is a result or an error.
    pub fn wait(&self) {
        if self.job.outcome().is_none() {
            self.crew.wait_for(&What::Job(Arc::clone(&self.job)), None);
        }
    }

    /// Waits until there is a result or an error, at most for `timeout`; true if there is.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.ready() || self.crew.wait_for(&What::Job(Arc::clone(&self.job)), Some(timeout))
    }

    /// Whether there is a result or an error.
    pub fn ready(&self) -> bool {
        self.job.outcome().is_some()
    }

    /// Whether all went well; none while it isn't [`ready`](Self::ready).
    pub fn successful(&self) -> Option<bool> {
        Some(self.job.outcome()?.first_error().is_none())
    }

    /// Gives the call up: what hasn't begun never will, and the result of what is running is dropped; the task can
    /// see that ([`cancelled`](crate::cancelled)).
    /// True if there was no result yet; then [`get`](Self::get) gives an error for which
    /// [`Error::is_cancelled`] is true.
    pub fn cancel(&self) -> bool {
        self.crew.cancel(&self.job, false)
    }

    /// As [`cancel`](Self::cancel), and kills the workers that have begun something of it; others take their place.
    pub fn kill(&self) -> bool {
        self.crew.cancel(&self.job, true)
    }

    fn decoded(&self) -> Result<R, Error> {
        let outcome = self.job.outcome().expect("the wait is over when there is an outcome");
        (self.decode)(&self.job.spec, outcome)
    }
}

impl<R> std::fmt::Debug for AsyncResult<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsyncResult")
            .field("task", &self.job.spec.task)
            .field("ready", &self.ready())
            .finish()
    }
}

impl<R> IntoFuture for AsyncResult<R> {
    type Output = Result<R, Error>;
    type IntoFuture = ResultFuture<R>;

    fn into_future(self) -> ResultFuture<R> {
        ResultFuture { result: self, is_unpin: PhantomData }
    }
}

/// The future of an [`AsyncResult`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are awaited"]
pub struct ResultFuture<R> {
    result: AsyncResult<R>,
    is_unpin: PhantomData<fn() -> R>,
}

impl<R> Future for ResultFuture<R> {
    type Output = Result<R, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = &self.result;
        if !result.ready() {
            result.job.wake_when_done(context.waker());
            result.crew.hurry();
            // It may have been done in between, before the waker was known.
            if !result.ready() {
                return Poll::Pending;
            }
        }
        Poll::Ready(result.decoded())
    }
}

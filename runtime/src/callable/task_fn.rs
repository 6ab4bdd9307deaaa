//! Which callables can run in another process.

use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arguments::Arguments;
use super::asynchronous::{Async, block_on};
use super::stateless;
use crate::transport::codec;
use crate::worker::dispatch::{Descriptor, Witness};

/// A function that another process can run: what [`Pool`](crate::Pool) and
/// [`Process`](crate::Process) take.
///
/// It is implemented for everything that can be called with up to 12 owned arguments and has no
/// value of its own at run time:
///
/// - functions under [`#[task]`](macro@crate::task), and all other functions, `async` ones too
/// - instances of generic functions, such as `largest::<u32>`
/// - associated functions and methods, such as `f64::sqrt`
/// - closures that capture nothing; their arguments need types, as in `|x: u64| x + 1`
/// - what [`bind`](crate::bind) makes: one of these together with some of its arguments
///
/// Arguments and results must be a [`Payload`]. The parameter `Marker` exists for inference only:
/// write `impl TaskFn<M>` with a parameter `M` of your own.
///
/// What captures variables, and a function pointer, differs from value to value, and no other
/// process has that value: it is refused when the program is built, with a message that says what
/// to do.
///
/// # Examples
/// ```
/// use procession::TaskFn;
///
/// fn apply<M, F: TaskFn<M>>(f: F, args: F::Args) -> F::Output {
///     f.run_here(args)
/// }
///
/// assert_eq!(apply(f64::sqrt, (9.0,)), 3.0);
/// assert_eq!(apply(|a: u8, b: u8| a + b, (1, 2)), 3);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't run in another process",
    label = "not a callable that another process can run",
    note = "a task is a function, or a closure that captures nothing, with at most 12 arguments",
    note = "its arguments are owned (`String`, not `&str`), and the arguments of a closure have \
            types: `|x: u64| …`",
    note = "arguments and result have `#[derive(serde::Serialize, serde::Deserialize)]`",
    note = "to fix some of the arguments, use `procession::bind(f, (value,))`"
)]
pub trait TaskFn<Marker>: Sized + Send + 'static {
    /// All arguments, as a tuple: `(u64,)` for one.
    type Args: Arguments;

    /// The result.
    type Output: Serialize + DeserializeOwned + 'static;

    /// Calls it in this process. An `async` function is driven to its end.
    fn run_here(&self, args: Self::Args) -> Self::Output;

    /// Refuses, when the program is built, a callable that has a value at run time. What takes a
    /// callable evaluates this first, in `const { F::CHECK }`, because the compiler shows the call
    /// of the outermost function that does.
    #[doc(hidden)]
    const CHECK: () = ();

    /// What runs it in a worker.
    #[doc(hidden)]
    fn descriptor(&self) -> &'static Descriptor;

    /// What [`restore`](Self::restore) needs to make this very callable, encoded. Appends.
    #[doc(hidden)]
    fn bound(&self, _out: &mut Vec<u8>) -> Result<(), codec::Error> {
        Ok(())
    }

    /// Makes the callable in a worker.
    #[doc(hidden)]
    fn restore(bound: &[u8], witness: &Witness) -> Result<Self, codec::Error>;
}

/// A value that can be sent between processes: an argument or a result of a task.
///
/// It is implemented for each type that has serde's `Serialize` and `Deserialize` and borrows
/// nothing. For a type of your own, derive them:
///
/// ```
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Job {
///     path: String,
///     retries: u32,
/// }
/// # fn is_payload<T: procession::Payload>() {}
/// # is_payload::<Job>();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be sent between processes",
    label = "what goes between processes is serialised, and owns its data",
    note = "add `#[derive(serde::Serialize, serde::Deserialize)]` to each type of your own in it",
    note = "for a type of another crate, look for its feature `serde`"
)]
pub trait Payload: Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + 'static> Payload for T {}

/// Input: the arguments of one arity. Output: the implementations for functions and for functions
/// that return a future.
macro_rules! impl_task_fn {
    ($($A:ident)*) => {
        #[diagnostic::do_not_recommend]
        impl<F, $($A,)* R> TaskFn<fn($($A),*) -> R> for F
        where
            F: Fn($($A),*) -> R + Copy + Send + 'static,
            $($A: Payload,)*
            R: Payload,
        {
            type Args = ($($A,)*);
            type Output = R;

            const CHECK: () = stateless::check::<F>();

            #[allow(non_snake_case, reason = "arguments are named as their types")]
            fn run_here(&self, ($($A,)*): Self::Args) -> R {
                self($($A),*)
            }

            fn descriptor(&self) -> &'static Descriptor {
                stateless::descriptor(self)
            }

            fn restore(_: &[u8], witness: &Witness) -> Result<Self, codec::Error> {
                Ok(stateless::restore(witness))
            }
        }

        #[diagnostic::do_not_recommend]
        impl<F, $($A,)* Fut, R> TaskFn<Async<fn($($A),*) -> R>> for F
        where
            F: Fn($($A),*) -> Fut + Copy + Send + 'static,
            Fut: Future<Output = R>,
            $($A: Payload,)*
            R: Payload,
        {
            type Args = ($($A,)*);
            type Output = R;

            const CHECK: () = stateless::check::<F>();

            #[allow(non_snake_case, reason = "arguments are named as their types")]
            fn run_here(&self, ($($A,)*): Self::Args) -> R {
                block_on(self($($A),*))
            }

            fn descriptor(&self) -> &'static Descriptor {
                stateless::descriptor(self)
            }

            fn restore(_: &[u8], witness: &Witness) -> Result<Self, codec::Error> {
                Ok(stateless::restore(witness))
            }
        }
    };
}

for_each_arity!(impl_task_fn);

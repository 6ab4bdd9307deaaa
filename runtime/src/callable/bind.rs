//! A callable together with its first arguments.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::arguments::Arguments;
use super::stateless;
use super::task_fn::TaskFn;
use crate::transport::codec::{self, passing};
use crate::worker::dispatch::{Descriptor, Witness};

/// Fixes the first arguments of a callable, as Python's `functools.partial` does.
///
/// `bound` is a tuple: `(value,)` for one argument. What comes out takes the remaining arguments.
/// A pool sends the bound arguments once to each worker, however many items it then works on; a
/// worker decodes them once and clones them for each call.
///
/// # Examples
/// ```
/// use procession::{TaskFn, bind, task};
///
/// #[task]
/// fn scale(factor: f64, x: f64) -> f64 {
///     factor * x
/// }
///
/// let double = bind(scale, (2.0,));
/// assert_eq!(double.run_here((21.0,)), 42.0);
/// ```
pub fn bind<M, F, B>(callable: F, bound: B) -> Bound<F, B>
where
    F: TaskFn<M>,
    F::Args: Split<B>,
    B: Clone + Serialize + DeserializeOwned + Send + 'static,
{
    Bound { callable, bound }
}

/// A callable with its first arguments fixed: made by [`bind`].
#[derive(Clone, Copy)]
pub struct Bound<F, B> {
    callable: F,
    bound: B,
}

impl<F, B: fmt::Debug> fmt::Debug for Bound<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound")
            .field("callable", &std::any::type_name::<F>())
            .field("bound", &self.bound)
            .finish()
    }
}

/// Marks a [`Bound`] callable whose own marker is `M`.
#[derive(Debug)]
pub struct Partial<M>(PhantomData<M>);

#[diagnostic::do_not_recommend]
impl<M, F, B> TaskFn<Partial<M>> for Bound<F, B>
where
    F: TaskFn<M>,
    F::Args: Split<B>,
    B: Clone + Serialize + DeserializeOwned + Send + 'static,
{
    type Args = <F::Args as Split<B>>::Rest;
    type Output = F::Output;

    const CHECK: () = F::CHECK;

    fn run_here(&self, rest: Self::Args) -> F::Output {
        self.callable.run_here(F::Args::join(self.bound.clone(), rest))
    }

    fn descriptor(&self) -> &'static Descriptor {
        const { Self::CHECK };
        stateless::describe::<Partial<M>, Self>()
    }

    fn bound(&self, out: &mut Vec<u8>) -> Result<(), codec::Error> {
        let mut inner = Vec::new();
        self.callable.bound(&mut inner)?;
        codec::encode(&(&self.bound, inner), out)
    }

    fn restore(bound: &[u8], witness: &Witness) -> Result<Self, codec::Error> {
        let (bound, inner): (B, Vec<u8>) = passing::receiving(|| codec::decode(bound))?;
        Ok(Bound { callable: F::restore(&inner, witness)?, bound })
    }
}

/// Arguments that begin with `First`, both as tuples: what [`bind`] takes apart.
#[diagnostic::on_unimplemented(
    message = "the arguments `{Self}` don't begin with `{First}`",
    label = "these can't be bound",
    note = "`bind` takes the callable's first arguments as a tuple, `(value,)` for one"
)]
pub trait Split<First> {
    /// The arguments after the first ones.
    type Rest: Arguments;

    /// Puts both parts together again.
    fn join(first: First, rest: Self::Rest) -> Self;
}

/// Input: arguments that go first, `;`, arguments that follow.
/// Output: the implementation for that split, and, with one argument moved to the first part at a
/// time, for each further split of the same tuple.
macro_rules! impl_split {
    ($($A:ident)*; $($B:ident)*) => {
        #[diagnostic::do_not_recommend]
        impl<$($A,)* $($B),*> Split<($($A,)*)> for ($($A,)* $($B,)*)
        where
            $($B: super::task_fn::Payload,)*
        {
            type Rest = ($($B,)*);

            #[allow(non_snake_case, reason = "arguments are named as their types")]
            #[allow(clippy::unused_unit, reason = "no arguments are a unit")]
            fn join(($($A,)*): ($($A,)*), ($($B,)*): ($($B,)*)) -> Self {
                ($($A,)* $($B,)*)
            }
        }
        impl_split!(@move $($A)*; $($B)*);
    };
    (@move $($A:ident)*; $next:ident $($B:ident)*) => {
        impl_split!($($A)* $next; $($B)*);
    };
    (@move $($A:ident)*;) => {};
}

/// Input: the arguments of one arity. Output: all its splits.
macro_rules! impl_splits {
    ($($A:ident)*) => { impl_split!(; $($A)*); };
}

for_each_arity!(impl_splits);

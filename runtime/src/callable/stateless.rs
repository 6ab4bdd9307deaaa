//! Callables that are nothing but their type, and how a worker gets one.
//!
//! Invariant: [`descriptor`] is the only place that describes a stateless callable, and it asks
//! for a value of it. So whoever has the descriptor, in the parent or (after the parent named it)
//! in a worker, knows that such a value existed.

#![expect(unsafe_code, reason = "a worker makes a callable from its type")]

use std::any::{TypeId, type_name};

use serde::Serialize;

use super::arguments::Arguments;
use super::task_fn::TaskFn;
use crate::os::conjure::conjure;
use crate::transport::codec::{self, passing, typed};
use crate::worker::dispatch::{Args, Descriptor, Ran, Run, RunError, Sizes, Witness};
use crate::worker::shift::Shift;

/// Refuses a callable that has a value at run time: see [`TaskFn::CHECK`].
pub(crate) const fn check<F>() {
    assert!(
        size_of::<F>() == 0,
        "this callable has a value at run time, which another process does not have: it captures \
         variables, or it is a fn pointer. Pass what it captures as arguments, or bind it with \
         `procession::bind(f, (value,))`; instead of a fn pointer, pass the function itself"
    );
}

/// Describes a callable.
pub(crate) const fn descriptor<M, F: TaskFn<M> + Copy>(_callable: &F) -> &'static Descriptor {
    const { F::CHECK };
    describe::<M, F>()
}

/// The descriptor of any callable type. The caller has a value of it.
pub(super) const fn describe<M, F: TaskFn<M>>() -> &'static Descriptor {
    const { &Descriptor::new(TypeId::of::<F>, type_name::<F>, prepare::<M, F>) }
}

/// Makes a stateless callable in a worker.
pub(crate) fn restore<F: Copy>(_witness: &Witness) -> F {
    // SAFETY: there is a `Witness` only while a descriptor is being prepared, and a descriptor of
    // `F` is only handed out for a value of `F`, by `descriptor` above.
    unsafe { conjure() }
}

fn prepare<M, F: TaskFn<M>>(bound: &[u8], witness: Witness) -> Result<Box<dyn Run>, codec::Error> {
    let callable = F::restore(bound, &witness)?;
    Ok(Box::new(Ready { callable, call: F::run_here, run_shift: run_shift::<M, F> }))
}

/// A callable in a worker, with its types forgotten behind `dyn Run`. How it is called are
/// pointers, because the type must not name the marker, which may be anything.
struct Ready<F, A, R> {
    callable: F,
    call: fn(&F, A) -> R,
    run_shift: fn(&F, &mut Shift<'_>) -> Result<(), codec::Error>,
}

impl<F, A: Arguments, R: Serialize + 'static> Run for Ready<F, A, R> {
    fn run(&self, args: Args<'_>, typed: bool, result: &mut Vec<u8>) -> Result<Ran, RunError> {
        let args = match (args, A::fixed_size()) {
            (Args::Whole(bytes), Some(_)) if typed => A::decode(bytes),
            (Args::Whole(bytes), _) if typed => passing::receiving(|| A::decode(bytes)),
            (Args::Whole(bytes), _) => passing::receiving(|| codec::decode(bytes)),
            // Only typed ones are sent so.
            (Args::Apart(bytes, tail), _) => passing::receiving(|| A::decode_apart(bytes, tail)),
        };
        let output = (self.call)(&self.callable, args.map_err(RunError::Args)?);
        let (encoded, handles) = match typed::fixed_size::<R>() {
            Some(_) if typed => (typed::encode(&output, result).map(|()| None), Vec::new()),
            _ if typed => passing::collecting(|| typed::encode_apart(output, result)),
            _ => passing::collecting(|| codec::encode(&output, result).map(|()| None)),
        };
        encoded.map(|tail| Ran { handles, tail }).map_err(RunError::Result)
    }

    fn sizes(&self) -> Sizes {
        Sizes { args: A::fixed_size(), result: typed::fixed_size::<R>() }
    }

    fn run_shift(&self, shift: &mut Shift<'_>) -> Result<(), codec::Error> {
        (self.run_shift)(&self.callable, shift)
    }
}

/// The loop over tiny items: nothing in it is a call but that of the callable, which is inlined, too.
fn run_shift<M, F: TaskFn<M>>(callable: &F, shift: &mut Shift<'_>) -> Result<(), codec::Error> {
    let result = typed::fixed_size::<F::Output>();
    let sizes = Sizes { args: F::Args::fixed_size(), result };
    let (Some(size), Some(slot)) = (sizes.args, sizes.slot()) else {
        unreachable!("a shift is only run where both sizes are fixed");
    };
    shift.go_through(size, slot, |input, place| {
        let args = F::Args::decode(input)?;
        let output = callable.run_here(args);
        match typed::raw(&output) {
            Some(result) if slot == result.len() => place.put(result),
            // Even a result without bytes is counted.
            _ => place.put(&[0]),
        }
        Ok(())
    })
}

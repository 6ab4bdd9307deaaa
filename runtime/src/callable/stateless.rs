//! Callables that are nothing but their type, and how a worker gets one.
//!
//! Invariant: [`descriptor`] is the only place that describes a stateless callable, and it asks
//! for a value of it. So whoever has the descriptor, in the parent or (after the parent named it)
//! in a worker, knows that such a value existed.

#![expect(unsafe_code, reason = "a worker makes a callable from its type")]

use std::any::{TypeId, type_name};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::task_fn::TaskFn;
use crate::os::conjure::conjure;
use crate::shm::heap::Object;
use crate::transport::codec::{self, passing};
use crate::worker::dispatch::{Descriptor, Run, RunError, Witness};

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
    Ok(Box::new(Ready { callable: F::restore(bound, &witness)?, call: F::run_here }))
}

/// A callable in a worker, with its types forgotten behind `dyn Run`. How it is called is a
/// pointer, because the type must not name the marker, which may be anything.
struct Ready<F, A, R> {
    callable: F,
    call: fn(&F, A) -> R,
}

impl<F, A: DeserializeOwned, R: Serialize> Run for Ready<F, A, R> {
    fn run(&self, args: &[u8], result: &mut Vec<u8>) -> Result<Vec<Object>, RunError> {
        let args = passing::receiving(|| codec::decode(args)).map_err(RunError::Args)?;
        let output = (self.call)(&self.callable, args);
        let (encoded, handles) = passing::collecting(|| codec::encode(&output, result));
        encoded.map(|()| handles).map_err(RunError::Result)
    }
}

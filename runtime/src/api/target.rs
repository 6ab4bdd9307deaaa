//! From a callable and its arguments to what `sched` takes.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::callable::identity::callee_of;
use crate::callable::task_fn::TaskFn;
use crate::error::{Error, Kind};
use crate::sched::{Bound, Inputs, Outcome, Spec, Task};
use crate::transport::codec::{self, passing};
use crate::transport::message::CalleeBytes;
use crate::worker::dispatch::{Callee, PROCESSION_0_1_TASKS};

/// A callable as it travels.
pub(super) struct Target {
    pub(super) callee: CalleeBytes,
    pub(super) name: Cow<'static, str>,
    pub(super) bound: Option<Arc<Bound>>,
}

impl Target {
    /// # Errors
    /// Bound arguments can't be encoded.
    pub(super) fn new<M, F: TaskFn<M>>(f: &F) -> Result<Self, Error> {
        let callee = callee_of(f);
        let name = match callee {
            Callee::Entry(index) => PROCESSION_0_1_TASKS[index as usize].name,
            Callee::Static { .. } => f.descriptor().name(),
        };
        let mut bytes = Vec::new();
        let (encoded, handles) = passing::collecting(|| f.bound(&mut bytes));
        encoded.map_err(|error| {
            let text = format!("its bound arguments can't be encoded: {error}");
            Error::new(Kind::Data(text)).of_task(name)
        })?;
        let bound = (!bytes.is_empty()).then(|| Arc::new(Bound::new(bytes, handles)));
        Ok(Self { callee: callee.encode(), name: name.into(), bound })
    }

    /// The callable with its arguments, for an initializer.
    pub(super) fn with(self, arguments: &impl Serialize) -> Result<Task, Error> {
        let mut inputs = Inputs::default();
        encode(&mut inputs, arguments).map_err(|error| error.of_task(&self.name))?;
        let name = self.name.into_owned();
        Ok(Task { callee: self.callee, name, bound: self.bound, arguments: inputs })
    }

    /// A call without any options.
    pub(super) fn plain(self) -> Spec {
        Spec {
            callee: self.callee,
            task: self.name,
            bound: self.bound,
            time_limit: None,
            retries: 0,
            chunk: None,
            priority: 0,
            bound_once: true,
            first_error_counts: false,
        }
    }
}

/// Appends an item's arguments.
pub(super) fn encode(inputs: &mut Inputs, arguments: &impl Serialize) -> Result<(), Error> {
    inputs.collect(|inputs| encode_one(inputs, arguments))
}

/// As [`encode`], where handles are collected already.
fn encode_one(inputs: &mut Inputs, arguments: &impl Serialize) -> Result<(), Error> {
    inputs
        .push(|out| codec::encode(arguments, out))
        .map_err(|error| Error::new(Kind::Data(format!("its arguments can't be encoded: {error}"))))
}

/// Encodes all items. One that can't be encoded leaves a gap, and its error beside it.
pub(super) fn encode_all<A: Serialize>(
    spec: &Spec,
    items: impl IntoIterator<Item = A>,
) -> Result<(Inputs, Vec<(u32, Error)>), Error> {
    let mut inputs = Inputs::default();
    let failed = inputs.collect(|inputs| push_all(inputs, spec, items.into_iter()))?;
    Ok((inputs, failed))
}

fn push_all<A: Serialize>(
    inputs: &mut Inputs,
    spec: &Spec,
    items: impl Iterator<Item = A>,
) -> Result<Vec<(u32, Error)>, Error> {
    let mut failed = Vec::new();
    let expected = items.size_hint().0;
    for item in items {
        let index = u32::try_from(inputs.len()).ok().filter(|index| *index < u32::MAX - 1);
        let index = index.ok_or_else(|| {
            Error::usage("one call takes at most 2^32 - 2 items; use several, or `imap`")
        })?;
        if let Err(error) = encode_one(inputs, &item) {
            failed.push((index, error.of_task(&spec.task).at_index(Some(index as usize))));
            inputs.push_gap();
        }
        if index == 0 {
            inputs.expect(expected);
        }
    }
    Ok(failed)
}

/// The decoded result of an item.
pub(super) fn decode<R: DeserializeOwned>(
    spec: &Spec,
    outcome: &Outcome,
    item: usize,
    index: Option<usize>,
) -> Result<R, Error> {
    let bytes = outcome.get(item)?;
    passing::receiving(|| codec::decode(&bytes)).map_err(|error| {
        let text = format!("its result can't be decoded: {error}");
        Error::new(Kind::Data(text)).of_task(&spec.task).at_index(index)
    })
}

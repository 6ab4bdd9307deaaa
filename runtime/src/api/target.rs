//! From a callable and its arguments to what `sched` takes.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::callable::arguments::Arguments;
use crate::callable::identity::callee_of;
use crate::callable::task_fn::TaskFn;
use crate::error::{Error, Kind};
use crate::os::memory::{append, copy_in};
use crate::sched::{Bound, Crew, Inputs, Outcome, Spec, Task};
use crate::transport::board::INPUTS;
use crate::transport::codec::cells::{self, Shape};
use crate::transport::codec::{self, passing, typed};
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
            soft_limit: None,
            grace: Duration::ZERO,
            retries: 0,
            backoff: None,
            chunk: None,
            priority: 0,
            bound_once: true,
            first_error_counts: false,
            typed: false,
            results: None,
            shared: false,
        }
    }

    /// A call of a callable whose types are known here.
    pub(super) fn typed<R: 'static>(self) -> Spec {
        Spec { typed: true, results: Shape::of::<R>(), ..self.plain() }
    }
}

/// Appends an item's arguments.
pub(super) fn encode(inputs: &mut Inputs, arguments: &impl Serialize) -> Result<(), Error> {
    let encode = |inputs: &mut Inputs| inputs.push(|out| codec::encode(arguments, out));
    inputs.collect(encode).map_err(cant_be_encoded)
}

/// As [`encode_typed`], where handles are collected already.
fn encode_one(inputs: &mut Inputs, arguments: impl Arguments) -> Result<(), Error> {
    inputs.push_apart(|out| arguments.encode_apart(out)).map_err(cant_be_encoded)
}

fn cant_be_encoded(error: codec::Error) -> Error {
    Error::new(Kind::Data(format!("its arguments can't be encoded: {error}")))
}

/// The highest index is one that no position has.
const MOST_ITEMS: usize = u32::MAX as usize - 1;

fn too_many() -> Error {
    Error::usage("one call takes at most 2^32 - 2 items; use several, or `imap`")
}

/// Appends an item's arguments, where their types are known.
pub(super) fn encode_typed<A: Arguments>(inputs: &mut Inputs, arguments: A) -> Result<(), Error> {
    if A::fixed_size().is_some() && inputs.fixed_size().is_some() {
        extend(inputs, &mut std::iter::once(arguments));
        return Ok(());
    }
    inputs.collect(|inputs| encode_one(inputs, arguments))
}

/// The arguments of a single call.
pub(super) fn encode_one_call<A: Arguments>(arguments: A) -> Result<Inputs, Error> {
    Inputs::one(A::fixed_size(), |out| arguments.encode_apart(out)).map_err(cant_be_encoded)
}

/// Items of these arguments, none yet.
pub(super) fn inputs_for<A: Arguments>() -> Inputs {
    Inputs::of_size(A::fixed_size())
}

/// Encodes all items. One that can't be encoded leaves a gap, and its error beside it.
pub(super) fn encode_all<A: Arguments>(
    crew: &Crew,
    spec: &Spec,
    items: impl IntoIterator<Item = A>,
) -> Result<(Inputs, Vec<(u32, Error)>), Error> {
    if let Some(size) = A::fixed_size() {
        return Ok((encode_fixed(crew, size, items.into_iter())?, Vec::new()));
    }
    let mut inputs = inputs_for::<A>();
    let failed = inputs.collect(|inputs| push_all(inputs, spec, items.into_iter()))?;
    Ok((inputs, failed))
}

/// Encodes items of this size: where the workers will find them, if it is known how many there are.
fn encode_fixed<A: Arguments>(
    crew: &Crew,
    size: usize,
    mut items: impl Iterator<Item = A>,
) -> Result<Inputs, Error> {
    let mut inputs = inputs_for::<A>();
    let expected = items.size_hint();
    let count = if expected.1 == Some(expected.0) { expected.0 } else { 0 };
    if size > 0
        && let Some(memory) = crew.memory_for(count, size)
        && let Ok(room) = memory.atomics(INPUTS..INPUTS + count * size)
    {
        let written = write_all(room, size, &mut items);
        inputs = Inputs::lying_in(memory, INPUTS, size, written);
        let Some(unexpected) = items.next() else { return Ok(inputs) };
        inputs.fetch();
        extend(&mut inputs, &mut std::iter::once(unexpected));
    }
    extend(&mut inputs, &mut items);
    if items.next().is_none() { Ok(inputs) } else { Err(too_many()) }
}

/// Writes items of this size behind each other, as many as there is room for. Says how many.
fn write_all<A: Arguments>(
    room: &[AtomicU8],
    size: usize,
    items: &mut impl Iterator<Item = A>,
) -> usize {
    let mut written = 0;
    for mut place in room.chunks_exact(size) {
        let Some(item) = items.next() else { break };
        item.write(|part| {
            let (here, rest) = place.split_at(part.len());
            copy_in(here, part);
            place = rest;
        });
        written += 1;
    }
    written
}

fn extend<A: Arguments>(inputs: &mut Inputs, items: &mut impl Iterator<Item = A>) {
    let write = |item: &A, to: &mut Vec<u8>| item.write(|bytes| to.extend_from_slice(bytes));
    inputs.extend_fixed(items, MOST_ITEMS, write);
}

fn push_all<A: Arguments>(
    inputs: &mut Inputs,
    spec: &Spec,
    items: impl Iterator<Item = A>,
) -> Result<Vec<(u32, Error)>, Error> {
    let mut failed = Vec::new();
    let expected = items.size_hint().0;
    for item in items {
        let index = u32::try_from(inputs.len()).ok().filter(|_| inputs.len() < MOST_ITEMS);
        let index = index.ok_or_else(too_many)?;
        if let Err(error) = encode_one(inputs, item) {
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
pub(super) fn decode<R: DeserializeOwned + 'static>(
    spec: &Spec,
    outcome: &Outcome,
    item: usize,
    index: Option<usize>,
) -> Result<R, Error> {
    if let Some((head, tail)) = outcome.large(item).filter(|(head, _)| is_apart(spec, head)) {
        let mut copy = Vec::new();
        append(tail, &mut copy);
        return decode_apart(spec, head, copy, index);
    }
    let bytes = outcome.get(item)?;
    let decoded = match spec.typed {
        true => passing::receiving(|| typed::decode(&bytes)),
        false => passing::receiving(|| codec::decode(&bytes)),
    };
    decoded.map_err(|error| cant_be_decoded(spec, &error, index))
}

/// As [`decode`], of an item that nobody asks for again: a long result keeps the memory in which it came.
pub(super) fn take<R: DeserializeOwned + 'static>(
    spec: &Spec,
    outcome: &mut Outcome,
    item: usize,
    index: Option<usize>,
) -> Result<R, Error> {
    if outcome.large(item).is_some_and(|(head, _)| is_apart(spec, head))
        && let Some((head, tail)) = outcome.take_large(item)
    {
        return decode_apart(spec, &head, tail, index);
    }
    decode(spec, outcome, item, index)
}

/// Whether a large result has come in two parts that mean something.
fn is_apart(spec: &Spec, head: &[u8]) -> bool {
    spec.typed && !head.is_empty()
}

fn decode_apart<R: DeserializeOwned + 'static>(
    spec: &Spec,
    head: &[u8],
    tail: Vec<u8>,
    index: Option<usize>,
) -> Result<R, Error> {
    let decoded = passing::receiving(|| typed::decode_apart(head, tail));
    decoded.map_err(|error| cant_be_decoded(spec, &error, index))
}

fn cant_be_decoded(spec: &Spec, error: &codec::Error, index: Option<usize>) -> Error {
    let text = format!("its result can't be decoded: {error}");
    Error::new(Kind::Data(text)).of_task(&spec.task).at_index(index)
}

/// All decoded results, or the error of the first item that has one.
pub(super) fn decode_all<R: DeserializeOwned + 'static>(
    spec: &Spec,
    outcome: &Outcome,
) -> Result<Vec<R>, Error> {
    let dense = outcome.all().filter(|(_, size)| *size > 0);
    if let Some(numbers) = dense.and_then(|(bytes, _)| cells::decoded(bytes)) {
        return Ok(numbers);
    }
    // Collecting into a `Result` would not know the length.
    let mut results = Vec::with_capacity(outcome.items());
    if let Some((bytes, size)) = dense {
        for (item, bytes) in bytes.chunks_exact(size).enumerate() {
            let decoded = typed::decode(bytes);
            results.push(decoded.map_err(|error| cant_be_decoded(spec, &error, Some(item)))?);
        }
        return Ok(results);
    }
    for item in 0..outcome.items() {
        results.push(decode(spec, outcome, item, Some(item))?);
    }
    Ok(results)
}

/// As [`decode_all`], of results that nobody asks for again.
pub(super) fn take_all<R: DeserializeOwned + 'static>(
    spec: &Spec,
    mut outcome: Outcome,
) -> Result<Vec<R>, Error> {
    if outcome.all().is_some() {
        if !typed::is_number::<R>() {
            return decode_all(spec, &outcome);
        }
        return match outcome.into_cells() {
            Ok(all) => Ok(cells::vector(all).expect("the cells are of the type of the results")),
            Err(outcome) => decode_all(spec, &outcome),
        };
    }
    let mut results = Vec::with_capacity(outcome.items());
    for item in 0..outcome.items() {
        results.push(take(spec, &mut outcome, item, Some(item))?);
    }
    Ok(results)
}

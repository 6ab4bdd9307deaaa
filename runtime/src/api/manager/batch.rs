//! Many calls in one round trip.
//!
//! Handles in results are decoded within [`receiving`](crate::transport::codec::passing::receiving) by the
//! method's own decoder, while [`Results`] hold them.

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::mem;
use std::ops::Range;
use std::rc::Rc;

use super::error::ManagerError;
use crate::manage::afar::client::ForBuild;
use crate::manage::afar::peer::{self, Peer};
use crate::manage::call::{Call, Decode, Held};
use crate::manage::class::Managed;
use crate::manage::handle::{self, Handle};
use crate::manage::protocol::{self, Fault};
use crate::transport::codec;

/// Calls that are sent together: see [`Manager::batch`](super::Manager::batch).
pub struct Batch {
    calls: RefCell<Calls>,
    outcome: Rc<Outcome>,
}

#[derive(Default)]
struct Calls {
    request: Vec<u8>,
    held: Held,
    /// What the first one is a call of: all go the same way.
    first: Option<Handle>,
    count: usize,
}

/// What is known of all calls of a batch.
#[derive(Default)]
struct Outcome {
    results: OnceCell<Results>,
    /// The calls whose results nobody will ask for: their errors are the whole batch's.
    unasked: RefCell<Vec<Place>>,
}

#[derive(Default)]
struct Results {
    bytes: Vec<u8>,
    each: Vec<Result<Range<usize>, Fault>>,
    /// Holds the handles in the results until they are decoded.
    _held: Held,
    /// Whose the numbers in the results are.
    peer: Option<Peer>,
}

/// Where a call's result is to be found.
struct Place {
    index: Result<usize, Fault>,
    /// The type and its method, for errors.
    method: [&'static str; 2],
}

impl Place {
    fn find<'o>(&self, outcome: &'o Outcome) -> Result<&'o [u8], ManagerError> {
        let results = outcome.results.get();
        let found = self.index.clone().and_then(|index| match results {
            Some(results) => {
                let range = results.each.get(index).cloned().unwrap_or(Err(Fault::Lost))?;
                Ok(&results.bytes[range])
            }
            None => Err(Fault::Refused("its batch has not been sent".to_owned())),
        });
        found.map_err(|fault| self.error(fault))
    }

    fn error(&self, fault: Fault) -> ManagerError {
        ManagerError::new(fault, self.method.join("::"))
    }
}

impl Batch {
    /// Collects calls and sends them.
    pub(super) fn run<R>(f: impl FnOnce(&Self) -> R) -> Result<R, ManagerError> {
        let batch = Self { calls: RefCell::default(), outcome: Rc::default() };
        let value = f(&batch);
        let results = batch.send().map_err(|fault| ManagerError::new(fault, "a batch"))?;
        let _ = batch.outcome.results.set(results);
        let unasked = mem::take(&mut *batch.outcome.unasked.borrow_mut());
        unasked.iter().try_for_each(|place| place.find(&batch.outcome).map(drop))?;
        Ok(value)
    }

    fn send(&self) -> Result<Results, Fault> {
        let Calls { request, mut held, first, count } = self.calls.take();
        let Some(first) = first else { return Ok(Results::default()) };
        let way = first.way();
        held.handles.insert(0, first);
        let take = |reply: &mut Vec<u8>, held| {
            let bytes = mem::take(reply);
            let mut rest = protocol::result(&bytes)?;
            let mut each = Vec::with_capacity(count);
            for _ in 0..count {
                each.push(protocol::next_result(&mut rest).map(|result| {
                    // Behind the result are those that follow it.
                    let end = bytes.len() - rest.len();
                    end - result.len()..end
                }));
            }
            Ok(Results { bytes, each, _held: held, peer: way.peer() })
        };
        peer::with(way.peer(), || way.exchange(&request, &held, ForBuild::Any, take))?
    }

    pub(super) fn push<T: Managed, A, R>(
        &self,
        handle: &Handle,
        method: Call<T, A, R>,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<Held, codec::Error>,
    ) -> Later<R> {
        let index = self.calls.borrow_mut().push(handle, method.number(), encode);
        Later {
            outcome: Rc::clone(&self.outcome),
            place: Some(Place { index, method: [T::CLASS.name(), method.name()] }),
            decode: method.result_decoder(),
        }
    }
}

impl Calls {
    fn push(
        &mut self,
        handle: &Handle,
        method: u16,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<Held, codec::Error>,
    ) -> Result<usize, Fault> {
        let way = handle.way();
        let first = self.first.get_or_insert_with(|| {
            protocol::batch(&mut self.request);
            handle.clone()
        });
        if !first.is_on_way(&way) {
            let text = "it is of another manager than the others of its batch";
            return Err(Fault::Refused(text.to_owned()));
        }
        if !first.is_as_old_as(handle) {
            return Err(Fault::Gone);
        }
        let peer = way.peer();
        let push = || protocol::batched(&mut self.request, handle.id(), method, encode);
        let pushed = peer::with(peer, push);
        self.held.extend(pushed.map_err(|error| handle::data("its arguments", &error))?);
        self.count += 1;
        Ok(self.count - 1)
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("calls", &self.calls.borrow().count).finish()
    }
}

/// The result of a call in a [`Batch`], which is there when that has been sent.
///
/// If it is dropped before that, the call's error, if there is one, is the error of the whole batch.
pub struct Later<R> {
    outcome: Rc<Outcome>,
    /// None only when it is dropped.
    place: Option<Place>,
    decode: Decode<R>,
}

impl<R> Later<R> {
    /// The result.
    ///
    /// # Errors
    /// The call's: see [`ManagerError`]. The batch has not been sent.
    pub fn get(mut self) -> Result<R, ManagerError> {
        let place = self.place.take().expect("it is taken here alone, and on drop");
        let bytes = place.find(&self.outcome)?;
        let peer = self.outcome.results.get().and_then(|results| results.peer.clone());
        let decoded = peer::with(peer, || handle::decoded(bytes, self.decode));
        decoded.map_err(|fault| place.error(fault))
    }
}

impl<R> Drop for Later<R> {
    fn drop(&mut self) {
        if let Some(place) = self.place.take()
            && self.outcome.results.get().is_none()
        {
            self.outcome.unasked.borrow_mut().push(place);
        }
    }
}

impl<R> fmt::Debug for Later<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_there = self.outcome.results.get().is_some();
        f.debug_struct("Later").field("is_there", &is_there).finish_non_exhaustive()
    }
}

//! What a managed type is to the server: a class, with methods that can be called by number.
//!
//! A [`Slot`] owns one value, behind a lock: methods with `&self` run side by side, those with `&mut self`
//! alone. The server knows it as a [`dyn Object`](Object), and knows nothing of the type.
//!
//! - Arguments are decoded before the lock is taken: nobody waits for that, and nothing that a client sends
//!   can poison an object before its method has begun. Results are encoded when it was given back, but for
//!   those that built-in methods borrow from the value.
//! - Whoever has to wait for the lock [steps down](server::step_down) before: calls of other objects go on.
//! - A panic of a method is the failure of that one call. It poisons the object if the method had it alone,
//!   as with std's `RwLock`; from then on calls fail, until somebody clears that.
//! - Numbers and bytes come from other processes, and are checked.

use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::call::{self, Call, Held};
use super::keeper::Kept;
use super::{registry, server};
use crate::error::PanicInfo;
use crate::shm::heap;
use crate::transport::codec;
use crate::worker::panics;

/// A type whose values a manager can own, for other processes to call their methods. The attribute
/// `#[managed]` implements it.
pub trait Managed: Sized + Send + Sync + 'static {
    /// The handle that all processes have of such a value.
    type Proxy;

    /// Its methods.
    #[doc(hidden)]
    const CLASS: Class<Self>;

    /// Where it stands that a value is poisoned by something else than a panic of a method: the death of
    /// somebody who holds it. Its methods look there themselves. Such a type has no method that takes long
    /// alone.
    #[doc(hidden)]
    const POISON: Option<fn(&Self) -> &AtomicBool> = None;

    /// How values go into a manager's snapshot, if they can.
    #[doc(hidden)]
    const KEPT: Option<Kept<Self>> = None;
}

/// The methods of a managed type, in the order of their numbers.
pub struct Class<T: 'static> {
    name: &'static str,
    methods: &'static [Method<T>],
}

impl<T> Class<T> {
    /// A class with a name for people.
    pub const fn new(name: &'static str, methods: &'static [Method<T>]) -> Self {
        Self { name, methods }
    }

    /// What people call it.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }
}

/// One method in a class.
pub struct Method<T> {
    name: &'static str,
    signature: &'static str,
    serve: Option<Serve<T>>,
}

/// Runs a method: by [`Slot::shared`], [`Slot::exclusive`], or what these are made of.
type Serve<T> = fn(&Slot<T>, &mut Invocation<'_>) -> Result<(), Failure>;

impl<T> Method<T> {
    /// A method, with its signature as text, such as `fn(&mut self, u64) -> u64`.
    pub const fn new(name: &'static str, signature: &'static str, serve: Serve<T>) -> Self {
        Self { name, signature, serve: Some(serve) }
    }

    /// Stands where there would be a method under other conditions (`#[cfg(…)]`).
    pub const fn absent() -> Self {
        Self { name: "", signature: "", serve: None }
    }
}

impl<T> fmt::Debug for Class<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Class").field("name", &self.name).field("methods", &self.methods).finish()
    }
}

impl<T> fmt::Debug for Method<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.signature)
    }
}

/// One call, in the server: encoded arguments, and a place for the encoded result.
pub struct Invocation<'a> {
    args: &'a [u8],
    reply: &'a mut Vec<u8>,
    held: Held,
}

impl<'a> Invocation<'a> {
    /// A call with these arguments. The result will be appended to `reply`.
    pub(crate) fn new(args: &'a [u8], reply: &'a mut Vec<u8>) -> Self {
        Self { args, reply, held: Held::default() }
    }

    /// The arguments, a tuple.
    ///
    /// # Errors
    /// The bytes are none.
    pub(crate) fn args<A: DeserializeOwned>(&self) -> Result<A, Failure> {
        call::decode(self.args).map_err(Failure::Args)
    }

    /// Appends the result, which may be borrowed from the object.
    ///
    /// # Errors
    /// It can't be encoded; nothing is appended then.
    pub(crate) fn reply<R: Serialize>(&mut self, result: &R) -> Result<(), Failure> {
        self.held = call::encode(result, self.reply).map_err(Failure::Result)?;
        Ok(())
    }

    /// The handles in the result, to be held until it has arrived.
    pub(crate) fn into_held(self) -> Held {
        self.held
    }
}

/// Why a call has no result.
#[derive(Debug)]
pub enum Failure {
    /// The class has no method, or no constructor, of this number.
    NoMethod(u16),
    /// The arguments can't be decoded; nothing was called.
    Args(codec::Error),
    /// The method returned, but its result can't be encoded.
    Result(codec::Error),
    /// The method panicked.
    Panicked(PanicInfo),
    /// A method that had the object alone has panicked before.
    Poisoned,
    /// The method has waited for something, and its caller has gone meanwhile.
    Abandoned,
}

impl<G> From<PoisonError<G>> for Failure {
    fn from(_: PoisonError<G>) -> Self {
        Failure::Poisoned
    }
}

/// Runs what may be the user's code: a panic is that call's failure, and nobody else hears of it.
pub(super) fn catch<R>(f: impl FnOnce() -> Result<R, Failure>) -> Result<R, Failure> {
    panics::catch_quietly(f).unwrap_or_else(|info| Err(Failure::Panicked(info)))
}

/// An object of any class.
pub(crate) trait Object: Send + Sync {
    /// Calls the method of this number.
    ///
    /// # Errors
    /// There is no result; see [`Failure`]. Then nothing was appended to the reply.
    fn call(&self, method: u16, invocation: &mut Invocation<'_>) -> Result<(), Failure>;

    /// Whether calls fail since a method has panicked.
    fn is_poisoned(&self) -> bool;

    /// Lets calls through again.
    fn clear_poison(&self);

    /// Lets no calls through, as after a panic.
    fn poison(&self);

    /// Whether it can be kept in a snapshot.
    fn can_be_kept(&self) -> bool;

    /// Appends the value for a snapshot; tells whether it is poisoned. It waits until then for a method that
    /// has the value alone.
    ///
    /// # Errors
    /// Why the value can't be had, for people.
    fn keep(&self, until: Instant, out: &mut Vec<u8>) -> Result<bool, String>;
}

/// A value that the server owns.
pub struct Slot<T> {
    value: RwLock<T>,
}

impl<T> Slot<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: RwLock::new(value) }
    }

    /// Runs a method that others may run beside.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn shared<A, R>(
        &self,
        call: Call<T, A, R>,
        invocation: &mut Invocation<'_>,
        method: impl FnOnce(&T, A) -> R,
    ) -> Result<(), Failure> {
        let args = call.decode_args(invocation.args).map_err(Failure::Args)?;
        let result = method(&*self.read()?, args);
        answer(call, invocation, &result)
    }

    /// Runs a method that has the value alone.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn exclusive<A, R>(
        &self,
        call: Call<T, A, R>,
        invocation: &mut Invocation<'_>,
        method: impl FnOnce(&mut T, A) -> R,
    ) -> Result<(), Failure> {
        let args = call.decode_args(invocation.args).map_err(Failure::Args)?;
        let result = method(&mut *self.write()?, args);
        answer(call, invocation, &result)
    }

    /// The value, beside others who look at it.
    ///
    /// # Errors
    /// It is poisoned.
    pub(crate) fn read(&self) -> Result<RwLockReadGuard<'_, T>, Failure> {
        match self.value.try_read() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => Err(poisoned.into()),
            Err(TryLockError::WouldBlock) => {
                server::step_down();
                Ok(self.value.read()?)
            }
        }
    }

    /// The value, alone.
    ///
    /// # Errors
    /// It is poisoned.
    pub(crate) fn write(&self) -> Result<RwLockWriteGuard<'_, T>, Failure> {
        match self.value.try_write() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => Err(poisoned.into()),
            Err(TryLockError::WouldBlock) => {
                server::step_down();
                Ok(self.value.write()?)
            }
        }
    }
}

/// Between two looks whether a method is done that has a value alone.
const LOOK: Duration = Duration::from_millis(1);

impl<T> Slot<T> {
    /// The value, poisoned or not. None: some method has it alone until then.
    fn read_until(&self, until: Instant) -> Option<RwLockReadGuard<'_, T>> {
        loop {
            match self.value.try_read() {
                Ok(guard) => return Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(LOOK),
            }
        }
    }
}

fn answer<T, A, R>(
    call: Call<T, A, R>,
    invocation: &mut Invocation<'_>,
    result: &R,
) -> Result<(), Failure> {
    invocation.held = call.encode_result(result, invocation.reply).map_err(Failure::Result)?;
    Ok(())
}

impl<T: Managed> Object for Slot<T> {
    fn call(&self, method: u16, invocation: &mut Invocation<'_>) -> Result<(), Failure> {
        let found = T::CLASS.methods.get(usize::from(method));
        let serve = found.and_then(|found| found.serve).ok_or(Failure::NoMethod(method))?;
        catch(|| serve(self, invocation))
    }

    fn is_poisoned(&self) -> bool {
        let of_holders = T::POISON.is_some_and(|poison| {
            poison(&self.value.read().unwrap_or_else(PoisonError::into_inner)).load(Relaxed)
        });
        of_holders || self.value.is_poisoned()
    }

    fn clear_poison(&self) {
        if let Some(poison) = T::POISON {
            poison(&self.value.read().unwrap_or_else(PoisonError::into_inner))
                .store(false, Relaxed);
        }
        self.value.clear_poison();
    }

    fn poison(&self) {
        // There is no other way to poison a lock. No hook hears of this panic.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| {
            let _guard = self.value.write();
            panic::resume_unwind(Box::new(()));
        }));
    }

    fn can_be_kept(&self) -> bool {
        T::KEPT.is_some()
    }

    fn keep(&self, until: Instant, out: &mut Vec<u8>) -> Result<bool, String> {
        let Some(kept) = T::KEPT else { return Err("its type can't".to_owned()) };
        let Some(value) = self.read_until(until) else {
            return Err("one of its methods takes too long".to_owned());
        };
        kept.encode(&value, out).map_err(|failure| match failure {
            Failure::Panicked(info) => format!("its code panicked{info}"),
            Failure::Result(error) => {
                format!("{error}; what has proxies or other handles in it can't be kept")
            }
            _ => unreachable!("no method was called"),
        })?;
        Ok(self.value.is_poisoned())
    }
}

/// An object that a constructor has made.
pub struct Made {
    pub(crate) object: Arc<dyn Object>,
    /// See [`layout_of`](heap::layout_of).
    pub(crate) layout: u64,
    /// The proxy's type, for people.
    pub(crate) proxy: &'static str,
    /// See [`described`].
    pub(crate) described: fn() -> Vec<String>,
    /// See [`fingerprint`].
    pub(crate) fingerprint: fn() -> u64,
    /// See [`name_of`].
    pub(crate) class: fn() -> String,
}

impl Made {
    /// The object of a value.
    pub(crate) fn new<T: Managed>(value: T) -> Self {
        Self {
            object: Arc::new(Slot::new(value)),
            layout: heap::layout_of::<T>(),
            proxy: type_name::<T::Proxy>(),
            described: described::<T>,
            fingerprint: fingerprint_of::<T>,
            class: name_of::<T>,
        }
    }
}

/// What programs that aren't of the same build compare: the type's name, and its methods with their
/// signatures.
pub(crate) fn described<T: Managed>() -> Vec<String> {
    let methods = T::CLASS.methods.iter().map(|method| format!("{method:?}"));
    std::iter::once(name_of::<T>()).chain(methods).collect()
}

/// The type's name, for other programs.
pub(crate) fn name_of<T: Managed>() -> String {
    // A type under the attribute has one that it may have in other programs, too.
    let name = match registry::index_of::<T>() {
        Some(_) => T::CLASS.name,
        None => type_name::<T::Proxy>(),
    };
    name.to_owned()
}

/// What [`described`] comes to in a number: the same in every program, on every machine.
pub(crate) fn fingerprint(described: &[String]) -> u64 {
    let hash = Sha256::digest(described.join("\n"));
    let first = hash.first_chunk().expect("it has 32 bytes");
    u64::from_le_bytes(*first)
}

/// The [`fingerprint`] of a class.
pub(crate) fn fingerprint_of<T: Managed>() -> u64 {
    static KNOWN: Mutex<BTreeMap<u64, u64>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    *known.entry(heap::layout_of::<T>()).or_insert_with(|| fingerprint(&described::<T>()))
}

impl Invocation<'_> {
    /// Runs a constructor.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn make<T: Managed, A>(
        &mut self,
        call: Call<T, A, ()>,
        constructor: impl FnOnce(A) -> T,
    ) -> Result<Option<Made>, Failure> {
        let args = call.decode_args(self.args).map_err(Failure::Args)?;
        let made = Made::new(constructor(args));
        answer(call, self, &())?;
        Ok(Some(made))
    }

    /// Runs a constructor that may fail, and makes no object then.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn try_make<T: Managed, A, E>(
        &mut self,
        call: Call<T, A, Result<(), E>>,
        constructor: impl FnOnce(A) -> Result<T, E>,
    ) -> Result<Option<Made>, Failure> {
        let args = call.decode_args(self.args).map_err(Failure::Args)?;
        let (made, result) = match constructor(args) {
            Ok(value) => (Some(Made::new(value)), Ok(())),
            Err(error) => (None, Err(error)),
        };
        answer(call, self, &result)?;
        Ok(made)
    }
}

#[cfg(test)]
mod tests;

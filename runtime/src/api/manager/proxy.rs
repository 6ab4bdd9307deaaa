//! What all proxies are made of.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::batch::{Batch, Later};
use super::error::ManagerError;
use crate::manage::call::{self, Call, Held};
use crate::manage::class::{self, Managed};
use crate::manage::handle::Handle;
use crate::manage::requests::{CLEAR_POISON, IS_POISONED};
use crate::manage::{keeper, maker};

/// A handle on a managed value of type `T`: what the typed proxies are made of.
///
/// It can be cloned, sent in calls and results, through queues and pipes, and be inside other managed
/// values. The value lives as long as a proxy does, in whatever process.
pub struct Proxy<T> {
    handle: Handle,
    of: PhantomData<fn() -> T>,
}

/// A typed proxy: [`Dict`](super::Dict) and its kin, and what [`#[managed]`](macro@crate::managed) makes.
///
/// It doesn't name the type of the values, which may be a private one, while its handle is public.
pub trait ManagedProxy: Sized {
    /// Whether the handle is on a value of this type.
    #[doc(hidden)]
    fn fits(handle: &Handle) -> bool;

    /// The type and its methods, to be compared with another program's.
    #[doc(hidden)]
    fn described() -> Vec<String>;

    /// What makes a value of what a snapshot has of it.
    #[doc(hidden)]
    fn maker() -> Option<maker::Name>;

    /// The proxy that a handle on a value of this type is.
    #[doc(hidden)]
    fn from_handle(handle: Handle) -> Self;

    /// The handle that it is made of.
    #[doc(hidden)]
    fn as_handle(&self) -> &Handle;
}

impl<T: Managed> ManagedProxy for Proxy<T> {
    fn fits(handle: &Handle) -> bool {
        handle.is_on::<T>()
    }

    fn described() -> Vec<String> {
        class::described::<T>()
    }

    fn maker() -> Option<maker::Name> {
        keeper::maker_of::<T>()
    }

    fn from_handle(handle: Handle) -> Self {
        Self::new(handle)
    }

    fn as_handle(&self) -> &Handle {
        &self.handle
    }
}

impl<T> Proxy<T> {
    pub(crate) fn new(handle: Handle) -> Self {
        Self { handle, of: PhantomData }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl<T: Managed> Proxy<T> {
    /// Calls a method. For what `#[managed]` makes.
    ///
    /// # Errors
    /// See [`ManagerError`].
    #[doc(hidden)]
    pub fn call<A, R>(&self, method: Call<T, A, R>, args: &A) -> Result<R, ManagerError> {
        let called = self.handle.call(
            method.number(),
            |out| method.encode_args(args, out),
            |bytes| method.decode_result(bytes),
        );
        called.map_err(|fault| ManagerError::new(fault, described(method)))
    }

    /// Calls a method with arguments that are encoded as its own are.
    pub(super) fn call_as<A, R>(
        &self,
        method: Call<T, A, R>,
        args: &impl Serialize,
    ) -> Result<R, ManagerError> {
        let called = self.handle.call(
            method.number(),
            |out| call::encode(args, out),
            |bytes| method.decode_result(bytes),
        );
        called.map_err(|fault| ManagerError::new(fault, described(method)))
    }

    /// Calls a method in a batch. For what `#[managed]` makes.
    #[doc(hidden)]
    pub fn call_later<A, R>(&self, batch: &Batch, method: Call<T, A, R>, args: &A) -> Later<R> {
        batch.push(&self.handle, method, |out| method.encode_args(args, out))
    }

    /// As [`call_as`](Self::call_as), in a batch.
    pub(super) fn call_later_as<A, R>(
        &self,
        batch: &Batch,
        method: Call<T, A, R>,
        args: &impl Serialize,
    ) -> Later<R> {
        batch.push(&self.handle, method, |out| call::encode(args, out))
    }

    /// Whether calls fail since a method has panicked while it was changing the value.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn is_poisoned(&self) -> Result<bool, ManagerError> {
        self.ask(IS_POISONED, "is_poisoned")
    }

    /// Lets calls through again after a panic: the caller knows that the value is in order, or doesn't mind.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn clear_poison(&self) -> Result<(), ManagerError> {
        self.ask(CLEAR_POISON, "clear_poison")
    }

    fn ask<R: DeserializeOwned>(&self, method: u16, name: &str) -> Result<R, ManagerError> {
        let asked = self.handle.call(method, |_| Ok(Held::default()), call::decode);
        asked.map_err(|fault| ManagerError::new(fault, format!("{}::{name}", T::CLASS.name())))
    }
}

/// Which method of which type, for errors.
fn described<T: Managed, A, R>(method: Call<T, A, R>) -> String {
    format!("{}::{}", T::CLASS.name(), method.name())
}

impl<T> Clone for Proxy<T> {
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone(), of: PhantomData }
    }
}

impl<T> fmt::Debug for Proxy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy<{}>({:?})", type_name::<T>(), self.handle)
    }
}

impl<T> Serialize for Proxy<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de, T: Managed> Deserialize<'de> for Proxy<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let handle = Handle::deserialize(deserializer)?;
        if !handle.is_on::<T>() {
            return Err(D::Error::custom(format_args!(
                "the handle {:?} is one on another type than {}",
                handle,
                type_name::<T>()
            )));
        }
        Ok(Self::new(handle))
    }
}

//! Values of all types under names, for many processes.

use std::any::type_name;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _};

use super::batch::Later;
use super::builtin::builtin;
use super::error::ManagerError;
use crate::callable::task_fn::Payload;
use crate::manage::keeper::append;
use crate::transport::codec;

/// The values, in the server, which doesn't know their types.
pub(super) struct Entries(BTreeMap<String, Encoded>);

impl From<BTreeMap<String, Encoded>> for Entries {
    fn from(values: BTreeMap<String, Encoded>) -> Self {
        Self(values)
    }
}

impl From<()> for Entries {
    fn from((): ()) -> Self {
        Self(BTreeMap::new())
    }
}

/// The name of a value's type, and its bytes.
type Encoded = (String, Vec<u8>);

fn encoded<T: Payload>(name: &str, value: &T) -> Result<Encoded, ManagerError> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes)
        .map_err(|error| ManagerError::Data(format!("the value `{name}`: {error}")))?;
    Ok((type_name::<T>().to_owned(), bytes))
}

/// A client's side of it, which knows the type.
struct Typed<T>(T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Typed<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (found, bytes) = Encoded::deserialize(deserializer)?;
        let expected = type_name::<T>();
        if found != expected {
            let text = format!("the value in the namespace is a {found}, not a {expected}");
            return Err(D::Error::custom(text));
        }
        codec::decode(&bytes).map(Self).map_err(D::Error::custom)
    }
}

/// Decodes what `get` and `remove` give.
fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<T>, codec::Error> {
    let value: Option<Typed<T>> = codec::decode(bytes)?;
    Ok(value.map(|Typed(value)| value))
}

builtin! {
    /// Values of any types under names, which a [`Manager`](crate::Manager) owns.
    ///
    /// Who gets a value names its type, and gets an error if it is of another one. Values with handles in
    /// them (queues, locks, proxies) can't be in a namespace: use a [`Dict`](crate::Dict) of these.
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let settings = manager.namespace()?;
    /// settings.set("depth", &3_u32)?;
    /// settings.set("path", &"/tmp".to_owned())?;
    /// assert_eq!(settings.get::<u32>("depth")?, Some(3));
    /// assert_eq!(settings.get::<u32>("width")?, None);
    /// assert!(settings.get::<String>("depth").is_err(), "it is a number");
    /// # Ok(())
    /// # }
    /// ```
    pub struct Namespace<>, NamespaceBatch of Entries
    where []
    kept as BTreeMap<String, Encoded>: |entries, out| append(&entries.0, out);

    #[doc(hidden)]
    exclusive fn set_encoded(entries, name: &str => String, value: Encoded) -> () {
        entries.0.insert(name, value);
    }

    #[doc(hidden)]
    shared fn get_encoded(entries, name: &str => String) -> Option<Encoded> {
        entries.0.get(&name)
    }

    /// Takes a value out. False: there is none of this name.
    exclusive fn remove(entries, name: &str => String) -> bool {
        entries.0.remove(&name).is_some()
    }

    /// Whether there is a value of this name.
    shared fn contains(entries, name: &str => String) -> bool {
        entries.0.contains_key(&name)
    }

    /// The names, in order.
    shared fn names(entries) -> Vec<String> {
        entries.0.keys().collect::<Vec<_>>()
    }
}

impl Namespace {
    /// Puts a value under a name, in the place of one that is there.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub fn set<T: Payload>(&self, name: &str, value: &T) -> Result<(), ManagerError> {
        self.set_encoded(name, encoded(name, value)?)
    }

    /// A copy of the value under a name.
    ///
    /// # Errors
    /// It is of another type; see [`ManagerError`].
    pub fn get<T: Payload>(&self, name: &str) -> Result<Option<T>, ManagerError> {
        self.0.call_as(Entries::get_encoded.taken_by(decoded::<T>), &(name,))
    }
}

impl NamespaceBatch<'_> {
    /// See [`Namespace::set`].
    ///
    /// # Errors
    /// The value can't be encoded.
    pub fn set<T: Payload>(&self, name: &str, value: &T) -> Result<Later<()>, ManagerError> {
        Ok(self.set_encoded(name, encoded(name, value)?))
    }

    /// See [`Namespace::get`].
    pub fn get<T: Payload>(&self, name: &str) -> Later<Option<T>> {
        let method = Entries::get_encoded.taken_by(decoded::<T>);
        self.proxy.0.call_later_as(self.batch, method, &(name,))
    }
}

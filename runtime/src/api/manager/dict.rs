//! A dictionary that many processes work on.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use serde::Serialize;

use super::builtin::builtin;
use crate::callable::task_fn::Payload;
use crate::manage::keeper::append;

/// The dictionary, in the server.
pub(super) struct Map<K, V>(HashMap<K, V>);

impl<K, V> From<HashMap<K, V>> for Map<K, V> {
    fn from(values: HashMap<K, V>) -> Self {
        Self(values)
    }
}

impl<K, V> From<()> for Map<K, V> {
    fn from((): ()) -> Self {
        Self(HashMap::new())
    }
}

builtin! {
    /// A dictionary that a [`Manager`](crate::Manager) owns: std's `HashMap`, for many processes.
    ///
    /// Keys are looked up by what they borrow as, as in a `HashMap`: a `Dict<String, V>` by a `str`. What is
    /// read is a copy: to change a value, insert it anew.
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let ages = manager.dict::<String, u32>()?;
    /// assert_eq!(ages.insert("Ann".into(), 31)?, None);
    /// assert_eq!(ages.insert("Ann".into(), 32)?, Some(31));
    /// assert_eq!(ages.get("Ann")?, Some(32));
    /// assert_eq!(ages.get("Bob")?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub struct Dict<K, V>, DictBatch of Map<K, V>
    where [K: Payload + Eq + Hash + Send + Sync, V: Payload + Send + Sync]
    kept as HashMap<K, V>: |map, out| append(&map.0, out);

    /// Inserts a value under a key; gives the one that was there.
    exclusive fn insert(map, key: K, value: V) -> Option<V> {
        map.0.insert(key, value)
    }

    /// A copy of the value under a key.
    shared fn get[Q: Serialize + ?Sized](map, key: &Q => K) -> Option<V> where [K: Borrow<Q>] {
        map.0.get(&key)
    }

    /// Whether there is a value under a key.
    shared fn contains_key[Q: Serialize + ?Sized](map, key: &Q => K) -> bool where [K: Borrow<Q>] {
        map.0.contains_key(&key)
    }

    /// Takes the value under a key out.
    exclusive fn remove[Q: Serialize + ?Sized](map, key: &Q => K) -> Option<V> where [K: Borrow<Q>] {
        map.0.remove(&key)
    }

    /// The value under a key; if there is none, this one is inserted, and is it.
    lending fn get_or_insert(map, key: K, value: V) -> V {
        map.0.entry(key).or_insert(value)
    }

    /// How many values there are.
    shared fn len(map) -> usize {
        map.0.len()
    }

    /// Whether there is none.
    shared fn is_empty(map) -> bool {
        map.0.is_empty()
    }

    /// Takes all out.
    exclusive fn clear(map) -> () {
        map.0.clear();
    }

    /// Inserts all of these.
    exclusive fn extend(map, values: HashMap<K, V>) -> () {
        map.0.extend(values);
    }

    /// Copies of all keys, in no order.
    shared fn keys(map) -> Vec<K> {
        map.0.keys().collect::<Vec<_>>()
    }

    /// Copies of all values, in no order.
    shared fn values(map) -> Vec<V> {
        map.0.values().collect::<Vec<_>>()
    }

    /// A copy of all of it.
    shared fn to_map(map) -> HashMap<K, V> {
        &map.0
    }
}

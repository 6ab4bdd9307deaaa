//! A set that many processes work on.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::Hash;

use serde::Serialize;

use super::builtin::builtin;
use crate::callable::task_fn::Payload;
use crate::manage::keeper::append;

/// The set, in the server.
pub(super) struct Members<T>(HashSet<T>);

impl<T> From<HashSet<T>> for Members<T> {
    fn from(values: HashSet<T>) -> Self {
        Self(values)
    }
}

impl<T> From<()> for Members<T> {
    fn from((): ()) -> Self {
        Self(HashSet::new())
    }
}

builtin! {
    /// A set that a [`Manager`](crate::Manager) owns: std's `HashSet`, for many processes.
    ///
    /// Values are looked up by what they borrow as, as in a `HashSet`: in a `Set<String>` by a `str`.
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let seen = manager.set::<String>()?;
    /// assert!(seen.insert("a".into())?, "it is new");
    /// assert!(!seen.insert("a".into())?);
    /// assert!(seen.contains("a")? && !seen.contains("b")?);
    /// # Ok(())
    /// # }
    /// ```
    pub struct Set<T>, SetBatch of Members<T>
    where [T: Payload + Eq + Hash + Send + Sync]
    kept as HashSet<T>: |set, out| append(&set.0, out);

    /// Inserts a value. False: it was there already.
    exclusive fn insert(set, value: T) -> bool {
        set.0.insert(value)
    }

    /// Whether a value is in it.
    shared fn contains[Q: Serialize + ?Sized](set, value: &Q => T) -> bool where [T: Borrow<Q>] {
        set.0.contains(&value)
    }

    /// A copy of the member that is equal to a value.
    shared fn get[Q: Serialize + ?Sized](set, value: &Q => T) -> Option<T> where [T: Borrow<Q>] {
        set.0.get(&value)
    }

    /// Takes a value out. False: it wasn't there.
    exclusive fn remove[Q: Serialize + ?Sized](set, value: &Q => T) -> bool where [T: Borrow<Q>] {
        set.0.remove(&value)
    }

    /// Takes the member that is equal to a value out, and gives it.
    exclusive fn take[Q: Serialize + ?Sized](set, value: &Q => T) -> Option<T> where [T: Borrow<Q>] {
        set.0.take(&value)
    }

    /// How many values there are.
    shared fn len(set) -> usize {
        set.0.len()
    }

    /// Whether there is none.
    shared fn is_empty(set) -> bool {
        set.0.is_empty()
    }

    /// Takes all out.
    exclusive fn clear(set) -> () {
        set.0.clear();
    }

    /// Inserts all of these.
    exclusive fn extend(set, values: HashSet<T>) -> () {
        set.0.extend(values);
    }

    /// A copy of all of it.
    shared fn to_set(set) -> HashSet<T> {
        &set.0
    }
}

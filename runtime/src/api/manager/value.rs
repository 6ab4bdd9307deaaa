//! One value that many processes share.

use std::mem;

use super::builtin::builtin;
use crate::callable::task_fn::Payload;
use crate::manage::keeper::append;

/// The value, in the server.
pub(super) struct Single<T>(T);

impl<T> From<T> for Single<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

builtin! {
    /// A value that a [`Manager`](crate::Manager) owns.
    ///
    /// Each call is one step that no other call comes between, but two calls are two: to read a value and
    /// write what follows from it, use a [`SharedValue`](crate::SharedValue), or a type of your own with
    /// [`#[managed]`](crate::Managed).
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let state = manager.value("new".to_owned())?;
    /// state.set("open".to_owned())?;
    /// assert_eq!(state.replace("closed".to_owned())?, "open");
    /// assert_eq!(state.get()?, "closed");
    /// # Ok(())
    /// # }
    /// ```
    pub struct Value<T>, ValueBatch of Single<T>
    where [T: Payload + Send + Sync]
    kept as T: |value, out| append(&value.0, out);

    /// A copy of the value.
    shared fn get(value) -> T {
        &value.0
    }

    /// Puts another value in its place.
    exclusive fn set(value, new: T) -> () {
        value.0 = new;
    }

    /// Puts another value in its place, and gives the one that was there.
    exclusive fn replace(value, new: T) -> T {
        mem::replace(&mut value.0, new)
    }
}

//! A list that many processes work on.

use super::builtin::builtin;
use crate::callable::task_fn::Payload;
use crate::manage::keeper::append;

/// The list, in the server.
pub(super) struct Items<T>(Vec<T>);

impl<T> From<Vec<T>> for Items<T> {
    fn from(items: Vec<T>) -> Self {
        Self(items)
    }
}

builtin! {
    /// A list that a [`Manager`](crate::Manager) owns: std's `Vec`, for many processes.
    ///
    /// What is read is a copy: to change an item, set it anew. Each call is one step that no other call comes
    /// between. A place that isn't there is told by the result, and harms nobody.
    ///
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let manager = procession::Manager::new()?;
    /// let names = manager.list(vec!["Ann".to_owned()])?;
    /// names.push("Bob".into())?;
    /// assert_eq!(names.get(1)?.as_deref(), Some("Bob"));
    /// assert_eq!(names.set(0, "Eve".into())?.as_deref(), Some("Ann"));
    /// assert_eq!(names.get(2)?, None);
    /// assert_eq!(names.to_vec()?, ["Eve", "Bob"]);
    /// # Ok(())
    /// # }
    /// ```
    pub struct List<T>, ListBatch of Items<T>
    where [T: Payload + Send + Sync]
    kept as Vec<T>: |list, out| append(&list.0, out);

    /// Appends an item.
    exclusive fn push(list, item: T) -> () {
        list.0.push(item);
    }

    /// Takes the last item out.
    exclusive fn pop(list) -> Option<T> {
        list.0.pop()
    }

    /// A copy of the item at a place, from 0.
    shared fn get(list, index: usize) -> Option<T> {
        list.0.get(index)
    }

    /// Puts another item in the place of one, which it gives. None: there is no such place, and nothing
    /// has changed.
    exclusive fn set(list, index: usize, item: T) -> Option<T> {
        list.0.get_mut(index).map(|place| std::mem::replace(place, item))
    }

    /// Inserts an item before the one at a place, or at the end. False: the list is shorter, and nothing
    /// has changed.
    exclusive fn insert(list, index: usize, item: T) -> bool {
        let is_inside = index <= list.0.len();
        if is_inside {
            list.0.insert(index, item);
        }
        is_inside
    }

    /// Takes the item at a place out; those behind it move up.
    exclusive fn remove(list, index: usize) -> Option<T> {
        (index < list.0.len()).then(|| list.0.remove(index))
    }

    /// Takes the item at a place out, and puts the last one there.
    exclusive fn swap_remove(list, index: usize) -> Option<T> {
        (index < list.0.len()).then(|| list.0.swap_remove(index))
    }

    /// Swaps two items. False: one of the places isn't there, and nothing has changed.
    exclusive fn swap(list, a: usize, b: usize) -> bool {
        let are_inside = a.max(b) < list.0.len();
        if are_inside {
            list.0.swap(a, b);
        }
        are_inside
    }

    /// Turns it round.
    exclusive fn reverse(list) -> () {
        list.0.reverse();
    }

    /// Keeps the first items, so many at most.
    exclusive fn truncate(list, len: usize) -> () {
        list.0.truncate(len);
    }

    /// How many items there are.
    shared fn len(list) -> usize {
        list.0.len()
    }

    /// Whether there is none.
    shared fn is_empty(list) -> bool {
        list.0.is_empty()
    }

    /// Takes all out.
    exclusive fn clear(list) -> () {
        list.0.clear();
    }

    /// Appends all of these.
    exclusive fn extend(list, items: Vec<T>) -> () {
        list.0.extend(items);
    }

    /// Puts other items in the place of all, and gives these: to sort a list, say, which nobody else must
    /// change meanwhile.
    exclusive fn replace(list, items: Vec<T>) -> Vec<T> {
        std::mem::replace(&mut list.0, items)
    }

    /// A copy of all of it.
    shared fn to_vec(list) -> Vec<T> {
        &list.0
    }
}

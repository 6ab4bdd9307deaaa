//! Handles on shared objects in what is encoded and decoded.
//!
//! A handle is two numbers, which mean something to the processes of one family, and only while somebody
//! holds the object. So whoever sends bytes with handles in them has to know about these: handles can
//! be encoded inside [`collecting`] alone, which hands them out, for the sender to hold until they have
//! arrived; and decoded inside [`receiving`] alone. Anywhere else (in a file, say, or on the way to
//! another machine) it is an error that says so.

use std::cell::{Cell, RefCell};

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Error as _, Serialize, Serializer};

use crate::shm::heap::{Id, Kind, Object};

thread_local! {
    /// Whether handles may be encoded, and be decoded.
    static COLLECTS: Cell<bool> = const { Cell::new(false) };
    static RECEIVES: Cell<bool> = const { Cell::new(false) };
    /// What was encoded so far, and how many there are: mostly none, and then nobody looks.
    static COLLECTED: RefCell<Vec<Object>> = const { RefCell::new(Vec::new()) };
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// Runs `encode`, in which handles can be encoded; gives out those that were.
#[inline]
pub(crate) fn collecting<R>(encode: impl FnOnce() -> R) -> (R, Vec<Object>) {
    // Within an impl of the user's there may be another message.
    let outer = COLLECTS.replace(true).then(take_collected);
    let scope = Scope(outer);
    let result = encode();
    let collected = if COUNT.get() == 0 { Vec::new() } else { take_collected() };
    drop(scope);
    (result, collected)
}

/// What was collected outside of this message, if that is one within another.
struct Scope(Option<Vec<Object>>);

/// Puts it back, also when an impl of the user's panics.
impl Drop for Scope {
    #[inline]
    fn drop(&mut self) {
        COLLECTS.set(self.0.is_some());
        if COUNT.get() != 0 {
            drop(take_collected());
        }
        if let Some(outer) = self.0.take().filter(|outer| !outer.is_empty()) {
            COUNT.set(outer.len());
            COLLECTED.set(outer);
        }
    }
}

#[cold]
fn take_collected() -> Vec<Object> {
    COUNT.set(0);
    COLLECTED.take()
}

/// Runs `decode`, in which handles can be decoded.
#[inline]
pub(crate) fn receiving<R>(decode: impl FnOnce() -> R) -> R {
    struct Outer(bool);
    impl Drop for Outer {
        #[inline]
        fn drop(&mut self) {
            RECEIVES.set(self.0);
        }
    }
    let _outer = Outer(RECEIVES.replace(true));
    decode()
}

/// Runs `code`, in which handles can be neither encoded nor decoded, whatever message it is within.
pub(crate) fn outside<R>(code: impl FnOnce() -> R) -> R {
    struct Outer(bool, bool);
    impl Drop for Outer {
        fn drop(&mut self) {
            COLLECTS.set(self.0);
            RECEIVES.set(self.1);
        }
    }
    let _outer = Outer(COLLECTS.replace(false), RECEIVES.replace(false));
    code()
}

/// Whether this is within [`collecting`].
pub(crate) fn is_collecting() -> bool {
    COLLECTS.get()
}

/// Whether this is within [`receiving`].
pub(crate) fn is_receiving() -> bool {
    RECEIVES.get()
}

const OUTSIDE: &str = "a handle on something that processes share (a queue, a lock, shared memory) can \
     only be sent in a call of a task, through a pipe or through a queue, to a process of the same program";

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !COLLECTS.get() {
            return Err(S::Error::custom(OUTSIDE));
        }
        COLLECTED.with_borrow_mut(|list| {
            // The same one again is common: parts of one slice, one queue for all items.
            if !list.last().is_some_and(|last| last.is_same(self)) {
                list.push(self.clone());
                COUNT.set(list.len());
            }
        });
        let id = self.id();
        (id.index, id.generation).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (index, generation) = Deserialize::deserialize(deserializer)?;
        if !RECEIVES.get() {
            return Err(D::Error::custom(OUTSIDE));
        }
        Object::receive(Id { index, generation }).map_err(D::Error::custom)
    }
}

/// Decodes a handle and checks that it is one of this kind, on items of this layout.
pub(crate) fn receive<'de, D: Deserializer<'de>>(
    deserializer: D,
    kind: Kind,
    layout: u64,
) -> Result<Object, D::Error> {
    let object = Object::deserialize(deserializer)?;
    check(&object, kind, layout).map_err(D::Error::custom)?;
    Ok(object)
}

/// Whether a handle is one of this kind, on items of this layout.
///
/// # Errors
/// It isn't, with the text to say.
pub(crate) fn check(object: &Object, kind: Kind, layout: u64) -> Result<(), String> {
    if object.is(kind, layout) {
        Ok(())
    } else {
        Err(format!("the handle {object:?} is of another type than {kind:?} of these items"))
    }
}

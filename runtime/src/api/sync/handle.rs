//! A handle on a state machine in the shared heap: what all types of `sync` are made of.
//!
//! A machine lies in its object's entry if it fits there, otherwise in the object's block. All zeros is a
//! new one.

use std::io;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use crate::error::Error;
use crate::os::memory::{Shareable, view};
use crate::shm::heap::{INLINE, Kind, Object, Request};
use crate::transport::codec::passing;

/// A type that has such a handle.
pub(super) trait Shared {
    type Machine: Shareable;
    const KIND: Kind;
    /// What it is called in errors.
    const NAME: &'static str;
}

/// See the file's head.
pub(super) struct Handle<S> {
    object: Object,
    of: PhantomData<fn() -> S>,
}

impl<S: Shared> Handle<S> {
    const IS_SMALL: bool = size_of::<S::Machine>() <= INLINE;

    /// A new machine. `number` can be had from every handle on it.
    pub(super) fn create(number: u64) -> Result<Self, Error> {
        let request = Request {
            length: number,
            bytes: if Self::IS_SMALL { 0 } else { size_of::<S::Machine>() as u64 },
            ..Request::small(S::KIND)
        };
        let created = Object::create(request).and_then(Self::open);
        created.map_err(|error| Error::system(&format!("can't make {}", S::NAME), &error))
    }

    fn open(object: Object) -> io::Result<Self> {
        let this = Self { object, of: PhantomData };
        this.find()?;
        Ok(this)
    }

    #[inline]
    fn find(&self) -> io::Result<&S::Machine> {
        let small = Self::IS_SMALL.then(|| view(self.object.inline_words())).flatten();
        small.map_or_else(|| self.object.get(0), Ok)
    }

    #[inline]
    pub(super) fn machine(&self) -> &S::Machine {
        self.find().expect("`open` has found it, and it stays while the object is held")
    }

    pub(super) fn number(&self) -> u64 {
        self.object.length()
    }

    /// The object's name as a number, the same in every process.
    pub(super) fn id(&self) -> u64 {
        self.object.id().to_bits()
    }
}

impl<S> Clone for Handle<S> {
    fn clone(&self) -> Self {
        Self { object: self.object.clone(), of: PhantomData }
    }
}

impl<S> Serialize for Handle<S> {
    fn serialize<T: Serializer>(&self, serializer: T) -> Result<T::Ok, T::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de, S: Shared> Deserialize<'de> for Handle<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = passing::receive(deserializer, S::KIND, 0)?;
        Self::open(object).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::super::{
        Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, RwLock, Semaphore,
    };
    use super::*;
    use crate::transport::codec;

    fn encode(value: &impl Serialize) -> (Vec<u8>, Vec<Object>) {
        let mut bytes = Vec::new();
        let (encoded, handles) = passing::collecting(|| codec::encode(value, &mut bytes));
        encoded.unwrap();
        (bytes, handles)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
        passing::receiving(|| codec::decode(bytes)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_handle_of_another_type_is_refused() {
        let (lock, _held) = encode(&Lock::new().unwrap());
        assert!(decode::<Lock>(&lock).is_ok());
        let errors = [
            decode::<RLock>(&lock).err(),
            decode::<Semaphore>(&lock).err(),
            decode::<BoundedSemaphore>(&lock).err(),
            decode::<Event>(&lock).err(),
            decode::<Barrier>(&lock).err(),
            decode::<RwLock>(&lock).err(),
        ];
        for error in errors {
            let error = error.unwrap();
            assert!(error.contains("of another type than"), "{error}");
        }
        let (semaphore, _held) = encode(&Semaphore::new(1).unwrap());
        assert!(decode::<Lock>(&semaphore).unwrap_err().contains("than Lock"));
        assert!(decode::<BoundedSemaphore>(&semaphore).is_err());
    }

    #[test]
    fn a_handle_on_what_has_gone_is_refused() {
        let (bytes, held) = encode(&Event::new().unwrap());
        assert!(!decode::<Event>(&bytes).unwrap().is_set());
        drop(held);
        let error = decode::<Event>(&bytes).unwrap_err();
        assert!(error.contains("is gone"), "{error}");
        for forged in [(u32::MAX, 1_u32), (0, 0), (1 << 20, u32::MAX)] {
            let (bytes, _) = encode(&forged);
            assert!(decode::<Lock>(&bytes).is_err(), "{forged:?}");
        }
    }

    #[test]
    fn a_condition_comes_with_its_own_lock_or_not_at_all() {
        let condition = Condition::new().unwrap();
        let (whole, held) = encode(&condition);
        assert_eq!(held.len(), 2);
        assert!(decode::<Condition>(&whole).is_ok());
        let other = Lock::new().unwrap();
        let (lock, _held) = encode(&other);
        let (own, _) = encode(&held[0]);
        let mut forged = lock;
        forged.extend_from_slice(&whole[own.len()..]);
        let error = decode::<Condition>(&forged).unwrap_err();
        assert!(error.contains("another lock"), "{error}");
    }
}

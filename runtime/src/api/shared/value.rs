//! One value that many processes change, and that is always whole.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::ops::{BitAnd, BitOr, BitXor, Deref, DerefMut};
use std::sync::atomic::AtomicU64;
use std::thread;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::{Serialize, Serializer};

use super::cannot_make;
use super::plain::Plain;
use crate::api::poison::Poisoned;
use crate::error::Error;
use crate::shm::heap::{INLINE, Kind, Object, Request, layout_of};
use crate::shm::lock::Held;
use crate::shm::platform::Deadline;
use crate::shm::system::System;
use crate::shm::value::{Head, Twofold};
use crate::transport::codec::passing;

const WORD: usize = size_of::<u64>();

/// One value of plain data that many processes read and change.
///
/// Every change is made under a lock and counts from one instant on: readers see the value before it or
/// the value after it, also when the process that makes the change is killed at whatever instant. So
/// a death can't leave a value half changed, and nobody waits for the dead.
///
/// `T` is plain data, as the crate [`bytemuck`](https://docs.rs/bytemuck) defines it; one without any
/// bytes is refused when the program is compiled. [Integers](Integer) have the operations of std's
/// atomics.
///
/// A handle travels in calls and results. The memory is given back when the last one is gone.
///
/// ```
/// use procession::{Pool, SharedValue, task};
///
/// #[task]
/// fn count(counter: SharedValue<u64>) {
///     counter.fetch_add(1);
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let pool = Pool::builder().processes(2).build()?;
/// let counter = SharedValue::new(0)?;
/// pool.map(count, (0..100).map(|_| counter.clone()))?;
/// assert_eq!(counter.get(), 100);
/// # Ok(())
/// # }
/// ```
pub struct SharedValue<T> {
    object: Object,
    value: PhantomData<T>,
}

impl<T: Plain> SharedValue<T> {
    /// How many words each of the two copies takes.
    const WORDS: usize = size_of::<T>().div_ceil(WORD);
    const HEAD: usize = size_of::<Head<System>>() / WORD;
    /// Whether both copies fit into the object's entry.
    const IS_SMALL: bool = Self::HEAD + 2 * Self::WORDS <= INLINE / WORD;

    /// Shares a value.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(value: T) -> Result<Self, Error> {
        const { assert!(size_of::<T>() > 0, "a type without any bytes can't be shared") };
        let cannot = |error| cannot_make("a shared value", &error);
        let object = Object::create(Request {
            layout: layout_of::<T>(),
            length: 1,
            bytes: if Self::IS_SMALL { 0 } else { (2 * Self::WORDS * WORD) as u64 },
            ..Request::small(Kind::Value)
        });
        let this = Self::open(object.map_err(cannot)?).map_err(cannot)?;
        this.set(value);
        Ok(this)
    }

    fn open(object: Object) -> io::Result<Self> {
        let this = Self { object, value: PhantomData };
        let _ = this.words()?;
        Ok(this)
    }

    /// Where the copies lie, one behind the other.
    #[inline]
    fn words(&self) -> io::Result<&[AtomicU64]> {
        if Self::IS_SMALL {
            Ok(&self.object.inline_words()[Self::HEAD..])
        } else {
            self.object.words(2 * Self::WORDS)
        }
    }

    #[inline]
    fn head(&self) -> &Head<System> {
        self.object.inline()
    }

    #[inline]
    fn twofold(&self) -> Twofold<'_, System> {
        let words = self.words().expect("`open` has mapped them");
        let (first, second) = words.split_at(Self::WORDS);
        Twofold { head: self.head(), copies: [first, &second[..Self::WORDS]] }
    }

    /// The value of this moment. A change that is being made is neither seen nor waited for.
    #[inline]
    pub fn get(&self) -> T {
        let mut value = T::zeroed();
        self.twofold().read(bytemuck::bytes_of_mut(&mut value));
        value
    }

    /// Replaces the value.
    #[inline]
    pub fn set(&self, value: T) {
        let held = self.hold();
        self.twofold().write(&held, bytemuck::bytes_of(&value));
        self.head().unlock(held);
    }

    /// Replaces the value, and gives the one before.
    pub fn swap(&self, value: T) -> T {
        self.update(|current| std::mem::replace(current, value))
    }

    /// Changes the value; gives what `change` gives.
    ///
    /// Nobody else changes it meanwhile, in any process. If `change` panics, or the process dies, the
    /// value stays as it was, and the next [`lock`](Self::lock) says so. `change` must not use this
    /// value in any way but through its argument: it would wait for itself for ever.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let range = procession::SharedValue::new([i64::MAX, i64::MIN])?;
    /// range.update(|[least, most]| (*least, *most) = ((*least).min(3), (*most).max(3)));
    /// assert_eq!(range.get(), [3, 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        change(&mut self.guard(self.hold()))
    }

    /// Sets the value to `new` if it equals `current`; gives the one before.
    ///
    /// # Errors
    /// It doesn't equal `current`; the error is what it is.
    pub fn compare_exchange(&self, current: T, new: T) -> Result<T, T>
    where
        T: PartialEq,
    {
        self.update(
            |value| {
                if *value == current { Ok(std::mem::replace(value, new)) } else { Err(*value) }
            },
        )
    }

    /// Waits until nobody else changes the value, and keeps it so until the guard is dropped.
    ///
    /// The guard holds a copy of the value, which is put in its place at once when the guard is dropped;
    /// until then, [`get`](Self::get) gives the value from before. A thread that has a guard can read
    /// the value, but not change or lock it a second time: it would wait for itself for ever.
    ///
    /// # Errors
    /// A holder before has died or panicked, see [`Poisoned`]. Its changes are not in the value, which is
    /// whole; but what else it was about to do with them may be missing. The other methods don't mind.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let pair = procession::SharedValue::new([1, 2])?;
    /// let mut guard = pair.lock()?;
    /// guard.swap(0, 1);
    /// drop(guard);
    /// assert_eq!(pair.get(), [2, 1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lock(&self) -> Result<SharedValueGuard<'_, T>, Poisoned<SharedValueGuard<'_, T>>> {
        let guard = self.guard(self.hold());
        Poisoned::check(guard, self.is_poisoned())
    }

    /// Whether a holder has died or panicked; see [`lock`](Self::lock).
    pub fn is_poisoned(&self) -> bool {
        self.head().is_poisoned()
    }

    /// Forgets that a holder has died or panicked.
    pub fn clear_poison(&self) {
        self.head().clear_poison();
    }

    #[inline]
    fn hold(&self) -> Held {
        self.head().lock(Deadline::NEVER).expect("there is no deadline")
    }

    #[inline]
    fn guard(&self, held: Held) -> SharedValueGuard<'_, T> {
        let mut copy = T::zeroed();
        self.twofold().read_held(&held, bytemuck::bytes_of_mut(&mut copy));
        let was_panicking = thread::panicking();
        SharedValueGuard { of: self, held: Some(held), copy, is_changed: false, was_panicking }
    }
}

impl<T: Integer> SharedValue<T> {
    /// Adds, and wraps around; gives the value before.
    pub fn fetch_add(&self, number: T) -> T {
        self.fetch(|value| value.plus(number))
    }

    /// Subtracts, and wraps around; gives the value before.
    pub fn fetch_sub(&self, number: T) -> T {
        self.fetch(|value| value.minus(number))
    }

    /// Keeps the greater one; gives the value before.
    pub fn fetch_max(&self, number: T) -> T {
        self.fetch(|value| value.max(number))
    }

    /// Keeps the lesser one; gives the value before.
    pub fn fetch_min(&self, number: T) -> T {
        self.fetch(|value| value.min(number))
    }

    /// Bitwise and; gives the value before.
    pub fn fetch_and(&self, bits: T) -> T {
        self.fetch(|value| value & bits)
    }

    /// Bitwise or; gives the value before.
    pub fn fetch_or(&self, bits: T) -> T {
        self.fetch(|value| value | bits)
    }

    /// Bitwise exclusive or; gives the value before.
    pub fn fetch_xor(&self, bits: T) -> T {
        self.fetch(|value| value ^ bits)
    }

    /// `change` doesn't panic.
    #[inline]
    fn fetch(&self, change: impl FnOnce(T) -> T) -> T {
        let held = self.hold();
        let twofold = self.twofold();
        let mut before = T::zeroed();
        twofold.read_held(&held, bytemuck::bytes_of_mut(&mut before));
        twofold.write(&held, bytemuck::bytes_of(&change(before)));
        self.head().unlock(held);
        before
    }
}

/// The integers, of which a [`SharedValue`] has the operations of std's atomics. No other type can be one.
pub trait Integer:
    Plain + Ord + BitAnd<Output = Self> + BitOr<Output = Self> + BitXor<Output = Self> + sealed::Sealed
{
    #[doc(hidden)]
    fn plus(self, other: Self) -> Self;
    #[doc(hidden)]
    fn minus(self, other: Self) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! integers {
    ($($integer:ty)*) => {$(
        impl sealed::Sealed for $integer {}
        impl Integer for $integer {
            #[inline]
            fn plus(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            #[inline]
            fn minus(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
        }
    )*};
}

integers! { u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize }

/// The right to change a [`SharedValue`], and a copy of it, which takes its place on drop. A panic drops it
/// without.
#[must_use = "if unused, the value is unlocked at once"]
pub struct SharedValueGuard<'a, T: Plain> {
    of: &'a SharedValue<T>,
    held: Option<Held>,
    copy: T,
    is_changed: bool,
    was_panicking: bool,
}

impl<T: Plain> Deref for SharedValueGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.copy
    }
}

impl<T: Plain> DerefMut for SharedValueGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.is_changed = true;
        &mut self.copy
    }
}

impl<T: Plain> Drop for SharedValueGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        if thread::panicking() && !self.was_panicking {
            self.of.head().poison();
        } else if self.is_changed {
            self.of.twofold().write(&held, bytemuck::bytes_of(&self.copy));
        }
        self.of.head().unlock(held);
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for SharedValueGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.copy.fmt(f)
    }
}

impl<T> Clone for SharedValue<T> {
    /// Another handle on the same value.
    fn clone(&self) -> Self {
        Self { object: self.object.clone(), value: PhantomData }
    }
}

impl<T: Plain + fmt::Debug> fmt::Debug for SharedValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedValue").field(&self.get()).finish()
    }
}

impl<T> Serialize for SharedValue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl<'de, T: Plain> Deserialize<'de> for SharedValue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = passing::receive(deserializer, Kind::Value, layout_of::<T>())?;
        Self::open(object).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn small_ones_and_large_ones_are_kept() {
        let odd = SharedValue::new([7_u8; 13]).unwrap();
        let exact = SharedValue::new([7_u8; 120]).unwrap();
        let large = SharedValue::new([7_u8; 121]).unwrap();
        let vast = SharedValue::new([7_u64; 10_000]).unwrap();
        odd.update(|bytes| bytes[12] = 1);
        exact.update(|bytes| bytes[119] = 1);
        large.update(|bytes| bytes[120] = 1);
        vast.update(|words| words[9999] = 1);
        assert_eq!((odd.get()[12], odd.get()[11]), (1, 7));
        assert_eq!((exact.get()[119], exact.get()[0]), (1, 7));
        assert_eq!((large.get()[120], large.get()[0]), (1, 7));
        assert_eq!((vast.get()[9999], vast.get()[0]), (1, 7));
        assert_eq!(vast.swap([0; 10_000])[9999], 1);
    }

    #[test]
    fn integers_have_the_operations_of_atomics() {
        let value = SharedValue::new(250_u8).unwrap();
        assert_eq!(value.fetch_add(10), 250);
        assert_eq!(value.fetch_sub(5), 4);
        assert_eq!(value.fetch_max(3), 255);
        assert_eq!(value.fetch_min(0b110), 255);
        assert_eq!(value.fetch_and(0b011), 0b110);
        assert_eq!(value.fetch_or(0b100), 0b010);
        assert_eq!(value.fetch_xor(0b111), 0b110);
        assert_eq!(value.compare_exchange(1, 9), Ok(1));
        assert_eq!(value.compare_exchange(1, 5), Err(9));
        assert_eq!(value.get(), 9);
        assert_eq!(format!("{value:?}"), "SharedValue(9)");
    }

    #[test]
    fn threads_lose_no_update_and_see_no_half() {
        let pair = SharedValue::new([0_u64; 20]).unwrap();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        pair.update(|all| all.iter_mut().for_each(|one| *one += 1));
                    }
                });
            }
            for _ in 0..20_000 {
                let all = pair.get();
                assert!(all.iter().all(|one| *one == all[0]));
            }
        });
        assert_eq!(pair.get(), [20_000; 20]);
    }

    #[test]
    fn a_panic_changes_nothing_and_is_told_to_who_locks() {
        let value = SharedValue::new(1).unwrap();
        let failed = catch_unwind(AssertUnwindSafe(|| {
            value.update(|value| {
                *value = 2;
                panic!("on purpose");
            })
        }));
        assert!(failed.is_err());
        assert_eq!(value.get(), 1);
        value.set(3);
        let poisoned = value.lock().unwrap_err();
        assert_eq!(**poisoned.get_ref(), 3);
        value.clear_poison();
        drop(poisoned.into_inner());
        *value.lock().unwrap() = 4;
        assert_eq!(value.get(), 4);
        assert!(Error::from(Poisoned::new(())).is_poisoned());
    }
}

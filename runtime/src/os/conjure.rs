//! What the type system knows and can't say: values of types that have no bytes, and types that are the
//! same.
//!
//! A fn item and a closure without captures are types with one value, which takes no room. Two
//! processes of one image can therefore share such a value without sending anything: the worker
//! makes its own from the type alone.

#![expect(unsafe_code, reason = "makes a value from its type")]

/// Makes a value of the zero-sized type `F`.
///
/// # Safety
/// Somebody must have had a value of `F` before, in this process or in another one that runs the
/// same image. (A type such as a closure over an uninhabited or secret zero-sized value has no
/// value that anyone may make up; but where one existed, `Copy` lets there be more.)
pub(crate) unsafe fn conjure<F: Copy>() -> F {
    // Not at compile time, where `TaskFn::CHECK` has refused the type with a better message.
    assert_eq!(size_of::<F>(), 0, "only a type without bytes can be made from nothing");
    let nothing = std::ptr::NonNull::<F>::dangling();
    // SAFETY: the assertion above holds, and a read of zero bytes is valid for every aligned,
    // non-null pointer, which `dangling` gives. All bytes of `F`, being none, are those of the
    // value which the caller says existed, and `F: Copy` allows one more of it.
    unsafe { nothing.read() }
}

/// A type without any lifetime in it.
///
/// # Safety
/// It is `'static`, and so is everything that has the same [`TypeId`](std::any::TypeId).
pub(crate) unsafe trait Lasting: 'static {}

// SAFETY: there is no lifetime in it.
unsafe impl Lasting for Vec<u8> {}
// SAFETY: as above.
unsafe impl Lasting for (Vec<u8>,) {}

/// The value as a `U`, if that is its type.
#[inline]
pub(crate) fn as_same<T: ?Sized, U: Lasting>(value: &T) -> Option<&U> {
    // SAFETY: the ids are of the types without their lifetimes, and `U` has none (`Lasting`), so `T` is `U`: the
    // reference keeps its type and its borrow.
    is_same::<T, U>().then(|| unsafe { &*std::ptr::from_ref(value).cast::<U>() })
}

/// The value as a `T`, if that is its type; else the value itself.
#[inline]
pub(crate) fn into_same<U: Lasting, T>(value: U) -> Result<T, U> {
    if !is_same::<T, U>() {
        return Err(value);
    }
    let value = std::mem::ManuallyDrop::new(value);
    // SAFETY: as in `as_same`, `T` is `U`. The original is never dropped nor used again, so that there is
    // one owner after this read as before.
    Ok(unsafe { std::ptr::from_ref(&*value).cast::<T>().read() })
}

/// Whether the types are the same, but for lifetimes.
#[inline]
pub(crate) fn is_same<T: ?Sized, U: 'static>() -> bool {
    typeid::of::<T>() == std::any::TypeId::of::<U>()
}

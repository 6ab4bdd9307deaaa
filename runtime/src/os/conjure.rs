//! Values of types that have no bytes.
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

//! What can lie in shared memory.

use bytemuck::Pod;

/// Plain data: numbers, arrays of them, and structs of these. Any bytes are a value, and nothing in it
/// points anywhere.
///
/// It is implemented for all that is `bytemuck::Pod`. For a type of your own, derive that, with the crate
/// `bytemuck` and its feature `derive`:
///
/// ```
/// use procession::SharedSlice;
///
/// #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
/// #[repr(C)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
///
/// # fn main() -> Result<(), procession::Error> {
/// let points = SharedSlice::from_slice(&[Point { x: 1.0, y: 2.0 }])?;
/// assert_eq!(points[0].y, 2.0);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't lie in shared memory",
    label = "what processes share is plain data: numbers, arrays of them, and structs of these",
    note = "for a struct of your own, add `#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]` \
            and `#[repr(C)]`, with the crate `bytemuck` and its feature `derive`",
    note = "anything else can be sent by value: in a call, through a queue or a pipe"
)]
pub trait Plain: Pod {}

#[diagnostic::do_not_recommend]
impl<T: Pod> Plain for T {}

//! Shared items as arrays of the crate `ndarray`, where they lie.

use ndarray::{ArrayView, ArrayViewMut, Dimension, StrideShape};

use super::array::{SharedReadGuard, SharedWriteGuard};
use super::slice::SharedSlice;
use crate::error::Error;

fn misfit(error: &ndarray::ShapeError) -> Error {
    Error::usage(format!("the shape doesn't fit the shared items: {error}"))
}

impl<T> SharedSlice<T> {
    /// The items in a shape, without a copy. Needs the feature `ndarray`.
    ///
    /// # Errors
    /// The shape has more items than there are.
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), procession::Error> {
    /// let numbers = procession::SharedSlice::from_slice(&[1.0, 2.0, 3.0, 4.0])?;
    /// assert_eq!(numbers.view((2, 2))?.column(1).sum(), 6.0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn view<D: Dimension>(
        &self,
        shape: impl Into<StrideShape<D>>,
    ) -> Result<ArrayView<'_, T, D>, Error> {
        ArrayView::from_shape(shape, self).map_err(|error| misfit(&error))
    }
}

impl<T> SharedReadGuard<'_, T> {
    /// The items in a shape, without a copy. Needs the feature `ndarray`.
    ///
    /// # Errors
    /// The shape has more items than there are.
    pub fn view<D: Dimension>(
        &self,
        shape: impl Into<StrideShape<D>>,
    ) -> Result<ArrayView<'_, T, D>, Error> {
        ArrayView::from_shape(shape, self).map_err(|error| misfit(&error))
    }
}

impl<T> SharedWriteGuard<'_, T> {
    /// The items in a shape, without a copy. Needs the feature `ndarray`.
    ///
    /// # Errors
    /// The shape has more items than there are.
    pub fn view<D: Dimension>(
        &self,
        shape: impl Into<StrideShape<D>>,
    ) -> Result<ArrayView<'_, T, D>, Error> {
        ArrayView::from_shape(shape, self).map_err(|error| misfit(&error))
    }

    /// As [`view`](Self::view), for changes.
    ///
    /// # Errors
    /// The shape has more items than there are.
    pub fn view_mut<D: Dimension>(
        &mut self,
        shape: impl Into<StrideShape<D>>,
    ) -> Result<ArrayViewMut<'_, T, D>, Error> {
        ArrayViewMut::from_shape(shape, self).map_err(|error| misfit(&error))
    }
}

#[cfg(test)]
mod tests {
    use crate::api::shared::array::SharedArray;
    use crate::api::shared::slice::SharedSlice;

    #[test]
    fn views_see_the_shared_items() {
        let array = SharedArray::<i32>::new(6).unwrap();
        let mut guard = array.write().unwrap();
        guard.view_mut((2, 3)).unwrap()[(1, 0)] = 5;
        assert_eq!(guard.view((3, 2)).unwrap()[(1, 1)], 5);
        drop(guard);
        assert_eq!(array.read().unwrap().view(6).unwrap()[3], 5);
        let error = array.read().unwrap().view((3, 3)).unwrap_err().to_string();
        assert!(error.contains("doesn't fit"), "{error}");
        let slice = SharedSlice::from_slice(&[1, 2, 3, 4]).unwrap();
        assert_eq!(slice.view((2, 2)).unwrap().row(1).sum(), 7);
    }
}

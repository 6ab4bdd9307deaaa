//! Memory for many encoded values of one size, which is a vector of them when all are there.
//!
//! A number is encoded as it lies in memory, so a vector of numbers is filled byte by byte, by whoever
//! doesn't know its type, and handed out as what it is.

use std::any::{Any, TypeId};

use bytemuck::{AnyBitPattern, NoUninit};

use super::typed;

/// See the file's head.
pub(crate) trait Cells: Send + Sync {
    fn bytes(&self) -> &[u8];

    fn bytes_mut(&mut self) -> &mut [u8];

    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<N: NoUninit + AnyBitPattern + Send + Sync> Cells for Vec<N> {
    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(self)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The values of a type, encoded as typed ones, all of which have one size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// How many bytes each takes.
    pub(crate) size: usize,
    cells: fn(usize, usize) -> Box<dyn Cells>,
}

impl Shape {
    /// That of a type whose values have a [`fixed_size`](typed::fixed_size).
    pub(crate) fn of<T: 'static>() -> Option<Self> {
        let size = typed::fixed_size::<T>()?;
        macro_rules! find {
            ($($Number:ty)*) => {$(
                if TypeId::of::<T>() == TypeId::of::<$Number>() {
                    return Some(Self { size, cells: |count, _| numbers::<$Number>(count) });
                }
            )*};
        }
        typed::for_numbers!(find);
        Some(Self::of_bytes(size))
    }

    /// That of values about which nothing else is known.
    pub(crate) fn of_bytes(size: usize) -> Self {
        Self { size, cells: |count, size| numbers::<u8>(count * size) }
    }

    /// Memory for so many of them, all zeros.
    pub(crate) fn cells(self, count: usize) -> Box<dyn Cells> {
        (self.cells)(count, self.size)
    }
}

fn numbers<N: NoUninit + AnyBitPattern + Send + Sync>(count: usize) -> Box<dyn Cells> {
    Box::new(vec![N::zeroed(); count])
}

/// The vector that these cells are, if it is one of this type.
pub(crate) fn vector<T: 'static>(cells: Box<dyn Cells>) -> Option<Vec<T>> {
    cells.into_any().downcast().ok().map(|vector| *vector)
}

/// Decodes values of a [`fixed_size`](typed::fixed_size) that follow each other; none if they are no numbers,
/// which any bits would be.
pub(crate) fn decoded<T: 'static>(bytes: &[u8]) -> Option<Vec<T>> {
    let mut decoded: Option<Vec<T>> = None;
    let any: &mut dyn Any = &mut decoded;
    macro_rules! fill {
        ($($Number:ty)*) => {$(
            if let Some(numbers) = any.downcast_mut::<Option<Vec<$Number>>>() {
                *numbers = Some(typed::copied(bytes));
            }
        )*};
    }
    typed::for_numbers!(fill);
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_what_was_written() {
        let mut cells = Shape::of::<u32>().unwrap().cells(3);
        cells.bytes_mut()[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        assert_eq!(cells.bytes().len(), 12);
        assert_eq!(vector::<u32>(cells), Some(vec![0, 7, 0]));
    }

    #[test]
    fn what_is_no_number_stays_bytes() {
        let shape = Shape::of::<bool>().unwrap();
        assert_eq!((shape.size, shape.cells(5).bytes().len()), (1, 5));
        assert!(vector::<bool>(shape.cells(5)).is_none());
        assert_eq!(Shape::of::<()>().unwrap().cells(5).bytes().len(), 0);
        assert!(Shape::of::<String>().is_none());
    }
}

//! Charts as SVG, written by hand: a few shapes and words need no crate.
//!
//! They follow the reader's light or dark mode, name the unit on each axis, and tell series apart by
//! colour and by shape.

mod plots;
mod scale;
mod svg;

pub(crate) use plots::{Axis, Plot, Series, bars, dots, lines};

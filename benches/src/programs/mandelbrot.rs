//! The rows of a picture of the Mandelbrot set.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Its size, and the steps after which a point counts as one of the set.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    steps: u8,
}

impl Picture {
    /// As many pixels as Python does in about a second.
    pub(super) fn new(measured: bool) -> Self {
        let (width, height) = if measured { (640, 480) } else { (16, 12) };
        Self { width, height, steps: 200 }
    }
}

/// Width, height and steps, between commas.
impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.width, self.height, self.steps)
    }
}

/// For each pixel of row `y`, the steps that it takes to leave the circle of radius 2.
pub(crate) fn row(picture: Picture, y: u32) -> Vec<u8> {
    let Picture { width, height, steps } = picture;
    let im = f64::from(y) / f64::from(height) * 2.0 - 1.0;
    let pixel = |x: u32| escape(f64::from(x) / f64::from(width) * 3.0 - 2.0, im, steps);
    (0..width).map(pixel).collect()
}

fn escape(re: f64, im: f64, steps: u8) -> u8 {
    let (mut x, mut y) = (0.0, 0.0);
    for step in 0..steps {
        (x, y) = (x * x - y * y + re, 2.0 * x * y + im);
        if x * x + y * y > 4.0 {
            return step;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_in_the_set_and_the_edge_is_not() {
        let picture = Picture::new(false);
        let middle = row(picture, picture.height / 2);
        assert_eq!(middle.len(), 16);
        assert_eq!(middle[11], 200, "near zero");
        assert!(row(picture, 0)[0] < 2, "-2-i leaves at once");
    }
}

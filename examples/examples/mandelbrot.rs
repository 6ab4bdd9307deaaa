//! The Mandelbrot set as a PNG: `imap` gives the rows in order, and each is written as it comes.
//!
//! ```sh
//! cargo run --release --example mandelbrot -- picture.png
//! ```
//!
//! Without an argument the picture goes to the temporary folder.
//!
//! ```text
//! 960 x 640 pixels written to …mandelbrot.png
//! ```

use std::{env, fs::File, io::BufWriter, io::Write as _, path::PathBuf};

use procession::{Pool, task};

const WIDTH: u32 = 960;
const HEIGHT: u32 = 640;
/// Enough that the edge is sharp at this size.
const MAX_STEPS: u32 = 500;

/// The pixels of row `y`, three bytes each. Columns are -2 to 1, rows are -1 to 1.
#[task]
fn row(y: u32) -> Vec<u8> {
    let im = f64::from(y) / f64::from(HEIGHT) * 2.0 - 1.0;
    (0..WIDTH)
        .map(|x| f64::from(x) / f64::from(WIDTH) * 3.0 - 2.0)
        .flat_map(|re| colour(steps_to_escape(re, im)))
        .collect()
}

/// How many steps of z² + c it takes to leave the circle of radius 2; none if it stays.
fn steps_to_escape(re: f64, im: f64) -> Option<u32> {
    let (mut x, mut y) = (0.0, 0.0);
    (0..MAX_STEPS).find(|_| {
        (x, y) = (x * x - y * y + re, 2.0 * x * y + im);
        x * x + y * y > 4.0
    })
}

fn colour(steps: Option<u32>) -> [u8; 3] {
    let Some(steps) = steps else { return [0, 0, 0] };
    let t = (f64::from(steps) / f64::from(MAX_STEPS)).sqrt();
    [9.0 * (1.0 - t) * t.powi(3), 15.0 * (1.0 - t).powi(2) * t.powi(2), 8.5 * (1.0 - t).powi(3) * t]
        .map(|part| (part * 255.0) as u8)
}

#[procession::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path =
        env::args_os().nth(1).map_or_else(|| env::temp_dir().join("mandelbrot.png"), PathBuf::from);

    let file = BufWriter::new(File::create(&path)?);
    let mut encoder = png::Encoder::new(file, WIDTH, HEIGHT);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut picture = encoder.write_header()?.into_stream_writer()?;

    let pool = Pool::new()?;
    for pixels in pool.imap(row, 0..HEIGHT) {
        picture.write_all(&pixels?)?;
    }
    picture.finish()?;

    println!("{WIDTH} x {HEIGHT} pixels written to {}", path.display());
    Ok(())
}

//! Heat spreads over a plate that lies in shared memory: each process computes its own rows and reads all
//! of them, and nothing is copied.
//!
//! There are two plates, the one from before a step and the one after it, which change places. A chunk is
//! locked for itself, so the processes write to one plate at the same time; the barrier keeps them in
//! step.
//!
//! ```text
//! 4 processes, 2000 steps, 50 x 50 cells
//! in the middle it is 23.5 degrees
//! one process computes the same, to the last bit
//! ```

use procession::sync::Barrier;
use procession::{Error, Process, SharedArray, SharedChunk, task};

const WIDTH: usize = 50;
const HEIGHT: usize = 50;
const STEPS: usize = 2000;
const PROCESSES: usize = 4;

/// Each cell takes the mean of its neighbours, but for the edges, which keep their heat. `after` begins
/// at cell `first`.
fn spread(before: &[f64], after: &mut [f64], first: usize) {
    for (cell, i) in after.iter_mut().zip(first..) {
        let (row, column) = (i / WIDTH, i % WIDTH);
        let is_inside = (1..HEIGHT - 1).contains(&row) && (1..WIDTH - 1).contains(&column);
        *cell = if is_inside {
            (before[i - WIDTH] + before[i - 1] + before[i + 1] + before[i + WIDTH]) / 4.0
        } else {
            before[i]
        };
    }
}

/// One process's share of the work: `ours` are its rows of both plates.
#[task]
fn heat_rows(plates: [SharedArray<f64>; 2], ours: [SharedChunk<f64>; 2], all: Barrier) {
    for step in 0..STEPS {
        let (from, to) = (step % 2, (step + 1) % 2);
        {
            let before = plates[from].read().expect("nobody dies in the middle");
            let mut after = ours[to].write().expect("nobody dies in the middle");
            spread(&before, &mut after, ours[to].start());
        }
        // In the next step, this plate is the one to read.
        all.wait().expect("nobody leaves before the last step");
    }
}

/// A cold plate with a hot upper edge.
fn cold_plate() -> Vec<f64> {
    let mut plate = vec![0.0; WIDTH * HEIGHT];
    plate[..WIDTH].fill(100.0);
    plate
}

fn heat_alone() -> Vec<f64> {
    let (mut before, mut after) = (cold_plate(), cold_plate());
    for _ in 0..STEPS {
        spread(&before, &mut after, 0);
        (before, after) = (after, before);
    }
    before
}

#[procession::main]
fn main() -> Result<(), Error> {
    let plates = [SharedArray::from_slice(&cold_plate())?, SharedArray::from_slice(&cold_plate())?];
    let all = Barrier::new(PROCESSES)?;
    let [first, second] = plates.each_ref().map(|plate| plate.split(PROCESSES));
    let running = first
        .into_iter()
        .zip(second)
        .map(|(first, second)| (plates.clone(), [first, second], all.clone()))
        .map(|arguments| Process::new(heat_rows, arguments).start())
        .collect::<Result<Vec<_>, _>>()?;
    running.iter().try_for_each(Process::join)?;

    let plate = plates[STEPS % 2].read()?;
    println!("{PROCESSES} processes, {STEPS} steps, {WIDTH} x {HEIGHT} cells");
    println!("in the middle it is {:.1} degrees", plate[HEIGHT / 2 * WIDTH + WIDTH / 2]);
    let alone = heat_alone();
    if plate.iter().map(|cell| cell.to_bits()).eq(alone.iter().map(|cell| cell.to_bits())) {
        println!("one process computes the same, to the last bit");
    }
    Ok(())
}

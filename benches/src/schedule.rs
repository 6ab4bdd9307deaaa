//! Tasks of prescribed lengths, and how soon they could be done.
//!
//! A task spins until the clock says that its length is over. So what else the machine does can't
//! lengthen a task, and a map's time above the ideal is what handing out the tasks has cost.

use std::hint;
use std::time::{Duration, Instant};

use crate::work::Work;

/// The work of one map of tasks of prescribed lengths, for each worker: long enough that starting and
/// ending the map weigh little, and short enough for a round.
const EACH_WORKER: u64 = 60_000_000;

/// The tasks of an uneven map, for each worker.
const TASKS_EACH: usize = 1_000;

/// How the lengths of tasks are spread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Shape {
    /// All the same.
    Constant,
    /// Exponential.
    Exponential,
    /// Four decades, evenly by their logarithm, the shortest first.
    Ascending,
    /// The same, the longest first.
    Descending,
    /// Pareto with an exponent of 1.3: a few tasks are most of the work.
    Pareto,
    /// Half of the work in the last hundredth of the tasks.
    Burst,
}

impl Shape {
    /// All shapes, in the order of the table.
    pub const ALL: [Self; 6] = [
        Self::Constant,
        Self::Exponential,
        Self::Ascending,
        Self::Descending,
        Self::Pareto,
        Self::Burst,
    ];

    /// The row's name.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Constant => "tasks, constant",
            Self::Exponential => "tasks, exponential",
            Self::Ascending => "tasks, log-uniform, ascending",
            Self::Descending => "tasks, log-uniform, descending",
            Self::Pareto => "tasks, Pareto 1.3",
            Self::Burst => "tasks, a burst in the last 1 %",
        }
    }

    /// The weights of `count` tasks, in any unit, the same in every run.
    fn weights(self, count: usize) -> Vec<f64> {
        let mut random = Random(0x5EED);
        let mut weights: Vec<f64> = (0..count)
            .map(|i| match self {
                Self::Constant => 1.0,
                Self::Exponential => -random.fraction().ln(),
                Self::Ascending | Self::Descending => 10_f64.powf(4.0 * random.fraction()),
                Self::Pareto => random.fraction().powf(-1.0 / 1.3),
                Self::Burst if i * 100 < count * 99 => 1.0,
                Self::Burst => 99.0,
            })
            .collect();
        match self {
            Self::Ascending => weights.sort_by(f64::total_cmp),
            Self::Descending => weights.sort_by(|a, b| b.total_cmp(a)),
            _ => {}
        }
        weights
    }
}

/// The lengths of the tasks of one map, in nanoseconds; none for work of other kinds. What is only tried
/// is a thousandth of it.
pub(crate) fn lengths(work: Work, workers: usize, measured: bool) -> Option<Vec<u64>> {
    let total = EACH_WORKER * workers as u64 / if measured { 1 } else { 1_000 };
    Some(match work {
        Work::Length(nanos) => {
            let nanos = if measured { nanos } else { nanos.min(10_000) };
            // Whole rows of tasks, so that the ideal isn't a question of one task more or less.
            let each = (EACH_WORKER / nanos).max(2) as usize;
            vec![nanos; workers * if measured { each } else { 2 }]
        }
        Work::Uneven(shape) => {
            let tasks = workers * if measured { TASKS_EACH } else { 10 };
            let weights = shape.weights(tasks);
            let unit = total as f64 / weights.iter().sum::<f64>();
            weights.into_iter().map(|weight| (weight * unit) as u64).collect()
        }
        _ => return None,
    })
}

/// The soonest that so many workers can have done tasks of these lengths: the bound is met unless the
/// last tasks don't fit together.
pub(crate) fn ideal(lengths: &[u64], workers: usize) -> f64 {
    let shared = lengths.iter().sum::<u64>() as f64 / workers as f64;
    shared.max(lengths.iter().copied().max().unwrap_or(0) as f64)
}

/// A task: spins for so many nanoseconds.
pub(crate) fn spin(nanos: u64) {
    let (began, length) = (Instant::now(), Duration::from_nanos(nanos));
    while began.elapsed() < length {
        hint::spin_loop();
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Above zero, at most one.
    fn fraction(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ideal_is_the_share_of_a_worker_or_the_longest_task() {
        assert_eq!(ideal(&[1, 2, 3], 2), 3.0);
        assert_eq!(ideal(&[2, 2, 2, 2], 2), 4.0);
        assert_eq!(ideal(&[10, 1, 1], 2), 10.0);
        assert_eq!(ideal(&[], 2), 0.0);
    }

    #[test]
    fn every_shape_is_the_same_amount_of_work() {
        for shape in Shape::ALL {
            let lengths = lengths(Work::Uneven(shape), 2, true).unwrap();
            assert_eq!(lengths.len(), 2 * TASKS_EACH);
            let total = lengths.iter().sum::<u64>() as f64;
            let wanted = (2 * EACH_WORKER) as f64;
            assert!((total / wanted - 1.0).abs() < 1e-3, "{shape:?}: {total}");
        }
    }

    #[test]
    fn shapes_are_what_they_are_called() {
        let of = |shape| lengths(Work::Uneven(shape), 2, true).unwrap();
        assert!(of(Shape::Ascending).is_sorted());
        assert!(of(Shape::Descending).iter().rev().is_sorted());
        let burst = of(Shape::Burst);
        let (most, last) = burst.split_at(burst.len() * 99 / 100);
        let share = last.iter().sum::<u64>() as f64 / most.iter().sum::<u64>() as f64;
        assert!((share - 1.0).abs() < 0.01, "{share}");
    }

    #[test]
    fn tasks_of_one_length_share_out_evenly() {
        for workers in [1, 2, 3, 8] {
            let lengths = lengths(Work::Length(100_000_000), workers, true).unwrap();
            assert_eq!(lengths.len() % workers, 0);
        }
    }

    #[test]
    fn a_task_takes_its_time() {
        let began = Instant::now();
        spin(1_000_000);
        assert!(began.elapsed() >= Duration::from_millis(1));
    }
}

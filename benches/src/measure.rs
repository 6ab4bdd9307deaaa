//! Rounds and medians.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::peers::Peer;
use crate::work::Work;

/// How long a measurement may take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// No round begins that would end after this, going by the longest so far.
    pub time: Duration,
    /// At most so many rounds.
    pub rounds: usize,
}

/// The medians of all rounds: nanoseconds for one each.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    medians: HashMap<(Work, &'static str), f64>,
    /// How many rounds they are medians of.
    pub rounds: usize,
}

impl Figures {
    /// Nanoseconds that `peer` takes for one of `work`; none when it doesn't do it.
    pub fn get(&self, work: Work, peer: &str) -> Option<f64> {
        self.medians.iter().find(|((w, p), _)| *w == work && *p == peer).map(|(_, value)| *value)
    }
}

/// Has every peer do every work, round after round. `only` limits the rows.
pub fn measure(peers: &mut [Box<dyn Peer>], only: &[Work], budget: Budget) -> Figures {
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    let mut samples: HashMap<(Work, &'static str), Vec<f64>> = HashMap::new();
    let mut rounds = 0;
    while rounds == 0 || (rounds < budget.rounds && began.elapsed() + longest < budget.time) {
        let round = Instant::now();
        for work in only {
            for peer in &mut *peers {
                if let Some(nanos) = peer.run(*work) {
                    samples.entry((*work, peer.name())).or_default().push(nanos);
                }
            }
        }
        longest = longest.max(round.elapsed());
        rounds += 1;
    }
    let medians = samples.into_iter().map(|(key, values)| (key, median(values))).collect();
    Figures { medians, rounds }
}

/// The median: of an even number of values, the mean of the two in the middle.
///
/// # Panics
/// There are no values.
pub fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a median needs a value");
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// Nanoseconds for one each when `f` does `count` of them.
pub(crate) fn each<R>(count: usize, f: impl FnOnce() -> R) -> f64 {
    let began = Instant::now();
    let result = f();
    let nanos = began.elapsed().as_nanos() as f64;
    // Giving the results back is the caller's affair, not the peer's.
    drop(std::hint::black_box(result));
    nanos / count as f64
}

/// The median of `count` calls of `f`, timed one by one.
pub(crate) fn p50(count: usize, mut f: impl FnMut()) -> f64 {
    median((0..count).map(|_| each(1, &mut f)).collect())
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}

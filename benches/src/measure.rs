//! Rounds, medians and how far the rounds differ.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::peers::Peer;
use crate::work::Work;

/// A median of fewer rounds is moved by a single disturbed one.
const FEWEST: usize = 5;

/// How long a measurement may take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// No round begins that would end after this, going by the longest so far; but for the first five.
    pub time: Duration,
    /// At most so many rounds.
    pub rounds: usize,
}

/// What a peer took for a work, over all rounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Figure {
    /// The median, in nanoseconds for one each.
    pub median: f64,
    /// Half the distance between the quartiles, as a part of the median.
    pub spread: f64,
}

/// What all peers took.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub(crate) figures: HashMap<(Work, &'static str), Figure>,
    /// How many rounds they are of.
    pub rounds: usize,
    /// The workers that every peer had.
    pub processes: usize,
    /// Whether the work was that of a measurement, or so little that it was only tried.
    pub measured: bool,
}

impl Figures {
    /// The median of what `peer` takes for one of `work`; none when it doesn't do it.
    pub fn get(&self, work: Work, peer: &str) -> Option<f64> {
        self.figure(work, peer).map(|figure| figure.median)
    }

    /// The median and the spread.
    pub fn figure(&self, work: Work, peer: &str) -> Option<Figure> {
        self.figures.iter().find(|((w, p), _)| *w == work && *p == peer).map(|(_, figure)| *figure)
    }
}

/// Has every peer do every work, round after round. `only` limits the rows. What is about warm workers
/// is done twice, and timed the second time: between its turns a peer has been idle for seconds.
pub fn measure(peers: &mut [Box<dyn Peer>], only: &[Work], budget: Budget) -> Figures {
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    let mut samples: HashMap<(Work, &'static str), Vec<f64>> = HashMap::new();
    let mut rounds = 0;
    let in_time = |rounds, longest| rounds < FEWEST || began.elapsed() + longest < budget.time;
    while rounds < budget.rounds && in_time(rounds, longest) {
        let round = Instant::now();
        for work in only {
            for peer in &mut *peers {
                if work.is_of_warm_workers() {
                    peer.run(*work);
                }
                if let Some(nanos) = peer.run(*work) {
                    samples.entry((*work, peer.name())).or_default().push(nanos);
                }
            }
        }
        longest = longest.max(round.elapsed());
        rounds += 1;
    }
    let figures = samples.into_iter().map(|(key, values)| (key, figure(values))).collect();
    Figures { figures, rounds, ..Figures::default() }
}

fn figure(values: Vec<f64>) -> Figure {
    let mut sorted = values;
    sorted.sort_by(f64::total_cmp);
    let quartile = |part: f64| {
        let place = part * (sorted.len() - 1) as f64;
        let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        below + (above - below) * place.fract()
    };
    let spread = (quartile(0.75) - quartile(0.25)) / 2.0;
    let median = median(sorted);
    Figure { median, spread: if median > 0.0 { spread / median } else { 0.0 } }
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

/// The same with a pause before each, in which whoever waits goes to sleep.
pub(crate) fn p50_asleep(count: usize, mut f: impl FnMut()) -> f64 {
    /// A hundred times as long as anybody here spins.
    const PAUSE: Duration = Duration::from_millis(5);
    let calls = (0..count).map(|_| {
        std::thread::sleep(PAUSE);
        each(1, &mut f)
    });
    median(calls.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn the_spread_is_half_of_what_is_between_the_quartiles() {
        let spread_out = figure(vec![5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(spread_out, Figure { median: 3.0, spread: 1.0 / 3.0 });
        assert_eq!(figure(vec![7.0]), Figure { median: 7.0, spread: 0.0 });
    }
}

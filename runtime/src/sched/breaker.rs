//! When a pool gives up because its workers die too fast.

use std::collections::VecDeque;
use std::time::Duration;

use crate::os::clock;

/// Counts the deaths of workers within a time.
#[derive(Debug)]
pub(crate) struct Breaker {
    most: u32,
    within: Duration,
    /// When the last ones were, in nanoseconds.
    deaths: VecDeque<u64>,
}

impl Breaker {
    pub(crate) fn new(most: u32, within: Duration) -> Self {
        Self { most, within, deaths: VecDeque::new() }
    }

    /// A worker has died. Says what is to be said if that was one too many.
    pub(super) fn count(&mut self, now: u64) -> Option<String> {
        let since = now.saturating_sub(clock::nanos_of(self.within));
        self.deaths.push_back(now);
        while self.deaths.front().is_some_and(|at| *at < since) {
            self.deaths.pop_front();
        }
        let Self { most, within, deaths } = self;
        (deaths.len() > *most as usize)
            .then(|| format!("more than {most} workers have died within {within:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_deaths_that_are_close_together_count() {
        let mut breaker = Breaker::new(2, Duration::from_nanos(100));
        for now in [1000, 1050, 1101, 1151, 1202] {
            assert_eq!(breaker.count(now), None);
        }
        assert!(breaker.count(1250).is_some_and(|text| text.contains("more than 2 workers")));
    }

    #[test]
    fn none_may_die_where_none_is_allowed() {
        assert!(Breaker::new(0, Duration::from_secs(1)).count(0).is_some());
    }
}

//! From values to places along an axis.

/// An axis: what part of the values it shows, and between which places.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Scale {
    log: bool,
    values: (f64, f64),
    places: (f64, f64),
}

impl Scale {
    /// Evenly by value, from zero to a round number that is at least `highest`.
    pub(super) fn linear(highest: f64, places: (f64, f64)) -> Self {
        let step = step(highest);
        let values = (0.0, (highest / step).ceil() * step);
        Self { log: false, values, places }
    }

    /// Evenly by logarithm, over the whole decades that hold all values, which are above zero.
    pub(super) fn log(lowest: f64, highest: f64, places: (f64, f64)) -> Self {
        let (low, high) = (lowest.log10().floor(), highest.log10().ceil());
        let values = (10_f64.powf(low), 10_f64.powf(high.max(low + 1.0)));
        Self { log: true, values, places }
    }

    /// The place of a value; one outside of the scale is at its end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let along = |value: f64| if self.log { value.log10() } else { value };
        let (low, high) = (along(self.values.0), along(self.values.1));
        let part = ((along(value) - low) / (high - low)).clamp(0.0, 1.0);
        self.places.0 + part * (self.places.1 - self.places.0)
    }

    /// The values that are marked: decades, or round numbers.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let (low, high) = self.values;
        if self.log {
            let decades = low.log10().round() as i32..=high.log10().round() as i32;
            return decades.map(|decade| 10_f64.powi(decade)).collect();
        }
        let step = step(high);
        (0..=(high / step).round() as usize).map(|i| i as f64 * step).collect()
    }
}

/// One, two or five of a power of ten, so that there are about five steps.
fn step(highest: f64) -> f64 {
    let power = 10_f64.powf((highest / 5.0).log10().floor());
    let wanted = highest / 5.0 / power;
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| wanted <= *digit + 1e-9);
    digit.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_scale_begins_at_zero_and_ends_at_a_round_number() {
        let scale = Scale::linear(0.97, (100.0, 0.0));
        assert_eq!(scale.place(0.0), 100.0);
        assert!(scale.place(1.0).abs() < 1e-9);
        assert_eq!(scale.ticks().len(), 6);
        assert_eq!(Scale::linear(2.3, (0.0, 1.0)).ticks(), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]);
    }

    #[test]
    fn a_logarithmic_scale_has_whole_decades() {
        let scale = Scale::log(3.0, 800.0, (0.0, 300.0));
        assert_eq!(scale.ticks(), [1.0, 10.0, 100.0, 1000.0]);
        assert!((scale.place(10.0) - 100.0).abs() < 1e-9);
        assert!((scale.place(1000.0) - 300.0).abs() < 1e-9);
    }

    #[test]
    fn equal_values_still_make_a_scale() {
        assert_eq!(Scale::log(10.0, 10.0, (0.0, 1.0)).ticks(), [10.0, 100.0]);
    }

    #[test]
    fn values_outside_are_at_the_ends() {
        let scale = Scale::log(1.0, 10.0, (5.0, 6.0));
        assert_eq!((scale.place(0.01), scale.place(1e9)), (5.0, 6.0));
    }
}

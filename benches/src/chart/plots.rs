//! Three kinds of charts: lines, groups of bars, and rows of dots.

use super::scale::Scale;
use super::svg::{Anchor, Drawing};

/// The width of every chart, which fits a page.
const WIDTH: f64 = 860.0;

/// The height of those that have a vertical axis.
const HEIGHT: f64 = 440.0;

/// The height of a row of dots.
const ROW: f64 = 30.0;

/// The place of the lowest line of the legend, and the distance of its lines.
const LEGEND: (f64, f64) = (52.0, 20.0);

/// The place that a letter of the legend takes, about.
const LETTER: f64 = 7.2;

/// What an axis shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    /// Quantity and unit.
    pub(crate) title: &'static str,
    /// How a value is written.
    pub(crate) label: fn(f64) -> String,
    /// Whether it is logarithmic.
    pub(crate) log: bool,
    /// A value with a line of its own.
    pub(crate) mark: Option<f64>,
}

/// Series of values over the same places: none where a series has nothing.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    /// What it shows.
    pub(crate) title: String,
    /// The names of the places.
    pub(crate) places: Vec<String>,
    /// Who has which values.
    pub(crate) series: Vec<Series>,
}

/// The values of one, for all places.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Whose they are.
    pub(crate) name: String,
    /// The number of its colour and shape, which are the same in every chart.
    pub(crate) style: usize,
    /// One for each place.
    pub(crate) values: Vec<Option<f64>>,
}

impl Plot {
    fn values(&self) -> impl Iterator<Item = f64> {
        self.series.iter().flat_map(|series| series.values.iter().flatten().copied())
    }

    fn scale(&self, axis: &Axis, places: (f64, f64)) -> Scale {
        let values = || self.values().chain(axis.mark);
        let highest = values().fold(f64::MIN, f64::max);
        if axis.log {
            Scale::log(values().fold(f64::MAX, f64::min), highest, places)
        } else {
            Scale::linear(highest, places)
        }
    }

    /// Title and legend; returns where what is below may begin.
    fn head(&self, drawing: &mut Drawing) -> f64 {
        drawing.title((16.0, 26.0), &self.title);
        let (mut x, mut y) = (24.0, LEGEND.0);
        for Series { name, style, .. } in &self.series {
            let width = 30.0 + name.chars().count() as f64 * LETTER;
            if x + width > WIDTH {
                (x, y) = (24.0, y + LEGEND.1);
            }
            drawing.point(*style, (x, y - 4.5));
            drawing.text((x + 10.0, y), Anchor::Start, name);
            x += width;
        }
        y + 18.0
    }

    /// The horizontal lines of a vertical axis, and its words.
    fn upright(&self, drawing: &mut Drawing, axis: &Axis, (top, bottom): (f64, f64)) -> Scale {
        let scale = self.scale(axis, (bottom, top));
        for tick in scale.ticks() {
            let y = scale.place(tick);
            drawing.grid((LEFT, y), (RIGHT, y));
            drawing.text((LEFT - 8.0, y + 4.0), Anchor::End, &(axis.label)(tick));
        }
        drawing.upright((18.0, f64::midpoint(top, bottom)), axis.title);
        scale
    }
}

const LEFT: f64 = 88.0;
const RIGHT: f64 = WIDTH - 24.0;

/// A line for each series, from place to place, over a vertical axis.
pub(crate) fn lines(plot: &Plot, below: &str, axis: &Axis) -> String {
    let mut drawing = Drawing::new(WIDTH, HEIGHT);
    let (top, bottom) = (plot.head(&mut drawing), HEIGHT - 60.0);
    let scale = plot.upright(&mut drawing, axis, (top, bottom));
    let distance = (RIGHT - LEFT - 40.0) / (plot.places.len().max(2) - 1) as f64;
    let x = |place: usize| LEFT + 20.0 + place as f64 * distance;
    for (place, name) in plot.places.iter().enumerate() {
        drawing.grid((x(place), bottom), (x(place), bottom + 5.0));
        drawing.text((x(place), bottom + 20.0), Anchor::Middle, name);
    }
    drawing.text((f64::midpoint(LEFT, RIGHT), HEIGHT - 14.0), Anchor::Middle, below);
    if let Some(mark) = axis.mark {
        drawing.mark((LEFT, scale.place(mark)), (RIGHT, scale.place(mark)));
    }
    for Series { style, values, .. } in &plot.series {
        let point =
            |(place, value): (usize, &Option<f64>)| Some((x(place), scale.place((*value)?)));
        let points: Vec<_> = values.iter().enumerate().filter_map(point).collect();
        drawing.path(*style, &points);
        points.into_iter().for_each(|point| drawing.point(*style, point));
    }
    drawing.finish()
}

/// A group of bars for each place, over a vertical axis.
pub(crate) fn bars(plot: &Plot, axis: &Axis) -> String {
    let mut drawing = Drawing::new(WIDTH, HEIGHT);
    let (top, bottom) = (plot.head(&mut drawing), HEIGHT - 50.0);
    let scale = plot.upright(&mut drawing, axis, (top, bottom));
    let group = (RIGHT - LEFT) / plot.places.len().max(1) as f64;
    let bar = group * 0.8 / plot.series.len().max(1) as f64;
    for (place, name) in plot.places.iter().enumerate() {
        let left = LEFT + group * place as f64;
        for (line, words) in wrap(name, (group / LETTER) as usize).iter().enumerate() {
            let y = bottom + 20.0 + 16.0 * line as f64;
            drawing.text((left + group / 2.0, y), Anchor::Middle, words);
        }
        for (i, Series { style, values, .. }) in plot.series.iter().enumerate() {
            if let Some(value) = values[place] {
                let x = left + group * 0.1 + bar * i as f64;
                let y = scale.place(value);
                drawing.bar(*style, (x, y), bar * 0.88, bottom - y);
            }
        }
    }
    if let Some(mark) = axis.mark {
        drawing.mark((LEFT, scale.place(mark)), (RIGHT, scale.place(mark)));
    }
    drawing.finish()
}

/// A row of dots for each place, over a horizontal axis.
pub(crate) fn dots(plot: &Plot, axis: &Axis) -> String {
    const LABELS: f64 = 280.0;
    let probe = plot.head(&mut Drawing::new(WIDTH, HEIGHT));
    let bottom = probe + ROW * plot.places.len() as f64;
    let mut drawing = Drawing::new(WIDTH, bottom + 60.0);
    let top = plot.head(&mut drawing);
    let scale = plot.scale(axis, (LABELS, RIGHT - 12.0));
    for tick in scale.ticks() {
        let x = scale.place(tick);
        drawing.grid((x, top), (x, bottom));
        drawing.text((x, bottom + 20.0), Anchor::Middle, &(axis.label)(tick));
    }
    drawing.text((f64::midpoint(LABELS, RIGHT), bottom + 46.0), Anchor::Middle, axis.title);
    for (place, name) in plot.places.iter().enumerate() {
        let y = top + ROW * (place as f64 + 0.5);
        drawing.grid((LABELS, y), (RIGHT, y));
        drawing.text((LABELS - 12.0, y + 4.0), Anchor::End, name);
        // procession's, which is the first, lies above all others.
        for Series { style, values, .. } in plot.series.iter().rev() {
            if let Some(value) = values[place] {
                drawing.point(*style, (scale.place(value), y));
            }
        }
    }
    drawing.finish()
}

/// Lines of whole words, none longer than so many letters unless a word is.
fn wrap(text: &str, letters: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= letters => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const AXIS: Axis = Axis { title: "time", label: |v| format!("{v}"), log: true, mark: None };

    fn series(name: &str, style: usize, values: [Option<f64>; 2]) -> Series {
        Series { name: name.to_owned(), style, values: values.to_vec() }
    }

    fn plot() -> Plot {
        Plot {
            title: "of two".to_owned(),
            places: vec!["near".to_owned(), "far".to_owned()],
            series: vec![
                series("one", 0, [Some(1.0), Some(100.0)]),
                series("two", 1, [None, Some(20.0)]),
            ],
        }
    }

    #[test]
    fn every_value_has_a_mark_and_every_series_a_name() {
        let legend = 1;
        for (svg, name) in
            [(lines(&plot(), "place", &AXIS), "lines"), (dots(&plot(), &AXIS), "dots")]
        {
            assert_eq!(svg.matches("<circle").count(), legend + 2, "{name}");
            assert_eq!(svg.matches("<polygon").count(), legend + 1, "{name}");
            assert!(
                [">one<", ">two<", ">near<", ">far<", ">time<"].iter().all(|w| svg.contains(w))
            );
        }
        let bars = bars(&plot(), &AXIS);
        assert_eq!(bars.matches("<rect class=\"c0\"").count(), 2);
        assert_eq!(bars.matches("<rect class=\"c1\"").count(), 1);
    }

    #[test]
    fn long_names_are_wrapped_between_words() {
        assert_eq!(wrap("log-uniform, ascending", 14), ["log-uniform,", "ascending"]);
        assert_eq!(wrap("a b c", 3), ["a b", "c"]);
        assert_eq!(wrap("indivisible", 3), ["indivisible"]);
    }

    #[test]
    fn a_value_with_a_line_of_its_own_is_within_the_scale() {
        let axis = Axis { log: false, mark: Some(400.0), ..AXIS };
        let svg = bars(&plot(), &axis);
        assert_eq!(svg.matches("class=\"mark\"").count(), 1);
        assert!(svg.contains(">400<"), "the axis reaches it");
    }
}

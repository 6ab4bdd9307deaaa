//! A drawing of lines, shapes and words.

use std::fmt::Write as _;

/// The colours of series in light mode and in dark mode, each readable on its ground.
const COLOURS: [(&str, &str); 13] = [
    ("#c2255c", "#ff6b9d"),
    ("#1971c2", "#4dabf7"),
    ("#2b8a3e", "#51cf66"),
    ("#d9480f", "#ffa94d"),
    ("#6741d9", "#b197fc"),
    ("#0b7285", "#3bc9db"),
    ("#5c940d", "#a9e34b"),
    ("#862e9c", "#e599f7"),
    ("#495057", "#ced4da"),
    ("#087f5b", "#63e6be"),
    ("#364fc7", "#91a7ff"),
    ("#e67700", "#ffd43b"),
    ("#845c3b", "#d8b48f"),
];

/// Where a text's place is in it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing that grows.
#[derive(Debug)]
pub(super) struct Drawing {
    width: f64,
    height: f64,
    body: String,
}

impl Drawing {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// A line of the grid.
    pub(super) fn grid(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.line("grid", from, to);
    }

    /// A line that values are compared with.
    pub(super) fn mark(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.line("mark", from, to);
    }

    fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ = writeln!(
            self.body,
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        );
    }

    /// A line of a series, from point to point.
    pub(super) fn path(&mut self, style: usize, points: &[(f64, f64)]) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (points, colour) = (points.join(" "), colour(style));
        let _ = writeln!(self.body, r#"<polyline class="{colour} line" points="{points}"/>"#);
    }

    /// A point of a series: circles, squares, diamonds and triangles by turns.
    pub(super) fn point(&mut self, style: usize, (x, y): (f64, f64)) {
        let colour = colour(style);
        let corners: &[(f64, f64)] = match style % 4 {
            0 => {
                let _ = writeln!(
                    self.body,
                    r#"<circle class="{colour}" cx="{x:.1}" cy="{y:.1}" r="4.5"/>"#
                );
                return;
            }
            1 => &[(-4.0, -4.0), (4.0, -4.0), (4.0, 4.0), (-4.0, 4.0)],
            2 => &[(0.0, -5.5), (5.5, 0.0), (0.0, 5.5), (-5.5, 0.0)],
            _ => &[(0.0, -5.0), (5.0, 4.0), (-5.0, 4.0)],
        };
        let corner = |(dx, dy): &(f64, f64)| format!("{:.1},{:.1}", x + dx, y + dy);
        let corners: Vec<String> = corners.iter().map(corner).collect();
        let corners = corners.join(" ");
        let _ = writeln!(self.body, r#"<polygon class="{colour}" points="{corners}"/>"#);
    }

    /// A bar of a series, from its upper left corner.
    pub(super) fn bar(&mut self, style: usize, (x, y): (f64, f64), width: f64, height: f64) {
        let colour = colour(style);
        let _ = writeln!(
            self.body,
            r#"<rect class="{colour}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/>"#
        );
    }

    /// Words.
    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        self.words("", x, y, anchor, text);
    }

    /// The words above everything.
    pub(super) fn title(&mut self, (x, y): (f64, f64), text: &str) {
        self.words(r#" class="title""#, x, y, Anchor::Start, text);
    }

    /// Words that are read from below.
    pub(super) fn upright(&mut self, (x, y): (f64, f64), text: &str) {
        let turned = format!(r#" transform="rotate(-90 {x:.1} {y:.1})""#);
        self.words(&turned, x, y, Anchor::Middle, text);
    }

    fn words(&mut self, attributes: &str, x: f64, y: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escape(text);
        let _ = writeln!(
            self.body,
            r#"<text{attributes} x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        );
    }

    /// The whole file.
    pub(super) fn finish(self) -> String {
        let Self { width, height, body } = self;
        let (mut light, mut dark) = (String::new(), String::new());
        for (i, (in_light, in_dark)) in COLOURS.into_iter().enumerate() {
            let _ = write!(light, ".c{i}{{fill:{in_light};stroke:{in_light}}}");
            let _ = write!(dark, ".c{i}{{fill:{in_dark};stroke:{in_dark}}}");
        }
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">
<style>
text{{font:13px system-ui,sans-serif;fill:#1f2328}}
.title{{font-weight:600;font-size:15px}}
.ground{{fill:#ffffff}}
.grid{{stroke:#d1d9e0;stroke-width:1}}
.mark{{stroke:#59636e;stroke-width:1.5;stroke-dasharray:5 4}}
{light}
.line{{fill:none;stroke-width:2}}
@media (prefers-color-scheme:dark){{
text{{fill:#e6edf3}}
.ground{{fill:#0d1117}}
.grid{{stroke:#30363d}}
.mark{{stroke:#9198a1}}
{dark}
.line{{fill:none}}
}}
</style>
<rect class="ground" width="{width}" height="{height}"/>
{body}</svg>
"##
        )
    }
}

/// The first one has a colour that nobody else gets.
fn colour(style: usize) -> String {
    format!("c{}", if style == 0 { 0 } else { 1 + (style - 1) % (COLOURS.len() - 1) })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_cannot_break_the_drawing() {
        let mut drawing = Drawing::new(10.0, 10.0);
        drawing.text((0.0, 0.0), Anchor::Start, "a < b & c");
        let svg = drawing.finish();
        assert!(svg.contains("a &lt; b &amp; c"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn nobody_has_the_first_ones_colour() {
        assert!((1..100).all(|style| colour(style) != colour(0)));
        assert_ne!(colour(1), colour(2));
    }

    #[test]
    fn both_modes_have_all_colours() {
        let svg = Drawing::new(10.0, 10.0).finish();
        for i in 0..COLOURS.len() {
            assert_eq!(svg.matches(&format!(".c{i}{{")).count(), 2, "{i}");
        }
    }
}

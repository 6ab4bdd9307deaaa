//! Tables, as text and as Markdown.

use std::fmt::Write as _;

/// Rows of cells; the first row is the head.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a head only.
    pub fn new(head: Vec<String>) -> Self {
        Self { rows: vec![head] }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// In columns of even width, the first one to the left, the others to the right.
    pub fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(|column| self.width(column)).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = match column {
                    0 => write!(line, "{cell:<width$}"),
                    _ => write!(line, "  {cell:>width$}"),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// As a table of GitHub's Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
            if number == 0 {
                let others = "---:|".repeat(row.len().saturating_sub(1));
                let _ = writeln!(text, "|---|{others}");
            }
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(vec!["a".to_owned(), "µs".to_owned()]);
        table.push(vec!["bcd".to_owned(), "1|2".to_owned()]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        assert_eq!(table().text(), "a     µs\nbcd  1|2\n");
    }

    #[test]
    fn markdown_has_a_line_below_the_head_and_no_stray_bars() {
        assert_eq!(table().markdown(), "| a | µs |\n|---|---:|\n| bcd | 1\\|2 |\n");
    }
}

//! What a regular expression finds in lines of text.

use std::sync::LazyLock;

use regex::Regex;

use crate::schedule::Random;

/// Lines, each of which has four matches.
pub(crate) const LINES: usize = 250_000;

/// The lines of one task.
const CHUNK: usize = 2_500;

/// A name and a number.
const PATTERN: &str = r"(\w+)=(\d+)";

/// A log of so many lines.
pub(super) fn text(lines: usize) -> String {
    const NAMES: [&str; 5] = ["ada", "grace", "edsger", "barbara", "tony"];
    let mut random = Random(2);
    let mut text = String::with_capacity(lines * 80);
    for line in 0..lines {
        let number = random.next();
        let name = NAMES[number as usize % NAMES.len()];
        let (user, size, took) = (number % 1_000, number >> 40, number >> 20 & 0xFFF);
        text +=
            &format!("at={line} user={user} name={name} GET /index.html size={size} took={took}\n");
    }
    text
}

/// The text in chunks of whole lines, one a task.
pub(crate) fn chunks(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    lines.chunks(CHUNK).map(|lines| lines.join("\n")).collect()
}

/// How many matches a chunk has, and the sum of their numbers.
pub(crate) fn find(chunk: &str) -> (u64, u64) {
    static REGEX: LazyLock<Regex> = LazyLock::new(|| Regex::new(PATTERN).expect("it is one"));
    REGEX.captures_iter(chunk).fold((0, 0), |(count, sum), found| {
        (count + 1, sum + found[2].parse::<u64>().expect("digits"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_four_matches() {
        let text = text(3_000);
        let chunks = chunks(&text);
        assert_eq!(chunks.len(), 2);
        assert_eq!(chunks.iter().map(|chunk| find(chunk).0).sum::<u64>(), 12_000);
        assert_eq!(find("a=1 b=x c=20"), (2, 21));
    }
}

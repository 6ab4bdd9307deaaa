//! Each example prints what its header says: the lines of its ```` ```text ```` block, in which `…`
//! stands for anything.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path};

/// The lines that the header of `source` promises.
fn promised(source: &str) -> Vec<&str> {
    source
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .skip_while(|line| *line != " ```text")
        .skip(1)
        .take_while(|line| *line != " ```")
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect()
}

fn matches(pattern: &str, line: &str) -> bool {
    match pattern.split_once('…') {
        None => pattern == line,
        Some((start, end)) => {
            line.len() >= start.len() + end.len() && line.starts_with(start) && line.ends_with(end)
        }
    }
}

#[test]
fn each_example_prints_what_its_header_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let temp = tempfile::tempdir().unwrap();
    let mut tried = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // An example in a folder of its own has a test of its own.
        if path.is_dir() {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        let source = fs::read_to_string(&path).unwrap();
        let expected = promised(&source);
        assert!(!expected.is_empty(), "{name} doesn't say what it prints");

        let output = support::output(support::example(name).env("TMPDIR", temp.path()));
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = stdout.lines().collect();
        let as_promised = lines.len() == expected.len()
            && expected.iter().zip(&lines).all(|(pattern, line)| matches(pattern, line));
        assert!(
            as_promised && output.status.success(),
            "{name} ended with {}\n--- it printed\n{stdout}--- its header says\n{}\n--- stderr\n{stderr}",
            output.status,
            expected.join("\n"),
        );
        tried += 1;
    }
    assert!(tried > 0, "there are no examples");
}

//! `word_count` as its users run it, with `sort | uniq -c` as the judge.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// More than any text has words.
const ALL: &str = "1000000000";

fn word_count(how_many: &str, files: &[PathBuf]) -> Output {
    support::output(support::example("word_count").arg(how_many).args(files))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What the commands of the example's header print. A line feed behind each file keeps the last word of one
/// and the first one of the next apart.
fn judge(files: &[PathBuf]) -> String {
    let script = "for file; do cat \"$file\"; echo; done | tr -cs A-Za-z '\\n' | grep . | tr A-Z a-z | \
                  sort | uniq -c | sort -k1,1nr -k2";
    let mut shell = Command::new("sh");
    shell.env("LC_ALL", "C").args(["-e", "-c", script, "judge"]).args(files);
    let output = support::output(&mut shell);
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn agree(files: &[PathBuf]) -> String {
    let ours = word_count(ALL, files);
    assert!(ours.status.success(), "{}", stderr(&ours));
    let ours = String::from_utf8(ours.stdout).unwrap();
    let theirs = judge(files);
    // The widths of the numbers differ between systems.
    let words = |text: &str| -> Vec<Vec<String>> {
        text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    assert!(words(&ours) == words(&theirs), "ours:\n{ours}\ntheirs:\n{theirs}");
    ours
}

/// The Rust sources below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_words_of_these_sources_are_those_of_sort_and_uniq() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for folder in ["runtime/src", "macros/src", "examples"] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 100, "{files:?}");
    let counts = agree(&files);
    assert!(counts.lines().count() > 1000, "{counts}");
}

#[test]
fn files_of_all_kinds() {
    let temp = tempfile::tempdir().unwrap();
    let texts: [(&[u8], &[u8]); 6] = [
        (b"empty", b""),
        (b"no end of line", b"one Two two THREE three Three"),
        (b"no word", b"12345 _ \n 67 \xc3\xa9\n"),
        (b"not utf-8", b"\xff\xfe one\x00two\xc3\xa9three"),
        (b"lines\nin a name", b"\n\none\n\n\ntwo\r\nthree\n\n"),
        (b"name \xff", b"don't"),
    ];
    let files = texts.map(|(name, text)| {
        let path = temp.path().join(OsString::from_vec(name.to_vec()));
        fs::write(&path, text).unwrap();
        path
    });
    let counts = agree(&files);
    assert_eq!(counts.lines().next(), Some("      5 three"));
    assert_eq!(counts.lines().count(), 5);

    let first = word_count("2", &files);
    assert_eq!(String::from_utf8(first.stdout).unwrap(), "      5 three\n      4 two\n");
    // The same file as often as it is named, all of them at once.
    let often = vec![files[1].clone(); 50];
    assert_eq!(agree(&often), "    150 three\n    100 two\n     50 one\n");
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_counted() {
    let temp = tempfile::tempdir().unwrap();
    let [there, missing] = ["there", "missing"].map(|name| temp.path().join(name));
    fs::write(&there, "word").unwrap();
    let output = word_count("5", &[missing, there]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "      1 word\n");
    assert!(stderr(&output).contains("missing\": No such file"), "{}", stderr(&output));
}

#[test]
fn a_wrong_number_is_a_wrong_use() {
    let output = word_count("many", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("usage: "), "{}", stderr(&output));
}

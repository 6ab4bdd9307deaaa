//! `hash_tree` as its users run it, with `sha256sum` as the judge where there is one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::Path,
    process::{Command, Output, Stdio},
};

fn hash_tree(folder: &Path, args: &[&str]) -> Output {
    support::output(support::example("hash_tree").current_dir(folder).args(args))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder `tree` with names of all kinds, and their paths in the order that is promised.
fn tree(folder: &Path) -> Vec<OsString> {
    let names: [&[u8]; 12] = [
        b"tree/a-b",
        b"tree/a.txt",
        b"tree/a/inner",
        b"tree/a/z/deep",
        b"tree/back\\slash",
        b"tree/car\rriage",
        b"tree/line\nfeed",
        b"tree/not utf-8 \xff\xfe",
        b"tree/tab\t ends with space ",
        "tree/ünïcode".as_bytes(),
        b"tree/\xf0\x9f",
        b"tree/\xff",
    ];
    let paths = names.map(|name| OsStr::from_bytes(name).to_owned());
    for (size, path) in paths.iter().enumerate() {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // From empty to several buffers.
        fs::write(path, vec![b'x'; size * 20_000]).unwrap();
    }
    symlink("a.txt", folder.join("tree/link")).unwrap();
    symlink("..", folder.join("tree/up")).unwrap();
    paths.to_vec()
}

#[test]
fn the_output_is_that_of_sha256sum() {
    let temp = tempfile::tempdir().unwrap();
    let paths = tree(temp.path());
    let ours = hash_tree(temp.path(), &["tree"]);
    assert!(ours.status.success(), "{}", stderr(&ours));
    assert!(stderr(&ours).starts_with("12 files, 1320000 bytes, "), "{}", stderr(&ours));

    let mut judge = Command::new("sha256sum");
    match judge.current_dir(temp.path()).args(&paths).output() {
        Ok(theirs) => assert!(
            ours.stdout == theirs.stdout,
            "ours:\n{}\ntheirs:\n{}",
            String::from_utf8_lossy(&ours.stdout),
            String::from_utf8_lossy(&theirs.stdout)
        ),
        Err(error) => eprintln!("not compared with sha256sum: {error}"),
    }
}

#[test]
fn the_example_of_its_header() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir_all(temp.path().join("greek/beta")).unwrap();
    fs::write(temp.path().join("greek/alpha"), "a").unwrap();
    fs::write(temp.path().join("greek/beta/gamma"), "").unwrap();
    let output = hash_tree(temp.path(), &["greek"]);
    let header = include_str!("../examples/hash_tree/main.rs");
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        assert!(header.contains(&format!("\n//! {line}\n")), "the header doesn't say {line:?}");
    }
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_hashed() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("plain"), "a").unwrap();
    let output = hash_tree(temp.path(), &["missing", "plain"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.ends_with(b"bb  plain\n"));
    assert!(stderr(&output).contains("\"missing\": No such file"), "{}", stderr(&output));
    assert!(stderr(&output).contains("\n1 files, 1 bytes, "), "{}", stderr(&output));

    // A file that can be opened but not read, by anyone: the address 0 of a process is not mapped.
    #[cfg(target_os = "linux")]
    {
        let output = hash_tree(temp.path(), &["/proc/self/mem", "plain"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.ends_with(b"bb  plain\n"));
        assert!(stderr(&output).contains("\"/proc/self/mem\": "), "{}", stderr(&output));
    }
}

#[test]
fn nothing_to_hash_is_no_error_and_nothing_to_do_is_one() {
    let temp = tempfile::tempdir().unwrap();
    let output = hash_tree(temp.path(), &["."]);
    assert!(output.status.success());
    assert_eq!(output.stdout, b"");
    assert!(stderr(&output).starts_with("0 files, 0 bytes, "), "{}", stderr(&output));

    let output = hash_tree(temp.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("usage: "), "{}", stderr(&output));
}

#[test]
fn a_closed_stdout_is_a_quiet_end() {
    let temp = tempfile::tempdir().unwrap();
    tree(temp.path());
    let mut child = support::example("hash_tree")
        .current_dir(temp.path())
        .arg("tree")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    assert_eq!(stderr(&output), "");
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    tree(temp.path());
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = support::example("hash_tree");
    let status = command.current_dir(temp.path()).arg("tree").stdout(full).output().unwrap();
    assert_eq!(status.status.code(), Some(1));
    assert!(stderr(&status).contains("can't write to stdout: No space left"), "{status:?}");
}

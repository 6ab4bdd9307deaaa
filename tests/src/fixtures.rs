//! Programs of `tests/fixtures`, built with cargo when a test asks for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::Once;

/// A cargo command for the workspace of the fixtures.
///
/// It takes the versions of the workspace's lock file, so that it needs no network, and has a target
/// directory of its own in the workspace's, which a second run finds as the first has left it.
pub fn cargo(subcommand: &str) -> Command {
    static LOCKED: Once = Once::new();
    LOCKED.call_once(take_versions);
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    // What cargo and the test runner have set for the tests isn't meant for other packages.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_")) {
        command.env_remove(name);
    }
    command.arg(subcommand).arg("--offline").arg("--quiet").env("CARGO_TARGET_DIR", target());
    command.arg("--manifest-path").arg(fixtures().join("Cargo.toml"));
    command
}

/// Runs a cargo command, which must succeed.
///
/// # Panics
/// It doesn't; the message is what cargo says.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}

/// Where cargo puts a fixture's program.
pub fn program(profile: &str, name: &str) -> PathBuf {
    target().join(profile).join(name)
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn target() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let target = test.ancestors().nth(3).expect("tests are built in target/PROFILE/deps");
    target.join("fixtures")
}

/// cargo leaves out of the lock file what the fixtures don't need.
fn take_versions() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let to = fixtures().join("Cargo.lock");
    // By renaming, because the tests of another binary may do the same now.
    let unfinished = fixtures().join(format!("Cargo.lock.{}", process::id()));
    fs::copy(from, &unfinished).expect("the workspace has a lock file");
    fs::rename(unfinished, to).expect("the fixtures' directory can be written");
}

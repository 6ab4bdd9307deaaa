//! One program with every kind of callable, in builds and targets that the workspace doesn't have.
//!
//! What takes long to build (release, fat LTO, stripped, everything with `panic = "abort"`) is in
//! `tests/matrix.sh`.

use procession_tests::program::Program;
use procession_tests::{alone, fixtures};

#[test]
fn a_debug_build_works() {
    alone(|| {
        fixtures::succeed(fixtures::cargo("build").args(["-p", "fixture-matrix"]));
        let ended = Program::start(fixtures::program("debug", "fixture-matrix"), &[]).finish();
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(ended.stdout, "all callables work; a panic is unwind\n");
    });
}

/// The final crate decides how a panic ends, so that only it is built again.
#[test]
fn a_build_with_panic_abort_works() {
    alone(|| {
        let build = ["-p", "fixture-matrix", "--example", "aborting", "--", "-C", "panic=abort"];
        fixtures::succeed(fixtures::cargo("rustc").args(build));
        let ended = Program::start(fixtures::program("debug/examples", "aborting"), &[]).finish();
        assert!(ended.status.success(), "{ended:?}");
        assert!(ended.stdout.contains("panicked") && ended.stdout.contains("no 3"), "{ended:?}");
    });
}

#[test]
fn every_target_of_cargo_test_works() {
    alone(|| {
        let all = ["-p", "fixture-matrix", "--lib", "--examples", "--tests", "--benches"];
        let told = fixtures::succeed(fixtures::cargo("test").args(all));
        // One each in the library, in `tests/`, and in `benches/`.
        assert_eq!(told.matches("test result: ok. 1 passed").count(), 3, "{told}");
        let run = ["-p", "fixture-matrix", "--example", "as_example"];
        let told = fixtures::succeed(fixtures::cargo("run").args(run));
        assert_eq!(told, "works in an example\n");
    });
}

#[test]
fn doctests_work() {
    alone(|| {
        let told =
            fixtures::succeed(fixtures::cargo("test").args(["-p", "fixture-matrix", "--doc"]));
        assert!(told.contains("test result: ok. 1 passed"), "{told}");
    });
}

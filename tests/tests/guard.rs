//! The guard: who is a worker and who isn't, and that nothing ever starts workers without end.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use procession::Pool;
use procession_tests::program::{Ended, Program};
use procession_tests::scenarios::grandchild;
use procession_tests::{alone, fixtures};

const GUARDED: &str = env!("CARGO_BIN_EXE_guarded");
const HOOKED: &str = env!("CARGO_BIN_EXE_hooked");
const STRANGER: &str = env!("CARGO_BIN_EXE_stranger");

const NONCE: &str = "00112233445566778899aabbccddeeff";
const NONCE_BYTES: [u8; 16] = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes();

// ---- stray invitations ------------------------------------------------------------------------------

/// Runs a program with a variable that is not for it.
fn report(path: &str, variable: &str, stdin: impl Into<Stdio>) -> Ended {
    let mut command = Command::new(path);
    command.arg("report").env("PROCESSION_WORKER", variable).stdin(stdin);
    let ended = Program::start_command(command).finish();
    assert!(ended.status.success(), "{variable:?}: {ended:?}");
    assert_eq!(ended.stderr, "", "{variable:?}");
    // The variable has been unset, and the program has run, with workers of its own.
    assert!(ended.stdout.starts_with("variable None\nsquares [1, 4, 9]\nstdin "), "{ended:?}");
    ended
}

#[test]
fn a_variable_without_a_socket_is_ignored() {
    alone(|| {
        for path in [GUARDED, HOOKED] {
            for number in ["", "x", "3", "-1", "99", "4294967299", "1000000000000000000000"] {
                report(path, number, Stdio::null());
                report(path, &format!("{number}.{NONCE}"), Stdio::null());
            }
            for nonce in ["", "12", &"g".repeat(32), &"ä".repeat(16), &NONCE[1..]] {
                report(path, &format!("0.{nonce}"), Stdio::null());
            }
        }
    });
}

#[test]
fn a_stray_file_is_ignored_and_left_alone() {
    alone(|| {
        let file = temporary("stray");
        fs::write(&file, "in the file").unwrap();
        for path in [GUARDED, HOOKED] {
            let ended = report(path, &format!("0.{NONCE}"), fs::File::open(&file).unwrap());
            assert!(ended.stdout.contains(file.to_str().unwrap()), "{ended:?}");
            assert!(ended.stdout.ends_with("text \"in the file\"\n"), "{ended:?}");
        }
        fs::remove_file(file).unwrap();
    });
}

/// Runs a program with a stray socket that holds some bytes.
fn report_with_socket(path: &str, bytes: &[u8]) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(bytes).unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let ended = report(path, &format!("0.{NONCE}"), OwnedFd::from(theirs));
    assert!(ended.stdout.contains("\nstdin socket:"), "it was closed: {ended:?}");
    let text = String::from_utf8_lossy(bytes);
    assert!(ended.stdout.ends_with(&format!("text {text:?}\n")), "it was read: {ended:?}");
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"", "it was written to");
}

#[test]
fn a_stray_socket_is_ignored_and_neither_read_nor_closed() {
    alone(|| {
        // As a hello begins, but with another nonce than the variable has.
        let mut forged = b"procsn\0\x01".to_vec();
        forged.extend_from_slice(&[7; 16]);
        forged.extend_from_slice(&[0; 100]);
        // The right nonce after the wrong beginning.
        let mut misplaced = b"something".to_vec();
        misplaced.extend_from_slice(&NONCE_BYTES);
        for path in [GUARDED, HOOKED] {
            for bytes in [&b""[..], b"x", b"a line for somebody else\n", &forged, &misplaced] {
                report_with_socket(path, bytes);
            }
        }
    });
}

/// A connection that nothing has been sent over yet must not make the program wait.
#[test]
fn a_silent_socket_does_not_block() {
    alone(|| {
        for path in [GUARDED, HOOKED] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let mut command = Command::new(path);
            command.arg("report").env("PROCESSION_WORKER", format!("0.{NONCE}"));
            let mut program = Program::start_command({
                command.stdin(OwnedFd::from(theirs));
                command
            });
            assert_eq!(program.line(), "variable None");
            assert_eq!(program.line(), "squares [1, 4, 9]");
            ours.write_all(b"later").unwrap();
            drop(ours);
            assert!(program.finish().stdout.ends_with("text \"later\"\n"));
        }
    });
}

// ---- grandchildren ----------------------------------------------------------------------------------

fn assert_nothing_of_ours_in(found: &str) {
    assert!(found.contains("PATH="), "{found}");
    let choice = "PROCESSION_START_METHOD=";
    let found: Vec<&str> = found.lines().filter(|line| !line.starts_with(choice)).collect();
    let found = found.join("\n");
    for ours in ["PROCESSION", "socket:", "memfd:", "pidfd"] {
        assert!(!found.contains(ours), "{ours} in {found}");
    }
}

#[test]
fn programs_that_a_task_starts_inherit_neither_variable_nor_descriptor() {
    alone(|| {
        let pool = Pool::builder().processes(1).build().unwrap();
        assert_nothing_of_ours_in(&pool.apply(grandchild, ()).unwrap());
        for path in [GUARDED, HOOKED] {
            let ended = Program::start(path, &["grandchild"]).finish();
            assert!(ended.status.success(), "{ended:?}");
            assert_nothing_of_ours_in(&ended.stdout);
        }
    });
}

// ---- programs without the hook ----------------------------------------------------------------------

fn unguarded(name: &str) -> PathBuf {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        fixtures::succeed(fixtures::cargo("build").args(["-p", "fixture-unguarded"]));
    });
    fixtures::program("debug", name)
}

#[test]
fn without_the_hook_both_guards_work() {
    alone(|| {
        for name in ["init", "attribute"] {
            let ended = Program::start(unguarded(name), &[]).finish();
            assert_eq!(ended.stdout, "running\n[1, 4, 9]\n25\n", "{name}: {ended:?}");
            assert_eq!(ended.stderr, "", "{name}");
            assert!(ended.status.success());
        }
    });
}

#[test]
fn without_any_guard_a_pool_is_an_error_that_says_what_to_add() {
    alone(|| {
        let program = unguarded("bare");
        let start = Instant::now();
        let ended = Program::start(program, &[]).finish();
        // A bound on a fork bomb, not on speed: it takes some milliseconds.
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(ended.stdout.lines().count() <= 2, "at most one more process: {ended:?}");
        assert_eq!(ended.stderr.matches("#[procession::main]").count(), 1, "{ended:?}");
        assert_eq!(ended.stderr.matches("procession::init()").count(), 1, "{ended:?}");
    });
}

#[test]
fn a_worker_that_passes_no_guard_ends_instead_of_starting_more() {
    alone(|| {
        let ended = Program::start(unguarded("conditional"), &[]).finish();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        // The program itself and its two workers, none of which has started another one.
        let runs = ended.stdout.matches("running").count();
        assert!((2..=3).contains(&runs), "{ended:?}");
        let told: Vec<&str> = ended.stderr.lines().collect();
        let last = told.last().unwrap();
        assert!(last.starts_with("Error: ") && last.contains("#[procession::main]"), "{ended:?}");
    });
}

// ---- other executables ------------------------------------------------------------------------------

fn play(arguments: &[&str]) -> Ended {
    let ended = Program::start(GUARDED, arguments).finish();
    assert!(ended.status.success(), "{ended:?}");
    ended
}

#[test]
fn a_worker_of_another_build_is_refused() {
    alone(|| {
        for scenario in ["from", "process_from"] {
            let ended = play(&[scenario, HOOKED]);
            assert!(ended.stdout.contains("another build than this process"), "{ended:?}");
            assert!(ended.stdout.contains("set_executable"), "{ended:?}");
        }
    });
}

#[test]
fn a_copy_of_the_executable_is_the_same_build() {
    alone(|| {
        let copy = temporary("copy");
        fs::copy(GUARDED, &copy).unwrap();
        let ended = Program::start(GUARDED, &["from", copy.to_str().unwrap()]).finish();
        // The scenario expects an error and gets the result.
        assert!(
            !ended.status.success() && ended.stderr.contains("no worker of ours: 9"),
            "{ended:?}"
        );
        fs::remove_file(copy).unwrap();
    });
}

#[test]
fn a_worker_that_dies_before_its_handshake_is_an_error_with_its_status() {
    alone(|| {
        for (path, status) in [("/bin/true", "exit status: 0"), ("/bin/false", "exit status: 1")] {
            for scenario in ["from", "process_from"] {
                let ended = play(&[scenario, path]);
                assert!(ended.stdout.contains(status), "{scenario}: {ended:?}");
            }
        }
        let ended = Program::start(GUARDED, &["from", "/no/such/file"]).finish();
        assert!(ended.stderr.contains("/no/such/file"), "{ended:?}");
        // A file that is no program.
        let ended = Program::start(GUARDED, &["from", "/etc/passwd"]).finish();
        let said = ended.stdout + &ended.stderr;
        assert!(said.contains("can't start a worker"), "{said}");
    });
}

#[test]
fn a_worker_that_hangs_before_its_handshake_is_killed() {
    alone(|| {
        let ended = play(&["from_hanging", STRANGER]);
        assert!(ended.stdout.contains("within 150ms"), "{ended:?}");
    });
}

// ---- the image --------------------------------------------------------------------------------------

#[test]
fn a_binary_that_was_deleted_or_replaced_still_gets_workers_of_its_own() {
    alone(|| {
        for original in [GUARDED, HOOKED] {
            let path = temporary("image");
            fs::copy(original, &path).unwrap();
            let mut program = Program::start(&path, &["on_request"]);
            let requests = ["old pool", "new pool", "process"];
            let mut number = 2_u64;
            let mut ask = |program: &mut Program| {
                for request in requests {
                    writeln!(program.stdin(), "{request}").unwrap();
                    assert_eq!(program.line(), (number * number).to_string(), "{request}");
                    number += 1;
                }
            };
            ask(&mut program);
            fs::remove_file(&path).unwrap();
            ask(&mut program);
            fs::copy(STRANGER, &path).unwrap();
            ask(&mut program);
            fs::remove_file(&path).unwrap();
            assert!(program.finish().status.success());
        }
    });
}

#[test]
fn constructors_on_both_sides_of_ours_run_before_tasks() {
    alone(|| {
        fixtures::succeed(fixtures::cargo("build").args(["-p", "fixture-constructors"]));
        let program = fixtures::program("debug", "fixture-constructors");
        let ended = Program::start(program, &["one argument"]).finish();
        // The number of arguments, and 2: the one in C ran after ours had taken the variable away.
        assert_eq!(ended.stdout, "program (2, 2)\nworker (2, 2)\n", "{ended:?}");
    });
}

fn temporary(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", process::id()))
}

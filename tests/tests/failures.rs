//! The failure matrix: whatever happens to one item is that item's error alone, soon, and says what it
//! was.
//!
//! Each row runs the same course ([`row`]): alone with an innocent task in flight on another worker,
//! then in the middle of a chunk, then something that works. With `--nocapture` the rows print how long
//! the caller waited for the error.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]
#![expect(unsafe_code, reason = "tasks crash on purpose")]

use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, raise};
use procession::{Error, Pool, task};
use procession_tests::scratch::{Scratch, note, notes, open, pass};
use procession_tests::{alone, is_running};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What happens to an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Fate {
    Fine,
    Sigkill,
    Sigsegv,
    UnderscoreExit,
    Exit,
    Abort,
    PanicInPanic,
    StackOverflow,
    Sigint,
    Panic,
    PanicWithNumber,
    PanicWithBomb,
    Hang,
    ArgumentEncodes(Way),
    ArgumentDecodes(Way),
    ResultEncodes(Way),
    ResultDecodes(Way),
}

/// How a user's own serde impl fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Way {
    Error,
    Panic,
}

impl Way {
    fn go<E>(self, error: impl FnOnce(&str) -> E) -> E {
        match self {
            Self::Error => error("words of the user's impl"),
            Self::Panic => panic!("a panic in the user's impl"),
        }
    }
}

/// The argument: notes that it ran, and meets its fate.
#[derive(Clone, Debug)]
struct Item {
    index: usize,
    fate: Fate,
    log: String,
}

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Fate::ArgumentEncodes(way) = self.fate {
            return Err(way.go(|words| S::Error::custom(words)));
        }
        (self.index, self.fate, &self.log).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (index, fate, log) = Deserialize::deserialize(deserializer)?;
        if let Fate::ArgumentDecodes(way) = fate {
            return Err(way.go(|words| D::Error::custom(words)));
        }
        Ok(Self { index, fate, log })
    }
}

/// The result.
#[derive(PartialEq, Eq, Debug)]
struct Done(usize, Fate);

impl Serialize for Done {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Fate::ResultEncodes(way) = self.1 {
            return Err(way.go(|words| S::Error::custom(words)));
        }
        (self.0, self.1).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Done {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (index, fate) = Deserialize::deserialize(deserializer)?;
        if let Fate::ResultDecodes(way) = fate {
            return Err(way.go(|words| D::Error::custom(words)));
        }
        Ok(Self(index, fate))
    }
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(Bomb);
    }
}

struct PanicsInDrop;

impl Drop for PanicsInDrop {
    fn drop(&mut self) {
        panic!("the second panic");
    }
}

#[task]
fn work(item: Item) -> Done {
    note(&item.log, item.index);
    match item.fate {
        Fate::Sigkill => raise(Signal::SIGKILL).unwrap(),
        Fate::Sigint => raise(Signal::SIGINT).unwrap(),
        Fate::Sigsegv => {
            let nowhere = std::ptr::without_provenance::<u32>(16);
            // SAFETY: it is not sound: the address is in the first page, which is never mapped.
            std::hint::black_box(unsafe { nowhere.read_volatile() });
        }
        // SAFETY: ends the process at once.
        Fate::UnderscoreExit => unsafe { libc::_exit(3) },
        Fate::Exit => process::exit(7),
        Fate::Abort => process::abort(),
        Fate::PanicInPanic => {
            let _bomb = PanicsInDrop;
            panic!("the first panic");
        }
        Fate::StackOverflow => {
            std::hint::black_box(overflow(0));
        }
        Fate::Panic => panic!("item {} panics", item.index),
        Fate::PanicWithNumber => panic_any(42),
        Fate::PanicWithBomb => panic_any(Bomb),
        Fate::Hang => thread::sleep(Duration::from_secs(3600)),
        _ => {}
    }
    Done(item.index, item.fate)
}

#[expect(unconditional_recursion, reason = "it is to overflow the stack")]
fn overflow(depth: u64) -> u64 {
    let space = std::hint::black_box([depth; 512]);
    overflow(depth + 1) + space[7]
}

#[task]
fn hold(gate: String) -> u32 {
    pass(&gate);
    process::id()
}

/// How long the hang may take.
const LIMIT: Duration = Duration::from_millis(100);

/// Whether a worker has seen the item, so that its error can name it.
fn reaches_a_worker(fate: Fate) -> bool {
    !matches!(fate, Fate::ArgumentEncodes(_))
}

/// The course of a row: `check` looks at the error of the item.
fn row(fate: Fate, check: impl Fn(&Error)) {
    alone(|| {
        let scratch = Scratch::new();
        let gate = scratch.path("gate");
        let pool = Pool::builder().processes(2).build().unwrap();
        let first_pids = pool.worker_pids();
        let innocent = pool.apply_async(hold, (gate.clone(),));
        let item = |index, fate, log: &str| Item { index, fate, log: scratch.path(log) };
        let call = || match fate {
            Fate::Hang => pool.call(work).timeout(LIMIT),
            _ => pool.call(work),
        };
        let all_names = |error: &Error, index| {
            assert_eq!(error.task(), Some("failures::work"), "{error}");
            assert_eq!(error.index(), index, "{error}");
            let by_parent = matches!(fate, Fate::ArgumentEncodes(_) | Fate::ResultDecodes(_));
            assert_eq!(error.pid().is_some(), !by_parent, "{error}");
            assert!(error.to_string().contains("`failures::work`"), "{error}");
        };

        // Alone, in a worker that is up.
        call().apply((item(0, Fate::Fine, "warm"),)).unwrap();
        let start = Instant::now();
        let error = call().apply((item(0, fate, "one"),)).unwrap_err();
        let took = start.elapsed();
        println!("{:32} {:>9.2} ms   {error}", format!("{fate:?}"), took.as_secs_f64() * 1e3);
        assert!(took < Duration::from_secs(5), "{fate:?} took {took:?}");
        all_names(&error, None);
        check(&error);
        let ran = usize::from(reaches_a_worker(fate) && !matches!(fate, Fate::ArgumentDecodes(_)));
        assert_eq!(notes(&scratch.path("one")).len(), ran);

        // In the middle of a chunk.
        let items = (0..10).map(|i| item(i, if i == 4 { fate } else { Fate::Fine }, "chunk"));
        for (i, result) in call().chunksize(10).try_map(items).into_iter().enumerate() {
            match result {
                Ok(done) => assert_eq!(done, Done(i, Fate::Fine)),
                Err(error) => {
                    assert_eq!(i, 4, "{error}");
                    all_names(&error, Some(4));
                    check(&error);
                }
            }
        }
        let mut ran_items: Vec<usize> =
            notes(&scratch.path("chunk")).iter().map(|line| line.parse().unwrap()).collect();
        ran_items.sort_unstable();
        let expected: Vec<usize> = (0..10).filter(|i| *i != 4 || ran == 1).collect();
        assert_eq!(ran_items, expected, "each item ran exactly once");

        // It is the error of `map` and of `imap`, too.
        let items = (0..3).map(|i| item(i, if i == 1 { fate } else { Fate::Fine }, "map"));
        let error = call().map(items.clone()).unwrap_err();
        all_names(&error, Some(1));
        check(&error);
        let failed: Vec<bool> = call().imap(items).map(|result| result.is_err()).collect();
        assert_eq!(failed, [false, true, false]);

        // Something that works, and the innocent task.
        assert_eq!(call().apply((item(5, Fate::Fine, "next"),)).unwrap(), Done(5, Fate::Fine));
        open(&gate);
        let survivor = innocent.get().unwrap();
        assert!(first_pids.contains(&survivor));
        pool.close();
        pool.join().unwrap();
        assert!(first_pids.into_iter().all(|pid| !is_running(pid)));
    });
}

#[track_caller]
fn assert_says(error: &Error, words: &[&str]) {
    for words in words {
        assert!(error.to_string().contains(words), "{words:?} is not in: {error}");
    }
}

#[track_caller]
fn assert_signal(error: &Error, signal: Signal) {
    assert!(error.is_worker_lost() && !error.is_timeout() && error.panic().is_none(), "{error}");
    assert_eq!(error.exit_status().unwrap().signal(), Some(signal as i32), "{error}");
    assert_says(error, &[signal.as_str(), &format!("pid {}", error.pid().unwrap())]);
}

#[track_caller]
fn assert_code(error: &Error, code: i32) {
    assert!(error.is_worker_lost(), "{error}");
    assert_eq!(error.exit_status().unwrap().code(), Some(code), "{error}");
    assert_says(error, &[&format!("exit status: {code}")]);
}

#[test]
fn sigkill() {
    row(Fate::Sigkill, |error| assert_signal(error, Signal::SIGKILL));
}

#[test]
fn sigsegv_tells_the_address() {
    row(Fate::Sigsegv, |error| {
        assert_signal(error, Signal::SIGSEGV);
        assert_says(error, &["address is 0x10"]);
    });
}

#[test]
fn underscore_exit() {
    row(Fate::UnderscoreExit, |error| {
        assert_code(error, 3);
        assert!(!error.to_string().contains("called `exit`"), "{error}");
    });
}

#[test]
fn exit_is_named() {
    row(Fate::Exit, |error| {
        assert_code(error, 7);
        assert_says(error, &["called `exit`"]);
    });
}

#[test]
fn abort() {
    row(Fate::Abort, |error| assert_signal(error, Signal::SIGABRT));
}

#[test]
fn a_panic_that_aborts_tells_its_first_message() {
    row(Fate::PanicInPanic, |error| {
        assert_signal(error, Signal::SIGABRT);
        assert_says(error, &["the first panic", "failures.rs:"]);
        assert!(!error.to_string().contains("the second panic"), "{error}");
    });
}

#[test]
fn a_stack_overflow_is_named() {
    row(Fate::StackOverflow, |error| {
        assert!(error.is_worker_lost());
        assert_says(error, &["stack overflowed", "stack_size"]);
    });
}

#[test]
fn a_panic_tells_message_and_place() {
    row(Fate::Panic, |error| {
        let panic = error.panic().unwrap();
        assert_eq!(panic.message(), format!("item {} panics", error.index().unwrap_or(0)));
        assert!(panic.location().unwrap().contains("failures.rs:"));
        assert_says(error, &["panics", "failures.rs:"]);
    });
}

#[test]
fn l9_a_panic_payload_may_be_anything() {
    row(Fate::PanicWithNumber, |error| {
        let panic = error.panic().unwrap();
        assert!(panic.message().contains("isn't text"));
        assert!(panic.location().unwrap().contains("failures.rs:"));
    });
}

#[test]
fn l9_a_panic_payload_may_panic_when_dropped() {
    row(Fate::PanicWithBomb, |error| {
        assert!(error.panic().unwrap().message().contains("isn't text"));
    });
}

#[test]
fn a_hard_time_limit() {
    row(Fate::Hang, |error| {
        assert!(error.is_timeout() && !error.is_worker_lost());
        assert_says(error, &["100ms", &format!("pid {}", error.pid().unwrap())]);
    });
}

#[test]
fn l9_an_argument_that_can_not_be_encoded() {
    row(Fate::ArgumentEncodes(Way::Error), |error| {
        assert_says(error, &["arguments can't be encoded", "words of the user's impl"]);
    });
}

#[test]
fn l9_an_argument_that_can_not_be_decoded() {
    row(Fate::ArgumentDecodes(Way::Error), |error| {
        assert_says(error, &["arguments can't be decoded", "words of the user's impl"]);
    });
}

#[test]
fn l9_a_result_that_can_not_be_encoded() {
    row(Fate::ResultEncodes(Way::Error), |error| {
        assert_says(error, &["result can't be encoded", "words of the user's impl"]);
    });
}

#[test]
fn l9_a_result_that_can_not_be_decoded() {
    row(Fate::ResultDecodes(Way::Error), |error| {
        assert_says(error, &["result can't be decoded", "words of the user's impl"]);
    });
}

#[test]
fn a_panic_while_an_argument_is_decoded() {
    row(Fate::ArgumentDecodes(Way::Panic), |error| {
        assert_eq!(error.panic().unwrap().message(), "a panic in the user's impl");
    });
}

#[test]
fn a_panic_while_a_result_is_encoded() {
    row(Fate::ResultEncodes(Way::Panic), |error| {
        assert_eq!(error.panic().unwrap().message(), "a panic in the user's impl");
    });
}

/// In the parent, the user's impl runs in the caller's thread, and its panic is the caller's.
#[test]
fn a_panic_in_the_parents_serde_impl_reaches_the_caller() {
    alone(|| {
        let scratch = Scratch::new();
        let pool = Pool::builder().processes(2).build().unwrap();
        let item = |fate| Item { index: 0, fate, log: scratch.path("log") };
        for fate in [Fate::ArgumentEncodes(Way::Panic), Fate::ResultDecodes(Way::Panic)] {
            let verbs: [Box<dyn Fn()>; 4] = [
                Box::new(|| drop(pool.apply(work, (item(fate),)))),
                Box::new(|| drop(pool.apply_async(work, (item(fate),)).get())),
                Box::new(|| drop(pool.map(work, [item(Fate::Fine), item(fate)]))),
                Box::new(|| pool.imap(work, [item(Fate::Fine), item(fate)]).for_each(drop)),
            ];
            for verb in verbs {
                let payload = catch_unwind(AssertUnwindSafe(verb)).unwrap_err();
                assert_eq!(payload.downcast_ref::<&str>(), Some(&"a panic in the user's impl"));
            }
            pool.apply(work, (item(Fate::Fine),)).unwrap();
        }
        // A callback decodes on its own thread; `get` panics for itself.
        let call = pool.call(work).on_success(|_: Done| unreachable!());
        let result = call.apply_async((item(Fate::ResultDecodes(Way::Panic)),));
        assert!(catch_unwind(AssertUnwindSafe(|| result.get())).is_err());
        pool.apply(work, (item(Fate::Fine),)).unwrap();
    });
}

#[test]
fn s1_an_interrupt_leaves_the_worker_alone() {
    alone(|| {
        let scratch = Scratch::new();
        let pool = Pool::builder().processes(1).build().unwrap();
        let item = Item { index: 3, fate: Fate::Sigint, log: scratch.path("log") };
        let pid = pool.apply(process::id, ()).unwrap();
        assert_eq!(pool.apply(work, (item,)).unwrap(), Done(3, Fate::Sigint));
        assert_eq!(pool.apply(process::id, ()).unwrap(), pid);
    });
}

#[test]
fn an_error_value_is_a_result_and_may_fail_to_decode() {
    #[task]
    fn refuse(item: Item) -> Result<(), Done> {
        Err(Done(item.index, item.fate))
    }

    alone(|| {
        let scratch = Scratch::new();
        let pool = Pool::builder().processes(1).build().unwrap();
        let item = |fate| Item { index: 3, fate, log: scratch.path("log") };
        assert_eq!(pool.apply(refuse, (item(Fate::Fine),)).unwrap(), Err(Done(3, Fate::Fine)));
        let error = pool.apply(refuse, (item(Fate::ResultDecodes(Way::Error)),)).unwrap_err();
        assert_says(&error, &["result can't be decoded", "words of the user's impl"]);
        let error = pool.apply(refuse, (item(Fate::ResultEncodes(Way::Error)),)).unwrap_err();
        assert_says(&error, &["result can't be encoded", "words of the user's impl"]);
        assert_eq!(pool.apply(refuse, (item(Fate::Fine),)).unwrap(), Err(Done(3, Fate::Fine)));
    });
}

#[test]
fn a_panic_of_an_earlier_task_is_not_the_next_ones_last_word() {
    alone(|| {
        let scratch = Scratch::new();
        let pool = Pool::builder().processes(1).build().unwrap();
        let item = |fate| Item { index: 0, fate, log: scratch.path("log") };
        pool.apply(work, (item(Fate::Panic),)).unwrap_err();
        let error = pool.apply(work, (item(Fate::Abort),)).unwrap_err();
        assert_signal(&error, Signal::SIGABRT);
        assert!(!error.to_string().contains("panics"), "{error}");
    });
}

//! Callables go through all that lies between parent and worker, in one process.

#![expect(
    unsafe_code,
    reason = "the section of the dispatch table, which is this crate's own here"
)]

use std::future::poll_fn;
use std::task::Poll;
use std::thread;

use super::asynchronous::block_on;
use super::bind::bind;
use super::identity::callee_of;
use super::names;
use super::task_fn::TaskFn;
use crate::os::module::Module;
use crate::transport::codec;
use crate::worker::dispatch::{
    Args, Callee, Descriptor, PROCESSION_0_1_MAINS, PROCESSION_0_1_TASKS, RunError, fingerprint,
};

/// Does what the parent does, then what a worker does.
fn remotely<M, F: TaskFn<M>>(callable: F, args: F::Args) -> F::Output {
    let name = callee_of(&callable).encode();
    let (mut bound, mut encoded) = (Vec::new(), Vec::new());
    callable.bound(&mut bound).unwrap();
    codec::encode(&args, &mut encoded).unwrap();

    let descriptor = Callee::decode(&name).unwrap().resolve().unwrap();
    let ready = descriptor.prepare(&bound).unwrap();
    let mut result = vec![7];
    ready.run(Args::Whole(&encoded), false, &mut result).unwrap();
    ready.run(Args::Whole(&encoded), false, &mut Vec::new()).unwrap();

    assert_eq!(result[0], 7, "the result is appended");
    codec::decode(&result[1..]).unwrap()
}

fn descriptor_of<M, F: TaskFn<M>>(callable: F) -> &'static Descriptor {
    callee_of(&callable).resolve().unwrap()
}

#[crate::task(crate = crate)]
fn square(x: u64) -> u64 {
    x * x
}

#[crate::task(crate = crate, name = "later")]
async fn later(x: u64) -> u64 {
    x + 1
}

#[crate::task(crate = crate)]
fn divide(x: u64, y: u64) -> Result<u64, String> {
    x.checked_div(y).ok_or_else(|| format!("{x} / 0"))
}

mod first {
    #[crate::task(crate = crate, name = "ambiguous")]
    fn ambiguous() {}
}

mod second {
    #[crate::task(crate = crate, name = "ambiguous")]
    fn ambiguous() {}
}

fn largest<T: Ord>(values: Vec<T>) -> Option<T> {
    values.into_iter().max()
}

fn text(a: String, b: u8, c: char) -> String {
    format!("{a}{b}{c}")
}

#[test]
fn all_kinds_of_callables_run_in_a_worker() {
    assert_eq!(remotely(square, (3,)), 9);
    assert_eq!(remotely(later, (3,)), 4);
    assert_eq!(remotely(divide, (3, 0)), Err("3 / 0".to_owned()));
    assert_eq!(remotely(largest::<u32>, (vec![1, 3, 2],)), Some(3));
    assert_eq!(remotely(largest::<String>, (vec!["a".to_owned()],)), Some("a".to_owned()));
    assert_eq!(remotely(f64::sqrt, (9.0,)), 3.0);
    assert_eq!(remotely(|x: u8| x + 1, (1,)), 2);
    assert_eq!(remotely(|x: u8| x + 2, (1,)), 3);
    assert_eq!(remotely(async |x: u8| x + 1, (1,)), 2);
}

#[test]
fn all_numbers_of_arguments_work() {
    assert_eq!(remotely(|| 7, ()), 7);
    macro_rules! check {
        ($($arg:ident)*) => {
            let ones = ($({ let $arg = 1_u32; $arg },)*);
            assert_eq!(remotely(|$($arg: u32),*| [$($arg),*].iter().sum::<u32>(), ones), {
                let all: &[u32] = &[$({ let $arg = 1; $arg }),*];
                u32::try_from(all.len()).unwrap()
            });
            assert_eq!(
                remotely(async |$($arg: u32),*| [$($arg),*].iter().sum::<u32>(), ones),
                remotely(bind(|$($arg: u32),*| [$($arg),*].iter().sum::<u32>(), ones), ()),
            );
        };
    }
    check!(a);
    check!(a b);
    check!(a b c);
    check!(a b c d);
    check!(a b c d e);
    check!(a b c d e f);
    check!(a b c d e f g);
    check!(a b c d e f g h);
    check!(a b c d e f g h i);
    check!(a b c d e f g h i j);
    check!(a b c d e f g h i j k);
    check!(a b c d e f g h i j k l);
}

#[test]
fn bound_arguments_come_first() {
    let expected = "x1y";
    let x = || "x".to_owned();
    assert_eq!(remotely(bind(text, ()), (x(), 1, 'y')), expected);
    assert_eq!(remotely(bind(text, (x(),)), (1, 'y')), expected);
    assert_eq!(remotely(bind(text, (x(), 1)), ('y',)), expected);
    assert_eq!(remotely(bind(text, (x(), 1, 'y')), ()), expected);
    assert_eq!(remotely(bind(bind(text, (x(),)), (1,)), ('y',)), expected);
    assert_eq!(remotely(bind(bind(bind(text, (x(),)), (1,)), ('y',)), ()), expected);
    assert_eq!(remotely(bind(later, (1,)), ()), 2);
    assert_eq!(bind(text, (x(),)).run_here((1, 'y')), expected);
}

#[test]
fn bytes_that_are_no_arguments_are_an_error() {
    let square = descriptor_of(square).prepare(&[]).unwrap();
    let mut result = vec![7];
    assert!(matches!(square.run(Args::Whole(&[]), false, &mut result), Err(RunError::Args(_))));
    assert!(matches!(square.run(Args::Whole(&[1, 2]), false, &mut result), Err(RunError::Args(_))));
    assert_eq!(result, [7]);
    assert!(descriptor_of(bind(text, ("x".to_owned(),))).prepare(&[200]).is_err());
}

#[test]
fn a_result_that_cannot_be_encoded_leaves_nothing_behind() {
    #[derive(Debug, serde::Deserialize)]
    struct Refuses;
    impl serde::Serialize for Refuses {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("refused"))
        }
    }
    let ready = descriptor_of(|| (1_u8, Refuses)).prepare(&[]).unwrap();
    let mut result = vec![7];
    assert!(matches!(ready.run(Args::Whole(&[]), false, &mut result), Err(RunError::Result(_))));
    assert_eq!(result, [7]);
}

#[test]
fn a_task_is_named_by_its_index_and_all_else_by_its_place() {
    let callee = callee_of(&square);
    let Callee::Entry(index) = callee else { panic!("{callee:?}") };
    let entry = &PROCESSION_0_1_TASKS[usize::try_from(index).unwrap()];
    assert!(entry.name.ends_with("::tests::square"), "{entry:?}");
    assert_eq!(entry.file, file!());
    assert_eq!(callee.name(), entry.name);
    assert!(matches!(callee_of(&f64::sqrt), Callee::Static { .. }));
    assert!(callee_of(&f64::sqrt).name().ends_with("::sqrt"));
    assert!(matches!(callee_of(&bind(square, (1,))), Callee::Static { .. }));
    assert_ne!(callee_of(&|| 1_u8), callee_of(&|| 1_u8));
    assert_eq!(fingerprint(), fingerprint());
    assert!(PROCESSION_0_1_MAINS.is_empty());
}

#[test]
fn callees_survive_encoding() {
    for callee in [
        Callee::Entry(0),
        Callee::Entry(u32::MAX),
        Callee::Static { offset: u64::MAX, type_hash: 1 },
    ] {
        assert_eq!(Callee::decode(&callee.encode()), Some(callee));
    }
    let mut bytes = Callee::Entry(1).encode();
    bytes[0] = 2;
    assert_eq!(Callee::decode(&bytes), None);
    bytes[0] = 0;
    bytes[8] = 1;
    assert_eq!(Callee::decode(&bytes), None, "an index beyond u32");
}

/// A mutable static: its address is in the module, but not among the constants.
static VARIABLE: std::sync::Mutex<[u64; 8]> = std::sync::Mutex::new([0; 8]);
static WITHOUT_MAGIC: [u64; 16] = [1; 16];

#[test]
fn forged_callees_are_refused() {
    let Callee::Static { offset, type_hash } = callee_of(&f64::sqrt) else { panic!("no offset") };
    let refused = |offset, type_hash| {
        let callee = Callee::Static { offset, type_hash };
        let error = callee.resolve().unwrap_err();
        assert!(callee.name().contains("callable at") || error.contains("another callable"));
        error
    };
    assert!(refused(offset, type_hash ^ 1).contains("another callable"));
    assert!(refused(offset + 1, type_hash).contains("not aligned"));
    for outside in [u64::MAX, u64::MAX - 7, 1 << 46, 1 << 63, offset.wrapping_add(1 << 40)] {
        assert!(refused(outside, type_hash).contains("outside"), "{outside:#x}");
    }
    let module = Module::current();
    let without = module.offset_of(&WITHOUT_MAGIC);
    assert!(refused(without, type_hash).contains("no callable"));
    assert!(refused(module.offset_of(&VARIABLE), type_hash).contains("outside"));
    let table_len = u32::try_from(PROCESSION_0_1_TASKS.len()).unwrap();
    assert!(Callee::Entry(table_len).resolve().unwrap_err().contains("table"));
    assert_eq!(Callee::Entry(table_len).name(), format!("task {table_len}"));
}

/// Every aligned place in reach is either refused or is a real descriptor.
#[test]
fn no_offset_crashes_a_worker() {
    let Callee::Static { offset, type_hash } = callee_of(&f64::sqrt) else { panic!("no offset") };
    let near = offset.saturating_sub(1 << 16)..offset + (1 << 16);
    let found = near.filter(|&offset| Callee::Static { offset, type_hash }.resolve().is_ok());
    assert!(found.count() >= 1);
}

#[test]
fn the_module_is_this_executable() {
    let module = Module::current();
    assert!(module.is_executable());
    assert!(module.build_id().is_none_or(|id| id.len() >= 8));
}

#[test]
fn tasks_are_found_by_name() {
    let found = names::find("later").unwrap();
    assert_eq!(found.callee, callee_of(&later));
    assert_eq!(found.entry.signature, "async fn(u64) -> u64");

    let error = names::find("latter").unwrap_err().to_string();
    assert!(error.contains("did you mean `later`?"), "{error}");
    assert!(error.contains("use that_crate as _;"), "{error}");

    let error = names::find("square").unwrap_err().to_string();
    assert!(error.contains(concat!("did you mean `", module_path!(), "::square`?")), "{error}");

    let error = names::find("something else entirely").unwrap_err().to_string();
    assert!(!error.contains("did you mean"), "{error}");

    let error = names::find("ambiguous").unwrap_err().to_string();
    assert_eq!(error.matches(file!()).count(), 2, "{error}");
}

#[test]
fn tasks_are_listed_by_name() {
    let tasks = names::tasks();
    assert!(tasks.is_sorted_by_key(|task| task.name()));
    let task = tasks.iter().find(|task| task.name().ends_with("::divide")).unwrap();
    assert_eq!(task.signature(), "fn(u64, u64) -> Result<u64, String>");
    assert_eq!(task.file(), file!());
    assert_eq!(task.column(), 4);
}

#[test]
fn a_future_is_woken_from_another_thread() {
    let mut helper = None;
    let future = poll_fn(move |context| match helper.take() {
        None => {
            let waker = context.waker().clone();
            helper = Some(thread::spawn(move || waker.wake()));
            Poll::Pending
        }
        Some(running) => {
            running.join().unwrap();
            Poll::Ready(5)
        }
    });
    assert_eq!(block_on(future), 5);
}

#[test]
fn a_future_that_wakes_itself_makes_progress() {
    let mut left = 1000;
    let future = poll_fn(move |context| {
        left -= 1;
        context.waker().wake_by_ref();
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    });
    block_on(future);
}

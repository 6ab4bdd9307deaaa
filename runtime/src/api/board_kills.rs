//! A worker dies at each point of its way through a board: what had begun there is lost, or runs once more
//! where the call says so, and nothing else is lost, or runs twice.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::os::unix::process::parent_id;
use std::process;

use crate::api::pool::Pool;
use crate::callable::task_fn::TaskFn;
use crate::error::Error;
use crate::worker::identity;
use crate::worker::kill_points::{Point, name_of};

const ITEMS: u64 = 300;

/// So many maps in a row, until the worker has got as far as to die.
const MAPS: usize = 200;

const POINTS: [Point; 11] = [
    Point::Claiming,
    Point::Claimed,
    Point::InHand,
    Point::Begun,
    Point::Called,
    Point::Written,
    Point::Counted,
    Point::Sealed,
    Point::Published,
    Point::Resting,
    Point::Left,
];

/// How many items are in the middle there.
fn begun_at(point: Point, seals_amid_items: bool) -> RangeInclusive<usize> {
    match point {
        Point::Begun | Point::Called | Point::Written => 1..=1,
        Point::Sealed | Point::Published if seals_amid_items => 0..=1,
        _ => 0..=0,
    }
}

/// Where the workers of a pool write which items they run.
fn log_of(parent: u32, pool: &str) -> String {
    let directory = std::env::temp_dir();
    format!("{}/procession-board-{parent}-{pool}", directory.display())
}

/// An item runs: each does so in a single write, so that it is there although the worker dies.
fn log(item: u64) {
    let (pool, _) = identity::name().rsplit_once(':').unwrap();
    let mut file = OpenOptions::new().append(true).open(log_of(parent_id(), pool)).unwrap();
    file.write_all(&item.to_le_bytes()).unwrap();
}

fn tiny(x: u64) -> u64 {
    log(x);
    x * x + 1
}

fn nothing(x: u64) {
    log(x);
}

fn text(x: String) -> String {
    log(x.parse().unwrap());
    format!("<{x}>")
}

fn panics_at_times(x: u64) -> u64 {
    log(x);
    assert!(!x.is_multiple_of(10), "{x} is a multiple of ten");
    x * x + 1
}

/// One kind of work, and what comes of it.
struct Case<F, A, R> {
    name: &'static str,
    f: F,
    input: fn(u64) -> A,
    /// None: the item panics.
    expected: fn(u64) -> Option<R>,
    /// An item that has run may have to make room for what comes of it.
    seals_amid_items: bool,
}

struct Fatality {
    point: Point,
    number: u64,
    chunk: Option<usize>,
    retries: u32,
}

impl Fatality {
    /// Maps until the first worker has died, and checks everything each time.
    fn happens<M, F, A, R>(&self, case: &Case<F, A, R>)
    where
        F: TaskFn<M, Args = (A,), Output = R> + Copy,
        R: PartialEq + std::fmt::Debug + 'static,
    {
        let Self { point, number, chunk, retries } = *self;
        let what = format!("{} {point:?} {number} {chunk:?} {retries}", case.name);
        let name = format!("{}-{}-{chunk:?}-{retries}", name_of(point, number), case.name);
        let path = log_of(process::id(), &name);
        let pool = Pool::builder().processes(2).name(&name).build().unwrap();
        let first = pool.worker_pids();
        let victim = || {
            let now = pool.worker_pids();
            first.iter().copied().find(|pid| !now.contains(pid))
        };
        for _ in 0..MAPS {
            fs::write(&path, "").unwrap();
            let mut call = pool.call(case.f).retries(retries);
            if let Some(chunk) = chunk {
                call = call.chunksize(chunk);
            }
            let results = call.try_map((0..ITEMS).map(case.input));
            let lost = check(&what, case, &results);
            let mut runs = vec![0; ITEMS as usize];
            for item in fs::read(&path).unwrap().chunks_exact(8) {
                runs[u64::from_le_bytes(item.try_into().unwrap()) as usize] += 1;
            }
            let twice = runs.iter().filter(|runs| **runs > 1).count();
            let never = runs.iter().filter(|runs| **runs == 0).count();
            let odd: Vec<_> = runs.iter().enumerate().filter(|(_, runs)| **runs != 1).collect();
            let lost_items: Vec<_> = lost.iter().map(|(i, _)| *i).collect();
            let what = format!("{what}: items and runs {odd:?}, lost {lost_items:?}");
            assert!(runs.iter().all(|runs| *runs <= 2), "{what}");
            let victim = victim();
            let is_dead = victim.is_some();
            let due = if is_dead { begun_at(point, case.seals_amid_items) } else { 0..=0 };
            if retries == 0 {
                assert_eq!(twice, 0, "{what}");
                assert!(due.contains(&lost.len()), "{what}: {} lost, dead: {is_dead}", lost.len());
                assert!(never <= lost.len() && (never == 0 || point == Point::Begun), "{what}");
            } else {
                assert!(lost.is_empty() && never == 0 && twice <= *due.end(), "{what}");
            }
            for (index, pid) in lost {
                assert_eq!(pid, victim, "{what}: item {index}");
            }
            if is_dead {
                break;
            }
        }
        fs::remove_file(&path).unwrap();
        assert!(victim().is_some(), "{what}: it never died");
    }
}

/// All that isn't lost is right. Gives out what is lost.
fn check<F, A, R: PartialEq + std::fmt::Debug>(
    what: &str,
    case: &Case<F, A, R>,
    results: &[Result<R, Error>],
) -> Vec<(usize, Option<u32>)> {
    assert_eq!(results.len() as u64, ITEMS);
    let mut lost = Vec::new();
    for (index, result) in results.iter().enumerate() {
        match (result, (case.expected)(index as u64)) {
            (Ok(found), Some(expected)) => assert_eq!(*found, expected, "{what}: item {index}"),
            (Err(error), None) if error.panic().is_some() => {
                assert_eq!(error.index(), Some(index), "{what}");
            }
            (Err(error), _) if error.is_worker_lost() => {
                assert_eq!(error.index(), Some(index), "{what}");
                lost.push((index, error.pid()));
            }
            (found, _) => panic!("{what}: item {index} gives {found:?}"),
        }
    }
    lost
}

/// At all points, for all chunks.
fn everywhere<M, F, A, R>(case: &Case<F, A, R>)
where
    F: TaskFn<M, Args = (A,), Output = R> + Copy,
    R: PartialEq + std::fmt::Debug + 'static,
{
    for point in POINTS {
        for number in [1, 2, 50] {
            for chunk in [Some(1), Some(7), None] {
                // One of many passes, or one in each map.
                let is_rare = matches!(point, Point::Left | Point::Published | Point::Sealed);
                if number < 50 || !is_rare {
                    for retries in [0, 1] {
                        Fatality { point, number, chunk, retries }.happens(case);
                    }
                }
            }
        }
    }
}

#[test]
fn of_tiny_items() {
    everywhere(&Case {
        name: "tiny",
        f: tiny,
        input: |x| x,
        expected: |x| Some(x * x + 1),
        seals_amid_items: false,
    });
}

#[test]
fn of_items_without_a_result() {
    everywhere(&Case {
        name: "nothing",
        f: nothing,
        input: |x| x,
        expected: |_| Some(()),
        seals_amid_items: false,
    });
}

#[test]
fn of_items_of_any_size() {
    everywhere(&Case {
        name: "text",
        f: text,
        input: |x| x.to_string(),
        expected: |x| Some(format!("<{x}>")),
        seals_amid_items: true,
    });
}

#[test]
fn of_items_that_panic_at_times() {
    everywhere(&Case {
        name: "panics",
        f: panics_at_times,
        input: |x| x,
        expected: |x| (!x.is_multiple_of(10)).then_some(x * x + 1),
        seals_amid_items: true,
    });
}

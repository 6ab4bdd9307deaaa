//! What all tests share: a watchdog, waiting on conditions, and a check that nothing is left behind.

mod dispositions;
pub mod fixtures;
pub mod forge;
pub mod gate;
pub mod kills;
pub mod no_memory;
pub mod program;
pub mod relay;
pub mod scenarios;
pub mod scratch;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::process::parent_id;
use std::path::Path;
use std::pin::pin;
use std::process;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use procession::{Process, ProcessBuilder, StartMethod};

/// Far above what any test takes: it is there to turn a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(100);

/// Runs a test alone in its process, under a watchdog, and checks afterwards that it has left no
/// child, descriptor, mapping or shared object behind.
///
/// Tests of one binary that look at the children and descriptors of their process can't overlap.
pub fn alone<R>(test: impl FnOnce() -> R) -> R {
    alone_after(|process| process, test)
}

/// As [`alone`], in a process that has a fork server for its single processes, which stays.
pub fn alone_with_server<R>(test: impl FnOnce() -> R) -> R {
    alone_after(|process| process.start_method(StartMethod::ForkServer), test)
}

fn alone_after<R>(
    warm: impl Fn(ProcessBuilder<()>) -> ProcessBuilder<()>,
    test: impl FnOnce() -> R,
) -> R {
    let _alone = serial();
    let _watchdog = Watchdog::start();
    dispositions::set_to_defaults();
    // What the first use of the crate makes and keeps: the supervisor and its descriptors.
    warm_up(&warm);
    wait_for_spares();
    // The second one gets to know the spares that were made for the first.
    warm_up(&warm);
    wait_for_spares();
    let before = Belongings::settled();
    let result = test();
    before.assert_no_more();
    result
}

fn serial() -> MutexGuard<'static, ()> {
    static SERIAL: Mutex<()> = Mutex::new(());
    SERIAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server of single processes, if there is one, keeps two of them ready.
fn wait_for_spares() {
    wait_until("there are spares", || matches!(children_of(process::id()).len(), 0 | 3..));
}

fn warm_up(warm: impl Fn(ProcessBuilder<()>) -> ProcessBuilder<()>) {
    #[procession::task]
    fn nothing() {}

    warm(Process::new(nothing, ()))
        .start()
        .expect("a process starts")
        .join()
        .expect("an empty task works");
}

/// Ends the whole process, with a message, when it isn't dropped in time.
struct Watchdog(Option<std::sync::mpsc::Sender<()>>);

impl Watchdog {
    fn start() -> Self {
        let (sender, receiver) = channel::<()>();
        let name = thread::current().name().unwrap_or("a test").to_owned();
        thread::spawn(move || {
            if receiver.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{name} hangs: it took longer than {PATIENCE:?}");
                process::abort();
            }
        });
        Self(Some(sender))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.take();
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// It doesn't within a time that is ample on the slowest machine.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE / 2, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Polls a future on this thread until it is ready: the smallest executor.
pub fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

/// What the link of a process's descriptor begins with.
const PIDFD: &str = "anon_inode";

/// What a process has that may leak.
#[derive(Debug, PartialEq, Eq)]
struct Belongings {
    children: Vec<i32>,
    fds: BTreeMap<String, usize>,
    /// Those of the descriptors that stand for a child which is there.
    of_children: usize,
    shared_mappings: usize,
    shared_objects: usize,
}

impl Belongings {
    fn now() -> Self {
        let children = children_of(process::id());
        let mut fds = BTreeMap::new();
        let mut of_children = 0;
        for entry in fs::read_dir("/proc/self/fd").expect("proc is mounted").flatten() {
            let target = fs::read_link(entry.path()).map(|path| path.display().to_string());
            // Sockets and pipes by kind, without their numbers; the directory that is being read isn't there.
            if let Ok(target) = target {
                let kind = target.split(':').next().unwrap_or_default().to_owned();
                if !kind.starts_with("/proc/") {
                    *fds.entry(kind).or_default() += 1;
                }
                let child = process_of(&entry.file_name());
                of_children += usize::from(child.is_some_and(|it| children.contains(&it)));
            }
        }
        let maps = fs::read_to_string("/proc/self/maps").expect("proc is mounted");
        // Windows on the shared heap are kept for later objects, a bounded number of them: see
        // `KEPT_WINDOWS`. The objects in it are counted by themselves.
        let is_counted =
            |line: &&str| line.contains("memfd:") && !line.contains("memfd:procession-heap");
        let shared_mappings = maps.lines().filter(is_counted).count();
        let shared_objects = heap_objects();
        Self { children, fds, of_children, shared_mappings, shared_objects }
    }

    /// What is there once the last process's remains have been cleared away in the background.
    fn settled() -> Self {
        loop {
            let first = Self::now();
            thread::sleep(Duration::from_millis(5));
            if first == Self::now() {
                return first;
            }
        }
    }

    fn is_more_than(&self, other: &Self) -> bool {
        // Of which of a server's spares this process knows is chance, and whether the server is there:
        // the descriptors of children leak only if they outlive these, or come on top of all.
        let more = |(kind, count): (&String, &usize)| {
            let before = other.fds.get(kind).copied().unwrap_or(0);
            let are_childrens = kind == PIDFD
                && count - self.of_children <= before.saturating_sub(other.of_children);
            *count > before && !are_childrens
        };
        self.children.len() > other.children.len()
            || self.fds.iter().any(more)
            || self.shared_mappings > other.shared_mappings
            || self.shared_objects > other.shared_objects
    }

    /// Threads that end, and processes that are reaped in the background, may take a moment.
    #[track_caller]
    fn assert_no_more(&self) {
        let start = Instant::now();
        while Self::now().is_more_than(self) {
            if start.elapsed() > Duration::from_secs(10) {
                assert_eq!(*self, Self::now(), "the test has left something behind");
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// The process that one of this process's descriptors stands for, if it is there still.
fn process_of(fd: &OsStr) -> Option<i32> {
    let info = fs::read_to_string(Path::new("/proc/self/fdinfo").join(fd)).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}

/// How much memory the family's shared heap takes, in bytes. Free objects keep some of it.
///
/// # Panics
/// This process has no part in it yet.
pub fn heap_memory() -> u64 {
    heap().metadata().expect("it is open").blocks() * 512
}

/// How many objects there are in the family's shared heap: handles, buffers, parcels, whoever holds them.
/// It reads them as `shm/heap/layout.rs` lays them out.
///
/// # Panics
/// This process has no part in it yet.
pub fn heap_objects() -> usize {
    const ENTRIES_AT: u64 = 1 << 20;
    const ENTRY: usize = 512;
    let heap = heap();
    let mut count = 0;
    let mut entries = vec![0; 128 * ENTRY];
    for step in 0.. {
        let at = ENTRIES_AT + step * entries.len() as u64;
        heap.read_exact_at(&mut entries, at).expect("the heap is longer");
        // The state stands first: the phase, which is 0 for a free entry, below the generation.
        let states = entries.chunks_exact(ENTRY).map(|entry| (entry[0], &entry[1..8]));
        if states.clone().all(|(phase, generation)| phase == 0 && generation == [0; 7]) {
            break;
        }
        count += states.filter(|(phase, _)| *phase != 0).count();
    }
    count
}

fn heap() -> File {
    for entry in fs::read_dir("/proc/self/fd").expect("proc is mounted").flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        if target.to_string_lossy().contains("memfd:procession-heap") {
            return File::open(entry.path()).expect("a heap can be read");
        }
    }
    panic!("the heap is made when the first process starts");
}

/// The process ids of all children of a process, zombies too.
pub fn children_of(parent: u32) -> Vec<i32> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc").expect("proc is mounted").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if stat(pid).is_some_and(|(_, its_parent)| its_parent == parent) {
            children.push(pid);
        }
    }
    children
}

/// Whether a process exists and is no zombie.
pub fn is_running(pid: u32) -> bool {
    i32::try_from(pid).ok().and_then(stat).is_some_and(|(state, _)| state != 'Z')
}

/// State and parent of a process.
fn stat(pid: i32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, also brackets.
    let mut fields = text[text.rfind(')')? + 2..].split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The process that started this one.
pub fn parent() -> u32 {
    parent_id()
}

/// The programs in the README compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

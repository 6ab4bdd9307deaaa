//! A world for the state machines in which every interleaving is tried, and processes die at any step.
//!
//! [`Model`] is a [`Platform`] on loom. A test calls [`explore`], which runs it once for every schedule
//! (with at most [`PREEMPTIONS`] switches that nobody asked for), and for every value that the memory
//! model allows a load to return. *Processes* are loom's threads: [`process`] starts one, [`be`] makes
//! the present thread one. Several threads may be the same immortal process.
//!
//! A [`mortal`] process has a number of steps to live: each operation that may change memory, wake
//! somebody, or sleep takes one, and the operation after the last isn't done. There the process unwinds,
//! and what its destructors still do to shared words has no effect. From then on
//! [`is_alive`](Platform::is_alive) says so, and whoever sleeps wakes up, as after a nap.
//! [`explore_deaths`] explores a test for every number of steps, until it lives to its end.
//!
//! What the model leaves out:
//! - A load takes no step. To die before it is to die before the next change: the memory looks the same.
//! - As long as nobody has died, naps don't end. So a wake that is missing is a deadlock, and loom reports
//!   it. Once somebody has died naps are short, and a wake that is missing goes unseen.
//! - A sleep with a time-out below [`Platform::PATIENCE`] ends at once when it wasn't woken before, and
//!   the clock moves on by so much. Time passes in no other way.
//! - There is no spinning, and a sleep isn't interrupted for no reason.
//! - A store is a swap, as loom would let a read-modify-write overlook a concurrent store. So a Relaxed
//!   store doesn't end a release sequence.
//! - loom treats SeqCst operations as AcqRel. Its SeqCst fences are right, and it is they that count.
//! - loom has at most five threads, and remembers the last seven values of a word.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering::{self, Acquire, Relaxed, Release};
use std::time::Duration;

use loom::sync::atomic::{AtomicU32, AtomicU64};
use loom::thread::{self, JoinHandle, Thread};

use super::platform::{Owner, Platform, Word};

/// Most bugs need one or two; each one more multiplies the time. Models of many steps make do with one, so
/// that each is explored within a few seconds.
const PREEMPTIONS: usize = 2;

/// More scheduling points than any of our tests has in one run: who comes here goes round in circles.
const MOST_BRANCHES: usize = 5_000;

/// Runs `test` in all interleavings.
pub(crate) fn explore(test: impl Fn() + Send + Sync + 'static) {
    explore_with(PREEMPTIONS, test);
}

/// As [`explore`], with as many preemptions.
pub(crate) fn explore_with(preemptions: usize, test: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = MOST_BRANCHES;
    builder.check(move || {
        WORLD.set(Some(Rc::new(World::default())));
        test();
    });
}

/// Explores `test` with 0, 1, 2, … steps to live for its [`mortal`] process, until it doesn't die any more.
pub(crate) fn explore_deaths(test: impl Fn(u32) + Clone + Send + Sync + 'static) {
    explore_deaths_with(PREEMPTIONS, test);
}

/// As [`explore_deaths`], with as many preemptions.
pub(crate) fn explore_deaths_with(
    preemptions: usize,
    test: impl Fn(u32) + Clone + Send + Sync + 'static,
) {
    let mut steps = 0;
    loop {
        let test = test.clone();
        SOMEBODY_DIED.set(false);
        explore_with(preemptions, move || test(steps));
        if !SOMEBODY_DIED.get() {
            return;
        }
        steps += 1;
    }
}

/// Starts a process. `number` is its [`Owner`], from 1.
pub(crate) fn process<R: 'static>(number: u32, body: impl FnOnce() -> R + 'static) -> Process<R> {
    Process(thread::spawn(move || Some(be(number, body))))
}

/// Starts a process that dies after so many steps.
pub(crate) fn mortal<R: 'static>(
    number: u32,
    steps: u32,
    body: impl FnOnce() -> R + 'static,
) -> Process<R> {
    Process(thread::spawn(move || {
        let life = AssertUnwindSafe(|| live(Identity::new(number, Some(steps)), body));
        match catch_unwind(life) {
            Ok(value) => Some(value),
            Err(payload) if payload.is::<Died>() => None,
            Err(payload) => resume_unwind(payload),
        }
    }))
}

/// Lets the present thread be a process while `body` runs.
pub(crate) fn be<R>(number: u32, body: impl FnOnce() -> R) -> R {
    live(Identity::new(number, None), body)
}

/// A process that was started.
pub(crate) struct Process<R>(JoinHandle<Option<R>>);

impl<R> Process<R> {
    /// What its body returned; none if it has died.
    pub(crate) fn join(self) -> Option<R> {
        self.0.join().expect("a panic ends the whole exploration")
    }
}

/// The [`Platform`] of all this.
#[derive(Debug)]
pub(crate) struct Model;

impl Platform for Model {
    type U32 = Word32;
    type U64 = Word64;

    const PATIENCE: Duration = Duration::from_secs(3600);

    fn fence() {
        if may_act() {
            loom::sync::atomic::fence(Ordering::SeqCst);
        }
    }

    fn me() -> Owner {
        let number = IDENTITY.with(|identity| identity.borrow().number);
        Owner::in_word(number).expect("this runs in a process, and they are numbered from 1")
    }

    fn is_alive(owner: Owner) -> bool {
        let world = World::current();
        // The latest: loom could show a sleeper the old number for ever.
        let deaths = world.deaths.fetch_add(0, Acquire) as usize;
        !world.dead.borrow()[..deaths].contains(&owner.bits())
    }

    fn wait(word: &Word32, expected: u32, timeout: Option<Duration>) {
        if !step() {
            return;
        }
        // An operation that changes nothing sees the latest value, and orders itself with `wake`. There is
        // no scheduling point between it and going to sleep: a futex promises the same.
        if word.0.fetch_or(0, Relaxed) != expected {
            return;
        }
        let world = World::current();
        match timeout.filter(|timeout| *timeout < Self::PATIENCE) {
            Some(timeout) => {
                let woken = world.lie_down(word);
                word.0.fetch_or(0, Relaxed);
                if !woken.get() {
                    world.get_up(&woken);
                    world.clock.fetch_add(timeout.as_nanos() as u64, Relaxed);
                }
            }
            None if !world.dead.borrow().is_empty() => thread::yield_now(),
            None => {
                let woken = world.lie_down(word);
                while !woken.get() {
                    thread::park();
                }
            }
        }
    }

    fn wake(word: &Word32, count: u32) -> u32 {
        if !step() {
            return 0;
        }
        word.0.fetch_or(0, Relaxed);
        World::current().rouse(count, |sleeper| sleeper.word == std::ptr::from_ref(word))
    }

    fn spin(_: u32) -> bool {
        false
    }

    fn cpu() -> u32 {
        // Nobody else's.
        Self::me().bits()
    }

    fn now() -> Duration {
        Duration::from_nanos(World::current().clock.load(Acquire))
    }
}

/// What processes share beside the words of the test.
#[derive(Default)]
struct World {
    sleepers: RefCell<VecDeque<Sleeper>>,
    /// In the order of their deaths.
    dead: RefCell<Vec<u32>>,
    /// How many of them may be seen. It is loom's, so that loom knows who depends on it.
    deaths: AtomicU32,
    /// In nanoseconds.
    clock: AtomicU64,
}

struct Sleeper {
    word: *const Word32,
    thread: Thread,
    woken: Rc<Cell<bool>>,
}

impl World {
    fn current() -> Rc<Self> {
        WORLD.with_borrow(|world| Rc::clone(world.as_ref().expect("a model runs in `explore`")))
    }

    fn lie_down(&self, word: &Word32) -> Rc<Cell<bool>> {
        let woken = Rc::new(Cell::new(false));
        let sleeper = Sleeper { word, thread: thread::current(), woken: Rc::clone(&woken) };
        self.sleepers.borrow_mut().push_back(sleeper);
        woken
    }

    fn get_up(&self, woken: &Rc<Cell<bool>>) {
        self.sleepers.borrow_mut().retain(|sleeper| !Rc::ptr_eq(&sleeper.woken, woken));
    }

    /// Wakes those who are meant, in the order in which they lay down.
    fn rouse(&self, count: u32, is_meant: impl Fn(&Sleeper) -> bool) -> u32 {
        let mut roused = 0;
        self.sleepers.borrow_mut().retain(|sleeper| {
            let wakes = roused < count && is_meant(sleeper);
            if wakes {
                roused += 1;
                sleeper.woken.set(true);
                sleeper.thread.unpark();
            }
            !wakes
        });
        roused
    }
}

/// The payload with which a dying process unwinds.
struct Died;

struct Identity {
    /// 0: no process.
    number: u32,
    /// How many are left; none: it lives for ever.
    steps: Option<u32>,
    is_dead: bool,
}

impl Identity {
    fn new(number: u32, steps: Option<u32>) -> Self {
        Self { number, steps, is_dead: false }
    }
}

// loom runs all threads of an exploration on one thread of the system, one after another.
std::thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
    static SOMEBODY_DIED: Cell<bool> = const { Cell::new(false) };
}

loom::thread_local! {
    static IDENTITY: RefCell<Identity> = RefCell::new(Identity::new(0, None));
}

fn live<R>(identity: Identity, body: impl FnOnce() -> R) -> R {
    let before = IDENTITY.with(|mine| mine.replace(identity));
    let value = body();
    IDENTITY.with(|mine| mine.replace(before));
    value
}

/// Whether the present process can still do anything: it isn't dead.
fn may_act() -> bool {
    IDENTITY.with(|identity| !identity.borrow().is_dead)
}

/// One step in the life of the present process. False: it is dead, and only its destructors run.
fn step() -> bool {
    let dies = IDENTITY.with(|identity| {
        let identity = &mut *identity.borrow_mut();
        match &mut identity.steps {
            Some(0) if !identity.is_dead => {
                identity.is_dead = true;
                true
            }
            Some(left) => {
                *left = left.saturating_sub(1);
                false
            }
            None => false,
        }
    });
    if dies {
        let world = World::current();
        world.dead.borrow_mut().push(Model::me().bits());
        world.deaths.fetch_add(1, Release);
        world.rouse(u32::MAX, |_| true);
        SOMEBODY_DIED.set(true);
        let payload: Box<dyn Any + Send> = Box::new(Died);
        resume_unwind(payload);
    }
    may_act()
}

impl Word32 {
    /// For tests, which count what happens.
    pub(crate) fn add(&self, value: u32) {
        if step() {
            self.0.fetch_add(value, Relaxed);
        }
    }
}

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $atomic:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $name($atomic);

        impl Word<$int> for $name {
            fn load(&self, ordering: Ordering) -> $int {
                if may_act() { self.0.load(ordering) } else { 0 }
            }

            fn store(&self, value: $int, ordering: Ordering) {
                if step() {
                    // loom doesn't decide the order of a store and a concurrent read-modify-write.
                    self.0.swap(value, ordering);
                }
            }

            fn swap(&self, value: $int, ordering: Ordering) -> $int {
                if step() { self.0.swap(value, ordering) } else { 0 }
            }

            fn compare_exchange(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                if step() {
                    self.0.compare_exchange(current, new, success, failure)
                } else {
                    Ok(current)
                }
            }

            fn fetch_or(&self, value: $int, ordering: Ordering) -> $int {
                if step() { self.0.fetch_or(value, ordering) } else { 0 }
            }

            fn fetch_and(&self, value: $int, ordering: Ordering) -> $int {
                if step() { self.0.fetch_and(value, ordering) } else { 0 }
            }
        }
    };
}

word!(
    /// A word of 32 bits, to sleep on as well.
    Word32,
    AtomicU32,
    u32
);
word!(
    /// A word of 64 bits.
    Word64,
    AtomicU64,
    u64
);

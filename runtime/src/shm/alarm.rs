//! Who sleeps, and who wakes whom, between a parent and one worker.
//!
//! A worker sleeps on a word in the page. The parent waits on descriptors, as it has many workers to
//! watch; there the worker *kicks*: it sends a byte. Both are system calls, and only the sleeper's flag
//! says whether they are needed:
//!
//! ```text
//! sleeper:  set the flag; fence; look again; sleep
//! waker:    publish; fence; read the flag; take it back; wake
//! ```
//!
//! With the two SeqCst fences either the waker sees the flag, or the sleeper sees what was published. With
//! less, a wake is lost.
//!
//! | word   | written by the worker   | by the parent           |
//! |--------|-------------------------|-------------------------|
//! | worker | for what it sleeps, or 0 | 0, when it wakes it    |
//! | parent | 0, when it kicks        | 1 before it sleeps, 0 afterwards |
//! | room   | 0, when it kicks        | 1 when its output doesn't fit |
//! | closed | never                   | 1 when it lets the worker go |
//!
//! A flag that the worker forges costs the parent a kick that it misses or one too many: it misses no
//! more than the worker's own results.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

use super::platform::{Platform, Word};

/// What a worker sleeps for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Lack {
    /// Something to read.
    Input = 1,
    /// Room to write.
    Room = 2,
}

const AWAKE: u32 = 0;

/// The shared words. All zeros: everybody is awake. The worker's flag, which the parent reads with every
/// message, has cache lines of its own.
#[repr(C, align(128))]
pub(crate) struct Alarm<P: Platform> {
    worker: P::U32,
    apart: Apart<P>,
}

#[repr(C, align(128))]
struct Apart<P: Platform> {
    parent: P::U32,
    room: P::U32,
    closed: P::U32,
}

impl<P: Platform> Alarm<P> {
    /// For models and tests, which don't have zeroed memory.
    #[cfg(test)]
    pub(crate) fn new(word: impl Fn() -> P::U32) -> Self {
        Self { worker: word(), apart: Apart { parent: word(), room: word(), closed: word() } }
    }

    /// The worker sleeps, unless `is_over`, until the parent wakes it or the time has passed. It may return
    /// for no reason.
    pub(crate) fn sleep(
        &self,
        lack: Lack,
        limit: Option<Duration>,
        is_over: impl FnOnce() -> bool,
    ) {
        self.worker.store(lack as u32, Relaxed);
        P::fence();
        if !is_over() && !self.is_closed() {
            P::wait(&self.worker, lack as u32, limit);
        }
        self.worker.store(AWAKE, Relaxed);
    }

    /// The parent has published something, or has made room: wakes a worker that lacks that.
    #[inline]
    pub(crate) fn wake(&self, lack: Lack) {
        P::fence();
        if self.worker.load(Relaxed) == lack as u32 {
            self.wake_now();
        }
    }

    #[cold]
    fn wake_now(&self) {
        self.worker.store(AWAKE, Relaxed);
        P::wake(&self.worker, 1);
    }

    /// The parent is about to sleep: it looks once more after this, and after the [`fence`](Platform::fence)
    /// that follows when all its workers' flags are set.
    pub(crate) fn arm(&self) {
        self.apart.parent.store(1, Relaxed);
    }

    /// The parent is awake. True: a kick has come or will come.
    pub(crate) fn disarm(&self) -> bool {
        !take(&self.apart.parent)
    }

    /// The worker has published something that the parent is to see. True: the worker must kick.
    #[inline]
    pub(crate) fn must_kick(&self) -> bool {
        P::fence();
        take(&self.apart.parent)
    }

    /// The parent asks for a kick when there is room, and has to look once more itself.
    pub(crate) fn ask_for_room(&self) {
        self.apart.room.store(1, Relaxed);
        P::fence();
    }

    /// The worker has made room. True: the worker must kick.
    #[inline]
    pub(crate) fn must_tell_of_room(&self) -> bool {
        P::fence();
        take(&self.apart.room)
    }

    /// The parent publishes nothing more, and takes nothing more.
    pub(crate) fn close(&self) {
        self.apart.closed.store(1, Release);
        P::fence();
        self.wake_now();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.apart.closed.load(Acquire) != 0
    }
}

/// Takes a flag back. True: it was set, and nobody else takes it. Mostly it isn't set, which is seen without a
/// write.
#[inline]
fn take(flag: &impl Word<u32>) -> bool {
    flag.load(Relaxed) != 0 && flag.swap(0, Relaxed) != 0
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::shm::model::{self, Model, Word32, be, explore, explore_deaths, mortal};

    /// A message each way, and the socket: how many bytes are in it.
    struct World {
        alarm: Alarm<Model>,
        input: Word32,
        output: Word32,
        socket: Word32,
    }

    fn world() -> Rc<World> {
        Rc::new(World {
            alarm: Alarm::new(Word32::default),
            input: Word32::default(),
            output: Word32::default(),
            socket: Word32::default(),
        })
    }

    impl World {
        fn has_input(&self) -> bool {
            self.input.load(Acquire) != 0
        }

        fn has_output(&self) -> bool {
            self.output.load(Acquire) != 0
        }

        fn kick(&self) {
            // The system orders what was written before a send with what is read after a receipt.
            self.socket.fetch_or(1, Release);
            Model::wake(&self.socket, 1);
        }

        fn work(&self) {
            while !self.has_input() && !self.alarm.is_closed() {
                self.alarm.sleep(Lack::Input, None, || self.has_input());
            }
            self.output.store(1, Release);
            if self.alarm.must_kick() {
                self.kick();
            }
        }

        /// As the parent's wait on descriptors: it ends when there is a byte.
        fn lead(&self) {
            self.alarm.arm();
            Model::fence();
            while !self.has_output() {
                Model::wait(&self.socket, 0, None);
                if self.socket.load(Acquire) != 0 {
                    break;
                }
            }
        }
    }

    #[test]
    fn no_wake_is_lost() {
        explore(|| {
            let world = world();
            let worker = {
                let world = Rc::clone(&world);
                model::process(2, move || world.work())
            };
            be(1, || {
                world.input.store(1, Release);
                world.alarm.wake(Lack::Input);
                world.lead();
                // A kick comes only after the output.
                assert!(world.has_output());
                let is_kicked = world.alarm.disarm();
                worker.join();
                assert_eq!(world.socket.load(Acquire), u32::from(is_kicked));
            });
        });
    }

    #[test]
    fn closing_ends_a_sleep() {
        explore(|| {
            let world = world();
            let worker = {
                let world = Rc::clone(&world);
                model::process(2, move || world.work())
            };
            be(1, || world.alarm.close());
            worker.join();
        });
    }

    #[test]
    fn room_is_told_of_when_it_was_asked_for() {
        explore(|| {
            let world = world();
            let worker = {
                let world = Rc::clone(&world);
                model::process(2, move || {
                    // The room.
                    world.output.store(1, Release);
                    if world.alarm.must_tell_of_room() {
                        world.kick();
                    }
                })
            };
            be(1, || {
                world.alarm.ask_for_room();
                while !world.has_output() && world.socket.load(Acquire) == 0 {
                    Model::wait(&world.socket, 0, None);
                }
                assert!(world.has_output());
            });
            worker.join();
        });
    }

    /// Whoever dies between taking the flag and kicking has published before: nothing but the kick is lost,
    /// and its death wakes the parent.
    #[test]
    fn a_worker_that_dies_before_its_kick_has_published() {
        explore_deaths(|steps| {
            let world = world();
            let worker = {
                let world = Rc::clone(&world);
                mortal(2, steps, move || world.work())
            };
            be(1, || {
                world.input.store(1, Release);
                world.alarm.wake(Lack::Input);
                world.alarm.arm();
                Model::fence();
                worker.join();
                let is_kicked = world.alarm.disarm();
                assert!(!is_kicked || world.has_output());
            });
        });
    }
}

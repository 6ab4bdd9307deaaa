//! The crate crossbeam-channel: a channel of tasks to threads, and one of results back.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{Peer, Setup};
use crate::measure::{each, p50, p50_asleep};
use crate::work::{Speed, Work};

/// The head of the column.
pub const NAME: &str = "crossbeam";

/// A function and its argument.
type Task = (fn(u64) -> u64, u64);

/// Threads that take tasks from one channel.
#[derive(Debug)]
pub struct Crossbeam {
    tasks: Option<Sender<Task>>,
    results: Receiver<u64>,
    threads: Vec<JoinHandle<()>>,
    speed: Speed,
}

impl Crossbeam {
    /// With a thread for each worker.
    pub fn new(setup: &Setup) -> Self {
        let (tasks, todo) = unbounded::<Task>();
        let (done, results) = unbounded();
        let start = |_| {
            let (todo, done) = (todo.clone(), done.clone());
            std::thread::spawn(move || {
                for (function, argument) in todo {
                    done.send(function(argument)).expect("somebody waits for it");
                }
            })
        };
        let threads = (0..setup.processes).map(start).collect();
        Self { tasks: Some(tasks), results, threads, speed: setup.speed(Speed::Fast) }
    }

    fn submit(&self, argument: u64) {
        let tasks = self.tasks.as_ref().expect("it is open until the drop");
        tasks.send((increment, argument)).expect("the threads are there");
    }

    fn get(&self) -> u64 {
        self.results.recv().expect("the threads are there")
    }
}

fn increment(x: u64) -> u64 {
    x.wrapping_add(1)
}

impl Peer for Crossbeam {
    fn name(&self) -> &'static str {
        NAME
    }

    fn run(&mut self, work: Work) -> Option<f64> {
        let count = work.count(self.speed);
        let call = || {
            self.submit(1);
            assert_eq!(self.get(), 2);
        };
        let submit = || (0..count as u64).for_each(|x| self.submit(x));
        let get = || (0..count).map(|_| self.get()).sum::<u64>();
        Some(match work {
            Work::Apply => p50(count, call),
            Work::ApplyAsleep => p50_asleep(count, call),
            Work::ApplyAsync => each(count, || {
                submit();
                get()
            }),
            Work::Submit => {
                let nanos = each(count, submit);
                get();
                nanos
            }
            _ => return None,
        })
    }
}

impl Drop for Crossbeam {
    fn drop(&mut self) {
        self.tasks = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

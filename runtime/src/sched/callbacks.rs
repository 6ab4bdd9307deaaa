//! The thread on which the user's callbacks run, one after another.
//!
//! It is not the supervisor: a callback may block, even on another result, and deaths and deadlines
//! are still noticed.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use crate::os::signals;

type Callback = Box<dyn FnOnce() + Send>;

static THREAD: OnceLock<Sender<Callback>> = OnceLock::new();

thread_local! {
    static IS_CALLBACK_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Runs `callback` soon. Its panic is reported by the panic hook and harms nothing else.
pub(crate) fn run_later(callback: Callback) {
    let thread = THREAD.get_or_init(start);
    if let Err(unsent) = thread.send(callback) {
        // No thread could be started. Its drop would run the user's code here, under the pool's lock.
        std::mem::forget(unsent);
    }
}

/// Waits until the callbacks that are on their way have run. Does nothing on their own thread.
pub(crate) fn wait_for_all() {
    let Some(thread) = THREAD.get().filter(|_| !IS_CALLBACK_THREAD.get()) else { return };
    let (done, is_done) = channel();
    let last = thread.send(Box::new(move || {
        let _ = done.send(());
    }));
    if last.is_ok() {
        let _ = is_done.recv();
    }
}

fn start() -> Sender<Callback> {
    let (sender, receiver) = channel::<Callback>();
    let run = move || {
        signals::block_all_on_this_thread();
        IS_CALLBACK_THREAD.set(true);
        for callback in receiver {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(callback)) {
                // Its destructor may panic in its turn.
                std::mem::forget(payload);
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("procession callbacks".into()).spawn(run) {
        eprintln!("procession: no thread for callbacks: {error}");
    }
    sender
}

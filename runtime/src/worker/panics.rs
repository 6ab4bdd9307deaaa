//! Panics of tasks: captured where they happen, shipped to the parent, never fatal to the worker.
//!
//! The hook writes message and place into the crash note first (under `panic = "abort"` nothing else
//! will run) and keeps them for [`catch`], which finds them after unwinding.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Arc;

use crate::error::PanicInfo;
use crate::os::memory::Shared;
use crate::shm::page::Page;

thread_local! {
    static LAST: RefCell<Option<PanicInfo>> = const { RefCell::new(None) };
    /// Whether panics of this thread are reported by the parent and not on stderr.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Installs the hook. Without a page no note is left.
pub(super) fn install(page: Option<Arc<Shared<Page>>>) {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |hook| {
        let mut info = describe(hook);
        if let Some(page) = &page {
            page.note.panic(&info.to_string());
        }
        info.backtrace = backtrace();
        // The destructors of other thread-locals may panic after this one is gone.
        let _ = LAST.try_with(|last| last.replace(Some(info)));
        if !QUIET.try_with(Cell::get).unwrap_or(false) {
            previous(hook);
        }
    }));
}

/// Leaves the report of this thread's panics to the parent.
pub(super) fn quieten_this_thread() {
    QUIET.set(true);
}

/// As [`catch`], and leaves the report of a panic to the parent.
pub(crate) fn catch_quietly<R>(f: impl FnOnce() -> R) -> Result<R, PanicInfo> {
    let before = QUIET.replace(true);
    let result = catch(f);
    QUIET.set(before);
    result
}

/// Runs `f`; a panic comes back as what the hook has kept.
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, PanicInfo> {
    // What an earlier item has caught itself is not this one's.
    LAST.with_borrow_mut(Option::take);
    panic::catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let kept = LAST.with_borrow_mut(Option::take);
        // `resume_unwind` calls no hook.
        let info = kept.unwrap_or_else(|| PanicInfo {
            message: message(&*payload),
            location: None,
            backtrace: None,
        });
        discard(payload);
        info
    })
}

/// A payload's own destructor may panic, with a payload whose destructor may panic.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
        LAST.with_borrow_mut(Option::take);
    }
}

fn describe(hook: &PanicHookInfo<'_>) -> PanicInfo {
    PanicInfo {
        message: message(hook.payload()),
        location: hook.location().map(ToString::to_string),
        backtrace: None,
    }
}

/// The stack, where the environment asks for it.
fn backtrace() -> Option<String> {
    let backtrace = Backtrace::capture();
    (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string())
}

fn message(payload: &dyn Any) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic with a payload that isn't text".to_owned()
    }
}

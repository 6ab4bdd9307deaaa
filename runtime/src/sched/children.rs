//! The single processes that this one has started and that haven't been reaped.
//!
//! They are listed here, not by their handles, because dropping a handle doesn't end the process. The
//! list lets go of a process as soon as it is reaped, so that it costs no descriptor any more.

use std::process;
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::time::Duration;

use super::crew::Crew;
use super::supervisor;
use super::waiting::What;
use crate::os::exit;

static CHILDREN: Mutex<Vec<Arc<Crew>>> = Mutex::new(Vec::new());

/// The process that looks after them at its end.
static OWNER: OnceLock<u32> = OnceLock::new();

fn list() -> MutexGuard<'static, Vec<Arc<Crew>>> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lists a process that was just started. The first one has all looked after at the end of this one.
pub(super) fn add(crew: &Arc<Crew>) {
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        let _ = OWNER.set(process::id());
        exit::at_exit(at_exit);
    });
    list().push(Arc::clone(crew));
}

/// Takes a process off the list.
pub(super) fn remove(crew: &Arc<Crew>) {
    let mut list = list();
    let found = list.iter().position(|other| Arc::ptr_eq(other, crew));
    let removed = found.map(|index| list.swap_remove(index));
    // Its drop may be the last one, and looks at other locks.
    drop(list);
    drop(removed);
}

/// All processes that haven't been reaped, oldest first.
pub(crate) fn all() -> Vec<Arc<Crew>> {
    let mut all = list().clone();
    all.retain(|crew| crew.last_status().0);
    all.sort_by_key(|crew| crew.identity().number);
    all
}

/// A normal end of this process: pools and daemons are ended, the others are waited for.
extern "C" fn at_exit() {
    if OWNER.get() != Some(&process::id()) {
        // A copy of this process that somebody has forked: the children aren't its.
        return;
    }
    supervisor::terminate_pools();
    let all = all();
    for crew in all.iter().filter(|crew| crew.is_daemon()) {
        crew.terminate();
    }
    for crew in all {
        let patience = crew.is_daemon().then_some(Duration::from_secs(10));
        crew.wait_for(&What::NoWorkers, patience);
    }
}

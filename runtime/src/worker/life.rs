//! From the hello to the end of the process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::thread;

use super::outlet::Outlet;
use super::tasks::Tasks;
use super::{build, forkserver, identity, panics};
use crate::os::limits::Kept;
use crate::os::memory::Shared;
use crate::os::{barrier, exit, fault, signals, wait};
use crate::shm::heap;
use crate::shm::note::End;
use crate::shm::page::Page;
use crate::transport::frame::Kind;
use crate::transport::hello::{Descriptors, Hello, Role};
use crate::transport::worker_ends;

/// The page, for the handlers that run outside of the loop.
static PAGE: OnceLock<Arc<Shared<Page>>> = OnceLock::new();

/// The page that this process shares with its parent, if it is a worker.
pub(super) fn page() -> Option<&'static Page> {
    PAGE.get().map(|page| &***page)
}

/// Whether this process ends because its work does, not because a task called `exit`.
static LEAVING: AtomicBool = AtomicBool::new(false);

/// What is done before an end that comes from the parent's.
static ORPHANED: OnceLock<fn()> = OnceLock::new();

/// Has something done before this process ends because its parent has gone.
pub(crate) fn when_the_parent_is_gone(finish: fn()) {
    ORPHANED.get_or_init(|| finish);
}

/// Serves the parent until the end of the process.
pub(crate) fn run(socket: OwnedFd, mut hello: Hello, fds: Descriptors<OwnedFd>) -> ! {
    heap::inherit(fds.heap, hello.parent);
    let served = match (hello.role, hello.changes.take()) {
        (Role::Server, _) => forkserver::serve(socket, hello, fds.page),
        (_, None) => serve(socket, hello, fds.page),
        (_, Some(changes)) => {
            let changed = forkserver::change(&changes, fds.changes, hello.role);
            changed.and_then(|()| serve(socket, hello, fds.page))
        }
    };
    let code = match served {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("procession: this worker can't start: {error}");
            1
        }
    };
    leave(code)
}

/// The process id of the worker, to tell it from copies that a task forks.
static WORKER: OnceLock<u32> = OnceLock::new();

pub(super) enum Never {}

fn serve(socket: OwnedFd, hello: Hello, page_fd: OwnedFd) -> io::Result<Never> {
    let page = Arc::new(Shared::<Page>::open(page_fd.as_fd())?);
    let socket = Arc::new(UnixStream::from(socket));
    let role = hello.role;
    let (input, output) =
        worker_ends(&hello, Arc::clone(&socket), Arc::clone(&page), page_fd.as_fd())?;
    drop(page_fd);
    let tied_to_parent = role != Role::Process { daemon: false };
    let mut outlet = Outlet::new(output, tied_to_parent);
    if !hello.build.agrees_with(build::own()) {
        outlet.put(Kind::Refused, 0, refusal(&hello).as_bytes());
        outlet.flush();
        return Err(io::Error::other("it is another build than its parent"));
    }
    if let Some(Err((limit, value, error))) = hello.limits.as_deref().map(Kept::take_on) {
        let text = format!("a worker's {limit} can't be limited to {value}: {error}");
        outlet.put(Kind::Refused, 0, text.as_bytes());
        outlet.flush();
        leave(1);
    }

    signals::ignore_broken_pipes();
    if role == Role::Pool {
        signals::leave_interrupts_to_the_parent();
        signals::let_interrupts_in();
    }
    let _ = PAGE.set(Arc::clone(&page));
    let _ = WORKER.set(process::id());
    watch_ends()?;
    panics::install(Some(Arc::clone(&page)));

    let parent = hello.parent;
    let stack_size = usize::try_from(hello.stack_size).unwrap_or(usize::MAX);
    let name = hello.name.replace('\0', "");
    if role == Role::Pool && hello.light_fences {
        // Before there is a second thread, with which it takes milliseconds.
        barrier::register();
    }
    identity::set(hello);
    if !tied_to_parent && fault::main_stack_size() >= stack_size {
        // Nobody has to watch the parent, so one thread is enough, and a fifth of the start is saved.
        fault::watch_main_stack()?;
        leave(Tasks::new(input, outlet, page, role, parent).serve());
    }
    thread::Builder::new().name(name).stack_size(stack_size).spawn(move || {
        if role == Role::Pool {
            panics::quieten_this_thread();
            // Where there is no such thing, the parent learns of this worker's end from its pidfd alone.
            let _ = PAGE.get().expect("set above").pulse.hold();
        }
        let tasks = Tasks::new(input, outlet, page, role, parent);
        let code = match fault::watch_this_stack() {
            Ok(()) => tasks.serve(),
            Err(error) => {
                eprintln!("procession: this worker can't watch its stack: {error}");
                1
            }
        };
        leave(code)
    })?;
    if tied_to_parent {
        wait_for_the_end_of(&socket, parent)?;
        if let Some(finish) = ORPHANED.get() {
            finish();
        }
        exit::leave(0)
    }
    loop {
        thread::park();
    }
}

/// Has crashes and exits told in the page, once there is one. A process that was forked from one that has
/// called this has it done.
pub(super) fn watch_ends() -> io::Result<()> {
    static WATCHED: Once = Once::new();
    fault::report_to(|number, address, overflow| {
        let address = address as u64;
        tell(if overflow {
            End::StackOverflow { address }
        } else {
            End::Signal { number, address }
        });
    })?;
    WATCHED.call_once(|| exit::at_exit(tell_of_exit));
    Ok(())
}

/// Ends the process in the usual way: buffers are flushed, exit handlers run.
fn leave(code: i32) -> ! {
    LEAVING.store(true, Ordering::Relaxed);
    process::exit(code)
}

/// Returns when the parent has closed its end or is gone.
///
/// Two witnesses: the socket tells as soon as the parent's descriptors are closed, but not while a
/// copy of the parent's end lives on in a process that the parent has forked; the pidfd does then.
fn wait_for_the_end_of(socket: &UnixStream, parent: u32) -> io::Result<()> {
    let Some(parent) = pidfd_of_parent(parent) else { return Ok(()) };
    wait::hung_up(socket.as_fd(), parent.as_ref().map(AsFd::as_fd))
}

/// A descriptor for the parent, if it has a number here. None: it has ended.
pub(super) fn pidfd_of_parent(parent: u32) -> Option<Option<OwnedFd>> {
    let pidfd = i32::try_from(parent).ok().and_then(|parent| wait::open(parent).ok());
    // Asked after the descriptor was opened, so that it can't be one of a later process.
    match std::os::unix::process::parent_id() {
        now if now == parent => Some(pidfd),
        // A parent in another pid namespace has no number here.
        0 => Some(None),
        _ => None,
    }
}

fn tell(end: End) {
    if let Some(page) = PAGE.get() {
        page.note.end(end);
    }
}

extern "C" fn tell_of_exit() {
    // A task may have forked; its copy's end isn't ours.
    let is_ours = WORKER.get() == Some(&process::id());
    if is_ours && !LEAVING.load(Ordering::Relaxed) {
        tell(End::Exit);
    }
}

pub(super) fn refusal(hello: &Hello) -> String {
    let what = if hello.build.tasks == build::own().tasks { "build" } else { "set of tasks" };
    format!(
        "the worker's executable has another {what} than this process; start workers from the same \
         file (if `set_executable` names a copy, link it with `-Wl,--build-id`)"
    )
}

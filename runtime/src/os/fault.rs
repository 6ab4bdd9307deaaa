//! Telling of a crash before dying of it.
//!
//! A handler for the fatal signals tells a reporter the signal and the address, puts the previous
//! action back, and lets the signal happen again, so that the process ends as it would have.

#![expect(unsafe_code, reason = "signal handlers and stack bounds are C")]

use std::ffi::c_int;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// What is told of a fatal signal. It must be async-signal-safe.
pub(crate) type Reporter = fn(signal: i32, address: usize, stack_overflow: bool);

const FATAL: [Signal; 5] =
    [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE, Signal::SIGABRT];

/// A fault this close below a stack's lowest address is an overflow: the guard page, and frames that
/// jump over it by less than 64 KiB.
const GUARD: usize = 64 * 1024;

/// Arguments and environment take at most a quarter of the usual 8 MiB on the main stack, the frames up to
/// here much less. Where both are larger, an overflow may be told as an ordinary fault.
const MOST_ABOVE: usize = 5 << 19;

/// The signal stack: what the handler and the kernel's frame need, with room (AVX-512 state takes
/// about 11 KiB).
const SIGNAL_STACK: usize = 64 * 1024;

static REPORTER: OnceLock<Reporter> = OnceLock::new();
static PREVIOUS: OnceLock<[SigAction; FATAL.len()]> = OnceLock::new();
/// The addresses at which a fault is an overflow of the stack that is watched.
static OVERFLOW: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// Reports fatal signals of any thread from now on. The first call counts.
pub(crate) fn report_to(reporter: Reporter) -> io::Result<()> {
    if REPORTER.set(reporter).is_err() {
        return Ok(());
    }
    let ours = SigAction::new(
        SigHandler::SigAction(handle),
        SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK,
        SigSet::empty(),
    );
    let mut previous = [ours; FATAL.len()];
    for (slot, signal) in previous.iter_mut().zip(FATAL) {
        // SAFETY: `handle` calls only async-signal-safe functions: atomics, sigaction and raise.
        *slot = unsafe { sigaction(signal, &ours) }?;
    }
    let _ = PREVIOUS.set(previous);
    Ok(())
}

/// Gives the calling thread a signal stack and remembers its stack's bounds, so that its overflow is
/// told from other faults. Called once, by the thread that runs the tasks.
pub(crate) fn watch_this_stack() -> io::Result<()> {
    let low = stack_low()?;
    tell_overflows_by(low.saturating_sub(GUARD)..low + 4096);
    use_signal_stack()
}

/// As [`watch_this_stack`], for the thread that runs `main`, from a function near its beginning.
///
/// Its lowest address isn't asked for, as the C library would read `/proc/self/maps` for that. It lies
/// the size of the stack below its top, which is above here by arguments and environment.
pub(crate) fn watch_main_stack() -> io::Result<()> {
    /// A copy that is forked from this process has its signal stack, too.
    static HAS_SIGNAL_STACK: AtomicBool = AtomicBool::new(false);
    let here = 0_u8;
    let low = (&raw const here as usize).saturating_sub(main_stack_size());
    // Without a limit there is no place to tell an overflow by.
    let overflow = if low == 0 { 0..0 } else { low.saturating_sub(GUARD)..low + MOST_ABOVE };
    tell_overflows_by(overflow);
    if HAS_SIGNAL_STACK.load(Ordering::Relaxed) {
        return Ok(());
    }
    use_signal_stack()?;
    HAS_SIGNAL_STACK.store(true, Ordering::Relaxed);
    Ok(())
}

/// How large the stack of the thread that runs `main` may grow, in bytes.
pub(crate) fn main_stack_size() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is storage for one rlimit.
    unsafe { libc::getrlimit(libc::RLIMIT_STACK, &mut limit) };
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

fn tell_overflows_by(addresses: Range<usize>) {
    OVERFLOW[0].store(addresses.start, Ordering::Relaxed);
    OVERFLOW[1].store(addresses.end, Ordering::Relaxed);
}

/// Gives the calling thread a signal stack.
fn use_signal_stack() -> io::Result<()> {
    // Never freed: the thread ends with the process. Nothing is written to it, since each page that is touched
    // takes part in the time of every start.
    let memory = Box::leak(Box::<[u8]>::new_uninit_slice(SIGNAL_STACK));
    let stack =
        libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: memory.len() };
    // SAFETY: `stack` describes memory that is ours for ever; the old one isn't asked for.
    let code = unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn stack_low() -> io::Result<usize> {
    let mut attributes = MaybeUninit::uninit();
    // SAFETY: the call asks about the calling thread itself.
    let this = unsafe { libc::pthread_self() };
    // SAFETY: `this` is live, being this thread, and `attributes` is storage that the call fills.
    let code = unsafe { libc::pthread_getattr_np(this, attributes.as_mut_ptr()) };
    if code != 0 {
        return Err(io::Error::from_raw_os_error(code));
    }
    // SAFETY: the call above succeeded and has initialised it.
    let mut attributes = unsafe { attributes.assume_init() };
    let mut low = std::ptr::null_mut();
    let mut size = 0;
    // SAFETY: all three are live objects of this frame.
    unsafe { libc::pthread_attr_getstack(&attributes, &mut low, &mut size) };
    // SAFETY: it was initialised above and isn't used again.
    unsafe { libc::pthread_attr_destroy(&mut attributes) };
    Ok(low as usize)
}

extern "C" fn handle(number: c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo_t to a handler with SA_SIGINFO.
    let info = unsafe { &*info };
    let sent = info.si_code <= 0;
    // SAFETY: the address field is there for a fault; for a sent signal it isn't looked at.
    let address = if sent { 0 } else { unsafe { info.si_addr() as usize } };
    let [start, end] = [0, 1].map(|i: usize| OVERFLOW[i].load(Ordering::Relaxed));
    let overflow = number == libc::SIGSEGV && !sent && (start..end).contains(&address);
    if let Some(report) = REPORTER.get() {
        report(number, address, overflow);
    }
    restore(number);
    if sent {
        // SAFETY: raise is async-signal-safe; the signal waits until this handler returns.
        unsafe { libc::raise(number) };
    }
}

/// Puts the action back that stood before ours: it, or the default, ends the process when the
/// instruction faults again.
fn restore(number: c_int) {
    for (index, signal) in FATAL.into_iter().enumerate() {
        if signal as c_int == number {
            let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
            let action = PREVIOUS.get().map_or(default, |previous| previous[index]);
            // SAFETY: the action was in force before, or is the default.
            let _ = unsafe { sigaction(signal, &action) };
        }
    }
}

//! Code that runs before `main`.
//!
//! A constructor of our own stands in `.init_array` among those of the program. It calls what is
//! registered in [`PROCESSION_0_1_BEFORE_MAIN`]; who takes the process over there first calls
//! [`run_remaining_constructors`], so that the program's C and C++ parts are whole.

#![expect(unsafe_code, reason = "a constructor is a bare function pointer in a linker section")]

use std::ffi::{c_char, c_int};
use std::sync::OnceLock;

/// Functions that run before `main`, in the order of the linker. The name is the section's, so it has
/// the version in it.
#[linkme::distributed_slice]
pub(crate) static PROCESSION_0_1_BEFORE_MAIN: [fn()];

type Constructor = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

struct Arguments(c_int, *const *const c_char, *const *const c_char);
// SAFETY: argv and envp belong to the process and are only passed on.
unsafe impl Send for Arguments {}
// SAFETY: as above.
unsafe impl Sync for Arguments {}

static ARGUMENTS: OnceLock<Arguments> = OnceLock::new();

#[cfg(feature = "hook")]
#[used]
// SAFETY: the section holds pointers to functions of this signature, which the C library calls once
// each before `main`.
#[unsafe(link_section = ".init_array")]
static HOOK: Constructor = run;

extern "C" fn run(argc: c_int, argv: *const *const c_char, envp: *const *const c_char) {
    let _ = ARGUMENTS.set(Arguments(argc, argv, envp));
    for function in PROCESSION_0_1_BEFORE_MAIN {
        function();
    }
}

// The bounds of the program's constructors. Weak, because linkers define them for executables only,
// and a shared library that contains this crate must link, too.
#[cfg(target_pointer_width = "64")]
std::arch::global_asm!(
    ".weak __init_array_start",
    ".weak __init_array_end",
    ".pushsection .data.rel.ro.procession_constructors,\"aw\",%progbits",
    ".balign 8",
    ".weak procession_constructors",
    ".hidden procession_constructors",
    "procession_constructors:",
    ".8byte __init_array_start",
    ".8byte __init_array_end",
    ".popsection",
);

unsafe extern "C" {
    #[link_name = "procession_constructors"]
    static CONSTRUCTORS: [*const Constructor; 2];
}

/// Runs the constructors that stand after ours. Nothing to do when we weren't called as one.
pub(crate) fn run_remaining_constructors() {
    let Some(Arguments(argc, argv, envp)) = ARGUMENTS.get() else { return };
    // SAFETY: the assembly above defines the symbol with this type, and nothing writes to it.
    let [start, end] = unsafe { CONSTRUCTORS };
    if start.is_null() || end < start {
        return;
    }
    let count = (end as usize - start as usize) / size_of::<Constructor>();
    // SAFETY: the linker puts both symbols at the ends of one array of function pointers.
    let all = unsafe { std::slice::from_raw_parts(start.cast::<usize>(), count) };
    let ours = run as Constructor as usize;
    let after = all.iter().skip_while(|address| **address != ours).skip(1);
    // Zero and minus one are markers that some linkers leave in the array.
    for address in after.filter(|address| **address != 0 && **address != usize::MAX) {
        // SAFETY: the entries that are no markers are functions of this signature; the C library
        // would have called them next with these arguments.
        let constructor = unsafe { std::mem::transmute::<usize, Constructor>(*address) };
        constructor(*argc, *argv, *envp);
    }
}

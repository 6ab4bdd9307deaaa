//! How a child ends, while it is still ending: the status that it will leave, before it can be reaped.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::libc;

use super::usage;
use crate::error::Usage;

/// The kernel's mark on a task that is on its way out (`PF_EXITING`).
const EXITING: u64 = 0x4;

/// How far a child has come on its way out, as it is seen from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// All of it ends, and `waitpid` will give this.
    With(ExitStatus),
    /// It ends, and its status is 0 or isn't shown.
    Somehow,
    /// It has not been seen to end.
    Not,
}

/// Looks at a child of which a thread has ended, and at the time that it has used; none if the system doesn't show
/// it.
///
/// What ends a whole process is noted before the first of its threads ends, so a status that is shown now
/// is the last word. The number must be the child's still, as it is until somebody reaps it.
pub(crate) fn of(pid: u32) -> Option<(Ending, Usage)> {
    // The name may hold anything, also half a character.
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(&String::from_utf8_lossy(&text))
}

/// Reads flags (field 9) and exit code (field 52, in `waitpid`'s format) of proc_pid_stat(5).
fn parse(text: &str) -> Option<(Ending, Usage)> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let (flags, code) = (field(9)?, i32::try_from(field(52)?).ok()?);
    // What stops a process, or tells its tracer something, stands in the same place.
    let stops = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    let is_end = code & 0x7f == 0 || code >> 8 == 0 && !stops.contains(&code);
    let ending = match code {
        0 if flags & EXITING != 0 => Ending::Somehow,
        0 => Ending::Not,
        _ if is_end => Ending::With(ExitStatus::from_raw(code)),
        _ => Ending::Not,
    };
    Some((ending, usage::times(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line as the kernel writes it, with these flags and this exit code.
    fn line(flags: u64, code: i32) -> String {
        let between = ["0"; 42].join(" ");
        format!("17 (a (name) ) Z 1 17 17 0 -1 {flags} {between} {code}\n")
    }

    fn ending(text: &str) -> Option<Ending> {
        parse(text).map(|(ending, _)| ending)
    }

    #[test]
    fn the_status_is_the_last_field() {
        for code in [9, 11 | 0x80, 3 << 8] {
            let with = Some(Ending::With(ExitStatus::from_raw(code)));
            assert_eq!(ending(&line(0x40_4100, code)), with);
            assert_eq!(ending(&line(0x40_4104, code)), with);
        }
    }

    #[test]
    fn nothing_is_made_of_what_is_no_end() {
        assert_eq!(ending(&line(0x40_4100, 0)), Some(Ending::Not));
        assert_eq!(ending(&line(0x40_4100, libc::SIGSTOP)), Some(Ending::Not));
        assert_eq!(ending(&line(0x40_4100, libc::SIGTRAP | 1 << 8)), Some(Ending::Not));
        assert_eq!(ending(&line(0x40_4104, 0)), Some(Ending::Somehow));
        assert_eq!(ending("17 (a) R 1"), None);
        assert_eq!(ending(""), None);
    }

    #[test]
    fn this_process_does_not_end_and_none_is_not_shown() {
        assert_eq!(of(std::process::id()).map(|(ending, _)| ending), Some(Ending::Not));
        assert_eq!(of(u32::MAX), None);
    }
}

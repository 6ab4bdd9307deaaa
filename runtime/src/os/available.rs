//! How much memory there is to take, and who is alive.

use std::fs;
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// The bytes that can be taken without swapping, in this machine and in this process's control group;
/// none if the system doesn't say.
pub(crate) fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024;
    Some(group().map_or(machine, |group| machine.min(group)))
}

/// What the control group (version 2) leaves, if it has a limit.
fn group() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let number = |name: &str| {
        let text = fs::read_to_string(format!("/sys/fs/cgroup/{path}/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    // What is cached of files goes when memory is needed.
    let stat = fs::read_to_string(format!("/sys/fs/cgroup/{path}/memory.stat")).unwrap_or_default();
    let cached = |name: &str| {
        let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
    };
    let used = number("memory.current")?
        .saturating_sub(cached("inactive_file"))
        .saturating_sub(cached("active_file"));
    Some(number("memory.max")?.saturating_sub(used))
}

/// What is known of a process by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    /// There is none, or nothing but its remains.
    None,
    /// It was started then, in the kernel's ticks since boot.
    Since(u64),
    /// It is there, or this process can't see whether it is: it may have no descriptor left, or no right
    /// to read `/proc`.
    Unknown,
}

/// Whether there is a process with this number.
pub(crate) fn presence(pid: u32) -> Presence {
    let Ok(number) = i32::try_from(pid) else { return Presence::None };
    if kill(Pid::from_raw(number), None) == Err(Errno::ESRCH) {
        return Presence::None;
    }
    stat(pid).unwrap_or(Presence::Unknown)
}

fn stat(pid: u32) -> Option<Presence> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything, also half a character.
    let text = String::from_utf8_lossy(&text);
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        // It may be its first thread alone that has ended.
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.count();
        if threads < 2 {
            return Some(Presence::None);
        }
    }
    Some(Presence::Since(fields.nth(18)?.parse().ok()?))
}

/// Which numbering of processes this one lives in; none if the system doesn't say.
pub(crate) fn pid_namespace() -> Option<u64> {
    Some(fs::metadata("/proc/self/ns/pid").ok()?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory() {
        assert!(memory().unwrap() > 1 << 20);
    }

    #[test]
    fn this_process_is_alive_and_none_is_not() {
        assert!(matches!(presence(std::process::id()), Presence::Since(_)));
        assert_eq!(presence(u32::MAX), Presence::None);
        // Above what the kernel gives out.
        assert_eq!(presence(i32::MAX.unsigned_abs()), Presence::None);
        assert_ne!(presence(1), Presence::None);
    }
}

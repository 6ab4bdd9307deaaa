//! What another process uses, as /proc shows it.

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::error::Usage;

/// The memory that a process has in use and doesn't share, with files or with other processes, in bytes. None if it
/// isn't shown.
pub(crate) fn private_memory(pid: u32) -> Option<u64> {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten()?;
    let pages = parse_statm(&fs::read_to_string(format!("/proc/{pid}/statm")).ok()?)?;
    Some(pages.saturating_mul(u64::try_from(page).ok()?))
}

/// The pages in memory less those that are shared: fields 2 and 3 of proc_pid_statm(5).
fn parse_statm(text: &str) -> Option<u64> {
    let mut fields = text.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(resident.saturating_sub(shared))
}

/// What a process that runs has used so far. None if it isn't shown.
pub(crate) fn of(pid: u32) -> Option<Usage> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let mut usage = times(&String::from_utf8_lossy(&stat))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    usage.max_resident = parse_peak(&status);
    Some(usage)
}

/// Reads the times (fields 14 and 15, in ticks) of proc_pid_stat(5).
pub(super) fn times(stat: &str) -> Option<Usage> {
    let rate = sysconf(SysconfVar::CLK_TCK).ok().flatten()?;
    let tick = 1_000_000_000_u64.checked_div(u64::try_from(rate).ok()?)?;
    // The name may hold anything, also brackets.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let time = |number: usize| {
        let ticks: u64 = fields.get(number - 3)?.parse().ok()?;
        Some(Duration::from_nanos(ticks.saturating_mul(tick)))
    };
    Some(Usage { user: time(14)?, system: time(15)?, max_resident: None })
}

/// The most that it had in memory: `VmHWM` of proc_pid_status(5).
fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        assert_eq!(parse_statm("2034 517 400 5 0 99 0\n"), Some(117));
        assert_eq!(parse_statm("2034 5"), None);
        assert_eq!(parse_peak("VmPeak:\t 9 kB\nVmHWM:\t    1024 kB\n"), Some(1 << 20));
        assert_eq!(parse_peak("Name:\tVmHWM\n"), None);
        let zeros = ["0"; 10].join(" ");
        let usage = times(&format!("17 (a (b) c) Z {zeros} 300 200 0")).unwrap();
        assert_eq!(usage.user_time() * 2, usage.system_time() * 3);
        assert!(times("17 (a) Z 1 2").is_none());
    }

    #[test]
    fn this_process_uses_something() {
        let own = std::process::id();
        let before = private_memory(own).unwrap();
        let block = std::hint::black_box(vec![1_u8; 16 << 20]);
        assert!(private_memory(own).unwrap() > before + (8 << 20));
        assert!(of(own).unwrap().max_resident().unwrap() > 16 << 20);
        drop(block);
        assert!(private_memory(u32::MAX).is_none() && of(u32::MAX).is_none());
    }
}

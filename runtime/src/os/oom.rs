//! Whether the system has killed a process because there was no memory left.
//!
//! Nothing says so of one process. But the kernel counts such kills, by control group and for the whole system,
//! and a kill that nobody here has sent, with a count that has grown, is taken for one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// What was counted, and how many of these kills nobody has been found for.
struct Count {
    last: u64,
    unclaimed: u64,
}

static COUNT: Mutex<Option<Count>> = Mutex::new(None);

/// Kills until now are none of a process that is started after this; the first call tells, and takes long.
pub(crate) fn watch() {
    static WATCHED: OnceLock<()> = OnceLock::new();
    WATCHED.get_or_init(|| {
        let count = kills().map(|last| Count { last, unclaimed: 0 });
        *COUNT.lock().unwrap_or_else(PoisonError::into_inner) = count;
    });
}

/// Whether there was such a kill that no other process was taken for.
pub(crate) fn was_there() -> bool {
    let mut count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
    let (Some(count), Some(now)) = (&mut *count, kills()) else { return false };
    count.unclaimed += now.saturating_sub(count.last);
    count.last = now;
    let was_there = count.unclaimed > 0;
    count.unclaimed = count.unclaimed.saturating_sub(1);
    was_there
}

/// How many there were in this process's control group, or in the whole system where that doesn't say.
fn kills() -> Option<u64> {
    static SOURCE: OnceLock<PathBuf> = OnceLock::new();
    let source = SOURCE.get_or_init(|| {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let counts = |path: &PathBuf| count_in(path).is_some();
        candidates(&groups).into_iter().find(counts).unwrap_or_else(|| "/proc/vmstat".into())
    });
    count_in(source)
}

fn count_in(path: &Path) -> Option<u64> {
    parse(&fs::read_to_string(path).ok()?)
}

/// All of these files have lines of a name and a number.
fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Where the control groups of a process, as /proc shows them, have their counts: cgroups(7).
fn candidates(groups: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (top, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.events"),
            some if some.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.oom_control")
            }
            _ => continue,
        };
        // In a container the group's own directory may be the one on top.
        found.push(Path::new(top).join(group.trim_start_matches('/')).join(file));
        found.push(Path::new(top).join(file));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_found_where_groups_have_them() {
        let paths = |groups| -> Vec<String> {
            candidates(groups).iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(
            paths("0::/user.slice/a:b\n"),
            ["/sys/fs/cgroup/user.slice/a:b/memory.events", "/sys/fs/cgroup/memory.events"]
        );
        assert_eq!(
            paths("5:cpu:/x\n4:hugetlb,memory:/m\n"),
            [
                "/sys/fs/cgroup/memory/m/memory.oom_control",
                "/sys/fs/cgroup/memory/memory.oom_control"
            ]
        );
        assert!(paths("nonsense").is_empty());
    }

    #[test]
    fn the_count_is_read_by_its_name() {
        assert_eq!(parse("low 0\noom 7\noom_kill 3\noom_group_kill 9\n"), Some(3));
        assert_eq!(parse("oom_kill_disable 0\nunder_oom 0\noom_kill 12\n"), Some(12));
        assert_eq!(parse("oom_kill_disable 1\n"), None);
    }

    #[test]
    fn the_system_counts() {
        assert!(kills().is_some());
    }
}

//! On what was measured: the machine, and the versions of everybody. Nothing that names its user.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// The workspace's lock file, which has the versions of the peers that are crates.
const LOCK: &str = include_str!("../../Cargo.lock");

/// The peers that are crates.
const CRATES: [&str; 6] =
    ["procession", "rayon", "crossbeam-channel", "ipc-channel", "procspawn", "regex"];

/// The peers that are packages of Python.
const PACKAGES: [&str; 2] = ["mpire", "loky"];

/// What there is, by names and values.
pub fn describe() -> Vec<(String, String)> {
    let mut all = vec![
        ("date".to_owned(), today()),
        ("processor".to_owned(), in_file("/proc/cpuinfo", "model name")),
        ("processors".to_owned(), processors()),
        ("memory".to_owned(), memory()),
        ("kernel".to_owned(), first_line("/proc/sys/kernel/osrelease")),
        ("load before it, of 1, 5 and 15 minutes".to_owned(), load()),
        ("rustc".to_owned(), says("rustc", &["--version"])),
        ("Python".to_owned(), says("python3", &["--version"])),
    ];
    for package in PACKAGES {
        let script = format!("import importlib.metadata as m; print(m.version('{package}'))");
        all.push((package.to_owned(), says("python3", &["-c", &script])));
    }
    for name in CRATES {
        all.push((name.to_owned(), version_of(name, LOCK).unwrap_or_default()));
    }
    all.retain(|(_, value)| !value.is_empty());
    all
}

/// The first line that a command prints; empty if it can't be run.
fn says(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().next().unwrap_or_default().to_owned()
}

fn first_line(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The value behind a name and a colon.
fn in_file(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(key, _)| key.trim() == name);
    found.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

fn processors() -> String {
    std::thread::available_parallelism().map(|count| count.to_string()).unwrap_or_default()
}

fn memory() -> String {
    let text = in_file("/proc/meminfo", "MemTotal");
    let kibibytes = text.split(' ').next().and_then(|number| number.parse::<f64>().ok());
    kibibytes
        .map(|kibibytes| format!("{:.1} GiB", kibibytes / f64::from(1 << 20)))
        .unwrap_or_default()
}

fn load() -> String {
    let line = first_line("/proc/loadavg");
    line.split(' ').take(3).collect::<Vec<_>>().join(", ")
}

/// Year, month and day in UTC.
fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = date(since.as_secs() / 86_400);
    format!("{year}-{month:02}-{day:02}")
}

/// The date so many days after 1970-01-01, by Howard Hinnant's `civil_from_days`.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + u64::from(month <= 2), month, of_month)
}

/// A package's version in a lock file.
fn version_of(name: &str, lock: &str) -> Option<String> {
    let from = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?.1;
    Some(from.split_once('"')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(19_782), (2024, 2, 29));
        assert_eq!(date(20_818), (2026, 12, 31));
    }

    #[test]
    fn versions_are_in_the_lock_file() {
        for name in CRATES {
            assert!(version_of(name, LOCK).is_some(), "{name}");
        }
        assert_eq!(version_of("procession", LOCK).as_deref(), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(version_of("nothing", LOCK), None);
    }

    #[test]
    fn what_cannot_be_run_is_left_out() {
        assert_eq!(says("there-is-no-such-program", &[]), "");
    }
}

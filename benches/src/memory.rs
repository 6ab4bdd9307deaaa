//! What a process has for itself alone.

use std::fs;
use std::io;

/// The bytes that would be free if the process ended: pages that nobody else has, by `/proc/…/smaps`.
///
/// All that it has written counts, in its own memory and in mapped files. Pages of files that it has only
/// read don't: they are the kernel's cache, which it can drop, and that nobody else maps them (another
/// copy of the program, say) is chance. Memory that it shares with its parent doesn't, either.
///
/// # Errors
/// The process isn't there, or it isn't ours.
pub(crate) fn private_bytes(pid: u32) -> io::Result<f64> {
    Ok(private_in(&fs::read_to_string(format!("/proc/{pid}/smaps"))?) as f64)
}

fn private_in(smaps: &str) -> u64 {
    let mut is_file = false;
    let mut kibibytes = 0;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(first), Some(second)) = (words.next(), words.next()) else { continue };
        match first {
            "Private_Dirty:" => kibibytes += second.parse().unwrap_or(0),
            "Private_Clean:" if !is_file => kibibytes += second.parse().unwrap_or(0),
            // A mapping's head: addresses, rights, offset, device, inode, and a path if it has one.
            range if !range.ends_with(':') => {
                is_file = words.nth(2).is_some_and(|inode| inode != "0")
            }
            _ => {}
        }
    }
    kibibytes * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clean_pages_of_files_are_not_private() {
        let smaps = "\
55d0-55d4 r-xp 00000000 fe:00 1234    /usr/bin/thing
Private_Clean:        40 kB
Private_Dirty:         4 kB
7ffd-7ffe rw-p 00000000 00:00 0       [stack]
Private_Clean:         8 kB
Private_Dirty:        12 kB
Anonymous:            20 kB
VmFlags: rd wr mr mw me gd ac
";
        assert_eq!(private_in(smaps), (4 + 8 + 12) * 1024);
    }

    #[test]
    fn this_process_has_some() {
        assert!(private_bytes(std::process::id()).unwrap() > 0.0);
    }
}

//! Reads what the kernel knows of this process from `/proc`, at each scrape.

use std::fs;

/// Ticks a second in `/proc/*/stat`: the kernel's USER_HZ, fixed at 100 on every architecture that Rust's Linux targets have.
const TICKS_PER_SECOND: f64 = 100.0;

/// The process in numbers; what cannot be read is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    /// Unix time.
    pub(super) start_seconds: Option<f64>,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_fds: Option<u64>,
}

// === impl Process ===

impl Process {
    pub(super) fn now() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let stat = text("/proc/self/stat");
        let status = text("/proc/self/status");
        let booted = boot_seconds(&text("/proc/stat"));
        Self {
            start_seconds: booted.zip(ticks(&stat, 19)).map(|(booted, started)| booted + started),
            cpu_seconds: ticks(&stat, 11).zip(ticks(&stat, 12)).map(|(user, system)| user + system),
            resident_bytes: resident_bytes(&status),
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as u64),
        }
    }
}

/// A field of `/proc/*/stat` in seconds, counted from 0 behind the program's name, which may hold blanks and brackets.
fn ticks(stat: &str, field: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(field)?.parse::<f64>().ok().map(|ticks| ticks / TICKS_PER_SECOND)
}

/// `VmRSS`, which is in kibibytes whatever the size of a page.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn boot_seconds(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_may_hold_anything() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4 0 0 0 0 150 50 0 0 20 0 1 0 12345 0 0";
        assert_eq!(ticks(stat, 11), Some(1.5));
        assert_eq!(ticks(stat, 12), Some(0.5));
        assert_eq!(ticks(stat, 19), Some(123.45));
        assert_eq!(ticks("", 11), None);
    }

    #[test]
    fn this_process_has_numbers() {
        let process = Process::now();
        let now = crate::status::unix_us() as f64 / 1e6;
        let age = now - process.start_seconds.unwrap();
        assert!((-2.0..3_600.0).contains(&age), "started {age} s ago");
        assert!(process.resident_bytes.unwrap() > 100_000);
        assert!(process.open_fds.unwrap() >= 3);
        assert!(process.cpu_seconds.is_some());
    }
}

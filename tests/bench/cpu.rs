//! Turns a process id into the CPU time and memory that the process has used so far.

use std::time::Duration;

use rustix::param::clock_ticks_per_second;

/// A process at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// It has ended and waits to be collected by its parent; its CPU time still counts.
    pub(crate) has_ended: bool,
    /// User and system time since it started, in steps of a clock tick (10 ms).
    pub(crate) cpu: Duration,
}

/// CPU time of a process from a moment on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meter {
    pid: u32,
    start: Duration,
}

/// Looks at a process; `None` when it is gone.
pub(crate) fn look(pid: u32) -> Option<Look> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold blanks and parentheses: field 3, the state, is the first after the last of them.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let cpu = Duration::from_millis(ticks * 1_000 / clock_ticks_per_second());
    Some(Look { has_ended: matches!(fields.first(), Some(&"Z" | &"X")), cpu })
}

// === impl Meter ===

impl Meter {
    /// Counts from now on.
    pub(crate) fn start(pid: u32) -> Meter {
        Meter { pid, start: time_of(pid) }
    }

    /// What it has used since.
    pub(crate) fn spent(&self) -> Duration {
        time_of(self.pid).saturating_sub(self.start)
    }
}

fn time_of(pid: u32) -> Duration {
    look(pid).map_or(Duration::ZERO, |look| look.cpu)
}

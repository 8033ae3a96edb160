//! Turns a condition and a deadline into its value or a panic that says what was waited for.

use std::time::{Duration, Instant};

/// Asks `probe` until it answers `Some`, at growing intervals of 2 to 50 ms; panics after `limit`.
#[track_caller]
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    try_until(limit, &mut probe).unwrap_or_else(|| panic!("waited {limit:?} in vain for {what}"))
}

/// As [`until`], for a caller that reports the failure itself.
pub fn try_until<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(50));
    }
}

/// Seconds, for deadlines that read as prose.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Runs something at the end of its scope, a panic included: ends writers that their scope waits for.
#[derive(Debug)]
pub struct Finally<F: FnMut()>(pub F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

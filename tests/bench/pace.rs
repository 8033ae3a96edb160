//! Turns a rate into moments, and moments into payloads that carry them on one clock of this process.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Events a second.
pub(crate) const RATE: u64 = 1_000;

/// The start of the clock that payloads are stamped with.
static EPOCH: OnceLock<Instant> = OnceLock::new();

/// Calls `send` with 1, 2, … at [`RATE`].
pub(crate) fn run(events: u64, send: impl FnMut(u64) -> Result<(), String>) -> Result<Duration, String> {
    run_at(RATE, events, send)
}

/// Calls `send` with 1, 2, … so often a second; a call that comes late is followed by the next ones without a pause.
pub(crate) fn run_at(rate: u64, events: u64, mut send: impl FnMut(u64) -> Result<(), String>) -> Result<Duration, String> {
    let start = Instant::now();
    for n in 1..=events {
        let due = start + Duration::from_micros(n * 1_000_000 / rate);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        send(n)?;
    }
    Ok(start.elapsed())
}

/// A payload of about 315 bytes in jsonb's own order and spacing, stamped with this moment.
pub(crate) fn payload(n: u64) -> String {
    format!(r#"{{"n": {n}, "at": {}, "pad": "{}"}}"#, now_ns(), "a row of an outbox; ".repeat(14))
}

/// The number in a payload and the time since its moment.
pub(crate) fn age(payload: &[u8]) -> Option<(u64, Duration)> {
    let now = now_ns();
    let text = std::str::from_utf8(payload).ok()?;
    let number = |name: &str| {
        let (_, rest) = text.split_once(name)?;
        rest.split(',').next()?.parse::<u64>().ok()
    };
    Some((number("\"n\": ")?, Duration::from_nanos(now.saturating_sub(number("\"at\": ")?))))
}

fn now_ns() -> u64 {
    u64::try_from(EPOCH.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

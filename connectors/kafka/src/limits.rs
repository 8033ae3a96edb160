//! What a topic accepts, so that a record it would refuse is found before anything behind it is sent.

use relay_core::{Event, Poison, PoisonReason};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

/// The limits of one topic: written by the admin thread, read for every record.
#[derive(Debug)]
pub(crate) struct Limits {
    max_bytes: AtomicUsize,
    /// How far a timestamp may lie back.
    before_ms: AtomicI64,
    /// How far a timestamp may lie ahead.
    after_ms: AtomicI64,
    is_compacted: AtomicBool,
}

/// Kafka's own defaults, for brokers that do not say.
const DEFAULT_MAX_BYTES: usize = 1_048_588;
const DEFAULT_AFTER_MS: i64 = 3_600_000;

/// relay's clock may be late by its own tick and by a little difference to the broker's.
const CLOCK_SLACK_MS: i64 = 1_000;

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: AtomicUsize::new(DEFAULT_MAX_BYTES),
            before_ms: AtomicI64::new(i64::MAX),
            after_ms: AtomicI64::new(DEFAULT_AFTER_MS),
            is_compacted: AtomicBool::new(false),
        }
    }
}

impl Limits {
    /// Takes over what DescribeConfigs said.
    pub(crate) fn update(&self, settings: &HashMap<String, String>) {
        let number = |name: &str| settings.get(name).and_then(|value| value.parse::<i64>().ok());
        let max_bytes = number("max.message.bytes").and_then(|bytes| usize::try_from(bytes).ok());
        self.max_bytes.store(max_bytes.unwrap_or(DEFAULT_MAX_BYTES), Ordering::Relaxed);
        // The broker overwrites the timestamps of LogAppendTime without looking at them.
        let is_checked = settings.get("message.timestamp.type").is_none_or(|kind| kind == "CreateTime");
        let difference = number("message.timestamp.difference.max.ms"); // before Kafka 3.6
        let limit = |name: &str, default: i64| if is_checked { number(name).or(difference).unwrap_or(default) } else { i64::MAX };
        self.before_ms.store(limit("message.timestamp.before.max.ms", i64::MAX), Ordering::Relaxed);
        self.after_ms.store(limit("message.timestamp.after.max.ms", DEFAULT_AFTER_MS), Ordering::Relaxed);
        let is_compacted = settings.get("cleanup.policy").is_some_and(|policy| is_compacted(policy));
        self.is_compacted.store(is_compacted, Ordering::Relaxed);
    }

    /// The largest batch that the topic takes.
    #[inline]
    pub(crate) fn max_bytes(&self) -> usize {
        self.max_bytes.load(Ordering::Relaxed)
    }

    /// Whether the topic will take this event, alone in its batch and without counting on compression.
    #[inline]
    pub(crate) fn check(&self, event: &Event, client_max_bytes: usize, now_ms: i64) -> Result<(), Poison> {
        let size = record_bytes(event);
        let max_bytes = self.max_bytes().min(client_max_bytes);
        if size > max_bytes {
            return Err(too_large(event, size, self.max_bytes(), client_max_bytes));
        }
        let ahead_ms = event.timestamp_ms.saturating_sub(now_ms);
        if event.timestamp_ms != 0
            && (ahead_ms > self.after_ms.load(Ordering::Relaxed).saturating_add(CLOCK_SLACK_MS)
                || ahead_ms.saturating_neg() > self.before_ms.load(Ordering::Relaxed))
        {
            return Err(out_of_time(event, ahead_ms));
        }
        if self.is_compacted.load(Ordering::Relaxed) && event.key().is_none() {
            return Err(no_key(event));
        }
        Ok(())
    }
}

pub(crate) fn is_compacted(policy: &str) -> bool {
    policy.split(',').any(|part| part.trim() == "compact")
}

/// Bytes of the batch that holds this record alone: key, value, headers, and what the format puts around them at most.
fn record_bytes(event: &Event) -> usize {
    const BATCH_OVERHEAD: usize = 61;
    const RECORD_OVERHEAD: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
    const HEADER_OVERHEAD: usize = 5 + 5;
    let own = event.size_bytes() - event.topic().len();
    own + BATCH_OVERHEAD + RECORD_OVERHEAD + HEADER_OVERHEAD * event.headers().len()
}

#[cold]
fn too_large(event: &Event, size: usize, topic_max: usize, client_max: usize) -> Poison {
    let text = format!(
        "the record has {size} bytes; topic {} takes {topic_max} (max.message.bytes), the client {client_max} (message.max.bytes)",
        event.topic()
    );
    Poison::new(PoisonReason::TooLarge, text)
}

#[cold]
fn out_of_time(event: &Event, ahead_ms: i64) -> Poison {
    let side = if ahead_ms > 0 { "ahead (message.timestamp.after.max.ms)" } else { "back (message.timestamp.before.max.ms)" };
    let text =
        format!("the timestamp lies {} s {side}, further than topic {} allows", ahead_ms.unsigned_abs() / 1000, event.topic());
    Poison::new(PoisonReason::Timestamp, text)
}

#[cold]
fn no_key(event: &Event) -> Poison {
    Poison::new(PoisonReason::NullKey, format!("the record has no key, and topic {} is compacted", event.topic()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn event(key: bool, value_bytes: usize, timestamp_ms: i64) -> Event {
        let mut event = Event::default();
        event.out().extend_from_slice(b"orders");
        event.end_topic();
        if key {
            event.end_key();
        }
        event.out().resize(6 + value_bytes, b'x');
        event.end_value();
        event.timestamp_ms = timestamp_ms;
        event
    }

    #[test]
    fn each_limit_makes_its_own_poison() {
        let limits = Limits::default();
        let settings = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        limits.update(&settings(&[
            ("max.message.bytes", "1000"),
            ("message.timestamp.before.max.ms", "60000"),
            ("message.timestamp.after.max.ms", "60000"),
            ("cleanup.policy", "delete, compact"),
        ]));
        let reason = |event: Event| limits.check(&event, 1_000_000, NOW).err().map(|poison| poison.reason);
        assert_eq!(reason(event(true, 800, NOW)), None);
        assert_eq!(reason(event(true, 1000, NOW)), Some(PoisonReason::TooLarge));
        assert_eq!(reason(event(true, 1, NOW + 120_000)), Some(PoisonReason::Timestamp));
        assert_eq!(reason(event(true, 1, NOW - 120_000)), Some(PoisonReason::Timestamp));
        assert_eq!(reason(event(false, 1, NOW)), Some(PoisonReason::NullKey));
        assert_eq!(reason(event(true, 1, 0)), None, "0 is the broker's business: the client puts now");

        limits.update(&settings(&[("message.timestamp.type", "LogAppendTime"), ("message.timestamp.before.max.ms", "1")]));
        assert_eq!(limits.check(&event(false, 1, 1), 1_000_000, NOW), Ok(()));
        assert_eq!(limits.check(&event(true, 900, NOW), 800, NOW).map_err(|p| p.reason), Err(PoisonReason::TooLarge));
    }

    #[test]
    fn without_an_answer_kafkas_defaults_hold() {
        let limits = Limits::default();
        assert_eq!(limits.check(&event(false, 900_000, NOW - 86_400_000), 1_000_000, NOW), Ok(()));
        assert_eq!(
            limits.check(&event(false, 1, NOW + 7_200_000), 1_000_000, NOW).map_err(|p| p.reason),
            Err(PoisonReason::Timestamp)
        );
    }
}

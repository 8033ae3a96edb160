//! What any thread may know of the client: when a broker was last seen, the last error, the client's own numbers.

use crate::error::Error;
use relay_core::window::FailureKind;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The state of the Kafka side. Cheap to ask from any thread.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    /// Milliseconds after `started` at which a broker was last seen, plus 1; 0 = never.
    seen_ms: AtomicU64,
    /// Unix time in milliseconds, a tenth of a second old at most.
    clock_ms: AtomicI64,
    /// When the poll thread last turned, in milliseconds since `started`.
    ticked_ms: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
    last_error: Mutex<Option<(Instant, Error)>>,
    statistics: Mutex<Statistics>,
}

/// What librdkafka said about itself at its last report, 5 seconds ago at most.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Brokers whose connection is up.
    pub brokers_up: usize,
    /// Brokers known.
    pub brokers: usize,
    /// Records queued or on the wire.
    pub queued_records: u64,
    /// Their bytes.
    pub queued_bytes: u64,
    /// Requests sent since the client was made.
    pub requests: u64,
    /// Bytes sent since the client was made.
    pub sent_bytes: u64,
    /// Records sent since the client was made.
    pub sent_records: u64,
    /// Requests tried again since the client was made.
    pub retries: u64,
    /// Requests that timed out since the client was made.
    pub request_timeouts: u64,
    /// Longest 99th percentile of a broker's round-trip time, in microseconds.
    pub round_trip_p99_us: i64,
    /// Longest time that a broker held back an answer, in milliseconds.
    pub throttle_max_ms: i64,
    /// Mean bytes of a batch, over all topics.
    pub batch_bytes_mean: i64,
    /// Mean records of a batch, over all topics.
    pub batch_records_mean: i64,
}

// === impl Health ===

impl Health {
    /// A broker unseen for so long makes the sink unreachable.
    pub const UNSEEN: Duration = Duration::from_secs(30);

    pub(crate) fn new() -> Self {
        let health = Self {
            started: Instant::now(),
            seen_ms: AtomicU64::new(0),
            clock_ms: AtomicI64::new(0),
            ticked_ms: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last_error: Mutex::default(),
            statistics: Mutex::default(),
        };
        health.tick();
        health
    }

    /// Time since a broker was last seen: it answered a request, or its connection is up.
    #[must_use]
    pub fn unseen(&self) -> Duration {
        let seen = Duration::from_millis(self.seen_ms.load(Ordering::Relaxed).saturating_sub(1));
        self.started.elapsed().saturating_sub(seen)
    }

    /// Whether a broker was seen within [`Health::UNSEEN`].
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        self.seen_ms.load(Ordering::Relaxed) != 0 && self.unseen() < Self::UNSEEN
    }

    /// Records that Kafka has acknowledged.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Records that were reported as failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// The last error that the client reported by itself, and how long ago.
    #[must_use]
    pub fn last_error(&self) -> Option<(Duration, Error)> {
        let last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(at, error)| (at.elapsed(), error.clone()))
    }

    /// The client's numbers.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Unix time in milliseconds, cheap and a tenth of a second old at most.
    #[inline]
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock_ms.load(Ordering::Relaxed)
    }

    /// Whether the thread that serves reports has turned lately.
    pub(crate) fn is_turning(&self) -> bool {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        now.saturating_sub(self.ticked_ms.load(Ordering::Relaxed)) < 10_000
    }

    pub(crate) fn tick(&self) {
        let ticked = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ticked_ms.store(ticked, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.clock_ms.store(i64::try_from(now.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn seen(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.seen_ms.store(now + 1, Ordering::Relaxed);
    }

    pub(crate) fn add_delivered(&self, count: u64) {
        self.delivered.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn add_failed(&self, kind: FailureKind) {
        if kind != FailureKind::Purged {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Keeps the error; whether it is news worth a log line.
    pub(crate) fn note(&self, error: Error) -> bool {
        let mut last = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, known)) = &*last
            && known.explains(&error)
            && self.unseen() >= at.elapsed()
        {
            return false;
        }
        let is_news = last.as_ref().is_none_or(|(at, known)| *known != error || at.elapsed() > Duration::from_secs(60));
        if is_news {
            *last = Some((Instant::now(), error));
        }
        is_news
    }

    pub(crate) fn update(&self, raw: &rdkafka::Statistics) {
        let statistics = Statistics::of(raw);
        if statistics.brokers_up > 0 {
            self.seen();
        }
        *self.statistics.lock().unwrap_or_else(PoisonError::into_inner) = statistics;
    }
}

// === impl Statistics ===

impl Statistics {
    fn of(raw: &rdkafka::Statistics) -> Self {
        let brokers = || raw.brokers.values().filter(|broker| broker.source != "internal");
        let (mut bytes, mut records, mut batches) = (0, 0, 0);
        for topic in raw.topics.values() {
            bytes += topic.batchsize.sum;
            records += topic.batchcnt.sum;
            batches += topic.batchsize.cnt;
        }
        Self {
            brokers_up: brokers().filter(|broker| broker.state == "UP").count(),
            brokers: brokers().filter(|broker| broker.nodeid >= 0).count(),
            queued_records: raw.msg_cnt,
            queued_bytes: raw.msg_size,
            requests: u64::try_from(raw.tx).unwrap_or(0),
            sent_bytes: u64::try_from(raw.tx_bytes).unwrap_or(0),
            sent_records: u64::try_from(raw.txmsgs).unwrap_or(0),
            retries: brokers().map(|broker| broker.txretries).sum(),
            request_timeouts: brokers().map(|broker| broker.req_timeouts).sum(),
            round_trip_p99_us: brokers().filter_map(|broker| broker.rtt.as_ref()).map(|rtt| rtt.p99).max().unwrap_or(0),
            throttle_max_ms: brokers()
                .filter_map(|broker| broker.throttle.as_ref())
                .map(|throttle| throttle.max)
                .max()
                .unwrap_or(0),
            batch_bytes_mean: bytes / batches.max(1),
            batch_records_mean: records / batches.max(1),
        }
    }
}

//! What the pipeline is doing, written by the wire thread and the monitor, read by probes, `/status` and metrics.

use relay_core::Lsn;
use relay_core::session::{SnapshotProgress, State};
use relay_postgres::OutboxFacts;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Shared by every part of the process.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    started: Instant,
    progress: Mutex<Progress>,
    slot: Mutex<Option<SlotFacts>>,
    server: Mutex<ServerFacts>,
    outboxes: Mutex<Vec<OutboxFacts>>,
    routes: Mutex<Vec<RouteCount>>,
    beats: [AtomicU64; 3],
    seen: [AtomicU64; 2],
}

/// Loops whose heartbeat `/livez` watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loop {
    /// The wire thread: reads, encodes, enqueues.
    Reader = 0,
    /// The sink's poll thread.
    Ack = 1,
    /// Checkpoint stores: beaten while none is overdue.
    Checkpoint = 2,
}

/// The two sides that `/readyz` wants to have been seen lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// PostgreSQL.
    Source = 0,
    /// Kafka.
    Sink = 1,
}

/// The session as of the last turn of the wire thread.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// What it is doing.
    pub(crate) state: State,
    /// Whether it holds the slot.
    pub(crate) is_leader: bool,
    /// Whether a first attempt at PostgreSQL has been made.
    pub(crate) has_tried: bool,
    /// Reason for `/readyz` while the stream is up but does not move: `topic_missing:x`, `poison_stopped`, …
    pub(crate) blocked: Option<String>,
    /// What went wrong last, if it still matters.
    pub(crate) last_error: Option<LastError>,
    /// Whether `last_error` is what keeps it from streaming now.
    pub(crate) is_faulty: bool,
    /// Reason for `/readyz` that the fault gives.
    pub(crate) fault_reason: Option<&'static str>,
    /// Highest position received on this connection.
    pub(crate) received: Lsn,
    /// Durable position.
    pub(crate) frontier: Lsn,
    /// Stored position.
    pub(crate) checkpoint: Lsn,
    /// Position told to PostgreSQL.
    pub(crate) confirmed: Lsn,
    /// What is published and stored, as a snapshot, where that is known.
    pub(crate) published: Option<relay_core::Snapshot>,
    /// The snapshot in work.
    pub(crate) snapshot: Option<SnapshotProgress>,
    /// Rows of snapshots since the process began.
    pub(crate) snapshot_rows: u64,
    /// Chunks of snapshots that were read again.
    pub(crate) snapshot_rereads: u64,
    /// Events in flight.
    pub(crate) in_flight_events: u64,
    /// Bytes in flight.
    pub(crate) in_flight_bytes: u64,
    /// Commit time of the oldest transaction that is not durable, microseconds since the Unix epoch; `None` when caught up.
    pub(crate) oldest_commit_us: Option<i64>,
    /// Epoch of this start's checkpoints; 0 before one is claimed.
    pub(crate) timeline: u32,
    /// System identifier of the server.
    pub(crate) system_id: String,
}

/// The last error, for people.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct LastError {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: &'static str,
    /// RFC 3339, UTC.
    pub(crate) at: String,
}

/// The slot as the monitor last saw it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SlotFacts {
    pub(crate) active_pid: Option<i32>,
    pub(crate) wal_status: Option<String>,
    pub(crate) safe_wal_bytes: Option<i64>,
    pub(crate) confirmed_lsn: Lsn,
    pub(crate) restart_lsn: Lsn,
    pub(crate) wal_end: Lsn,
    pub(crate) retained_bytes: u64,
    pub(crate) catalog_xmin_age: Option<i64>,
    /// Unix seconds; 17+.
    pub(crate) inactive_since: Option<f64>,
}

/// The server as the monitor last saw it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ServerFacts {
    /// Oldest open writer: age in seconds, who.
    pub(crate) oldest_transaction: Option<(f64, String)>,
    /// The server's clock minus ours, in microseconds, as of this look.
    pub(crate) clock_ahead_us: i64,
}

/// Events that one table or message prefix has sent.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct RouteCount {
    pub(crate) source: String,
    pub(crate) topic: String,
    pub(crate) events: u64,
}

// === impl Status ===

impl Status {
    pub(crate) fn new() -> Self {
        let progress = Progress {
            state: State::Connecting,
            is_leader: false,
            has_tried: false,
            blocked: None,
            last_error: None,
            is_faulty: false,
            fault_reason: None,
            received: Lsn::ZERO,
            frontier: Lsn::ZERO,
            checkpoint: Lsn::ZERO,
            confirmed: Lsn::ZERO,
            published: None,
            snapshot: None,
            snapshot_rows: 0,
            snapshot_rereads: 0,
            in_flight_events: 0,
            in_flight_bytes: 0,
            oldest_commit_us: None,
            timeline: 0,
            system_id: String::new(),
        };
        let inner = Inner {
            started: Instant::now(),
            progress: Mutex::new(progress),
            slot: Mutex::default(),
            server: Mutex::default(),
            outboxes: Mutex::default(),
            routes: Mutex::default(),
            beats: Default::default(),
            seen: Default::default(),
        };
        let status = Self { inner: Arc::new(inner) };
        for which in [Loop::Reader, Loop::Ack, Loop::Checkpoint] {
            status.beat(which);
        }
        status
    }

    /// The session's progress; hold it briefly.
    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        lock(&self.inner.progress)
    }

    /// The slot's facts; hold them briefly.
    pub(crate) fn slot(&self) -> MutexGuard<'_, Option<SlotFacts>> {
        lock(&self.inner.slot)
    }

    /// The server's facts; hold them briefly.
    pub(crate) fn server(&self) -> MutexGuard<'_, ServerFacts> {
        lock(&self.inner.server)
    }

    /// The outbox tables as the monitor last saw them; hold them briefly.
    pub(crate) fn outboxes(&self) -> MutexGuard<'_, Vec<OutboxFacts>> {
        lock(&self.inner.outboxes)
    }

    /// Events by route; hold them briefly.
    pub(crate) fn routes(&self) -> MutexGuard<'_, Vec<RouteCount>> {
        lock(&self.inner.routes)
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.inner.started.elapsed()
    }

    /// Milliseconds since the process started: the clock of the session.
    pub(crate) fn now_ms(&self) -> u64 {
        self.uptime().as_millis() as u64
    }

    /// A loop is alive.
    pub(crate) fn beat(&self, which: Loop) {
        self.inner.beats[which as usize].store(self.now_ms(), Ordering::Relaxed);
    }

    /// How long a loop has been silent.
    pub(crate) fn silence(&self, which: Loop) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(self.inner.beats[which as usize].load(Ordering::Relaxed)))
    }

    /// A peer answered.
    pub(crate) fn saw(&self, peer: Peer) {
        self.inner.seen[peer as usize].store(self.now_ms() + 1, Ordering::Relaxed);
    }

    /// How long ago a peer answered; `None` when it never has.
    pub(crate) fn unseen_for(&self, peer: Peer) -> Option<Duration> {
        match self.inner.seen[peer as usize].load(Ordering::Relaxed) {
            0 => None,
            at => Some(Duration::from_millis((self.now_ms() + 1).saturating_sub(at))),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Nanoseconds since the Unix epoch by this machine's clock.
pub(crate) fn unix_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}

/// Microseconds since the Unix epoch by this machine's clock.
pub(crate) fn unix_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

//! Status updates, silence, and what becomes of a stream that stands still: everything the server must hear in time.

use super::{Blocked, Config, Stream, Why};
use crate::status::Peer;
use relay_core::session::{Busy, Confirmation, Fault, Input};
use relay_core::{Kind, Lsn};
use relay_failpoint::fail_point;
use relay_pgwire::Status as StandbyStatus;
use std::time::{Duration, Instant};

/// Clocks of the connection.
#[derive(Debug)]
pub(super) struct Confirm {
    status_interval: Duration,
    receive_timeout: Duration,
    shutdown_grace: Duration,
    /// Backend of the last connection that held the slot.
    pid: Option<i32>,
    sent_at: Instant,
    sent: Confirmation,
    heard_at: Instant,
    has_asked: bool,
    /// When anything last moved: a frame read, the frontier, a connection.
    moved_at: Instant,
    moved_to: Lsn,
    probed_at: Instant,
    is_probing: bool,
    shutdown_since: Option<Instant>,
    /// The server wants a word from us.
    is_asked: bool,
    stalled_since: Option<Instant>,
    /// Frames with data so far.
    frames: u64,
    /// Highest position received, frames by then, and since when it is that.
    watched: (Lsn, u64, Instant),
    /// Since when probes find the server unreachable.
    unreachable_since: Option<Instant>,
}

/// At most one status update in this time, however fast the frontier moves: each costs the server work on the slot.
const STATUS_GAP: Duration = Duration::from_millis(100);
/// Microseconds from the Unix epoch to 2000-01-01, PostgreSQL's zero of time.
pub(super) const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// This machine's clock as the protocol counts it: microseconds since 2000-01-01.
pub(super) fn postgres_us() -> i64 {
    crate::status::unix_us() - POSTGRES_EPOCH_US
}

// === impl Confirm ===

impl Confirm {
    pub(super) fn new(config: &Config) -> Self {
        let now = Instant::now();
        Self {
            status_interval: config.status_interval,
            receive_timeout: config.receive_timeout,
            shutdown_grace: config.server_shutdown_grace,
            pid: None,
            sent_at: now,
            sent: Confirmation::default(),
            heard_at: now,
            has_asked: false,
            moved_at: now,
            moved_to: Lsn::ZERO,
            probed_at: now,
            is_probing: false,
            shutdown_since: None,
            is_asked: false,
            stalled_since: None,
            frames: 0,
            watched: (Lsn::ZERO, 0, now),
            unreachable_since: None,
        }
    }

    pub(super) fn connected(&mut self, pid: i32) {
        let now = Instant::now();
        self.pid = Some(pid);
        self.sent = Confirmation::default();
        self.sent_at = now;
        self.heard();
        self.moved_at = now;
        self.shutdown_since = None;
        self.unreachable_since = None;
        self.is_asked = true;
    }

    /// A frame with data was dealt with.
    #[inline]
    pub(super) fn took_data(&mut self) {
        self.frames += 1;
    }

    /// A backend of ours has taken the slot.
    pub(super) fn held_by(&mut self, pid: i32) {
        self.pid = Some(pid);
    }

    /// Something came from the server.
    pub(super) fn heard(&mut self) {
        self.heard_at = Instant::now();
        self.has_asked = false;
    }

    /// The server asked for a reply.
    pub(super) fn asked(&mut self) {
        self.is_asked = true;
    }

    /// Whether that backend is the last that held something for us.
    pub(super) fn is_ours(&self, pid: Option<i32>) -> bool {
        pid == self.pid
    }

    /// Whether the slot is held by somebody else, or by what is left of our own last connection.
    pub(super) fn busy(&self, error: &relay_postgres::Error) -> Busy {
        let fault = error.fault();
        if fault.kind != Kind::SlotBusy {
            return Busy::Fault(fault);
        }
        let holder = match error {
            relay_postgres::Error::Wire(error) => error.server().and_then(relay_pgwire::ServerError::active_pid),
            _ => None,
        };
        if holder.is_some() && holder == self.pid { Busy::OwnGhost } else { Busy::Other(fault) }
    }
}

// === impl Stream ===

impl Stream {
    /// Once a turn: tell the server what is due, listen for silence, notice a standstill.
    pub(super) fn confirm_turn(&mut self, now: Instant) {
        let Some(copy) = &mut self.copy else { return };
        let confirmation = self.session.confirmation();
        let is_due = now.duration_since(self.confirm.sent_at) >= self.confirm.status_interval;
        let has_news = confirmation.flushed > self.confirm.sent.flushed && now.duration_since(self.confirm.sent_at) >= STATUS_GAP;
        // Only silence while we are listening counts: under back-pressure frames wait in the socket.
        let silence = if self.blocked.is_none() && self.session.is_streaming() {
            now.duration_since(self.confirm.heard_at)
        } else {
            self.confirm.heard_at = now;
            Duration::ZERO
        };
        let must_ask = silence >= self.confirm.receive_timeout / 2 && !self.confirm.has_asked;
        if is_due || has_news || must_ask || self.confirm.is_asked {
            self.confirm.has_asked |= must_ask;
            self.confirm.is_asked = false;
            self.confirm.sent_at = now;
            self.confirm.sent = Confirmation { flushed: confirmation.flushed.max(self.confirm.sent.flushed), ..confirmation };
            let status = StandbyStatus {
                written: confirmation.written,
                flushed: confirmation.flushed,
                applied: confirmation.flushed,
                reply_requested: must_ask,
            };
            fail_point!("before-status");
            copy.send_status(status, postgres_us());
            fail_point!("after-status");
        }
        if !self.session.is_streaming() || self.blocked.is_some() {
            // Nobody reads, so nobody flushes either.
            copy.flush();
        }
        // Under back-pressure frames wait in the socket, and the probes stand for them.
        let cut = self.confirm.unreachable_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        let silence = if self.blocked.is_some() { cut } else { silence };
        if silence >= self.confirm.receive_timeout {
            let message = format!("nothing was heard from the server for {silence:.1?}");
            return self.input(Input::Lost(Fault { kind: Kind::SourceSilent, message }));
        }
        self.watchdog(now);
        self.standstill(now);
    }

    /// A stream that brings nothing although the server shows WAL beyond our position is dead, whatever it looks like: end the process, so
    /// that its supervisor starts a fresh one.
    fn watchdog(&mut self, now: Instant) {
        let received = self.session.received();
        let is_waiting = self.blocked.is_some() || !self.session.is_streaming();
        let is_behind = self.status.slot().as_ref().is_some_and(|slot| slot.wal_end > received);
        // Frames within a large transaction are progress, too.
        if (received, self.confirm.frames) != (self.confirm.watched.0, self.confirm.watched.1) || is_waiting || !is_behind {
            self.confirm.watched = (received, self.confirm.frames, now);
        } else if now.duration_since(self.confirm.watched.2) >= self.config.watchdog {
            let directive = Kind::Watchdog.directive();
            let message =
                format!("nothing came beyond {received} for {:?}, although the server has WAL there", self.config.watchdog);
            self.remember_error(Kind::Watchdog, &message);
            tracing::error!(event = "watchdog.fired", error.code = directive.code, hint = directive.hint, "{message}");
            self.exit = Some(1);
        }
    }

    /// A stalled relay blocks a fast shutdown of the server without limit, because its status updates keep the walsender alive. So while
    /// nothing moves, ask on a control connection whether the server is shutting down, and let go if it is.
    fn standstill(&mut self, now: Instant) {
        let frontier = self.session.window().frontier().end_lsn;
        let stands = !self.session.is_streaming() || self.blocked.is_some() || !self.session.window().is_empty();
        if !stands || frontier > self.confirm.moved_to {
            self.confirm.moved_to = frontier;
            self.confirm.moved_at = now;
            self.confirm.shutdown_since = None;
            return;
        }
        if let Some(since) = self.confirm.shutdown_since
            && now.duration_since(since) >= self.confirm.shutdown_grace
        {
            self.confirm.shutdown_since = None;
            let message =
                "the server is shutting down and waits for events that cannot be delivered now; the slot is let go".into();
            return self.input(Input::Lost(Fault { kind: Kind::SourceUnavailable, message }));
        }
        let probe_interval = self.confirm.status_interval.min(Duration::from_secs(2));
        if !self.confirm.is_probing
            && now.duration_since(self.confirm.moved_at) >= probe_interval
            && now.duration_since(self.confirm.probed_at) >= probe_interval
        {
            self.confirm.is_probing = true;
            self.confirm.probed_at = now;
            self.jobs.probe();
        }
    }

    pub(super) fn probed(&mut self, result: Result<(), Fault>) {
        self.confirm.is_probing = false;
        match result {
            Err(fault) if fault.kind == Kind::SourceUnavailable => {
                self.confirm.shutdown_since.get_or_insert_with(Instant::now);
            }
            Err(fault) if matches!(fault.kind, Kind::SourceUnreachable | Kind::SourceLost) => {
                self.confirm.unreachable_since.get_or_insert_with(Instant::now);
            }
            Err(_) => {}
            Ok(()) => {
                self.confirm.unreachable_since = None;
                self.confirm.shutdown_since = None;
                self.status.saw(Peer::Source);
            }
        }
    }

    /// The next frame stays where it is for now.
    pub(super) fn block(&mut self, why: Why, retry_after: Duration) {
        let now = Instant::now();
        let since = match &self.blocked {
            Some(blocked) if blocked.why == why => blocked.since,
            _ => now,
        };
        if why == Why::Full {
            self.confirm.stalled_since.get_or_insert(now);
        }
        self.blocked = Some(Blocked { why, since, retry: now + retry_after });
    }

    /// Reading goes on.
    pub(super) fn unblock(&mut self) {
        if let Some(since) = self.confirm.stalled_since.take() {
            self.metrics.backpressure(since.elapsed().as_secs_f64());
        }
        self.blocked = None;
    }
}

//! The JSON of `/status`, for people and `relay status`. Its field names are a contract.

use serde::Serialize;

use super::Config;
use super::readiness;
use crate::metrics::{LagBytes, lag_seconds, state_name};
use crate::status::{LastError, RouteCount, SlotFacts, Status, unix_us};

/// What the pipeline is and does.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    name: &'a str,
    version: &'static str,
    uptime_seconds: u64,
    state: &'static str,
    reasons: Vec<String>,
    leader: bool,
    mode: &'static str,
    guarantee: &'static str,
    slot: Option<Slot<'a>>,
    position: Positions,
    lag: Lag,
    in_flight: InFlight,
    routes: Vec<RouteCount>,
    snapshot: serde_json::Value,
    oldest_transaction: Option<Writer>,
    last_error: Option<LastError>,
}

#[derive(Debug, Serialize)]
struct Slot<'a> {
    name: &'a str,
    active_pid: Option<i32>,
    confirmed_lsn: String,
    restart_lsn: String,
    retained_bytes: u64,
    wal_status: Option<String>,
    safe_wal_bytes: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Positions {
    received: String,
    frontier: String,
    checkpoint: String,
    confirmed: String,
}

/// `bytes` is null while it is not known where the server stands.
#[derive(Debug, Serialize)]
struct Lag {
    seconds: f64,
    bytes: Option<LagBytes>,
}

#[derive(Debug, Serialize)]
struct InFlight {
    events: u64,
    bytes: u64,
}

/// The oldest open writer: a backend by its pid, or a prepared transaction by its gid.
#[derive(Debug, PartialEq, Serialize)]
struct Writer {
    seconds: f64,
    pid: Option<i64>,
    gid: Option<String>,
}

// === impl Summary ===

impl<'a> Summary<'a> {
    pub(super) fn of(config: &'a Config, status: &Status) -> Self {
        let reasons = readiness::ready(status, config.not_ready_after).reasons().into_iter().map(str::to_owned).collect();
        let progress = status.progress().clone();
        let slot = status.slot().clone();
        let server = status.server().clone();
        let now_us = unix_us();
        Self {
            name: &config.name,
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: status.uptime().as_secs(),
            state: state_name(progress.state),
            reasons,
            leader: progress.is_leader,
            mode: config.mode,
            guarantee: config.guarantee,
            position: Positions {
                received: progress.received.to_string(),
                frontier: progress.frontier.to_string(),
                checkpoint: progress.checkpoint.to_string(),
                confirmed: progress.confirmed.to_string(),
            },
            lag: Lag { seconds: lag_seconds(&progress, &server, now_us), bytes: LagBytes::of(&progress, slot.as_ref()) },
            in_flight: InFlight { events: progress.in_flight_events, bytes: progress.in_flight_bytes },
            routes: status.routes().clone(),
            snapshot: super::snapshot::in_work(&progress),
            oldest_transaction: server.oldest_transaction.as_ref().map(Writer::of),
            slot: slot.map(|facts| Slot::of(&config.slot, facts)),
            last_error: progress.last_error,
        }
    }
}

// === impl Slot ===

impl<'a> Slot<'a> {
    fn of(name: &'a str, facts: SlotFacts) -> Self {
        Self {
            name,
            active_pid: facts.active_pid,
            confirmed_lsn: facts.confirmed_lsn.to_string(),
            restart_lsn: facts.restart_lsn.to_string(),
            retained_bytes: facts.retained_bytes,
            wal_status: facts.wal_status,
            safe_wal_bytes: facts.safe_wal_bytes,
        }
    }
}

// === impl Writer ===

impl Writer {
    /// The monitor writes `pid 4711` or `gid order-42`.
    fn of((seconds, who): &(f64, String)) -> Self {
        let pid = who.strip_prefix("pid ").and_then(|pid| pid.parse().ok());
        let gid = pid.is_none().then(|| who.strip_prefix("gid ").unwrap_or(who).to_owned());
        Self { seconds: *seconds, pid, gid }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_a_backend_or_a_prepared_transaction() {
        let of = |who: &str| Writer::of(&(1.0, who.to_owned()));
        assert_eq!(of("pid 4711"), Writer { seconds: 1.0, pid: Some(4711), gid: None });
        assert_eq!(of("gid pid 7"), Writer { seconds: 1.0, pid: None, gid: Some("pid 7".to_owned()) });
    }
}

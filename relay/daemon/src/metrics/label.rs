//! Turns what is known in advance into label values, so that each of them exists at 0 from the start.

use std::collections::BTreeSet;

use relay_core::error::{Kind, POLICY};
use relay_core::session::{Rewind, State};
use relay_core::sink::PoisonReason;

/// Values of label `state`; this version is never `paused`, but alerts name it.
pub(crate) const STATES: [&str; 7] = ["connecting", "snapshot", "streaming", "standby", "paused", "draining", "failed"];

/// Values of label `status` of `relay_slot_wal_status`.
pub(crate) const WAL_STATUSES: [&str; 4] = ["reserved", "extended", "unreserved", "lost"];

/// Values of label `severity`, as PostgreSQL calls what is less than an error, in lower case.
pub(crate) const SEVERITIES: [&str; 5] = ["debug", "log", "info", "notice", "warning"];

/// Value of label `table` for logical messages, which belong to no table.
pub(crate) const MESSAGES: &str = "_message";

/// Values of label `peer` of `relay_reconnects_total`: replication, queries, Kafka client.
pub(crate) const LINKS: [&str; 3] = ["source", "control", "sink"];

/// Values of label `peer` of `relay_tls_certificate_expiry_timestamp_seconds`.
pub(crate) const PEERS: [&str; 2] = ["source", "sink"];

/// Values of label `reason` of `relay_events_filtered_total`.
pub(crate) const FILTERED: [&str; 8] =
    ["operation", "predicate", "excluded", "origin", "marker_update", "message_prefix", "unrouted", "scheduled"];

/// The value of label `state`, and of `state` in `/status`.
pub(crate) fn state(state: State) -> &'static str {
    match state {
        State::Connecting => "connecting",
        State::Snapshot => "snapshot",
        State::Streaming => "streaming",
        State::Standby => "standby",
        State::Draining => "draining",
        State::Failed => "failed",
    }
}

pub(crate) const REWINDS: [Rewind; 4] = [Rewind::Rejected, Rewind::UnknownTopic, Rewind::Producer, Rewind::Source];

/// Label `outcome` of a Kafka transaction that was committed.
pub(crate) const COMMITTED: &str = "committed";

/// Every value of label `outcome` of `relay_kafka_transactions_total`.
pub(crate) const OUTCOMES: [&str; 4] = [COMMITTED, "aborted", "unknown", "fenced"];

/// The value of label `reason` of `relay_rewinds_total`.
pub(crate) fn rewind(rewind: Rewind) -> &'static str {
    match rewind {
        Rewind::Rejected => "rejected",
        Rewind::UnknownTopic => "unknown_topic",
        Rewind::Producer => "producer",
        Rewind::Source => "source",
    }
}

/// Every pair of stage and class that can occur: those of the policy, and the stages that find poison.
pub(crate) fn errors() -> BTreeSet<(&'static str, &'static str)> {
    let policy = POLICY.iter().map(|row| (row.stage, row.class));
    let poison = PoisonReason::ALL.iter().map(|reason| (reason.stage(), Kind::Poison.directive().class));
    policy.chain(poison).collect()
}

/// Every stage at which something is tried again.
pub(crate) fn stages() -> BTreeSet<&'static str> {
    errors().into_iter().map(|(stage, _)| stage).collect()
}

//! What the wire thread is built from.

use super::{Control, Routes, poll};
use crate::metrics::Metrics;
use crate::status::Status;
use relay_core::Sink;
use relay_core::checkpoint::ReadCheckpoint;
use relay_core::session::Session;
use relay_postgres::Source;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// What to do with an event that cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnPoison {
    /// Stay in front of it, not ready, and look again.
    Stop,
    /// Park it in the dlq topic.
    Dlq,
    /// Count it and go on.
    Skip,
}

/// What the wire thread must know beyond the session.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Pipeline name.
    pub(crate) name: String,
    /// Slot name.
    pub(crate) slot: String,
    /// What to do with poison.
    pub(crate) on_poison: OnPoison,
    /// Topic of the dlq.
    pub(crate) dlq_topic: String,
    /// A published table without a route stops the stream.
    pub(crate) stops_on_unrouted: bool,
    /// Wait before reading again while behind; `None` never waits.
    pub(crate) coalesce: Option<Duration>,
    /// Whether the wait adapts to the load.
    pub(crate) coalesce_is_adaptive: bool,
    /// Largest frame that is kept.
    pub(crate) max_message_bytes: usize,
    /// Silence after which the connection counts as lost.
    pub(crate) receive_timeout: Duration,
    /// Longest time between two status updates.
    pub(crate) status_interval: Duration,
    /// Stalled, and the server shutting down: let go after this.
    pub(crate) server_shutdown_grace: Duration,
    /// No progress for so long while there is WAL to read: end the process.
    pub(crate) watchdog: Duration,
    /// BEGIN and END records and counts are written.
    pub(crate) transaction_metadata: bool,
    /// Messages outside of transactions are published, too.
    pub(crate) loose_messages: bool,
    /// A value that cannot be converted becomes null, and is told of.
    pub(crate) tells_lost_values: bool,
    /// How often Debezium's heartbeat is written.
    pub(crate) heartbeat_interval: Option<Duration>,
}

/// The parts that the wire thread drives.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) session: Session,
    pub(crate) source: Source,
    pub(crate) sink: Box<dyn Sink + Send>,
    pub(crate) store: super::Store,
    pub(crate) reader: Box<dyn ReadCheckpoint>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) status: Status,
    pub(crate) control: Receiver<Control>,
    pub(crate) control_sender: std::sync::mpsc::Sender<Control>,
    pub(crate) window_events: usize,
    /// How to take snapshots, if any table is captured.
    pub(crate) snapshots: Option<super::snapshot::Config>,
    /// How to poll, in place of the slot's stream.
    pub(crate) polling: Option<poll::Config>,
}

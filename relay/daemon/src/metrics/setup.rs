//! What the process is and what it is set up to do: labels of the two info metrics, and limits.

use super::Metrics;
use crate::command::version::COMMIT;
use crate::settings::Settings;

/// What is running.
#[derive(Clone, Debug, Default)]
pub(crate) struct Build {
    pub(crate) version: &'static str,
    pub(crate) commit: &'static str,
    pub(crate) librdkafka: String,
}

/// What the pipeline is set up to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) mode: &'static str,
    pub(crate) guarantee: &'static str,
    pub(crate) slot: String,
    pub(crate) publication: String,
    pub(crate) sink: &'static str,
    /// `source.log.wal_budget`.
    pub(crate) wal_budget_bytes: Option<u64>,
    /// Budget of the buffer between PostgreSQL and Kafka.
    pub(crate) memory_limit_bytes: u64,
}

// === impl Metrics ===

impl Metrics {
    /// The metrics of a pipeline with these settings.
    pub(crate) fn new(settings: &Settings) -> Self {
        let build = Build { version: env!("CARGO_PKG_VERSION"), commit: COMMIT, librdkafka: relay_kafka::librdkafka_version() };
        let setup = Setup {
            mode: settings.source.mode.as_str(),
            guarantee: settings.delivery.guarantee.as_str(),
            slot: settings.source.log.slot.clone(),
            publication: settings.source.log.publication.clone(),
            sink: settings.sink.kind.as_str(),
            wal_budget_bytes: settings.source.log.wal_budget.map(|budget| budget.bytes()),
            memory_limit_bytes: settings.delivery.in_flight.bytes(),
        };
        Self::with(&settings.name, settings.admin.label_limit as usize, build, setup)
    }
}

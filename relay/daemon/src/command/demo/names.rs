//! Turns "whose servers are these" into the names of everything that the demo makes there.

/// Schema, topics and the rest.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Tells this demo's events from those of another demo on the same topic.
    pub(super) run: String,
    /// Name of the pipeline.
    pub(super) pipeline: String,
    /// Schema of the tables.
    pub(super) schema: &'static str,
    /// The aggregate type, which the topic is named after.
    pub(super) aggregate: &'static str,
    pub(super) checkpoint_topic: String,
    pub(super) dlq_topic: String,
}

/// Slot, publication, and on a server of the user's the schema too.
pub(super) const SLOT: &str = "relay_demo";

// === impl Names ===

impl Names {
    /// On servers of the user's, nothing may meet what is in use there.
    pub(super) fn new(run: String, is_own_postgres: bool, is_own_kafka: bool) -> Self {
        let pipeline = if is_own_kafka { "demo".to_owned() } else { format!("demo_{run}") };
        // Its records are keyed by the pipeline, so that all demos on a cluster can share one topic.
        let prefix = if is_own_kafka { "demo" } else { SLOT };
        Self {
            run,
            pipeline,
            schema: if is_own_postgres { "public" } else { SLOT },
            aggregate: if is_own_kafka { "order" } else { "demo_order" },
            checkpoint_topic: format!("{prefix}.checkpoint"),
            dlq_topic: format!("{prefix}.dlq"),
        }
    }

    pub(super) fn topic(&self) -> String {
        format!("outbox.event.{}", self.aggregate)
    }

    pub(super) fn outbox(&self) -> String {
        format!("{}.outbox", self.schema)
    }

    pub(super) fn orders(&self) -> String {
        format!("{}.orders", self.schema)
    }
}

//! What most stories need: a server with an outbox, a topic of one's own, a relay on both, and rows to write.

use relay_tests::consumer::{Isolation, Rec, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::outbox::Outbox;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use std::time::Duration;

/// A server and an outbox for one pipeline, on the broker that all stories share.
#[derive(Debug)]
pub(crate) struct Scene {
    /// The server.
    pub(crate) db: Postgres,
    /// Its outbox.
    pub(crate) outbox: Outbox,
    /// A topic of four partitions.
    pub(crate) topic: String,
}

/// Short clocks, so that a story takes seconds.
pub(crate) const QUICK: &str = r#"
delivery.checkpoint_interval = "200ms"
delivery.idle_checkpoint_interval = "500ms"
shutdown.grace = "10s"
"#;

// === impl Scene ===

impl Scene {
    /// A fresh server with an outbox called after the pipeline.
    pub(crate) fn new(pipeline: &str, version: Version) -> Scene {
        Scene::on(Postgres::start(version), pipeline)
    }

    /// An outbox on a server that is there already.
    pub(crate) fn on(db: Postgres, pipeline: &str) -> Scene {
        let outbox = db.prepare_outbox(pipeline);
        let topic = format!("{pipeline}.events");
        Kafka::shared().create_topic(&topic, 4, &[]);
        Scene { db, outbox, topic }
    }

    /// A relay that reads it, not started yet.
    pub(crate) fn relay(&self) -> Builder {
        Relay::on(&self.db, Kafka::shared(), &self.outbox).toml(QUICK)
    }

    /// A relay that streams.
    pub(crate) fn streaming(&self) -> Relay {
        let mut relay = self.relay().spawn();
        relay.until_state("streaming", secs(60));
        relay
    }

    /// The record of a poller, once it covers every row that is there: what is not stored comes again to whoever takes over.
    #[track_caller]
    pub(crate) fn until_stored(&self, relay: &Relay) -> serde_json::Value {
        until("a checkpoint behind every row", secs(60), || {
            let shown = relay.run(&["checkpoint", "show", "--json"]);
            let record: serde_json::Value = serde_json::from_slice(&shown.stdout).ok()?;
            let seen = record["poll"]["snapshot"].as_str()?;
            let sql = format!("SELECT bool_and(pg_visible_in_snapshot(xid, '{seen}')) FROM {}", self.outbox.table);
            (self.db.sql(&sql).one() == "t").then_some(record)
        })
    }

    /// Writes rows `from..=to` in one transaction: key `k<n mod 5>`, payload `{"n": n}`.
    pub(crate) fn write(&self, from: u64, to: u64) {
        self.write_to(&self.topic, from, to);
    }

    /// As [`Scene::write`], to another topic.
    pub(crate) fn write_to(&self, topic: &str, from: u64, to: u64) {
        self.db.sql(&format!(
            "INSERT INTO {} (topic, key, type, payload) SELECT '{topic}', 'k' || n % 5, 'Written', jsonb_build_object('n', n) \
             FROM generate_series({from}, {to}) AS n",
            self.outbox.table
        ));
    }

    /// The numbers in the scene's topic, once there are `count` records or more.
    #[track_caller]
    pub(crate) fn numbers(&self, count: usize, limit: Duration) -> Vec<u64> {
        self.records(count, limit).iter().map(number).collect()
    }

    /// The records of the scene's topic, once there are `count` or more.
    #[track_caller]
    pub(crate) fn records(&self, count: usize, limit: Duration) -> Vec<Rec> {
        records(&self.topic, count, limit)
    }
}

/// The records of a topic on the shared broker, once there are `count` or more.
#[track_caller]
pub(crate) fn records(topic: &str, count: usize, limit: Duration) -> Vec<Rec> {
    until(&format!("{count} records in {topic}"), limit, || {
        let records = read_all(&Kafka::shared().brokers(), &[topic], Isolation::Committed);
        (records.len() >= count).then_some(records)
    })
}

/// Waits until a metric has that value: a record is with its readers before it is counted.
#[track_caller]
pub(crate) fn until_counted(relay: &Relay, series: &str, value: f64) {
    until(&format!("{series} to be {value}"), secs(60), || (relay.metric(series) == Some(value)).then_some(()));
}

/// The `n` of a record's payload.
pub(crate) fn number(record: &Rec) -> u64 {
    record.json()["n"].as_u64().unwrap_or_else(|| panic!("no number in {record:?}"))
}

/// The same numbers, sorted.
pub(crate) fn sorted(mut numbers: Vec<u64>) -> Vec<u64> {
    numbers.sort_unstable();
    numbers
}

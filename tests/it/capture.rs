//! Captured tables: what each statement becomes, and what changes of tables mean for the stream.

mod ddl;
mod dml;
mod messages;

use crate::scene::QUICK;
use relay_tests::consumer::{Isolation, Rec, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, try_until, until};
use serde_json::Value;

/// A server whose schema `public` is captured, and a relay that streams it.
pub(crate) struct Captured {
    pub(crate) db: Postgres,
    pub(crate) relay: Relay,
    name: String,
}

const BOTH: [Version; 2] = [Version::V15, Version::V18];

// === impl Captured ===

impl Captured {
    /// Makes the tables, each with a topic of one partition, and a publication of them; starts a relay with more of a configuration.
    fn start(name: &str, version: Version, tables: &[&str], ddl: &str, toml: &str) -> Self {
        let name = format!("{name}{}", version as u32);
        let ddl = &ddl.replace("{name}", &name);
        let db = Postgres::start(version);
        db.prepare_roles();
        db.sql(ddl);
        if !ddl.contains("CREATE PUBLICATION") {
            let list = if tables.is_empty() { String::new() } else { format!("FOR TABLE {}", tables.join(", ")) };
            db.sql(&format!("CREATE PUBLICATION relay_{name} {list} WITH (publish_via_partition_root = true)"));
        }
        for table in tables {
            Kafka::shared().create_topic(&format!("{name}.public.{table}"), 1, &[]);
        }
        for topic in ["message", "transaction"] {
            Kafka::shared().create_topic(&format!("{name}.{topic}"), 1, &[]);
        }
        let relay = builder(&db, &name, toml).spawn();
        let mut captured = Self { db, relay, name };
        captured.relay.until_state("streaming", secs(60));
        captured
    }

    fn topic(&self, table: &str) -> String {
        format!("{}.public.{table}", self.name)
    }

    /// The records of a table's topic, once there are `count` or more.
    #[track_caller]
    fn records(&self, table: &str, count: usize) -> Vec<Rec> {
        self.records_of(&self.topic(table), count)
    }

    #[track_caller]
    fn records_of(&self, topic: &str, count: usize) -> Vec<Rec> {
        let kafka = Kafka::shared();
        kafka.until_topic_exists(topic, secs(60));
        let mut found = Vec::new();
        let records = try_until(secs(60), || {
            found = read_all(&kafka.brokers(), &[topic], Isolation::Committed);
            (found.len() >= count).then(|| std::mem::take(&mut found))
        });
        records.unwrap_or_else(|| panic!("{count} records in {topic}: {:?}\n{}", shapes(&found), self.relay.logs()))
    }

    /// The log has a line with all of these.
    #[track_caller]
    fn until_logged(&self, parts: &[&str]) -> String {
        until(&format!("a line with {parts:?}"), secs(60), || {
            self.relay.logs().lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
    }
}

fn builder(db: &Postgres, name: &str, toml: &str) -> Builder {
    let toml =
        if toml.contains("[[capture]]") { toml.to_owned() } else { format!("{toml}\n[[capture]]\ntables = [\"public.*\"]") };
    let builder = Builder::new(name).url(&db.url("relay")).brokers(&Kafka::shared().brokers()).toml(QUICK);
    // These stories are of the stream alone; their role may not even read the tables.
    builder.toml("snapshot.mode = \"never\"").toml(&toml)
}

/// Operation, key, before and after of a record; a tombstone is `-`.
fn shape(record: &Rec) -> String {
    let key = record.key_text().unwrap_or("null");
    match record.value_text() {
        None => format!("- {key}"),
        Some(_) => {
            let value = record.json();
            format!("{} {key} {} {}", value["op"].as_str().unwrap_or("?"), value["before"], value["after"])
        }
    }
}

fn shapes(records: &[Rec]) -> Vec<String> {
    records.iter().map(shape).collect()
}

/// The values of records that are no tombstones.
fn values(records: &[Rec]) -> Vec<Value> {
    records.iter().filter(|record| record.value_text().is_some()).map(Rec::json).collect()
}

/// Position headers of records.
fn positions(records: &[Rec]) -> Vec<&str> {
    records.iter().map(|record| record.header("relay-pos").unwrap_or("none")).collect()
}

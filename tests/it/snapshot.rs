//! Snapshots of captured tables on real servers: handed over to the stream, between watermarks, asked for.

mod asked;
mod export;
mod poison;
mod watermark;

use crate::scene::QUICK;
use relay_tests::consumer::{Isolation, Rec, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::proxy::Proxy;
use relay_tests::relay::{Builder, Relay};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A server, and how its schema `public` is captured.
pub(crate) struct Snap {
    pub(crate) db: Postgres,
    name: String,
}

// === impl Snap ===

impl Snap {
    /// Makes the tables, each with a topic of one partition, and a publication of them; the slot is relay's to make.
    fn new(name: &str, version: Version, tables: &[&str], ddl: &str) -> Self {
        let name = format!("{name}{}", version as u32);
        let db = Postgres::start(version);
        db.prepare_roles();
        db.sql(ddl);
        db.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO relay");
        for table in tables {
            Kafka::shared().create_topic(&format!("{name}.public.{table}"), 1, &[]);
        }
        let snap = Self { db, name };
        if !tables.is_empty() {
            snap.publish(&format!("FOR TABLE {} WITH (publish_via_partition_root = true)", tables.join(", ")));
        }
        snap
    }

    /// As the owner of publications makes one.
    fn publish(&self, what: &str) {
        self.db.sql(&format!("DROP PUBLICATION IF EXISTS relay_{}", self.name));
        self.db.sql(&format!("CREATE PUBLICATION relay_{} {what}", self.name));
    }

    /// So that relay does not make it, and rows are read beside the stream.
    fn make_slot(&self) {
        self.db.sql(&format!("SELECT pg_create_logical_replication_slot('relay_{}', 'pgoutput')", self.name));
    }

    fn relay(&self, toml: &str) -> Builder {
        let capture = if toml.contains("[[capture]]") { "" } else { "\n[[capture]]\ntables = [\"public.*\"]" };
        Builder::new(&self.name)
            .url(&self.db.url("relay"))
            .brokers(&Kafka::shared().brokers())
            .toml(QUICK)
            .toml(&format!("{toml}{capture}"))
    }

    /// As [`Snap::relay`], behind a proxy that holds a snapshot back, so that a story may meddle with it on any machine.
    fn relay_behind(&self, proxy: &Proxy, toml: &str) -> Builder {
        self.relay(toml).url(&self.db.url_through("relay", proxy.port()))
    }

    fn topic(&self, table: &str) -> String {
        format!("{}.public.{table}", self.name)
    }

    fn records(&self, table: &str) -> Vec<Rec> {
        read_all(&Kafka::shared().brokers(), &[&self.topic(table)], Isolation::Committed)
    }

    /// The records of a table's topic once there are so many.
    #[track_caller]
    fn until_records(&self, relay: &Relay, table: &str, count: usize) -> Vec<Rec> {
        let mut found = Vec::new();
        until(&format!("{count} records of {table}, with {} and {}", found.len(), relay.logs()), secs(120), || {
            found = self.records(table);
            (found.len() >= count).then(|| std::mem::take(&mut found))
        })
    }
}

#[track_caller]
fn until_logged(relay: &Relay, parts: &[&str]) -> String {
    let until = Instant::now() + secs(180);
    loop {
        let logs = relay.logs();
        if let Some(line) = logs.lines().find(|line| parts.iter().all(|part| line.contains(part))) {
            return line.to_owned();
        }
        assert!(Instant::now() < until, "no line with {parts:?} in {logs}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Operation and marker of each record that is no tombstone.
fn markers(records: &[Rec]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let records = records.iter().filter(|record| record.value_text().is_some()).map(Rec::json);
    records.map(|value| (text(&value["op"]), text(&value["source"]["snapshot"]))).collect()
}

/// What a consumer that keeps the last record of each key has: the rows' columns.
fn last_images(records: &[Rec]) -> BTreeMap<String, Value> {
    let mut rows = BTreeMap::new();
    for record in records {
        let Some(key) = record.key_text() else { continue };
        match record.value_text().map(|_| record.json()["after"].clone()) {
            Some(after) if !after.is_null() => rows.insert(key.to_owned(), after),
            _ => rows.remove(key),
        };
    }
    rows
}

/// The rows of `public.t (id, v)` as the server has them.
fn rows_of(db: &Postgres) -> BTreeMap<String, Value> {
    let rows = db.superuser().query("SELECT id::bigint, v::bigint FROM t", &[]).expect("the rows");
    let row = |row: &postgres::Row| {
        let (id, v): (i64, i64) = (row.get(0), row.get(1));
        (format!("{{\"id\":{id}}}"), serde_json::json!({"id": id, "v": v}))
    };
    rows.iter().map(row).collect()
}

/// Every row that the server has is published, its newest image last, and none that it has not.
#[track_caller]
fn until_equal(snap: &Snap, relay: &Relay) {
    until(&format!("the topic to equal the table; the log: {}", relay.logs()), secs(180), || {
        (last_images(&snap.records("t")) == rows_of(&snap.db)).then_some(())
    });
}

/// No image of a row read by a snapshot follows a newer one: `v` only grows.
#[track_caller]
fn check_order(records: &[Rec]) {
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    for record in records.iter().filter(|record| record.value_text().is_some()) {
        let value = record.json();
        let Some(v) = value["after"]["v"].as_i64() else { continue };
        let key = record.key_text().unwrap_or_default().to_owned();
        let before = newest.get(&key).copied().unwrap_or(i64::MIN);
        if value["op"] == "r" {
            assert!(v >= before, "{key}: an image with v = {v} follows one with {before}");
        }
        newest.insert(key, before.max(v));
    }
}

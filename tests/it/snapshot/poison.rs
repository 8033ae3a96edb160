//! Rows of a snapshot that cannot be published: found before they are sent, or refused by the broker; only they meet the policy.

use super::{Snap, until_logged};
use crate::scene::{records, until_counted};
use relay_tests::consumer::Rec;
use relay_tests::kafka::Kafka;
use relay_tests::proxy::Proxy;
use relay_tests::relay::Relay;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, try_until, until};
use std::collections::BTreeSet;

/// The ids of rows that were published, each once.
fn ids(records: &[Rec]) -> BTreeSet<i64> {
    records.iter().map(|record| record.json()["after"]["id"].as_i64().expect("an id")).collect()
}

fn until_ids(snap: &Snap, relay: &Relay, table: &str, wanted: &BTreeSet<i64>) {
    until(&format!("every row but the culprits; {}", relay.logs()), secs(180), || {
        (ids(&snap.records(table)) == *wanted).then_some(())
    });
}

/// A value that has no exact decimal, and one that is larger than the topic takes: in the slot's snapshot and beside the stream.
#[test]
fn a_row_that_cannot_be_written_stops_a_snapshot_or_is_parked_by_table_and_key() {
    let ddl = "CREATE TABLE n (id int PRIMARY KEY, v numeric(10,2), body text, secret text); \
               INSERT INTO n SELECT g, CASE WHEN g IN (4, 7) THEN 'NaN'::numeric ELSE g END, \
               repeat('x', CASE g WHEN 9 THEN 5000 ELSE 1 END), \
               'canary' FROM generate_series(1, 12) g";
    for (name, has_slot, stops) in [("badstop", false, true), ("badbeside", true, true), ("badpark", false, false)] {
        let snap = Snap::new(name, Version::V15, &["n"], ddl);
        Kafka::shared().alter_topic(&snap.topic("n"), &[("max.message.bytes", "3000")]);
        if has_slot {
            snap.make_slot();
        }
        let capture = "[[capture]]\ntables = [\"public.n\"]\n[capture.columns]\nexclude = [\"public.n.secret\"]\n";
        let mut relay =
            snap.relay(&format!("delivery.on_poison = \"{}\"\n{capture}", if stops { "stop" } else { "dlq" })).spawn();
        if stops {
            until("poison_stopped", secs(60), || {
                relay_tests::http::get(relay.port(), "/readyz").ok()?.body.contains("poison_stopped").then_some(())
            });
            assert_eq!(
                ids(&snap.until_records(&relay, "n", 3)),
                BTreeSet::from([1, 2, 3]),
                "nothing behind the row that stops it"
            );
            let line = until_logged(&relay, &["event.poison", "R0401"]);
            assert!(line.contains("public.n"), "{line}");
            relay.terminate();
            relay.reconfigure("delivery.on_poison = \"dlq\"").start_again();
        }
        until_ids(&snap, &relay, "n", &(1..=12).filter(|id| ![4, 7, 9].contains(id)).collect());
        let parked = records(&format!("{}.dlq", snap.name), 3, secs(60));
        let keys: BTreeSet<&str> = parked.iter().filter_map(Rec::key_text).collect();
        assert_eq!(keys.len(), 3, "an entry for each: {keys:?}");
        for (record, id) in parked.iter().zip([4, 7, 9]) {
            let position = record.header("relay-origin-pos").expect("a position");
            let key = format!("{}/{position}/{}/{{\"id\":{id}}}", snap.name, snap.topic("n"));
            assert_eq!(record.key_text(), Some(key.as_str()));
            assert_eq!(record.header("relay-origin-table"), Some("public.n"));
            assert_eq!(record.header("relay-origin-key"), Some(format!("{{\"id\":{id}}}").as_str()));
            assert!(!record.value_text().unwrap_or_default().contains("canary"), "a column that is left out stays out");
        }
        until_counted(&relay, "relay_dlq_events_total{reason=\"encode\"}", 2.0);
        until_counted(&relay, "relay_dlq_events_total{reason=\"too_large\"}", 1.0);
        assert_eq!(relay.metric("relay_rewinds_total{reason=\"rejected\"}"), Some(0.0));
        until_logged(&relay, &["snapshot.done"]);
    }
}

/// The topic takes less than relay knows: the broker refuses a batch, and the row is looked for, one record at a time.
#[test]
fn one_row_that_the_broker_refuses_does_not_take_its_neighbours_along() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL; \
               INSERT INTO t SELECT g, CASE g WHEN 900 THEN (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 15000) i) END \
               FROM generate_series(1, 1000) g";
    for (name, is_ours) in [("culpritfirst", true), ("culpritbeside", false)] {
        let snap = Snap::new(name, Version::V18, &["t"], ddl);
        let lower = || Kafka::shared().alter_topic(&snap.topic("t"), &[("max.message.bytes", "20000")]);
        let proxy = Proxy::start(snap.db.port());
        let toml = "delivery.on_poison = \"dlq\"\n[admin]\ntoken = \"t\"\n[snapshot]\nchunk = 100\nthreads = 1\n";
        let mut relay;
        if is_ours {
            // The large row alone takes half a minute.
            proxy.bandwidth(15_000);
            relay = snap.relay_behind(&proxy, toml).spawn();
            until("the first rows", secs(60), || (!snap.records("t").is_empty()).then_some(()));
            relay.pause();
            lower();
            relay.resume();
            proxy.heal();
        } else {
            relay = snap.relay_behind(&proxy, &format!("{toml}mode = \"never\"")).spawn();
            relay.until_state("streaming", secs(60));
            snap.db.sql("UPDATE t SET v = 'known' WHERE id = 1");
            snap.until_records(&relay, "t", 1);
            lower();
            assert!(relay.run(&["snapshot", "start", "public.t"]).status.success());
        }
        until_ids(&snap, &relay, "t", &(1..=1_000).filter(|id| *id != 900).collect());
        let parked = records(&format!("{}.dlq", snap.name), 1, secs(60));
        assert_eq!(parked.len(), 1, "the culprit alone is parked");
        assert_eq!(parked[0].header("relay-origin-table"), Some("public.t"));
        assert_eq!(parked[0].header("relay-origin-key"), Some("{\"id\":900}"));
        assert!(relay.metric("relay_rewinds_total{reason=\"rejected\"}").unwrap_or(0.0) >= 1.0, "the broker refused it");
        until_logged(&relay, &["snapshot.done"]);
    }
}

/// Rows of a snapshot belong to no transaction: the records of those beside them count what the stream has.
#[test]
fn transactions_are_told_of_beside_a_snapshot_and_do_not_count_its_rows() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 500) g";
    let snap = Snap::new("counted", Version::V15, &["t"], ddl);
    let topic = format!("{}.transaction", snap.name);
    Kafka::shared().create_topic(&topic, 1, &[]);
    let toml = "format.transaction_metadata = true\n[admin]\ntoken = \"t\"\n[snapshot]\nchunk = 50";
    let mut relay = snap.relay(toml).spawn();
    relay.until_state("streaming", secs(60));
    assert!(relay.run(&["snapshot", "start", "public.t"]).status.success());
    (1..=20).for_each(|v| drop(snap.db.sql(&format!("UPDATE t SET v = {v} WHERE id % 50 = {v}"))));
    until_logged(&relay, &["snapshot.done", "\"snapshot\":2"]);
    let found = until("every update", secs(60), || {
        let found = snap.records("t");
        (found.iter().filter(|record| record.json()["op"] == "u").count() >= 200).then_some(found)
    });
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for value in found.iter().map(Rec::json) {
        match value["op"].as_str() {
            Some("r") => assert!(value["transaction"].is_null(), "{value}"),
            _ => *counts.entry(value["transaction"]["id"].as_str().expect("an id").to_owned()).or_default() += 1,
        }
    }
    assert_eq!(counts.len(), 20);
    // The records of a transaction follow its last change, and the marks of the snapshot have some, too.
    let mut ends = std::collections::BTreeMap::<String, u64>::new();
    let is_told = try_until(secs(60), || {
        let told = records(&topic, 40, secs(60));
        ends = (told.iter().map(Rec::json).filter(|value| value["status"] == "END"))
            .map(|value| (value["id"].as_str().expect("an id").to_owned(), value["event_count"].as_u64().expect("a count")))
            .filter(|(_, count)| *count > 0)
            .collect();
        (ends == counts).then_some(())
    });
    assert!(is_told.is_some(), "told on the left, counted on the right: {ends:?} {counts:?}");
}

/// A database without an encoding holds any bytes: asked for UTF-8, the server fails at such a row for ever, in tables and in the log.
#[test]
fn text_of_a_database_without_an_encoding_meets_the_policy() {
    let ddl = "CREATE DATABASE raw ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
    let snap = Snap::new("rawtext", Version::V15, &[], ddl);
    Kafka::shared().create_topic(&snap.topic("t"), 1, &[]);
    let mut raw = snap.db.connect("postgres", "raw").expect("the database");
    let insert = |id: u32| format!("INSERT INTO t VALUES ({id}, convert_from('\\xff41', 'SQL_ASCII'))");
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); GRANT SELECT ON t TO relay";
    raw.batch_execute(&format!("{table}; CREATE PUBLICATION relay_{} FOR TABLE t; {}", snap.name, insert(1))).expect("a table");
    let url = format!("postgres://relay@127.0.0.1:{}/raw", snap.db.port());
    let mut relay = snap.relay("format.invalid_utf8 = \"replace\"").url(&url).spawn();
    relay.until_state("streaming", secs(60));
    raw.batch_execute(&insert(2)).expect("a row");
    let records = snap.until_records(&relay, "t", 2);
    assert!(records.iter().all(|record| record.json()["after"]["v"] == "\u{fffd}A"), "{records:?}");
    assert_eq!(ids(&records), BTreeSet::from([1, 2]));
}

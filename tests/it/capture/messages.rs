//! Logical messages, transaction records, heartbeats, and changes that cannot be published.

use super::{BOTH, Captured, positions, shapes, values};
use crate::scene::records;
use relay_tests::kafka::Kafka;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

const MESSAGES: &str =
    "[source.log]\nmessages = [\"app.*\"]\nnontransactional_messages = true\n[format]\ntransaction_metadata = true";

#[test]
fn messages_and_transactions_have_records_of_their_own() {
    for version in BOTH {
        let ddl =
            "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE TABLE outside (id int PRIMARY KEY)";
        let toml = format!("{MESSAGES}\n[[capture]]\ntables = [\"public.t\", \"public.u\"]");
        let captured = Captured::start("msg", version, &["t", "u", "outside"], ddl, &toml);
        let db = &captured.db;
        let mut client = db.superuser();
        let mut work = client.transaction().unwrap();
        work.batch_execute(
                " INSERT INTO t VALUES (1), (2); SELECT pg_logical_emit_message(true, 'app.a', 'in'); \
                 SELECT pg_logical_emit_message(true, 'other', 'nobody'); SELECT pg_logical_emit_message(false, 'app.b', 'beside'); \
                 UPDATE t SET id = 3 WHERE id = 2; INSERT INTO u VALUES (1); INSERT INTO outside VALUES (1); DELETE FROM t",
            )
            .unwrap();
        let xid: i64 = work.query_one("SELECT txid_current()", &[]).unwrap().get(0);
        work.commit().unwrap();
        db.sql("BEGIN; SELECT pg_logical_emit_message(false, 'app.b', 'stays'); INSERT INTO t VALUES (9); ROLLBACK");
        db.sql("SELECT pg_logical_emit_message(true, 'relay.own', 'quiet'); INSERT INTO outside VALUES (2)");

        let found = captured.records_of(&format!("{}.message", captured.name), 3);
        let told: Vec<_> = found
            .iter()
            .map(|record| {
                let value = record.json();
                let source = &value["source"];
                (record.key_text().unwrap_or_default().to_owned(), value["message"]["content"].clone(), source["txId"].is_null())
            })
            .collect();
        // `beside` stands in the log before the commit of its writer.
        let want = [("app.b", "YmVzaWRl", true), ("app.a", "aW4=", false), ("app.b", "c3RheXM=", true)]
            .map(|(prefix, content, is_loose)| (format!("{{\"prefix\":\"{prefix}\"}}"), content.into(), is_loose));
        assert_eq!(told, want);
        let places = positions(&found);
        assert!(places[0].ends_with(".m") && places[1].ends_with(".2") && places[2].ends_with(".m"), "{places:?}");
        assert_eq!(found[1].json()["transaction"]["total_order"], 3);
        assert_eq!(found[0].json()["transaction"], serde_json::Value::Null);

        let found = captured.records_of(&format!("{}.transaction", captured.name), 4);
        let told: Vec<_> = values(&found).iter().map(|value| (value["status"].clone(), value["event_count"].clone())).collect();
        assert_eq!(
            told,
            [
                ("BEGIN".into(), serde_json::Value::Null),
                ("END".into(), 8.into()),
                ("BEGIN".into(), serde_json::Value::Null),
                ("END".into(), 0.into())
            ]
        );
        let end = found[1].json();
        let id = end["id"].as_str().unwrap_or_default();
        assert!(id.starts_with(&format!("{xid}:")), "{id} {xid}");
        assert_eq!(found[1].key_text(), Some(format!("{{\"id\":\"{id}\"}}").as_str()));
        let want = serde_json::json!([
            {"data_collection": "public.t", "event_count": 6},
            {"data_collection": "LOGICAL_DECODING_MESSAGE", "event_count": 1},
            {"data_collection": "public.u", "event_count": 1},
        ]);
        assert_eq!(end["data_collections"], want);
        assert!(positions(&found)[0].ends_with(".b") && positions(&found)[1].ends_with(".e"));
        let orders: Vec<_> = values(&captured.records("t", 9))
            .iter()
            .map(|value| {
                let block = &value["transaction"];
                assert_eq!(block["id"], id);
                (block["total_order"].as_u64().unwrap(), block["data_collection_order"].as_u64().unwrap())
            })
            .collect();
        assert_eq!(orders, [(1, 1), (2, 2), (4, 3), (5, 4), (7, 5), (8, 6)]);
        // Everything of it is confirmed in the end.
        let end = db.sql("SELECT pg_current_wal_flush_lsn()").one().to_owned();
        until("the confirmation", secs(60), || {
            let sql = format!("SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots");
            (db.sql(&sql).one() == "t").then_some(())
        });
    }
}

#[test]
fn a_message_outside_of_transactions_survives_a_kill_before_its_acknowledgement() {
    let captured = Captured::start("loose", Version::V18, &["t"], "CREATE TABLE t (id int PRIMARY KEY)", MESSAGES);
    let mut captured = captured;
    let topic = format!("{}.message", captured.name);
    captured.db.sql("SELECT pg_logical_emit_message(false, 'app.x', 'one')");
    captured.records_of(&topic, 1);
    captured.relay.kill_9();
    captured.db.sql(
        "SELECT pg_logical_emit_message(false, 'app.x', 'two'); INSERT INTO t VALUES (1); \
         SELECT pg_logical_emit_message(false, 'app.x', 'three')",
    );
    captured.relay.start_again();
    captured.records("t", 1);
    let contents = |count: usize| -> Vec<String> {
        let records = captured.records_of(&topic, count);
        let mut contents: Vec<String> =
            records.iter().map(|record| record.json()["message"]["content"].as_str().unwrap_or_default().to_owned()).collect();
        contents.dedup();
        contents
    };
    until("all messages", secs(60), || (contents(3) == ["b25l", "dHdv", "dGhyZWU="]).then_some(()));
}

#[test]
fn counts_go_on_after_a_stop_in_the_middle_of_a_transaction() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, n numeric)";
    let toml = "[format]\ntransaction_metadata = true\n";
    let mut captured = Captured::start("midway", Version::V15, &["t"], ddl, toml);
    let topic = format!("{}.transaction", captured.name);
    captured.db.sql("INSERT INTO t VALUES (1, 1), (2, 'NaN'), (3, 3)");
    captured.records("t", 1);
    let line = captured.until_logged(&["event.poison", "R0401"]);
    for part in ["\"table\":\"public.t\"", "\"key\":\"{", "\"lsn\":\"0/", "`n`"] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    // The first row is done, and stored as done.
    until("a position in the middle of the transaction", secs(60), || {
        let shown = captured.relay.run(&["checkpoint", "show", "--json"]);
        let record: serde_json::Value = serde_json::from_slice(&shown.stdout).ok()?;
        (record["seq"] == 0).then_some(())
    });
    captured.relay.kill_9();
    captured.relay.reconfigure("[format]\ntransaction_metadata = true\n[delivery]\non_poison = \"skip\"\n[[capture]]");
    captured.relay.start_again();
    let records = captured.records("t", 2);
    let orders: Vec<_> = values(&records).iter().map(|value| value["transaction"]["total_order"].as_u64().unwrap_or(0)).collect();
    assert_eq!((orders.first(), orders.last()), (Some(&1), Some(&3)), "{orders:?}");
    let found = captured.records_of(&topic, 2);
    let told: Vec<_> = values(&found).iter().map(|value| (value["status"].clone(), value["event_count"].clone())).collect();
    assert_eq!(told.last(), Some(&("END".into(), 3.into())));
}

#[test]
fn what_cannot_be_published_of_a_change_is_parked_record_by_record() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, n numeric, pad text); ALTER TABLE t REPLICA IDENTITY FULL";
    let toml = "[delivery]\non_poison = \"dlq\"\n";
    let captured = Captured::start("parked", Version::V18, &["t"], ddl, toml);
    // The topic takes small records alone: the new row is larger than the old one.
    Kafka::shared().tool(
        "kafka.admin.ConfigCommand",
        &["--alter", "--entity-type", "topics", "--entity-name", &captured.topic("t"), "--add-config", "max.message.bytes=3000"],
    );
    captured.db.sql(
        "INSERT INTO t VALUES (1, 1, 'x'); UPDATE t SET id = 2, pad = \
         (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 1000) n); \
         UPDATE t SET n = 'NaN', pad = ''; INSERT INTO t VALUES (4, 4, 'y')",
    );
    let dlq = format!("{}.dlq", captured.name);
    let parked = records(&dlq, 2, secs(60));
    let told: Vec<_> = parked
        .iter()
        .map(|record| {
            assert_eq!(record.header("relay-origin-table"), Some("public.t"));
            let place = record.key_text().and_then(|key| key.split_once('.')).map(|(_, place)| place.to_owned());
            (record.header("relay-error-stage").unwrap_or_default().to_owned(), place.unwrap_or_default())
        })
        .collect();
    // The new row of the key change was refused for its size; of the row that cannot be written there is no record at all.
    assert_eq!(told, [("produce".to_owned(), "1.2".to_owned()), ("encode".to_owned(), "2".to_owned())]);
    assert_eq!(parked[0].header("relay-pos").map(|pos| pos.ends_with(".1.2")), Some(true));
    let kept = captured.records("t", 4);
    assert_eq!(shapes(&kept)[1..3].iter().map(|shape| &shape[..1]).collect::<Vec<_>>(), ["d", "-"]);
    let last = captured.records("t", 2);
    assert_eq!(
        shapes(&last).last().map(String::as_str),
        Some(r#"c {"id":4} null {"id":4,"n":{"scale":0,"value":"BA=="},"pad":"y"}"#)
    );
}

#[test]
fn heartbeats_beat_without_any_change() {
    let captured = Captured::start(
        "beat",
        Version::V18,
        &["t"],
        "CREATE TABLE t (id int PRIMARY KEY)",
        "[format]\nheartbeat_interval = \"300ms\"",
    );
    let topic = format!("__debezium-heartbeat.{}", captured.name);
    let found = captured.records_of(&topic, 3);
    assert_eq!(found[0].key_text(), Some(format!("{{\"serverName\":\"{}\"}}", captured.name).as_str()));
    assert!(
        found[0].json()["ts_ms"].as_i64() > Some(1_700_000_000_000) && found[0].headers.is_empty() && found[0].partition == 0
    );
    captured.db.sql("INSERT INTO t VALUES (1)");
    assert_eq!(captured.records("t", 1).len(), 1);
    let before = captured.records_of(&topic, 3).len();
    captured.records_of(&topic, before + 2);
}

//! From a committed row to a record: bytes, headers, order, and what a lost connection changes about it (nothing).

use crate::scene::{QUICK, Scene, number, records, sorted};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::proxy::{Direction, Proxy};
use relay_tests::relay::{Builder, Relay};
use relay_tests::topics::unique_topic;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

#[test]
fn a_row_becomes_the_record_that_the_preset_describes() {
    for version in [Version::V15, Version::V18] {
        let scene = Scene::new(&format!("shape{}", version as u32), version);
        let _relay = scene.streaming();
        let table = &scene.outbox.table;
        let id = scene
            .db
            .sql(&format!(
                "INSERT INTO {table} (topic, key, type, payload, headers, traceparent, created_at) VALUES ('{}', 'o-1', 'Placed', \
                 '{{\"b\": 1, \"a\": \"ü\"}}', '{{\"tenant\": \"x\", \"n\": 1.50, \"none\": null}}', \
                 '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '2026-01-02 03:04:05.678+00') RETURNING id",
                scene.topic
            ))
            .one()
            .to_owned();
        let record = &scene.records(1, secs(60))[0];
        assert_eq!(record.key_text(), Some("o-1"));
        // jsonb's own spelling, byte for byte.
        assert_eq!(record.value_text(), Some("{\"a\": \"ü\", \"b\": 1}"));
        assert_eq!(record.timestamp_ms, Some(1_767_323_045_678));
        let names: Vec<&str> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["id", "type", "n", "none", "tenant", "traceparent", "relay-pos"]);
        assert_eq!(record.header("id"), Some(id.as_str()));
        assert_eq!(record.header("type"), Some("Placed"));
        assert_eq!(record.header("n"), Some("1.50"));
        assert_eq!(record.header("none"), None);
        assert!(record.header("relay-pos").is_some_and(|position| position.ends_with(".0")));
    }
}

#[test]
fn the_aggregate_type_names_the_topic_and_relay_creates_it() {
    let scene = Scene::new("routed", Version::V18);
    let _relay = scene.streaming();
    let table = &scene.outbox.table;
    scene.db.sql(&format!("INSERT INTO {table} (aggregate_type, key, type, payload) VALUES ('routed', NULL, 'A', NULL)"));
    Kafka::shared().until_topic_exists("outbox.event.routed", secs(60));
    let record = &records("outbox.event.routed", 1, secs(60))[0];
    assert_eq!((record.key_text(), record.value_text()), (None, Some("null")));
}

#[test]
fn logical_messages_need_no_table() {
    let db = Postgres::start(Version::V18);
    db.prepare_roles();
    let kafka = Kafka::shared();
    kafka.create_topic("messages.orders", 1, &[]);
    let mut relay = Builder::new("messages")
        .url(&db.url("relay"))
        .brokers(&kafka.brokers())
        .toml(QUICK)
        .toml("[[outbox]]\nmessage = \"outbox\"")
        .spawn();
    // The owner makes the publication; it needs no table.
    db.sql("CREATE PUBLICATION relay_messages WITH (publish = 'insert')");
    relay.until_state("streaming", secs(60));
    db.sql(
        r#"SELECT pg_logical_emit_message(true, 'outbox',
             '{"id":"m-1","topic":"messages.orders","key":"k","type":"T","payload":{"n": 1.0}}');
           SELECT pg_logical_emit_message(true, 'other', 'passed by');
           SELECT pg_logical_emit_message(false, 'outbox', '{"id":"m-2","topic":"messages.orders","payload":{"n": 2}}');
           SELECT pg_logical_emit_message(true, 'outbox', '{"id":"m-3","topic":"messages.orders","payload":{"n": 3}}')"#,
    );
    let records = records("messages.orders", 2, secs(60));
    assert_eq!(records.iter().map(|r| r.header("id").unwrap_or("")).collect::<Vec<_>>(), ["m-1", "m-3"]);
    assert_eq!(records[0].value_text(), Some("{\"n\": 1.0}"));
}

#[test]
fn debezium_outbox_rows_keep_their_contract() {
    let db = Postgres::start(Version::V15);
    db.prepare_roles();
    db.sql(
        "SET ROLE app; CREATE TABLE public.outboxevent (id uuid PRIMARY KEY, aggregatetype varchar(255) NOT NULL, \
         aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload jsonb); \
         CREATE PUBLICATION relay_dbz FOR TABLE public.outboxevent WITH (publish = 'insert'); \
         GRANT SELECT ON public.outboxevent TO relay; RESET ROLE",
    );
    let kafka = Kafka::shared();
    let mut relay = Builder::new("dbz")
        .url(&db.url("relay"))
        .brokers(&kafka.brokers())
        .toml(QUICK)
        .toml("[[outbox]]\ntable = \"public.outboxevent\"\npreset = \"debezium\"\nheaders = [\"type:eventType\"]")
        .spawn();
    relay.until_state("streaming", secs(60));
    db.sql("INSERT INTO outboxevent VALUES ('8b1f8b0e-3c65-4b0c-9a53-000000000001', 'Dbz', '17', 'Created', '{\"x\": [1, 2]}')");
    kafka.until_topic_exists("outbox.event.Dbz", secs(60));
    let record = &records("outbox.event.Dbz", 1, secs(60))[0];
    assert_eq!((record.key_text(), record.value_text()), (Some("17"), Some("{\"x\": [1, 2]}")));
    assert_eq!(record.header("id"), Some("8b1f8b0e-3c65-4b0c-9a53-000000000001"));
    assert_eq!(record.header("eventType"), Some("Created"));
}

#[test]
fn a_lost_connection_repeats_nothing() {
    let db = Postgres::start(Version::V18);
    let outbox = db.prepare_outbox("relink");
    let proxy = Proxy::start(db.port());
    let kafka = Kafka::shared();
    let scene = Scene { topic: unique_topic("relink"), outbox, db };
    kafka.create_topic(&scene.topic, 4, &[]);
    let builder = Relay::on(&scene.db, kafka, &scene.outbox).toml(QUICK);
    let mut relay = builder.url(&scene.db.url_through("relay", proxy.port())).spawn();
    relay.until_state("streaming", secs(60));
    let mut written = 0;
    for round in 0..8 {
        // Half of the cuts fall into the middle of a transaction of 300 rows.
        let cuts = proxy.counts().cuts;
        if round % 2 == 0 {
            proxy.cut_after(Direction::Down, 20_000);
            scene.write(written + 1, written + 300);
            until("the cut", secs(60), || (proxy.counts().cuts > cuts).then_some(()));
            proxy.heal();
        } else {
            proxy.cut();
            scene.write(written + 1, written + 300);
        }
        written += 300;
        // Eight losses in a row reach the longest back-off, 30 s, and not each attempt behind it need succeed.
        let limit = secs(150);
        let numbers = scene.numbers(written as usize, limit);
        assert_eq!(sorted(numbers), (1..=written).collect::<Vec<_>>(), "round {round}: each row once");
    }
    let counts = proxy.counts();
    assert!(counts.cuts >= 4, "the cuts took hold: {counts:?}");
    assert_eq!(relay.metric("relay_rewinds_total{pipeline=\"relink\",reason=\"source\"}").unwrap_or(0.0), 0.0);
    println!("{counts:?}");
}

#[test]
fn an_idle_outbox_does_not_hold_wal_back() {
    let scene = Scene::new("idle", Version::V15);
    let mut relay = scene.streaming();
    scene.write(1, 1);
    scene.numbers(1, secs(60));
    scene.db.sql("CREATE TABLE busy (n int, t text)");
    let confirmed = || {
        let sql = "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots";
        scene.db.sql(sql).number()
    };
    let before = confirmed();
    for _ in 0..5 {
        scene.db.sql("INSERT INTO busy SELECT n, repeat('x', 500) FROM generate_series(1, 2000) n");
    }
    let end = scene.db.sql("SELECT pg_current_wal_flush_lsn() - '0/0'").number();
    assert!(end - before > 3_000_000, "the other table wrote WAL");
    until("the slot to follow", secs(60), || (confirmed() >= end).then_some(()));
    assert!(relay.process().is_running());
}

#[test]
fn a_slot_made_by_a_dba_is_adopted_where_it_stands() {
    let scene = Scene::new("adopt", Version::V18);
    scene.db.sql("SELECT pg_create_logical_replication_slot('relay_adopt', 'pgoutput')");
    scene.write(1, 10);
    let relay = scene.streaming();
    assert_eq!(sorted(scene.numbers(10, secs(60))), (1..=10).collect::<Vec<_>>());
    assert!(relay.logs().contains("checkpoint.adopted"), "one WARN says so");
}

#[test]
fn order_holds_for_each_key() {
    let scene = Scene::new("ordered", Version::V18);
    let _relay = scene.streaming();
    for from in (1..=2_000).step_by(100) {
        scene.write(from, from + 99);
    }
    let records = scene.records(2_000, secs(60));
    for key in 0..5 {
        let of_key: Vec<u64> = records.iter().filter(|r| r.key_text() == Some(&format!("k{key}"))).map(number).collect();
        assert!(of_key.is_sorted() && of_key.len() == 400, "key k{key}");
    }
}

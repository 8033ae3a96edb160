//! The first start: rows as of the new slot's beginning, before the first word of its stream.

use super::{Snap, check_order, last_images, markers, until_equal, until_logged};
use relay_tests::consumer::{Isolation, Rec, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::proxy::Proxy;
use relay_tests::requests::Api;
use relay_tests::versions::Version;
use relay_tests::wait::{Finally, secs, until};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn rows_that_were_there_come_first_with_markers_and_the_stream_follows() {
    for version in [Version::V15, Version::V18] {
        let ddl = "CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a SELECT g, g FROM generate_series(1, 3) g; \
                   CREATE TABLE b (id int PRIMARY KEY, v text); \
                   INSERT INTO b VALUES (1, E'tab\\t, line\\n, back\\\\ and \\\\N'), (2, NULL); \
                   CREATE TABLE c (id int PRIMARY KEY); CREATE TABLE d (id int PRIMARY KEY); INSERT INTO d VALUES (7)";
        let snap = Snap::new("first", version, &["a", "b", "c", "d"], ddl);
        let mut relay = snap.relay("").spawn();
        let d = snap.until_records(&relay, "d", 1);
        relay.until_state("streaming", secs(60));
        snap.db.sql("INSERT INTO a VALUES (4, 4); UPDATE b SET v = 'x' WHERE id = 1");
        let a = snap.until_records(&relay, "a", 4);
        let mark = |op: &str, marker: &str| (op.to_owned(), marker.to_owned());
        assert_eq!(
            markers(&a),
            [mark("r", "first"), mark("r", "true"), mark("r", "last_in_data_collection"), mark("c", "false")]
        );
        let b = snap.until_records(&relay, "b", 3);
        assert_eq!(
            markers(&b),
            [mark("r", "first_in_data_collection"), mark("r", "last_in_data_collection"), mark("u", "false")]
        );
        assert_eq!(b[0].json()["after"], serde_json::json!({"id": 1, "v": "tab\t, line\n, back\\ and \\N"}));
        assert_eq!(b[1].json()["after"]["v"], serde_json::Value::Null);
        assert_eq!(markers(&d), [mark("r", "last")]);
        let consistent = a[0].json()["source"]["lsn"].as_u64().expect("the consistent point");
        let position = format!("{consistent:X}.s");
        for record in a[..3].iter().chain(&b[..2]).chain(&d) {
            assert_eq!(record.header("relay-pos"), Some(position.as_str()));
            assert_eq!(record.json()["source"]["lsn"].as_u64(), Some(consistent));
        }
        until_logged(&relay, &["snapshot.done"]);
        let rows = format!("relay_snapshot_rows_total{{pipeline=\"{}\",table=\"public.a\"}}", snap.name);
        assert_eq!(relay.metric(&rows), Some(3.0));
        assert!(relay.terminate().code == Some(0));
        // Once is enough.
        relay.start_again().until_state("streaming", secs(60));
        snap.db.sql("INSERT INTO a VALUES (5, 5)");
        assert_eq!(snap.until_records(&relay, "a", 5).len(), 5);
    }
}

/// Writers change, insert and delete rows all the while.
#[test]
fn the_hand_over_under_load_loses_nothing_and_keeps_the_order() {
    let ddl = "CREATE TABLE t (id bigint PRIMARY KEY, v bigint NOT NULL) WITH (fillfactor = 60); \
               INSERT INTO t SELECT g, 0 FROM generate_series(1, 60000) g; ANALYZE t";
    let snap = Snap::new("over", Version::V15, &["t"], ddl);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = Finally(|| stop.store(true, Ordering::Relaxed));
        for writer in 0..2 {
            let (db, stop) = (&snap.db, &stop);
            scope.spawn(move || write(db, stop, writer));
        }
        let mut relay = snap.relay("[snapshot]\nthreads = 3\nchunk = 1000").spawn();
        until_logged(&relay, &["snapshot.done"]);
        relay.until_state("streaming", secs(60));
        std::thread::sleep(std::time::Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(300));
        until_equal(&snap, &relay);
        let records = snap.records("t");
        check_order(&records);
        let read = markers(&records).into_iter().filter(|(op, _)| op == "r").collect::<Vec<_>>();
        // Two of three ids have a row in the long run, however long the writers have been at it.
        assert!(read.len() > 30_000 && read.iter().filter(|(_, marker)| marker == "first").count() == 1, "{}", read.len());
        assert_eq!(read.last().map(|(_, marker)| marker.as_str()), Some("last"));
        assert!(!relay.logs().contains("sink.rewind"), "{}", relay.logs());
    });
}

/// One writer's rows: `id mod 2` is its number, `v` only grows.
pub(super) fn write(db: &relay_tests::postgres::Postgres, stop: &AtomicBool, writer: i64) {
    let mut client = db.superuser();
    let mut random = 0x9E37_79B9_u64 + writer as u64;
    let mut v = 1;
    while !stop.load(Ordering::Relaxed) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let id = (random >> 33) as i64 % 30_000 * 2 + writer;
        v += 1;
        let sql = match random >> 60 {
            0..=1 => format!("DELETE FROM t WHERE id = {id}"),
            2..=5 => format!("INSERT INTO t VALUES ({id}, {v}) ON CONFLICT (id) DO UPDATE SET v = {v}"),
            _ => format!("UPDATE t SET v = {v} WHERE id BETWEEN {id} AND {id} + 3 AND id % 2 = {writer}"),
        };
        if let Err(error) = client.batch_execute(&sql) {
            assert!(stop.load(Ordering::Relaxed), "{error}");
        }
    }
}

#[test]
fn partitions_column_lists_and_row_filters_are_those_of_the_stream() {
    for version in [Version::V15, Version::V18] {
        let ddl = "CREATE TABLE p (id int, part int, secret text, PRIMARY KEY (id, part)) PARTITION BY LIST (part); \
                   CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); CREATE TABLE p2 (part int, secret text, gone int, id int NOT NULL); \
                   ALTER TABLE p2 DROP COLUMN gone, ALTER part SET NOT NULL; ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2); \
                   INSERT INTO p SELECT g, 1 + g % 2, 's' FROM generate_series(1, 6) g; \
                   CREATE TABLE f (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED); \
                   INSERT INTO f (id, v) SELECT g, g FROM generate_series(1, 5) g";
        let snap = Snap::new("leaves", version, &["p", "f"], ddl);
        snap.publish("FOR TABLE p (id, part), f WHERE (id > 2) WITH (publish_via_partition_root = true)");
        let mut relay = snap.relay("[snapshot]\nmode = \"only\"").spawn();
        assert_eq!(relay.wait(secs(120)).code, Some(0), "{}", relay.logs());
        let p = snap.records("p");
        assert_eq!(last_images(&p).len(), 6);
        assert!(p.iter().all(|record| record.json()["after"].get("secret").is_none()), "a column that is not published");
        let f: Vec<_> = snap.records("f").iter().map(|record| record.json()["after"].clone()).collect();
        let row = |id: i64| serde_json::json!({"id": id, "v": id});
        assert_eq!(f, [row(3), row(4), row(5)]);
        let marks = markers(&snap.records("f")).into_iter().chain(markers(&p)).map(|(_, marker)| marker).collect::<Vec<_>>();
        let count = |wanted: &str| marks.iter().filter(|marker| *marker == wanted).count();
        assert_eq!(
            (count("first"), count("last"), count("first_in_data_collection"), count("last_in_data_collection")),
            (1, 1, 1, 1)
        );
    }
}

#[test]
fn only_ends_when_all_is_stored_and_another_start_goes_on_from_there() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT g, 1 FROM generate_series(1, 500) g";
    let snap = Snap::new("only", Version::V15, &["t"], ddl);
    let only = "[snapshot]\nmode = \"only\"\nchunk = 50";
    let mut relay = snap.relay(only).spawn();
    assert_eq!(relay.wait(secs(120)).code, Some(0), "{}", relay.logs());
    assert_eq!(snap.records("t").len(), 500);
    snap.db.sql("INSERT INTO t VALUES (501, 1)");
    relay.start_again();
    assert_eq!(relay.wait(secs(120)).code, Some(0), "it was done before");
    assert_eq!(snap.records("t").len(), 500);
    let mut relay = snap.relay("").spawn();
    relay.until_state("streaming", secs(60));
    assert_eq!(snap.until_records(&relay, "t", 501).len(), 501, "and the stream begins where the snapshot stood");
}

#[test]
fn never_reads_nothing_and_a_subset_reads_its_tables() {
    let ddl = "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1); \
               CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b VALUES (1)";
    for (name, toml, count) in
        [("never", "[snapshot]\nmode = \"never\"", 0), ("subset", "[snapshot]\ntables = [\"public.b\", \"public.typo\"]", 1)]
    {
        let snap = Snap::new(name, Version::V15, &["a", "b"], ddl);
        let mut relay = snap.relay(toml).spawn();
        relay.until_state("streaming", secs(60));
        snap.db.sql("INSERT INTO a VALUES (2); INSERT INTO b VALUES (2)");
        assert_eq!(snap.until_records(&relay, "a", 1).len(), 1);
        assert_eq!(snap.until_records(&relay, "b", 1 + count).len(), 1 + count);
        // A glob takes the table that does not exist: only the server could tell.
        let warned =
            relay.logs().lines().filter(|line| line.contains("snapshot.table_missing") && line.contains("public.typo")).count();
        assert_eq!(warned, count, "{}", relay.logs());
    }
}

#[test]
fn row_security_is_an_error_that_names_table_and_role() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1); ALTER TABLE t ENABLE ROW LEVEL SECURITY; \
               CREATE POLICY partial ON t USING (id > 1)";
    let snap = Snap::new("rls", Version::V15, &["t"], ddl);
    snap.publish("FOR TABLE t");
    let mut relay = snap.relay("").spawn();
    let line = until_logged(&relay, &["R0235"]);
    assert!(line.contains("public.t") && line.contains("relay") && line.contains("row-level security"), "{line}");
    assert!(snap.records("t").is_empty());
    snap.db.sql("ALTER TABLE t DISABLE ROW LEVEL SECURITY");
    relay.until_state("streaming", secs(90));
    let records = snap.until_records(&relay, "t", 1);
    assert_eq!(markers(&records), [("r".to_owned(), "incremental".to_owned())]);
}

/// Values far above a chunk's budget, read both ways, one after the other.
#[test]
fn large_values_fit_bounded_memory() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, v int, body text); ALTER TABLE t ALTER body SET STORAGE EXTERNAL; \
               INSERT INTO t SELECT g, 1, repeat(md5(g::text), 131072) FROM generate_series(1, 40) g";
    for (name, is_ours) in [("largefirst", true), ("largelater", false)] {
        let snap = Snap::new(name, Version::V15, &[], ddl);
        let topic = snap.topic("t");
        relay_tests::kafka::Kafka::shared().create_topic(&topic, 1, &[("max.message.bytes", "20000000")]);
        snap.publish("FOR TABLE t");
        if !is_ours {
            snap.make_slot();
        }
        let relay =
            snap.relay("delivery.in_flight = \"32MiB\"\n[sink.kafka.properties]\n\"message.max.bytes\" = \"16000000\"").spawn();
        until_logged(&relay, &["snapshot.done"]);
        let records: Vec<Rec> = snap.records("t");
        assert_eq!(records.len(), 40);
        let bytes = relay.peak_rss_bytes();
        println!("{name}: {} MiB resident at most", bytes >> 20);
        // In flight, a chunk of 16 MiB, rows of 4 MiB on their way, and a base: far below the 160 MiB of the table.
        assert!(bytes < 140 << 20, "{bytes} bytes at most");
    }
}

/// The snapshot holds its tables to its end, and whoever wants to change one waits for it; a reader that came to that table behind him
/// would wait for him, for ever, and with both all of the application.
#[test]
fn a_change_of_a_table_waits_for_the_snapshot_and_the_snapshot_not_for_it() {
    let ddl = "CREATE TABLE a (id int PRIMARY KEY, pad text); INSERT INTO a SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g; \
               CREATE TABLE z (id int PRIMARY KEY); INSERT INTO z VALUES (1); ANALYZE";
    let snap = Snap::new("alters", Version::V18, &["a", "z"], ddl);
    let proxy = Proxy::start(snap.db.port());
    proxy.bandwidth(100_000);
    let relay = snap.relay_behind(&proxy, "[snapshot]\nchunk = 100\nthreads = 2").spawn();
    snap.until_records(&relay, "a", 1);
    std::thread::scope(|scope| {
        let db = &snap.db;
        let change = scope.spawn(move || db.try_sql("SET lock_timeout = '300s'; ALTER TABLE z ADD COLUMN v int"));
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'z'::regclass";
        until("the change to wait", secs(60), || (db.sql(waits).number() == 1).then_some(()));
        assert!(snap.records("z").is_empty(), "nobody reads that table yet");
        proxy.heal();
        until_logged(&relay, &["snapshot.done"]);
        assert!(change.join().expect("a thread").is_ok(), "it came to its turn");
    });
    assert_eq!((snap.records("a").len(), snap.records("z").len()), (20_000, 1));
}

/// Neither values nor defaults depend on what the database is set to, by snapshot and by stream.
#[test]
fn no_setting_of_the_database_shows_in_an_event() {
    let snap = Snap::new(
        "settings",
        Version::V18,
        &["t"],
        "CREATE TABLE t (id int PRIMARY KEY, d date, i interval, f float8, b bytea, z timestamptz, r regclass, \
         x text NOT NULL DEFAULT 'a\\b'); \
         INSERT INTO t VALUES (1, '2016-11-04', '1 day', 0.1::float8 + 0.2, '\\x00ff', '2016-11-04 13:51:30+02', 't')",
    );
    for (name, value) in [
        ("datestyle", "German"),
        ("intervalstyle", "iso_8601"),
        ("extra_float_digits", "-15"),
        ("bytea_output", "escape"),
        ("timezone", "Asia/Tokyo"),
        ("quote_all_identifiers", "on"),
        ("standard_conforming_strings", "off"),
        ("search_path", "pg_catalog"),
    ] {
        snap.db.sql(&format!("ALTER DATABASE postgres SET {name} = '{value}'"));
    }
    let relay = snap.relay("format.schemas = true\nformat.interval = \"string\"").spawn();
    until_logged(&relay, &["snapshot.done"]);
    snap.db.sql("INSERT INTO public.t SELECT 2, d, i, f, b, z, r, x FROM public.t");
    for (record, id) in snap.until_records(&relay, "t", 2).iter().zip(1..) {
        let value = record.json();
        let wanted = json!({
            "id": id, "d": 17109, "i": "P0Y0M1DT0H0M0S", "f": 0.1 + 0.2, "b": "AP8=", "z": "2016-11-04T11:51:30.000000Z",
            "r": "t", "x": "a\\b",
        });
        assert_eq!(value["payload"]["after"], wanted);
        let columns = value["schema"]["fields"][1]["fields"].as_array().expect("the columns");
        assert_eq!(columns.last().expect("a column")["default"], "a\\b");
    }
}

/// A first snapshot of many tables does not wait for one new topic after the other.
#[test]
fn the_topics_of_many_tables_are_created_together() {
    let kafka = Kafka::builder().proxied().start();
    let table = |n| format!("CREATE TABLE t{n} (id int PRIMARY KEY); INSERT INTO t{n} VALUES ({n});");
    let ddl = (0..80).map(table).collect::<String>() + "CREATE TABLE empty (id int PRIMARY KEY)";
    let snap = Snap::new("together", Version::V18, &[], &ddl);
    snap.publish("FOR ALL TABLES WITH (publish_via_partition_root = true)");
    let relay = snap.relay("").brokers(&kafka.proxied_brokers()).spawn();
    until_logged(&relay, &["snapshot.done"]);
    let topics: Vec<String> = (0..80).map(|n| snap.topic(&format!("t{n}"))).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let records = read_all(&kafka.brokers(), &topics, Isolation::Committed);
    assert_eq!(records.len(), 80);
    // The first table has no row, and no other has the snapshot's first, as with Debezium.
    assert!(records.iter().all(|record| record.json()["source"]["snapshot"] != "first"));
    let requests = kafka.proxy().seen(Api::CreateTopics);
    println!("{requests} requests for 80 topics");
    assert!(requests < 40, "{requests} requests for 80 topics and the checkpoint's");
    assert!(!relay.logs().contains(&snap.topic("empty")), "a table without rows needs no topic yet");
}

//! The traps of outbox tables (docs/presets.md), each shown on real servers: relay publishes, refuses or waits, and loses nothing.
//!
//! | trap | shown by |
//! |---|---|
//! | T1 | `a_row_that_goes_with_its_own_transaction_is_published_by_log`; settings: `polling_has_rules_of_its_own` |
//! | T2 | `marks_are_no_events_by_log_or_by_poll`; encode: `only_inserts_are_events` |
//! | T3 | poll: `a_row_that_commits_late_is_not_lost…`, `an_early_transaction_id…`, each with the naive query |
//! | T4 | `a_large_object_is_refused_and_not_lost`; encode: `column_types_are_held_against_their_fields` |
//! | T5 | `a_partitioned_outbox_by_its_root_and_by_its_leaves`; refusals: `a_leaf_of_a_configured_partitioned_table_stops…` |
//! | T6 | `marks_are_no_events_by_log_or_by_poll` (a large payload); encode: `what_is_not_implemented_says_so` |
//! | T7 | doctor: `a_column_that_the_preset_needs_is_proposed_in_its_true_case`; detect: `other_cases_types_and_shapes…` |
//! | T8, T9 | `one_row_many_messages_and_one_event_many_rows_are_refused` |
//! | T10 | presets: `rows_that_upstream_marked_are_no_events_when_polled`, which looks for the note at start, too |
//! | T11 | `a_row_that_is_due_later…`, `claim_waits_until_a_row_is_due`, `a_delay_inside_a_document_is_judged…` |
//! | T12 | `an_unlogged_table_is_refused_by_log_and_polled`, `a_table_that_became_unlogged_is_refused_at_the_next_start` |
//! | T13 | poison: `dlq_parks_the_event…`; golden: `T13, a row may not choose an internal topic`, by presets in every mode |
//! | T14 | `bytes_framed_for_a_registry_are_untouched` |
//! | T15 | golden: `debezium-quarkus`, `tomorrow-one`, by presets on servers in another time zone |
//! | T16 | `keys_stay_in_the_partitions_of_another_client` |
//! | T17 | `two_rows_with_one_id_are_two_records` |
//! | T18 | `an_empty_key_is_as_the_preset_says`; golden: `open-outbox, an empty key is none`, `cap, an empty…` |
//! | T19 | `a_partitioned_outbox_by_its_root_and_by_its_leaves`: half of the rows lie in the default partition |
//! | T20 | `headers_that_are_null_no_object_or_nested` |
//! | T21 | `a_row_that_waits_shows_its_age_and_one_that_somebody_deletes_is_gone` |

mod due;
mod keys;
mod unlogged;

use crate::presets::golden::Printed;
use crate::scene::{QUICK, number, records, sorted};
use relay_tests::consumer::Rec;
use relay_tests::kafka::Kafka;
use relay_tests::outbox::Outbox;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

const POLL: &str = "source.mode = \"poll\"\nsource.poll.interval = \"20ms\"";

/// Loads what `relay preset sql` prints, but for the slot, which relay makes.
fn load(db: &Postgres, pipeline: &str, preset: &str, table: &str, mode: &str) {
    db.prepare_roles();
    let (publication, major) = (format!("relay_{pipeline}"), db.version().major().to_string());
    let args = ["sql", preset, "--table", table, "--mode", mode, "--publication", &publication, "--server-version", &major];
    let mut printed = Printed::default();
    let sql = printed.ask(&args);
    db.sql(sql.split_once("SELECT pg_create_logical").map_or(sql, |(head, _)| head));
}

fn builder(db: &Postgres, pipeline: &str, toml: &str) -> Builder {
    let builder = Builder::new(pipeline).url(&db.url("relay")).brokers(&Kafka::shared().brokers());
    builder.toml(QUICK).toml("delivery.on_poison = \"dlq\"").toml(toml)
}

fn spawn(db: &Postgres, pipeline: &str, toml: &str) -> Relay {
    let mut relay = builder(db, pipeline, toml).spawn();
    relay.until_state("streaming", secs(60));
    relay
}

#[track_caller]
fn until_reason(relay: &Relay, reason: &str) {
    until(&format!("{reason} in /readyz"), secs(90), || {
        let body = relay_tests::http::get(relay.port(), "/readyz").map(|answer| answer.body).unwrap_or_default();
        body.contains(reason).then_some(())
    });
}

/// The records of a topic that relay makes, once there are so many or more.
#[track_caller]
fn records_once_there(topic: &str, count: usize) -> Vec<Rec> {
    Kafka::shared().until_topic_exists(topic, secs(60));
    records(topic, count, secs(60))
}

/// One outbox of preset `relay`, read by log and by poll; the topics begin with the pipelines' names.
#[derive(Debug)]
struct Both {
    db: Postgres,
    outbox: Outbox,
    log: Relay,
    poll: Relay,
}

// === impl Both ===

impl Both {
    /// `ddl` changes the table first; `{table}` in it is its name.
    fn start(name: &str, version: Version, ddl: &str) -> Both {
        let db = Postgres::start(version);
        let outbox = db.prepare_outbox(name);
        db.prepare_for_poll(&outbox);
        if !ddl.is_empty() {
            db.sql(&ddl.replace("{table}", &outbox.table));
        }
        let entry = |pipeline: &str| format!("[[outbox]]\ntable = {:?}\ntopic = \"{pipeline}.{{topic}}\"", outbox.table);
        let log = spawn(&db, name, &entry(name));
        let polled = format!("{name}poll");
        let poll = spawn(&db, &polled, &format!("{POLL}\n{}", entry(&polled)));
        Both { db, outbox, log, poll }
    }

    /// Inserts rows: the columns after `topic`, which is `orders`, and their values.
    fn insert(&self, columns: &str, rows: &[&str]) {
        let rows: Vec<String> = rows.iter().map(|row| format!("('orders', {row})")).collect();
        self.db.sql(&format!("INSERT INTO {} (topic, {columns}) VALUES {}", self.outbox.table, rows.join(", ")));
    }

    /// The records by log and by poll, once there are so many of them; neither may have more.
    #[track_caller]
    fn records(&self, count: usize) -> [Vec<Rec>; 2] {
        let pipeline = &self.outbox.pipeline;
        ["", "poll"].map(|mode| {
            let found = records_once_there(&format!("{pipeline}{mode}.orders"), count);
            assert_eq!(found.len(), count, "{pipeline}{mode}: {found:?}");
            found
        })
    }

    /// What was parked by log and by poll.
    #[track_caller]
    fn parked(&self, count: usize) -> [Vec<Rec>; 2] {
        let pipeline = &self.outbox.pipeline;
        ["", "poll"].map(|mode| records_once_there(&format!("{pipeline}{mode}.dlq"), count))
    }
}

#[test]
fn a_row_that_goes_with_its_own_transaction_is_published_by_log() {
    let db = Postgres::start(Version::V18);
    load(&db, "removed", "debezium-quarkus", "public.outboxevent", "log");
    let entry = "[[outbox]]\npreset = \"debezium-quarkus\"";
    let relay = spawn(&db, "removed", &format!("{entry}\ntopic = \"removed.events\""));
    let row = "INSERT INTO outboxevent VALUES (gen_random_uuid(), 'Order', 'o-1', 'Placed', now(), '{\"n\": 1}', NULL)";
    db.sql(&format!("BEGIN; {row}; DELETE FROM outboxevent; COMMIT"));
    assert_eq!(number(&records_once_there("removed.events", 1)[0]), 1);
    assert_eq!(db.sql("SELECT count(*) FROM outboxevent").number(), 0, "a poller had nothing to see, ever");
    let check = builder(&db, "removed", &format!("{POLL}\n{entry}")).run(&["check"]);
    let told = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(check.status.code() == Some(3) && told.contains("cannot be polled: with remove-after-insert"), "{told}");
    drop(relay);
}

#[test]
fn marks_are_no_events_by_log_or_by_poll() {
    for version in Version::ALL {
        let name = format!("marks{}", version.major());
        let db = Postgres::start(version);
        let outbox = db.prepare_outbox(&name);
        let table = &outbox.table;
        db.sql(&format!(
            "ALTER TABLE {table} ADD COLUMN status text NOT NULL DEFAULT 'NEW'; GRANT UPDATE ON {table} TO relay; \
             ALTER PUBLICATION relay_{name} SET (publish = 'insert, update, delete')"
        ));
        let entry = |pipeline: &str| format!("[[outbox]]\ntable = {table:?}\ntopic = \"{pipeline}.{{topic}}\"");
        let log = spawn(&db, &name, &entry(&name));
        let claimed = format!("{name}claim");
        let claims = "match = \"status = 'NEW'\"\norder = \"claim(seq)\"\nafter_publish = \"update:status=DONE\"";
        let claim = spawn(&db, &claimed, &format!("{POLL}\n{}\n{claims}", entry(&claimed)));
        let ticked = format!("{name}tick");
        let tick = spawn(&db, &ticked, &format!("{POLL}\n{}", entry(&ticked)));
        // The payloads lie outside the rows: an update that leaves one alone sends no value of it.
        let write = |from: u64, to: u64| {
            db.sql(&format!(
                "INSERT INTO {table} (topic, key, type, payload) SELECT 'orders', 'k', 'T', jsonb_build_object('n', n, 'pad', \
                   (SELECT string_agg(md5(i::text || n), '') FROM generate_series(1, 500) i)) FROM generate_series({from}, {to}) n"
            ))
        };
        write(1, 20);
        // Rows that are deleted before a poller has read them are no business of its.
        records_once_there(&format!("{ticked}.orders"), 20);
        // relay's own marks of the second pipeline are somebody else's updates to the first.
        until("the marks", secs(60), || {
            (db.sql(&format!("SELECT count(*) FROM {table} WHERE status = 'NEW'")).number() == 0).then_some(())
        });
        db.sql(&format!("UPDATE {table} SET status = 'SEEN'; UPDATE {table} SET status = 'DONE'; DELETE FROM {table}"));
        write(21, 21);
        for (pipeline, relay) in [(&name, &log), (&claimed, &claim), (&ticked, &tick)] {
            let numbers: Vec<u64> = records_once_there(&format!("{pipeline}.orders"), 21).iter().map(number).collect();
            assert_eq!(sorted(numbers), (1..=21).collect::<Vec<_>>(), "{pipeline}: each row once, whatever was marked");
            let filtered =
                |reason| relay.metric(&format!("relay_events_filtered_total{{reason=\"{reason}\"}}")).unwrap_or_default();
            println!("{pipeline}: {} updates and {} deletes passed by", filtered("marker_update"), filtered("operation"));
        }
        // The last row's own mark may still be on its way.
        until("the count of updates", secs(60), || {
            (log.metric("relay_events_filtered_total{reason=\"marker_update\"}") == Some(61.0)).then_some(())
        });
        assert_eq!(log.metric("relay_events_filtered_total{reason=\"operation\"}"), Some(20.0));
        assert_eq!(records_once_there(&format!("{name}.orders"), 21).len(), 21);
    }
}

#[test]
fn a_large_object_is_refused_and_not_lost() {
    let db = Postgres::start(Version::V15);
    let outbox = db.prepare_outbox("lob");
    db.prepare_for_poll(&outbox);
    let table = &outbox.table;
    db.sql(&format!("ALTER TABLE {table} DROP COLUMN payload; ALTER TABLE {table} ADD COLUMN payload oid"));
    let entry = |pipeline: &str| format!("[[outbox]]\ntable = {table:?}\ntopic = \"{pipeline}.{{topic}}\"");
    let (log, poll) = (spawn(&db, "lob", &entry("lob")), spawn(&db, "lobpoll", &format!("{POLL}\n{}", entry("lobpoll"))));
    // Of before its commit: a slot may be confirmed up to anywhere in front of that.
    let before = db.sql(&format!(
        "BEGIN; INSERT INTO {table} (topic, key, type, payload) VALUES ('orders', 'k', 'T', lo_from_bytea(0, 'hello')); \
         SELECT pg_current_wal_insert_lsn(); COMMIT"
    ));
    let before = before.one();
    for relay in [&log, &poll] {
        until_reason(relay, "stopped:R0227");
        assert!(relay.logs().contains("TYPE bytea USING lo_get"), "the way out is named: {}", relay.logs());
    }
    let confirmed = format!("SELECT confirmed_flush_lsn <= '{before}' FROM pg_replication_slots");
    assert_eq!(db.sql(&confirmed).one(), "t", "the slot keeps the row");
    // The cure that is named: a poller reads the row anew, and it comes whole.
    db.sql(&format!("ALTER TABLE {table} ALTER COLUMN payload TYPE bytea USING lo_get(payload)"));
    assert_eq!(records_once_there("lobpoll.orders", 1)[0].value.as_deref(), Some(&b"hello"[..]));
}

#[test]
fn a_partitioned_outbox_by_its_root_and_by_its_leaves() {
    for version in Version::ALL {
        let name = format!("parts{}", version.major());
        let db = Postgres::start(version);
        let outbox = db.prepare_partitioned_outbox(&name);
        let table = &outbox.table;
        db.sql(&format!(
            "SET ROLE app; CREATE TABLE {table}_old PARTITION OF {table} FOR VALUES FROM ('2020-01-01') TO ('2020-02-01'); \
             CREATE INDEX ON {table} (xid, seq); \
             CREATE PUBLICATION relay_{name}leaf FOR TABLE {table} WITH (publish = 'insert'); RESET ROLE"
        ));
        let entry = |pipeline: &str, table: &str| format!("[[outbox]]\ntable = {table:?}\ntopic = \"{pipeline}.{{topic}}\"");
        let (leaf, poll) = (format!("{name}leaf"), format!("{name}poll"));
        let relays = [
            spawn(&db, &name, &entry(&name, table)),
            spawn(&db, &leaf, &entry(&leaf, &format!("{table}_*"))),
            spawn(&db, &poll, &format!("{POLL}\n{}", entry(&poll, table))),
        ];
        db.sql(&format!(
            "INSERT INTO {table} (topic, key, type, payload, created_at) SELECT 'orders', 'k' || n % 3, 'T', \
             jsonb_build_object('n', n), CASE WHEN n % 2 = 0 THEN now() ELSE '2020-01-15' END FROM generate_series(1, 100) n"
        ));
        // A partition that is made while relay runs.
        db.sql(&format!(
            "CREATE TABLE {table}_new PARTITION OF {table} FOR VALUES FROM ('2020-03-01') TO ('2020-04-01'); \
             INSERT INTO {table} (topic, key, type, payload, created_at) \
             VALUES ('orders', 'k', 'T', '{{\"n\": 101}}', '2020-03-15')"
        ));
        let shown = [&name, &leaf, &poll].map(|pipeline| {
            let mut records = records_once_there(&format!("{pipeline}.orders"), 101);
            records.sort_by_key(number);
            let plain =
                |record: &Rec| (record.key.clone(), record.value.clone(), record.timestamp_ms, record.headers[..2].to_vec());
            records.iter().map(plain).collect::<Vec<_>>()
        });
        assert_eq!(shown[0].len(), 101);
        assert_eq!(shown[0], shown[1], "{version}: by its root on the left, by its leaves on the right");
        assert_eq!(shown[0], shown[2], "{version}: by log on the left, by poll on the right");
        println!("{version}: {} rows by root, by leaves and by poll", shown[0].len());
        drop(relays);
    }
}

#[test]
fn one_row_many_messages_and_one_event_many_rows_are_refused() {
    let check = |toml: &str| {
        let relay = Builder::new("refused").url("postgres://relay@localhost/shop").brokers("localhost:9092").toml(toml);
        let output = relay.run(&["check"]);
        assert_eq!(output.status.code(), Some(3), "{toml}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    for preset in ["nservicebus", "sqlxmq", "spring-modulith"] {
        let told = check(&format!("[[outbox]]\npreset = {preset:?}\ntable = \"public.outbox\""));
        assert!(told.contains("is not a preset; its layout is described in docs/presets.md"), "{told}");
    }
    for mode in ["", POLL] {
        let told = check(&format!("{mode}\n[[outbox]]\npreset = \"namastack\""));
        assert!(told.contains("a condition on `handler_id`: several rows are written for one event"), "{told}");
    }
}

#[test]
fn bytes_framed_for_a_registry_are_untouched() {
    let both = Both::start("framed", Version::V15, "ALTER TABLE {table} ALTER COLUMN payload TYPE bytea USING NULL");
    // Magic byte, schema id, and what is neither UTF-8 nor JSON; then one that looks like JSON and is to stay as it is.
    let frames: [&[u8]; 3] = [b"\x00\x00\x00\x00\x07\xff\xfe\x00\x80", b"\x00\x00\x00\x01\x00{\"a\":  1}", b""];
    let hex = |bytes: &&[u8]| bytes.iter().fold("'k', 'T', '\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")) + "'";
    let rows: Vec<String> = frames.iter().map(hex).collect();
    both.insert("key, type, payload", &rows.iter().map(String::as_str).collect::<Vec<_>>());
    for records in both.records(3) {
        let values: Vec<&[u8]> = records.iter().map(|record| record.value.as_deref().expect("a value")).collect();
        assert_eq!(values, frames);
    }
}

#[test]
fn two_rows_with_one_id_are_two_records() {
    let both = Both::start("twins", Version::V18, "ALTER TABLE {table} DROP CONSTRAINT twins_outbox_pkey");
    let id = "018f4c2e-7b1a-7c3d-8e4f-0123456789ab";
    let row = |n: u32| format!("'{id}', 'k', 'T', '{{\"n\": {n}}}'");
    both.insert("id, key, type, payload", &[&row(1), &row(2)]);
    for records in both.records(2) {
        assert_eq!(records.iter().map(number).collect::<Vec<_>>(), [1, 2]);
        assert!(records.iter().all(|record| record.header("id") == Some(id)));
    }
}

#[test]
fn headers_that_are_null_no_object_or_nested() {
    let ddl = "ALTER TABLE {table} DROP CONSTRAINT headers_outbox_headers_check, ALTER COLUMN headers DROP NOT NULL";
    let both = Both::start("headers", Version::V18, ddl);
    let row = |n: u32, headers: &str| format!("'k', 'T', '{{\"n\": {n}}}', {headers}");
    let rows = [
        row(1, "NULL"),
        row(2, "'null'"),
        row(3, "'[\"a\"]'"),
        row(4, "'\"text\"'"),
        row(5, "'{\"deep\": {\"x\": [1, 2]}, \"none\": null, \"n\": 1.50, \"t\": \"ä\"}'"),
        row(6, "'{\"relay-pos\": \"x\"}'"),
        row(7, "'{}'"),
    ];
    both.insert("key, type, payload, headers", &rows.iter().map(String::as_str).collect::<Vec<_>>());
    for (records, parked) in both.records(4).into_iter().zip(both.parked(3)) {
        assert_eq!(records.iter().map(number).collect::<Vec<_>>(), [1, 2, 5, 7]);
        for record in [&records[0], &records[1], &records[3]] {
            let names: Vec<&str> = record.headers.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["id", "type", "relay-pos"]);
        }
        let nested = &records[2];
        let found = ["deep", "n", "t"].map(|name| nested.header(name));
        assert_eq!(found, [Some("{\"x\": [1, 2]}"), Some("1.50"), Some("ä")]);
        assert!(nested.headers.contains(&("none".to_owned(), None)), "{nested:?}");
        assert_eq!(parked.len(), 3);
        for (record, words) in parked.iter().zip(["is not a JSON object", "is not a JSON object", "are kept for relay"]) {
            assert!(record.header("relay-error-message").is_some_and(|message| message.contains(words)), "{record:?}");
        }
    }
    println!("{} parked by log", both.log.metric("relay_dlq_events_total{reason=\"header\"}").unwrap_or_default());
    println!("{} parked by poll", both.poll.metric("relay_dlq_events_total{reason=\"header\"}").unwrap_or_default());
}

#[test]
fn a_row_that_waits_shows_its_age_and_one_that_somebody_deletes_is_gone() {
    let db = Postgres::start(Version::V18);
    let outbox = db.prepare_outbox("cleaned");
    db.prepare_for_poll(&outbox);
    let table = &outbox.table;
    db.sql(&format!("GRANT UPDATE ON {table} TO relay"));
    let claim = "order = \"claim(seq)\"\nafter_publish = \"delete\"";
    let stop = format!("{POLL}\ndelivery.on_poison = \"stop\"\n[[outbox]]\ntable = {table:?}\n{claim}");
    let insert = |topic: &str, n: u32| {
        db.sql(&format!(
            "INSERT INTO {table} (topic, key, type, payload, created_at) \
             VALUES ('{topic}', 'k', 'T', '{{\"n\": {n}}}', now() - interval '1 hour')"
        ))
    };
    insert("not a topic", 1);
    insert("cleaned.orders", 2);
    insert("cleaned.orders", 3);
    let mut relay = spawn(&db, "cleaned", &stop);
    until_reason(&relay, "poison_stopped");
    until("the age of the oldest row", secs(120), || {
        relay.metric("relay_outbox_oldest_pending_seconds").filter(|seconds| *seconds >= 3_600.0)
    });
    // A cleaner that does not ask takes the row in front and one that nobody has published: nothing can bring that one back.
    db.sql(&format!("DELETE FROM {table} WHERE payload->>'n' IN ('1', '2')"));
    relay.kill_9();
    relay.start_again();
    relay.until_state("streaming", secs(60));
    assert_eq!(records_once_there("cleaned.orders", 1).iter().map(number).collect::<Vec<_>>(), [3]);
}

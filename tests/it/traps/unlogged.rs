//! Unlogged tables leave no trace in the log: relay does not stream past them in silence, and polls them.

use super::{POLL, builder, load, records_once_there, spawn, until_reason};
use crate::scene::number;
use relay_tests::postgres::Postgres;
use relay_tests::relay::Relay;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

fn insert(db: &Postgres, table: &str, n: u32) {
    db.sql(&format!("INSERT INTO {table} (topic, key, value) VALUES ('orders', 'k', '{{\"n\": {n}}}')"));
}

fn entry(pipeline: &str, table: &str) -> String {
    format!("[[outbox]]\npreset = \"kafka-columns\"\ntable = {table:?}\ntopic = \"{pipeline}.{{topic}}\"")
}

#[track_caller]
fn refused(relay: &Relay, words: &str) {
    until_reason(relay, "stopped:R0208");
    let message = relay.status()["last_error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains(words), "{message}");
    println!("{message}");
}

#[test]
fn an_unlogged_table_is_refused_by_log_and_polled() {
    for version in Version::ALL {
        let db = Postgres::start(version);
        let name = format!("unlogged{}", version.major());
        load(&db, &name, "kafka-columns", "public.kept", "poll");
        db.sql("CREATE UNLOGGED TABLE quick (LIKE kept INCLUDING ALL); GRANT SELECT, UPDATE, DELETE ON quick TO relay");
        assert!(db.try_sql("CREATE PUBLICATION broken FOR TABLE quick").is_err(), "no publication takes it by name");
        // Its neighbour alone would stream well, and nobody would notice what is missing.
        db.sql(&format!("CREATE PUBLICATION relay_{name} FOR TABLE kept WITH (publish = 'insert')"));
        let both = format!("{}\n{}", entry(&name, "public.kept"), entry(&name, "public.quick"));
        let mut relay = builder(&db, &name, &both).spawn();
        refused(&relay, "table public.quick is unlogged");
        assert_eq!(db.sql("SELECT count(*) FROM pg_replication_slots").number(), 0, "nothing was made");
        let polled = format!("{name}poll");
        let poll = format!("{POLL}\n{}\nafter_publish = \"delete\"", entry(&polled, "public.quick"));
        let poller = spawn(&db, &polled, &poll);
        insert(&db, "quick", 1);
        assert_eq!(number(&records_once_there(&format!("{polled}.orders"), 1)[0]), 1);
        drop(poller);
        // The cure that is named.
        db.sql("ALTER TABLE \"public\".\"quick\" SET LOGGED");
        db.sql(&format!("ALTER PUBLICATION relay_{name} ADD TABLE quick"));
        relay.kill_9();
        relay.start_again();
        relay.until_state("streaming", secs(60));
        insert(&db, "quick", 2);
        assert_eq!(number(&records_once_there(&format!("{name}.orders"), 1)[0]), 2);
    }
}

#[test]
fn a_table_that_became_unlogged_is_refused_at_the_next_start() {
    for version in Version::ALL {
        let db = Postgres::start(version);
        let name = format!("became{}", version.major());
        load(&db, &name, "kafka-columns", "public.events", "log");
        // A publication that lists the table protects it.
        let refusal = db.try_sql("ALTER TABLE events SET UNLOGGED").expect_err("it is published");
        assert!(refusal.contains("publication"), "{refusal}");
        // One of a whole schema does not.
        db.sql(&format!("DROP PUBLICATION relay_{name}"));
        db.sql(&format!("CREATE PUBLICATION relay_{name} FOR TABLES IN SCHEMA public WITH (publish = 'insert')"));
        let mut relay = spawn(&db, &name, &entry(&name, "public.*"));
        insert(&db, "events", 1);
        assert_eq!(number(&records_once_there(&format!("{name}.orders"), 1)[0]), 1);
        db.sql("ALTER TABLE events SET UNLOGGED");
        if version == Version::V18 {
            // The stream just stays empty; somebody must look.
            until("a warning", secs(180), || relay.logs().contains("outbox.unlogged").then_some(()));
        }
        relay.terminate();
        relay.start_again();
        refused(&relay, "table public.events is unlogged");
        // It looks again by itself.
        db.sql("ALTER TABLE events SET LOGGED");
        relay.until_state("streaming", secs(60));
        insert(&db, "events", 2);
        assert_eq!(records_once_there(&format!("{name}.orders"), 2).iter().map(number).collect::<Vec<_>>(), [1, 2]);
        relay.terminate();
        // An unlogged partition hides behind a root that is logged.
        db.sql("CREATE TABLE root (LIKE events) PARTITION BY LIST (topic); CREATE UNLOGGED TABLE leaf PARTITION OF root DEFAULT");
        db.sql("GRANT SELECT ON root TO relay");
        relay.reconfigure(&entry(&name, "public.root"));
        relay.start_again();
        refused(&relay, "table public.leaf is unlogged");
    }
}

#[test]
fn an_unlogged_table_stops_a_capture_only_where_it_is_named() {
    let db = Postgres::start(Version::V18);
    db.prepare_roles();
    db.sql(
        "CREATE TABLE kept (id int PRIMARY KEY); CREATE UNLOGGED TABLE quick (id int PRIMARY KEY); INSERT INTO kept VALUES (1); \
         GRANT SELECT ON kept, quick TO relay; CREATE PUBLICATION relay_passes FOR TABLE kept",
    );
    let mut relay = spawn(&db, "passes", "[[capture]]\ntables = [\"public.*\"]");
    assert_eq!(records_once_there("passes.public.kept", 1)[0].json()["op"], "r");
    until("a warning", secs(60), || relay.logs().contains("table public.quick is unlogged").then_some(()));
    relay.terminate();
    relay.reconfigure("[[capture]]\ntables = [\"public.quick\"]").start_again();
    refused(&relay, "table public.quick is unlogged");
}

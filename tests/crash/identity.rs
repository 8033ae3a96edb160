//! Two configurations under one name, and large transactions that a crash cuts: who may write what, and which rows are whose.

use crate::story::{Mode, QUICK, judge, load, topic};
use relay_tests::consumer::{Isolation, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use std::time::Duration;

fn record(relay: &Relay) -> serde_json::Value {
    let shown = relay.run(&["checkpoint", "show", "--json"]);
    serde_json::from_slice(&shown.stdout).unwrap_or_default()
}

/// A20, B21: the same name and slot is a standby; the same name and another slot or database is refused before it writes or fences.
#[test]
fn a_second_configuration_of_the_name_is_refused_and_the_first_does_not_notice() {
    let kafka = Kafka::shared();
    for mode in Mode::all().filter(|mode| *mode != Mode::Poll) {
        let db = Postgres::start(Version::V18);
        let outbox = db.prepare_outbox(&format!("namesake{}", mode.name()));
        let topic = topic(kafka, &format!("namesake.{}", mode.name()));
        let builder = Builder::new(&outbox.pipeline).url(&db.url("relay")).brokers(&kafka.brokers()).table(&outbox.table);
        let builder = mode.apply(builder.toml(QUICK));
        let mut rightful = builder.clone().spawn();
        rightful.until_state("streaming", secs(60));
        let mut load = load(&db, &outbox, &topic, Seed::fresh());
        load.until_committed(500, secs(30));
        let (epoch, pid) = (record(&rightful)["epoch"].clone(), rightful.process().pid());
        let written = || kafka.end_offsets(&format!("{}.checkpoint", outbox.pipeline));
        let mut twin = builder.clone().spawn();
        twin.until_state("standby", secs(30));
        db.sql("SELECT pg_create_logical_replication_slot('elsewhere', 'pgoutput')");
        let stranger = builder.toml("source.log.slot = \"elsewhere\"").spawn();
        let refused = || stranger.get("/readyz").body.contains("checkpoint_foreign").then_some(());
        until("the refusal", secs(30), || stranger.try_status().and_then(|_| refused()));
        std::thread::sleep(secs(2));
        assert_eq!(db.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'elsewhere' AND active").number(), 0);
        assert_eq!(record(&rightful)["epoch"], epoch, "{mode:?}: nobody claimed another epoch");
        assert_eq!(record(&rightful)["slot"], outbox.slot.as_str());
        assert!(!written().is_empty());
        rightful.until_state("streaming", secs(5));
        assert_eq!(rightful.process().pid(), pid, "it was not restarted");
        let report = judge(&mut load, &kafka.brokers(), &topic, &mut rightful);
        assert_eq!(report.duplicates, 0, "{mode:?}: it was not fenced either");
    }
}

/// Rows `from..=to`, in one transaction by COPY: one LSN at the commit for all of them.
fn copy(db: &Postgres, table: &str, topic: &str, from: u64, to: u64) {
    use std::io::Write;
    let mut client = db.superuser();
    let mut writer = client.copy_in(&format!("COPY {table} (topic, key, type, payload) FROM STDIN")).expect("COPY begins");
    for n in from..=to {
        writeln!(writer, "{topic}\tk{}\tWritten\t{{\"n\": {n}}}", n % 5).expect("a row");
    }
    writer.finish().expect("COPY ends");
}

/// The numbers of a topic, and `relay-pos` of each.
fn numbers(topic: &str) -> Vec<(u64, String)> {
    let records = read_all(&Kafka::shared().brokers(), &[topic], Isolation::Committed);
    let pair = |record: &relay_tests::consumer::Rec| {
        (record.json()["n"].as_u64().unwrap_or(0), record.header("relay-pos").unwrap_or_default().to_owned())
    };
    records.iter().map(pair).collect()
}

/// D1, D6: a COPY of many rows is cut in the middle by a death, with a part of it stored as done; the publication is changed, or not, before
/// the next start.
#[test]
fn a_large_transaction_cut_in_the_middle_goes_on_behind_what_is_stored_or_comes_whole() {
    let kafka = Kafka::shared();
    for mode in Mode::all() {
        let db = Postgres::start(Version::V15);
        let outbox = db.prepare_outbox(&format!("cut{}", mode.name()));
        db.prepare_for_poll(&outbox);
        let rows = 3_000_u64;
        for changes_publication in [false, true] {
            if changes_publication && mode == Mode::Poll {
                continue;
            }
            let topic = topic(kafka, &format!("cut.{}.{changes_publication}", mode.name()));
            let builder = Builder::new(&outbox.pipeline).url(&db.url("relay")).brokers(&kafka.brokers()).table(&outbox.table);
            // A small window makes a position inside the transaction durable before all of it is sent.
            let small = "delivery.in_flight_events = 200\ndelivery.checkpoint_interval = \"20ms\"";
            let mut relay = mode.apply(builder.toml(QUICK)).toml(small).spawn();
            relay.until_state("streaming", secs(60));
            relay.plan(&format!("after-produce=abort@{}", rows / 2)).start_again().until_state("streaming", secs(60));
            copy(&db, &outbox.table, &topic, 1, rows);
            let fired = relay.until_aborted(secs(60)).expect("it dies in the middle of the transaction");
            let stored = record(&relay);
            let inside = stored["seq"].as_u64().or_else(|| stored["poll"].is_object().then_some(0));
            let before = numbers(&topic).len() as u64;
            if changes_publication {
                db.sql(&format!(
                    "CREATE TABLE other{} (id int); ALTER PUBLICATION {p} ADD TABLE other{}",
                    mode.name(),
                    mode.name(),
                    p = outbox.publication
                ));
            }
            relay.plan("").start_again().until_state("streaming", secs(60));
            let mut seen = Vec::new();
            until(&format!("all {rows} rows"), secs(60), || {
                seen = numbers(&topic);
                let mut each: Vec<u64> = seen.iter().map(|(n, _)| *n).collect();
                each.sort_unstable();
                each.dedup();
                (each.len() as u64 == rows).then_some(())
            });
            std::thread::sleep(Duration::from_millis(500));
            seen = numbers(&topic);
            let again = seen.len() as u64 - rows;
            println!(
                "{mode:?}, publication changed {changes_publication}: {}; stored inside: {inside:?}, {before} before, {again} again",
                fired.line
            );
            if mode != Mode::Poll {
                // One identity a row, the same each time that it comes.
                let mut identities = seen.clone();
                identities.sort_unstable();
                identities.dedup();
                assert_eq!(identities.len() as u64, rows, "a row has one position");
                let commits: std::collections::BTreeSet<&str> =
                    seen.iter().filter_map(|(_, position)| position.split('.').next()).collect();
                assert_eq!(commits.len(), 1, "one commit LSN for all: {commits:?}");
            }
            match (mode, changes_publication) {
                (Mode::ExactlyOnce, false) => assert_eq!(again, 0),
                // What was stored as done comes again: the positions may count other rows now.
                (Mode::Log, true) => {
                    assert!(again >= before.min(rows / 2) / 2, "the transaction comes whole: {again} of {before}")
                }
                (Mode::Log, false) => {
                    assert!(inside.is_some(), "a position inside the transaction was stored: {stored}");
                    assert!(again < rows / 2, "it went on behind what was stored: {again}");
                }
                _ => {}
            }
            relay.terminate();
            db.sql(&format!("DELETE FROM {}", outbox.table));
        }
    }
}

//! Large transactions that a crash cuts in the middle: which rows are sent again, and what memory they take.

use crate::identity::record;
use crate::story::{Mode, QUICK, topic};
use relay_tests::consumer::{Isolation, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::proxy::Proxy;
use relay_tests::relay::Builder;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use std::time::Duration;

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

/// D1, D6: a COPY of many rows is cut in the middle by a death, with a part of it stored as done; then the publication is changed, or not.
#[test]
fn a_large_transaction_cut_in_the_middle_goes_on_behind_what_is_stored_or_comes_whole() {
    let kafka = Kafka::shared();
    for mode in Mode::all() {
        let db = Postgres::start(Version::V15);
        let outbox = db.prepare_outbox(&format!("cut{}", mode.name()));
        db.prepare_for_poll(&outbox);
        let proxy = Proxy::start(db.port());
        let url = db.url_through("relay", proxy.port());
        let rows = 3_000_u64;
        for changes_publication in [false, true] {
            if changes_publication && mode == Mode::Poll {
                continue;
            }
            let topic = topic(kafka, &format!("cut.{}.{changes_publication}", mode.name()));
            let builder = Builder::new(&outbox.pipeline).url(&url).brokers(&kafka.brokers()).table(&outbox.table);
            // A small window makes a position inside the transaction durable before all of it is sent.
            let small = "delivery.in_flight_events = 200\ndelivery.checkpoint_interval = \"20ms\"";
            let mut relay = mode.apply(builder.toml(QUICK)).toml(small).spawn();
            relay.until_state("streaming", secs(90));
            relay.plan(&format!("after-produce=abort@{}", rows / 2)).start_again().until_state("streaming", secs(90));
            // Some seconds for the half of it, whatever the machine: time for many records of the checkpoint.
            proxy.bandwidth(40_000);
            copy(&db, &outbox.table, &topic, 1, rows);
            let fired = relay.until_aborted(secs(120)).expect("it dies in the middle of the transaction");
            proxy.heal();
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
            relay.plan("").start_again().until_state("streaming", secs(90));
            let mut seen = Vec::new();
            until(&format!("all {rows} rows"), secs(120), || {
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

/// A9: far more than the memory that relay may have, in one transaction, and a kill in the middle of it.
#[test]
fn a_transaction_larger_than_memory_passes_through_it() {
    let kafka = Kafka::shared();
    for mode in Mode::all().filter(|mode| *mode != Mode::Poll) {
        let db = Postgres::start(Version::V18);
        let outbox = db.prepare_outbox(&format!("huge{}", mode.name()));
        db.prepare_for_poll(&outbox);
        let topic = topic(kafka, &format!("huge.{}", mode.name()));
        let builder = Builder::new(&outbox.pipeline).url(&db.url("relay")).brokers(&kafka.brokers()).table(&outbox.table);
        let mut relay = mode.apply(builder.toml(QUICK)).toml("delivery.in_flight = \"16MiB\"").spawn();
        relay.until_state("streaming", secs(90));
        let rows = 40_000_u64;
        relay.plan(&format!("after-produce=abort@{}", rows / 2)).start_again().until_state("streaming", secs(90));
        db.sql(&format!(
            "INSERT INTO {} (topic, key, type, payload) SELECT '{topic}', 'k' || n % 5, 'Written', \
             jsonb_build_object('n', n, 'pad', repeat('x', 4000)) FROM generate_series(1, {rows}) n",
            outbox.table
        ));
        assert!(relay.until_aborted(secs(120)).is_some(), "it dies in the middle");
        relay.plan("").start_again().until_state("streaming", secs(90));
        // Offsets first: reading 160 MB again and again is not what is tested. Exactly-once takes some for its markers.
        let ends = || -> i64 { (0..4).map(|partition| kafka.end_offset(&topic, partition)).sum() };
        until("most of it", secs(240), || (ends() >= rows as i64).then_some(()));
        let mut numbers = Vec::new();
        until("all rows", secs(120), || {
            let records = read_all(&kafka.brokers(), &[&topic], Isolation::Committed);
            numbers = records.iter().filter_map(|record| record.json()["n"].as_u64()).collect();
            let mut each = numbers.clone();
            each.sort_unstable();
            each.dedup();
            (each.len() as u64 == rows).then_some(())
        });
        let peak = relay.peak_rss_bytes() >> 20;
        println!("{mode:?}: {rows} rows of 4 kB in one transaction, {} again, peak {peak} MiB", numbers.len() as u64 - rows);
        assert!(peak < 128, "{peak} MiB for a window of 16 MiB");
        assert!(mode != Mode::ExactlyOnce || numbers.len() as u64 == rows);
        relay.terminate();
    }
}

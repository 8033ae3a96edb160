//! Kafka away: relay stands still, the server is none the worse for it.

use crate::scene::{QUICK, sorted};
use relay_tests::consumer::{Isolation, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::Relay;
use relay_tests::topics::unique_topic;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use std::time::{Duration, Instant};

/// A window of a few events, so that a silent broker stalls relay at once.
const NARROW: &str = "delivery.in_flight_events = 64";

#[test]
fn a_stalled_relay_keeps_its_connection_and_lets_a_fast_shutdown_through() {
    for version in [Version::V15, Version::V18] {
        let mut db = Postgres::start(version);
        let outbox = db.prepare_outbox("stalled");
        let mut kafka = Kafka::start();
        let topic = unique_topic("stalled");
        kafka.create_topic(&topic, 1, &[]);
        let quick = "source.log.wal_sender_timeout = \"8s\"\nsource.log.server_shutdown_grace = \"1s\"";
        let mut relay = Relay::on(&db, &kafka, &outbox).toml(QUICK).toml(NARROW).toml(quick).spawn();
        relay.until_state("streaming", secs(60));
        let write = |from: u32, to: u32| {
            db.sql(&format!(
                "INSERT INTO {} (topic, key, type, payload) SELECT '{topic}', 'k', 'T', jsonb_build_object('n', n) \
                 FROM generate_series({from}, {to}) n",
                outbox.table
            ));
        };
        write(1, 100);
        until("the first rows", secs(60), || {
            (read_all(&kafka.brokers(), &[&topic], Isolation::Committed).len() == 100).then_some(())
        });
        kafka.kill_9();
        write(101, 5_000);
        let pid = || db.sql("SELECT active_pid FROM pg_replication_slots").one().to_owned();
        let before = pid();
        // Longer than the session's wal_sender_timeout, which is longer than a busy machine keeps relay waiting.
        std::thread::sleep(Duration::from_secs(14));
        assert_eq!(pid(), before, "{version}: the same walsender still serves the stalled relay");
        let started = Instant::now();
        let exit = db.stop_fast_within(secs(60));
        println!("{version}: fast shutdown with a stalled relay took {:.1?} ({exit:?})", started.elapsed());
        db.start_again();
        kafka.start_again();
        let numbers = until("every row", secs(60), || {
            let records = read_all(&kafka.brokers(), &[&topic], Isolation::Committed);
            (records.len() >= 5_000).then(|| records.iter().map(crate::scene::number).collect::<Vec<_>>())
        });
        let mut distinct = sorted(numbers);
        distinct.dedup();
        assert_eq!(distinct, (1..=5_000).collect::<Vec<_>>());
    }
}

#[test]
fn sigterm_with_kafka_down_ends_within_the_grace_and_confirms_nothing_undelivered() {
    let db = Postgres::start(Version::V18);
    let outbox = db.prepare_outbox("graceful");
    let mut kafka = Kafka::start();
    let topic = unique_topic("graceful");
    kafka.create_topic(&topic, 1, &[]);
    let mut relay = Relay::on(&db, &kafka, &outbox).toml(QUICK).toml("shutdown.grace = \"4s\"").spawn();
    relay.until_state("streaming", secs(60));
    kafka.kill_9();
    let before = db.sql("SELECT pg_current_wal_insert_lsn() - '0/0'").number();
    let table = &outbox.table;
    db.sql(&format!(
        "INSERT INTO {table} (topic, key, type, payload) SELECT '{topic}', 'k', 'T', jsonb_build_object('n', n) \
         FROM generate_series(1, 50) n"
    ));
    std::thread::sleep(Duration::from_secs(1));
    let exit = relay.terminate();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(exit.took < secs(30), "{exit:?}");
    let confirmed = db.sql("SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots").number();
    assert!(confirmed <= before, "nothing beyond the frontier is confirmed");
    kafka.start_again();
    relay.start_again();
    until("the rows", secs(60), || (read_all(&kafka.brokers(), &[&topic], Isolation::Committed).len() >= 50).then_some(()));
}

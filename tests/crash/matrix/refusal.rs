//! The broker refuses a batch for one record, and relay dies while it goes back or is about to send one record at a time.

use super::{Book, Kill, die};
use crate::story::{Mode, QUICK};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode;
use relay_tests::consumer::{Isolation, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::outbox::Outbox;
use relay_tests::postgres::Postgres;
use relay_tests::relay::Builder;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

/// `max.message.bytes` while everything may pass, and while one record may not.
const WIDE: &str = "1000000";
const NARROW: &str = "20000";

pub(super) fn run(mode: Mode, kills: &[Kill], book: &mut Book) {
    let db = Postgres::start(Version::V18);
    let outbox = db.prepare_outbox(&format!("refused{}", mode.name()));
    db.prepare_for_poll(&outbox);
    let kafka = Kafka::shared();
    let topic = format!("matrix.refused.{}", mode.name());
    kafka.create_topic(&topic, 1, &[("max.message.bytes", WIDE)]);
    let builder = Builder::new(&outbox.pipeline).url(&db.url("relay")).brokers(&kafka.brokers()).table(&outbox.table);
    let mut relay = mode.apply(builder.toml(QUICK)).spawn();
    let numbers = || -> Vec<u64> {
        let records = read_all(&kafka.brokers(), &[&topic], Isolation::Committed);
        records.iter().filter_map(|record| record.json()["n"].as_u64()).collect()
    };
    let until_seen = |n: u64| until(&format!("row {n} in {topic}"), secs(120), || numbers().contains(&n).then_some(()));
    let mut written = 0;
    for kill in kills {
        // It must have read the wide limit before that is lowered: the check before produce cannot know then.
        relay.plan(&format!("{}=abort@1", kill.point)).start_again().until_state("streaming", secs(90));
        written += 1;
        write(&db, &outbox, &topic, written, written, 0);
        until_seen(written);
        limit(kafka, &topic, NARROW);
        write(&db, &outbox, &topic, written + 1, written + 40, written + 20);
        written += 40;
        let fired = super::died(&mut relay, kill.point);
        book.killed(mode, kill.point, &fired);
        limit(kafka, &topic, WIDE);
        // Dead again, behind nothing but a start.
        die(&mut relay, "epoch-write", 1);
        relay.plan("").start_again().until_state("streaming", secs(90));
        until_seen(written);
        if mode == Mode::ExactlyOnce {
            assert_eq!(numbers().len() as u64, written, "exactly once after {}", kill.point);
        }
    }
    let mut seen = numbers();
    seen.sort_unstable();
    seen.dedup();
    book.lost += written - seen.len() as u64;
}

/// Changes the limit and waits until it is in force: the broker stores a setting first and acts on it a moment later.
fn limit(kafka: &Kafka, topic: &str, bytes: &str) {
    kafka.alter_topic(topic, &[("max.message.bytes", bytes)]);
    let client: FutureProducer = ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().expect("a producer");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime of one thread");
    // Without a number, and so no row.
    let probe = format!(r#"{{"probe": "{}"}}"#, "x".repeat(40_000));
    until(&format!("a limit of {bytes} bytes"), secs(90), || {
        let record = FutureRecord::to(topic).key("probe").payload(&probe);
        let sent = client.send_result(record).unwrap_or_else(|(e, _)| panic!("send a probe: {e}"));
        let refused = match runtime.block_on(sent).expect("the producer lives") {
            Ok(_) => false,
            Err((e, _)) if e.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge) => true,
            Err((e, _)) => panic!("send a probe: {e}"),
        };
        (refused == (bytes == NARROW)).then_some(())
    });
}

/// Rows `from..=to` in one transaction, one of them large.
fn write(db: &Postgres, outbox: &Outbox, topic: &str, from: u64, to: u64, large: u64) {
    db.sql(&format!(
        "INSERT INTO {} (topic, key, type, payload) SELECT '{topic}', 'k', 'Written', jsonb_build_object('n', n, 'pad', \
           CASE WHEN n = {large} THEN (SELECT string_agg(md5(i::text || n), '') FROM generate_series(1, 2000) i) ELSE '' END) \
         FROM generate_series({from}, {to}) n",
        outbox.table
    ));
}

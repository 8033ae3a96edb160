//! A first start dies between the steps that make record, publication and slot: the next one goes on, with one slot and one publication.

use super::{Book, Kill, died};
use crate::story::{Mode, QUICK};
use relay_tests::consumer::{Isolation, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::Builder;
use relay_tests::topics::unique_topic;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

pub(super) fn run(mode: Mode, kills: &[Kill], book: &mut Book) {
    if kills.is_empty() {
        return;
    }
    let db = Postgres::start(Version::V18);
    let kafka = Kafka::shared();
    for (at, kill) in kills.iter().enumerate() {
        let outbox = db.prepare_outbox(&format!("first{}{at}", mode.name()));
        // What makes the publication must own the table.
        db.sql(&format!(
            "DROP PUBLICATION {}; GRANT app TO relay; GRANT CREATE ON DATABASE postgres TO relay",
            outbox.publication
        ));
        let topic = unique_topic(&format!("matrix.first.{}", mode.name()));
        kafka.create_topic(&topic, 1, &[]);
        let builder = Builder::new(&outbox.pipeline).url(&db.url("relay")).brokers(&kafka.brokers()).table(&outbox.table);
        let plan = format!("{}=abort@1", kill.point);
        let mut relay = mode.apply(builder.toml(QUICK)).env("RELAY_FAILPOINTS", &plan).spawn();
        let fired = died(&mut relay, kill.point);
        book.killed(mode, kill.point, &fired);
        let slots = || db.sql(&format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", outbox.slot)).number();
        let had_slot = slots() == 1;
        let write = |n: u64| {
            let row = format!("('{topic}', 'k', 'Written', '{{\"n\": {n}}}')");
            db.sql(&format!("INSERT INTO {} (topic, key, type, payload) VALUES {row}", outbox.table));
        };
        // Behind the slot's beginning, if it has one.
        write(1);
        relay.plan("").start_again().until_state("streaming", secs(90));
        write(2);
        let expected: Vec<u64> = if had_slot { vec![1, 2] } else { vec![2] };
        let mut seen = Vec::new();
        until(&format!("rows {expected:?} after {}; there are {seen:?}", kill.point), secs(120), || {
            let records = read_all(&kafka.brokers(), &[&topic], Isolation::Committed);
            seen = records.iter().filter_map(|record| record.json()["n"].as_u64()).collect();
            seen.contains(&2).then_some(())
        });
        assert_eq!(seen, expected, "{}: nothing lost from the slot's start on", kill.point);
        let publications = db.sql(&format!("SELECT count(*) FROM pg_publication WHERE pubname = '{}'", outbox.publication));
        assert_eq!((slots(), publications.number()), (1, 1), "{}", kill.point);
        relay.terminate();
        // The walsender may outlive relay by a moment.
        let drop = format!("SELECT pg_drop_replication_slot('{}')", outbox.slot);
        until("the slot to be free", secs(90), || db.try_sql(&drop).ok());
    }
}

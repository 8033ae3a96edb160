//! Two configurations under one name: who may write and fence.

use crate::story::{Mode, QUICK, judge, load, topic};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

/// The newest record.
pub(crate) fn record(relay: &Relay) -> serde_json::Value {
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
        rightful.until_state("streaming", secs(90));
        let mut load = load(&db, &outbox, &topic, Seed::fresh());
        load.until_committed(500, secs(90));
        let (epoch, pid) = (record(&rightful)["epoch"].clone(), rightful.process().pid());
        let written = || kafka.end_offsets(&format!("{}.checkpoint", outbox.pipeline));
        let mut twin = builder.clone().spawn();
        twin.until_state("standby", secs(90));
        db.sql("SELECT pg_create_logical_replication_slot('elsewhere', 'pgoutput')");
        let stranger = builder.toml("source.log.slot = \"elsewhere\"").spawn();
        let refused = || stranger.get("/readyz").body.contains("checkpoint_foreign").then_some(());
        until("the refusal", secs(90), || stranger.try_status().and_then(|_| refused()));
        std::thread::sleep(secs(2));
        assert_eq!(db.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'elsewhere' AND active").number(), 0);
        assert_eq!(record(&rightful)["epoch"], epoch, "{mode:?}: nobody claimed another epoch");
        assert_eq!(record(&rightful)["slot"], outbox.slot.as_str());
        assert!(!written().is_empty());
        rightful.until_state("streaming", secs(90));
        assert_eq!(rightful.process().pid(), pid, "it was not restarted");
        let report = judge(&mut load, &kafka.brokers(), &topic, &mut rightful);
        assert_eq!(report.duplicates, 0, "{mode:?}: it was not fenced either");
    }
}

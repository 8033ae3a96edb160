//! The network between relay and either server is cut, stalled and half-closed under load.

use crate::story::{budget, cut, judge, load, relay, topic};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::proxy::Proxy;
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::secs;

#[test]
fn faults_between_relay_and_postgresql_lose_nothing() {
    let number = Seed::fresh();
    let db = Postgres::start(Version::V18);
    let kafka = Kafka::shared();
    let outbox = db.prepare_outbox("pgnet");
    let topic = topic(kafka, "pgnet.orders");
    let proxy = Proxy::start(db.port());
    let mut relay = relay(&db.url_through("relay", proxy.port()), &kafka.brokers(), &outbox).spawn();
    relay.until_state("streaming", secs(90));
    let mut load = load(&db, &outbox, &topic, number);
    let steps = proxy.chaos(number, budget(25)).finish();
    cut(&proxy);
    let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
    let counts = proxy.counts();
    println!("seed {number}: {} faults, {counts:?}, {} duplicates", steps.len(), report.duplicates);
}

#[test]
fn faults_between_relay_and_kafka_lose_nothing() {
    let number = Seed::fresh();
    let db = Postgres::start(Version::V15);
    let kafka = Kafka::builder().proxied().start();
    let outbox = db.prepare_outbox("kafkanet");
    let topic = topic(&kafka, "kafkanet.orders");
    let mut relay = relay(&db.url("relay"), &kafka.proxied_brokers(), &outbox).spawn();
    relay.until_state("streaming", secs(90));
    let mut load = load(&db, &outbox, &topic, number);
    let steps = kafka.proxy().chaos(number, budget(25)).finish();
    cut(kafka.proxy());
    let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
    let counts = kafka.proxy().counts();
    println!("seed {number}: {} faults, {counts:?}, {} duplicates", steps.len(), report.duplicates);
}

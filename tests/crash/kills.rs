//! relay itself is killed: under load, while it starts, with a second one waiting.

use crate::story::{budget, judge, load, relay, topic};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::secs;
use std::time::{Duration, Instant};

#[test]
fn fifty_kills_under_load_lose_nothing() {
    let number = Seed::fresh();
    let mut seed = Seed::new(number);
    let db = Postgres::start(if seed.chance(0.5) { Version::V15 } else { Version::V18 });
    let kafka = Kafka::shared();
    let outbox = db.prepare_outbox("kills");
    let topic = topic(kafka, "kills.orders");
    let mut relay = relay(&db.url("relay"), &kafka.brokers(), &outbox).spawn();
    relay.until_state("streaming", secs(90));
    let mut load = load(&db, &outbox, &topic, number);
    let (started, budget) = (Instant::now(), budget(60));
    let (mut kills, mut reconnects) = (0, 0);
    // Half of the pauses hit the start protocol and the first checkpoint, half the stream.
    while kills < 50 || started.elapsed() < budget {
        let pause = if seed.chance(0.5) { seed.between(5, 400) } else { seed.between(400, 1_500) };
        std::thread::sleep(Duration::from_millis(pause));
        if seed.chance(0.3) {
            // Into the reconnect: the walsender ends, relay follows a moment later.
            db.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL");
            reconnects += 1;
            std::thread::sleep(Duration::from_millis(seed.between(0, 300)));
        }
        relay.kill_9();
        kills += 1;
        relay.start_again();
    }
    let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
    println!(
        "seed {number}: {kills} kills in {:.0?}, {reconnects} of them during a reconnect, {} duplicates",
        started.elapsed(),
        report.duplicates
    );
    assert_eq!(db.sql("SELECT count(*) FROM pg_replication_slots").number(), 1, "one slot, whatever was killed");
}

#[test]
fn kills_during_bootstrap_leave_one_slot_and_lose_nothing_after_it() {
    let number = Seed::fresh();
    let mut seed = Seed::new(number);
    let db = Postgres::start(Version::V18);
    let kafka = Kafka::shared();
    let mut kills = 0;
    for round in 0..4 {
        let outbox = db.prepare_outbox(&format!("boot{round}"));
        let topic = topic(kafka, &format!("boot{round}.orders"));
        let mut relay = relay(&db.url("relay"), &kafka.brokers(), &outbox).spawn();
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(seed.between(1, 700)));
            relay.kill_9();
            kills += 1;
            relay.start_again();
        }
        relay.until_state("streaming", secs(90));
        let slots = db.sql(&format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", outbox.slot));
        assert_eq!(slots.number(), 1);
        let mut load = load(&db, &outbox, &topic, number + round);
        load.until_committed(300, secs(90));
        judge(&mut load, &kafka.brokers(), &topic, &mut relay);
        relay.terminate();
    }
    assert_eq!(db.sql("SELECT count(*) FROM pg_replication_slots").number(), 4, "no orphan slot");
    println!("seed {number}: {kills} kills during bootstrap");
}

#[test]
fn a_second_relay_waits_and_takes_over_each_time() {
    let number = Seed::fresh();
    let mut seed = Seed::new(number);
    let db = Postgres::start(Version::V15);
    let kafka = Kafka::shared();
    let outbox = db.prepare_outbox("pair");
    let topic = topic(kafka, "pair.orders");
    let builder = relay(&db.url("relay"), &kafka.brokers(), &outbox);
    let mut leader = builder.clone().spawn();
    leader.until_state("streaming", secs(90));
    let mut standby = builder.spawn();
    standby.until_state("standby", secs(90));
    standby.until_ready(secs(90));
    let mut load = load(&db, &outbox, &topic, number);
    let mut slowest = Duration::ZERO;
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(seed.between(200, 1_500)));
        let before = Instant::now();
        leader.kill_9();
        standby.until_state("streaming", secs(90));
        slowest = slowest.max(before.elapsed());
        leader.start_again();
        leader.until_state("standby", secs(90));
        std::mem::swap(&mut leader, &mut standby);
    }
    let report = judge(&mut load, &kafka.brokers(), &topic, &mut leader);
    println!("seed {number}: 6 takeovers, the slowest {slowest:.1?} from kill to streaming, {} duplicates", report.duplicates);
}

#[test]
fn a_clean_stop_and_start_repeats_nothing() {
    let db = Postgres::start(Version::V18);
    let kafka = Kafka::shared();
    let outbox = db.prepare_outbox("clean");
    let topic = topic(kafka, "clean.orders");
    let mut relay = relay(&db.url("relay"), &kafka.brokers(), &outbox).spawn();
    relay.until_state("streaming", secs(90));
    let mut load = load(&db, &outbox, &topic, Seed::fresh());
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(800));
        let exit = relay.terminate();
        assert_eq!(exit.code, Some(0), "{exit:?}");
        relay.start_again();
        relay.until_state("streaming", secs(90));
    }
    let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
    assert_eq!(report.duplicates, 0, "four clean stops under load repeat nothing");
}

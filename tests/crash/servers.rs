//! The servers on either side are killed, stopped and started again under load.

use crate::story::{Mode, budget, judge, load, relay, topic};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::secs;
use std::time::{Duration, Instant};

#[test]
fn postgresql_killed_stopped_and_restarted_loses_nothing() {
    for version in [Version::V15, Version::V18] {
        let number = Seed::fresh();
        let mut seed = Seed::new(number);
        // The server must keep what it called committed, so fsync stays on.
        let mut db = Postgres::builder(version).durable().start();
        let kafka = Kafka::shared();
        let outbox = db.prepare_outbox(&format!("restarts{}", version as u32));
        let topic = topic(kafka, &format!("restarts.{version:?}"));
        let mut relay = relay(&db.url("relay"), &kafka.brokers(), &outbox).spawn();
        relay.until_state("streaming", secs(90));
        let mut load = load(&db, &outbox, &topic, number);
        let (mut kills, mut immediate, mut fast) = (0, 0, 0);
        let started = Instant::now();
        while kills + immediate + fast < 6 || started.elapsed() < budget(20) {
            std::thread::sleep(Duration::from_millis(seed.between(300, 1_500)));
            match seed.below(3) {
                0 => {
                    db.kill_9();
                    kills += 1;
                }
                1 => {
                    db.stop_immediate();
                    immediate += 1;
                }
                _ => {
                    db.stop_fast();
                    fast += 1;
                }
            }
            db.start_again();
            if seed.chance(0.3) {
                relay.kill_9();
                relay.start_again();
            }
            relay.until_state("streaming", secs(90));
        }
        let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
        println!(
            "{version}, seed {number}: {kills} kills, {immediate} immediate and {fast} fast stops, {} duplicates",
            report.duplicates
        );
    }
}

/// C1: the window is kept, and the stream goes on behind what was received whole.
#[test]
fn a_fast_restart_of_postgresql_repeats_nothing() {
    for (version, mode) in [(Version::V15, Mode::Log), (Version::V18, Mode::ExactlyOnce), (Version::V18, Mode::Log)] {
        let mut db = Postgres::builder(version).durable().start();
        let kafka = Kafka::shared();
        let outbox = db.prepare_outbox(&format!("fast{}{}", version as u32, mode.name()));
        db.prepare_for_poll(&outbox);
        let topic = topic(kafka, &format!("fast.{version:?}.{}", mode.name()));
        let mut relay = mode.apply(relay(&db.url("relay"), &kafka.brokers(), &outbox)).spawn();
        relay.until_state("streaming", secs(90));
        let mut load = load(&db, &outbox, &topic, Seed::fresh());
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(500));
            db.stop_fast();
            db.start_again();
            relay.until_state("streaming", secs(90));
        }
        let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
        println!("{version}, {mode:?}: two fast restarts, {} duplicates", report.duplicates);
        assert_eq!(report.duplicates, 0, "{version}, {mode:?}");
    }
}

#[test]
fn kafka_killed_and_restarted_loses_nothing() {
    let number = Seed::fresh();
    let mut seed = Seed::new(number);
    let db = Postgres::start(Version::V18);
    let mut kafka = Kafka::start();
    let outbox = db.prepare_outbox("broker");
    let topic = topic(&kafka, "broker.orders");
    let mut relay = relay(&db.url("relay"), &kafka.brokers(), &outbox).spawn();
    relay.until_state("streaming", secs(90));
    let mut load = load(&db, &outbox, &topic, number);
    let (mut kills, mut stops) = (0, 0);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(seed.between(1_000, 3_000)));
        if seed.chance(0.5) {
            kafka.kill_9();
            kills += 1;
        } else {
            kafka.stop();
            stops += 1;
        }
        std::thread::sleep(Duration::from_millis(seed.between(100, 3_000)));
        kafka.start_again();
        if seed.chance(0.5) {
            relay.kill_9();
            relay.start_again();
        }
    }
    let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
    println!("seed {number}: broker killed {kills} and stopped {stops} times, {} duplicates", report.duplicates);
}

//! Three brokers, of which the leader dies under load: `cargo test --test crash three_brokers -- --ignored --nocapture`.

use crate::story::{Mode, QUICK, judge, load};
use relay_tests::cluster::Cluster;
use relay_tests::postgres::Postgres;
use relay_tests::relay::Builder;
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::secs;
use std::time::Duration;

/// B2.
#[test]
#[ignore = "three brokers are too much for every run"]
fn three_brokers_whose_leader_dies_lose_and_reorder_nothing() {
    let mut cluster = Cluster::start();
    for mode in Mode::all() {
        let number = Seed::fresh();
        let mut seed = Seed::new(number);
        let db = Postgres::start(Version::V18);
        let outbox = db.prepare_outbox(&format!("three{}", mode.name()));
        db.prepare_for_poll(&outbox);
        let topic = format!("three.{}", mode.name());
        cluster.create_topic(&topic, 4);
        let builder = Builder::new(&outbox.pipeline).url(&db.url("relay")).brokers(&cluster.brokers()).table(&outbox.table);
        let mut relay = mode.apply(builder.toml(QUICK)).spawn();
        relay.until_state("streaming", secs(90));
        let mut load = load(&db, &outbox, &topic, number);
        let mut changes = Vec::new();
        // The events' leader, the checkpoint's, and, in exactly-once, the coordinator of its transactions.
        let checkpoint = format!("{}.checkpoint", outbox.pipeline);
        for watched in [&topic, &checkpoint, "__transaction_state"] {
            if watched.starts_with("__") && mode != Mode::ExactlyOnce {
                continue;
            }
            std::thread::sleep(Duration::from_millis(seed.between(500, 2_000)));
            let old = cluster.leader(watched, None);
            cluster.kill_9(old);
            let new = cluster.leader(watched, Some(old));
            assert_ne!(new, old, "{watched} has another leader");
            changes.push((old + 1, new + 1));
            std::thread::sleep(Duration::from_millis(seed.between(1_000, 3_000)));
            cluster.start_again(old);
        }
        let report = judge(&mut load, &cluster.brokers(), &topic, &mut relay);
        println!("{mode:?}, seed {number}: leaders changed {changes:?}, {} duplicates", report.duplicates);
        assert!(changes.len() >= 2, "leaders changed: {changes:?}");
        if mode == Mode::ExactlyOnce {
            report.assert_exactly_once();
        }
    }
}

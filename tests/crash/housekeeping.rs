//! Published rows are pruned without a pause, under load and kills: no row goes that is not in the topic.

use crate::story::{QUICK, budget, judge, load, topic};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use std::time::{Duration, Instant};

/// Rows that went, or `None` where nothing could be proven published yet.
fn prune(relay: &Relay) -> Option<u64> {
    let output = relay.run(&["outbox", "prune", "--older-than", "0s", "--yes", "--json"]);
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    line["rows"].as_u64()
}

#[test]
fn pruning_under_load_takes_no_row_that_polling_has_still_to_publish() {
    for mode in ["poll", "log"] {
        let number = Seed::fresh();
        let mut seed = Seed::new(number);
        let db = Postgres::builder(if seed.chance(0.5) { Version::V15 } else { Version::V18 }).durable().start();
        let outbox = db.prepare_outbox(&format!("pruned{mode}"));
        db.prepare_for_poll(&outbox);
        let kafka = Kafka::shared();
        let topic = topic(kafka, &format!("pruned.{mode}"));
        let builder = Builder::new(&outbox.pipeline).url(&db.url("relay")).brokers(&kafka.brokers()).table(&outbox.table);
        let mode_of = |mode: &str| format!("source.mode = {mode:?}\nsource.poll.interval = \"20ms\"\nsource.poll.batch = 200");
        let mut relay = builder.toml(QUICK).toml(&mode_of(mode)).spawn();
        relay.until_state("streaming", secs(30));
        let mut load = load(&db, &outbox, &topic, number);
        if mode == "log" {
            // What is proven published there is what polling leaves out after the switch: the log itself would bring every row.
            until("a snapshot of what is published", secs(60), || prune(&relay));
        }
        let (started, budget) = (Instant::now(), budget(15));
        let (mut gone, mut prunes, mut kills) = (0, 0, 0);
        while started.elapsed() < budget || prunes < 5 {
            if let Some(rows) = prune(&relay) {
                (gone, prunes) = (gone + rows, prunes + 1);
            }
            if seed.chance(0.4) {
                relay.kill_9();
                // Nobody publishes, the load goes on.
                if let Some(rows) = prune(&relay) {
                    (gone, prunes) = (gone + rows, prunes + 1);
                }
                relay.start_again();
                kills += 1;
            }
            std::thread::sleep(Duration::from_millis(seed.between(0, 200)));
        }
        if mode == "log" {
            relay.kill_9();
            gone += prune(&relay).unwrap_or_default();
            relay.reconfigure(&mode_of("poll"));
            relay.start_again();
        }
        let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
        println!("seed {number}, {mode}: {prunes} prunes took {gone} rows, {kills} kills, {} duplicates", report.duplicates);
        assert!(gone > 0, "a run that prunes nothing proves nothing");
    }
}

//! Published rows are pruned without a pause, under load and kills: no row goes that is not in the topic.

use crate::story::{QUICK, budget, judge, load, topic};
use relay_tests::consumer::{Isolation, Reader};
use relay_tests::kafka::Kafka;
use relay_tests::outbox::Outbox;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, try_until, until};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Rows that went, or `None` where nothing could be proven published yet.
fn prune(relay: &Relay) -> Option<u64> {
    let output = relay.run(&["outbox", "prune", "--older-than", "0s", "--yes", "--json"]);
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    line["rows"].as_u64()
}

/// A row is written, relay comes to know a snapshot in which it is not committed yet, and dies; then the row is committed, and published
/// rows are pruned. Answers how many went.
fn kill_over_an_open_row(db: &Postgres, outbox: &Outbox, topic: &str, relay: &mut Relay, n: u64, open_for: Duration) -> u64 {
    let mut slow = db.connect("app", "postgres").expect("a connection");
    let row = format!("(topic, key, type, payload) VALUES ('{topic}', 'slow', 'Written', '{{\"n\": {n}}}')");
    slow.batch_execute(&format!("BEGIN; INSERT INTO {} {row}", outbox.table)).expect("an open row");
    std::thread::sleep(open_for);
    relay.kill_9();
    slow.batch_execute("COMMIT").expect("it commits");
    prune(relay).unwrap_or_default()
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
        relay.until_state("streaming", secs(90));
        let mut load = load(&db, &outbox, &topic, number);
        if mode == "log" {
            // What is proven published there is what polling leaves out after the switch: the log itself would bring every row.
            until("a snapshot of what is published", secs(120), || prune(&relay));
        }
        let slow_topic = self::topic(kafka, &format!("pruned.{mode}.slow"));
        let (started, budget) = (Instant::now(), budget(15));
        let (mut gone, mut prunes, mut kills) = (0, 0, 0);
        // In log mode it takes some quiet seconds until a younger snapshot is known to be published.
        let (risk, open_for) = if mode == "log" { (0.03, secs(5)) } else { (0.25, Duration::from_millis(700)) };
        while started.elapsed() < budget || (gone == 0 && started.elapsed() < budget + secs(120)) {
            if let Some(rows) = prune(&relay) {
                (gone, prunes) = (gone + rows, prunes + 1);
            }
            if seed.chance(risk) && started.elapsed() < budget {
                kills += 1;
                gone += kill_over_an_open_row(&db, &outbox, &slow_topic, &mut relay, kills, open_for);
                relay.start_again();
            }
            std::thread::sleep(Duration::from_millis(seed.between(0, 200)));
        }
        kills += 1;
        gone += kill_over_an_open_row(&db, &outbox, &slow_topic, &mut relay, kills, open_for);
        relay.reconfigure(&mode_of("poll"));
        relay.start_again();
        let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
        let mut slow = BTreeSet::new();
        let all = try_until(secs(90), || {
            let records = Reader::new(&kafka.brokers()).read_all(&[&slow_topic], Isolation::Committed);
            slow = records.iter().filter_map(|record| record.json()["n"].as_u64()).collect();
            slow.iter().copied().eq(1..=kills).then_some(())
        });
        assert!(all.is_some(), "rows that were open in the snapshot and committed when nobody published: {slow:?} of {kills}");
        println!("seed {number}, {mode}: {prunes} prunes took {gone} rows, {kills} kills, {} duplicates", report.duplicates);
        assert!(gone > 0, "a run that prunes nothing proves nothing");
    }
}

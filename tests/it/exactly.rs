//! Exactly-once, with a real relay between real servers: what readers of committed records see, and when.

use relay_tests::consumer::{Isolation, Rec, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::proxy::Proxy;
use relay_tests::relay::{Builder, Relay};
use relay_tests::topics::unique_topic;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use std::time::Duration;

use crate::scene::{QUICK, Scene, number, records, sorted};

const EXACTLY: &str = "delivery.guarantee = \"exactly-once\"\n";
/// Small enough that a source transaction of some hundred rows takes several Kafka transactions.
const SMALL: &str = "delivery.in_flight_events = 200\n";

fn exactly(scene: &Scene) -> Builder {
    scene.relay().toml(EXACTLY)
}

#[track_caller]
fn metric(relay: &Relay, name: &str, scene: &str, labels: &str) -> f64 {
    let series = format!("{name}{{pipeline=\"{scene}\"{labels}}}");
    relay.metric(&series).unwrap_or_else(|| panic!("no {series} in\n{}", relay.metrics()))
}

fn committed(topic: &str) -> Vec<Rec> {
    read_all(&Kafka::shared().brokers(), &[topic], Isolation::Committed)
}

/// Waits until all that was written is there, and one event more: what was still to come would come twice. Then judges it.
#[track_caller]
fn settle(scene: &Scene, relay: &mut Relay, to: u64) {
    relay.until_state("streaming", secs(60));
    scene.numbers(to as usize, secs(60));
    scene.write(to + 1, to + 1);
    scene.numbers(to as usize + 1, secs(60));
    check(&scene.topic, to + 1);
}

/// The committed view has each number once, and those of one key in the order written.
#[track_caller]
fn check(topic: &str, to: u64) {
    let records = committed(topic);
    assert_eq!(sorted(records.iter().map(number).collect()), (1..=to).collect::<Vec<_>>(), "each once");
    for key in 0..5 {
        let of_key: Vec<u64> = records.iter().map(number).filter(|n| n % 5 == key).collect();
        assert!(of_key.is_sorted(), "key k{key}: {of_key:?}");
    }
}

#[test]
fn a_backlog_of_large_transactions_is_split_and_read_exactly_once() {
    let scene = Scene::new("exactsplit", Version::V18);
    let mut relay = exactly(&scene).toml(SMALL).spawn();
    relay.until_state("streaming", secs(60));
    relay.terminate();
    scene.write(1, 3_000);
    for first in (3_001..5_001).step_by(20) {
        scene.write(first, first + 19);
    }
    relay.start_again().until_state("streaming", secs(60));
    scene.numbers(5_000, secs(60));
    check(&scene.topic, 5_000);
    assert!(metric(&relay, "relay_transaction_splits_total", "exactsplit", "") >= 1.0, "3000 rows do not fit");
    assert!(metric(&relay, "relay_kafka_transactions_total", "exactsplit", ",outcome=\"committed\"") >= 15.0);
    assert_eq!(metric(&relay, "relay_kafka_transactions_total", "exactsplit", ",outcome=\"aborted\""), 0.0);
    assert!(metric(&relay, "relay_kafka_fences_total", "exactsplit", "") >= 1.0);
    // What is committed is confirmed, so that WAL goes.
    let inserted = scene.db.sql("SELECT pg_current_wal_lsn()").one().to_owned();
    until("everything confirmed", secs(60), || {
        let behind = format!("SELECT confirmed_flush_lsn >= '{inserted}' FROM pg_replication_slots");
        (scene.db.sql(&behind).one() == "t").then_some(())
    });
    let uncommitted = read_all(&Kafka::shared().brokers(), &[&scene.topic], Isolation::Uncommitted);
    assert_eq!(uncommitted.len(), 5_000, "nothing was aborted");
}

#[test]
fn kills_leave_nothing_twice_and_nothing_out() {
    let scene = Scene::new("exactkill", Version::V15);
    let mut relay = exactly(&scene).toml(SMALL).spawn();
    relay.until_state("streaming", secs(60));
    let mut to = 0;
    for round in 0..6 {
        for size in [1, 700, 30, 400] {
            scene.write(to + 1, to + size);
            to += size;
        }
        std::thread::sleep(Duration::from_millis(40 * round));
        relay.kill_9();
        relay.start_again();
    }
    settle(&scene, &mut relay, to);
}

#[test]
fn a_lost_connection_to_the_server_and_a_drain_repeat_nothing() {
    let scene = Scene::new("exactcut", Version::V18);
    let proxy = Proxy::start(scene.db.port());
    let url = scene.db.url_through("relay", proxy.port());
    let mut relay = exactly(&scene).toml(SMALL).url(&url).spawn();
    relay.until_state("streaming", secs(60));
    let mut to = 0;
    for _ in 0..5 {
        scene.write(to + 1, to + 1_500);
        to += 1_500;
        std::thread::sleep(Duration::from_millis(60));
        until("a connection to cut", secs(60), || (proxy.cut() > 0).then_some(()));
    }
    scene.numbers(to as usize, secs(90));
    scene.write(to + 1, to + 2_000);
    let exit = relay.terminate();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    relay.start_again().until_state("streaming", secs(60));
    scene.numbers(to as usize + 2_000, secs(60));
    check(&scene.topic, to + 2_000);
}

#[test]
fn a_broker_that_dies_and_comes_back_repeats_nothing_and_a_drain_without_it_ends_in_time() {
    let mut kafka = Kafka::start();
    let db = Postgres::start(Version::V18);
    let outbox = db.prepare_outbox("exactbroker");
    kafka.create_topic("exactbroker.events", 4, &[]);
    let write = |from: u64, to: u64| {
        db.sql(&format!(
            "INSERT INTO {} (topic, key, type, payload) SELECT 'exactbroker.events', 'k' || n % 5, 'Written', \
             jsonb_build_object('n', n) FROM generate_series({from}, {to}) AS n",
            outbox.table
        ));
    };
    let mut relay = Relay::on(&db, &kafka, &outbox).toml(QUICK).toml(EXACTLY).toml(SMALL).spawn();
    relay.until_state("streaming", secs(60));
    let brokers = kafka.brokers();
    let count = |isolation| read_all(&brokers, &["exactbroker.events"], isolation).len();
    for round in 0..2 {
        write(round * 2_000 + 1, round * 2_000 + 2_000);
        until("a transaction under way", secs(60), || (count(Isolation::Uncommitted) > round as usize * 2_000).then_some(()));
        kafka.kill_9();
        std::thread::sleep(secs(1));
        kafka.start_again();
    }
    until("both rounds", secs(120), || (count(Isolation::Committed) >= 4_000).then_some(()));
    kafka.kill_9();
    write(4_001, 6_000);
    std::thread::sleep(secs(1));
    let start = std::time::Instant::now();
    let exit = relay.terminate();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    assert!(start.elapsed() < secs(30), "the grace is 10 s: {:?}", start.elapsed());
    kafka.start_again();
    relay.start_again().until_state("streaming", secs(90));
    until("all rounds", secs(120), || (count(Isolation::Committed) >= 6_000).then_some(()));
    write(6_001, 6_001);
    until("the last row", secs(60), || (count(Isolation::Committed) > 6_000).then_some(()));
    let records = read_all(&brokers, &["exactbroker.events"], Isolation::Committed);
    assert_eq!(sorted(records.iter().map(number).collect()), (1..=6_001).collect::<Vec<_>>(), "each once");
}

#[test]
fn a_refused_batch_is_aborted_and_read_again_from_what_is_kept() {
    let scene = Scene::new("exactabort", Version::V18);
    let kafka = Kafka::shared();
    let topic = unique_topic("exactabort");
    kafka.create_topic(&topic, 1, &[]);
    let mut relay = exactly(&scene).toml("delivery.on_poison = \"dlq\"").spawn();
    relay.until_state("streaming", secs(60));
    scene.write_to(&topic, 1, 10);
    records(&topic, 10, secs(60));
    // Lowered after relay has read the topic's limits: the check before produce cannot know.
    kafka.alter_topic(&topic, &[("max.message.bytes", "20000")]);
    let table = &scene.outbox.table;
    scene.db.sql(&format!(
        "INSERT INTO {table} (topic, key, type, payload) SELECT '{topic}', 'k' || n % 5, 'T', \
         jsonb_build_object('n', n, 'pad', CASE WHEN n = 60 THEN \
           (SELECT string_agg(md5(i::text || n), '') FROM generate_series(1, 2000) i) ELSE '' END) \
         FROM generate_series(11, 110) n"
    ));
    let parked = records("exactabort.dlq", 1, secs(60));
    scene.write_to(&topic, 111, 120);
    records(&topic, 119, secs(60));
    let numbers = sorted(committed(&topic).iter().map(number).collect());
    assert_eq!(numbers, (1..=120).filter(|&n| n != 60).collect::<Vec<_>>(), "all but the culprit, each once");
    assert_eq!(parked.len(), 1, "parked once, although its transaction was read several times");
    assert!(metric(&relay, "relay_kafka_transactions_total", "exactabort", ",outcome=\"aborted\"") >= 1.0);
    let reconnects = metric(&relay, "relay_reconnects_total", "exactabort", ",peer=\"source\"");
    assert_eq!(reconnects, 0.0, "the slot stays held: {}", relay.logs());
}

#[test]
fn parked_events_are_part_of_the_transaction() {
    let scene = Scene::new("exactdlq", Version::V15);
    let mut relay = exactly(&scene).toml("delivery.on_poison = \"dlq\"").toml(SMALL).spawn();
    relay.until_state("streaming", secs(60));
    let table = &scene.outbox.table;
    for round in 0..4 {
        scene.write(round * 300 + 1, round * 300 + 300);
        scene
            .db
            .sql(&format!("INSERT INTO {table} (topic, key, type, payload) VALUES ('no topic', 'k', 'T', '{{\"n\": {round}}}')"));
        relay.kill_9();
        relay.start_again();
    }
    relay.until_state("streaming", secs(60));
    scene.numbers(1_200, secs(60));
    records("exactdlq.dlq", 4, secs(60));
    check(&scene.topic, 1_200);
    assert_eq!(committed("exactdlq.dlq").len(), 4, "each parked once");
}

#[test]
fn ticks_are_exactly_once_too_and_claims_are_refused() {
    let scene = Scene::new("exactpoll", Version::V18);
    scene.db.prepare_for_poll(&scene.outbox);
    let poll = "source.mode = \"poll\"\nsource.poll.interval = \"20ms\"\n";
    let mut relay = exactly(&scene).toml(poll).toml(SMALL).spawn();
    // Nothing says which rows were published: whoever has none of them out yet says so.
    until(&format!("R0242 in {}", relay.logs()), secs(60), || relay.logs().contains("R0242").then_some(()));
    relay.terminate();
    let init = relay.run(&["checkpoint", "init", "--yes"]);
    assert_eq!(init.status.code(), Some(0), "{}", String::from_utf8_lossy(&init.stderr));
    relay.start_again().until_state("streaming", secs(60));
    let mut to = 0;
    for _ in 0..4 {
        scene.write(to + 1, to + 900);
        to += 900;
        std::thread::sleep(Duration::from_millis(70));
        relay.kill_9();
        relay.start_again();
    }
    settle(&scene, &mut relay, to);

    let claims = "order = \"claim(seq)\"\nafter_publish = \"delete\"\n";
    let file = format!("{poll}{EXACTLY}[[outbox]]\ntable = \"{}\"\n{claims}", scene.outbox.table);
    let refused = scene.relay().toml(&file).run(&["check"]);
    let told = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{told}");
    assert!(told.contains("R0104") && told.contains("its marks are no part of Kafka's transaction"), "{told}");
}

#[test]
fn captured_tables_come_with_their_snapshot_exactly_once() {
    let db = Postgres::start(Version::V18);
    db.prepare_roles();
    db.sql(
        "CREATE TABLE goods (id int PRIMARY KEY, text text); INSERT INTO goods SELECT n, 'old' FROM generate_series(1, 5000) n; \
         GRANT SELECT ON goods TO relay; CREATE PUBLICATION relay_exactcap FOR TABLE goods",
    );
    let topic = "exactcap.public.goods";
    Kafka::shared().create_topic(topic, 1, &[]);
    let mut relay = Builder::new("exactcap")
        .url(&db.url("relay"))
        .brokers(&Kafka::shared().brokers())
        .toml(QUICK)
        .toml(EXACTLY)
        .toml("delivery.in_flight_events = 500\nsnapshot.chunk = 500\n[[capture]]\ntables = [\"public.*\"]")
        .spawn();
    until("the first rows", secs(60), || (!committed(topic).is_empty()).then_some(()));
    relay.kill_9();
    db.sql("INSERT INTO goods SELECT n, 'new' FROM generate_series(5001, 6000) n");
    relay.start_again().until_state("streaming", secs(60));
    db.sql("INSERT INTO goods SELECT n, 'new' FROM generate_series(6001, 7000) n");
    let id = |record: &Rec| record.json()["after"]["id"].as_u64().expect("an id");
    until("every row", secs(60), || {
        let ids: std::collections::BTreeSet<u64> = committed(topic).iter().map(id).collect();
        (ids.len() == 7_000).then_some(())
    });
    let streamed: Vec<u64> = committed(topic).iter().filter(|record| record.json()["op"] == "c").map(id).collect();
    assert_eq!(sorted(streamed), (5_001..=7_000).collect::<Vec<_>>(), "each change once");
    // A chunk that was not stored as done is read again, and was not committed either.
    let read: Vec<u64> =
        committed(topic).iter().filter(|record| record.json()["op"] == "r").map(id).filter(|&id| id <= 5_000).collect();
    assert_eq!(sorted(read), (1..=5_000).collect::<Vec<_>>(), "each row once");
}

#[test]
fn a_slot_without_a_checkpoint_is_refused_until_somebody_stores_one() {
    let scene = Scene::new("exactinit", Version::V15);
    scene.db.sql("SELECT pg_create_logical_replication_slot('relay_exactinit', 'pgoutput')");
    scene.write(1, 50);
    let mut relay = exactly(&scene).spawn();
    until("R0242", secs(60), || relay.logs().contains("R0242").then_some(()));
    assert!(relay.logs().contains("relay checkpoint init"), "{}", relay.logs());
    relay.terminate();
    let init = relay.run(&["checkpoint", "init", "--yes"]);
    assert_eq!(init.status.code(), Some(0), "{}", String::from_utf8_lossy(&init.stderr));
    assert!(String::from_utf8_lossy(&init.stdout).contains("exactly-once"));
    relay.start_again().until_state("streaming", secs(60));
    scene.numbers(50, secs(60));
    check(&scene.topic, 50);
    let shown = relay.run(&["checkpoint", "show", "--json"]);
    let record: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("the marker is no record");
    assert_eq!((record["guarantee"].as_str(), record["epoch"].as_u64()), (Some("exactly-once"), Some(2)));
}

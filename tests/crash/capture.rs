//! Captured tables under load while relay is killed, its connection cut and the broker restarted: the topics tell what the tables hold.

mod judge;
mod writers;

use crate::story::{QUICK, cut};
use judge::Topic;
use relay_tests::consumer::{Isolation, Reader, Rec};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::proxy::Proxy;
use relay_tests::relay::{Builder, Relay};
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, try_until};
use std::time::{Duration, Instant};
use writers::Writers;

/// One with the replica identity that a primary key gives, one with whole rows.
const TABLES: [&str; 2] = ["keyed", "whole"];

struct Scene {
    db: Postgres,
    proxy: Proxy,
    relay: Relay,
    name: String,
    seed: Seed,
    number: u64,
    started: Instant,
    kills: u64,
}

// === impl Scene ===

impl Scene {
    fn start(name: &str, version: Version, kafka: &Kafka, toml: &str) -> Self {
        let number = Seed::fresh();
        let (db, name) = (Postgres::start(version), format!("{name}{}", version as u32));
        db.prepare_roles();
        for table in TABLES {
            db.sql(&format!("CREATE TABLE {table} (id bigint PRIMARY KEY, version bigint NOT NULL, note text)"));
            db.sql(&format!("ALTER TABLE {table} OWNER TO app; GRANT SELECT ON {table} TO relay"));
            kafka.create_topic(&format!("{name}.public.{table}"), 4, &[]);
        }
        kafka.create_topic(&format!("{name}.transaction"), 1, &[]);
        db.sql(&format!("ALTER TABLE whole REPLICA IDENTITY FULL; CREATE PUBLICATION relay_{name} FOR TABLE keyed, whole"));
        let proxy = Proxy::start(db.port());
        let builder = Builder::new(&name).url(&db.url_through("relay", proxy.port())).brokers(&kafka.brokers());
        let mut relay =
            builder.toml(QUICK).toml("snapshot.mode = \"never\"").toml("[[capture]]\ntables = [\"public.*\"]").toml(toml).spawn();
        relay.until_state("streaming", secs(90));
        Self { db, proxy, relay, name, seed: Seed::new(number), number, started: Instant::now(), kills: 0 }
    }

    fn writers(&self) -> Writers {
        Writers::start(&self.db.url("app"), &TABLES, self.number)
    }

    /// Kills relay so often, at any moment of its start and of its stream.
    fn kill(&mut self, times: u64) {
        for _ in 0..times {
            let pause_ms = if self.seed.chance(0.3) { self.seed.between(5, 300) } else { self.seed.between(300, 1_200) };
            std::thread::sleep(Duration::from_millis(pause_ms));
            self.kill_now();
        }
    }

    fn kill_now(&mut self) {
        self.relay.kill_9();
        self.kills += 1;
        self.relay.start_again();
    }

    /// Ends the load, waits until the topics tell what the tables hold, and judges them; returns what was found.
    #[track_caller]
    fn judge(&mut self, mut writers: Writers, kafka: &Kafka) -> Vec<Topic> {
        let transactions = writers.stop();
        let held = TABLES.map(|table| writers::held(&self.db, table));
        let read = |table: &str| Topic::read(&kafka.brokers(), &format!("{}.public.{table}", self.name));
        let mut topics = Vec::new();
        let is_told = try_until(secs(240), || {
            std::thread::sleep(Duration::from_millis(300));
            topics = TABLES.iter().map(|table| read(table)).collect();
            topics.iter().zip(&held).all(|(topic, held)| topic.replayed() == *held).then_some(())
        });
        if is_told.is_none() {
            println!(
                "status: {:?}\n{}",
                self.relay.try_status(),
                self.relay.logs().lines().rev().take(30).collect::<Vec<_>>().join("\n")
            );
        }
        for (topic, held) in topics.iter().zip(&held) {
            topic.check();
            assert_eq!(topic.replayed(), *held, "a replay gives what the table holds");
        }
        let rows: Vec<usize> = held.iter().map(std::collections::BTreeMap::len).collect();
        let records: usize = topics.iter().map(|topic| topic.records.len()).sum();
        let duplicates: usize = topics.iter().map(|topic| topic.duplicates).sum();
        println!(
            "{}, seed {}: {} kills in {:.0?}, {transactions} transactions, {records} records, rows left {rows:?}, {duplicates} duplicates",
            self.name,
            self.number,
            self.kills,
            self.started.elapsed()
        );
        topics
    }
}

#[test]
fn captured_tables_survive_kills_and_a_cut_connection() {
    for version in [Version::V15, Version::V18] {
        let kafka = Kafka::shared();
        let mut scene = Scene::start("capkill", version, kafka, "");
        let writers = scene.writers();
        scene.kill(8);
        scene.relay.until_state("streaming", secs(90));
        std::thread::sleep(Duration::from_millis(scene.seed.between(50, 600)));
        cut(&scene.proxy);
        scene.relay.until_state("streaming", secs(90));
        scene.kill(4);
        scene.judge(writers, kafka);
    }
}

#[test]
fn captured_tables_survive_a_restart_of_the_broker() {
    let mut kafka = Kafka::start();
    let mut scene = Scene::start("capbroker", Version::V15, &kafka, "");
    let writers = scene.writers();
    scene.kill(1);
    std::thread::sleep(Duration::from_millis(scene.seed.between(300, 1_000)));
    if scene.seed.chance(0.5) {
        kafka.kill_9();
    } else {
        kafka.stop();
    }
    kafka.start_again();
    scene.kill(2);
    scene.judge(writers, &kafka);
}

#[test]
fn transaction_records_count_what_came_despite_kills() {
    let kafka = Kafka::shared();
    let mut scene = Scene::start("captx", Version::V15, kafka, "format.transaction_metadata = true");
    let writers = scene.writers();
    scene.kill(6);
    // Into a large transaction: some of it is in the topic, and the rest takes seconds on this thin wire.
    let tail = Reader::new(&kafka.brokers()).tail(&[&format!("{}.public.keyed", scene.name)], Isolation::Committed);
    for first in (1_000_000_i64..).step_by(10_000).take(4) {
        scene.relay.until_state("streaming", secs(90));
        let insert = |from: i64, to: i64| {
            scene.db.sql(&format!("INSERT INTO keyed SELECT g, 1, 'large' FROM generate_series({from}, {to}) g"));
        };
        let is_from = |record: &Rec, from: i64| record.value.is_some() && record.json()["after"]["id"].as_i64() >= Some(from);
        insert(first, first);
        tail.until("what came before", secs(120), |record| is_from(record, first));
        scene.proxy.bandwidth(60_000);
        insert(first + 1, first + 6_000);
        tail.until("some of a large transaction", secs(120), |record| is_from(record, first + 1));
        scene.relay.kill_9();
        scene.proxy.heal();
        scene.kill_now();
    }
    let topics = scene.judge(writers, kafka);
    let (transactions, cut) = judge::transactions(&kafka.brokers(), &format!("{}.transaction", scene.name), &topics);
    println!("{transactions} transactions with BEGIN and END, {cut} of them sent again in part");
    assert!(transactions > 50 && cut > 0, "kills in the middle of transactions: {cut} of {transactions}");
}

#[test]
fn clean_stops_under_load_repeat_no_record_of_a_change() {
    let kafka = Kafka::shared();
    let mut scene = Scene::start("capstop", Version::V18, kafka, "format.transaction_metadata = true");
    let writers = scene.writers();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(scene.seed.between(300, 900)));
        let exit = scene.relay.terminate();
        assert_eq!(exit.code, Some(0), "{exit:?}");
        scene.relay.start_again().until_state("streaming", secs(90));
    }
    let topics = scene.judge(writers, kafka);
    assert!(topics.iter().all(|topic| topic.duplicates == 0), "three clean stops repeat nothing");
}

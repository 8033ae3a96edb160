//! kill -9 during a snapshot, its hand-over and a requested one, under writers: nothing lost, no old image behind a newer event.

use relay_tests::consumer::{Isolation, Rec, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Fired, Relay};
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ROWS: i64 = 20_000;

/// Newest image last for each row that is there, none for the others; an image read is never older than what stands before it.
fn judge(db: &Postgres, records: &[Rec]) -> Result<(), String> {
    let mut newest: BTreeMap<i64, i64> = BTreeMap::new();
    let mut last: BTreeMap<i64, Option<i64>> = BTreeMap::new();
    for record in records {
        let key: serde_json::Value = serde_json::from_str(record.key_text().unwrap_or("null")).expect("JSON");
        let id = key["id"].as_i64().expect("an id");
        let value = record.value_text().map(|_| record.json());
        let v = value.as_ref().and_then(|value| value["after"]["v"].as_i64());
        let before = newest.get(&id).copied().unwrap_or(-1);
        if let (Some(v), Some(value)) = (v, &value) {
            assert!(value["op"] != "r" || v >= before, "row {id}: an image with v = {v} follows one with {before}");
            newest.insert(id, before.max(v));
        }
        last.insert(id, v);
    }
    let rows = db.superuser().query("SELECT id, v FROM t", &[]).expect("the rows");
    let there: BTreeMap<i64, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for (id, v) in &there {
        let found = last.get(id).copied().flatten();
        if found != Some(*v) {
            return Err(format!("row {id} is {v}, its last record {found:?}"));
        }
    }
    match last.iter().find(|(id, v)| v.is_some() && !there.contains_key(id)) {
        Some((id, v)) => Err(format!("row {id} is gone, its last record is {v:?}")),
        None => Ok(()),
    }
}

/// `v` only grows, also of a row that was deleted and came again; each writer has rows of its own.
fn write(db: &Postgres, stop: &AtomicBool, writer: i64) {
    let mut client = db.superuser();
    client.batch_execute("SET synchronous_commit = off").expect("a setting");
    let (mut random, mut v) = (0x9E37_79B9_u64 + writer as u64, 1);
    while !stop.load(Ordering::Relaxed) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let id = (random >> 33) as i64 % ROWS / 2 * 2 + writer;
        v += 1;
        let sql = match random >> 61 {
            0 => format!("DELETE FROM t WHERE id = {id}"),
            1..=2 => format!("INSERT INTO t VALUES ({id}, {v}) ON CONFLICT (id) DO UPDATE SET v = {v}"),
            _ => format!("UPDATE t SET v = {v} WHERE id BETWEEN {id} AND {id} + 3 AND id % 2 = {writer}"),
        };
        client.batch_execute(&sql).expect("a change");
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// A table under writers while its snapshot is taken.
pub(crate) struct Story<'a> {
    pub(crate) name: &'a str,
    /// Somebody has made the slot: there is no exported snapshot.
    pub(crate) has_slot: bool,
    pub(crate) toml: &'a str,
    /// Another snapshot is asked for whenever relay streams.
    pub(crate) asks: bool,
}

// === impl Story ===

impl Story<'_> {
    /// Kills and starts it at any moment.
    fn killed(&self, kills: u64) {
        self.run(|relay, seed| {
            for _ in 0..kills {
                self.ask(relay);
                std::thread::sleep(Duration::from_millis(seed.between(50, 1_200)));
                relay.kill_9();
                relay.start_again();
            }
        });
    }

    /// Lets it die at failpoints, each at one of its first passes; answers how it died.
    pub(crate) fn killed_at(&self, plan: &[(&'static str, u64)]) -> Vec<(&'static str, Fired)> {
        let mut deaths = Vec::new();
        self.run(|relay, seed| {
            for &(point, passes) in plan {
                relay.plan(&format!("{point}=abort@{}", seed.between(1, passes))).start_again();
                // One that a death has cut goes on by itself, and may meet the point before anybody asks.
                let streams = |relay: &Relay| relay.try_status().is_some_and(|status| status["state"] == "streaming");
                until("the stream", secs(40), || (streams(relay) || !relay.process().is_running()).then_some(()));
                if relay.process().is_running() {
                    relay.run(&["snapshot", "start", "public.t"]);
                }
                let fired = relay.until_aborted(secs(60)).unwrap_or_else(|| panic!("{point} was not passed\n{}", relay.logs()));
                deaths.push((point, fired));
            }
            relay.plan("").start_again();
        });
        deaths
    }

    fn ask(&self, relay: &mut Relay) {
        if self.asks {
            relay.until_state("streaming", secs(40));
            relay.run(&["snapshot", "start", "public.t"]);
        }
    }

    fn run(&self, kill: impl FnOnce(&mut Relay, &mut Seed)) {
        let Story { name, has_slot, toml, .. } = self;
        let db = Postgres::start(Version::V15);
        db.prepare_roles();
        db.sql(&format!(
            "CREATE TABLE t (id bigint PRIMARY KEY, v bigint NOT NULL) WITH (fillfactor = 70); \
             INSERT INTO t SELECT g, 0 FROM generate_series(0, {ROWS}) g; ANALYZE t; GRANT SELECT ON t TO relay; \
             CREATE PUBLICATION relay_{name} FOR TABLE t"
        ));
        if *has_slot {
            db.sql(&format!("SELECT pg_create_logical_replication_slot('relay_{name}', 'pgoutput')"));
        }
        let topic = format!("{name}.public.t");
        Kafka::shared().create_topic(&topic, 1, &[]);
        let quick = "\n[delivery]\ncheckpoint_interval = \"50ms\"\nin_flight_events = 1500\n[admin]\ntoken = \"t\"";
        let capture = format!("{quick}\n[[capture]]\ntables = [\"public.t\"]");
        let builder = Builder::new(name).url(&db.url("relay")).brokers(&Kafka::shared().brokers()).toml(toml).toml(&capture);
        let stop = AtomicBool::new(false);
        let number = Seed::fresh();
        println!("{name}: RELAY_TEST_SEED={number}");
        let mut seed = Seed::new(number);
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let (db, stop) = (&db, &stop);
                scope.spawn(move || write(db, stop, writer));
            }
            let _stops = Stops(&stop);
            let mut relay = builder.spawn();
            kill(&mut relay, &mut seed);
            relay.until_state("streaming", secs(60));
            std::thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
            until_done(&relay);
            let mut verdict = Ok(());
            until(&format!("the topic to equal the table; {}", relay.logs()), secs(60), || {
                verdict = judge(&db, &read_all(&Kafka::shared().brokers(), &[&topic], Isolation::Committed));
                verdict.is_ok().then_some(())
            });
        });
    }
}

/// Ends the writers when a story fails, too: the scope waits for them.
struct Stops<'a>(&'a AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn until_done(relay: &Relay) {
    until(&format!("the snapshots' end; {}", relay.logs()), secs(120), || relay.status()["snapshot"].is_null().then_some(()));
}

#[test]
fn a_first_snapshot_and_its_hand_over_survive_kills() {
    Story { name: "kfirst", has_slot: false, toml: "[snapshot]\nchunk = 500\nthreads = 2", asks: false }.killed(8);
}

#[test]
fn a_snapshot_between_watermarks_survives_kills() {
    Story { name: "kbeside", has_slot: true, toml: "[snapshot]\nchunk = 500", asks: false }.killed(8);
}

#[test]
fn requested_snapshots_survive_kills() {
    Story { name: "kasked", has_slot: true, toml: "[snapshot]\nmode = \"never\"\nchunk = 500", asks: true }.killed(6);
}

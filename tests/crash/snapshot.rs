//! kill -9 during a snapshot, its hand-over and a requested one, under writers: nothing lost, no old image behind a newer event.
//!
//! A proxy holds each snapshot back, and each kill is shown to fall inside: relay is frozen, and its checkpoint still owes the snapshot.

mod handover;
mod standby;

use relay_tests::consumer::{Isolation, Rec, read_all};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::proxy::Proxy;
use relay_tests::relay::{Builder, Fired, Relay};
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::{Finally, secs, try_until, until};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, sleep};
use std::time::Duration;

const ROWS: i64 = 20_000;
/// Bytes per second of each connection, of which two take some twenty seconds for the table.
const THIN: u64 = 10_000;

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
        sleep(Duration::from_micros(300));
    }
}

/// A server with the table `t`, published, and a relay whose way to it leads through a proxy.
struct Scene {
    db: Postgres,
    proxy: Proxy,
    name: String,
    topic: String,
    stop: AtomicBool,
}

// === impl Scene ===

impl Scene {
    fn new(name: &str, version: Version, kafka: &Kafka) -> Self {
        let (db, name) = (Postgres::start(version), format!("{name}{}", version as u32));
        db.prepare_roles();
        db.sql(&format!(
            "CREATE TABLE t (id bigint PRIMARY KEY, v bigint NOT NULL) WITH (fillfactor = 70); \
             INSERT INTO t SELECT g, 0 FROM generate_series(0, {ROWS}) g; GRANT SELECT ON t TO relay; \
             CREATE PUBLICATION relay_{name} FOR TABLE t"
        ));
        db.sql("VACUUM ANALYZE t");
        let topic = format!("{name}.public.t");
        kafka.create_topic(&topic, 1, &[]);
        Self { proxy: Proxy::start(db.port()), db, name, topic, stop: AtomicBool::new(false) }
    }

    /// So that relay does not make it, and every snapshot goes between watermarks.
    fn make_slot(&self) {
        self.db.sql(&format!("SELECT pg_create_logical_replication_slot('relay_{}', 'pgoutput')", self.name));
    }

    fn relay(&self, brokers: &str, toml: &str) -> Builder {
        let common = "delivery.checkpoint_interval = \"50ms\"\nadmin.token = \"t\"\n[[capture]]\ntables = [\"public.t\"]";
        Builder::new(&self.name).url(&self.db.url_through("relay", self.proxy.port())).brokers(brokers).toml(common).toml(toml)
    }

    /// Two writers that go on until the answer is dropped.
    fn start_writers<'s>(&'s self, scope: &'s Scope<'s, '_>) -> Finally<impl FnMut() + 's> {
        for writer in 0..2 {
            scope.spawn(move || write(&self.db, &self.stop, writer));
        }
        Finally(|| self.stop.store(true, Ordering::Relaxed))
    }

    fn records(&self, kafka: &Kafka) -> Vec<Rec> {
        read_all(&kafka.brokers(), &[&self.topic], Isolation::Committed)
    }

    /// Ends the writers, waits for the snapshots' end and for the topic to equal the table, and judges it.
    fn judge(&self, mut relay: Relay, kafka: &Kafka) {
        self.proxy.heal();
        relay.until_state("streaming", secs(90));
        sleep(Duration::from_millis(300));
        self.stop.store(true, Ordering::Relaxed);
        until(&format!("the snapshots' end; {}", relay.logs()), secs(120), || relay.status()["snapshot"].is_null().then_some(()));
        let mut verdict = Ok(());
        until(&format!("the topic to equal the table; {}", relay.logs()), secs(240), || {
            verdict = judge(&self.db, &self.records(kafka));
            verdict.is_ok().then_some(())
        });
    }
}

/// Kills relay inside a snapshot and starts it again: its status shows it in work, and once it is frozen its checkpoint owes it still.
/// Where none is in work beside the stream one is asked for. `begun`: this process has read some of it, and more is stored than before.
fn kill_inside(relay: &mut Relay, is_export: bool, begun: bool, seed: &mut Seed) {
    let mut at_first = None;
    let phase = until("a snapshot in work", secs(180), || {
        let status = relay.try_status()?;
        let work = &status["snapshot"];
        if work.is_null() && status["state"] == "streaming" && !is_export {
            relay.run(&["snapshot", "start", "public.t"]);
        }
        if work["exported"] != is_export || work["tables"].is_null() {
            return None;
        }
        let done = work["blocks_done"].as_u64();
        // One that is over before this looks at it again gives way to the next, which begins anew.
        let first = done.min(*at_first.get_or_insert(done));
        at_first = Some(first);
        if begun && done <= first {
            return None;
        }
        sleep(Duration::from_millis(seed.below(300)));
        relay.pause();
        let job = stored_job(relay);
        if job.is_null() {
            relay.resume();
            return None;
        }
        Some(format!("{work}, {} parts stored", job["progress"]["public.t"]["done"].as_array().map_or(0, Vec::len)))
    });
    relay.kill_9();
    println!("killed inside of a snapshot: {phase}");
    relay.start_again();
}

/// The first snapshot that the checkpoint owes; null if there is none.
fn stored_job(relay: &Relay) -> serde_json::Value {
    let shown = relay.run(&["checkpoint", "show"]);
    let record: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
    record["snapshot"]["jobs"][0].clone()
}

/// Kills and starts it again and again while it snapshots.
fn story(name: &str, has_slot: bool, toml: &str, kills: u64) {
    let kafka = Kafka::shared();
    let scene = Scene::new(name, Version::V15, kafka);
    if has_slot {
        scene.make_slot();
    }
    let number = Seed::fresh();
    println!("{name}: RELAY_TEST_SEED={number}");
    let mut seed = Seed::new(number);
    std::thread::scope(|scope| {
        let _writers = scene.start_writers(scope);
        if !has_slot {
            // A long time for the table, whatever the machine: the slot's snapshot is still being read at the first kill.
            scene.proxy.bandwidth(THIN);
        }
        let mut relay = scene.relay(&kafka.brokers(), toml).spawn();
        if !has_slot {
            kill_inside(&mut relay, true, true, &mut seed);
            scene.proxy.heal();
        }
        // Forty chunks of several answers each.
        scene.proxy.delay(Duration::from_millis(10));
        for kill in 0..kills {
            kill_inside(&mut relay, false, kill % 3 != 2, &mut seed);
        }
        scene.judge(relay, kafka);
    });
}

/// Lets relay die at failpoints of a snapshot under writers, each at one of its first passes; answers how it died.
pub(crate) fn killed_at(name: &str, toml: &str, plan: &[(&'static str, u64)]) -> Vec<(&'static str, Fired)> {
    let kafka = Kafka::shared();
    let scene = Scene::new(name, Version::V15, kafka);
    let number = Seed::fresh();
    println!("{name}: RELAY_TEST_SEED={number}");
    let mut seed = Seed::new(number);
    let mut deaths = Vec::new();
    std::thread::scope(|scope| {
        let _writers = scene.start_writers(scope);
        let mut relay = scene.relay(&kafka.brokers(), toml).spawn();
        for &(point, passes) in plan {
            relay.plan(&format!("{point}=abort@{}", seed.between(1, passes))).start_again();
            // One that a death has cut goes on by itself, and may meet the point before anybody asks.
            let is_dead = try_until(secs(120), || {
                let status = relay.try_status();
                if status.is_some_and(|status| status["state"] == "streaming" && status["snapshot"].is_null()) {
                    relay.run(&["snapshot", "start", "public.t"]);
                }
                (!relay.process().is_running()).then_some(())
            });
            assert!(is_dead.is_some(), "{point} was not passed\n{}", relay.logs());
            let fired = relay.until_aborted(secs(30)).expect("it is dead");
            deaths.push((point, fired));
        }
        relay.plan("").start_again();
        scene.judge(relay, kafka);
    });
    deaths
}

#[test]
fn a_first_snapshot_survives_kills() {
    story("kfirst", false, "[snapshot]\nchunk = 500\nthreads = 2\n[delivery]\nin_flight_events = 1500", 4);
}

#[test]
fn a_snapshot_between_watermarks_survives_kills() {
    story("kbeside", true, "[snapshot]\nchunk = 500\n[delivery]\nin_flight_events = 1500", 6);
}

#[test]
fn requested_snapshots_survive_kills() {
    story("kasked", true, "[snapshot]\nmode = \"never\"\nchunk = 500\n[delivery]\nin_flight_events = 1500", 6);
}

//! Two instances of one pipeline: the first is killed, frozen or cut off from the world, the second goes on, and what the first had on
//! its way arrives late.

use crate::story::{Mode, QUICK, judge, load, topic};
use relay_tests::consumer::{Isolation, Reader, Rec, Tail};
use relay_tests::kafka::Kafka;
use relay_tests::oracle::Event;
use relay_tests::outbox::Outbox;
use relay_tests::postgres::Postgres;
use relay_tests::proxy::{Direction, Proxy};
use relay_tests::relay::{Builder, Relay};
use relay_tests::requests::{Api, Trap};
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// The bound of the specification, from the kill to the first new record acknowledged.
const TAKEOVER: Duration = Duration::from_secs(5);

/// A server with an outbox that either mode may read.
fn server(version: Version, name: &str, mode: Mode) -> (Postgres, Outbox) {
    let db = Postgres::start(version);
    let outbox = db.prepare_outbox(&format!("{name}{}", mode.name()));
    db.prepare_for_poll(&outbox);
    (db, outbox)
}

fn instance(mode: Mode, url: &str, brokers: &str, outbox: &Outbox) -> Builder {
    mode.apply(Builder::new(&outbox.pipeline).url(url).brokers(brokers).table(&outbox.table).toml(QUICK))
}

/// Writes one row and waits until consumers see it.
fn first_new_record(db: &Postgres, outbox: &Outbox, tail: &Tail, topic: &str, n: u64) {
    let row = format!("('{topic}', 'k', 'Written', '{{\"n\": {n}}}')");
    db.sql(&format!("INSERT INTO {} (topic, key, type, payload) VALUES {row}", outbox.table));
    tail.until("the new record", secs(90), |record| record.json()["n"] == n);
}

/// The epoch that the newest record holds.
fn epoch(relay: &Relay) -> u64 {
    let shown = relay.run(&["checkpoint", "show", "--json"]);
    let record: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
    record["epoch"].as_u64().unwrap_or_else(|| panic!("no epoch in {}", String::from_utf8_lossy(&shown.stdout)))
}

/// A10.
#[test]
fn a_killed_leader_is_followed_within_five_seconds_by_one_that_had_touched_nothing() {
    let kafka = Kafka::builder().proxied().start();
    for mode in Mode::all() {
        let (db, outbox) = server(Version::V18, "succession", mode);
        let (topic, new) =
            (topic(&kafka, &format!("succession.{}", mode.name())), topic(&kafka, &format!("succession.{}.new", mode.name())));
        let builder = |brokers: &str| instance(mode, &db.url("relay"), brokers, &outbox);
        // In turn each is the one that waits; while it does, all it says to Kafka goes through the proxy.
        let mut leader = builder(&kafka.brokers()).spawn();
        let start = Instant::now();
        leader.until_state("streaming", secs(90));
        let slowness = start.elapsed();
        let before = [Api::Produce, Api::AddPartitionsToTxn, Api::EndTxn].map(|api| kafka.proxy().seen(api));
        let mut standby = builder(&kafka.proxied_brokers()).spawn();
        standby.until_state("standby", secs(90)).until_ready(secs(90));
        let mut load = load(&db, &outbox, &topic, Seed::fresh());
        load.until_committed(2_000, secs(90));
        judge(&mut load, &kafka.brokers(), &topic, &mut leader);
        let after = [Api::Produce, Api::AddPartitionsToTxn, Api::EndTxn].map(|api| kafka.proxy().seen(api));
        assert_eq!(after, before, "{mode:?}: a standby writes nothing and fences nobody");
        let tail = Reader::new(&kafka.brokers()).tail(&[&new], Isolation::Committed);
        let mut took = Vec::new();
        for n in 1..=3 {
            let old = epoch(&leader);
            let start = Instant::now();
            leader.kill_9();
            first_new_record(&db, &outbox, &tail, &new, n);
            took.push(start.elapsed());
            standby.until_state("streaming", secs(90));
            assert_eq!(epoch(&standby), old + 1, "{mode:?}: one takeover, one epoch");
            leader.start_again().until_state("standby", secs(90));
            std::mem::swap(&mut leader, &mut standby);
        }
        println!("{mode:?}: from kill -9 to the first new record acknowledged: {took:.1?}");
        // Some seconds of it are waits, which every machine keeps; for the rest a busy one takes as long as it took for a start.
        assert!(took.iter().min() < Some(&(TAKEOVER + slowness)), "{mode:?}: {took:?}, a start {slowness:.1?}");
    }
}

/// A10, the host: relay's own `wal_sender_timeout` frees the slot of a leader that nobody hears of any more.
#[test]
fn a_lost_host_loses_the_slot_by_relays_own_timeout() {
    let kafka = Kafka::shared();
    for mode in Mode::all().filter(|mode| *mode != Mode::Poll) {
        let (db, outbox) = server(Version::V15, "lost", mode);
        let (topic, new) = (topic(kafka, &format!("lost.{}", mode.name())), topic(kafka, &format!("lost.{}.new", mode.name())));
        let proxy = Proxy::start(db.port());
        let timeout = "source.log.wal_sender_timeout = \"12s\"";
        let mut leader = instance(mode, &db.url_through("relay", proxy.port()), &kafka.brokers(), &outbox).toml(timeout).spawn();
        leader.until_state("streaming", secs(90));
        let mut standby = instance(mode, &db.url("relay"), &kafka.brokers(), &outbox).toml(timeout).spawn();
        standby.until_state("standby", secs(90));
        let mut load = load(&db, &outbox, &topic, Seed::fresh());
        load.until_committed(1_000, secs(90));
        let tail = Reader::new(&kafka.brokers()).tail(&[&new], Isolation::Committed);
        let start = Instant::now();
        proxy.half_open();
        leader.pause();
        first_new_record(&db, &outbox, &tail, &new, 1);
        println!("{mode:?}: from the loss of the host to the first new record acknowledged: {:.1?}", start.elapsed());
        assert!(
            start.elapsed() < secs(45),
            "12 s of silence, then a takeover, not the minute of the server: {:?}",
            start.elapsed()
        );
        assert!(proxy.counts().half_open > 0, "the host was cut off: {:?}", proxy.counts());
        proxy.heal();
        leader.resume();
        let report = judge(&mut load, &kafka.brokers(), &topic, &mut standby);
        settle(mode, &mut leader);
        if mode == Mode::ExactlyOnce {
            report.assert_exactly_once();
        }
    }
}

/// A8: a machine stands still for longer than the server waits, nobody takes over, and nothing is published twice.
#[test]
fn a_frozen_instance_that_nobody_replaced_goes_on_without_a_duplicate() {
    let kafka = Kafka::shared();
    for mode in Mode::all() {
        let (db, outbox) = server(Version::V18, "frozen", mode);
        let topic = topic(kafka, &format!("frozen.{}", mode.name()));
        let timeout = "source.log.wal_sender_timeout = \"12s\"";
        let mut relay = instance(mode, &db.url("relay"), &kafka.brokers(), &outbox).toml(timeout).spawn();
        relay.until_state("streaming", secs(90));
        let mut load = load(&db, &outbox, &topic, Seed::fresh());
        load.until_committed(1_000, secs(90));
        relay.pause();
        let holders =
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'relay' AND backend_type IN ('walsender', 'client backend')";
        let walsenders = "SELECT count(*) FROM pg_replication_slots WHERE active";
        let gone = if mode == Mode::Poll { holders } else { walsenders };
        until("the server to give it up", secs(90), || {
            if mode == Mode::Poll {
                // What idle_session_timeout does after 30 s.
                db.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'relay'");
            }
            (db.sql(gone).number() == 0).then_some(())
        });
        relay.resume();
        let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
        assert_eq!(report.duplicates, 0, "{mode:?}");
    }
}

/// A11, A18: what the network kept of a frozen leader comes after its successor has published all of it.
#[test]
fn a_frozen_leaders_late_deliveries_are_duplicates_or_fenced() {
    let kafka = Kafka::builder().proxied().start();
    for mode in Mode::all() {
        let (db, outbox) = server(Version::V15, "zombie", mode);
        let topic = topic(&kafka, &format!("zombie.{}", mode.name()));
        let timeout = "source.log.wal_sender_timeout = \"12s\"";
        let mut leader = instance(mode, &db.url("relay"), &kafka.proxied_brokers(), &outbox).toml(timeout).spawn();
        leader.until_state("streaming", secs(90));
        let mut heir = instance(mode, &db.url("relay"), &kafka.brokers(), &outbox).spawn();
        heir.until_state("standby", secs(90));
        let mut load = load(&db, &outbox, &topic, Seed::fresh());
        load.until_committed(500, secs(90));
        kafka.proxy().trap(Api::Produce, Trap::Hold, u64::MAX);
        until("requests on their way", secs(90), || (kafka.proxy().held() >= 2).then_some(()));
        leader.pause();
        kafka.proxy().disarm();
        if mode == Mode::Poll {
            // What idle_session_timeout does after 30 s. A walsender is left to its timeout: one that is terminated while its socket is
            // full hangs on its own last words.
            db.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted");
        }
        heir.until_state("streaming", secs(90));
        let epoch_of_the_heir = epoch(&heir);
        let report = judge(&mut load, &kafka.brokers(), &topic, &mut heir);
        let read = |isolation| Reader::new(&kafka.brokers()).read_all(&[&topic], isolation);
        // All of the log, so that what the leader sent in time and its fence aborted does not count as late.
        let before = read(Isolation::Uncommitted);
        let held = kafka.proxy().held();
        for _ in 0..held {
            kafka.proxy().release_alone();
        }
        let (seen, uncommitted) = (read(Isolation::Committed), read(Isolation::Uncommitted));
        let late = late(&before, &uncommitted);
        println!("{mode:?}: {held} requests came late, {} records of them in the log, before them: {report}", late.len());
        assert!(held >= 2, "requests were kept");
        load.oracle().check(&seen).assert_at_least_once();
        if mode == Mode::ExactlyOnce {
            assert_eq!(late.len(), 0, "the broker refuses what a fenced producer sends");
            load.oracle().check(&seen).assert_exactly_once();
        } else {
            assert!(!late.is_empty(), "without a fence late requests are written");
            let known: HashSet<u64> = before.iter().filter_map(|record| Some(Event::of(record).ok()?.number)).collect();
            assert!(late.iter().all(|number| known.contains(number)), "each is a duplicate of what the new leader sent");
        }
        leader.resume();
        settle(mode, &mut leader);
        // Its late checkpoint, which came with the rest, does not win: a third instance goes on behind the heir.
        heir.kill_9();
        leader.kill_9();
        let mut third = instance(mode, &db.url("relay"), &kafka.brokers(), &outbox).spawn();
        third.until_state("streaming", secs(90));
        assert_eq!(epoch(&third), epoch_of_the_heir + 1, "{mode:?}");
        let last = load.oracle().check(&read(Isolation::Committed));
        last.assert_at_least_once();
        assert!(mode != Mode::ExactlyOnce || last.duplicates == 0);
    }
}

/// Numbers of the events that were not there before.
fn late(before: &[Rec], after: &[Rec]) -> Vec<u64> {
    let old: HashSet<(i32, i64)> = before.iter().map(|record| (record.partition, record.offset)).collect();
    let new = after.iter().filter(|record| !old.contains(&(record.partition, record.offset)));
    new.filter_map(|record| Some(Event::of(record).ok()?.number)).collect()
}

/// A leader that was replaced without knowing it ends as a standby, or, where it was fenced, with code 5.
fn settle(mode: Mode, leader: &mut Relay) {
    let is_over = until("the old leader to notice", secs(120), || {
        if !leader.process().is_running() {
            return Some(true);
        }
        leader.try_status().filter(|status| status["state"] == "standby").map(|_| false)
    });
    println!("{mode:?}: the old leader {}", if is_over { "has ended" } else { "waits" });
    if is_over {
        assert_eq!(mode, Mode::ExactlyOnce, "only a fence ends it");
        assert_eq!(leader.wait(secs(5)).code, Some(5));
    }
}

/// A24: nothing is heard from PostgreSQL, the process is well; it stops producing before the server can free the slot.
#[test]
fn a_leader_that_hears_nothing_stops_before_its_slot_is_free() {
    let kafka = Kafka::shared();
    let (db, outbox) = server(Version::V18, "deaf", Mode::Log);
    let topic = topic(kafka, "deaf.orders");
    let proxy = Proxy::start(db.port());
    // It hears nothing for half of this and stops; for a quarter at least the server waits longer than that.
    let timeout = "source.log.wal_sender_timeout = \"24s\"";
    let mut leader = instance(Mode::Log, &db.url_through("relay", proxy.port()), &kafka.brokers(), &outbox).toml(timeout).spawn();
    leader.until_state("streaming", secs(90));
    let mut heir = instance(Mode::Log, &db.url("relay"), &kafka.brokers(), &outbox).toml(timeout).spawn();
    heir.until_state("standby", secs(90));
    let mut load = load(&db, &outbox, &topic, Seed::fresh());
    load.until_committed(1_000, secs(90));
    proxy.stall(Direction::Down);
    proxy.stall(Direction::Up);
    // It lets go by itself while the slot is still held in its name.
    until("the deaf one to notice", secs(90), || (leader.try_status()?["state"] != "streaming").then_some(()));
    let active = db.sql("SELECT count(*) FROM pg_replication_slots WHERE active").number();
    heir.until_state("streaming", secs(90));
    assert_eq!(active, 1, "the slot was still held when production stopped");
    assert!(proxy.counts().stalls > 0, "the connection was held still: {:?}", proxy.counts());
    proxy.heal();
    let report = judge(&mut load, &kafka.brokers(), &topic, &mut heir);
    println!("{} duplicates", report.duplicates);
    settle(Mode::Log, &mut leader);
}

//! The polling source under load: kills, a waiting second poller, switches between the modes, servers that crash, a network that fails.

use crate::story::{QUICK, budget, cut, judge, load, topic};
use relay_tests::kafka::Kafka;
use relay_tests::outbox::Outbox;
use relay_tests::postgres::Postgres;
use relay_tests::proxy::Proxy;
use relay_tests::relay::Builder;
use relay_tests::seed::Seed;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use std::time::{Duration, Instant};

const POLL: &str = "source.mode = \"poll\"\nsource.poll.interval = \"20ms\"\nsource.poll.batch = 50";

fn poller(url: &str, brokers: &str, outbox: &Outbox, keys: &str) -> Builder {
    let entry = format!("[[outbox]]\ntable = {:?}\n{keys}", outbox.table);
    Builder::new(&outbox.pipeline).url(url).brokers(brokers).toml(QUICK).toml(POLL).toml(&entry)
}

fn server(version: Version, pipeline: &str) -> (Postgres, Outbox) {
    let db = Postgres::builder(version).durable().start();
    let outbox = db.prepare_outbox(pipeline);
    db.prepare_for_poll(&outbox);
    (db, outbox)
}

#[test]
fn kills_of_a_poller_lose_nothing_whatever_becomes_of_the_rows() {
    for (name, keys) in [("keep", ""), ("delete", "after_publish = \"delete\"")] {
        let number = Seed::fresh();
        let mut seed = Seed::new(number);
        let (db, outbox) = server(if seed.chance(0.5) { Version::V15 } else { Version::V18 }, &format!("pollkills{name}"));
        let kafka = Kafka::shared();
        let topic = topic(kafka, &format!("pollkills.{name}"));
        let mut relay = poller(&db.url("relay"), &kafka.brokers(), &outbox, keys).spawn();
        relay.until_state("streaming", secs(90));
        let mut load = load(&db, &outbox, &topic, number);
        let (started, budget) = (Instant::now(), budget(20));
        let (mut kills, mut cuts) = (0, 0);
        while kills < 20 || started.elapsed() < budget {
            let pause = if seed.chance(0.5) { seed.between(5, 400) } else { seed.between(400, 1_500) };
            std::thread::sleep(Duration::from_millis(pause));
            if seed.chance(0.3) {
                db.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'relay'");
                cuts += 1;
                std::thread::sleep(Duration::from_millis(seed.between(0, 300)));
            }
            relay.kill_9();
            kills += 1;
            relay.start_again();
        }
        let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
        println!("seed {number}, {name}: {kills} kills, sessions ended {cuts} times, {} duplicates", report.duplicates);
        if name == "delete" {
            // What the killed ones had published and not deleted goes at the start.
            let left = format!("SELECT count(*) FROM {}", outbox.table);
            until("the rows to be gone", secs(90), || (db.sql(&left).number() == 0).then_some(()));
        }
    }
}

#[test]
fn a_second_poller_takes_over_each_time_under_load() {
    let number = Seed::fresh();
    let mut seed = Seed::new(number);
    let (db, outbox) = server(Version::V15, "pollpair");
    let kafka = Kafka::shared();
    let topic = topic(kafka, "pollpair.orders");
    let builder = poller(&db.url("relay"), &kafka.brokers(), &outbox, "");
    let mut leader = builder.clone().spawn();
    leader.until_state("streaming", secs(90));
    let mut standby = builder.spawn();
    standby.until_state("standby", secs(90));
    let mut load = load(&db, &outbox, &topic, number);
    let (mut slowest, mut frozen) = (Duration::ZERO, 0);
    for round in 0..6 {
        std::thread::sleep(Duration::from_millis(seed.between(200, 1_500)));
        let before = Instant::now();
        if round % 3 == 2 {
            // Frozen instead of dead: its session is ended, as the server does after 30 s; it wakes up as a standby.
            leader.pause();
            db.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted");
            standby.until_state("streaming", secs(90));
            leader.resume();
            frozen += 1;
        } else {
            leader.kill_9();
            standby.until_state("streaming", secs(90));
            leader.start_again();
        }
        slowest = slowest.max(before.elapsed());
        leader.until_state("standby", secs(90));
        std::mem::swap(&mut leader, &mut standby);
    }
    // A leader that was frozen may deliver late what it had in flight: first appearances stay in order all the same.
    let report = judge(&mut load, &kafka.brokers(), &topic, &mut leader);
    println!(
        "seed {number}: 6 takeovers, {frozen} of a frozen leader, the slowest {slowest:.1?}, {} duplicates",
        report.duplicates
    );
}

#[test]
fn switches_between_the_modes_under_load_and_kills_lose_nothing() {
    let number = Seed::fresh();
    let mut seed = Seed::new(number);
    let (db, outbox) = server(Version::V18, "pollswitch");
    let kafka = Kafka::shared();
    let topic = topic(kafka, "pollswitch.orders");
    let mut relay = poller(&db.url("relay"), &kafka.brokers(), &outbox, "").spawn();
    relay.until_state("streaming", secs(90));
    let mut load = load(&db, &outbox, &topic, number);
    let (mut kills, mut switches) = (0, 0);
    for round in 0..3 {
        for mode in ["log", "poll"] {
            std::thread::sleep(Duration::from_millis(seed.between(200, 1_000)));
            relay.terminate();
            if mode == "log" {
                // Left over from the log's last turn: where it stands has nothing to do with where polling does.
                let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots";
                until("the slot to be free", secs(90), || db.try_sql(drop).ok());
            }
            relay.reconfigure(&format!("source.mode = {mode:?}"));
            relay.start_again();
            for _ in 0..round {
                std::thread::sleep(Duration::from_millis(seed.between(5, 900)));
                relay.kill_9();
                kills += 1;
                relay.start_again();
            }
            relay.until_state("streaming", secs(90));
            if mode == "log" {
                // Until a pair is stored there is no way back.
                let has_pair = || {
                    let shown = relay.run(&["checkpoint", "show", "--json"]);
                    let record: serde_json::Value = serde_json::from_slice(&shown.stdout).ok()?;
                    (record["mode"] == "log" && record["log_poll"].is_object()).then_some(())
                };
                until("a pair", secs(90), has_pair);
            }
            switches += 1;
        }
    }
    let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
    println!("seed {number}: {switches} switches, {kills} kills in them, {} duplicates", report.duplicates);
}

#[test]
fn a_server_that_crashes_loses_nothing_that_was_published() {
    let number = Seed::fresh();
    let mut seed = Seed::new(number);
    let (mut db, outbox) = server(Version::V15, "pollcrash");
    let kafka = Kafka::shared();
    let topic = topic(kafka, "pollcrash.orders");
    let mut relay = poller(&db.url("relay"), &kafka.brokers(), &outbox, "").spawn();
    relay.until_state("streaming", secs(90));
    let mut load = load(&db, &outbox, &topic, number);
    let (mut kills, mut stops) = (0, 0);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(seed.between(300, 1_500)));
        if seed.chance(0.6) {
            db.kill_9();
            kills += 1;
        } else {
            db.stop_fast();
            stops += 1;
        }
        db.start_again();
        relay.until_state("streaming", secs(90));
    }
    let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
    println!("seed {number}: {kills} kills and {stops} stops of the server, {} duplicates", report.duplicates);
}

#[test]
fn faults_between_a_poller_and_postgresql_lose_nothing() {
    let number = Seed::fresh();
    let (db, outbox) = server(Version::V18, "pollnet");
    let kafka = Kafka::shared();
    let topic = topic(kafka, "pollnet.orders");
    let proxy = Proxy::start(db.port());
    let url = db.url_through("relay", proxy.port());
    let mut relay = poller(&url, &kafka.brokers(), &outbox, "after_publish = \"delete\"").spawn();
    relay.until_state("streaming", secs(90));
    let mut load = load(&db, &outbox, &topic, number);
    let steps = proxy.chaos(number, budget(20)).finish();
    cut(&proxy);
    let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
    let counts = proxy.counts();
    println!("seed {number}: {} faults, {counts:?}, {} duplicates", steps.len(), report.duplicates);
}

#[test]
fn claims_survive_kills() {
    let number = Seed::fresh();
    let mut seed = Seed::new(number);
    let (db, outbox) = server(Version::V18, "pollclaims");
    let table = &outbox.table;
    db.sql(&format!("ALTER TABLE {table} ADD COLUMN done timestamptz; GRANT UPDATE ON {table} TO relay"));
    let kafka = Kafka::shared();
    let topic = topic(kafka, "pollclaims.orders");
    let keys = "order = \"claim(seq)\"\nmatch = \"done is null\"\nafter_publish = \"update:done=now()\"";
    let mut relay = poller(&db.url("relay"), &kafka.brokers(), &outbox, keys).spawn();
    relay.until_state("streaming", secs(90));
    // One writer: claims keep no order between transactions that overlap.
    let mut load = relay_tests::load::Load::on(&db.url("app"), &outbox).topic(&topic).writers(1).rate(800.0).seed(number).start();
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(seed.between(50, 900)));
        relay.kill_9();
        relay.start_again();
    }
    let report = judge(&mut load, &kafka.brokers(), &topic, &mut relay);
    until("the marks", secs(90), || {
        (db.sql(&format!("SELECT count(*) FROM {table} WHERE done IS NULL")).number() == 0).then_some(())
    });
    println!("seed {number}: 10 kills, {} duplicates", report.duplicates);
}

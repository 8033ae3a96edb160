//! Slots, checkpoints and configurations that do not fit: relay stops, says so, loses nothing, and names the way out.

use crate::scene::{QUICK, Scene, sorted};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

fn reasons(relay: &Relay) -> String {
    // Not listening yet is no reason.
    relay_tests::http::get(relay.port(), "/readyz").map(|answer| answer.body).unwrap_or_default()
}

#[track_caller]
fn until_reason(relay: &Relay, reason: &str) {
    until(&format!("{reason} in /readyz"), secs(90), || reasons(relay).contains(reason).then_some(()));
}

/// The server lets a slot go a moment after whoever held it has ended.
#[track_caller]
fn until_free(db: &Postgres) {
    let held = "SELECT count(*) FROM pg_replication_slots WHERE active";
    until("the slot to be free", secs(60), || (db.sql(held).number() == 0).then_some(()));
}

#[test]
fn a_dropped_slot_is_never_made_again_silently() {
    let scene = Scene::new("dropped", Version::V18);
    let mut relay = scene.streaming();
    scene.write(1, 5);
    scene.numbers(5, secs(60));
    relay.terminate();
    until_free(&scene.db);
    scene.db.sql("SELECT pg_drop_replication_slot('relay_dropped')");
    relay.start_again();
    until_reason(&relay, "slot_missing");
    assert!(relay.logs().contains("R0221"));
    assert_eq!(scene.db.sql("SELECT count(*) FROM pg_replication_slots").number(), 0);
    // Made again by hand, at a later position: the gap is reported, and accepted once.
    scene.write(6, 7);
    scene.db.sql("SELECT pg_create_logical_replication_slot('relay_dropped', 'pgoutput')");
    scene.write(8, 9);
    until_reason(&relay, "gap");
    let lsn = scene.db.sql("SELECT confirmed_flush_lsn FROM pg_replication_slots").one().to_owned();
    let status = relay.status();
    assert!(status["last_error"]["message"].as_str().unwrap_or("").contains(&lsn), "{status}");
    relay.terminate();
    let mut wrong = scene.relay().arg("--accept-gap").arg("0/1").spawn();
    until_reason(&wrong, "gap");
    wrong.terminate();
    let mut accepted = scene.relay().arg("--accept-gap").arg(&lsn).spawn();
    accepted.until_state("streaming", secs(60));
    assert_eq!(sorted(scene.numbers(7, secs(60))), [1, 2, 3, 4, 5, 8, 9], "6 and 7 are the gap");
    accepted.terminate();
    // The same flag at the next start does nothing.
    accepted.start_again();
    accepted.until_state("streaming", secs(60));
}

#[test]
fn a_slot_advanced_by_somebody_is_a_gap() {
    let scene = Scene::new("advanced", Version::V15);
    let mut relay = scene.streaming();
    scene.write(1, 5);
    scene.numbers(5, secs(60));
    relay.terminate();
    scene.write(6, 9);
    until_free(&scene.db);
    scene.db.sql("SELECT pg_replication_slot_advance('relay_advanced', pg_current_wal_lsn())");
    relay.start_again();
    until_reason(&relay, "gap");
}

#[test]
fn slots_of_another_kind_are_refused() {
    let scene = Scene::new("unfit", Version::V18);
    let db = &scene.db;
    db.sql(
        "SELECT pg_create_logical_replication_slot('plugin', 'test_decoding'); SELECT pg_create_physical_replication_slot('physical'); \
         SELECT pg_create_logical_replication_slot('prepared', 'pgoutput', false, true)",
    );
    for (slot, words) in [("plugin", "test_decoding"), ("physical", "physical"), ("prepared", "two_phase")] {
        let mut relay =
            scene.relay().toml(&format!("source.log.slot = \"{slot}\"\nsource.log.publication = \"relay_unfit\"")).spawn();
        until_reason(&relay, "stopped:R0223");
        assert!(relay.logs().contains(words), "{slot}");
        relay.kill_9();
    }
}

#[test]
fn an_invalidated_slot_stops_the_stream() {
    let db = Postgres::builder(Version::V18).setting("max_slot_wal_keep_size", "1MB").setting("max_wal_size", "32MB").start();
    let scene = Scene::on(db, "lost");
    let mut relay = scene.streaming();
    scene.write(1, 1);
    scene.numbers(1, secs(60));
    relay.terminate();
    scene.db.sql("CREATE TABLE filler (t text)");
    for _ in 0..10 {
        scene.db.sql("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 10000)");
        scene.db.sql("SELECT pg_switch_wal()");
        scene.db.sql("CHECKPOINT");
    }
    assert_eq!(scene.db.sql("SELECT wal_status FROM pg_replication_slots").one(), "lost");
    relay.start_again();
    until_reason(&relay, "slot_lost");
}

#[test]
fn a_checkpoint_of_another_server_is_refused_and_the_rightful_one_does_not_notice() {
    let scene = Scene::new("foreign", Version::V18);
    let mut relay = scene.streaming();
    scene.write(1, 3);
    scene.numbers(3, secs(60));
    let other = Postgres::start(Version::V15);
    let outbox = other.prepare_outbox("foreign");
    let intruder = Relay::on(&other, Kafka::shared(), &outbox).toml(QUICK).spawn();
    until_reason(&intruder, "checkpoint_foreign");
    assert_eq!(other.sql("SELECT count(*) FROM pg_replication_slots").number(), 0, "the intruder touched nothing");
    scene.write(4, 6);
    assert_eq!(sorted(scene.numbers(6, secs(60))), [1, 2, 3, 4, 5, 6]);
    relay.until_state("streaming", secs(60));
}

#[test]
fn a_leaf_of_a_configured_partitioned_table_stops_and_names_the_fix() {
    let db = Postgres::start(Version::V18);
    let outbox = db.prepare_partitioned_outbox("leafy");
    db.sql(&format!("ALTER PUBLICATION {} SET (publish_via_partition_root = false)", outbox.publication));
    let mut relay = Relay::on(&db, Kafka::shared(), &outbox).toml(QUICK).spawn();
    relay.until_state("streaming", secs(60));
    db.sql(&format!("INSERT INTO {} (topic, key, type, payload) VALUES ('leafy.events', 'k', 'T', '{{}}')", outbox.table));
    until_reason(&relay, "stopped:R0226");
    assert!(relay.logs().contains("publish_via_partition_root"));
}

#[test]
fn a_published_table_without_a_route_is_passed_by_or_stops_as_told() {
    let scene = Scene::new("unrouted", Version::V15);
    scene.db.sql("SET ROLE app; CREATE TABLE other (n int); ALTER PUBLICATION relay_unrouted ADD TABLE other; RESET ROLE");
    let mut relay = scene.streaming();
    scene.db.sql("INSERT INTO other SELECT generate_series(1, 10)");
    scene.write(1, 2);
    assert_eq!(sorted(scene.numbers(2, secs(60))), [1, 2]);
    until("the count", secs(60), || {
        let series = "relay_events_filtered_total{pipeline=\"unrouted\",reason=\"unrouted\"}";
        (relay.metric(series) == Some(10.0)).then_some(())
    });
    relay.terminate();
    relay.reconfigure("source.log.on_unrouted = \"stop\"").start_again();
    relay.until_state("streaming", secs(60));
    scene.db.sql("INSERT INTO other VALUES (11)");
    until_reason(&relay, "stopped:R0226");
}

#[test]
fn a_column_that_a_route_needs_and_that_goes_stops_the_stream_with_nothing_passed() {
    let scene = Scene::new("dropcol", Version::V18);
    let relay = scene.streaming();
    scene.write(1, 2);
    scene.numbers(2, secs(60));
    let table = &scene.outbox.table;
    scene.db.sql(&format!("ALTER TABLE {table} RENAME COLUMN payload TO body"));
    scene.db.sql(&format!("INSERT INTO {table} (topic, key, type, body) VALUES ('{}', 'k', 'T', '{{\"n\": 3}}')", scene.topic));
    until_reason(&relay, "stopped:R0227");
    assert!(relay.logs().contains("payload"));
}

#[test]
fn servers_that_are_not_there_are_waited_for() {
    let scene = Scene::new("waiting", Version::V18);
    let port = relay_tests::ports::free_port();
    let nowhere = Builder::new("waiting").url(&format!("postgres://relay@127.0.0.1:{}/postgres", port));
    let mut relay = nowhere.brokers(&Kafka::shared().brokers()).table(&scene.outbox.table).toml(QUICK).spawn();
    until_reason(&relay, "source_unreachable");
    assert!(relay.process().is_running(), "no crash loop");
    assert!(relay.logs().contains("R0201"));
    let exit = relay.terminate();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    let limited = Builder::new("waiting").url(&format!("postgres://relay@127.0.0.1:{}/postgres", port));
    let mut limited =
        limited.brokers(&Kafka::shared().brokers()).table(&scene.outbox.table).arg("--start-limit").arg("2s").spawn();
    assert_eq!(limited.wait(secs(60)).code, Some(69));
}

#[test]
fn a_wrong_configuration_ends_run_with_78_and_check_with_3() {
    let wrong = Builder::new("wrong").toml(
        "source.url = \"postgres://relay@localhost/db\"\nsource.slott = 1\n[[outbox]]\ntable = \"t\"\nvalue_encoding = \"rot13\"",
    );
    let check = wrong.run(&["check"]);
    assert_eq!(check.status.code(), Some(3));
    let text = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert!(text.contains("slott") && text.contains("rot13") && text.contains("-->"), "{text}");
    let run = wrong.run(&["run"]);
    assert_eq!(run.status.code(), Some(78));
    assert_eq!(wrong.run(&["no-such-command"]).status.code(), Some(64));
}

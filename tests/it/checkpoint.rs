//! `relay checkpoint` on a real broker: shown beside the daemon, stored where there is none, and never over another.

use crate::scene::Scene;
use relay_tests::kafka::Kafka;
use relay_tests::relay::Builder;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use serde_json::Value;
use std::process::Output;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

#[track_caller]
fn refused(output: &Output, code: i32, words: &str) {
    let told = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(code), ""), "{told}");
    assert!(told.contains(words) && told.contains("\n\nhint: "), "{told}");
}

#[test]
fn the_record_is_shown_beside_the_daemon_that_writes_it() {
    let scene = Scene::new("shown", Version::V15);
    let builder = scene.relay();
    refused(&builder.run(&["checkpoint", "show"]), 1, "no checkpoint of pipeline `shown`");
    let mut relay = scene.streaming();
    scene.write(1, 3);
    scene.numbers(3, secs(60));
    let raw = relay.run(&["checkpoint", "show", "--json"]);
    let record = json(&raw);
    assert_eq!(text(&raw.stdout).lines().count(), 1);
    assert!(text(&raw.stdout).starts_with("{\"v\":1,\"state\":\"running\",\"name\":\"shown\",\"epoch\":1,"), "{record}");
    assert_eq!(record["slot"], "relay_shown");
    let pretty = relay.run(&["checkpoint", "show"]);
    assert!(text(&pretty.stdout).lines().count() > 20 && json(&pretty)["epoch"] == 1);
    // It has a record and a holder: both are reasons to refuse.
    refused(&relay.run(&["checkpoint", "init", "--yes"]), 1, "has a checkpoint: epoch 1");
    relay.terminate();
    assert_eq!(json(&builder.run(&["checkpoint", "show"]))["state"], "stopped");
    let deaf = builder.brokers("127.0.0.1:1");
    refused(&deaf.run(&["checkpoint", "show"]), 69, "R0240");
}

#[test]
fn init_stores_the_slots_position_once_and_the_daemon_goes_on_from_there() {
    let scene = Scene::new("begun", Version::V18);
    let builder = scene.relay();
    refused(&builder.run(&["checkpoint", "init", "--yes"]), 1, "slot `relay_begun` does not exist");
    scene.db.sql("SELECT pg_create_logical_replication_slot('relay_begun', 'pgoutput')");
    scene.write(1, 4);
    let confirmed = || scene.db.sql("SELECT confirmed_flush_lsn FROM pg_replication_slots").one().to_owned();
    let before = confirmed();
    // Asked and not answered; a dry run; then the real thing.
    refused(&builder.run(&["checkpoint", "init"]), 1, "the name was not typed");
    assert_eq!(json(&builder.run(&["checkpoint", "init", "--dry-run"]))["end_lsn"], before.as_str());
    refused(&builder.run(&["checkpoint", "show"]), 1, "no checkpoint");
    let stored = json(&builder.run(&["checkpoint", "init", "--yes"]));
    assert_eq!((stored["end_lsn"].as_str(), stored["epoch"].as_u64()), (Some(before.as_str()), Some(1)));
    assert_eq!(json(&builder.run(&["checkpoint", "show"])), stored);
    assert_eq!(confirmed(), before, "storing confirms nothing");
    refused(&builder.run(&["checkpoint", "init", "--yes"]), 1, "has a checkpoint");
    let mut relay = scene.streaming();
    assert_eq!(scene.numbers(4, secs(60)).len(), 4);
    let record = json(&relay.run(&["checkpoint", "show"]));
    assert_eq!(record["epoch"], 2);
    for field in ["system_id", "timeline", "database", "slot", "publication_fingerprint", "config_fingerprint"] {
        assert_eq!(record[field], stored[field], "{field}");
    }
    assert!(!relay.logs().contains("changed since the checkpoint"), "{}", relay.logs());
    relay.terminate();
}

#[test]
fn init_waits_for_nobody_who_holds_the_slot() {
    let scene = Scene::new("busy", Version::V15);
    let holder = Builder::new("busy").url(&scene.db.url("relay")).table(&scene.outbox.table).toml("sink.kind = \"stdout\"");
    let mut holder = holder.spawn();
    holder.until_state("streaming", secs(60));
    let builder = scene.relay();
    refused(&builder.run(&["checkpoint", "init", "--yes"]), 75, "is active for pid");
    refused(&builder.run(&["checkpoint", "init", "--dry-run"]), 75, "is active for pid");
    holder.terminate();
    // The server may see the end of the connection a moment after the process has gone.
    until("the slot to be free", secs(60), || {
        (scene.db.sql("SELECT count(*) FROM pg_replication_slots WHERE active").number() == 0).then_some(())
    });
    json(&builder.run(&["checkpoint", "init", "--yes"]));
    Kafka::shared().until_topic_exists("busy.checkpoint", secs(60));
    let stdout = builder.toml("sink.kind = \"stdout\"");
    refused(&stdout.run(&["checkpoint", "show"]), 1, "keeps no checkpoint");
}

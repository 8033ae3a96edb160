//! Snapshots that somebody asks for: by command and by API, some rows of a table, through a restart, and called off.

use super::{Snap, markers, until_logged};
use relay_tests::http;
use relay_tests::proxy::Proxy;
use relay_tests::relay::Relay;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use serde_json::{Value, json};

const TOML: &str = "[snapshot]\nmode = \"never\"\nchunk = 200\n[admin]\ntoken = \"t0ken\"";

fn api(relay: &Relay, method: &str, token: &str, body: &str) -> (u16, Value) {
    let authorization = format!("Bearer {token}");
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    let answer = http::request(relay.port(), method, "/api/v1/snapshot", &headers, body).expect("an answer");
    (answer.status, serde_json::from_str(&answer.body).expect("JSON"))
}

fn text(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_table_or_some_rows_of_it_are_read_again_on_demand() {
    let ddl = "CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a SELECT g, g % 10 FROM generate_series(1, 1000) g; \
               CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b VALUES (1); CREATE TABLE other (id int PRIMARY KEY)";
    let snap = Snap::new("asked", Version::V18, &["a", "b"], ddl);
    let mut relay = snap.relay(TOML).spawn();
    relay.until_state("streaming", secs(60));
    let started = relay.run(&["snapshot", "start", "public.a", "--where", "v = 3 -- of ten"]);
    assert!(started.status.success(), "{}", text(&started));
    let records = snap.until_records(&relay, "a", 100);
    until_logged(&relay, &["snapshot.done"]);
    assert!(records.len() == 100 && records.iter().all(|record| record.json()["after"]["v"] == 3));
    assert!(markers(&records).iter().all(|(op, marker)| op == "r" && marker == "incremental"));
    // Several, one after the other.
    assert_eq!(api(&relay, "POST", "t0ken", r#"{"tables": ["public.b"]}"#).0, 202);
    assert_eq!(api(&relay, "POST", "t0ken", r#"{"tables": ["public.a", "public.b"], "where": null}"#).0, 202);
    assert_eq!(snap.until_records(&relay, "a", 1_100).len(), 1_100);
    assert_eq!(snap.until_records(&relay, "b", 2).len(), 2);
    let status = until("the end", secs(60), || {
        let (status, body) = api(&relay, "GET", "", "");
        (status == 200 && body["snapshot"].is_null()).then_some(body)
    });
    assert_eq!(status["rows"], json!(1_102));
    assert!(relay.status()["snapshot"].is_null());
    // What cannot be done is said at once.
    for (arguments, words) in [
        (&["snapshot", "start", "public.nowhere"][..], "`public.nowhere` is no captured table"),
        (&["snapshot", "start", "public.other"][..], "`public.other` is no captured table"),
        (&["snapshot", "start", "public.a", "--where", "w = 3"][..], "column \"w\" does not exist"),
        (
            &["snapshot", "start", "public.a", "--where", "v = 1); DROP TABLE b; --"][..],
            "is no condition on the rows of public.a",
        ),
        (&["snapshot", "start", "public.a", "--where", "v = 1) OR (v = 2"][..], "is no condition on the rows of public.a"),
    ] {
        let refused = relay.run(arguments);
        assert!(!refused.status.success() && text(&refused).contains(words), "{arguments:?}: {}", text(&refused));
    }
    assert_eq!(snap.db.sql("SELECT count(*) FROM b").number(), 1, "nothing of a condition was run");
    assert_eq!(api(&relay, "POST", "wrong", r#"{"tables": ["public.a"]}"#).0, 401);
    assert_eq!(api(&relay, "POST", "t0ken", r#"{"table": "public.a"}"#).0, 400);
    assert_eq!(relay.metric("relay_snapshot_tables_remaining"), Some(0.0));
}

#[test]
fn a_request_survives_a_kill_and_can_be_called_off() {
    let ddl =
        "CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a SELECT g, 0 FROM generate_series(1, 100000) g; ANALYZE a";
    let snap = Snap::new("again", Version::V15, &["a"], ddl);
    let proxy = Proxy::start(snap.db.port());
    // Five hundred chunks of several answers each: it is under way for a while on any machine.
    proxy.delay(std::time::Duration::from_millis(5));
    let mut relay = snap.relay_behind(&proxy, TOML).spawn();
    relay.until_state("streaming", secs(60));
    assert!(relay.run(&["snapshot", "start", "public.a"]).status.success());
    relay.kill_9();
    relay.start_again().until_state("streaming", secs(60));
    let status = until("it to go on", secs(60), || {
        let status = text(&relay.run(&["snapshot", "status"]));
        status.contains("public.a").then_some(status)
    });
    assert!(status.starts_with("snapshot 1: "), "{status}");
    let stopped = text(&relay.run(&["snapshot", "stop"]));
    assert!(stopped.contains("1 snapshots are called off"), "{stopped}");
    // What was on its way arrives; all of it would take a minute and more.
    let before = until("it to stand still", secs(30), || {
        let before = snap.records("a").len();
        std::thread::sleep(secs(1));
        (snap.records("a").len() == before).then_some(before)
    });
    assert!(before < 100_000, "{before}");
    assert_eq!(relay.terminate().code, Some(0));
    relay.start_again().until_state("streaming", secs(60));
    assert!(text(&relay.run(&["snapshot", "status"])).contains("no snapshot is under way"));
}

/// The slot's holder takes requests up, and whoever waits for the slot says so.
#[test]
fn a_standby_refuses_and_names_the_slots_holder() {
    let ddl = "CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 10)";
    let snap = Snap::new("second", Version::V15, &["a"], ddl);
    let mut leader = snap.relay(TOML).spawn();
    leader.until_state("streaming", secs(60));
    let mut standby = snap.relay(TOML).spawn();
    standby.until_state("standby", secs(60));
    let holder = snap.db.sql("SELECT active_pid FROM pg_replication_slots").one().to_owned();
    // Who holds the slot is looked at again when that changes, not only every 15 s.
    until("the leader's own pid in its status", secs(10), || {
        (leader.status()["slot"]["active_pid"] == holder.parse::<i64>().ok()?).then_some(())
    });
    let (status, body) = until("the monitor to know the slot's holder", secs(60), || {
        let answer = api(&standby, "POST", "t0ken", r#"{"tables": ["public.a"]}"#);
        answer.1["message"].to_string().contains(&holder).then_some(answer)
    });
    assert_eq!((status, &body["code"], &body["hint"]), (409, &json!("R0220"), &json!("ask the instance that streams")), "{body}");
    let refused = standby.run(&["snapshot", "start", "public.a"]);
    assert!(refused.status.code() == Some(75) && text(&refused).contains("does not stream"), "{}", text(&refused));
    assert_eq!(standby.run(&["snapshot", "stop"]).status.code(), Some(75));
    assert!(snap.records("a").is_empty());
    assert!(leader.run(&["snapshot", "start", "public.a"]).status.success());
    assert_eq!(snap.until_records(&leader, "a", 10).len(), 10);
}

/// A snapshot beside the stream may miss rows whose moves are no events: it says so, whatever keeps them from being some.
#[test]
fn a_capture_without_updates_warns_that_rows_may_be_missed() {
    let ddl = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO a VALUES (1)";
    let snap = Snap::new("silent", Version::V15, &["a", "b"], ddl);
    let captures =
        "\n[[capture]]\ntables = [\"public.a\"]\noperations = [\"insert\", \"delete\"]\n[[capture]]\ntables = [\"public.b\"]";
    let mut relay = snap.relay(&format!("{TOML}{captures}")).spawn();
    relay.until_state("streaming", secs(60));
    assert!(!relay.logs().contains("snapshot.silent_updates"));
    assert!(relay.run(&["snapshot", "start", "public.a"]).status.success());
    assert!(relay.run(&["snapshot", "start", "public.b"]).status.success());
    until_logged(&relay, &["snapshot.done", "\"snapshot\":2"]);
    until_logged(&relay, &["snapshot.silent_updates", "public.a"]);
    assert_eq!(relay.logs().matches("snapshot.silent_updates").count(), 1, "{}", relay.logs());
}

/// Such rows would be read again for ever, as nothing can be told of them.
#[test]
fn a_snapshot_of_rows_that_nobody_can_publish_is_called_off() {
    let snap =
        Snap::new("unfit", Version::V18, &["a"], "CREATE TABLE a (id int PRIMARY KEY, __op text); INSERT INTO a VALUES (1, 'x')");
    let mut relay = snap.relay(&format!("{TOML}\n[[capture]]\ntables = [\"public.a\"]\nformat = \"flat\"")).spawn();
    relay.until_state("streaming", secs(60));
    assert!(relay.run(&["snapshot", "start", "public.a"]).status.success());
    let line = until_logged(&relay, &["snapshot.refused"]);
    assert!(
        line.contains("column `__op` has the name of a field that the flat format adds; set another `flat.prefix`"),
        "{line}"
    );
    assert!(text(&relay.run(&["snapshot", "status"])).contains("no snapshot is under way"));
    assert_eq!(relay.status()["state"], "streaming");
}

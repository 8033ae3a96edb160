//! Housekeeping on real servers: published rows go, by hand and by `retention`, and no other row ever does.

use crate::scene::{Scene, number, records, sorted};
use postgres::Client;
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use serde_json::Value;
use std::process::Output;

const POLL: &str = "source.mode = \"poll\"\nsource.poll.interval = \"20ms\"";
/// Every published row is old enough, whatever its age.
const ALL: [&str; 2] = ["--older-than", "0s"];

/// An `[[outbox]]` that takes rows of type `Written` alone.
fn written(table: &str) -> String {
    format!("[[outbox]]\ntable = {table:?}\nmatch = \"type = 'Written'\"\n")
}

/// A row as one statement.
fn insert(table: &str, topic: &str, kind: &str, n: u64) -> String {
    format!("INSERT INTO {table} (topic, key, type, payload) VALUES ('{topic}', 'k', '{kind}', '{{\"n\": {n}}}')")
}

/// A session of the application with a transaction that it has not ended.
fn open(db: &Postgres, statements: &str) -> Client {
    let mut client = db.connect("app", "postgres").expect("a connection");
    client.batch_execute(&format!("BEGIN; {statements}")).expect("an open transaction");
    client
}

fn count(db: &Postgres, table: &str) -> i64 {
    db.sql(&format!("SELECT count(*) FROM {table}")).number()
}

fn prune(relay: &Relay, args: &[&str]) -> Output {
    let all: Vec<&str> = ["outbox", "prune", "--yes", "--json"].into_iter().chain(args.iter().copied()).collect();
    relay.run(&all)
}

/// What prune says of each table.
#[track_caller]
fn pruned(relay: &Relay, args: &[&str]) -> Vec<Value> {
    let output = prune(relay, args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {out}{err}", output.status);
    print!("prune {}: {out}", args.join(" "));
    out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The same for the only table: rows that go.
#[track_caller]
fn rows(relay: &Relay, args: &[&str]) -> u64 {
    let lines = pruned(relay, args);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0]["rows"].as_u64().expect("a number")
}

/// Waits until the checkpoint proves so many rows published; nothing is deleted.
#[track_caller]
fn until_proven(db: &Postgres, relay: &Relay, wanted: u64) {
    let dry = [ALL[0], ALL[1], "--dry-run"];
    until(&format!("{wanted} rows that are proven published"), secs(150), || {
        let output = prune(relay, &dry);
        // In log mode a snapshot is stored once the log has passed it, and an idle one grows every ten seconds or so.
        db.sql("SELECT pg_current_xact_id()");
        output.status.success().then(|| rows(relay, &dry)).filter(|rows| *rows == wanted)
    });
}

/// Code and words of a refusal.
#[track_caller]
fn refused(output: &Output, code: i32, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    println!("refused with {:?}: {}", output.status.code(), text.trim());
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(words), "{words:?} in {text}");
}

#[test]
fn by_hand_in_log_mode_goes_only_what_the_stored_snapshot_sees() {
    for version in [Version::V15, Version::V18] {
        let scene = Scene::new(&format!("prunelog{}", version as u32), version);
        let (db, table, topic) = (&scene.db, &scene.outbox.table, &scene.topic);
        db.sql(&format!("GRANT DELETE ON {table} TO relay"));
        let mut relay = scene.relay().toml(&written(table)).spawn();
        relay.until_state("streaming", secs(60));
        let mut slow = open(db, &insert(table, topic, "Written", 900));
        db.sql(&insert(table, topic, "Noise", 800));
        scene.write(1, 100);
        scene.numbers(100, secs(60));
        until_proven(&scene.db, &relay, 100);
        assert_eq!(count(db, table), 101, "a dry run changes nothing");
        assert_eq!(rows(&relay, &["--older-than", "1h"]), 0, "they are young");
        relay.terminate();
        // Committed and not published: nobody reads the log.
        scene.write(101, 150);
        assert_eq!(rows(&relay, &ALL), 100);
        let left = format!("SELECT string_agg(DISTINCT type, ',' ORDER BY type) || ' ' || count(*) FROM {table}");
        assert_eq!(db.sql(&left).one(), "Noise,Written 51");
        slow.batch_execute("COMMIT").expect("the slow one commits");
        assert_eq!(rows(&relay, &ALL), 0, "its row was in progress in the snapshot");
        relay.start_again();
        let expected: Vec<u64> = (1..=150).chain([900]).collect();
        assert_eq!(sorted(scene.numbers(151, secs(60))), expected, "what stayed is published, and the rest once");
        until_proven(&scene.db, &relay, 51);
        assert_eq!(rows(&relay, &ALL), 51);
        assert_eq!(count(db, table), 1, "the row that is no event stays for good");
    }
}

#[test]
fn by_hand_in_poll_mode_ticks_go_by_the_snapshot_and_claims_by_their_marks() {
    let scene = Scene::new("prunepoll", Version::V18);
    let (db, table, topic) = (&scene.db, &scene.outbox.table, &scene.topic);
    db.prepare_for_poll(&scene.outbox);
    db.sql(&format!(
        "CREATE TABLE claims (LIKE {table} INCLUDING ALL); ALTER TABLE claims DROP COLUMN xid, ADD COLUMN done timestamptz; \
         CREATE ROLE sweeper LOGIN; GRANT SELECT, DELETE ON {table} TO sweeper; GRANT SELECT, UPDATE, DELETE ON claims TO sweeper; \
         GRANT ALL ON claims TO app"
    ));
    let claims = "[[outbox]]\ntable = \"public.claims\"\norder = \"claim(seq)\"\nmatch = \"done is null\"\n\
                  after_publish = \"update:done=now()\"\n";
    let config = format!("{}{claims}", written(table));
    // Neither REPLICATION nor more than SELECT and DELETE on the table with ticks.
    let mut relay = scene.relay().url(&db.url("sweeper")).toml(POLL).toml(&config).spawn();
    relay.until_state("streaming", secs(60));
    let mut slow = open(db, &insert(table, topic, "Written", 900));
    db.sql(&insert(table, topic, "Noise", 800));
    scene.write(1, 100);
    let claimed = |from: u64, to: u64| (from..=to).map(|n| insert("claims", topic, "Written", n)).collect::<Vec<_>>().join("; ");
    db.sql(&claimed(201, 300));
    scene.numbers(200, secs(60));
    until("the marks", secs(60), || (db.sql("SELECT count(*) FROM claims WHERE done IS NULL").number() == 0).then_some(()));
    relay.terminate();
    scene.write(101, 150);
    db.sql(&claimed(301, 310));

    // Somebody holds a lock: prune gives up, what the other one does goes through, and nothing has gone.
    let mut other = open(db, &format!("SELECT FROM {table} WHERE payload->>'n' = '7' FOR UPDATE"));
    refused(&prune(&relay, &["--table", table, ALL[0], ALL[1]]), 75, "lock timeout");
    other.batch_execute(&format!("{}; COMMIT", insert(table, topic, "Written", 151))).expect("the other one goes on");
    assert_eq!(count(db, table), 152);

    let mut lines = pruned(&relay, &ALL);
    lines.sort_by_key(|line| line["table"].to_string());
    let gone: Vec<_> = lines.iter().map(|line| (line["table"].as_str(), line["rows"].as_u64())).collect();
    assert_eq!(gone, [(Some("public.claims"), Some(100)), (Some(table.as_str()), Some(100))]);
    assert_eq!((count(db, "claims"), count(db, table)), (10, 52), "unmarked, unpublished, and no events: all still there");
    slow.batch_execute("COMMIT").expect("the slow one commits");
    relay.start_again();
    let expected: Vec<u64> = (1..=151).chain(201..=310).chain([900]).collect();
    assert_eq!(sorted(scene.numbers(expected.len(), secs(60))), expected);
    let logs = db.logs();
    assert!(!logs.contains("permission denied"), "SELECT and DELETE are enough");
}

#[test]
fn what_proves_nothing_is_refused_with_the_reason() {
    let scene = Scene::new("pruneno", Version::V15);
    let (db, table) = (&scene.db, &scene.outbox.table);
    let mut relay = scene.relay().spawn();
    refused(&scene.relay().toml("name = \"nobody\"").run(&["outbox", "prune", "--yes", ALL[0], ALL[1]]), 1, "no checkpoint");
    relay.until_state("streaming", secs(60));
    scene.write(1, 10);
    scene.numbers(10, secs(60));
    until_proven(&scene.db, &relay, 10);
    refused(&prune(&relay, &[]), 64, "has no `retention`");
    refused(&prune(&relay, &["--table", "public.other", ALL[0], ALL[1]]), 1, "public.other");
    refused(&relay.run(&["outbox", "prune", ALL[0], ALL[1]]), 1, "the name was not typed");
    refused(&prune(&relay, &ALL), 77, "permission denied");
    db.sql(&format!("GRANT DELETE ON {table} TO relay"));
    let claim = format!("[[outbox]]\ntable = {table:?}\norder = \"claim(seq)\"\n");
    refused(&scene.relay().toml(&claim).run(&["outbox", "prune", "--yes", ALL[0], ALL[1]]), 1, "xid8");
    assert_eq!(count(db, table), 10, "no refusal deletes anything");
    db.sql(&format!("ALTER TABLE {table} DROP COLUMN xid"));
    refused(&prune(&relay, &ALL), 1, "has no xid8 column `xid`");
    db.sql(&format!("ALTER TABLE {table} ADD COLUMN xid xid"));
    refused(&prune(&relay, &ALL), 1, "has no xid8 column `xid`");
    assert_eq!(count(db, table), 10);
}

#[test]
fn an_old_partition_goes_as_a_whole_only_when_each_of_its_rows_is_a_published_event() {
    for version in [Version::V15, Version::V18] {
        let pipeline = format!("parts{}", version as u32);
        let db = Postgres::start(version);
        let (outbox, topic) = (db.prepare_partitioned_outbox(&pipeline), format!("{pipeline}.events"));
        Kafka::shared().create_topic(&topic, 1, &[]);
        let table = &outbox.table;
        // An hour each, three days ago; topics forget what is older than a week.
        let day = db.sql("SELECT (now() - interval '3 days')::date").one().to_owned();
        let names = ["published", "unpublished", "noisy", "written", "read", "empty"];
        for (hour, name) in names.iter().enumerate() {
            let to = hour + 1;
            db.sql(&format!(
                "SET ROLE app; CREATE TABLE old_{name} PARTITION OF {table} \
                 FOR VALUES FROM ('{day} {hour}:00') TO ('{day} {to}:00')"
            ));
        }
        let old = |hour: usize, kind: &str, n: u64| {
            format!(
                "INSERT INTO {table} (topic, key, type, payload, created_at) \
                 VALUES ('{topic}', 'k', '{kind}', '{{\"n\": {n}}}', '{day} {hour}:30')"
            )
        };
        db.sql("GRANT app TO relay");
        let mut relay =
            Relay::on(&db, Kafka::shared(), &outbox).toml(crate::scene::QUICK).toml(POLL).toml(&written(table)).spawn();
        relay.until_state("streaming", secs(60));
        for hour in 0..5 {
            (0..10).for_each(|n| drop(db.sql(&old(hour, "Written", hour as u64 * 10 + n))));
        }
        db.sql(&insert(table, &topic, "Written", 50));
        records(&topic, 51, secs(60));
        relay.terminate();

        db.sql(&old(1, "Written", 901));
        db.sql(&old(2, "Noise", 800));
        // A lock as a writer has it, on this partition alone: a real writer locks the outbox, too, and holds up every drop.
        let mut writer = open(&db, "LOCK TABLE old_written IN ROW EXCLUSIVE MODE");
        let mut reader = open(&db, "SELECT FROM old_read");
        let before = count(&db, table);
        let dry = pruned(&relay, &["--older-than", "1d", "--dry-run"]);
        assert!(dry[0]["partitions"].to_string().contains("old_published"), "{dry:?}");
        assert_eq!(count(&db, table), before, "a dry run changes nothing");

        let line = pruned(&relay, &["--older-than", "1d"]).remove(0);
        assert_eq!(line["partitions"].to_string(), r#"["public.old_empty","public.old_published"]"#);
        let kept = line["kept"].as_array().expect("a list").clone();
        let reason = |name: &str| {
            let found = kept.iter().find(|kept| kept["partition"] == format!("public.old_{name}"));
            found.unwrap_or_else(|| panic!("{name} in {kept:?}"))["reason"].to_string()
        };
        for name in ["unpublished", "noisy"] {
            assert!(reason(name).contains("not published"), "{}", reason(name));
        }
        for name in ["written", "read"] {
            assert!(reason(name).contains("lock timeout"), "{}", reason(name));
        }
        assert_eq!(line["rows"], 40, "where the partition stays its published rows go");
        assert_eq!(count(&db, table), 3, "unpublished, no event, and young");
        reader.batch_execute("COMMIT").expect("the reader ends");
        writer.batch_execute("COMMIT").expect("the writer commits");

        relay.start_again();
        let numbers = sorted(records(&topic, 52, secs(60)).iter().map(number).collect());
        assert_eq!(numbers, (0..=50).chain([901]).collect::<Vec<_>>());
        relay.terminate();
        let mut writer = open(&db, &insert(table, &topic, "Written", 903));
        let line = pruned(&relay, &["--older-than", "1d"]).remove(0);
        assert_eq!((line["partitions"].to_string().as_str(), &line["rows"]), ("[]", &1.into()), "no drop waits for a writer");
        writer.batch_execute(&format!("{}; ROLLBACK", insert(table, &topic, "Written", 904))).expect("the writer goes on");
        let line = pruned(&relay, &["--older-than", "1d"]).remove(0);
        let gone = r#"["public.old_read","public.old_unpublished","public.old_written"]"#;
        assert_eq!(line["partitions"].to_string(), gone, "once everything in them is published");
        assert_eq!(db.sql("SELECT count(*) FROM old_noisy").number(), 1);
    }
}

/// Relay prunes by itself while newer rows wait for a topic, and tells how full the table is and who holds what back.
fn by_retention(scene: &Scene, config: &str, is_log: bool) {
    let (db, table, topic) = (&scene.db, &scene.outbox.table, &scene.topic);
    db.sql(&format!("GRANT SELECT, UPDATE, DELETE ON {table} TO relay"));
    let mut relay = scene.relay().toml(config).spawn();
    relay.until_state("streaming", secs(60));
    scene.write(1, 100);
    scene.numbers(100, secs(60));
    until_proven(&scene.db, &relay, 100);
    relay.terminate();
    db.sql(&format!("DELETE FROM {table} WHERE payload->>'n' IN ('1', '2', '3', '4', '5')"));
    let later = format!("{topic}.later");
    scene.write_to(&later, 101, 110);
    db.sql(&format!("BEGIN; {}; PREPARE TRANSACTION 'forgotten'", insert(table, topic, "Written", 900)));
    relay.reconfigure(&format!("sink.kafka.create_topics = \"never\"\n{config}retention = \"1s\""));
    relay.start_again();
    relay.until_state("streaming", secs(60));
    let of_table = |name: &str| relay.metric(&format!("{name}{{table=\"{table}\"}}"));
    until("pruned rows", secs(150), || (of_table("relay_cleanup_rows_total") == Some(95.0)).then_some(()));
    assert_eq!(count(db, table), 10, "the rows that wait for their topic stay");
    assert!(relay.logs().contains("retention.pruned"));
    until("the size", secs(150), || of_table("relay_outbox_size_bytes").filter(|size| *size >= 8192.0));
    until("dead rows", secs(150), || of_table("relay_outbox_dead_rows").filter(|dead| *dead >= 5.0));
    if is_log {
        assert_eq!(of_table("relay_outbox_pending_rows"), None, "the slot's lag tells");
    } else {
        until("pending rows", secs(150), || (of_table("relay_outbox_pending_rows") == Some(10.0)).then_some(()));
        assert!(of_table("relay_outbox_oldest_pending_seconds").is_some_and(|age| age > 0.0));
    }
    let oldest = |relay: &Relay| relay.status()["oldest_transaction"].clone();
    until("the prepared transaction in /status", secs(60), || (oldest(&relay)["gid"] == "forgotten").then_some(()));
    db.sql("COMMIT PREPARED 'forgotten'");
    db.sql("GRANT pg_monitor TO relay");
    let mut writer = db.connect("app", "postgres").expect("a connection");
    let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).expect("a pid").get(0);
    writer.batch_execute(&format!("BEGIN; {}", insert(table, topic, "Written", 901))).expect("an open writer");
    until("the open writer in /status", secs(60), || (oldest(&relay)["pid"] == pid).then_some(()));
    println!("oldest open writer: {}", oldest(&relay));
    writer.batch_execute("COMMIT").expect("it commits");
    Kafka::shared().create_topic(&later, 1, &[]);
    assert_eq!(sorted(records(&later, 10, secs(60)).iter().map(number).collect()), (101..=110).collect::<Vec<_>>());
    assert_eq!(sorted(scene.numbers(102, secs(60))), (1..=100).chain([900, 901]).collect::<Vec<_>>());
}

/// A server whose dead rows stay until they are counted.
fn unswept(version: Version, pipeline: &str) -> Scene {
    Scene::on(Postgres::builder(version).setting("autovacuum", "off").start(), pipeline)
}

#[test]
fn retention_in_log_mode_and_what_metrics_and_status_tell() {
    let scene = unswept(Version::V15, "keeplog");
    by_retention(&scene, &written(&scene.outbox.table), true);
}

#[test]
fn retention_of_ticks_and_what_metrics_and_status_tell() {
    let scene = unswept(Version::V18, "keeptick");
    scene.db.prepare_for_poll(&scene.outbox);
    by_retention(&scene, &format!("{POLL}\n{}", written(&scene.outbox.table)), false);
}

#[test]
fn retention_of_claims_and_what_metrics_and_status_tell() {
    let scene = unswept(Version::V15, "keepclaim");
    let table = &scene.outbox.table;
    scene.db.sql(&format!("ALTER TABLE {table} DROP COLUMN xid, ADD COLUMN done timestamptz"));
    let keys = "order = \"claim(seq)\"\nmatch = \"done is null\"\nafter_publish = \"update:done=now()\"\n";
    by_retention(&scene, &format!("{POLL}\n[[outbox]]\ntable = {table:?}\n{keys}"), false);
}

#[test]
fn a_table_that_cannot_be_pruned_keeps_no_other_from_it() {
    let scene = Scene::new("prunetwo", Version::V18);
    let (db, topic) = (&scene.db, &scene.topic);
    db.prepare_for_poll(&scene.outbox);
    db.sql(&format!("CREATE TABLE aaa (LIKE {} INCLUDING ALL); GRANT SELECT ON aaa TO relay", scene.outbox.table));
    let entry = |table: &str| format!("{}retention = \"1s\"\n", written(table));
    let builder: Builder = scene.relay().toml(POLL);
    let mut relay = builder.toml(&format!("{}{}", entry("public.aaa"), entry(&scene.outbox.table))).spawn();
    relay.until_state("streaming", secs(60));
    db.sql(&insert("aaa", topic, "Written", 1));
    scene.write(2, 11);
    scene.numbers(11, secs(60));
    // Started again, so that the first look is near.
    relay.terminate();
    relay.start_again();
    until("the other table's rows to be gone", secs(150), || (count(db, &scene.outbox.table) == 0).then_some(()));
    let logs = relay.logs();
    assert!(logs.contains("retention.failed") && logs.contains("permission denied for table aaa"), "{logs}");
    assert_eq!(count(db, "aaa"), 1);
}

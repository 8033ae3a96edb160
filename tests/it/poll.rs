//! Polling on a real server: nothing lost, order kept per key, where a naive query loses rows or turns their order round.

use crate::scene::{Scene, number, sorted};
use relay_tests::relay::{Builder, Relay};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

const POLL: &str = "source.mode = \"poll\"\nsource.poll.interval = \"20ms\"";

fn polled(scene: &Scene) -> Builder {
    scene.db.prepare_for_poll(&scene.outbox);
    scene.relay().toml(POLL)
}

fn polling(scene: &Scene) -> Relay {
    let mut relay = polled(scene).spawn();
    relay.until_state("streaming", secs(60));
    relay
}

fn insert(scene: &Scene, key: &str, n: u64) -> String {
    format!(
        "INSERT INTO {} (topic, key, type, payload) VALUES ('{}', '{key}', 'Written', '{{\"n\": {n}}}')",
        scene.outbox.table, scene.topic
    )
}

#[test]
fn rows_come_with_the_headers_of_the_log_and_a_position_of_their_own() {
    for version in [Version::V15, Version::V18] {
        let scene = Scene::new(&format!("polled{}", version as u32), version);
        let relay = polling(&scene);
        scene.write(1, 500);
        let records = scene.records(500, secs(60));
        assert_eq!(sorted(records.iter().map(number).collect()), (1..=500).collect::<Vec<_>>());
        let row = scene.db.sql(&format!("SELECT 'x' || xid || '.' || seq FROM {} WHERE payload->>'n' = '7'", scene.outbox.table));
        let seventh = records.iter().find(|record| number(record) == 7).expect("it is there");
        assert_eq!(seventh.header("relay-pos"), Some(row.one()));
        let names: Vec<&str> = seventh.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["id", "type", "relay-pos"]);
        assert!(relay.logs().contains("poll.everything"), "one WARN says that there was no checkpoint");
        assert_eq!(scene.db.sql("SELECT count(*) FROM pg_replication_slots").number(), 0, "no slot is made");
    }
}

#[test]
fn a_row_that_commits_late_is_not_lost_and_holds_back_only_itself() {
    let scene = Scene::new("late", Version::V15);
    let _relay = polling(&scene);
    let mut slow = scene.db.connect("app", "postgres").expect("a connection");
    slow.batch_execute(&format!("BEGIN; {}", insert(&scene, "slow", 1))).expect("row 1");
    scene.db.sql(&insert(&scene, "quick", 2));
    assert_eq!(scene.numbers(1, secs(60)), [2], "row 2 does not wait for row 1");
    // The naive poller: everything above the highest value it has seen.
    let seen = scene.db.sql(&format!("SELECT max(seq) FROM {}", scene.outbox.table)).number();
    slow.batch_execute("COMMIT").expect("row 1 commits");
    let naive = scene.db.sql(&format!("SELECT count(*) FROM {} WHERE seq > {seen}", scene.outbox.table)).number();
    assert_eq!(naive, 0, "a query by the order column never sees row 1");
    assert_eq!(sorted(scene.numbers(2, secs(60))), [1, 2]);
}

#[test]
fn an_early_transaction_id_does_not_turn_a_keys_order_round() {
    let scene = Scene::new("early", Version::V18);
    let _relay = polling(&scene);
    scene.db.sql("CREATE TABLE aggregate (id int PRIMARY KEY); INSERT INTO aggregate VALUES (1); GRANT ALL ON aggregate TO app");
    // Writer A takes its transaction id first, and the aggregate's lock last.
    let mut a = scene.db.connect("app", "postgres").expect("a connection");
    a.batch_execute("BEGIN; SELECT pg_current_xact_id()").expect("an early id");
    scene.db.sql(&format!("BEGIN; SELECT FROM aggregate WHERE id = 1 FOR UPDATE; {}; COMMIT", insert(&scene, "k", 1)));
    a.batch_execute(&format!("SELECT FROM aggregate WHERE id = 1 FOR UPDATE; {}", insert(&scene, "k", 2))).expect("row 2");
    a.batch_execute("COMMIT").expect("row 2 commits");
    let naive = scene.db.sql(&format!("SELECT string_agg(payload->>'n', ',' ORDER BY xid, seq) FROM {}", scene.outbox.table));
    assert_eq!(naive.one(), "2,1", "by (xid, seq) the order is the wrong one");
    assert_eq!(scene.numbers(2, secs(60)), [1, 2]);
}

#[test]
fn savepoints_and_forgotten_prepared_transactions() {
    let db = relay_tests::postgres::Postgres::builder(Version::V15).setting("max_prepared_transactions", "5").start();
    let scene = Scene::on(db, "prepared");
    let _relay = polling(&scene);
    scene.db.sql(&format!(
        "BEGIN; {}; SAVEPOINT a; {}; ROLLBACK TO a; SAVEPOINT b; {}; RELEASE b; COMMIT",
        insert(&scene, "k", 1),
        insert(&scene, "k", 2),
        insert(&scene, "k", 3)
    ));
    scene.db.sql(&format!("BEGIN; {}; PREPARE TRANSACTION 'forgotten'", insert(&scene, "p", 4)));
    scene.db.sql(&format!("BEGIN; {}; ROLLBACK", insert(&scene, "k", 5)));
    scene.db.sql(&insert(&scene, "k", 6));
    assert_eq!(scene.numbers(3, secs(60)), [1, 3, 6], "the prepared transaction holds back its own row alone");
    scene.db.sql("COMMIT PREPARED 'forgotten'");
    assert_eq!(sorted(scene.numbers(4, secs(60))), [1, 3, 4, 6]);
}

#[test]
fn the_cursor_outlives_a_stop_and_nothing_comes_twice() {
    let scene = Scene::new("cursor", Version::V18);
    let mut relay = polling(&scene);
    scene.write(1, 100);
    scene.numbers(100, secs(60));
    let exit = relay.terminate();
    assert_eq!(exit.code, Some(0), "{exit:?}");
    scene.write(101, 200);
    relay.start_again();
    relay.until_state("streaming", secs(60));
    scene.write(201, 300);
    assert_eq!(sorted(scene.numbers(300, secs(60))), (1..=300).collect::<Vec<_>>());
    let record = scene.until_stored(&relay);
    assert_eq!(record["mode"], "poll");
    assert_eq!(record["slot"], serde_json::Value::Null);
    assert_eq!(record["poll"]["snapshot"], record["poll"]["tick"], "a whole tick was published: {record}");
}

#[test]
fn a_table_made_while_polling_is_polled_from_its_first_row() {
    let scene = Scene::new("grow", Version::V15);
    let entries = "[[outbox]]\ntable = \"public.grow_*\"\n[[outbox]]\ntable = \"public.named\"";
    let mut relay = polled(&scene).toml(entries).spawn();
    relay.until_state("streaming", secs(60));
    assert!(relay.logs().contains("poll.no_table"), "one WARN says that public.named is not there");
    scene.write(1, 10);
    scene.numbers(10, secs(60));
    // The first tick that shows these rows is the first to know of their tables, too.
    for (table, from) in [("grow_later", 11), ("named", 21)] {
        scene.db.sql(&format!(
            "CREATE TABLE {table} (LIKE {first} INCLUDING ALL); GRANT SELECT ON {table} TO relay; \
             INSERT INTO {table} (topic, key, type, payload) SELECT '{topic}', 'k', 'Written', jsonb_build_object('n', n) \
             FROM generate_series({from}, {from} + 9) AS n",
            first = scene.outbox.table,
            topic = scene.topic
        ));
        scene.write(from + 90, from + 99);
    }
    let mut numbers = sorted(scene.numbers(50, secs(60)));
    numbers.retain(|n| *n <= 100);
    assert_eq!(numbers, (1..=30).collect::<Vec<_>>());
}

#[test]
fn published_rows_are_deleted_or_marked_as_told() {
    let scene = Scene::new("deleted", Version::V15);
    let table = &scene.outbox.table;
    let mut relay = polled(&scene).toml(&format!("[[outbox]]\ntable = {table:?}\nafter_publish = \"delete\"")).spawn();
    relay.until_state("streaming", secs(60));
    scene.db.sql(&format!("ALTER TABLE {table} ADD COLUMN done timestamptz; GRANT UPDATE ON {table} TO relay"));
    let mut open = scene.db.connect("app", "postgres").expect("a connection");
    open.batch_execute(&format!("BEGIN; {}", insert(&scene, "slow", 0))).expect("a row that is not committed");
    scene.write(1, 1_000);
    scene.numbers(1_000, secs(60));
    until("the rows to be gone", secs(60), || {
        (scene.db.sql(&format!("SELECT count(*) FROM {table}")).number() == 0).then_some(())
    });
    open.batch_execute("COMMIT").expect("the slow one commits");
    scene.numbers(1_001, secs(60));
    until("the late row to be gone", secs(60), || {
        (scene.db.sql(&format!("SELECT count(*) FROM {table}")).number() == 0).then_some(())
    });
    relay.terminate();
    relay.reconfigure(&format!("[[outbox]]\ntable = {table:?}\nafter_publish = \"update:done=now()\""));
    relay.start_again();
    relay.until_state("streaming", secs(60));
    scene.write(2_001, 3_000);
    scene.numbers(2_001, secs(60));
    until("the rows to be marked", secs(60), || {
        (scene.db.sql(&format!("SELECT count(*) FROM {table} WHERE done IS NULL")).number() == 0).then_some(())
    });
    assert_eq!(scene.db.sql(&format!("SELECT count(*) FROM {table}")).number(), 1_000);
}

#[test]
fn a_table_without_xid8_is_claimed_and_marked() {
    let scene = Scene::new("claimed", Version::V18);
    let table = &scene.outbox.table;
    scene.db.sql(&format!("ALTER TABLE {table} DROP COLUMN xid, ADD COLUMN done timestamptz; GRANT UPDATE ON {table} TO relay"));
    scene.db.sql(&format!("{}; UPDATE {table} SET done = now()", insert(&scene, "k", 999)));
    let entry = format!(
        "[[outbox]]\ntable = {table:?}\norder = \"claim(seq)\"\nmatch = \"done is null\"\nafter_publish = \"update:done=now()\""
    );
    let mut relay = scene.relay().toml(POLL).toml(&entry).spawn();
    relay.until_state("streaming", secs(60));
    scene.write(1, 2_000);
    let records = scene.records(2_000, secs(60));
    assert_eq!(sorted(records.iter().map(number).collect()), (1..=2_000).collect::<Vec<_>>(), "the marked row does not come");
    let position = records[0].header("relay-pos").expect("a position").to_owned();
    assert!(position.starts_with("x.") && position[2..].parse::<u64>().is_ok(), "{position}");
    until("the marks", secs(60), || {
        (scene.db.sql(&format!("SELECT count(*) FROM {table} WHERE done IS NULL")).number() == 0).then_some(())
    });
    relay.terminate();
    relay.start_again();
    relay.until_state("streaming", secs(60));
    scene.write(3_001, 3_010);
    assert_eq!(scene.numbers(2_010, secs(60)).len(), 2_010, "a clean stop repeats nothing");
}

#[test]
fn a_second_poller_waits_and_takes_over() {
    let scene = Scene::new("second", Version::V15);
    let builder = polled(&scene);
    let mut leader = builder.clone().spawn();
    leader.until_state("streaming", secs(60));
    let mut standby = builder.spawn();
    standby.until_state("standby", secs(60));
    scene.write(1, 10);
    scene.numbers(10, secs(60));
    leader.kill_9();
    standby.until_state("streaming", secs(60));
    scene.write(11, 20);
    until("all of it, what the dead one had not stored twice", secs(60), || {
        let mut distinct = sorted(scene.numbers(20, secs(60)));
        distinct.dedup();
        (distinct == (1..=20).collect::<Vec<_>>()).then_some(())
    });
}

/// The stored record.
fn checkpoint(relay: &Relay) -> serde_json::Value {
    let shown = relay.run(&["checkpoint", "show", "--json"]);
    serde_json::from_slice(&shown.stdout).expect("JSON")
}

#[test]
fn from_the_log_to_polling_nothing_is_lost_and_little_comes_twice() {
    let scene = Scene::new("topoll", Version::V15);
    scene.db.prepare_for_poll(&scene.outbox);
    let mut relay = scene.streaming();
    scene.write(1, 100);
    scene.numbers(100, secs(60));
    let pair = until("a pair of snapshot and position", secs(60), || {
        let pair = checkpoint(&relay)["log_poll"].clone();
        pair.is_object().then_some(pair)
    });
    // A transaction that is open at the switch belongs to polling.
    let mut open = scene.db.connect("app", "postgres").expect("a connection");
    open.batch_execute(&format!("BEGIN; {}", insert(&scene, "open", 900))).expect("an open row");
    scene.write(101, 150);
    scene.numbers(150, secs(60));
    relay.terminate();
    scene.write(151, 200);
    relay.reconfigure(POLL);
    relay.start_again();
    relay.until_state("streaming", secs(60));
    open.batch_execute("COMMIT").expect("it commits");
    scene.write(201, 250);
    let mut numbers = until("all of it", secs(60), || {
        let mut distinct = sorted(scene.numbers(251, secs(60)));
        let all = distinct.len();
        distinct.dedup();
        (distinct.len() == 251).then_some((all, distinct))
    });
    assert_eq!(numbers.1.pop(), Some(900));
    assert_eq!(numbers.1, (1..=250).collect::<Vec<_>>());
    println!("pair {pair}: {} of 150 published in log mode came twice", numbers.0 - 251);
    assert!(numbers.0 - 251 <= 150, "what the pair's snapshot saw is not repeated");
    assert!(relay.logs().contains("poll.from_log"), "the switch is told");
    assert_eq!(checkpoint(&relay)["mode"], "poll");
    assert_eq!(scene.db.sql("SELECT count(*) FROM pg_replication_slots").number(), 1, "the slot stays");
}

#[test]
fn from_polling_to_the_log_nothing_is_lost_or_repeated() {
    for version in [Version::V15, Version::V18] {
        let scene = Scene::new(&format!("tolog{}", version as u32), version);
        let mut relay = polling(&scene);
        scene.write(1, 100);
        scene.numbers(100, secs(60));
        relay.terminate();
        scene.write(101, 150);
        relay.reconfigure("source.mode = \"log\"");
        relay.start_again();
        // The slot's creation waits for this one; rows keep coming meanwhile.
        scene.write(151, 160);
        relay.until_state("streaming", secs(60));
        until("the log", secs(60), || (checkpoint(&relay)["mode"] == "log").then_some(()));
        scene.write(161, 200);
        assert_eq!(sorted(scene.numbers(200, secs(60))), (1..=200).collect::<Vec<_>>());
        assert!(relay.logs().contains("log.takes_over"));
        relay.terminate();
        relay.start_again();
        relay.until_state("streaming", secs(60));
        scene.write(201, 210);
        assert_eq!(sorted(scene.numbers(210, secs(60))), (1..=210).collect::<Vec<_>>());
    }
}

#[test]
fn a_slot_that_is_there_already_refuses_the_switch_to_the_log() {
    let scene = Scene::new("slotted", Version::V18);
    let mut relay = polling(&scene);
    scene.write(1, 10);
    scene.numbers(10, secs(60));
    relay.terminate();
    scene.db.sql("SELECT pg_create_logical_replication_slot('relay_slotted', 'pgoutput')");
    relay.reconfigure("source.mode = \"log\"");
    relay.start_again();
    relay.until_state("failed", secs(60));
    let error = relay.status()["last_error"].clone();
    assert_eq!(error["code"], "R0234");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("relay slot drop")), "{error}");
    scene.db.sql("SELECT pg_drop_replication_slot('relay_slotted')");
    // It looks again by itself.
    relay.until_state("streaming", secs(60));
    scene.write(11, 20);
    assert_eq!(sorted(scene.numbers(20, secs(60))), (1..=20).collect::<Vec<_>>());
}

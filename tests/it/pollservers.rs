//! A poller whose server is not the one it was: restored, another one, a standby, or slow to show what it has committed.

use crate::scene::{Scene, sorted};
use relay_tests::postgres::Postgres;
use relay_tests::relay::Relay;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use std::path::Path;
use std::process::Command;

const POLL: &str = "source.mode = \"poll\"\nsource.poll.interval = \"20ms\"";

/// A copy with owners and rights.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("start cp");
    assert!(status.success(), "cp ended with {status}");
}

/// The data directory is what it was when the copy was made; the server runs again.
fn restore(db: &mut Postgres, kept: &Path) {
    db.stop_fast();
    std::fs::remove_dir_all(db.data()).expect("remove the data directory");
    copy(kept, &db.data());
    db.start_again();
}

fn last_error(relay: &Relay) -> serde_json::Value {
    let error = relay.status()["last_error"].clone();
    println!("{error}");
    error
}

fn polling(scene: &Scene) -> Relay {
    scene.db.prepare_for_poll(&scene.outbox);
    let mut relay = scene.relay().toml(POLL).spawn();
    relay.until_state("streaming", secs(60));
    relay
}

#[test]
fn a_restored_server_is_refused_whatever_its_wal_says_until_the_gap_is_accepted() {
    for version in [Version::V15, Version::V18] {
        let mut scene = Scene::new(&format!("restored{}", version as u32), version);
        let mut relay = polling(&scene);
        scene.write(1, 10);
        scene.numbers(10, secs(60));
        scene.db.stop_fast();
        let kept = scene.db.data().with_extension("kept");
        copy(&scene.db.data(), &kept);
        scene.db.start_again();
        relay.until_state("streaming", secs(60));
        (11..=40).for_each(|n| scene.write(n, n));
        scene.numbers(40, secs(60));
        scene.until_stored(&relay);

        // The running relay comes back to a server that has forgotten rows 11 to 40.
        restore(&mut scene.db, &kept);
        relay.until_state("failed", secs(60));
        assert_eq!(last_error(&relay)["code"], "R0231");
        relay.terminate();
        // New rows take the transaction ids of published ones, and WAL that needs no id passes the stored position.
        (41..=45).for_each(|n| scene.write(n, n));
        scene.db.sql("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000)) FROM generate_series(1, 20)");
        scene.db.sql("SELECT pg_switch_wal()");
        relay.start_again();
        relay.until_state("failed", secs(60));
        let error = last_error(&relay);
        assert_eq!(error["code"], "R0231");
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains("transaction ids that were published are given out again"), "{message}");
        assert_eq!(scene.numbers(40, secs(60)).len(), 40, "nothing is published");
        // To its snapshot the new rows look published: housekeeping must not believe it.
        scene.db.sql(&format!("GRANT DELETE ON {} TO relay", scene.outbox.table));
        let prune = relay.run(&["outbox", "prune", "--older-than", "0s", "--yes"]);
        let text = String::from_utf8_lossy(&prune.stderr);
        assert!(prune.status.code() == Some(1) && text.contains("R0231"), "{:?} {text}", prune.status);
        assert_eq!(scene.db.sql(&format!("SELECT count(*) FROM {}", scene.outbox.table)).number(), 15);

        let lsn = message.rsplit_once("the LSN to accept is ").expect("the way out").1.to_owned();
        relay.terminate();
        let mut accepted = scene.relay().toml(POLL).arg("--accept-gap").arg(&lsn).spawn();
        accepted.until_state("streaming", secs(60));
        scene.write(46, 50);
        let numbers = sorted(scene.numbers(45, secs(60)));
        assert_eq!(numbers, (1..=40).chain(46..=50).collect::<Vec<_>>(), "41 to 45 are the gap");
        println!("{version}: the gap at {lsn} was accepted");
    }
}

#[test]
fn another_server_is_refused_and_publishes_nothing() {
    let scene = Scene::new("elsewhere", Version::V18);
    let mut relay = polling(&scene);
    scene.write(1, 3);
    scene.numbers(3, secs(60));
    let other = Postgres::start(Version::V15);
    let outbox = other.prepare_outbox("elsewhere");
    let topic = &scene.topic;
    other.sql(&format!(
        "INSERT INTO {} (topic, key, type, payload) VALUES ('{topic}', 'k', 'Written', '{{\"n\": 99}}')",
        outbox.table
    ));
    let mut intruder = scene.relay().url(&other.url("relay")).toml(POLL).spawn();
    intruder.until_state("failed", secs(60));
    assert_eq!(last_error(&intruder)["code"], "R0230");
    assert!(intruder.get("/readyz").body.contains("checkpoint_foreign"));
    scene.write(4, 6);
    assert_eq!(sorted(scene.numbers(6, secs(60))), [1, 2, 3, 4, 5, 6]);
    relay.until_state("streaming", secs(60));
}

#[test]
fn a_standby_is_waited_for_until_it_is_promoted() {
    let mut scene = Scene::new("replica", Version::V18);
    let mut relay = polling(&scene);
    scene.write(1, 10);
    scene.numbers(10, secs(60));
    relay.terminate();
    scene.write(11, 20);
    scene.db.stop_fast();
    let signal = scene.db.data().join("standby.signal");
    std::fs::write(&signal, "").expect("write standby.signal");
    scene.db.start_again();
    assert_eq!(scene.db.sql("SELECT pg_is_in_recovery()").one(), "t");
    relay.start_again();
    until("R0206", secs(60), || {
        let status = relay.try_status()?;
        (status["last_error"]["code"] == "R0206").then_some(())
    });
    assert!(last_error(&relay)["message"].to_string().contains("standby"));
    assert_eq!(scene.numbers(10, secs(60)).len(), 10, "nothing is read from a standby");
    assert_eq!(scene.db.sql("SELECT pg_promote()").one(), "t");
    relay.until_state("streaming", secs(60));
    scene.write(21, 30);
    assert_eq!(sorted(scene.numbers(30, secs(60))), (1..=30).collect::<Vec<_>>());
    relay.terminate();
    // Only REPLICATION may read which history this server has: a role without it is refused after a failover, not let pass.
    let plain = scene.relay().url(&scene.db.url("reader")).toml(POLL);
    scene.db.sql(&format!("CREATE ROLE reader LOGIN; GRANT SELECT ON {} TO reader", scene.outbox.table));
    let mut reader = plain.clone().spawn();
    reader.until_state("streaming", secs(60));
    scene.write(31, 31);
    scene.numbers(31, secs(60));
    reader.terminate();
    scene.db.stop_fast();
    std::fs::write(scene.db.data().join("standby.signal"), "").expect("write standby.signal");
    scene.db.start_again();
    assert_eq!(scene.db.sql("SELECT pg_promote()").one(), "t");
    let mut reader = plain.spawn();
    reader.until_state("failed", secs(60));
    let error = last_error(&reader);
    assert_eq!(error["code"], "R0233");
    assert!(error["message"].to_string().contains("it needs REPLICATION"), "{error}");
    reader.terminate();
    let mut relay = scene.relay().toml(POLL).spawn();
    relay.until_state("streaming", secs(60));
    scene.write(32, 32);
    assert_eq!(sorted(scene.numbers(32, secs(60))), (1..=32).collect::<Vec<_>>());
}

/// Two writers hold the slot's creation up, one after the other, so that a third commits while the slot's snapshot is being built.
#[test]
fn a_new_slots_snapshot_is_not_used_before_queries_see_what_it_sees() {
    for version in [Version::V15, Version::V18] {
        let scene = Scene::new(&format!("unseen{}", version as u32), version);
        let db = &scene.db;
        let mut relay = polling(&scene);
        scene.write(1, 10);
        scene.numbers(10, secs(60));
        relay.terminate();
        let begin = || {
            let mut client = db.superuser();
            client.batch_execute("SET synchronous_commit = local; BEGIN; SELECT pg_current_xact_id()").expect("an open writer");
            client
        };
        let waits_for = |writer: &mut postgres::Client| {
            let xid: String = writer.query_one("SELECT pg_current_xact_id()::xid::text", &[]).expect("an id").get(0);
            let sql = format!(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted AND transactionid = '{xid}'"
            );
            until("the slot's creation to wait", secs(60), || (db.sql(&sql).number() == 1).then_some(()));
        };
        let mut first = begin();
        relay.reconfigure("source.mode = \"log\"");
        relay.start_again();
        waits_for(&mut first);
        let mut second = begin();
        first.batch_execute("ROLLBACK").expect("the first one ends");
        waits_for(&mut second);
        // No such standby: from now on a commit is written, decoded, and not seen by anybody.
        db.set("synchronous_standby_names", "nowhere");
        until("the new setting", secs(60), || (db.sql("SHOW synchronous_standby_names").one() == "nowhere").then_some(()));
        let mut third = db.connect("app", "postgres").expect("a connection");
        let (table, topic) = (scene.outbox.table.clone(), scene.topic.clone());
        let committed = std::thread::spawn(move || {
            let row =
                format!("INSERT INTO {table} (topic, key, type, payload) VALUES ('{topic}', 'k', 'Written', '{{\"n\": 11}}')");
            third.batch_execute(&row).expect("the third one commits");
        });
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        until("a commit that waits for its standby", secs(60), || (db.sql(waiting).number() == 1).then_some(()));
        second.batch_execute("ROLLBACK").expect("the second one ends");
        let made = "SELECT count(*) FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL";
        until("the slot", secs(60), || (db.sql(made).number() == 1).then_some(()));
        if version == Version::V18 {
            // For so long that this attempt is given up; the next one waits for the third writer itself, as for any that is open.
            until("R0206", secs(120), || (relay.status()["last_error"]["code"] == "R0206").then_some(()));
            assert!(last_error(&relay)["message"].to_string().contains("queries do not see yet"));
        } else {
            std::thread::sleep(secs(3));
        }
        assert_eq!(db.sql(waiting).number(), 1, "it still waits");
        assert_eq!(scene.numbers(10, secs(60)).len(), 10, "row 11, which no query sees yet, is not read in the slot's snapshot");
        assert!(!relay.logs().contains("log.takes_over"));
        db.set("synchronous_standby_names", "");
        committed.join().expect("the third one has committed");
        until("the log", secs(60), || relay.logs().contains("log.takes_over").then_some(()));
        scene.write(12, 20);
        assert_eq!(sorted(scene.numbers(20, secs(60))), (1..=20).collect::<Vec<_>>(), "nothing lost, nothing twice");
        println!("{version}: row 11 waited for its standby and came once");
    }
}

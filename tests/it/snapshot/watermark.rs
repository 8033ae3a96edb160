//! Everything but the very first start of a slot of relay's own: chunks between watermarks, beside the stream.

use super::export::write;
use super::{Snap, check_order, last_images, markers, until_equal, until_logged};
use relay_tests::proxy::Proxy;
use relay_tests::relay::Relay;
use relay_tests::versions::Version;
use relay_tests::wait::{Finally, secs, until};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, v bigint NOT NULL) WITH (fillfactor = 60); \
                     INSERT INTO t SELECT g, 0 FROM generate_series(1, 60000) g; ANALYZE t";

fn quoted(tid: &serde_json::Value) -> String {
    format!("'{}'::tid", tid.as_str().expect("a row's place"))
}

#[test]
fn a_slot_that_somebody_made_is_snapshot_beside_the_stream_under_load() {
    let snap = Snap::new("beside", Version::V15, &["t"], TABLE);
    snap.make_slot();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = Finally(|| stop.store(true, Ordering::Relaxed));
        for writer in 0..2 {
            let (db, stop) = (&snap.db, &stop);
            scope.spawn(move || write(db, stop, writer));
        }
        let relay = snap.relay("[snapshot]\nchunk = 2000").spawn();
        until_logged(&relay, &["snapshot.done"]);
        stop.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(300));
        until_equal(&snap, &relay);
        let records = snap.records("t");
        check_order(&records);
        let read: Vec<_> = markers(&records).into_iter().filter(|(op, _)| op == "r").collect();
        assert!(!read.is_empty() && read.iter().all(|(_, marker)| marker == "incremental"));
        let mut values = records.iter().filter(|record| record.value_text().is_some()).map(relay_tests::consumer::Rec::json);
        let first = values.find(|value| value["op"] == "r").expect("a row");
        let source = &first["source"];
        assert!(source["txId"].is_null() && source["lsn"].is_null() && source["xmin"].is_null(), "{source}");
    });
}

/// The checkpoint as a person sees it; null as long as there is none.
fn stored(relay: &Relay) -> serde_json::Value {
    serde_json::from_slice(&relay.run(&["checkpoint", "show"]).stdout).unwrap_or_default()
}

/// Whether some chunks of `public.t` are done, and some are not.
fn is_open(record: &serde_json::Value) -> bool {
    record["snapshot"]["jobs"][0]["progress"]["public.t"]["done"].as_array().is_some_and(|done| !done.is_empty())
}

/// `kill -9` in the middle of the exported snapshot: the rest is read between watermarks, and what was done is not read again.
#[test]
fn what_a_kill_leaves_of_a_first_snapshot_goes_on_where_it_was() {
    for (name, rewrites) in [("goeson", false), ("rewritten", true)] {
        let snap = Snap::new(name, Version::V15, &["t"], TABLE);
        let proxy = Proxy::start(snap.db.port());
        // Half a minute for all rows, however quick the machine.
        proxy.bandwidth(30_000);
        let toml = "[snapshot]\nchunk = 500\nthreads = 1\n[delivery]\nin_flight_events = 2000";
        let mut relay = snap.relay_behind(&proxy, toml).spawn();
        // It has all its time until the first rows are there.
        snap.until_records(&relay, "t", 1);
        until("some chunks to be stored, and not all", secs(60), || {
            // Nothing moves while it is judged.
            relay.pause();
            let is_partial = is_open(&stored(&relay));
            if !is_partial {
                relay.resume();
                std::thread::sleep(Duration::from_millis(200));
            }
            is_partial.then_some(())
        });
        relay.kill_9();
        proxy.heal();
        let before = snap.records("t").len();
        let record = stored(&relay);
        assert!(is_open(&record), "{record}");
        let done = &record["snapshot"]["jobs"][0]["progress"]["public.t"]["done"];
        let ranges: Vec<String> = (done.as_array().into_iter().flatten())
            .map(|range| format!("ctid >= {} AND ctid < {}", quoted(&range[0]), quoted(&range[1])))
            .collect();
        let sql = format!("SELECT id FROM t WHERE {}", ranges.join(" OR "));
        let rows = snap.db.superuser().query(&sql, &[]).expect("the rows that are done");
        let done: std::collections::BTreeSet<i64> = rows.iter().map(|row| row.get(0)).filter(|id| id % 100 > 1).collect();
        assert!(!done.is_empty(), "{record}");
        if rewrites {
            snap.db.sql("VACUUM FULL t");
        }
        snap.db.sql("UPDATE t SET v = v + 1 WHERE id % 100 = 0; DELETE FROM t WHERE id % 1000 = 1");
        relay.start_again().until_state("streaming", secs(60));
        until_logged(&relay, &["snapshot.done"]);
        until_equal(&snap, &relay);
        let records = snap.records("t");
        check_order(&records);
        let mut read = std::collections::BTreeMap::<i64, u32>::new();
        for record in records.iter().filter(|record| record.value_text().is_some()).map(relay_tests::consumer::Rec::json) {
            *read.entry(record["after"]["id"].as_i64().unwrap_or(-1)).or_default() += u32::from(record["op"] == "r");
        }
        let is_again = relay.logs().contains("snapshot.table_again");
        assert_eq!(is_again, rewrites, "{}", relay.logs());
        assert!(before < 60_000, "the kill came too late: {before}");
        let times = if rewrites { 2 } else { 1 };
        let wrong = done.iter().find(|id| read.get(id) != Some(&times));
        assert_eq!(wrong, None, "of {} rows that were done each was read {times} times", done.len());
    }
}

/// Commits that a synchronous standby has yet to acknowledge are streamed, and not visible: chunks are read again until they are.
#[test]
fn a_slow_synchronous_standby_makes_chunks_be_read_again_and_no_old_image_follows() {
    let snap = Snap::new("sync", Version::V15, &["t"], TABLE);
    snap.make_slot();
    let mut relay = snap.relay("[snapshot]\nmode = \"never\"\nchunk = 5000\n[admin]\ntoken = \"t0ken\"").spawn();
    relay.until_state("streaming", secs(60));
    let set = |names: &str| {
        snap.db.set("synchronous_standby_names", names);
        until("the new setting", secs(60), || (snap.db.sql("SHOW synchronous_standby_names").one() == names).then_some(()));
    };
    set("nowhere");
    std::thread::scope(|scope| {
        let db = &snap.db;
        let writers: Vec<_> = (1..=4)
            .map(|writer| {
                scope.spawn(move || {
                    let mut client = db.superuser();
                    // Waits for its standby until that is not asked for any more.
                    let sql = format!("UPDATE t SET v = 7 WHERE id BETWEEN {writer} * 1000 AND {writer} * 1000 + 500");
                    client.batch_execute(&sql).expect("an update");
                })
            })
            .collect();
        // A failure must not leave the writers waiting.
        let _end = Finally(|| db.set("synchronous_standby_names", ""));
        until("updates in the topic that nobody sees yet", secs(60), || {
            let updates = markers(&snap.records("t")).into_iter().filter(|(op, _)| op == "u").count();
            (updates >= 4 * 501).then_some(())
        });
        assert_eq!(snap.db.sql("SELECT count(*) FROM t WHERE v = 7").number(), 0, "visible before the standby has it");
        let answer = relay.run(&["snapshot", "start", "public.t"]);
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        until(&format!("chunks to be read again; {}", relay.logs()), secs(60), || {
            relay.metric("relay_snapshot_rereads_total").filter(|rereads| *rereads > 0.0)
        });
        assert!(!markers(&snap.records("t")).iter().any(|(op, _)| op == "r"), "an image older than what was streamed");
        set("");
        for writer in writers {
            writer.join().expect("a writer");
        }
    });
    until_logged(&relay, &["snapshot.done"]);
    until_equal(&snap, &relay);
    check_order(&snap.records("t"));
}

#[test]
fn always_reads_again_at_each_start_and_a_table_without_key_has_rows_of_its_own() {
    let ddl = "CREATE TABLE k (id int PRIMARY KEY); INSERT INTO k VALUES (1), (2); \
               CREATE TABLE loose (v int); INSERT INTO loose VALUES (1), (1), (2); ALTER TABLE loose REPLICA IDENTITY FULL";
    let snap = Snap::new("always", Version::V15, &["k", "loose"], ddl);
    let mut relay = snap.relay("[snapshot]\nmode = \"always\"").spawn();
    until_logged(&relay, &["snapshot.done"]);
    let records = snap.until_records(&relay, "loose", 3);
    let positions: Vec<String> = records.iter().map(|record| record.header("relay-pos").unwrap_or("none").to_owned()).collect();
    assert!(positions.iter().all(|position| position.contains(".s.0.")), "{positions:?}");
    assert_eq!(positions.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{positions:?}");
    assert!(records.iter().all(|record| record.key_text().is_none()));
    assert_eq!(snap.until_records(&relay, "k", 2).len(), 2);
    assert_eq!(relay.terminate().code, Some(0));
    relay.start_again().until_state("streaming", secs(60));
    assert_eq!(snap.until_records(&relay, "k", 4).len(), 4);
    assert_eq!(last_images(&snap.records("k")).len(), 2);
}

/// The table changes between the chunks, and a writer's transaction that is open when the process begins is waited for.
#[test]
fn changes_of_the_table_and_open_transactions_are_waited_out() {
    let snap = Snap::new("changes", Version::V15, &["t"], TABLE);
    snap.make_slot();
    let mut open = snap.db.superuser();
    open.batch_execute("BEGIN; UPDATE t SET v = 3 WHERE id = 9").expect("an open transaction");
    let proxy = Proxy::start(snap.db.port());
    // Two hundred chunks of several answers each: the table changes long before the last one.
    proxy.delay(Duration::from_millis(5));
    let relay = snap.relay_behind(&proxy, "[snapshot]\nchunk = 300").spawn();
    until_logged(&relay, &["snapshot.waits", "pid"]);
    assert!(snap.records("t").is_empty());
    open.batch_execute("COMMIT").expect("a commit");
    until("rows", secs(60), || (snap.records("t").len() > 1_000).then_some(()));
    snap.db.sql("ALTER TABLE t ADD COLUMN w text DEFAULT 'new'; UPDATE t SET v = 5 WHERE id = 59000");
    proxy.heal();
    until_logged(&relay, &["snapshot.done"]);
    let images = last_images(&snap.records("t"));
    assert_eq!(images.len(), 60_000);
    assert_eq!(images["{\"id\":59000}"], serde_json::json!({"id": 59000, "v": 5, "w": "new"}));
    assert_eq!(images["{\"id\":58999}"], serde_json::json!({"id": 58999, "v": 0, "w": "new"}));
}

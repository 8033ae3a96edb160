//! What goes wrong around a poller on a real server: hands in its rows, poison, a lost lock, a role that may do little.

use crate::scene::{QUICK, Scene, number, records, sorted};
use relay_tests::kafka::Kafka;
use relay_tests::outbox::Outbox;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use std::time::Instant;

const POLL: &str = "source.mode = \"poll\"\nsource.poll.interval = \"20ms\"";
/// How a table with a column `done` is claimed.
const CLAIM: &str = "order = \"claim(seq)\"\nmatch = \"done is null\"\nafter_publish = \"update:done=now()\"";

/// One more pipeline on a server, for a table with ticks or for claims.
struct Line<'a> {
    db: &'a Postgres,
    outbox: Outbox,
    topic: String,
    is_claim: bool,
}

// === impl Line ===

impl<'a> Line<'a> {
    fn new(db: &'a Postgres, pipeline: &str, is_claim: bool) -> Self {
        let outbox = db.prepare_outbox(pipeline);
        db.prepare_for_poll(&outbox);
        if is_claim {
            let table = &outbox.table;
            db.sql(&format!(
                "ALTER TABLE {table} DROP COLUMN xid, ADD COLUMN done timestamptz; GRANT UPDATE ON {table} TO relay"
            ));
        }
        let topic = format!("{pipeline}.events");
        Kafka::shared().create_topic(&topic, 1, &[]);
        Self { db, outbox, topic, is_claim }
    }

    fn relay(&self) -> Builder {
        let keys = if self.is_claim { CLAIM } else { "" };
        let entry = format!("[[outbox]]\ntable = {:?}\n{keys}", self.outbox.table);
        Relay::on(self.db, Kafka::shared(), &self.outbox).toml(QUICK).toml(POLL).toml(&entry)
    }

    /// Rows of one transaction: topic and number.
    fn write(&self, rows: &[(&str, u64)]) {
        let values: Vec<String> =
            rows.iter().map(|(topic, n)| format!("('{topic}', 'k{n}', 'Written', '{{\"n\": {n}}}')")).collect();
        self.db.sql(&format!("INSERT INTO {} (topic, key, type, payload) VALUES {}", self.outbox.table, values.join(", ")));
    }

    fn numbers(&self, count: usize) -> Vec<u64> {
        records(&self.topic, count, secs(60)).iter().map(number).collect()
    }

    /// Waits until exactly these rows carry no mark; tables with ticks have none.
    #[track_caller]
    fn until_unmarked(&self, wanted: &str) {
        if self.is_claim {
            let sql =
                format!("SELECT coalesce(string_agg(key, ',' ORDER BY seq), '') FROM {} WHERE done IS NULL", self.outbox.table);
            until(&format!("{wanted:?} to be what is unmarked"), secs(60), || (self.db.sql(&sql).one() == wanted).then_some(()));
        }
    }
}

#[test]
fn rows_that_somebody_deletes_while_they_are_in_flight_stall_nothing() {
    let db = Postgres::start(Version::V18);
    for (name, is_claim, is_killed) in [("deltick", false, false), ("delclaim", true, false), ("delkill", false, true)] {
        let line = Line::new(&db, name, is_claim);
        let later = format!("{name}.later");
        let mut relay = line.relay().toml("sink.kafka.create_topics = \"never\"").toml("delivery.on_poison = \"dlq\"");
        for topic in ["checkpoint", "dlq"] {
            Kafka::shared().create_topic(&format!("{name}.{topic}"), 1, &[("cleanup.policy", "compact")]);
        }
        relay = relay.toml(&format!("delivery.dlq_topic = \"{name}.dlq\"\ndelivery.checkpoint_topic = \"{name}.checkpoint\""));
        let mut relay = relay.spawn();
        relay.until_state("streaming", secs(60));
        // Row 50 waits for its topic, and everything behind it waits for row 50, read already or not.
        let rows: Vec<(&str, u64)> = (1..=100).map(|n| (if n == 50 { later.as_str() } else { line.topic.as_str() }, n)).collect();
        line.write(&rows);
        let reason = format!("topic_missing:{later}");
        until(&reason, secs(60), || relay.get("/readyz").body.contains(&reason).then_some(()));
        let table = &line.outbox.table;
        db.sql(&format!(
            "DELETE FROM {table} WHERE (payload->>'n')::int BETWEEN 45 AND 55 OR payload->>'n' IN ('3', '77', '100')"
        ));
        let after = Instant::now();
        if is_killed {
            // The last row that the checkpoint knows of is one of those that are gone.
            until("a stored half of the tick", secs(60), || {
                let shown = relay.run(&["checkpoint", "show", "--json"]);
                let record: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
                (record["poll"]["seq"][table] == 49).then_some(())
            });
            relay.kill_9();
            relay.start_again();
        }
        let mut numbers = until("everything that is still there", secs(60), || {
            let mut numbers = sorted(line.numbers(1));
            if is_killed {
                numbers.dedup();
            }
            (numbers.len() >= 86 && numbers.contains(&99)).then_some(numbers)
        });
        numbers.retain(|n| *n < 45 || *n > 55);
        // What was read before it was deleted may have gone out, what was not published by then does not come.
        let gone = [77, 100];
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "none twice: {numbers:?}");
        let kept: Vec<u64> = (1..=100).filter(|n| *n != 3 && !(45..=55).contains(n) && !gone.contains(n)).collect();
        assert!(kept.iter().all(|n| numbers.contains(n)), "everything that is still there comes: {numbers:?}");
        println!("{name}: {} numbers, {:.1?} after the deletion", numbers.len(), after.elapsed());
        line.until_unmarked("");
        line.write(&[(&line.topic, 101)]);
        until("a later row", secs(60), || line.numbers(1).contains(&101).then_some(()));
        assert!(relay.process().is_running());
        assert_eq!(relay.terminate().code, Some(0));
    }
}

#[test]
fn two_rows_of_a_tick_with_one_order_value_stop_the_stream_until_they_are_repaired() {
    for version in [Version::V15, Version::V18] {
        let scene = Scene::new(&format!("twice{}", version as u32), version);
        scene.db.prepare_for_poll(&scene.outbox);
        let (db, table) = (&scene.db, &scene.outbox.table);
        let mut relay = scene.relay().toml(POLL).spawn();
        relay.until_state("streaming", secs(60));
        scene.write(1, 10);
        scene.numbers(10, secs(60));
        db.sql(&format!(
            "ALTER TABLE {table} ALTER seq SET GENERATED BY DEFAULT; \
             INSERT INTO {table} (seq, topic, key, type, payload) SELECT CASE n WHEN 16 THEN 1015 ELSE 1000 + n END, '{}', 'k', \
             'Written', jsonb_build_object('n', n) FROM generate_series(11, 20) AS n",
            scene.topic
        ));
        relay.until_state("failed", secs(60));
        let error = relay.status()["last_error"].clone();
        println!("{error}");
        assert_eq!(error["code"], "R0228");
        assert!(error["message"].to_string().contains(&format!("{table}: the order column's value 1015")), "{error}");
        assert!(relay.get("/readyz").body.contains("stopped:R0228"));
        // Restarts do not pass it by either.
        relay.terminate();
        relay.start_again();
        relay.until_state("failed", secs(60));
        assert!(!scene.numbers(10, secs(60)).contains(&20), "nothing behind it is published");
        db.sql(&format!("UPDATE {table} SET seq = 1016 WHERE payload->>'n' = '16'"));
        until("all rows", secs(60), || {
            let mut numbers = sorted(scene.numbers(20, secs(60)));
            numbers.dedup();
            (numbers == (1..=20).collect::<Vec<_>>()).then_some(())
        });
        relay.until_state("streaming", secs(60));
    }
}

#[test]
fn poison_by_polling_follows_the_policy_for_ticks_and_claims() {
    let db = Postgres::start(Version::V15);
    for (policy, is_claim) in [("dlq", false), ("dlq", true), ("skip", false), ("skip", true), ("stop", false), ("stop", true)] {
        let name = format!("ill{policy}{}", if is_claim { "claim" } else { "tick" });
        let line = Line::new(&db, &name, is_claim);
        let mut relay = line.relay().toml(&format!("delivery.on_poison = {policy:?}")).spawn();
        relay.until_state("streaming", secs(60));
        let good = line.topic.as_str();
        line.write(&[(good, 1), (good, 2), (good, 3), ("not a topic", 66), (good, 4), (good, 5)]);
        if policy == "stop" {
            until("poison_stopped", secs(60), || relay.get("/readyz").body.contains("poison_stopped").then_some(()));
            assert_eq!(line.numbers(3), [1, 2, 3], "it stands in front of the row");
            let logs = relay.logs();
            assert!(logs.contains("R0401") && logs.contains(&line.outbox.table) && logs.contains("k66"), "{logs}");
            line.until_unmarked("k66,k4,k5");
            assert!(!line.numbers(3).contains(&4));
            relay.terminate();
            relay.reconfigure("delivery.on_poison = \"skip\"").start_again();
        }
        assert_eq!(line.numbers(5), [1, 2, 3, 4, 5], "{name}: its neighbours come, once");
        if policy == "dlq" {
            let parked = records(&format!("{name}.dlq"), 1, secs(60));
            assert_eq!(parked.len(), 1);
            assert_eq!(parked[0].header("relay-error-code"), Some("R0401"));
            assert_eq!(parked[0].header("relay-origin-table"), Some(line.outbox.table.as_str()));
            let position = parked[0].header("relay-origin-pos").expect("a position").to_owned();
            assert!(position.starts_with('x') && position.contains("x.") == is_claim, "{position}");
            println!("{name}: parked at {position}");
        } else {
            let series = format!("relay_events_discarded_total{{pipeline=\"{name}\",reason=\"route\"}}");
            until("the count", secs(60), || (relay.metric(&series) == Some(1.0)).then_some(()));
        }
        // Dealt with is dealt with: a row that was parked or skipped is marked as a published one is.
        line.until_unmarked("");
        line.write(&[(good, 6)]);
        assert_eq!(line.numbers(6), [1, 2, 3, 4, 5, 6]);
        assert_eq!(relay.terminate().code, Some(0));
    }
}

#[test]
fn a_notification_ends_a_long_wait() {
    let scene = Scene::new("listen", Version::V18);
    scene.db.prepare_for_poll(&scene.outbox);
    let mut relay = scene
        .relay()
        .toml("source.mode = \"poll\"\nsource.poll.interval = \"60s\"\nsource.poll.notify = \"outbox news\"")
        .spawn();
    relay.until_state("streaming", secs(60));
    // Waits double from 1 ms: this far in, the one at hand ends 65.5 s after the first.
    std::thread::sleep(secs(34));
    let written = Instant::now();
    scene.write(1, 1);
    scene.db.sql("NOTIFY \"outbox news\"");
    assert_eq!(scene.numbers(1, secs(25)), [1]);
    println!("a row came {:.2?} after it was written, in the midst of a long wait", written.elapsed());
}

#[test]
fn a_lost_lock_stops_the_poller_until_it_has_it_again() {
    for version in [Version::V15, Version::V18] {
        let scene = Scene::new(&format!("lockless{}", version as u32), version);
        scene.db.prepare_for_poll(&scene.outbox);
        let db = &scene.db;
        let mut first = scene.relay().toml(POLL).spawn();
        first.until_state("streaming", secs(60));
        let mut second = scene.relay().toml(POLL).spawn();
        second.until_state("standby", secs(60));
        scene.write(1, 10);
        scene.numbers(10, secs(60));
        scene.until_stored(&first);
        // Somebody else waits in line for the lock and gets it the moment the poller's session ends.
        let lock = format!("hashtextextended('relay:{}', 0)", scene.outbox.pipeline);
        let mut other = db.superuser();
        let taken = std::thread::spawn({
            let sql = format!("SELECT pg_advisory_lock({lock})");
            move || {
                other.batch_execute(&sql).expect("the lock");
                other
            }
        });
        until("somebody in line", secs(60), || {
            let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
            (db.sql(waiting).number() >= 1).then_some(())
        });
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND granted";
        assert_eq!(db.sql(ended).number(), 1);
        let other = taken.join().expect("the lock is held");
        first.until_state("standby", secs(60));
        second.until_state("standby", secs(60));
        scene.write(11, 20);
        std::thread::sleep(secs(2));
        assert_eq!(scene.numbers(10, secs(60)).len(), 10, "nobody publishes without the lock");
        drop(other);
        let leads = |relay: &Relay| relay.try_status().is_some_and(|status| status["state"] == "streaming");
        let is_first = until("a leader", secs(60), || (leads(&first) || leads(&second)).then(|| leads(&first)));
        let numbers = sorted(scene.numbers(20, secs(60)));
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>());
        let leader = if is_first { &mut first } else { &mut second };
        println!("{version}: the {} leads", if is_first { "first" } else { "second" });
        // Without anybody in line it is back by itself, or the other one is there first.
        scene.until_stored(leader);
        assert_eq!(db.sql(ended).number(), 1);
        scene.write(21, 30);
        let numbers = sorted(scene.numbers(30, secs(60)));
        assert_eq!(numbers, (1..=30).collect::<Vec<_>>());
        assert!(leader.process().is_running());
    }
}

#[test]
fn a_role_that_may_only_select_polls_from_start_to_end() {
    for version in [Version::V15, Version::V18] {
        let scene = Scene::new(&format!("plain{}", version as u32), version);
        let db = &scene.db;
        db.sql(&format!("CREATE ROLE reader LOGIN; GRANT SELECT ON {} TO reader", scene.outbox.table));
        let mut relay = scene.relay().url(&db.url("reader")).toml(POLL).spawn();
        relay.until_state("streaming", secs(60));
        scene.write(1, 100);
        scene.numbers(100, secs(60));
        relay.until_ready(secs(60));
        relay.kill_9();
        relay.start_again();
        relay.until_state("streaming", secs(60));
        scene.write(101, 200);
        until("all of it", secs(60), || {
            let mut numbers = sorted(scene.numbers(200, secs(60)));
            numbers.dedup();
            (numbers == (1..=200).collect::<Vec<_>>()).then_some(())
        });
        let dry = relay.run(&["outbox", "prune", "--older-than", "0s", "--dry-run"]);
        assert!(dry.status.success(), "{}", String::from_utf8_lossy(&dry.stderr));
        assert_eq!(relay.terminate().code, Some(0));
        let logs = db.logs();
        let refused: Vec<&str> = logs.lines().filter(|line| line.contains("reader@") && !line.contains(" LOG:")).collect();
        assert!(refused.is_empty(), "the server refused it something: {refused:#?}");
    }
}

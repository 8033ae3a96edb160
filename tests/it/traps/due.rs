//! Rows that are due later: judged once by log and in ticks, waited for by claim where a column says when.

use super::{POLL, load, records_once_there, spawn};
use crate::scene::until_counted;
use relay_tests::consumer::Rec;
use relay_tests::postgres::Postgres;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

/// Rows of open-outbox, due in so many hours; the type is the topic.
fn insert(db: &Postgres, table: &str, hours: &[i32]) {
    for hours in hours {
        db.sql(&format!(
            "INSERT INTO {table} (event_id, event_type, partition_key, payload, available_at) \
             VALUES (gen_random_uuid(), 'orders', 'k', '{hours}', now() + interval '{hours} hours')"
        ));
    }
}

fn values(records: &[Rec]) -> Vec<&str> {
    records.iter().filter_map(Rec::value_text).collect()
}

const POLICIES: [&str; 3] = ["poison", "publish", "skip"];

#[test]
fn a_row_that_is_due_later_is_judged_once_by_log_and_in_ticks() {
    for (version, mode) in [(Version::V15, "log"), (Version::V18, "poll")] {
        let db = Postgres::start(version);
        let pipeline = format!("due{mode}");
        let order = if mode == "poll" { "order = \"tick(xid, seq)\"" } else { "" };
        let mut toml = if mode == "poll" { POLL.to_owned() } else { String::new() };
        let table = |policy: &str| format!("public.due_{policy}");
        for policy in POLICIES {
            load(&db, &format!("{pipeline}_{policy}"), "open-outbox", &table(policy), mode);
            toml.push_str(&format!(
                "\n[[outbox]]\npreset = \"open-outbox\"\ntable = \"{}\"\non_scheduled = {policy:?}\n{order}\n\
                 topic = \"{pipeline}.{policy}.{{event_type}}\"",
                table(policy)
            ));
        }
        if mode == "log" {
            let tables = POLICIES.map(table).join(", ");
            db.sql(&format!("CREATE PUBLICATION relay_{pipeline} FOR TABLE {tables} WITH (publish = 'insert')"));
        }
        let relay = spawn(&db, &pipeline, &toml);
        // What follows the row in question is published whatever became of it.
        POLICIES.iter().for_each(|policy| insert(&db, &table(policy), &[-1, 1, -2]));
        for (policy, expected) in POLICIES.iter().zip([&["-1", "-2"][..], &["-1", "1", "-2"], &["-1", "-2"]]) {
            let records = records_once_there(&format!("{pipeline}.{policy}.orders"), expected.len());
            assert_eq!(values(&records), expected, "{mode}, on_scheduled = {policy:?}");
        }
        let parked = records_once_there(&format!("{pipeline}.dlq"), 1);
        let message = parked[0].header("relay-error-message");
        assert_eq!((parked.len(), message), (1, Some("public.due_poison: the row is due in the future")));
        until("the count of skipped rows", secs(60), || {
            (relay.metric("relay_events_filtered_total{reason=\"scheduled\"}") == Some(1.0)).then_some(())
        });
        println!("{mode}: one parked, one published at once, one skipped and counted");
    }
}

#[test]
fn claim_waits_until_a_row_is_due() {
    for version in Version::ALL {
        let db = Postgres::start(version);
        let pipeline = format!("waits{}", version.major());
        load(&db, &pipeline, "open-outbox", "public.openoutbox_events", "poll");
        load(&db, &pipeline, "pgmq", "pgmq.q_orders", "poll");
        let entries = format!(
            "[[outbox]]\npreset = \"open-outbox\"\ntopic = \"{pipeline}.{{event_type}}\"\n\
             [[outbox]]\npreset = \"pgmq\"\ntopic = \"{pipeline}.{{table_suffix}}.queue\""
        );
        let relay = spawn(&db, &pipeline, &format!("{POLL}\n{entries}"));
        let message = |n: i32, vt: &str| {
            db.sql(&format!("INSERT INTO pgmq.q_orders (vt, message) VALUES ({vt}, '{n}')"));
        };
        insert(&db, "openoutbox_events", &[1, -1]);
        message(1, "'infinity'");
        message(-1, "now()");
        let (events, queue) = (format!("{pipeline}.orders"), format!("{pipeline}.orders.queue"));
        assert_eq!(values(&records_once_there(&events, 1)), ["-1"]);
        assert_eq!(values(&records_once_there(&queue, 1)), ["-1"]);
        // Claimed after everything that was there: what waits stands behind nothing and in nobody's way.
        insert(&db, "openoutbox_events", &[-2]);
        message(-2, "now()");
        assert_eq!(values(&records_once_there(&events, 2)), ["-1", "-2"]);
        assert_eq!(values(&records_once_there(&queue, 2)), ["-1", "-2"]);
        assert_eq!(db.sql("SELECT status FROM openoutbox_events WHERE available_at > now()").one(), "PENDING");
        // Its time comes.
        db.sql(
            "UPDATE openoutbox_events SET available_at = now() WHERE available_at > now(); UPDATE pgmq.q_orders SET vt = now()",
        );
        assert_eq!(values(&records_once_there(&events, 3)), ["-1", "-2", "1"]);
        assert_eq!(values(&records_once_there(&queue, 3)), ["-1", "-2", "1"]);
        println!("{version}: {:?} filtered", relay.metric("relay_events_filtered_total"));
    }
}

#[test]
fn a_delay_inside_a_document_is_judged_whatever_the_order() {
    let db = Postgres::start(Version::V18);
    load(&db, "captick", "cap", "cap.published", "poll");
    let insert = |id: u32, delay: &str| {
        db.sql(&format!(
            "INSERT INTO cap.published VALUES ({id}, 'v1', 'orders', \
               '{{\"Headers\":{{\"cap-msg-id\":\"{id}\"{delay}}},\"Value\":{id}}}', 0, now(), NULL, 'Scheduled')"
        ))
    };
    let entry =
        |pipeline: &str, rest: &str| format!("{POLL}\n[[outbox]]\npreset = \"cap\"\n{rest}\ntopic = \"{pipeline}.{{Name}}\"");
    // A header says for how long and not until when: even claim cannot wait, and must not send at once either.
    for (pipeline, rest) in [("capclaim", ""), ("captick", "order = \"tick(xid, seq)\"\nafter_publish = \"keep\"")] {
        let relay = spawn(&db, pipeline, &entry(pipeline, rest));
        db.sql("DELETE FROM cap.published");
        insert(1, "");
        insert(2, ",\"cap-delaytime\":\"00:01:00\"");
        insert(3, "");
        assert_eq!(values(&records_once_there(&format!("{pipeline}.orders"), 2)), ["1", "3"], "{pipeline}");
        let parked = records_once_there(&format!("{pipeline}.dlq"), 1);
        assert_eq!(parked[0].header("relay-error-message"), Some("cap.published: the row is due in the future"));
        until_counted(&relay, "relay_dlq_events_total{reason=\"scheduled\"}", 1.0);
    }
}

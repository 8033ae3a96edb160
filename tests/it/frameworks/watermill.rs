//! Watermill's own schema adapters make and fill the tables, its subscriber reads relay's records, and its forwarder is compared.

use super::records::{Shape, assert_equal, by_header};
use crate::scene::{QUICK, records};
use relay_tests::consumer::Rec;
use relay_tests::framework::Framework;
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The header that names a message, on both sides.
const UUID: &str = "_watermill_message_uuid";

/// A server on which the application makes tables as it pleases, and relay may read, mark and stream them all.
fn server(pipeline: &str, version: Version) -> Postgres {
    let db = Postgres::start(version);
    db.prepare_roles();
    db.sql(&format!(
        "ALTER DEFAULT PRIVILEGES FOR ROLE app GRANT SELECT, UPDATE ON TABLES TO relay; \
         CREATE PUBLICATION relay_{pipeline} FOR TABLES IN SCHEMA public WITH (publish = 'insert')"
    ));
    db
}

fn spawn(db: &Postgres, pipeline: &str, entry: &str) -> Relay {
    let builder = Builder::new(pipeline).url(&db.url("relay")).brokers(&Kafka::shared().brokers()).toml(QUICK);
    let mut relay = builder.toml(entry).spawn();
    relay.until_state("streaming", secs(60));
    relay
}

/// One relay by log, whose topics are the preset's own, and one by poll, whose topics begin with `polled.`.
fn both(db: &Postgres, pipeline: &str, preset: &str, topic: &str) -> [Relay; 2] {
    let poll = format!(
        "source.mode = \"poll\"\nsource.poll.interval = \"20ms\"\n[[outbox]]\npreset = {preset:?}\ntopic = \"polled.{topic}\""
    );
    let log = format!("[[outbox]]\npreset = {preset:?}");
    [spawn(db, pipeline, &log), spawn(db, &format!("{pipeline}poll"), &poll)]
}

/// Messages for a topic, their payloads as given.
fn messages(topic: &str, payloads: &[&[u8]]) -> Vec<Value> {
    let metadata = [
        json!({}),
        json!({ "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "name": "order.Created" }),
        json!({ "note 😀": "ä\"\\/\u{1f}😀 <&>\u{2028}", "empty": "", "Zero": "0", "a": "1", "b": "2" }),
        // A Go map that was never made is a JSON null in the row.
        Value::Null,
    ];
    let message = |(at, payload): (usize, &&[u8])| {
        let metadata = &metadata[at % metadata.len()];
        json!({ "topic": topic, "uuid": format!("{topic}-{at}"), "payload": base64(payload), "metadata": metadata })
    };
    payloads.iter().enumerate().map(message).collect()
}

const JSON: [&[u8]; 6] =
    [b"{\"b\": 1.50, \"a\": \"x\"}", "[\"ü 😀\", null]".as_bytes(), b"17", b"\"\\u0041\\/\"", b" {}\n", b"null"];

const BYTES: [&[u8]; 4] = [b"\x00\xff\x10", b"", b"plain", "ü".as_bytes()];

/// RFC 4648, as Go writes bytes in JSON.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let bits = chunk.iter().chain([0, 0].iter()).take(3).fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte));
        let letter = |at: usize| if at <= chunk.len() { char::from(LETTERS[bits >> (18 - 6 * at) & 63]) } else { '=' };
        [0, 1, 2, 3].map(letter)
    };
    bytes.chunks(3).flat_map(group).collect()
}

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

/// Reads a topic with Watermill's subscriber and holds it to what was published: uuid, payload, metadata.
#[track_caller]
fn assert_read(watermill: &Framework, topic: &str, sent: &[Value]) {
    records(topic, sent.len(), secs(60));
    let brokers = Kafka::shared().brokers();
    let mut read = watermill.ask("read", &[&brokers, topic, &sent.len().to_string()], "");
    read.sort_by_key(|message| message["uuid"].as_str().map(str::to_owned));
    for (message, sent) in read.iter_mut().zip(sent) {
        let metadata = message["metadata"].as_object_mut().expect("metadata");
        // relay's own two headers are metadata to Watermill.
        assert_eq!(metadata.remove("id"), Some(sent["uuid"].clone()));
        assert!(metadata.remove("relay-pos").is_some());
        let expected = if sent["metadata"].is_null() { json!({}) } else { sent["metadata"].clone() };
        assert_eq!(message["uuid"], sent["uuid"], "{topic}");
        assert_eq!(message["payload"], sent["payload"], "{topic}: {}", sent["uuid"]);
        assert_eq!(message["metadata"], expected, "{topic}: {}", sent["uuid"]);
    }
    println!("{topic}: Watermill's subscriber has read all {} messages: uuid, payload, metadata", read.len());
}

#[test]
fn watermills_tables_of_json_and_of_bytes() {
    let watermill = Framework::go("watermill");
    for topic in ["wm-json", "wm-bytes"] {
        ["", "polled."].iter().for_each(|prefix| Kafka::shared().create_topic(&format!("{prefix}{topic}"), 4, &[]));
    }
    let db = server("wmtables", Version::V18);
    // What Watermill's SQL subscriber makes beside each table.
    db.sql(
        "SET ROLE app; CREATE TABLE \"watermill_offsets_wm-json\" (consumer_group varchar(255) NOT NULL PRIMARY KEY, \
            offset_acked bigint, last_processed_transaction_id xid8 NOT NULL); \
            INSERT INTO \"watermill_offsets_wm-json\" VALUES ('before', 0, '0')",
    );
    let _relays = both(&db, "wmtables", "watermill", "{table_suffix}");
    let (json, bytes) = (messages("wm-json", &JSON), messages("wm-bytes", &BYTES));
    let (early, late) = json.split_at(3);
    watermill.ask("publish", &[&db.url("app"), "json"], &lines(early));
    records("polled.wm-json", early.len(), secs(60));
    // Polling goes on meanwhile, so that a tick sees these rows before their table is known.
    watermill.ask("publish", &[&db.url("app"), "bytea"], &lines(&bytes));
    watermill.ask("publish", &[&db.url("app"), "json"], &lines(late));
    for prefix in ["", "polled."] {
        assert_read(&watermill, &format!("{prefix}wm-json"), &json);
        assert_read(&watermill, &format!("{prefix}wm-bytes"), &bytes);
    }
}

#[test]
fn watermills_queue_is_claimed_and_acknowledged() {
    let watermill = Framework::go("watermill");
    ["", "polled."].iter().for_each(|prefix| Kafka::shared().create_topic(&format!("{prefix}wm-queue"), 4, &[]));
    let db = server("wmqueue", Version::V15);
    let _relays = both(&db, "wmqueue", "watermill-queue", "{table_suffix}");
    let sent = messages("wm-queue", &JSON);
    watermill.ask("publish", &[&db.url("app"), "queue"], &lines(&sent));
    for prefix in ["", "polled."] {
        assert_read(&watermill, &format!("{prefix}wm-queue"), &sent);
    }
    until("every message to be acknowledged", secs(60), || {
        (db.sql("SELECT count(*) FROM \"watermill_wm-queue\" WHERE NOT acked").number() == 0).then_some(())
    });
}

/// Records by the message's uuid, without what is free: Go ranges over metadata in no order, and no key means any partition.
#[track_caller]
fn unordered(records: &[Rec]) -> BTreeMap<String, Shape> {
    let mut shapes = by_header(records, UUID, |header| header == "id" || header == "relay-pos");
    for shape in shapes.values_mut() {
        assert_eq!(shape.headers[0].0, UUID, "the first header names the message");
        shape.headers.sort();
        shape.partition = 0;
    }
    shapes
}

#[test]
fn watermills_forwarder_writes_what_relay_writes() {
    let watermill = Framework::go("watermill");
    for topic in ["wmf-orders", "wmf.other"] {
        for prefix in ["", "polled.", "upstream.", "unwrapped."] {
            Kafka::shared().create_topic(&format!("{prefix}{topic}"), 4, &[]);
        }
    }
    Kafka::shared().create_topic("wmf-envelopes", 4, &[]);
    let db = server("wmforward", Version::V15);
    let relays = both(&db, "wmforward", "watermill-forwarder", "{payload#/destination_topic}");
    // One more that leaves the envelopes as they are, for Watermill's forwarder to unwrap behind Kafka.
    let envelopes = "source.log.publication = \"relay_wmforward\"\n[[outbox]]\npreset = \"watermill\"\n\
                     table = \"public.watermill_forwarder_topic\"\ntopic = \"wmf-envelopes\"";
    let _third = spawn(&db, "wmenvelopes", envelopes);
    let (orders, other) = (messages("wmf-orders", &[&JSON[..], &BYTES[..]].concat()), messages("wmf.other", &BYTES));
    watermill.ask("publish", &[&db.url("app"), "forwarder"], &lines(&[orders.clone(), other.clone()].concat()));
    let (brokers, count) = (Kafka::shared().brokers(), (orders.len() + other.len()).to_string());
    watermill.ask("forward", &[&db.url("app"), &brokers, "sql", "upstream.", &count], "");
    records("wmf-envelopes", orders.len() + other.len(), secs(60));
    watermill.ask("forward", &[&db.url("app"), &brokers, "wmf-envelopes", "unwrapped.", &count], "");
    for (topic, sent) in [("wmf-orders", &orders), ("wmf.other", &other)] {
        let read = |prefix: &str| unordered(&records(&format!("{prefix}{topic}"), sent.len(), secs(60)));
        let theirs = read("upstream.");
        assert_equal(&format!("{topic} by log"), &theirs, &read(""));
        assert_equal(&format!("{topic} by poll"), &theirs, &read("polled."));
        assert_equal(&format!("{topic} unwrapped behind Kafka"), &theirs, &read("unwrapped."));
        println!(
            "{topic}: {} records of Watermill's forwarder equal relay's by log and by poll, and its own of relay's envelopes",
            sent.len()
        );
        for prefix in ["", "polled."] {
            assert_read(&watermill, &format!("{prefix}{topic}"), sent);
        }
    }
    for relay in &relays {
        let routes = relay.status()["routes"].clone();
        let sources: Vec<&Value> = routes.as_array().expect("routes").iter().map(|route| &route["source"]).collect();
        assert_eq!(sources, ["public.watermill_forwarder_topic"; 2], "{routes}");
    }
}

//! The CloudEvents SDK reads what relay writes as CloudEvents, binary and structured; Jackson reads every JSON document.

use crate::scene::QUICK;
use relay_tests::consumer::{Isolation, Rec, read_all};
use relay_tests::framework::Framework;
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use serde_json::Value;

const TABLES: &str = "CREATE TABLE orders (id int PRIMARY KEY, note text, paid numeric(10,2)); \
    CREATE TABLE pairs (a text, b int, PRIMARY KEY (a, b));";

const CHANGES: [&str; 6] = [
    r#"INSERT INTO orders VALUES (1, 'ü😀 "quoted" \', 12.50), (2, NULL, NULL)"#,
    "UPDATE orders SET paid = 13 WHERE id = 1",
    "UPDATE orders SET id = 3 WHERE id = 2",
    "DELETE FROM orders WHERE id = 1",
    r#"INSERT INTO pairs VALUES ('a/b "c" %20 ü', 1)"#,
    "TRUNCATE pairs",
];

fn relay(db: &Postgres, name: &str, format: &str, capture: &str) -> Relay {
    let builder = Builder::new(name).url(&db.url("postgres")).brokers(&Kafka::shared().brokers()).toml(QUICK);
    let builder = builder.toml(&format!(
        "source.log.publication = \"ce\"\nsink.kafka.partitions = 1\n[format]\ntopic_prefix = \"{name}\"\n{format}\n\
         [[capture]]\ntables = [\"public.*\"]\noperations = [\"insert\", \"update\", \"delete\", \"truncate\"]\n{capture}"
    ));
    let mut relay = builder.spawn();
    relay.until_state("streaming", secs(60));
    relay
}

/// The records of a topic, once there are so many.
fn written(topic: &str, count: usize) -> Vec<Rec> {
    Kafka::shared().until_topic_exists(topic, secs(60));
    until(&format!("{count} records in {topic}"), secs(60), || {
        let records = read_all(&Kafka::shared().brokers(), &[topic], Isolation::Committed);
        (records.len() >= count).then_some(records)
    })
}

fn ask(what: &str, topics: &[&str]) -> Vec<Value> {
    let brokers = Kafka::shared().brokers();
    let mut args = vec![what, brokers.as_str()];
    args.extend(topics);
    Framework::java("cloudevents").ask("CloudEvents", &args, "")
}

#[test]
fn the_sdk_of_cloudevents_reads_every_event_and_jackson_every_document() {
    let db = Postgres::start(Version::V18);
    db.sql(&format!("{TABLES} CREATE PUBLICATION ce FOR ALL TABLES"));
    let events = "format = \"cloudevents\"";
    let _binary = relay(&db, "cebinary", "cloudevents_mode = \"binary\"\ncloudevents_partitionkey = true", events);
    let _structured = relay(&db, "cestructured", "cloudevents_mode = \"structured\"", events);
    let _envelopes = relay(&db, "ceenvelope", "schemas = true", "");
    CHANGES.iter().for_each(|change| drop(db.sql(change)));
    let names = ["cebinary", "cestructured", "ceenvelope"];
    let topics: Vec<String> =
        names.iter().flat_map(|name| [format!("{name}.public.orders"), format!("{name}.public.pairs")]).collect();
    let records: Vec<Vec<Rec>> = topics.iter().zip([8, 2].iter().cycle()).map(|(topic, count)| written(topic, *count)).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let read = ask("events", &topics[..4]);
    for (topic, records) in topics[..4].iter().zip(&records) {
        let read: Vec<&Value> = read.iter().filter(|event| event["topic"] == *topic).collect();
        assert_eq!(read.len(), records.len(), "{topic}: {read:#?}");
        for (event, record) in read.iter().zip(records) {
            if record.value.is_none() && record.header("content-type").is_none() {
                assert_eq!(event["tombstone"], true, "{topic}");
                continue;
            }
            let prefix = topic.split('.').next().unwrap_or_default();
            assert_eq!(event["specversion"], "1.0");
            assert_eq!(event["id"].as_str(), record.header("relay-pos"), "{topic}");
            assert_eq!(event["source"], format!("/relay/{prefix}"));
            assert_eq!(event["datacontenttype"], "application/json");
            assert_eq!(event["subject"].as_str(), record.key_text(), "{topic}: {event}");
            assert!(event["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{event}");
            assert!(event["sequence"].as_str().is_some_and(|text| text.len() == 27), "{event}");
            assert_eq!(event["partitionkey"].is_string(), prefix == "cebinary" && record.key.is_some(), "{event}");
            let data = if prefix == "cebinary" { record.json() } else { record.json()["data"].clone() };
            assert_eq!(event["data"], data, "{topic}");
        }
        let types: Vec<&str> = read.iter().filter_map(|event| event["type"].as_str()?.rsplit('.').next()).collect();
        println!("{topic}: {} events read by the SDK: {types:?}", types.len());
    }
    // Two parsers read the same of every document.
    let mut count = 0;
    for document in ask("json", &topics) {
        let place = topics.iter().position(|topic| document["topic"] == *topic).expect("a topic that was asked for");
        let record = records[place].iter().find(|record| document["offset"] == record.offset).expect("its record");
        let parsed =
            |bytes: &Option<Vec<u8>>| bytes.as_deref().map_or(Value::Null, |bytes| serde_json::from_slice(bytes).expect("JSON"));
        assert_eq!((&document["key"], &document["value"]), (&parsed(&record.key), &parsed(&record.value)), "{record:?}");
        count += 1;
    }
    println!("{count} records: key and value are the same to Jackson and to serde_json");
}

//! Eventuate Tram's own producer writes the rows and its own consumer reads relay's records; the bytes are those of its own mapper.

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

/// One layout of the message table.
struct Layout {
    /// Names the pipelines, the publication and the topics.
    name: &'static str,
    version: Version,
    /// The tables, without schema.
    tables: &'static [&'static str],
    /// The columns.
    columns: &'static str,
    /// How ids are made: by the `application`, or by the `database` and then by whoever publishes.
    ids: &'static str,
    /// In how many tables Eventuate spreads its messages; 0 is one without a number.
    shards: &'static str,
}

/// The layout that Eventuate's documentation begins with, spread over two tables; it asks the one without a number for types.
const SHARDED: Layout = Layout {
    name: "evshards",
    version: Version::V15,
    tables: &["message", "message0", "message1"],
    columns: "id varchar(1000) PRIMARY KEY, destination text NOT NULL, headers text NOT NULL, payload text NOT NULL, \
              published smallint DEFAULT 0, message_partition smallint, creation_time bigint",
    ids: "application",
    shards: "2",
};

/// Ids from a sequence, and JSON columns.
const NUMBERED: Layout = Layout {
    name: "evnumbers",
    version: Version::V18,
    tables: &["message"],
    columns: "dbid bigint NOT NULL DEFAULT nextval('eventuate.message_table_id_sequence') PRIMARY KEY, id varchar(1000), \
              destination text NOT NULL, headers json NOT NULL, payload json NOT NULL, published smallint DEFAULT 0, \
              message_partition smallint, creation_time bigint",
    ids: "database",
    shards: "0",
};

// === impl Layout ===

impl Layout {
    fn create(&self) -> Postgres {
        let db = Postgres::start(self.version);
        db.prepare_roles();
        db.sql("GRANT CREATE ON DATABASE postgres TO app; SET ROLE app; CREATE SCHEMA eventuate; GRANT USAGE ON SCHEMA eventuate TO relay; \
                CREATE SEQUENCE eventuate.message_table_id_sequence START 1000; RESET ROLE");
        let tables: Vec<String> = self.tables.iter().map(|table| format!("eventuate.{table}")).collect();
        for table in &tables {
            db.sql(&format!(
                "SET ROLE app; CREATE TABLE {table} ({}); GRANT SELECT, UPDATE ON {table} TO relay; RESET ROLE",
                self.columns
            ));
        }
        let publication =
            format!("CREATE PUBLICATION relay_{} FOR TABLE {} WITH (publish = 'insert')", self.name, tables.join(", "));
        db.sql(&format!("SET ROLE app; {publication}; RESET ROLE"));
        db
    }

    /// Preset `eventuate-tram` as it comes: its table is the preset's own.
    fn by_log(&self, db: &Postgres) -> Relay {
        spawn(db, self.name, "[[outbox]]\npreset = \"eventuate-tram\"")
    }

    fn by_poll(&self, db: &Postgres) -> Relay {
        let entry = "source.mode = \"poll\"\nsource.poll.interval = \"20ms\"\n[[outbox]]\npreset = \"eventuate-tram\"\n\
                     topic = \"polled.{destination}\"";
        spawn(db, &format!("{}poll", self.name), entry)
    }

    /// The rows as Eventuate's CDC reads them: headers and payload as text, and what an id is made of.
    fn rows(&self, db: &Postgres) -> Vec<Value> {
        let number = if self.ids == "database" { "dbid" } else { "0" };
        let one =
            |table: &&str| format!("SELECT destination, headers::text, payload::text, {number}::text FROM eventuate.{table}");
        let sql = self.tables.iter().map(one).collect::<Vec<_>>().join(" UNION ALL ");
        let text = |row: &Vec<Option<String>>, at: usize| row[at].clone().expect("a value");
        let row = |row: &Vec<Option<String>>| {
            let dbid: i64 = text(row, 3).parse().expect("a number");
            json!({ "destination": text(row, 0), "headers": text(row, 1), "payload": text(row, 2), "dbid": dbid, "shard": 0 })
        };
        db.sql(&sql).0.iter().map(row).collect()
    }
}

fn spawn(db: &Postgres, pipeline: &str, entry: &str) -> Relay {
    let builder = Builder::new(pipeline).url(&db.url("relay")).brokers(&Kafka::shared().brokers()).toml(QUICK);
    let mut relay = builder.toml(entry).spawn();
    relay.until_state("streaming", secs(60));
    relay
}

fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

/// What an application sends.
fn messages(destination: &str) -> Vec<Value> {
    let payloads = [
        r#"{"orderId": 17, "total": 1.50}"#.to_owned(),
        "{\"text\": \"ü 😀 \\u0001 \\\\ \\\" / \u{7f}\u{2028}\"}".to_owned(),
        r#"["Ünïcödé", null]"#.to_owned(),
        format!("{{\"long\": \"{}\"}}", "ö😀".repeat(5_000)),
        "17".to_owned(),
    ];
    let message = |(at, payload): (usize, &String)| {
        let mut headers = json!({ "event-type": "order.Created", "note 😀": "ä\"\\/\u{1f}😀", "empty": "" });
        if at % 2 == 0 {
            headers["PARTITION_ID"] = json!(format!("ключ-{at} 😀"));
        }
        json!({ "destination": destination, "payload": payload, "headers": headers })
    };
    payloads.iter().enumerate().map(message).collect()
}

/// Compares with the mapper's bytes; returns the shapes of relay's records by id.
#[track_caller]
fn compare(what: &str, found: &[Rec], theirs: &[Value], is_same_order: bool) {
    let ours = by_header(found, "id", |header| header == "id" || header == "relay-pos");
    let text = |value: &Value| value.as_str().expect("text").as_bytes().to_vec();
    let shape = |line: &Value| {
        let id = line["id"].as_str().expect("an id").to_owned();
        let partition = ours.get(&id).map_or(-1, |our| our.partition);
        (id, Shape { key: Some(text(&line["key"])), value: Some(text(&line["value"])), headers: Vec::new(), partition })
    };
    let mut theirs: BTreeMap<String, Shape> = theirs.iter().map(shape).collect();
    if is_same_order {
        assert_equal(what, &theirs, &ours);
        println!("{what}: {} values and keys equal those of Eventuate's mapper, byte for byte", ours.len());
        return;
    }
    // An ID that the publisher adds goes to a place of Java's hash order: such values are equal as JSON.
    for (id, their) in &mut theirs {
        let parse = |shape: &Shape| serde_json::from_slice::<Value>(shape.value.as_deref().expect("a value")).expect("JSON");
        assert_eq!(parse(their), parse(&ours[id]), "{what}: event {id}");
        their.value.clone_from(&ours[id].value);
    }
    assert_equal(what, &theirs, &ours);
    println!("{what}: {} values equal those of Eventuate's mapper as JSON, and the keys and made ids byte for byte", ours.len());
}

/// Writes with Eventuate, relays by log and by poll, compares, and reads with Eventuate.
fn story(layout: &Layout, by_hand: impl Fn(&Postgres, &str)) {
    let destination = format!("io.eventuate.{}", layout.name);
    let topics = [destination.clone(), format!("polled.{destination}")];
    topics.iter().for_each(|topic| Kafka::shared().create_topic(topic, 4, &[]));
    let eventuate = Framework::java("eventuate");
    let db = layout.create();
    let _log = layout.by_log(&db);
    let _poll = layout.by_poll(&db);
    let sent = messages(&destination);
    let url = format!("jdbc:postgresql://127.0.0.1:{}/postgres?user=app", db.port());
    eventuate.ask("Eventuate", &["write", &url, layout.ids, layout.shards], &lines(&sent));
    by_hand(&db, &destination);
    let rows = layout.rows(&db);
    let theirs = eventuate.ask("Eventuate", &["encode"], &lines(&rows));
    let brokers = Kafka::shared().brokers();
    for topic in &topics {
        let found = records(topic, rows.len(), secs(60));
        compare(topic, &found, &theirs, layout.ids == "application");
        let read = eventuate.ask("Eventuate", &["read", &brokers, topic, &rows.len().to_string()], "");
        let by_id = |id: &str| read.iter().find(|message| message["id"] == id).unwrap_or_else(|| panic!("no {id} in {read:?}"));
        for line in &theirs {
            let value: Value = serde_json::from_str(line["value"].as_str().expect("text")).expect("JSON");
            let message = by_id(line["id"].as_str().expect("an id"));
            assert_eq!((&message["payload"], &message["headers"]), (&value["payload"], &value["headers"]), "{topic}");
        }
        println!("{topic}: Eventuate's consumer has read all {} messages, with id, headers and payload", read.len());
    }
    for table in layout.tables {
        until("the published rows to be marked", secs(60), || {
            let left = db.sql(&format!("SELECT count(*) FROM eventuate.{table} WHERE published = 0")).number();
            (left == 0).then_some(())
        });
    }
}

#[test]
fn eventuates_application_ids_in_two_tables() {
    story(&SHARDED, |db, destination| {
        let rows = db.sql("SELECT count(*) FROM eventuate.message");
        assert_eq!(rows.number(), 0, "Eventuate's messages are in the tables with a number");
        // White space, needless escapes and a null, which Eventuate itself does not write but reads; and a row that is published.
        db.sql(&format!(
            r#"INSERT INTO eventuate.message0 (id, destination, headers, payload) VALUES
               ('h-1', '{destination}', '{{ "ID" : "h-1","a\/b": "\u00e4\ud83d\ude00\t", "none" : null , "\u0041":"\u001f" }}', '  x\y  ');
             INSERT INTO eventuate.message1 (id, destination, headers, payload, published)
             VALUES ('h-2', '{destination}', '{{"ID":"h-2"}}', '1', 1)"#
        ));
        db.sql("DELETE FROM eventuate.message1 WHERE id = 'h-2'");
    });
}

#[test]
fn eventuates_database_ids_in_json_columns() {
    story(&NUMBERED, |_, _| {});
}

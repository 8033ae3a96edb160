//! Debezium's own connector and outbox router on Kafka Connect read the tables that relay reads; their records must be equal.

use super::records::{Shape, assert_equal, by_header};
use crate::scene::{QUICK, records};
use relay_tests::connect::{Connect, Connector};
use relay_tests::consumer::Rec;
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use std::collections::BTreeMap;

/// One outbox table, and how both sides are told to read it.
struct Outbox {
    /// Names the pipelines, the slot and the publication.
    name: &'static str,
    /// CREATE TABLE and what belongs to it.
    ddl: &'static str,
    /// The table with its schema.
    table: &'static str,
    /// Options of Debezium's router, which `[outbox.router]` takes by the same names.
    router: &'static [(&'static str, &'static str)],
    /// The replacement that makes the topic, less what each side puts before it.
    topic: &'static str,
    /// Connect's converter of values.
    converter: &'static str,
    /// relay's keys for polling.
    poll: &'static str,
}

/// The table that Debezium's documentation names, and its router as it comes.
const PLAIN: Outbox = Outbox {
    name: "dbzplain",
    ddl: "CREATE TABLE public.outboxevent (id uuid PRIMARY KEY, aggregatetype varchar(255) NOT NULL, \
          aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload jsonb)",
    table: "public.outboxevent",
    router: &[],
    topic: "outbox.event.${routedByValue}",
    converter: "org.apache.kafka.connect.storage.StringConverter",
    poll: "after_publish = \"delete\"",
};

const PLACEMENT: &str = "what:header:eventType, tenant:header,n:header:N,amount:header,flag:header,extra:header,part:partition";

/// Names, routing and placement all set: bytea payloads, headers of several types, a time and a partition from the row.
const WIDE: Outbox = Outbox {
    name: "dbzwide",
    ddl: "CREATE TABLE public.happened (event_id uuid PRIMARY KEY, kind text, entity_name text, what text NOT NULL, body bytea, \
          tenant text, n int, amount numeric(12,3), flag boolean, extra jsonb, at timestamp NOT NULL, part int, \
          xid xid8 NOT NULL DEFAULT pg_current_xact_id(), seq bigint GENERATED ALWAYS AS IDENTITY)",
    table: "public.happened",
    router: &[
        ("table.field.event.id", "event_id"),
        ("table.field.event.key", "entity_name"),
        ("table.field.event.type", "what"),
        ("table.field.event.payload", "body"),
        ("table.field.event.timestamp", "at"),
        ("table.fields.additional.placement", PLACEMENT),
        ("route.by.field", "kind"),
        ("route.topic.regex", "(?<area>[a-z]+)_(.*)"),
        ("route.tombstone.on.empty.payload", "true"),
    ],
    topic: "wide.${area}.$2",
    converter: "org.apache.kafka.connect.converters.ByteArrayConverter",
    poll: "order = \"tick(xid, seq)\"",
};

// === impl Outbox ===

impl Outbox {
    /// A server with the table, published, and relay allowed to read and clear it.
    fn create(&self) -> Postgres {
        let db = Postgres::start(Version::V15);
        db.prepare_roles();
        let (ddl, name, table) = (self.ddl, self.name, self.table);
        db.sql(&format!(
            "SET ROLE app; {ddl}; CREATE PUBLICATION relay_{name} FOR TABLE {table} WITH (publish = 'insert'); \
             GRANT SELECT, UPDATE, DELETE ON {table} TO relay; RESET ROLE"
        ));
        db
    }

    /// Debezium's connector with its router on the table, streaming.
    fn connect(&self, db: &Postgres) -> Connect {
        let string = "org.apache.kafka.connect.storage.StringConverter";
        let connector = Connector::new(&format!("upstream_{}", self.name), db, &format!("relay_{}", self.name), "upstream")
            .set("key.converter", string)
            .set("value.converter", self.converter)
            .set("snapshot.mode", "no_data")
            .set("table.include.list", self.table)
            .set("tombstones.on.delete", "false")
            .set("transforms", "outbox")
            .set("transforms.outbox.type", "io.debezium.transforms.outbox.EventRouter")
            .set("transforms.outbox.route.topic.replacement", &format!("upstream.{}", self.topic));
        let set =
            |connector: Connector, (option, value): &(&str, &str)| connector.set(&format!("transforms.outbox.{option}"), value);
        Connect::start(db, &[self.router.iter().fold(connector, set)])
    }

    /// A relay on the table by preset `debezium`; its topics begin with `prefix`.
    fn relay(&self, db: &Postgres, pipeline: &str, prefix: &str, toml: &str) -> Relay {
        let mut entry = format!("[[outbox]]\npreset = \"debezium\"\ntable = {:?}\n{toml}\n[outbox.router]\n", self.table);
        self.router.iter().for_each(|(option, value)| entry.push_str(&format!("{option:?} = {value:?}\n")));
        entry.push_str(&format!("\"route.topic.replacement\" = \"{prefix}{}\"\n", self.topic));
        let is_log = prefix.is_empty();
        let mode = if is_log { "" } else { "source.mode = \"poll\"\nsource.poll.interval = \"20ms\"" };
        let mut builder = Builder::new(pipeline).url(&db.url("relay")).brokers(&Kafka::shared().brokers());
        builder = builder.toml(QUICK).toml(mode).toml(&entry);
        if is_log {
            builder = builder.toml(&format!("source.log.publication = \"relay_{}\"", self.name));
        }
        let mut relay = builder.spawn();
        relay.until_state("streaming", secs(60));
        relay
    }
}

/// The headers that only one side writes: relay's position, and Debezium's context (`compat = "debezium"` is not in this version).
fn is_own(header: &str) -> bool {
    header == "relay-pos" || header.starts_with("__debezium.context.")
}

/// Reads a topic of each of the three, and holds relay's two to Debezium's; answers all three.
#[track_caller]
fn compare(topic: &str, count: usize, change: impl Fn(&str, &mut Shape)) -> [Vec<Rec>; 3] {
    let three = ["upstream.", "", "polled."].map(|prefix| records(&format!("{prefix}{topic}"), count, secs(60)));
    let [mut theirs, log, poll]: [BTreeMap<String, Shape>; 3] = [0, 1, 2].map(|at: usize| by_header(&three[at], "id", is_own));
    theirs.iter_mut().for_each(|(id, shape)| change(id, shape));
    assert_equal(&format!("{topic} by log"), &theirs, &log);
    assert_equal(&format!("{topic} by poll"), &theirs, &poll);
    println!("{topic}: {count} records of Debezium equal relay's by log and by poll: key, value, headers, partition");
    three
}

#[track_caller]
fn create_topics(topics: &[&str]) {
    for topic in topics {
        ["upstream.", "", "polled."].iter().for_each(|prefix| Kafka::shared().create_topic(&format!("{prefix}{topic}"), 4, &[]));
    }
}

#[test]
fn debeziums_router_as_it_comes_writes_what_relay_writes() {
    create_topics(&["outbox.event.Order", "outbox.event.customer.v2_x"]);
    let db = PLAIN.create();
    let mut connect = PLAIN.connect(&db);
    let _log = PLAIN.relay(&db, PLAIN.name, "", "");
    let _poll = PLAIN.relay(&db, "dbzplainpoll", "polled.", PLAIN.poll);
    let payloads = [
        r#"'{"b": 1.50, "a": "ü😀\u0001\"\\/", "nested": {"x": [1, 2, null], "": false}, "big": 12345678901234567890.10}'"#,
        "'[]'",
        "'{}'",
        "'17'",
        "'\"text\"'",
        "'null'",
        "'true'",
        "NULL",
        "jsonb_build_object('long', repeat('ö😀', 20000))",
    ];
    let mut rows = Vec::new();
    for (at, payload) in payloads.iter().enumerate() {
        for (aggregate, n) in [("Order", 0), ("customer.v2_x", 1)] {
            let key = ["o-1", "", "ключ 😀", "with \"quotes\""][(at + n) % 4];
            rows.push(format!(
                "('00000000-0000-4000-8000-0000000{n:02}{at:03}', '{aggregate}', '{key}', 'Type {at}', {payload})"
            ));
        }
    }
    db.sql(&format!("INSERT INTO outboxevent VALUES {}", rows.join(", ")));
    db.sql(
        "DO $$ BEGIN INSERT INTO outboxevent SELECT gen_random_uuid(), 'Order', 'undone', 'x', '1'; \
            RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END $$",
    );
    connect.assert_running();
    for topic in ["outbox.event.Order", "outbox.event.customer.v2_x"] {
        // D31: a NULL payload is a null value there, and the text `null`, as of a JSON null, here.
        let [theirs, ..] = compare(topic, payloads.len(), |id, shape| {
            if id.ends_with("007") {
                assert_eq!(shape.value.replace(b"null".to_vec()), None, "D31");
            }
        });
        let context: Vec<&str> = theirs[0].headers.iter().map(|(name, _)| name.as_str()).filter(|name| is_own(name)).collect();
        println!("{topic}: headers of Debezium alone: {context:?}");
    }
    until("the published rows to be deleted", secs(60), || {
        (db.sql("SELECT count(*) FROM outboxevent").number() == 0).then_some(())
    });
}

#[test]
fn debeziums_router_with_every_option_writes_what_relay_writes() {
    create_topics(&["wide.billing.paid-1", "wide.stock.moved"]);
    Kafka::shared().create_topic("wide-unmatched", 4, &[]);
    let db = WIDE.create();
    let _connect = WIDE.connect(&db);
    let _log = WIDE.relay(&db, WIDE.name, "", "");
    let _poll = WIDE.relay(&db, "dbzwidepoll", "polled.", WIDE.poll);
    db.sql(
        r#"INSERT INTO happened (event_id, kind, entity_name, what, body, tenant, n, amount, flag, extra, at, part) VALUES
          ('00000000-0000-4000-8000-000000000001', 'billing_paid-1', 'b-1', 'Paid', '\x00ff10', 'ü', 7, 12.500, true,
           '{"a": [1.0]}', '2026-01-02 03:04:05.678912', 3),
          ('00000000-0000-4000-8000-000000000002', 'billing_paid-1', 'b-1', 'Paid', '', NULL, NULL, NULL, NULL,
           NULL, '2026-01-02 03:04:05', 0),
          ('00000000-0000-4000-8000-000000000003', 'billing_paid-1', NULL, 'Paid', NULL, '', -1, -0.001, false,
           'null', '2026-03-29 01:30:00', 1),
          ('00000000-0000-4000-8000-000000000004', 'stock_moved', 's 😀', 'Moved', convert_to('text ü', 'UTF8'), '😀', 2147483647,
           123456789.000, true, '""', '2026-06-01 00:00:00', 2),
          ('00000000-0000-4000-8000-000000000005', 'wide-unmatched', 'u', 'Raw', '\x01', 'x', 0, 0, true,
           '[]', '2026-06-01 00:00:00', 2)"#,
    );
    for (topic, count) in [("wide.billing.paid-1", 3), ("wide.stock.moved", 1)] {
        let times = compare(topic, count, |_, _| {}).map(|records| records.iter().map(|r| r.timestamp_ms).collect::<Vec<_>>());
        assert_eq!((&times[0], &times[0]), (&times[1], &times[2]), "{topic}: the row's own time");
        println!("{topic}: the timestamps, from the row, are equal too: {:?}", times[0]);
    }
    // A value that the expression does not match is the topic itself, so that all three meet in it.
    let met = records("wide-unmatched", 3, secs(60));
    let shapes: Vec<_> = met.iter().map(|record| by_header(std::slice::from_ref(record), "id", is_own)).collect();
    assert!(shapes.iter().all(|shape| *shape == shapes[0]), "{met:?}");
    println!("a routing value that the expression does not match names the topic itself, on all three ways");
}

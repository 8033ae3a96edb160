//! `relay init --detect` on real servers: every layout is named, nothing is changed, nothing of a row or password is shown.

use crate::init::{good, run, text};
use relay_tests::postgres::Postgres;
use relay_tests::scratch::Scratch;
use relay_tests::versions::Version;

/// Each preset with a table, in a schema of its own where names collide, and what detection is to say.
const LAYOUTS: [(&str, &str, &str); 15] = [
    ("relay", "own.outbox", "relay"),
    ("debezium", "public.outboxevent", "debezium"),
    ("debezium-quarkus", "quarkus.OutboxEvent", "debezium-quarkus"),
    ("eventuate-tram", "eventuate.message", "eventuate-tram"),
    ("kafka-columns", "columns.outbox", "kafka-columns"),
    ("tomorrow-one", "public.outbox_kafka", "tomorrow-one"),
    ("goharvest", "harvest.outbox", "goharvest"),
    ("brighter", "brighter.outbox", "brighter"),
    ("open-outbox", "public.openoutbox_events", "open-outbox"),
    ("watermill", "public.watermill_orders", "watermill"),
    ("watermill-forwarder", "public.watermill_forwarder_topic", "watermill-forwarder"),
    ("watermill-queue", "public.watermill_jobs", "watermill-queue"),
    ("cap", "cap.published", "cap"),
    ("pg-transactional-outbox", "node.outbox", "pg-transactional-outbox"),
    ("namastack", "public.outbox_record", "namastack"),
];

/// The cells of the only line about a table.
#[track_caller]
fn line(out: &str, table: &str) -> Vec<String> {
    let lines: Vec<&str> = out.lines().filter(|line| line.split_whitespace().next() == Some(table)).collect();
    assert_eq!(lines.len(), 1, "{table} in\n{out}");
    lines[0].split_whitespace().map(str::to_owned).collect()
}

/// A database of its own on the server, and its URL.
fn database(db: &Postgres, name: &str) -> (postgres::Client, String) {
    db.sql(&format!("CREATE DATABASE {name}"));
    let client = db.connect("postgres", name).expect("the new database");
    (client, format!("postgres://reader@127.0.0.1:{}/{name}", db.port()))
}

fn roles(db: &Postgres) {
    db.prepare_roles();
    db.sql("CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader");
}

/// Loads what `relay preset sql` prints for a table; publication and slot get the layout's own name.
fn load(client: &mut postgres::Client, version: Version, preset: &str, table: &str, mode: &str) {
    let (schema, _) = table.split_once('.').expect("a schema");
    client.batch_execute(&format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"")).expect("a schema");
    let name = format!("relay_{}_{mode}", preset.replace('-', "_"));
    let major = version.major().to_string();
    let args = ["preset", "sql", preset, "--table", table, "--mode", mode, "--publication", &name, "--server-version", &major];
    let (sql, _) = good(&run(&args));
    // A slot must be the first to write in its transaction, so the statements go one by one, as psql sends them.
    let (head, slot) = sql.split_once("SELECT pg_create_logical").map_or((sql.as_str(), None), |(head, tail)| (head, Some(tail)));
    client.batch_execute(head).unwrap_or_else(|error| panic!("{version} {preset}: {error:?}\n{head}"));
    if let Some(tail) = slot {
        client.batch_execute(&format!("SELECT pg_create_logical{tail}")).unwrap_or_else(|error| panic!("{preset}: {error:?}"));
        client.batch_execute(&format!("SELECT pg_drop_replication_slot('{name}')")).expect("drop the slot");
    }
}

/// The presets without a table leave nothing to detect, but their SQL is to load.
fn load_messages(client: &mut postgres::Client, version: Version) {
    let major = version.major().to_string();
    for preset in ["wal-message", "wal-message-debezium"] {
        let (sql, _) = good(&run(&["preset", "sql", preset, "--publication", "messages", "--server-version", &major]));
        let (head, tail) = sql.split_once("SELECT pg_create_logical").expect("a slot");
        client.batch_execute(head).unwrap_or_else(|error| panic!("{version} {preset}: {error:?}\n{head}"));
        client.batch_execute(&format!("SELECT pg_create_logical{tail}")).unwrap_or_else(|error| panic!("{preset}: {error:?}"));
        client.batch_execute("SELECT pg_drop_replication_slot('messages')").expect("drop the slot");
        client.batch_execute("DROP PUBLICATION messages").expect("drop the publication");
    }
}

/// What there is, and who may do what with it. Rows cannot change in a READ ONLY transaction, which another story looks for.
fn state(client: &mut postgres::Client) -> String {
    let sql = "SELECT concat_ws(' ', (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_index), \
               (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_roles), \
               (SELECT md5(string_agg(coalesce(relacl::text, ''), ',' ORDER BY oid)) FROM pg_class))";
    client.query_one(sql, &[]).expect("the state").get(0)
}

#[test]
fn all_layouts_at_once_are_named_exact_and_the_file_passes_check() {
    for version in Version::ALL {
        let db = Postgres::start(version);
        roles(&db);
        let (mut client, url) = database(&db, "all_layouts");
        for (preset, table, _) in LAYOUTS {
            load(&mut client, version, preset, table, "log");
        }
        load(&mut client, version, "pgmq", "pgmq.q_orders", "log");
        load_messages(&mut client, version);
        client
            .batch_execute(
                "INSERT INTO watermill_forwarder_topic (uuid, payload) \
                   VALUES ('u', '{\"destination_topic\":\"canary\",\"uuid\":\"u\",\"payload\":\"e30=\",\"metadata\":{}}'); \
                 INSERT INTO outbox_record (id, status, record_key, record_type, payload, context, created_at, next_retry_at, \
                   failure_count, partition_no, handler_id) SELECT 'r' || n, 'NEW', 'k', 't', '{\"secret\":\"canary\"}', \
                   '{\"tenant\":\"canary\"}', now(), now(), 0, 0, 'kafka''s' FROM generate_series(1, 9) n; \
                 CREATE TABLE outbox_kafka_lock (id int, owner_id text, valid_until timestamp); \
                 ALTER EXTENSION plpgsql ADD TABLE pgmq.q_orders; \
                 CREATE TABLE of_an_extension (LIKE outboxevent); ALTER EXTENSION plpgsql ADD TABLE of_an_extension; \
                 CREATE TABLE ordinary (id int PRIMARY KEY, name text, payload text); \
                 CREATE PUBLICATION dbz_publication",
            )
            .expect("rows, and traces of others");
        let before = state(&mut client);
        let scratch = Scratch::new("detect");
        let file = scratch.join("relay.toml").display().to_string();
        let secret = url.replace("reader@", "reader:canary-password@");
        let (out, told) = good(&run(&["init", "--detect", &secret, "--name", "all", "-o", &file]));
        for (_, table, preset) in LAYOUTS.into_iter().chain([("pgmq", "pgmq.q_orders", "pgmq")]) {
            assert_eq!(line(&out, table), [table, preset, "100%", "-"], "{version}\n{out}");
        }
        assert_eq!(out.lines().count(), LAYOUTS.len() + 1, "{out}");
        assert!(told.contains("table public.outbox_kafka_lock is a sign of") && told.contains("publication dbz_publication"));
        assert!(told.contains("own.outbox: exact, 100 per cent, relay\n") && told.contains("note: partitioned"), "{told}");
        assert!(told.contains("it fits kafka-columns exactly too; tomorrow-one is the more specific one"), "{told}");
        let written = std::fs::read_to_string(&file).expect("the file");
        for shown in [&out, &told, &written] {
            assert!(!shown.contains("canary"), "{shown}");
        }
        let (findings, _) = good(&run(&["check", "--deny-warnings", &file]));
        assert_eq!(findings, "", "{written}");
        assert_eq!(written.matches("\n[[outbox]]\n").count(), LAYOUTS.len() + 1, "{written}");
        assert!(written.contains("\nurl = \"postgres://relay@127.0.0.1:"), "{written}");
        assert!(written.contains("match = \"handler_id = 'kafka''s'\"") && written.contains("#headers = [\"{context}\"]"));
        assert!(written.contains("\n# CREATE PUBLICATION relay_all FOR TABLE ") && written.contains("'relay_all', 'pgoutput'"));
        assert_eq!(state(&mut client), before, "{version}");
        the_sql_of_the_file_runs(&mut client, &written);
        let (report, _) = good(&run(&["doctor", "-c", &file, "--set", "sink.kind=stdout", "--only", "PG010,PG012"]));
        assert_eq!(report.matches("ok   PG012").count(), LAYOUTS.len() + 1, "{report}");
        assert!(report.contains("ok   PG010"), "{report}");
        // Now everything is there.
        let again = scratch.join("again.toml").display().to_string();
        good(&run(&["init", "--detect", &url, "--name", "all", "-o", &again, "-q"]));
        let written = std::fs::read_to_string(&again).expect("the file");
        assert!(written.ends_with("# The SQL still needed: nothing\n"), "{written}");
        client.batch_execute("SELECT pg_drop_replication_slot('relay_all')").expect("drop the slot");
    }
}

/// The comment at the end of a file, as its reader would run it.
fn the_sql_of_the_file_runs(client: &mut postgres::Client, file: &str) {
    let (_, sql) = file.split_once("# The SQL still needed: ").expect("SQL");
    let sql: Vec<&str> = sql.lines().skip(1).map(|line| line.trim_start_matches('#').trim_start()).collect();
    let (head, slot) = sql.iter().partition::<Vec<&str>, _>(|line| !line.starts_with("SELECT pg_create_logical"));
    client.batch_execute(&head.join("\n")).unwrap_or_else(|error| panic!("{error:?}\n{file}"));
    for statement in slot {
        client.batch_execute(statement).unwrap_or_else(|error| panic!("{error:?}\n{statement}"));
    }
}

#[test]
fn the_sql_for_polling_loads_and_a_server_without_the_log_gets_a_polling_file() {
    for version in Version::ALL {
        let db = Postgres::builder(version).setting("wal_level", "replica").start();
        roles(&db);
        let (mut client, url) = database(&db, "polled");
        let polled = LAYOUTS.into_iter().filter(|(preset, ..)| *preset != "debezium-quarkus");
        for (preset, table, _) in polled.chain([("pgmq", "pgmq.q_orders", "pgmq")]) {
            load(&mut client, version, preset, table, "poll");
        }
        client
            .batch_execute(
                "CREATE SCHEMA plain; CREATE TABLE plain.outboxevent (LIKE outboxevent INCLUDING ALL); \
                 ALTER TABLE plain.outboxevent DROP COLUMN xid; \
                 CREATE TABLE plain.outbox (LIKE harvest.outbox INCLUDING ALL); ALTER TABLE plain.outbox DROP COLUMN xid",
            )
            .expect("tables without xid8");
        let scratch = Scratch::new("detect");
        let file = scratch.join("relay.toml").display().to_string();
        let (out, told) = good(&run(&["init", "--detect", &url, "--name", "polled", "-o", &file]));
        assert!(
            told.contains("polling would read it by claim(id): in the order in which rows became visible, deleted"),
            "{told}"
        );
        assert!(told.contains("plain.outboxevent: exact, 100 per cent, debezium\n  only a comment: "), "{told}");
        assert_eq!(line(&out, "pgmq.q_orders")[1..3], ["pgmq", "100%"]);
        assert!(
            told.contains("note: wal_level is replica") && told.contains("polling would read it by tick(xid, seq)"),
            "{told}"
        );
        let written = std::fs::read_to_string(&file).expect("the file");
        assert!(written.contains("\nmode = \"poll\"\n") && written.contains("order = \"tick(xid, id)\""), "{written}");
        let (findings, _) = good(&run(&["check", "--deny-warnings", &file]));
        assert_eq!(findings, "", "{written}");
        assert!(!written.contains("PUBLICATION") && written.contains("# GRANT UPDATE ON cap.published TO relay;"), "{written}");
        assert!(written.contains("# GRANT UPDATE, DELETE ON plain.outbox TO relay;"), "{written}");
        the_sql_of_the_file_runs(&mut client, &written);
    }
}

#[test]
fn an_empty_database_gets_the_tables_own_sql() {
    for version in Version::ALL {
        let db = Postgres::start(version);
        let (mut client, url) = database(&db, "empty");
        db.sql("CREATE ROLE reader LOGIN");
        let (sql, told) = good(&run(&["init", "--detect", &url]));
        assert!(told.contains("no table looks like an outbox"), "{told}");
        assert!(sql.contains("CREATE ROLE relay ") && sql.contains("PARTITION BY RANGE (created_at)"), "{sql}");
        assert_eq!(sql.contains("relay_uuidv7"), version < Version::V18);
        let scratch = Scratch::new("detect");
        let file = scratch.join("relay.toml").display().to_string();
        let (json, _) = good(&run(&["init", "--detect", &url, "--json", "-o", &file]));
        let json: serde_json::Value = serde_json::from_str(&json).expect("one object");
        assert_eq!(json["proposal"].as_str(), Some(sql.as_str()));
        good(&run(&["check", "--deny-warnings", &file]));
        let written = std::fs::read_to_string(&file).expect("the file");
        the_sql_of_the_file_runs(&mut client, &written);
        let (out, _) = good(&run(&["init", "--detect", &url]));
        assert_eq!(line(&out, "public.outbox"), ["public.outbox", "relay", "100%", "-"]);
        // The file stays as it is, and nothing of the server is asked.
        assert_eq!(run(&["init", "--detect", &url, "-o", &file]).status.code(), Some(1));
        client.batch_execute("SELECT pg_drop_replication_slot('relay_orders')").expect("drop the slot");
    }
}

#[test]
fn other_cases_types_and_shapes_are_comments_with_the_reason() {
    let db = Postgres::start(Version::V18);
    roles(&db);
    let (mut client, url) = database(&db, "nearly");
    client
        .batch_execute(
            "CREATE TABLE \"OutboxEvent\" (\"Id\" uuid PRIMARY KEY, \"AggregateType\" text, \"AggregateId\" text, \"Type\" text, \
               \"Payload\" jsonb); \
             CREATE TABLE typed (messageid text, messagetype text, headerbag text, body text, dispatched int); \
             CREATE TABLE messages (id uuid PRIMARY KEY, destination text, body jsonb, metadata text); \
             INSERT INTO messages VALUES (gen_random_uuid(), 'a', '{\"a\":\"canary\"}', '{\"tenant\":\"canary\"}'); \
             CREATE TABLE outbox (id uuid PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload oid); \
             CREATE UNLOGGED TABLE quick (id uuid PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload jsonb); \
             CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER sweeper AFTER INSERT ON quick EXECUTE FUNCTION gone(); \
             ALTER TABLE messages ENABLE ROW LEVEL SECURITY; \
             CREATE POLICY all_rows ON messages TO reader USING (true); \
             CREATE SCHEMA cap; CREATE TABLE cap.received (id int); CREATE TABLE \"OutboxState\" (id int); \
             CREATE TABLE outbox_instance (id int); CREATE TABLE wolverine_nodes (id int)",
        )
        .expect("tables");
    client.batch_execute("SELECT pg_create_logical_replication_slot('eventuate_slot1', 'pgoutput')").expect("a slot");
    let scratch = Scratch::new("detect");
    let file = scratch.join("relay.toml").display().to_string();
    let (out, told) = good(&run(&["init", "--detect", &url, "-o", &file]));
    let written = std::fs::read_to_string(&file).expect("the file");
    assert_eq!(line(&out, "public.OutboxEvent")[1], "debezium");
    assert_eq!(line(&out, "public.OutboxEvent")[3], "aggregatetype,aggregateid,type,payload", "{out}");
    assert_eq!(line(&out, "public.typed")[1..], ["brighter", "80%", "-"], "{out}");
    assert_eq!(line(&out, "public.messages")[1..], ["-", "50%", "-"], "{out}");
    assert!(told.contains("`aggregatetype` is called `AggregateType`") && told.contains("`dispatched` is integer"), "{told}");
    assert!(told.contains("docs/presets.md") && told.contains("row-level security is on"), "{told}");
    assert!(told.contains("unlogged") && told.contains("triggers: sweeper") && told.contains("`payload` is an oid"), "{told}");
    assert!(!told.contains("canary") && !written.contains("canary"));
    for trace in
        ["cap.received", "public.OutboxState", "public.outbox_instance", "public.wolverine_nodes", "slot eventuate_slot1"]
    {
        assert!(
            told.contains(&format!("{trace} is a sign of ")) && written.contains(&format!("{trace} is a sign of ")),
            "{told}"
        );
    }
    // The corrected names, ready to be uncommented.
    assert!(written.contains("with these fields it fits"), "{written}");
    for proposed in ["#table = \"public.OutboxEvent\"", "#topic = \"outbox.event.{AggregateType}\"", "#value = \"Payload\""] {
        assert!(written.contains(proposed), "{proposed} in {written}");
    }
    for proposed in ["#topic = \"{destination}\"", "#value = \"body\"", "#headers = [\"{metadata}\"]", "#id = \"id\""] {
        assert!(written.contains(proposed), "{proposed} in {written}");
    }
    // Nothing can be taken as it is, and public.outbox is taken by something else.
    assert_eq!(written.matches("\n[[outbox]]\n").count(), 1, "{written}");
    assert!(written.contains("\ntable = \"public.relay_outbox\"\n") && !written.contains('\u{FFFD}'), "{written}");
    good(&run(&["check", "--deny-warnings", &file]));
}

#[test]
fn no_sample_reads_no_row_and_a_role_without_rights_is_enough() {
    let db = Postgres::builder(Version::V15).setting("log_statement", "all").start();
    roles(&db);
    db.sql("CREATE ROLE nobody_special LOGIN");
    let (mut client, url) = database(&db, "unread");
    load(&mut client, Version::V15, "watermill", "public.watermill_orders", "log");
    let envelope = "{\"destination_topic\":\"canary\",\"uuid\":\"u\",\"payload\":\"e30=\",\"metadata\":{}}";
    client.batch_execute(&format!("INSERT INTO watermill_orders (uuid, payload) VALUES ('u', '{envelope}')")).expect("a row");
    let (out, _) = good(&run(&["init", "--detect", &url]));
    assert_eq!(line(&out, "public.watermill_orders")[1], "watermill-forwarder");
    assert_eq!(db.logs().matches("SELECT CASE WHEN octet_length").count(), 1);
    let (out, told) = good(&run(&["init", "--detect", &url, "--no-sample"]));
    assert_eq!(line(&out, "public.watermill_orders")[1], "watermill");
    assert!(told.contains("no row could tell"), "{told}");
    let plain = url.replace("reader@", "nobody_special@");
    let (out, _) = good(&run(&["init", "--detect", &plain, "--json", "--table", "public.watermill_orders"]));
    let line: serde_json::Value = serde_json::from_str(&out).expect("one object");
    let wanted = serde_json::json!({ "table": "public.watermill_orders", "preset": "watermill", "fit": 100, "missing": [] });
    assert_eq!(line, wanted);
    let logs = db.logs();
    assert_eq!(logs.matches("SELECT CASE WHEN octet_length").count(), 1, "only the first run asked a row");
    assert!(logs.contains("BEGIN READ ONLY; SET LOCAL statement_timeout = '5s'"));
    // A lock that somebody holds is not waited for long, and the columns still tell.
    let mut other = db.connect("postgres", "unread").expect("a connection");
    other.batch_execute("BEGIN; LOCK TABLE watermill_orders").expect("the lock");
    let (_, told) = good(&run(&["init", "--detect", &url]));
    assert!(told.contains("no row could tell"), "{told}");
}

#[test]
fn what_cannot_be_looked_at_ends_with_its_own_code() {
    let db = Postgres::builder(Version::V15).hba("host all locked 127.0.0.1/32 scram-sha-256").start();
    db.sql("CREATE ROLE locked LOGIN PASSWORD 'canary-1'; CREATE TABLE \"Outbox\" (id int)");
    let locked = format!("postgres://locked:canary-2@127.0.0.1:{}/postgres", db.port());
    for (args, code) in [
        (vec!["--detect", locked.as_str()], 77),
        (vec!["--detect", "postgres://p:canary-3@127.0.0.1:1/postgres"], 69),
        (vec!["--detect", "postgres//canary-4"], 64),
        (vec!["--detect", &db.url("postgres"), "--table", "outbox"], 64),
        (vec!["--detect", &db.url("postgres"), "--table", "public.outbox"], 1),
        (vec!["--no-sample"], 64),
        (vec!["--detect", &db.url("postgres"), "--apply", &db.url("postgres")], 64),
    ] {
        let output = run(&[&["init"], args.as_slice()].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("canary"), "{}", text(&output.stderr));
    }
    let output = run(&["init", "--detect", &db.url("postgres"), "--table", "public.outbox"]);
    assert!(text(&output.stderr).contains("the case counts: there is `public.Outbox`"), "{}", text(&output.stderr));
}

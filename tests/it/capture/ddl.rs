//! What a change of a table means while its rows are streamed: events follow the log, and somebody says what changed.

use super::{BOTH, Captured, builder, shape, shapes, values};
use crate::scene::records;
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

#[test]
fn columns_come_and_go_between_two_rows_of_one_transaction() {
    for version in BOTH {
        let ddl = "CREATE TABLE t (id int PRIMARY KEY, a int)";
        let captured = Captured::start("midddl", version, &["t"], ddl, "");
        captured.db.sql(
            "BEGIN; INSERT INTO t VALUES (1, 1); ALTER TABLE t ADD b int NOT NULL DEFAULT 7; INSERT INTO t VALUES (2, 2); \
             ALTER TABLE t DROP a; INSERT INTO t VALUES (3); ALTER TABLE t ALTER b TYPE text; UPDATE t SET b = 'x' WHERE id = 1; COMMIT",
        );
        assert_eq!(
            shapes(&captured.records("t", 4)),
            [
                r#"c {"id":1} null {"a":1,"id":1}"#,
                r#"c {"id":2} null {"a":2,"b":7,"id":2}"#,
                r#"c {"id":3} null {"b":7,"id":3}"#,
                r#"u {"id":1} null {"b":"x","id":1}"#,
            ]
        );
        captured.until_logged(&["table.changed", "public.t: has new columns `b`"]);
        captured.until_logged(&["public.t: lost columns `a`"]);
        captured.until_logged(&["public.t: has another type in columns `b`"]);
    }
}

#[test]
fn a_table_is_renamed_loses_its_key_is_dropped_and_comes_again() {
    let ddl = "CREATE TABLE t (id int PRIMARY KEY, a int); CREATE PUBLICATION relay_{name} FOR TABLE t";
    let captured = Captured::start("fate", Version::V18, &["t", "renamed"], ddl, "");
    let db = &captured.db;
    db.sql("INSERT INTO t VALUES (1, 1); ALTER TABLE t RENAME TO renamed; INSERT INTO renamed VALUES (2, 2)");
    assert_eq!(shapes(&captured.records("renamed", 1)), [r#"c {"id":2} null {"a":2,"id":2}"#]);
    captured.until_logged(&["public.renamed: was renamed, it was `public.t`"]);
    db.sql("ALTER TABLE renamed DROP CONSTRAINT t_pkey; INSERT INTO renamed VALUES (3, 3)");
    assert_eq!(shapes(&captured.records("renamed", 2))[1], r#"c null null {"a":3,"id":3}"#);
    captured.until_logged(&["has lost the key"]);
    db.sql("ALTER TABLE renamed REPLICA IDENTITY FULL; UPDATE renamed SET a = 4 WHERE id = 3");
    assert_eq!(shapes(&captured.records("renamed", 3))[2], r#"u null {"a":3,"id":3} {"a":4,"id":3}"#);
    captured.until_logged(&["has replica identity FULL, it had DEFAULT"]);
    // Dropped before its last rows were read, perhaps: the catalog then says nothing, and events come all the same.
    db.sql("INSERT INTO renamed VALUES (5, 5); ALTER TABLE renamed ADD c int; INSERT INTO renamed VALUES (6, 6, 6); DROP TABLE renamed");
    assert_eq!(captured.records("renamed", 5).len(), 5);
    // A new table of the old name is another table with the same topic.
    db.sql(&format!(
        "CREATE TABLE renamed (id int PRIMARY KEY, z text); ALTER PUBLICATION relay_{} ADD TABLE renamed; \
         INSERT INTO renamed VALUES (7, 'z')",
        captured.name
    ));
    assert_eq!(shapes(&captured.records("renamed", 6))[5], r#"c {"id":7} null {"id":7,"z":"z"}"#);
    assert_eq!(shapes(&captured.records("t", 1)).len(), 1);
}

/// The stream sends the same shape again behind such changes, and no more.
#[test]
fn keys_defaults_and_not_null_that_only_the_catalog_knows_are_followed() {
    let ddl = "CREATE TABLE t (a int, b int, v int NOT NULL DEFAULT 7, PRIMARY KEY (a, b)); ALTER TABLE t REPLICA IDENTITY FULL";
    let captured = Captured::start("catalog", Version::V18, &["t"], ddl, "format.compat = \"debezium\"");
    let step = |count: usize, sql: &str, wanted: &str| {
        captured.db.sql(sql);
        assert_eq!(shape(&captured.records("t", count)[count - 1]), wanted);
    };
    step(1, "INSERT INTO t VALUES (1, 2)", r#"c {"a":1,"b":2} null {"a":1,"b":2,"v":7}"#);
    let swap = "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (b, a)";
    step(2, &format!("{swap}; INSERT INTO t VALUES (3, 4)"), r#"c {"b":4,"a":3} null {"a":3,"b":4,"v":7}"#);
    captured.until_logged(&["table.changed", "has another primary key: `b`, `a`, it was `a`, `b`"]);
    let loosen = "ALTER TABLE t ALTER v DROP NOT NULL, ALTER v DROP DEFAULT";
    step(3, &format!("{loosen}; INSERT INTO t VALUES (5, 6, NULL)"), r#"c {"b":6,"a":5} null {"a":5,"b":6,"v":null}"#);
    // After a connection the shapes come again, too, and a table that is gone by then keeps what is known of it.
    captured.db.sql("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL");
    captured.db.sql("ALTER TABLE t DROP CONSTRAINT t_pkey; INSERT INTO t VALUES (7, 8)");
    let last = captured.records("t", 4);
    assert_eq!(shape(&last[last.len() - 1]), r#"c null null {"a":7,"b":8,"v":null}"#);
    captured.until_logged(&["table.changed", "has another primary key: none, it was `b`, `a`"]);
}

#[test]
fn a_table_joins_and_leaves_the_publication() {
    let tables = ["t", "late", "old"].map(|name| format!("CREATE TABLE {name} (id int PRIMARY KEY); ")).concat();
    let ddl = &format!("{tables}CREATE PUBLICATION relay_{{name}} FOR TABLE t, old");
    let toml = "[[capture]]\ntables = [\"public.*\"]";
    let captured = Captured::start("joins", Version::V18, &["t"], ddl, toml);
    Kafka::shared().create_topic(&captured.topic("late"), 1, &[]);
    // What is added is told against an earlier look at the publication, and the monitor asks for snapshots behind its first one.
    until("the monitor's first look", secs(60), || {
        let asked =
            "SELECT count(*) FROM pg_stat_activity WHERE usename = 'relay' AND query LIKE 'SELECT pg_current_snapshot(),%'";
        (captured.db.sql(asked).number() > 0).then_some(())
    });
    captured.db.sql(&format!(
        "ALTER TABLE old RENAME TO renamed; INSERT INTO late VALUES (1); \
         ALTER PUBLICATION relay_{0} ADD TABLE late; INSERT INTO late VALUES (2); \
         ALTER PUBLICATION relay_{0} DROP TABLE late; INSERT INTO late VALUES (3); INSERT INTO t VALUES (4); \
         ALTER PUBLICATION relay_{0} ADD TABLE late; INSERT INTO late VALUES (5)",
        captured.name
    ));
    assert_eq!(
        shapes(&captured.records("late", 2)),
        [r#"c {"id":2} null {"id":2}"#, r#"c {"id":5} null {"id":5}"#],
        "what the publication had at the time"
    );
    // The monitor looks every few seconds, and tells what the stream does not.
    captured.until_logged(&["publication.table_added", "public.late"]);
    assert!(!captured.relay.logs().contains("publication.table_gone"), "what is renamed is published all the same");
    captured.db.sql(&format!("ALTER PUBLICATION relay_{} DROP TABLE late", captured.name));
    captured.until_logged(&["publication.table_gone", "public.late"]);
}

#[test]
fn two_tables_that_end_in_one_topic_stop_unless_that_is_meant() {
    let ddl = "CREATE TABLE \"a b\" (id int PRIMARY KEY); CREATE TABLE a_b (id int PRIMARY KEY)";
    let ddl = format!("{ddl}; CREATE PUBLICATION relay_{{name}} FOR TABLE \"a b\", a_b");
    let captured = Captured::start("clash", Version::V18, &["a_b"], &ddl, "");
    captured.db.sql("INSERT INTO \"a b\" VALUES (1)");
    assert_eq!(captured.records("a_b", 1).len(), 1);
    captured.db.sql("INSERT INTO a_b VALUES (2)");
    let line = captured.until_logged(&["R0229", "public.a b", "public.a_b", "public.a_b"]);
    assert!(line.contains("both end in topic"), "{line}");
    until("the reason", secs(60), || captured.relay.get("/readyz").body.contains("stopped:R0229").then_some(()));
    // The other table gone, it goes on by itself: nothing was skipped.
    captured.db.sql("ALTER TABLE \"a b\" RENAME TO other; INSERT INTO other VALUES (3)");
    let mut captured = captured;
    captured.relay.reconfigure("[[capture]]\ntables = [\"public.*\"]\ntopic = \"{prefix}.public.a_b\"");
    captured.relay.terminate();
    captured.relay.start_again();
    assert_eq!(values(&captured.records("a_b", 3)).len(), 3);
}

#[test]
fn relay_does_not_publish_what_would_break_the_application() {
    let db = Postgres::start(Version::V18);
    db.prepare_roles();
    db.sql(
        "SET ROLE app; CREATE TABLE keyed (id int PRIMARY KEY); CREATE TABLE loose (a int); RESET ROLE; \
         GRANT CREATE ON DATABASE postgres TO relay; GRANT app TO relay",
    );
    let mut relay = builder(&db, "harmless", "").spawn();
    until("the refusal", secs(60), || {
        let logs = relay.logs();
        (logs.contains("would refuse every UPDATE and DELETE") && logs.contains("loose")).then_some(())
    });
    assert_eq!(db.sql("SELECT count(*) FROM pg_publication").number(), 0);
    db.sql("ALTER TABLE loose REPLICA IDENTITY FULL");
    relay.until_state("streaming", secs(60));
    let operations = db.sql("SELECT concat(pubinsert, pubupdate, pubdelete, pubtruncate) FROM pg_publication").one().to_owned();
    assert_eq!(operations, "tttf");
    db.sql("INSERT INTO loose VALUES (1)");
    Kafka::shared().until_topic_exists("harmless.public.loose", secs(60));
    assert_eq!(shapes(&records("harmless.public.loose", 1, secs(60))), [r#"c null null {"a":1}"#]);
}

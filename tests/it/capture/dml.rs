//! What each statement becomes, by replica identity.

use super::{BOTH, Captured, positions, shapes, values};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};

#[test]
fn each_statement_has_its_records() {
    for version in BOTH {
        let tables = ["d", "f", "keyless"];
        let ddl = "CREATE TABLE d (id int PRIMARY KEY, a text); CREATE TABLE f (id int PRIMARY KEY, a text); \
                   ALTER TABLE f REPLICA IDENTITY FULL; CREATE TABLE keyless (a int); ALTER TABLE keyless REPLICA IDENTITY FULL";
        let captured = Captured::start("dml", version, &tables, ddl, "");
        for table in ["d", "f"] {
            captured.db.sql(&format!(
                "BEGIN; INSERT INTO {table} VALUES (1, 'x'); UPDATE {table} SET a = 'y'; UPDATE {table} SET id = 2; \
                 DELETE FROM {table}; COMMIT"
            ));
        }
        captured.db.sql("BEGIN; INSERT INTO keyless VALUES (1); UPDATE keyless SET a = 2; DELETE FROM keyless; COMMIT");
        let records = captured.records("d", 7);
        assert_eq!(
            shapes(&records),
            [
                r#"c {"id":1} null {"a":"x","id":1}"#,
                r#"u {"id":1} null {"a":"y","id":1}"#,
                r#"d {"id":1} {"id":1} null"#,
                r#"- {"id":1}"#,
                r#"c {"id":2} null {"a":"y","id":2}"#,
                r#"d {"id":2} {"id":2} null"#,
                r#"- {"id":2}"#,
            ]
        );
        let commit = positions(&records)[0].strip_suffix(".0").unwrap_or_else(|| panic!("{records:?}")).to_owned();
        let want = ["0", "1", "2.0", "2.1", "2.2", "3.0", "3.1"].map(|rest| format!("{commit}.{rest}"));
        assert_eq!(positions(&records), want);
        assert_eq!(records[2].header("__debezium.newkey"), Some(r#"{"id":2}"#));
        assert_eq!(records[4].header("__debezium.oldkey"), Some(r#"{"id":1}"#));
        let source = &records[0].json()["source"];
        assert_eq!(
            (source["table"].as_str(), source["snapshot"].as_str(), source["db"].as_str()),
            (Some("d"), Some("false"), Some("postgres"))
        );
        assert!(source["lsn"].as_u64() > Some(0) && source["txId"].as_u64() > Some(0) && source["origin"].is_null());

        let records = captured.records("f", 7);
        assert_eq!(
            shapes(&records),
            [
                r#"c {"id":1} null {"a":"x","id":1}"#,
                r#"u {"id":1} {"a":"x","id":1} {"a":"y","id":1}"#,
                r#"d {"id":1} {"a":"y","id":1} null"#,
                r#"- {"id":1}"#,
                r#"c {"id":2} null {"a":"y","id":2}"#,
                r#"d {"id":2} {"a":"y","id":2} null"#,
                r#"- {"id":2}"#,
            ]
        );
        // The end of the transaction before, and the row's own place.
        let sequence: Vec<serde_json::Value> = values(&records)
            .iter()
            .map(|value| serde_json::from_str(value["source"]["sequence"].as_str().unwrap()).unwrap())
            .collect();
        assert!(sequence.iter().all(|pair| pair[0] == sequence[0][0] && pair[0].is_string()), "{sequence:?}");
        let records = captured.records("keyless", 3);
        assert_eq!(shapes(&records), [r#"c null null {"a":1}"#, r#"u null {"a":1} {"a":2}"#, r#"d null {"a":2} null"#]);
        let metric = |operation: &str| {
            let series =
                format!("relay_events_received_total{{pipeline=\"{}\",table=\"public.d\",op=\"{operation}\"}}", captured.name);
            captured.relay.metric(&series)
        };
        until("the counts", secs(60), || {
            (["insert", "update", "delete"].map(metric) == [Some(1.0), Some(2.0), Some(1.0)]).then_some(())
        });
    }
}

#[test]
fn an_unchanged_toasted_value_is_a_placeholder_or_comes_from_the_old_row() {
    let ddl = "CREATE TABLE d (id int PRIMARY KEY, a int, big text, bits varbit); \
               CREATE TABLE f (id int PRIMARY KEY, a int, big text, bits varbit); ALTER TABLE f REPLICA IDENTITY FULL; \
               ALTER TABLE d ALTER big SET STORAGE EXTERNAL, ALTER bits SET STORAGE EXTERNAL; \
               ALTER TABLE f ALTER big SET STORAGE EXTERNAL, ALTER bits SET STORAGE EXTERNAL";
    let captured = Captured::start("toast", Version::V18, &["d", "f"], ddl, "");
    for table in ["d", "f"] {
        captured.db.sql(&format!(
            "INSERT INTO {table} VALUES (1, 1, repeat('x', 9000), repeat('1', 90000)::varbit); UPDATE {table} SET a = 2; \
             UPDATE {table} SET a = NULL, big = NULL"
        ));
    }
    let records = captured.records("d", 3);
    let after = |at: usize| records[at].json()["after"].clone();
    assert_eq!(after(0)["big"].as_str().map(str::len), Some(9000));
    assert_eq!((after(1)["big"].as_str(), after(1)["bits"].is_null()), (Some("__debezium_unavailable_value"), true));
    assert_eq!(records[1].header("relay-unavailable"), Some(r#"["bits"]"#));
    // NULL stays NULL.
    assert_eq!((after(2)["big"].is_null(), records[0].header("relay-unavailable")), (true, None));
    let records = captured.records("f", 3);
    let (first, second) = (records[0].json(), records[1].json());
    assert_eq!(second["after"]["big"], first["after"]["big"]);
    assert_eq!(second["after"]["bits"], first["after"]["bits"]);
    assert_eq!((second["before"]["a"].as_i64(), second["after"]["a"].as_i64()), (Some(1), Some(2)));
}

#[test]
fn partitions_come_by_root_or_by_leaf() {
    for version in BOTH {
        let ddl = "CREATE TABLE root (id int PRIMARY KEY, a text) PARTITION BY RANGE (id); \
                   CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (10); \
                   CREATE TABLE high PARTITION OF root FOR VALUES FROM (10) TO (20);";
        let work =
            "INSERT INTO root VALUES (1, 'x'), (11, 'y'); UPDATE root SET id = 12 WHERE id = 1; DELETE FROM root WHERE id = 11";
        let by_root = Captured::start("byroot", version, &["root"], ddl, "");
        by_root.db.sql(work);
        // A row that moves is deleted in one leaf and inserted into the other.
        assert_eq!(
            shapes(&by_root.records("root", 7)),
            [
                r#"c {"id":1} null {"a":"x","id":1}"#,
                r#"c {"id":11} null {"a":"y","id":11}"#,
                r#"d {"id":1} {"id":1} null"#,
                r#"- {"id":1}"#,
                r#"c {"id":12} null {"a":"x","id":12}"#,
                r#"d {"id":11} {"id":11} null"#,
                r#"- {"id":11}"#,
            ]
        );
        let ddl = format!("{ddl} CREATE PUBLICATION relay_{{name}} FOR TABLE root");
        let by_leaf = Captured::start("byleaf", version, &["low", "high"], &ddl, "");
        by_leaf.db.sql(work);
        assert_eq!(
            shapes(&by_leaf.records("low", 3)),
            [r#"c {"id":1} null {"a":"x","id":1}"#, r#"d {"id":1} {"id":1} null"#, r#"- {"id":1}"#]
        );
        assert_eq!(by_leaf.records("high", 4).len(), 4);
    }
}

#[test]
fn a_truncate_of_several_tables_has_a_record_for_each() {
    let ddl = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY); \
               CREATE TABLE unseen (id int PRIMARY KEY)";
    let toml = "[[capture]]\ntables = [\"public.a\", \"public.b\"]\noperations = [\"insert\", \"truncate\"]\n\
                topic = \"{prefix}.public.all\"\n[[capture]]\ntables = [\"public.c\"]\ntopic = \"{prefix}.public.all\"";
    let captured = Captured::start("trunc", Version::V18, &["a", "b", "c"], ddl, toml);
    relay_tests::kafka::Kafka::shared().create_topic(&captured.topic("all"), 1, &[]);
    // A table that nobody wrote to yet is known to the stream by the truncate's own Relation message.
    captured.db.sql("BEGIN; INSERT INTO b VALUES (1); TRUNCATE b, unseen, c, a; INSERT INTO a VALUES (2); COMMIT; TRUNCATE a, c");
    let records = captured.records("all", 5);
    assert_eq!(
        shapes(&records),
        [
            r#"c {"id":1} null {"id":1}"#,
            "t null null null",
            "t null null null",
            r#"c {"id":2} null {"id":2}"#,
            "t null null null",
        ]
    );
    let source = |at: usize| records[at].json()["source"].clone();
    let tables: Vec<_> = (0..5).map(|at| source(at)["table"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(tables, ["b", "b", "a", "a", "a"]);
    assert_eq!((&source(1)["lsn"], &source(1)["txId"]), (&source(2)["lsn"], &source(2)["txId"]));
    let ends: Vec<_> = positions(&records).iter().map(|pos| pos.split_once('.').unwrap().1.to_owned()).collect();
    assert_eq!(ends, ["0", "1.0", "1.1", "2", "0"]);
}

#[test]
fn a_transaction_of_another_server_names_its_origin() {
    let captured = Captured::start("origin", Version::V15, &["t"], "CREATE TABLE t (id int PRIMARY KEY)", "");
    captured.db.sql("SELECT pg_replication_origin_create('upstream')");
    captured.db.sql(
        "SELECT pg_replication_origin_session_setup('upstream'); BEGIN; SELECT pg_replication_origin_xact_setup('0/AB', now()); \
         INSERT INTO t VALUES (1); COMMIT; SELECT pg_replication_origin_session_reset()",
    );
    captured.db.sql(
        "SELECT pg_replication_origin_session_setup('upstream'); INSERT INTO t VALUES (2); COMMIT; \
         SELECT pg_replication_origin_session_reset(); INSERT INTO t VALUES (3)",
    );
    let origins: Vec<_> = values(&captured.records("t", 3))
        .iter()
        .map(|value| (value["source"]["origin"].as_str().map(str::to_owned), value["source"]["origin_lsn"].as_u64()))
        .collect();
    assert_eq!(origins, [(Some("upstream".into()), Some(0xAB)), (Some("upstream".into()), Some(0)), (None, None)]);
}

//! What each statement becomes, by replica identity.

use super::{BOTH, Captured, positions, shapes, values};
use relay_tests::wait::secs;

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
        assert_eq!((source["table"].as_str(), source["snapshot"].as_str(), source["db"].as_str()), (Some("d"), Some("false"), Some("postgres")));
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
        let sequence: Vec<serde_json::Value> =
            values(&records).iter().map(|value| serde_json::from_str(value["source"]["sequence"].as_str().unwrap()).unwrap()).collect();
        assert!(sequence.iter().all(|pair| pair[0] == sequence[0][0] && pair[0].is_string()), "{sequence:?}");
        let records = captured.records("keyless", 3);
        assert_eq!(shapes(&records), [r#"c null null {"a":1}"#, r#"u null {"a":1} {"a":2}"#, r#"d null {"a":2} null"#]);
        let metric = |operation: &str| {
            let series = format!(
                "relay_events_received_total{{pipeline=\"{}\",table=\"public.d\",op=\"{operation}\"}}",
                captured.name
            );
            captured.relay.metric(&series)
        };
        relay_tests::wait::until("the counts", secs(10), || {
            (["insert", "update", "delete"].map(metric) == [Some(1.0), Some(2.0), Some(1.0)]).then_some(())
        });
    }
}

//! What doctor says of captured tables.

use super::{Answer, paste};
use relay_tests::postgres::Postgres;
use relay_tests::relay::Builder;
use relay_tests::versions::Version;

fn capturing(db: &Postgres, toml: &str) -> Builder {
    Builder::new("seen").url(&db.url("relay")).toml("sink.kind = \"stdout\"").toml(&format!("[[capture]]\n{toml}"))
}

#[test]
fn a_captured_table_is_looked_at_as_the_stream_would() {
    for version in [Version::V15, Version::V18] {
        let db = Postgres::start(version);
        db.prepare_roles();
        db.sql(
            "CREATE TABLE keyed (id int PRIMARY KEY, email text, owner int); CREATE TABLE loose (a int); \
             CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id); \
             CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (9); \
             CREATE PUBLICATION relay_seen FOR TABLE keyed, loose, root WITH (publish = 'insert')",
        );
        let relay = capturing(&db, "tables = [\"public.*\"]");
        let see = |relay: &Builder| Answer::of(relay, &["--only", "PG010,PG011,PG012,PG013"]);
        let answer = see(&relay);
        let fix = answer.says("PG010", "fail", "does not send updates, deletes", "insert, update, delete");
        let identity = answer.says("PG011", "fail", "nothing tells the rows of public.loose apart", "REPLICA IDENTITY FULL");
        assert!(answer.worst("PG011")["effect"].as_str().unwrap().starts_with("once"), "{}", answer.text);
        answer.is("PG012", "ok");
        paste(&db, &identity);
        paste(&db, &fix);
        db.sql("ALTER PUBLICATION relay_seen SET (publish_via_partition_root = true)");
        for id in ["PG010", "PG011", "PG012", "PG013"] {
            see(&relay).is(id, "ok");
        }
        db.sql("ALTER TABLE keyed REPLICA IDENTITY NOTHING");
        let answer = see(&relay);
        let fix = answer.says("PG011", "fail", "rows of public.keyed", "REPLICA IDENTITY FULL");
        assert!(answer.worst("PG011")["effect"].as_str().unwrap().starts_with("the server refuses"), "{}", answer.text);
        db.sql("ALTER TABLE keyed REPLICA IDENTITY DEFAULT");

        // A key that the old row does not have, columns that do not exist, and two tables of one topic.
        let by_owner = capturing(&db, "tables = [\"public.keyed\"]\nkey = [\"owner\"]");
        see(&by_owner).says("PG011", "warn", "public.keyed does not have every column of its event key", "REPLICA IDENTITY FULL");
        paste(&db, &fix);
        see(&by_owner).is("PG011", "ok");
        see(&capturing(&db, "tables = [\"public.keyed\"]\nkey = [\"Owner\"]")).says("PG012", "fail", "`Owner`", "name columns");
        see(&capturing(&db, "tables = [\"public.keyed\"]\nfilter = \"nosuch = 1\"")).says("PG012", "fail", "nosuch", "filter");
        let masked =
            "tables = [\"public.keyed\", \"public.none\"]\n[capture.columns]\nmask = { \"public.keyed.Email\" = \"stars:3\" }";
        let answer = see(&capturing(&db, masked));
        let observed: Vec<_> =
            answer.findings.iter().filter(|found| found["status"] == "warn").map(|found| &found["observed"]).collect();
        assert_eq!(observed, ["no table matches `public.none`", "no column matches `public.keyed.Email`"], "{}", answer.text);
        // What is masked or left out of the value is in the key all the same.
        let columns = |rule: &str| capturing(&db, &format!("tables = [\"public.keyed\"]\n[capture.columns]\n{rule}"));
        let starred = columns("mask = { \"public.keyed.id\" = \"stars:3\" }");
        see(&starred).says("PG012", "warn", "public.keyed: column `id` of the key is masked", "sha256");
        see(&columns("exclude = [\"public.keyed.id\"]")).says("PG012", "warn", "the key has it all the same", "set `key`");
        see(&columns("mask = { \"public.keyed.id\" = \"sha256:salt\" }")).is("PG012", "ok");
        db.sql("CREATE TABLE \"a b\" (id int PRIMARY KEY); CREATE TABLE a_b (id int PRIMARY KEY)");
        see(&relay).says("PG012", "fail", "public.a b and public.a_b both end in topic seen.public.a_b", "`topic`");
        see(&relay).says("PG010", "fail", "lacks table", "ADD TABLE");
    }
}

#[test]
fn a_captured_table_that_a_snapshot_could_not_read_is_told_of() {
    let db = Postgres::start(Version::V15);
    db.prepare_roles();
    db.sql(
        "CREATE TABLE shown (id int PRIMARY KEY); CREATE TABLE hidden (id int PRIMARY KEY); \
         ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; CREATE POLICY partial ON hidden USING (id > 1); \
         CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id); \
         CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (9); \
         CREATE PUBLICATION relay_seen FOR TABLE shown, hidden, root WITH (publish_via_partition_root = true); \
         GRANT SELECT ON shown, root TO relay",
    );
    let relay = capturing(&db, "tables = [\"public.shown\", \"public.hidden\", \"public.root\"]");
    let see = |relay: &Builder, id: &str| Answer::of(relay, &["--only", id]);
    for closed in ["public.hidden", "public.leaf"] {
        let answer = see(&relay, "PG022");
        let found = answer.findings.iter().find(|found| found["observed"] == format!("role \"relay\" lacks SELECT on {closed}"));
        let found = found.unwrap_or_else(|| panic!("{closed}: {}", answer.text));
        assert_eq!((&found["status"], &found["effect"]), (&"fail".into(), &"no snapshot can be taken of this table".into()));
        paste(&db, found["fix"].as_str().expect("a statement"));
    }
    see(&relay, "PG022").is("PG022", "ok");
    // Without snapshots no row is read.
    see(&relay.clone().toml("snapshot.mode = \"never\""), "PG026").is("PG026", "ok");
    let answer = see(&relay, "PG026");
    let fix = answer.says("PG026", "fail", "row security applies to role \"relay\" on public.hidden", "BYPASSRLS");
    assert_eq!(answer.worst("PG026")["effect"], "snapshots of this table fail");
    paste(&db, &fix);
    see(&relay, "PG026").is("PG026", "ok");
}

//! What `relay doctor` finds where rows are polled, and about outbox tables in either mode.

use super::{Answer, alone, create_slot, paste};
use relay_tests::outbox::Outbox;
use relay_tests::postgres::Postgres;
use relay_tests::relay::Builder;
use relay_tests::versions::Version;

fn poller(db: &Postgres, outbox: &Outbox, keys: &str) -> Builder {
    let entry = format!("[[outbox]]\ntable = {:?}\n{keys}", outbox.table);
    Builder::new(&outbox.pipeline)
        .url(&db.url("relay"))
        .toml("sink.kind = \"stdout\"")
        .toml("source.mode = \"poll\"")
        .toml(&entry)
}

#[test]
fn polling_is_told_what_it_lacks_and_each_cure_works() {
    for version in [Version::V15, Version::V18] {
        let db = Postgres::start(version);
        let outbox = db.prepare_partitioned_outbox("polled");
        let table = &outbox.table;
        // Nobody grants replication here.
        db.sql("ALTER ROLE relay NOREPLICATION");
        let relay = poller(&db, &outbox, "");
        let see = |relay: &Builder, id: &str| Answer::of(relay, &["--only", id]);
        let answer = Answer::of(&relay, &[]);
        assert_eq!(answer.code, Some(0), "{}", answer.text);
        for id in ["PG003", "PG004", "PG005", "PG006", "PG008", "PG010", "PG025"] {
            answer.is(id, "skip");
        }
        for id in ["PG001", "PG002", "PG007", "PG012", "PG013", "PG018", "PG022", "PG026", "PG027"] {
            answer.is(id, "ok");
        }
        paste(&db, &answer.says("PG021", "warn", "no index that begins with \"xid\"", "CREATE INDEX"));
        db.sql(&format!("ALTER SEQUENCE {table}_seq_seq CACHE 20"));
        paste(&db, &see(&relay, "PG021").says("PG021", "warn", "in batches", "CACHE 1;"));
        assert!(see(&relay, "PG021").is("PG021", "ok")["observed"].as_str().unwrap().contains("0 rows, 0 dead"));

        let deleting = poller(&db, &outbox, "after_publish = \"delete\"");
        paste(&db, &see(&deleting, "PG022").says("PG022", "fail", "lacks DELETE", "GRANT DELETE ON"));
        see(&deleting, "PG022").is("PG022", "ok");
        let claiming = poller(&db, &outbox, "order = \"claim(seq)\"\nafter_publish = \"delete\"");
        see(&claiming, "PG022").says("PG022", "fail", "lacks UPDATE", "GRANT UPDATE ON");

        db.sql(&format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"));
        paste(&db, &see(&relay, "PG026").says("PG026", "fail", "row security applies", "BYPASSRLS"));
        see(&relay, "PG026").is("PG026", "ok");

        create_slot(&db, &outbox.slot);
        see(&relay, "PG007").says("PG007", "warn", "left over from log mode", "relay slot drop");
        println!("{version}: polling, 6 findings and their cures");
    }
}

#[test]
fn the_surroundings_of_an_outbox_are_looked_at() {
    let db = Postgres::start(Version::V18);
    let see = |relay: &Builder| Answer::of(relay, &["--only", "PG027"]);
    let insert = |table: &str, at: &str| {
        db.sql(&format!("INSERT INTO {table} (topic, key, type, payload, created_at) VALUES ('t', 'k', 'made', '{{}}', {at})"));
    };
    // A row whose time nobody made a partition for.
    let parted = db.prepare_partitioned_outbox("parted");
    see(&alone(&db, &parted)).is("PG027", "ok");
    insert(&parted.table, "'1999-01-01'");
    db.sql(&format!("ANALYZE {}", parted.table));
    see(&alone(&db, &parted)).says("PG027", "warn", "DEFAULT partition", "partitions ahead of time");
    // Rows that go in the transaction that writes them: nothing for a poller.
    let outbox = db.prepare_outbox("around");
    let table = &outbox.table;
    let (polled, logged) = (poller(&db, &outbox, ""), alone(&db, &outbox));
    see(&polled).is("PG027", "ok");
    db.sql(&format!(
        "BEGIN; INSERT INTO {table} (topic, key, type, payload) VALUES ('t', 'k', 'made', '{{}}'); DELETE FROM {table}; COMMIT; \
         SELECT pg_stat_force_next_flush()"
    ));
    see(&polled).says("PG027", "warn", "is empty, and", "source.mode = \"log\"");
    see(&logged).is("PG027", "ok");
    insert(table, "now()");
    // Another dispatcher's lease is of now, and of long ago.
    db.sql("CREATE TABLE outbox_kafka_lock (id int, owner_id text, valid_until timestamptz); GRANT SELECT ON outbox_kafka_lock TO relay");
    db.sql("INSERT INTO outbox_kafka_lock VALUES (1, 'a', now() + interval '5 s')");
    see(&logged).says("PG027", "warn", "tomorrow-one's transactional-outbox is at work", "stop it");
    db.sql("UPDATE outbox_kafka_lock SET valid_until = now() - interval '1 day'");
    see(&logged).is("PG027", "ok");
    // Local time in a column without a zone.
    db.sql("CREATE TABLE zoneless (id bigint PRIMARY KEY, topic text, key text, value text, headers jsonb, at timestamp)");
    db.sql("GRANT SELECT ON zoneless TO relay; INSERT INTO zoneless (id, at) VALUES (1, now() AT TIME ZONE 'UTC' + interval '2 hours')");
    let zoneless = Builder::new("around")
        .url(&db.url("relay"))
        .toml("sink.kind = \"stdout\"\n[[outbox]]\ntable = \"public.zoneless\"\npreset = \"kafka-columns\"\ntimestamp = \"at\"");
    let off = see(&zoneless);
    off.says("PG027", "warn", "from its commit, read as UTC", "make the column timestamptz");
    // Tables of which the log has nothing, or nothing but a number.
    let see = |relay: &Builder| Answer::of(relay, &["--only", "PG013"]);
    see(&zoneless).is("PG013", "ok");
    db.sql("ALTER TABLE zoneless SET UNLOGGED");
    paste(&db, &see(&zoneless).says("PG013", "fail", "is unlogged", "SET LOGGED;"));
    see(&zoneless).is("PG013", "ok");
    db.sql("ALTER TABLE zoneless ALTER COLUMN value TYPE oid USING 0");
    see(&zoneless).says("PG013", "fail", "large object", "lo_get");
    println!("findings about surroundings: 4 of PG027, 2 of PG013");
}

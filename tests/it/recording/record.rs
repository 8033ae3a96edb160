//! Records real Debezium: `cargo test -p relay-tests --test it record_debezium -- --ignored --nocapture`.
//!
//! Debezium 3.7.0.Final on Kafka Connect, JsonConverter and SimpleHeaderConverter, reads a server on which `types.sql` and
//! `changes.sql` of `tests/golden/debezium` are run; one connector for each of [`SETS`], all in one worker. What each wrote is kept in
//! `tests/golden/debezium/<set>.jsonl`. `RELAY_RECORD=types,strings` records these sets only.

use super::golden::{self, Line};
use super::relay::keys;
use super::sets::{Cases, SETS, Set};
use relay_tests::connect::{Connect, Connector};
use relay_tests::consumer::{Isolation, Reader};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long no topic may grow until everything is taken to be there.
const SETTLED: Duration = Duration::from_secs(4);

/// The folder of cases and recordings.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/debezium")
}

/// The statements before and after the snapshot.
pub(crate) fn statements(cases: Cases) -> (String, String) {
    let name = if cases == Cases::Types { "types.sql" } else { "changes.sql" };
    let text = std::fs::read_to_string(folder().join(name)).unwrap_or_else(|e| panic!("read {name}: {e}"));
    let (setup, stream) = text.split_once("\n-- stream\n").expect("a part for the stream");
    (setup.to_owned(), stream.to_owned())
}

// === impl Set ===

impl Set {
    /// The topic prefix of its recording.
    fn prefix(&self) -> String {
        format!("dbz_{}_zbd", self.name.replace('-', "_"))
    }

    fn connector(&self, db: &Postgres) -> Connector {
        let schema = if self.cases == Cases::Types { "types" } else { "changes" };
        let json = "org.apache.kafka.connect.json.JsonConverter";
        let schemas =
            self.options.iter().find(|(name, _)| *name == "value.converter.schemas.enable").map_or("false", |(_, is)| is);
        let name = format!("dbz_{}", self.name.replace('-', "_"));
        let mut connector = Connector::new(&name, db, &format!("dbz_{schema}"), &self.prefix())
            .set("snapshot.mode", "initial")
            .set("schema.include.list", schema)
            .set("key.converter", json)
            .set("key.converter.schemas.enable", schemas)
            .set("value.converter", json)
            .set("value.converter.schemas.enable", schemas)
            .set("header.converter", "org.apache.kafka.connect.storage.SimpleHeaderConverter")
            .set("topic.creation.default.partitions", "1")
            .set("topic.creation.default.replication.factor", "1");
        let keys: Vec<String> = keys(db, self.cases).iter().map(|(table, key)| format!("{table}:{}", key.join(","))).collect();
        connector = connector.set("message.key.columns", &keys.join(";"));
        if self.cases == Cases::Types {
            connector = connector.set("message.prefix.include.list", "none");
        } else {
            connector = connector
                .set("column.mask.with.3.chars", "changes.masked.card")
                .set("column.truncate.to.4.chars", "changes.masked.note")
                .set("column.truncate.to.0.chars", "changes.masked.blank")
                .set("column.mask.hash.v2.SHA-256.with.salt.pepper", "changes.masked.secret,changes.masked.short")
                .set("column.exclude.list", "changes.masked.hidden");
        }
        if !self.families.is_empty() {
            let (fatal, families) = (self.fatal.join("|"), self.families.join("|"));
            connector = connector.set("table.include.list", &format!("{schema}\\.(?!({fatal})$)({families})(_.*)?"));
        }
        self.options.iter().fold(connector, |connector, (name, value)| connector.set(name, value))
    }
}

/// How many records lie in the topics of a prefix.
fn count(prefix: &str) -> i64 {
    Kafka::shared().end_offsets(prefix).iter().map(|(_, end)| end).sum()
}

/// Runs statements: each paragraph is sent as one, and is one transaction where it has no COMMIT of its own.
#[track_caller]
pub(crate) fn run(db: &Postgres, statements: &str) {
    let mut client = db.superuser();
    for paragraph in statements.split("\n\n") {
        client.batch_execute(paragraph).unwrap_or_else(|e| panic!("{e:?}\nin {paragraph}"));
    }
}

/// A server as it is before the snapshot, with its publications.
pub(crate) fn server(version: Version) -> Postgres {
    let db = Postgres::builder(version).setting("max_replication_slots", "40").setting("max_wal_senders", "80").start();
    [Cases::Types, Cases::Changes].into_iter().for_each(|cases| run(&db, &statements(cases).0));
    db.sql(
        "CREATE PUBLICATION dbz_types FOR ALL TABLES; CREATE PUBLICATION dbz_changes FOR ALL TABLES; \
         CREATE PUBLICATION dbz_root FOR ALL TABLES WITH (publish_via_partition_root = true)",
    );
    db
}

/// A recording as it is kept.
pub(crate) fn recorded(set: &Set) -> Vec<Line> {
    let path = folder().join(format!("{}.jsonl", set.name));
    golden::read(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display())))
}

/// Waits until each set has so many records at least and none grows any more.
fn settle(connect: &mut Connect, sets: &[&Set], least: usize) {
    let (mut last, mut since) = (Vec::new(), Instant::now());
    until("Debezium to have written everything", secs(600), || {
        connect.assert_running();
        let now: Vec<i64> = sets.iter().map(|set| count(&set.prefix())).collect();
        if now != last {
            (last, since) = (now.clone(), Instant::now());
        }
        std::thread::sleep(Duration::from_millis(500));
        let is_enough = now.iter().all(|count| usize::try_from(*count).is_ok_and(|count| count >= least));
        (is_enough && since.elapsed() > SETTLED).then_some(())
    });
    sets.iter().zip(last).for_each(|(set, count)| println!("{}: {count} records", set.name));
}

/// All records of a prefix, topic by topic.
pub(crate) fn lines(prefix: &str) -> Vec<Line> {
    let topics = Kafka::shared().end_offsets(prefix);
    let names: Vec<&str> = topics.iter().map(|(name, _)| name.as_str()).collect();
    let wanted = topics.iter().map(|(_, end)| usize::try_from(*end).expect("a number of records")).sum();
    let mut records = Reader::new(&Kafka::shared().brokers()).tail(&names, Isolation::Committed).take(wanted, secs(120));
    records.sort_by(|one, other| (&one.topic, one.partition, one.offset).cmp(&(&other.topic, other.partition, other.offset)));
    records.iter().map(|record| Line::of(record, prefix)).collect()
}

/// What Debezium writes over the cases, for each set: so many records of the snapshot at least, and so many in all.
fn record(sets: &[&Set], (of_snapshot, least): (usize, usize)) -> Vec<Vec<Line>> {
    let db = server(Version::V15);
    let connectors: Vec<Connector> = sets.iter().map(|set| set.connector(&db)).collect();
    let mut connect = Connect::start(&db, &connectors);
    settle(&mut connect, sets, of_snapshot);
    for cases in [Cases::Types, Cases::Changes] {
        if sets.iter().any(|set| set.cases == cases) {
            run(&db, &statements(cases).1);
        }
    }
    settle(&mut connect, sets, least);
    sets.iter().map(|set| lines(&set.prefix())).collect()
}

#[test]
#[ignore = "writes the golden files; run it by name"]
fn record_debezium() {
    let wanted = std::env::var("RELAY_RECORD").unwrap_or_default();
    let is_wanted = |set: &&Set| wanted.is_empty() || wanted.split(',').any(|name| name == set.name);
    let sets: Vec<&Set> = SETS.iter().filter(is_wanted).collect();
    for (set, lines) in sets.iter().zip(record(&sets, (1, 1))) {
        let text = golden::write(&lines);
        assert_eq!(golden::read(&text), lines, "{}: what is written is read back", set.name);
        std::fs::write(folder().join(format!("{}.jsonl", set.name)), text).expect("write a golden file");
        println!("{}: {} records written", set.name, lines.len());
    }
}

#[test]
fn debezium_still_writes_what_was_recorded() {
    let set = SETS.iter().find(|set| set.name == "types-connect").expect("a set");
    let then = recorded(set);
    let is_read = |line: &&Line| line.value.as_deref().is_some_and(|value| value.contains("\"op\":\"r\""));
    let now = record(&[set], (then.iter().filter(is_read).count(), then.len())).remove(0);
    let changed = then.iter().zip(&now).find(|(then, now)| then != now);
    assert_eq!(changed, None, "recorded on the left, written now on the right");
    assert_eq!(then.len(), now.len(), "the same number of records");
    println!("{}: Debezium writes the {} records that were recorded", set.name, then.len());
}

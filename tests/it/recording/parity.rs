//! relay on the statements that Debezium was recorded over: the same records to the byte, but for the deliberate differences.

use super::cloudevent::binary;
use super::differences::{Paths, compare};
use super::golden::Line;
use super::record::{lines, recorded, run, server, statements};
use super::sets::{Cases, SETS, Set};
use crate::scene::QUICK;
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, try_until, until};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a relay may take for its snapshot, or for the statements: there are many of them, and stories beside.
const PATIENCE: Duration = secs(300);

/// Relays that snapshot at once.
const AT_ONCE: usize = 4;

/// How many rows each topic has of the snapshot.
type Counts = BTreeMap<String, usize>;

/// The rows of every table by the topic that they go to; a partitioned table's are its leaves' too.
fn counts(db: &Postgres) -> Counts {
    let tables = db.sql(
        "SELECT n.nspname, c.relname, (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %s', c.oid::regclass), \
         false, true, '')))[1]::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname IN ('types', 'changes') \
         AND relkind IN ('r', 'p')",
    );
    let text = |cell: &Option<String>| cell.clone().expect("a value");
    let is_kept = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    let clean = |name: String| name.chars().map(|letter| if is_kept(letter) { letter } else { '_' }).collect::<String>();
    let topic = |row: &Vec<Option<String>>| format!("srv.{}.{}", text(&row[0]), clean(text(&row[1])));
    tables.0.iter().map(|row| (topic(row), text(&row[2]).parse().expect("a number"))).collect()
}

/// Parts the records of each topic into those of the snapshot, which come first, and the others. An envelope says which it is, and a
/// row that is poison is missing; other formats are counted.
fn by_path(lines: Vec<Line>, counts: &Counts) -> Paths {
    let (mut seen, mut paths) = (Counts::new(), Paths::new());
    for line in lines {
        let value = line.value.as_deref().unwrap_or_default();
        let at = seen.entry(line.topic.clone()).or_default();
        let is_counted = *at < counts.get(&line.topic).copied().unwrap_or(0);
        let is_read = if value.contains("\"op\":\"") { value.contains("\"op\":\"r\"") } else { is_counted };
        // Behind the first change there is no snapshot.
        *at = if is_read { *at + 1 } else { usize::MAX };
        paths.entry((line.topic.clone(), if is_read { "snapshot" } else { "stream" })).or_default().push(line);
    }
    paths
}

fn prefix(set: &Set, compat: &str, version: Version) -> String {
    format!("{}_{compat}{}_zbd", set.name.replace('-', "_"), version.major())
}

fn relay(db: &Postgres, set: &Set, compat: &str) -> Relay {
    let prefix = prefix(set, compat, db.version());
    let name = prefix.trim_end_matches("_zbd");
    let builder = Builder::new(name).url(&db.url("postgres")).brokers(&Kafka::shared().brokers()).toml(QUICK);
    builder.toml(&set.toml(db, compat, &prefix)).spawn()
}

/// Rows of the types whose `after` by snapshot is not the one by stream: the statements write the same rows twice, in the same order.
fn told_apart(set: &str, ours: &Paths) -> Vec<String> {
    fn after(line: &Line) -> Option<&str> {
        line.value.as_deref()?.split_once("\"after\":")?.1.split_once(",\"source\":").map(|(after, _)| after)
    }
    let mut complaints = Vec::new();
    for ((topic, _), snapshot) in ours.iter().filter(|((topic, path), _)| *path == "snapshot" && topic.starts_with("srv.types."))
    {
        let stream = ours.get(&(topic.clone(), "stream")).map(Vec::as_slice).unwrap_or_default();
        for (at, line) in snapshot.iter().enumerate() {
            let (one, other) = (after(line), stream.get(at).and_then(after));
            if one.is_none() || one != other {
                complaints.push(format!("{set} {topic} {at}: one row, two texts\n  snapshot {one:?}\n  stream   {other:?}"));
            }
        }
    }
    complaints
}

/// Runs a relay for each set on the statements; holds each to its recording. One at a time, for sixteen relays are a crowd.
fn hold(version: Version, compat: &'static str) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let db = server(version);
    let counts = counts(&db);
    let topics: Vec<String> = SETS
        .iter()
        .flat_map(|set| recorded(set).into_iter().map(|line| line.topic.replacen("srv", &prefix(set, compat, version), 1)))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    Kafka::shared().create_topics(&topics);
    let mut relays: Vec<Relay> = Vec::new();
    for sets in SETS.chunks(AT_ONCE) {
        let first = relays.len();
        relays.extend(sets.iter().map(|set| relay(&db, set, compat)));
        for (relay, set) in relays[first..].iter_mut().zip(sets) {
            relay.until_state("streaming", PATIENCE);
            // The statements come behind the snapshot, as for Debezium: a TRUNCATE before it is read empties a table's export.
            until(&format!("the snapshot of {}", set.name), PATIENCE, || relay.try_status()?["snapshot"].is_null().then_some(()));
        }
    }
    for cases in [Cases::Types, Cases::Changes] {
        run(&db, &statements(cases).1);
    }
    let end = db.sql("SELECT pg_current_wal_flush_lsn() - '0/0'").number();
    let mut complaints = Vec::new();
    for (relay, set) in relays.iter().zip(SETS) {
        let slot = prefix(set, compat, version).trim_end_matches("_zbd").to_owned();
        let is_confirmed = try_until(PATIENCE, || {
            let confirmed = db.sql(&format!(
                "SELECT coalesce(confirmed_flush_lsn - '0/0', 0) FROM pg_replication_slots WHERE slot_name LIKE '%{slot}'"
            ));
            (confirmed.number() >= end).then_some(())
        });
        assert!(is_confirmed.is_some(), "{end} is not confirmed on slot {slot}: {:?}\n{}", relay.try_status(), relay.logs());
        let theirs: Vec<Line> = recorded(set);
        let ours = lines(&prefix(set, compat, version));
        let (theirs, ours) = match compat {
            "relay" => {
                let theirs = theirs.into_iter().map(if set.name == "cloudevents" { binary } else { |line| line });
                (theirs.map(Line::bare).collect(), ours.into_iter().map(Line::bare).collect())
            }
            _ => (theirs, ours),
        };
        let (theirs, ours) = (by_path(theirs, &counts), by_path(ours, &counts));
        complaints.extend(told_apart(set.name, &ours));
        let folder = if compat == "relay" { "relay" } else { "compat" };
        let (equal, differing, found) = compare(set.name, folder, &theirs, &ours);
        println!("{version}, compat = {compat}, {}: {equal} records equal Debezium's, {differing} differ as allowed", set.name);
        if !found.is_empty() {
            // What relay says of itself may be the cause.
            println!("{}", relay.logs());
        }
        complaints.extend(found);
    }
    let shown: String = complaints.iter().take(40).map(|text| format!("{text}\n")).collect();
    assert!(complaints.is_empty(), "{} complaints\n{}", complaints.len(), shown.chars().take(20_000).collect::<String>());
}

#[test]
fn relay_told_to_be_compatible_writes_what_debezium_wrote() {
    Version::ALL.into_iter().for_each(|version| hold(version, "debezium"));
}

#[test]
fn relay_writes_what_debezium_wrote_but_for_the_deliberate_differences() {
    Version::ALL.into_iter().for_each(|version| hold(version, "relay"));
}

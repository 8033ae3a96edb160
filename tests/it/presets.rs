//! Each preset's golden records on real servers: by log, by its own order in poll mode and in ticks they are the same bytes.

pub(crate) mod golden;

use crate::scene::QUICK;
use golden::{Case, Placed, Printed, Wanted, Way, cases, lines, loosened};
use relay_tests::consumer::{Isolation, Reader, Rec};
use relay_tests::kafka::Kafka;
use relay_tests::postgres::Postgres;
use relay_tests::relay::{Builder, Relay};
use relay_tests::versions::Version;
use relay_tests::wait::{secs, until};
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

/// Cases that no server of one pipeline can tell apart: the topic is the row's own, so it cannot begin with the case's schema.
const UNPLACED: [&str; 1] = ["no match of the regex leaves the raw value"];

/// A server whose output settings are nobody's favourites: relay's session must not depend on them.
fn server(version: Version) -> Postgres {
    let db = Postgres::builder(version)
        .setting("timezone", "Asia/Tokyo")
        .setting("datestyle", "SQL, DMY")
        .setting("bytea_output", "escape")
        .start();
    db.prepare_roles();
    db
}

/// Places every case that goes this way, in schemas that begin with a letter of the story's own.
fn place(
    db: &Postgres,
    story: char,
    printed: &mut Printed,
    way: Way,
    is_wanted: impl Fn(&Case, Option<&str>) -> bool,
) -> Vec<Placed> {
    let (mut client, major) = (db.superuser(), db.version().major());
    let letter = match way {
        Way::Log => 'l',
        Way::Poll => 'p',
        Way::Tick => 't',
    };
    let mut placed = Vec::new();
    for (index, case) in cases().into_iter().enumerate() {
        let order = case.order(printed);
        let fits = match way {
            Way::Log => true,
            Way::Poll => order.is_some(),
            Way::Tick => order.as_deref().is_some_and(|order| order.starts_with("claim")),
        };
        if fits && !case.depends_on_now() && !UNPLACED.contains(&case.name.as_str()) && is_wanted(&case, order.as_deref()) {
            let schema = format!("{story}{major}{letter}{index:02}");
            placed.push(case.place(&mut client, printed, way, &schema, major));
        }
    }
    placed
}

/// One relay for all of them.
fn spawn(db: &Postgres, name: &str, way: Way, placed: &[Placed]) -> Relay {
    let entries = placed.iter().map(|placed| Value::Table(placed.entry.clone())).collect();
    let entries = Table::from_iter([("outbox".to_owned(), Value::Array(entries))]).to_string();
    let mode = if way == Way::Log { "source.mode = \"log\"" } else { "source.mode = \"poll\"\nsource.poll.interval = \"20ms\"" };
    let builder = Builder::new(name).url(&db.url("relay")).brokers(&Kafka::shared().brokers()).toml(QUICK).toml(mode);
    let common = "delivery.on_poison = \"dlq\"\nsink.kafka.partitions = 1";
    for topic in placed.iter().filter(|placed| placed.needs_partitions()).filter_map(Placed::topic) {
        Kafka::shared().create_topic(topic, 6, &[]);
    }
    let mut relay = builder.toml(common).toml(&entries).spawn();
    relay.until_state("streaming", secs(60));
    relay
}

/// The records of all cases by their schema, once each has come that must; and those of the dlq topic.
fn collect(name: &str, placed: &[Placed]) -> (BTreeMap<String, Vec<Rec>>, Vec<Rec>) {
    let kafka = Kafka::shared();
    let is_poison = |placed: &&Placed| matches!(placed.wanted, Wanted::Poison(_));
    let (dlq, parked) = (format!("{name}.dlq"), placed.iter().filter(is_poison).count());
    let mut topics: BTreeSet<String> = placed.iter().filter_map(Placed::topic).map(str::to_owned).collect();
    let count = topics.len() + parked;
    if parked > 0 {
        topics.insert(dlq.clone());
    }
    until(&format!("the topics of {name}"), secs(180), || {
        let there: BTreeSet<String> = kafka.topics().into_iter().collect();
        let missing: Vec<&String> = topics.difference(&there).collect();
        missing.is_empty().then_some(())
    });
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let tail = Reader::new(&kafka.brokers()).tail(&names, Isolation::Committed);
    let mut records = tail.take(count, secs(180));
    // What should not be has had its time by now, if it comes at all: everything was written before the first of these was
    // read. What comes again and again is not waited for.
    records.extend(std::iter::from_fn(|| tail.next(secs(2))).take(100));
    let (parked, records): (Vec<Rec>, Vec<Rec>) = records.into_iter().partition(|record| record.topic == dlq);
    let mut by_schema: BTreeMap<String, Vec<Rec>> = BTreeMap::new();
    for record in records {
        let (schema, _) = record.topic.split_once('.').expect("a schema");
        by_schema.entry(schema.to_owned()).or_default().push(record);
    }
    // Nor may a row have gone to a topic that nobody expects.
    let schemas: BTreeSet<&str> = placed.iter().map(|placed| placed.schema.as_str()).collect();
    for topic in kafka.topics() {
        let is_ours = topic.split_once('.').is_some_and(|(schema, _)| schemas.contains(schema));
        assert!(!is_ours || topics.contains(&topic), "{topic} is nobody's");
    }
    (by_schema, parked)
}

/// Holds what came to the golden files; answers each record's lines by the case's place, for the comparison of ways.
fn hold(name: &str, placed: &[Placed]) -> BTreeMap<String, Vec<String>> {
    let (records, parked) = collect(name, placed);
    let (mut shown, mut exact) = (BTreeMap::new(), 0);
    for Placed { case, schema, wanted, is_canonical, .. } in placed {
        let what = format!("{name}: {} in {schema}", case.name);
        let found = records.get(schema).map(Vec::as_slice).unwrap_or_default();
        match wanted {
            Wanted::Record(wanted) => {
                assert_eq!(found.len(), 1, "{what}: {found:?}");
                let got = lines(&found[0], wanted);
                if *is_canonical {
                    assert_eq!(&got, wanted, "{what}");
                    exact += 1;
                } else {
                    assert_eq!(loosened(&got), loosened(wanted), "{what}");
                }
                let place = &schema[schema.len() - 2..];
                shown.insert(place.to_owned(), got.iter().map(|line| line.replace(schema, "g")).collect());
            }
            Wanted::Poison(message) => {
                assert_eq!(found, [], "{what}");
                let is_it = |record: &&Rec| record.header("relay-error-message") == Some(message);
                let of_table = |record: &&Rec| record.header("relay-origin-table").is_none_or(|table| table.starts_with(schema));
                assert_eq!(parked.iter().filter(is_it).filter(of_table).count(), 1, "{what}: {message} in {parked:#?}");
            }
            Wanted::Nothing => assert_eq!(found, [], "{what}"),
        }
    }
    let own = placed.iter().filter(|placed| placed.is_presets).count();
    println!(
        "{name}: {} cases, {own} in the table of `relay preset sql`; {} records, {exact} of them golden to the byte; {} parked",
        placed.len(),
        shown.len(),
        parked.len()
    );
    shown
}

#[test]
fn golden_records_are_the_same_by_log_by_poll_and_in_ticks() {
    for version in Version::ALL {
        let (db, mut printed) = (server(version), Printed::default());
        let ways = [(Way::Log, "log"), (Way::Poll, "poll"), (Way::Tick, "tick")];
        let placed = ways.map(|(way, _)| place(&db, 'g', &mut printed, way, |_, _| true));
        let names = ways.map(|(_, name)| format!("golden{}{name}", version.major()));
        let tables: Vec<String> =
            placed[0].iter().filter(|placed| !placed.insert.starts_with("SELECT")).map(Placed::table).collect();
        db.sql(&format!(
            "CREATE PUBLICATION relay_{} FOR TABLE {} WITH (publish = 'insert', publish_via_partition_root = true)",
            names[0],
            tables.join(", ")
        ));
        let relays: Vec<Relay> = (0..3).map(|at| spawn(&db, &names[at], ways[at].0, &placed[at])).collect();
        let mut client = db.superuser();
        for placed in placed.iter().flatten() {
            client.batch_execute(&placed.insert).unwrap_or_else(|error| panic!("{}: {error:?}", placed.case.name));
        }
        let [log, poll, tick] = [0, 1, 2].map(|at| hold(&names[at], &placed[at]));
        for (way, shown) in [("poll", &poll), ("tick", &tick)] {
            for (place, got) in shown {
                assert_eq!(Some(got), log.get(place), "case {place} by {way} on the left, by log on the right");
            }
        }
        let presets = |way: usize, is_own: bool| -> BTreeSet<&str> {
            let placed = placed[way].iter().filter(|placed| placed.topic().is_some() && (placed.is_presets || !is_own));
            placed.map(|placed| placed.case.preset.as_str()).collect()
        };
        // A preset without a case that its own table can hold would prove nothing.
        assert_eq!((presets(0, false).len(), presets(0, true).len()), (18, 16), "{:?}", presets(0, true));
        assert_eq!((presets(1, true).len(), presets(2, true).len()), (15, 12), "{:?} {:?}", presets(1, true), presets(2, true));
        drop(relays);
    }
}

#[test]
fn rows_that_upstream_marked_are_no_events_when_polled() {
    let (db, mut printed) = (server(Version::V18), Printed::default());
    let marks = |printed: &mut Printed, preset: &str| -> Option<String> {
        let fields = printed.fields(preset);
        Some(fields.get("after_publish")?.as_str()?.strip_prefix("update:")?.to_owned())
    };
    let mut placed = place(&db, 'h', &mut printed, Way::Poll, |_, order| order.is_some());
    let mut seen = BTreeSet::new();
    placed.retain(|placed| {
        let has_mark = marks(&mut printed, &placed.case.preset).is_some();
        has_mark && placed.is_presets && placed.topic().is_some() && seen.insert(placed.case.preset.clone())
    });
    let mut left = Vec::new();
    for placed in &placed {
        let marks = marks(&mut printed, &placed.case.preset).expect("it has one");
        let (preset, table) = (&placed.case.preset, placed.table());
        let set: Vec<String> = marks
            .split(',')
            .filter_map(|mark| mark.split_once('='))
            .map(|(column, value)| {
                let value = if value == "now()" { value.to_owned() } else { format!("'{value}'") };
                format!("\"{column}\" = {value}")
            })
            .collect();
        // Upstream has published the row and marked it; another one, with keys of its own, has come since.
        let keys = db.sql(&format!(
            "SELECT string_agg(format('%I = %s', attname, CASE atttypid::regtype::text WHEN 'uuid' THEN 'gen_random_uuid()' \
               WHEN 'character varying' THEN '''marked''' ELSE '-1' END), ', ') \
             FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey) \
             WHERE indisunique AND indrelid = '{table}'::regclass"
        ));
        db.sql(&format!("{insert}; UPDATE {table} SET {}, {}; {insert}", set.join(", "), keys.one(), insert = placed.insert));
        println!("{preset}: one row with {} and one without", set.join(", "));
        left.push(format!("SELECT 1 FROM {table} WHERE NOT ({})", set.join(" AND ").replace("= now()", "IS NOT NULL")));
    }
    assert_eq!(placed.len(), 8, "{seen:?}");
    let relay = spawn(&db, "halfpublished", Way::Poll, &placed);
    assert_eq!(hold("halfpublished", &placed).len(), placed.len(), "one record each: of the row without a mark");
    // Whom to stop is said at each start, where a preset knows of somebody.
    assert!(relay.logs().contains("preset.note") && relay.logs().contains("stop Eventuate's own CDC"), "{}", relay.logs());
    until("the marks", secs(60), || db.sql(&left.join(" UNION ALL ")).is_empty().then_some(()));
}

//! The table of types: for each type and mode, on each path and in each place, the golden record that relay is held to.

use super::differences::{Committed, committed};
use super::golden::{self, Line};
use super::record::{folder, server};
use super::sets::{Cases, SETS};
use relay_tests::versions::Version;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// Where a value may stand.
const PLACES: [&str; 5] = ["plain", "default", "required", "array", "key"];

/// One type of the case file.
struct Type {
    family: String,
    name: String,
    sql: String,
}

/// What a cell says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// Records with such a value were recorded from Debezium, so many by snapshot and by stream.
    Recorded(usize, usize),
    /// Debezium leaves the column out: relay's records are committed, and were read by a person.
    WorkedOut(usize),
    /// The modes of the set do not touch the type.
    Same,
    /// Debezium's connector ends on it.
    Fatal,
    Empty,
}

fn types() -> Vec<Type> {
    let db = server(Version::V15);
    let rows = db.sql("SELECT family, name, type FROM cases.type ORDER BY at");
    let text = |cell: &Option<String>| cell.clone().expect("a value");
    rows.0.iter().map(|row| Type { family: text(&row[0]), name: text(&row[1]), sql: text(&row[2]) }).collect()
}

fn read(name: &str) -> Vec<Line> {
    let path = folder().join(name);
    golden::read(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display())))
}

/// The row, or the key, of a record as JSON.
fn shown(line: &Line, place: &str) -> Option<Value> {
    let text = if place == "key" { line.key.as_deref()? } else { line.value.as_deref()? };
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let value = value.get("payload").cloned().unwrap_or(value);
    if place == "key" { Some(value) } else { value.get("after").cloned() }
}

/// How many records of each path show the column, by topic.
fn count(lines: &[Line], kind: &Type, place: &str) -> (usize, usize) {
    let topic = format!("srv.types.{}_{place}", kind.family);
    let (mut snapshot, mut stream) = (0, 0);
    for line in lines.iter().filter(|line| line.topic == topic) {
        let has_it = shown(line, place).is_some_and(|row| row.get(&kind.name).is_some());
        let is_read = line.value.as_deref().unwrap_or_default().contains("\"op\":\"r\"");
        match (has_it, is_read) {
            (true, true) => snapshot += 1,
            (true, false) => stream += 1,
            (false, _) => {}
        }
    }
    (snapshot, stream)
}

/// How many records of relay's stream show the column where Debezium has none.
fn count_ours(differences: &[Committed], kind: &Type, place: &str) -> usize {
    let topic = format!("srv.types.{}_{place}", kind.family);
    let member = format!("{}/{}", if place == "key" { "key" } else { "value/after" }, kind.name);
    let is_it = |difference: &&Committed| {
        let is_there = difference.topic == topic && difference.path == "stream" && difference.place == member;
        is_there && difference.debezium.is_none() && difference.relay.is_some()
    };
    differences.iter().filter(is_it).map(|difference| difference.records.len()).sum()
}

fn mark(cell: Cell) -> String {
    match cell {
        Cell::Recorded(snapshot, stream) => format!("{snapshot} + {stream}"),
        Cell::WorkedOut(count) => format!("relay {count}"),
        Cell::Same => "=".to_owned(),
        Cell::Fatal => "ends".to_owned(),
        Cell::Empty => "**none**".to_owned(),
    }
}

#[test]
fn every_type_has_golden_records_in_every_mode_on_every_path_and_in_every_place() {
    let types = types();
    let sets: Vec<_> = SETS.iter().filter(|set| set.cases == Cases::Types).collect();
    let recorded: BTreeMap<&str, Vec<Line>> = sets.iter().map(|set| (set.name, read(&format!("{}.jsonl", set.name)))).collect();
    let ours: BTreeMap<&str, Vec<Committed>> = sets.iter().map(|set| (set.name, committed(set.name, "relay"))).collect();
    let fatal: BTreeSet<&str> = ["special", "name", "emptybit", "beyond", "farmoment"].into();
    let mut out = String::from(HEAD);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut empty = Vec::new();
    for set in &sets {
        let _ = writeln!(out, "\n## {}\n\n{}\n", set.name, modes(set.options));
        let _ = writeln!(out, "| Type | {} |\n|---|{}", PLACES.join(" | "), "---|".repeat(PLACES.len()));
        for kind in &types {
            let is_touched = set.families.is_empty() || set.families.contains(&kind.family.as_str());
            let mut row = Vec::new();
            for place in PLACES {
                let table = format!("{}_{place}", kind.family);
                let found = count(&recorded[set.name], kind, place);
                let cell = if !is_touched {
                    Cell::Same
                } else if found.0 > 0 && found.1 > 0 {
                    Cell::Recorded(found.0, found.1)
                } else if set.fatal.contains(&table.as_str()) || (fatal.contains(kind.family.as_str()) && place != "plain") {
                    Cell::Fatal
                } else {
                    match count_ours(&ours[set.name], kind, place) {
                        0 => Cell::Empty,
                        count => Cell::WorkedOut(count),
                    }
                };
                if cell == Cell::Empty {
                    empty.push(format!("{} {} {place}", set.name, kind.sql));
                }
                let name = match cell {
                    Cell::Recorded(..) => "recorded",
                    Cell::WorkedOut(_) => "relay's own, worked out",
                    Cell::Same => "the same as in the default modes",
                    Cell::Fatal => "where Debezium's connector ends",
                    Cell::Empty => "empty",
                };
                *counts.entry(name).or_default() += 1;
                row.push(mark(cell));
            }
            if is_touched {
                let _ = writeln!(out, "| `{}` ({}) | {} |", kind.sql, kind.family, row.join(" | "));
            }
        }
    }
    println!("{} types in {} mode sets and {} places, each on PostgreSQL 15 and 18:", types.len(), sets.len(), PLACES.len());
    counts.iter().for_each(|(name, count)| println!("{count:6} cells {name}"));
    assert!(empty.is_empty(), "{} empty cells:\n{}", empty.len(), empty.join("\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/types.md");
    if std::env::var_os("RELAY_BLESS").is_some() {
        std::fs::write(&path, &out).expect("write the table of types");
    }
    let kept = std::fs::read_to_string(&path).expect("read the table of types");
    assert!(kept == out, "docs/reference/types.md is not what the golden files say: run this test with RELAY_BLESS=1");
}

/// The options that a set has over the default ones.
fn modes(options: &[(&str, &str)]) -> String {
    let modes: Vec<String> = options
        .iter()
        .filter(|(name, _)| name.ends_with(".mode"))
        .map(|(name, value)| format!("`{}` = `{value}`", name.replace(".handling.mode", "").replace(".precision.mode", "")))
        .collect();
    if modes.is_empty() { "All modes as they are by default.".to_owned() } else { modes.join(", ") }
}

const HEAD: &str = "# Types: what relay's JSON is held to

Generated by `cargo test --test it every_type_has` from the case file `tests/golden/debezium/types.sql` and the golden files beside it;
`RELAY_BLESS=1` writes it anew. Real Debezium 3.7.0.Final was recorded over the case file, once for each set of modes below, by
`cargo test -p relay-tests --test it record_debezium -- --ignored --nocapture` (Java 17 and Maven; under a minute). relay is run
over the same file on PostgreSQL 15 and 18, told to be compatible and not, and held to the recording byte for byte; where it differs on
purpose, every place is committed in `tests/golden/debezium/compat` and `.../relay`, each with the row of the table of differences that
allows it.

A cell tells how many recorded records show a value of the type: by snapshot + by stream. `relay n`: Debezium leaves the column out or
has no record, and n records of relay by stream are committed in its place. `ends`: Debezium's connector ends there, because it has a
null where none may be. Places: nullable column; NOT NULL with a default; NOT NULL without one, whose deletion makes Debezium invent a
value; element of an array, with NULL among them; part of the key. A set lists only the types that its modes change.
";

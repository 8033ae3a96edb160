//! Where relay's records may differ from Debezium's: the rows of the table of deliberate differences, by topic, and the records themselves.
//!
//! A difference that no row allows fails. One that is allowed is committed, record by record, in `tests/golden/debezium/relay` and
//! `.../compat`; `RELAY_BLESS=1` writes them anew, for a person to read. A `note` says which row, on which path, and which record of
//! the topic: `D19 stream 3`; with `missing` it is Debezium's record that relay does not write, with `extra` one of relay's alone.

use super::golden::{self, Line};
use super::record::folder;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A pair of records that are not the same; one of the two may be missing.
#[derive(Debug, Clone, Copy)]
struct Pair<'a> {
    set: &'a str,
    topic: &'a str,
    their: Option<&'a Line>,
    our: Option<&'a Line>,
}

/// One row of the table, and what it explains.
struct Row {
    name: &'static str,
    /// Whether it holds under `compat = "debezium"`, too.
    is_not_restored: bool,
    explains: fn(Pair<'_>) -> bool,
}

/// Whether the topic is one of these, below `srv.`; `*` stands for anything.
fn is_of(pair: Pair<'_>, patterns: &[&str]) -> bool {
    let topic = pair.topic.trim_start_matches("srv.");
    patterns.iter().any(|pattern| match pattern.split_once('*') {
        Some((head, tail)) => topic.starts_with(head) && topic.ends_with(tail),
        None => topic == *pattern,
    })
}

/// The value of Debezium's record.
fn their_value<'a>(pair: Pair<'a>) -> &'a str {
    pair.their.and_then(|line| line.value.as_deref()).unwrap_or_default()
}

/// Whether the record speaks of an old row, of which the stream may carry no more than the identity.
fn has_old_row(pair: Pair<'_>) -> bool {
    [r#""op":"d""#, r#""before":{"#, r#""__deleted":"true""#].iter().any(|mark| their_value(pair).contains(mark))
}

/// Whether the two differ in the header that names the other key, and in nothing else.
fn differs_in_linked_key(pair: Pair<'_>) -> bool {
    let without = |line: &Line| {
        let mut line = line.clone();
        line.headers.retain(|(name, _)| name != "__debezium.newkey" && name != "__debezium.oldkey");
        line
    };
    pair.their.zip(pair.our).is_some_and(|(their, our)| without(their) == without(our))
}

const fn always(name: &'static str, explains: fn(Pair<'_>) -> bool) -> Row {
    Row { name, is_not_restored: true, explains }
}

const fn unless_compatible(name: &'static str, explains: fn(Pair<'_>) -> bool) -> Row {
    Row { name, is_not_restored: false, explains }
}

/// The rows of the format's table of differences, in the order in which they are tried.
const ROWS: &[Row] = &[
    unless_compatible("D17", |pair| pair.set == "cloudevents"),
    // Not representable there, or wrapping round; among them NULL in enum[], and an empty varbit(1), which is no boolean.
    always("D3", |pair| {
        is_of(pair, &["types.beyond_*", "types.special_*", "types.farmoment_*", "types.emptybit_*", "types.made_array"])
    }),
    always("D13", |pair| is_of(pair, &["types.toast"]) && their_value(pair).contains("\"bytea\":null")),
    always("D16", |pair| is_of(pair, &["types.hstores_*"])),
    always("D19", |pair| is_of(pair, &["types.name_*"])),
    // In arrays the fraction of a time is cut to milliseconds, and 24:00 is 0.
    always("D20", |pair| is_of(pair, &["types.midnight_*", "types.date_array"])),
    // In arrays, too, dates lose BC and infinities, and timestamptz -infinity.
    always("D21", |pair| is_of(pair, &["types.farday_*", "types.moment_array", "changes.generated"])),
    always("D22", |pair| is_of(pair, &["changes.parts"]) || (pair.set == "changes-root" && pair.our.is_none())),
    always("D23", |pair| is_of(pair, &["types.negative_*"])),
    always("D24", |pair| is_of(pair, &["types.nested", "types.vectors_*", "types.bit_array"])),
    always("D25", |pair| is_of(pair, &["changes.by_index"])),
    // No key, so no change of it, which would count two.
    always("D26", |pair| {
        let is_counted = ["changes.by_partial", "changes.by_nullable"].iter().any(|table| their_value(pair).contains(table));
        is_of(pair, &["changes.by_partial", "changes.by_nullable"]) || (is_of(pair, &["transaction"]) && is_counted)
    }),
    always("D29", |pair| is_of(pair, &["transaction"]) && their_value(pair).contains("LogicalDecodingMessageId")),
    unless_compatible("D1", |pair| is_of(pair, &["types.odd_default", "changes.required"])),
    always("D9", |pair| is_of(pair, &["types.*_array", "types.unknown_*", "types.toast", "types.isn_*"])),
    unless_compatible("D5", |pair| is_of(pair, &["changes.keyless"]) && pair.our.is_none()),
    unless_compatible("D14", |pair| is_of(pair, &["changes.masked"])),
    unless_compatible("D27", |pair| {
        is_of(pair, &["changes.keyed_elsewhere"])
            || (is_of(pair, &["transaction"]) && their_value(pair).contains("changes.keyed_elsewhere"))
    }),
    unless_compatible("D28", differs_in_linked_key),
    unless_compatible("D30", |pair| pair.set.starts_with("flat-") && their_value(pair) == "null"),
    unless_compatible("D2", has_old_row),
    // The tombstone that Debezium lets through names its operation twice.
    unless_compatible("D12", |pair| pair.set == "flat-rewrite-with-tombstone" && their_value(pair).is_empty()),
];

/// The records of one topic, by snapshot and by stream.
pub(super) type Paths = BTreeMap<(String, &'static str), Vec<Line>>;

/// The row that lets the two differ.
fn allowed(pair: Pair<'_>, is_compatible: bool) -> Option<&'static str> {
    ROWS.iter().find(|row| (row.is_not_restored || !is_compatible) && (row.explains)(pair)).map(|row| row.name)
}

fn file(set: &str, compat: &str) -> PathBuf {
    folder().join(format!("{compat}/{set}.jsonl"))
}

/// Compares; answers how many records are equal, how many differ as allowed, and the complaints.
pub(super) fn compare(set: &str, compat: &str, theirs: &Paths, ours: &Paths) -> (usize, usize, Vec<String>) {
    let (mut equal, mut differing, mut complaints, mut found) = (0, 0, Vec::new(), Vec::new());
    let places: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    let none = Vec::new();
    for place in places {
        let (their, our) = (theirs.get(place).unwrap_or(&none), ours.get(place).unwrap_or(&none));
        for at in 0..their.len().max(our.len()) {
            let pair = Pair { set, topic: &place.0, their: their.get(at), our: our.get(at) };
            let (kind, line) = match (their.get(at), our.get(at)) {
                (Some(one), Some(other)) if one == other => {
                    equal += 1;
                    continue;
                }
                (_, Some(our)) if at < their.len() => ("", our),
                (_, Some(our)) => (" extra", our),
                (Some(their), None) => (" missing", their),
                (None, None) => continue,
            };
            let Some(row) = allowed(pair, compat == "compat") else {
                complaints.push(format!(
                    "{set} {} {at}: no row allows it\n  Debezium {:?}\n  relay    {:?}",
                    place.1,
                    their.get(at),
                    our.get(at)
                ));
                continue;
            };
            differing += 1;
            found.push(Line { note: format!("{row} {} {at}{kind}", place.1), ..line.clone() });
        }
    }
    let path = file(set, compat);
    if std::env::var_os("RELAY_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("create the folder of differences");
        std::fs::write(&path, golden::write(&found)).expect("write a file of differences");
    }
    let kept = golden::read(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display())));
    complaints
        .extend(found.iter().filter(|line| !kept.contains(line)).map(|line| format!("{set}: not as committed\n  {line:?}")));
    complaints.extend(
        kept.iter().filter(|line| !found.contains(line)).map(|line| format!("{set}: committed, and no more so\n  {line:?}")),
    );
    (equal, differing, complaints)
}

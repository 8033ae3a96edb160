//! Where relay's records may differ from Debezium's: the rows of the table of deliberate differences, by topic, and the records themselves.
//!
//! A difference that no row allows fails. One that is allowed is committed, record by record, in `tests/golden/debezium/relay` and
//! `.../compat`; `RELAY_BLESS=1` writes them anew, for a person to read. A `note` says which row, on which path, and which record of
//! the topic: `D19 stream 3`; with `missing` it is Debezium's record that relay does not write, with `extra` one of relay's alone.

use super::golden::{self, Line};
use super::record::folder;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One allowance: row, whether it holds under `compat = "debezium"` too, and topics below `srv.`, where `*` ends a stem.
pub(super) struct Allowed(&'static str, bool, &'static [&'static str]);

/// The rows of the format's table of differences, and what they touch in the cases.
pub(super) const ALLOWED: &[Allowed] = &[
    // Not representable there, or wrapping round; among them: NULL in enum[], and an empty varbit(1), which is no boolean.
    Allowed("D3", true, &["types.beyond_*", "types.special_*", "types.farmoment_*", "types.emptybit_*", "types.made_array"]),
    Allowed("D9", true, &["types.*_array", "types.unknown_*"]),
    Allowed("D13", true, &["types.toast"]),
    Allowed("D16", true, &["types.hstores_*"]),
    Allowed("D19", true, &["types.name_*"]),
    // In arrays the fraction of a time is cut to milliseconds, and 24:00 is 0.
    Allowed("D20", true, &["types.midnight_*", "types.date_array"]),
    // In arrays, too, dates lose BC and infinities, and timestamptz -infinity.
    Allowed("D21", true, &["types.farday_*", "types.moment_array", "changes.generated"]),
    Allowed("D22", true, &["changes.parts"]),
    Allowed("D23", true, &["types.negative_*"]),
    Allowed("D24", true, &["types.nested", "types.vectors_*", "types.bit_array"]),
    Allowed("D25", true, &["changes.by_index"]),
    Allowed("D26", true, &["changes.by_partial", "changes.by_nullable"]),
    Allowed("D29", true, &["transaction"]),
    Allowed("D30", false, &["changes.*"]),
    // Of an expression Debezium takes the first literal for the default.
    Allowed("D1", true, &["types.odd_default"]),
    Allowed("D17", false, &["message", "transaction"]),
    Allowed("D2", false, &["types.*", "changes.*"]),
];

/// The records of one topic, by snapshot and by stream.
pub(super) type Paths = BTreeMap<(String, &'static str), Vec<Line>>;

/// The row that lets a topic differ.
fn allowed(topic: &str, is_compatible: bool) -> Option<&'static str> {
    let topic = topic.trim_start_matches("srv.");
    let is_meant = |pattern: &&str| match pattern.split_once('*') {
        Some((head, tail)) => topic.starts_with(head) && topic.ends_with(tail),
        None => topic == *pattern,
    };
    let mut rows = ALLOWED.iter().filter(|row| row.1 || !is_compatible);
    rows.find(|row| row.2.iter().any(|pattern| is_meant(&pattern))).map(|row| row.0)
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
            let Some(row) = allowed(&place.0, compat == "compat") else {
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

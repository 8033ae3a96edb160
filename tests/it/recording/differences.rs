//! Holds relay's records to Debezium's: every place at which two of them differ has its reason, and is committed.
//!
//! The files of `tests/golden/debezium/compat` and `.../relay` have one JSON document for each place, value and reason; `RELAY_BLESS=1`
//! writes them anew, for a person to read:
//!
//! - `reason` is the row of [`super::reasons`] that allows it;
//! - `topic`, `path` and `records` tell where: numbers count the records of Debezium's topic on that path;
//! - `place` is a member of key, value, a schema or the headers, as [`super::leaves`] names it; `record` alone is the whole record;
//! - `debezium` and `relay` are what stands there, as text; nothing there, no member. Debezium's is shortened.

use super::golden::Line;
use super::leaves::{Leaf, leaves};
use super::reasons::{Case, allowed};
use super::record::folder;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The records of one topic, by snapshot and by stream.
pub(super) type Paths = BTreeMap<(String, &'static str), Vec<Line>>;

/// A difference as it is committed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Committed {
    pub(super) topic: String,
    pub(super) path: String,
    pub(super) reason: String,
    pub(super) place: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) debezium: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) relay: Option<String>,
    pub(super) records: Vec<usize>,
}

/// Longer texts of Debezium's are cut.
const SHOWN: usize = 200;

fn file(set: &str, compat: &str) -> PathBuf {
    folder().join(format!("{compat}/{set}.jsonl"))
}

/// The committed differences of a set.
#[track_caller]
pub(super) fn committed(set: &str, compat: &str) -> Vec<Committed> {
    let path = file(set, compat);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {}: {line}", path.display()))).collect()
}

/// What a record is: two of a different kind are no pair.
pub(super) fn kind(line: &Line) -> &str {
    if ["srv.message", "srv.transaction"].contains(&line.topic.as_str()) {
        // Not told to be compatible, a CloudEvent has a null here (D17).
        return "";
    }
    let Some(value) = line.value.as_deref() else { return "tombstone" };
    if value == "null" || value.ends_with("\"payload\":null}") {
        return "tombstone";
    }
    if let Some((_, kind)) = line.headers.iter().find(|(name, _)| name == "ce_type") {
        return kind.as_deref().and_then(|kind| kind.rsplit('.').next()).unwrap_or_default();
    }
    let ops = ["c", "u", "d", "r", "t", "m"];
    let has_op =
        |op: &&&str| value.contains(&format!("\"op\":\"{op}\"")) || value.contains(&format!("\"iodebeziumop\":\"{op}\""));
    if let Some(op) = ops.iter().find(has_op) {
        return op;
    }
    // The flat format.
    if value.contains("\"__deleted\":\"true\"") { "d" } else { "row" }
}

/// Pairs of records in their order: equal ones first of all, then those of one kind, of these those with one key.
fn align<'a>(their: &'a [Line], our: &'a [Line]) -> Vec<(Option<usize>, Option<&'a Line>)> {
    const ALONE: u32 = 2;
    let cost = |one: &Line, other: &Line| match () {
        () if one == other => Some(0),
        () if kind(one) != kind(other) => None,
        () if one.key == other.key => Some(2),
        () => Some(3),
    };
    // The cost of what is left from each place on.
    let mut costs = vec![vec![0; our.len() + 1]; their.len() + 1];
    let step = |costs: &[Vec<u32>], at: usize, of: usize| {
        let both = (at < their.len() && of < our.len()).then(|| cost(&their[at], &our[of])).flatten();
        let both = both.map(|cost| (cost + costs[at + 1][of + 1], 0));
        let missing = (at < their.len()).then(|| (ALONE + costs[at + 1][of], 1));
        let extra = (of < our.len()).then(|| (ALONE + costs[at][of + 1], 2));
        [both, missing, extra].into_iter().flatten().min()
    };
    for at in (0..=their.len()).rev() {
        for of in (0..=our.len()).rev() {
            costs[at][of] = step(&costs, at, of).map_or(0, |(cost, _)| cost);
        }
    }
    let (mut at, mut of, mut pairs) = (0, 0, Vec::new());
    while let Some((_, way)) = step(&costs, at, of) {
        let (has_their, has_our) = (way != 2, way != 1);
        pairs.push((has_their.then_some(at), has_our.then(|| &our[of])));
        at += usize::from(has_their);
        of += usize::from(has_our);
    }
    pairs
}

fn shown(line: &Line) -> String {
    let Line { key, value, headers, .. } = line;
    serde_json::to_string(&(key, value, headers)).expect("it can be written")
}

fn shortened(text: String) -> String {
    let count = text.chars().count();
    if count <= SHOWN { text } else { format!("{}… {count} characters", text.chars().take(SHOWN).collect::<String>()) }
}

/// Compares; answers how many records are equal, how many differ as allowed, and the complaints.
pub(super) fn compare(set: &str, compat: &str, theirs: &Paths, ours: &Paths) -> (usize, usize, Vec<String>) {
    let (mut equal, mut differing, mut complaints) = (0, 0, Vec::new());
    let mut found: BTreeMap<Committed, Vec<usize>> = BTreeMap::new();
    let places: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    for place in places {
        let of = |paths: &Paths| paths.get(place).cloned().unwrap_or_default();
        let (their, our) = (of(theirs), of(ours));
        let mut last = 0;
        for (at, our) in align(&their, &our) {
            last = at.unwrap_or(last);
            let their = at.map(|at| &their[at]);
            let differences = match (their, our) {
                (Some(their), Some(our)) => leaves(their, our),
                _ => vec![Leaf { place: "record".to_owned(), their: their.map(shown), our: our.map(shown) }],
            };
            if differences.is_empty() {
                equal += usize::from(their == our);
                if their != our {
                    complaints.push(format!("{set}: not told apart\n  {their:?}\n  {our:?}"));
                }
                continue;
            }
            differing += 1;
            for leaf in differences {
                let case = Case { set, topic: &place.0, path: place.1, their, our, leaf: &leaf };
                let Some(reason) = allowed(&case, compat == "compat") else {
                    complaints.push(format!("{set} {} {} {last}: nothing allows it\n  {leaf:?}", place.0, place.1));
                    continue;
                };
                let difference = Committed {
                    topic: place.0.clone(),
                    path: place.1.to_owned(),
                    reason: reason.to_owned(),
                    place: leaf.place,
                    debezium: leaf.their.map(shortened),
                    relay: leaf.our,
                    records: Vec::new(),
                };
                found.entry(difference).or_default().push(last);
            }
        }
    }
    let found: Vec<Committed> = found.into_iter().map(|(difference, records)| Committed { records, ..difference }).collect();
    if std::env::var_os("RELAY_BLESS").is_some() {
        let path = file(set, compat);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("create the folder of differences");
        let lines = found.iter().map(|difference| serde_json::to_string(difference).expect("it can be written") + "\n");
        std::fs::write(&path, lines.collect::<String>()).expect("write a file of differences");
    }
    let kept = committed(set, compat);
    let (found, kept): (BTreeSet<_>, BTreeSet<_>) = (found.into_iter().collect(), kept.into_iter().collect());
    complaints.extend(found.difference(&kept).map(|difference| format!("{set}: not as committed\n  {difference:?}")));
    complaints.extend(kept.difference(&found).map(|difference| format!("{set}: committed, and no more so\n  {difference:?}")));
    (equal, differing, complaints)
}

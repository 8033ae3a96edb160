//! Reads the topic of a captured table as a consumer does, and judges the order in which its records appear first.

use super::writers::Rows;
use relay_tests::consumer::{Isolation, Rec, read_all};
use relay_tests::wait::{secs, try_until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Commit, index and part of a record's position.
type Place = (u64, u64, u64);

/// A table's topic, each partition in its order.
pub(crate) struct Topic {
    name: String,
    pub(crate) records: Vec<Rec>,
    pub(crate) duplicates: usize,
}

// === impl Topic ===

impl Topic {
    pub(crate) fn read(brokers: &str, name: &str) -> Self {
        let mut records = read_all(brokers, &[name], Isolation::Committed);
        records.sort_by_key(|record| (record.partition, record.offset));
        let places: HashSet<Place> = records.iter().map(place).collect();
        Self { name: name.to_owned(), duplicates: records.len() - places.len(), records }
    }

    /// The last value of each key; a tombstone means that it is gone.
    pub(crate) fn replayed(&self) -> Rows {
        let mut rows = Rows::new();
        for record in &self.records {
            match row(&record_after(record)) {
                Some((id, row)) => drop(rows.insert(id, row)),
                None => drop(rows.remove(&id_of(record))),
            }
        }
        rows
    }

    /// First appearances: in the log's order in each partition, and for each key a life without gaps.
    pub(crate) fn check(&self) {
        let mut seen = HashSet::new();
        let mut last: HashMap<i32, Place> = HashMap::new();
        let mut live: HashMap<i64, Value> = HashMap::new();
        let mut entombed: HashSet<i64> = HashSet::new();
        for record in self.records.iter().filter(|record| seen.insert(place(record))) {
            let (place, id) = (place(record), id_of(record));
            let told = |what: &str| format!("{}: {what}: {place:?} of key {id}, {:?}", self.name, record.value_text());
            let before = last.insert(record.partition, place);
            assert!(before < Some(place), "{}", told(&format!("behind {before:?}")));
            if record.value.is_none() {
                assert!(entombed.remove(&id), "{}", told("a tombstone without its deletion"));
                continue;
            }
            let value = record.json();
            let old = live.remove(&id);
            match value["op"].as_str() {
                Some("c") => assert!(old.is_none() && !entombed.contains(&id), "{}", told("made again")),
                Some("u") => {
                    let old = old.unwrap_or_else(|| panic!("{}", told("changed and was not there")));
                    let versions = [&value["after"], &old].map(|row| row["version"].as_i64());
                    assert_eq!(versions[0], versions[1].map(|version| version + 1), "{}", told("an update is missing"));
                    assert!(value["before"].is_null() || value["before"] == old, "{}", told("another row before"));
                }
                Some("d") => {
                    let old = old.unwrap_or_else(|| panic!("{}", told("deleted and was not there")));
                    assert!(!self.name.ends_with("whole") || value["before"] == old, "{}", told("another row was deleted"));
                    entombed.insert(id);
                }
                other => panic!("{}", told(&format!("operation {other:?}"))),
            }
            if !value["after"].is_null() {
                live.insert(id, value["after"].clone());
            }
        }
        assert!(entombed.is_empty(), "{}: deletions without tombstones: {entombed:?}", self.name);
    }
}

/// BEGIN and END of every transaction, against the records in the topics; how many there are, and how many came again in part.
pub(crate) fn transactions(brokers: &str, topic: &str, topics: &[Topic]) -> (usize, usize) {
    let mut orders: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let mut sent: HashMap<String, usize> = HashMap::new();
    for record in topics.iter().flat_map(|topic| &topic.records).filter(|record| record.value.is_some()) {
        let value = record.json();
        let id = value["transaction"]["id"].as_str().expect("an id").to_owned();
        *sent.entry(id.clone()).or_default() += 1;
        orders.entry(id).or_default().insert(value["transaction"]["total_order"].as_u64().expect("an order"));
    }
    let mut records = Vec::new();
    // The last END follows the record that made the topics complete.
    try_until(secs(90), || {
        records = read_all(brokers, &[topic], Isolation::Committed);
        let ends = records.iter().map(Rec::json).filter(|value| value["status"] == "END");
        let ended: HashSet<String> = ends.filter_map(|value| Some(value["id"].as_str()?.to_owned())).collect();
        orders.keys().all(|id| ended.contains(id)).then_some(())
    });
    let (mut begun, mut ended) = (HashSet::new(), BTreeMap::new());
    for record in records {
        let value = record.json();
        let id = value["id"].as_str().expect("an id").to_owned();
        if value["status"] == "BEGIN" {
            begun.insert(id);
            continue;
        }
        assert!(begun.contains(&id), "END of {id} without its BEGIN");
        let count = value["event_count"].as_u64().expect("a count");
        let earlier = ended.insert(id.clone(), count);
        assert!(earlier.is_none_or(|earlier| earlier == count), "two ENDs of {id} tell {earlier:?} and {count}");
    }
    for (id, orders) in &orders {
        let count = orders.len() as u64;
        assert_eq!(ended.get(id), Some(&count), "END of {id}");
        assert_eq!((orders.first(), orders.last()), (Some(&1), Some(&count)), "the orders of {id}");
    }
    let is_cut = |id: &String, orders: &BTreeSet<u64>| (orders.len() + 1..2 * orders.len()).contains(&sent[id]);
    (orders.len(), orders.iter().filter(|(id, orders)| is_cut(id, orders)).count())
}

fn place(record: &Rec) -> Place {
    let text = record.header("relay-pos").expect("a position");
    let mut parts = text.split('.');
    let commit = parts.next().and_then(|hex| u64::from_str_radix(hex, 16).ok()).expect("a commit");
    let mut number = || parts.next().map_or(0, |number| number.parse().expect("a number"));
    (commit, number(), number())
}

fn id_of(record: &Rec) -> i64 {
    let key: Value = serde_json::from_str(record.key_text().expect("a key")).expect("a key in JSON");
    key["id"].as_i64().expect("an id")
}

fn record_after(record: &Rec) -> Value {
    if record.value.is_some() { record.json()["after"].clone() } else { Value::Null }
}

fn row(after: &Value) -> Option<(i64, (i64, String))> {
    Some((after["id"].as_i64()?, (after["version"].as_i64()?, after["note"].as_str()?.to_owned())))
}

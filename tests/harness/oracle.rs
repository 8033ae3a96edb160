//! Turns what a load generator knows it committed, and what a topic holds, into a verdict.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use crate::consumer::Rec;

/// What became of a transaction, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server said so.
    Committed,
    /// Rolled back, whole or by savepoint, or lost before COMMIT was sent.
    Aborted,
    /// The connection broke around COMMIT: either is right, but all of it or nothing.
    Unknown,
}

/// One row that was written, or one event that was seen: the number of the event, its key, and its place among the
/// events of that key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Event {
    /// Unique among all events of an oracle.
    pub number: u64,
    /// The ordering key.
    pub key: String,
    /// Grows with each event of the key, in commit order; aborted events leave gaps.
    pub place: u64,
}

/// Knows every row that was written. Shared by writer threads.
#[derive(Debug, Default)]
pub struct Oracle {
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    rows: HashMap<u64, Row>,
    transactions: u64,
}

#[derive(Debug)]
struct Row {
    key: String,
    place: u64,
    transaction: u64,
    outcome: Outcome,
}

/// How many events of each outcome an oracle has been told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Transactions, or parts of one that ended on their own.
    pub transactions: u64,
    /// Events that must be in the topic.
    pub committed: u64,
    /// Events that must not.
    pub aborted: u64,
    /// Events that may.
    pub unknown: u64,
}

/// A verdict. Each list holds events as seen or as written; a duplicate is no fault in at-least-once mode.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What the oracle had been told.
    pub told: Told,
    /// Records looked at.
    pub seen: u64,
    /// Committed and not seen.
    pub missing: Vec<Event>,
    /// Seen and never written, or written with another key or place; the text says which.
    pub foreign: Vec<String>,
    /// Seen, though their transaction was rolled back.
    pub aborted: Vec<Event>,
    /// First appearances behind a later one of the same key, or in another partition of it.
    pub reordered: Vec<Event>,
    /// Transactions of unknown outcome of which a part was seen: `(seen, missing)`.
    pub torn: Vec<(Event, Event)>,
    /// Appearances after the first.
    pub duplicates: u64,
    /// Events of unknown outcome that were seen.
    pub unknown_seen: u64,
}

// === impl Event ===

impl Event {
    /// Reads an event back from a record whose value is the payload that [`crate::load`] writes.
    pub fn of(record: &Rec) -> Result<Event, String> {
        let place = format!("{}/{}@{}", record.topic, record.partition, record.offset);
        let value: serde_json::Value = serde_json::from_slice(record.value.as_deref().unwrap_or_default())
            .map_err(|e| format!("{place}: the value is no JSON: {e}"))?;
        let number = value["event"].as_u64().ok_or_else(|| format!("{place}: no event number in {value}"))?;
        let key = value["key"].as_str().ok_or_else(|| format!("{place}: no key in {value}"))?;
        let n = value["place"].as_u64().ok_or_else(|| format!("{place}: no place in {value}"))?;
        if record.key.as_deref() != Some(key.as_bytes()) {
            let got = record.key.as_deref().map(String::from_utf8_lossy);
            return Err(format!("{place}: event {number} was written with key {key:?} and has {got:?}"));
        }
        Ok(Event { number, key: key.to_owned(), place: n })
    }

    /// The payload that carries an event.
    pub fn payload(&self, transaction: u64, padding: &str) -> String {
        let Event { number, key, place } = self;
        format!(
            r#"{{"event": {number}, "key": "{key}", "place": {place}, "transaction": {transaction}, "padding": "{padding}"}}"#
        )
    }
}

// === impl Oracle ===

impl Oracle {
    /// One that knows of nothing yet.
    pub fn new() -> Oracle {
        Oracle::default()
    }

    /// Tells the outcome of a transaction, or of the part of one that a savepoint rolled back.
    ///
    /// Tell it when it is known and before the topic is read; each event belongs to one call.
    #[track_caller]
    pub fn tell(&self, outcome: Outcome, events: impl IntoIterator<Item = Event>) {
        let mut books = self.books();
        books.transactions += 1;
        let transaction = books.transactions;
        for Event { number, key, place } in events {
            let old = books.rows.insert(number, Row { key, place, transaction, outcome });
            assert!(old.is_none(), "event {number} was told twice");
        }
    }

    /// How much it knows.
    pub fn told(&self) -> Told {
        let books = self.books();
        let mut told = Told { transactions: books.transactions, ..Told::default() };
        for row in books.rows.values() {
            match row.outcome {
                Outcome::Committed => told.committed += 1,
                Outcome::Aborted => told.aborted += 1,
                Outcome::Unknown => told.unknown += 1,
            }
        }
        told
    }

    /// Compares with the records of a whole topic, in the order of each partition.
    pub fn check(&self, records: &[Rec]) -> Report {
        self.check_events(records.iter().map(|record| (record.partition, Event::of(record))))
    }

    /// As [`Oracle::check`], for records of another form: partition and event of each, an error for one that is none.
    pub fn check_events(&self, events: impl IntoIterator<Item = (i32, Result<Event, String>)>) -> Report {
        let mut report = Report { told: self.told(), ..Report::default() };
        let books = self.books();
        let mut seen = HashSet::new();
        let mut last: HashMap<String, (i32, u64)> = HashMap::new();
        for (partition, event) in events {
            report.seen += 1;
            let event = match event {
                Ok(event) => event,
                Err(text) => {
                    report.foreign.push(text);
                    continue;
                }
            };
            let Some(row) = books.rows.get(&event.number).filter(|row| row.key == event.key && row.place == event.place) else {
                report.foreign.push(format!("never written so: {event:?}"));
                continue;
            };
            if !seen.insert(event.number) {
                report.duplicates += 1;
                continue;
            }
            match row.outcome {
                Outcome::Committed => {}
                Outcome::Unknown => report.unknown_seen += 1,
                Outcome::Aborted => report.aborted.push(event.clone()),
            }
            let (home, highest) = last.entry(event.key.clone()).or_insert((partition, event.place));
            if *home != partition || *highest > event.place {
                report.reordered.push(event);
            } else {
                *highest = event.place;
            }
        }
        let is_missing = |(number, row): &(&u64, &Row)| row.outcome == Outcome::Committed && !seen.contains(*number);
        report.missing = books.rows.iter().filter(is_missing).map(|(number, row)| row.event(*number)).collect();
        report.missing.sort();
        report.torn = books.torn(&seen);
        report
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("the oracle's books are not poisoned")
    }
}

impl Books {
    fn torn(&self, seen: &HashSet<u64>) -> Vec<(Event, Event)> {
        let mut parts: BTreeMap<u64, (BTreeSet<u64>, BTreeSet<u64>)> = BTreeMap::new();
        for (number, row) in self.rows.iter().filter(|(_, row)| row.outcome == Outcome::Unknown) {
            let (here, lost) = parts.entry(row.transaction).or_default();
            if seen.contains(number) {
                here.insert(*number)
            } else {
                lost.insert(*number)
            };
        }
        let pair = |(here, lost): &(BTreeSet<u64>, BTreeSet<u64>)| Some((*here.first()?, *lost.first()?));
        parts.values().filter_map(pair).map(|(a, b)| (self.rows[&a].event(a), self.rows[&b].event(b))).collect()
    }
}

impl Row {
    fn event(&self, number: u64) -> Event {
        Event { number, key: self.key.clone(), place: self.place }
    }
}

// === impl Report ===

impl Report {
    /// Whether at-least-once was kept: nothing missing, torn, foreign, aborted or reordered.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty()
            && self.foreign.is_empty()
            && self.aborted.is_empty()
            && self.reordered.is_empty()
            && self.torn.is_empty()
    }

    /// Whether every committed event has been seen; for waiting until a topic is complete.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.torn.is_empty()
    }

    /// Panics with the report unless at-least-once was kept.
    #[track_caller]
    pub fn assert_at_least_once(&self) {
        println!("{self}");
        assert!(self.is_clean(), "at-least-once was broken: {self}");
    }

    /// Panics with the report unless each event is there exactly once.
    #[track_caller]
    pub fn assert_exactly_once(&self) {
        println!("{self}");
        assert!(self.is_clean() && self.duplicates == 0, "exactly-once was broken: {self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { transactions, committed, aborted, unknown } = self.told;
        writeln!(f, "{transactions} transactions: {committed} events committed, {aborted} aborted, {unknown} unknown")?;
        write!(f, "{} records: {} duplicates, {} of unknown outcome", self.seen, self.duplicates, self.unknown_seen)?;
        list(f, "missing", &self.missing)?;
        list(f, "foreign", &self.foreign)?;
        list(f, "of aborted transactions", &self.aborted)?;
        list(f, "out of order", &self.reordered)?;
        list(f, "torn transactions", &self.torn)
    }
}

/// The number and the first examples of what should be empty.
fn list(f: &mut fmt::Formatter<'_>, what: &str, items: &[impl fmt::Debug]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    write!(f, "\n  {} {what}:", items.len())?;
    items.iter().take(5).try_for_each(|item| write!(f, "\n    {item:?}"))
}

#[cfg(test)]
#[path = "oracle_tests.rs"]
mod tests;

//! How far the snapshots of captured tables are, as a checkpoint stores it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A row's place in its table: heap block and line pointer, as `ctid` prints it: `(5,12)`.
///
/// A row that nobody changes keeps its place for as long as its table keeps its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tid(u64);

/// The text is no place as PostgreSQL prints it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a row's place; expected (block,line), such as `(5,12)`")]
pub struct ParseTidError(pub String);

/// The snapshots that a pipeline owes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotPosition {
    /// Whether the pipeline's own snapshot is done, was not wanted, or was called off.
    pub is_initial_done: bool,
    /// Number of the newest snapshot.
    pub last: u64,
    /// Snapshots not yet done, in the order in which they are taken.
    pub jobs: Vec<SnapshotJob>,
}

/// One snapshot: the pipeline's own, or one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotJob {
    /// Names it for people; ascending.
    pub number: u64,
    /// Whether it is the pipeline's own.
    pub is_initial: bool,
    /// The tables that were asked for, `schema.table`; empty for the pipeline's own.
    pub tables: Vec<String>,
    /// SQL condition that a row must meet.
    pub filter: Option<String>,
    /// Where each table stands, partitions each for itself; `None` until they were listed.
    pub progress: Option<BTreeMap<String, TablePosition>>,
}

/// How far one table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TablePosition {
    /// Not done.
    Open(OpenTable),
    /// All of it is published.
    Done(Done),
}

/// The word of a table that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done {
    /// `"done"`.
    #[serde(rename = "done")]
    Done,
}

/// A table that is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTable {
    /// Its file: a table that is rewritten gets another one, and its rows other places. 0 where rows have no places to go by.
    pub file: u32,
    /// Blocks to read.
    pub blocks: u32,
    /// What is published: from a place up to below another, ascending and apart.
    pub done: Vec<(Tid, Tid)>,
}

// === impl Tid ===

impl Tid {
    /// Where a block begins.
    #[must_use]
    pub fn block(block: u32) -> Self {
        Self::new(block, 0)
    }

    /// A line of a block.
    #[must_use]
    pub fn new(block: u32, line: u16) -> Self {
        Self(u64::from(block) << 16 | u64::from(line))
    }

    /// The block that it lies in.
    #[must_use]
    pub fn block_number(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The place behind this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.0 >> 16, self.0 & 0xFFFF)
    }
}

impl FromStr for Tid {
    type Err = ParseTidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (block, line) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
            Some(Self::new(block.parse().ok()?, line.parse().ok()?))
        };
        parse().ok_or_else(|| ParseTidError(text.to_owned()))
    }
}

impl TryFrom<String> for Tid {
    type Error = ParseTidError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Tid> for String {
    fn from(tid: Tid) -> Self {
        tid.to_string()
    }
}

// === impl OpenTable ===

impl OpenTable {
    /// A table of which nothing is published.
    #[must_use]
    pub fn new(file: u32, blocks: u32) -> Self {
        Self { file, blocks, done: Vec::new() }
    }

    /// Where reading ends.
    #[must_use]
    pub fn end(&self) -> Tid {
        Tid::block(self.blocks)
    }

    /// Everything from `from` up to below `to` is published.
    pub fn add(&mut self, from: Tid, to: Tid) {
        if from >= to {
            return;
        }
        let first = self.done.partition_point(|&(_, end)| end < from);
        let behind = self.done.partition_point(|&(start, _)| start <= to);
        let (mut from, mut to) = (from, to);
        for &(start, end) in &self.done[first..behind] {
            (from, to) = (from.min(start), to.max(end));
        }
        self.done.splice(first..behind, [(from, to)]);
    }

    /// The first part that is not published, from `from` on.
    #[must_use]
    pub fn gap(&self, from: Tid) -> Option<(Tid, Tid)> {
        let mut at = from;
        for &(start, end) in &self.done {
            if start > at {
                return Some((at, start.min(self.end()))).filter(|(from, to)| from < to);
            }
            at = at.max(end);
        }
        (at < self.end()).then_some((at, self.end()))
    }

    /// Blocks of which every row is published, about.
    #[must_use]
    pub fn blocks_done(&self) -> u64 {
        self.done.iter().map(|(from, to)| u64::from(to.block_number() - from.block_number())).sum()
    }
}

// === impl SnapshotPosition ===

impl SnapshotPosition {
    /// Adds a snapshot behind those that wait; gives its number.
    pub fn add(&mut self, is_initial: bool, tables: Vec<String>, filter: Option<String>) -> u64 {
        self.last += 1;
        let number = self.last;
        self.jobs.push(SnapshotJob { number, is_initial, tables, filter, progress: None });
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tid(text: &str) -> Tid {
        text.parse().expect("legal")
    }

    #[test]
    fn places_are_written_as_postgres_does_and_ordered_as_the_heap_is() {
        for text in ["(0,0)", "(5,12)", "(4294967295,65535)"] {
            assert_eq!(tid(text).to_string(), text);
        }
        for wrong in ["", "5,12", "(5)", "(5,70000)", "(4294967296,1)", "(-1,1)", "(a,1)"] {
            assert!(wrong.parse::<Tid>().is_err(), "{wrong}");
        }
        assert!(tid("(5,12)") < tid("(5,13)") && tid("(5,65535)") < tid("(6,0)"));
        assert_eq!(tid("(5,12)").next(), tid("(5,13)"));
    }

    proptest::proptest! {
        #[test]
        fn ranges_in_any_order_are_what_a_set_of_places_is(parts in proptest::collection::vec((0u32..20, 1u32..6), 0..12)) {
            let mut table = OpenTable::new(1, 24);
            let mut set = std::collections::BTreeSet::new();
            for (from, len) in parts {
                table.add(Tid::block(from), Tid::block(from + len));
                set.extend(from..from + len);
            }
            proptest::prop_assert!(table.done.windows(2).all(|pair| pair[0].1 < pair[1].0), "{:?}", table.done);
            proptest::prop_assert_eq!(table.blocks_done(), set.len() as u64);
            let mut at = Tid::default();
            let mut open = 0;
            while let Some((from, to)) = table.gap(at) {
                open += u64::from(to.block_number() - from.block_number());
                at = to;
            }
            let outside = set.iter().filter(|&&block| block >= 24).count() as u64;
            proptest::prop_assert_eq!(open + set.len() as u64 - outside, 24);
        }
    }

    #[test]
    fn the_json_of_a_position_is_read_as_it_is_written() {
        let mut position = SnapshotPosition::default();
        position.add(true, Vec::new(), None);
        position.add(false, vec!["public.a".into()], Some("id > 5".into()));
        let mut open = OpenTable::new(16_400, 90);
        open.add(Tid::block(0), tid("(7,3)"));
        position.jobs[1].progress = Some(BTreeMap::from([
            ("public.a".to_owned(), TablePosition::Open(open)),
            ("public.b".to_owned(), TablePosition::Done(Done::Done)),
        ]));
        let text = serde_json::to_string(&position).expect("plain");
        assert_eq!(
            text,
            r#"{"is_initial_done":false,"last":2,"jobs":[{"number":1,"is_initial":true,"tables":[],"filter":null,"progress":null},{"number":2,"is_initial":false,"tables":["public.a"],"filter":"id > 5","progress":{"public.a":{"file":16400,"blocks":90,"done":[["(0,0)","(7,3)"]]},"public.b":"done"}}]}"#
        );
        assert_eq!(serde_json::from_str::<SnapshotPosition>(&text).expect("legal"), position);
    }
}

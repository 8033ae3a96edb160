//! A topic that judges every record as it arrives, and the producer before it.

use super::super::chance::Chance;
use super::heap::{Heap, Image, KEYED, Kind};
use relay_core::sink::PurgeScope;
use relay_core::window::FailureKind;
use relay_core::{Acks, Failure, Ticket};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) table: usize,
    pub(crate) row: u64,
    pub(crate) image: Image,
    pub(crate) kind: Kind,
    pub(crate) is_snapshot: bool,
}

/// What the topic holds, as far as it must be judged.
#[derive(Debug, Default)]
pub(crate) struct Topic {
    /// Highest image of a row's events so far.
    events: BTreeMap<(usize, u64), Image>,
    /// Highest image that a truncate had, by table; it is in order with the rows of its own lane.
    truncated: BTreeMap<usize, Image>,
    /// The last record of each row.
    last: BTreeMap<(usize, u64), Record>,
    images: BTreeSet<(usize, Image)>,
    /// Rows that the poison policy has.
    pub(crate) parked: BTreeSet<Image>,
    parked_rows: BTreeSet<(usize, u64)>,
    pub(crate) count: u64,
    pub(crate) snapshot_rows: u64,
    /// Records are written into a transaction, and count once it is committed.
    pub(crate) is_exact: bool,
    /// Rows of a table may be read more than once: for several snapshots, or because it has another file.
    pub(crate) repeats: bool,
    open: Vec<Record>,
    /// What was committed, to be there once.
    once: BTreeSet<(usize, u64, Image, Kind, bool)>,
}

/// The producer: two lanes, each in order.
#[derive(Debug)]
pub(crate) struct Producer {
    acks: Arc<Acks>,
    lanes: [VecDeque<(Ticket, Record)>; 2],
    answers: VecDeque<(Ticket, Option<FailureKind>)>,
    pub(crate) outstanding: usize,
}

fn lane_of(row: u64) -> usize {
    (row % 2) as usize
}

// === impl Topic ===

impl Topic {
    fn append(&mut self, record: Record) {
        let Record { table, row, image, kind, is_snapshot } = record;
        self.count += 1;
        self.snapshot_rows += u64::from(is_snapshot);
        if table == KEYED && is_snapshot {
            let event = self.events.get(&(table, row)).copied().unwrap_or(0);
            let truncated = self.truncated.get(&table).copied().unwrap_or(0);
            assert!(image >= event, "row {row}: image {image} of a snapshot follows event {event}");
            assert!(
                image > truncated || lane_of(row) > 0,
                "row {row}: image {image} of a snapshot follows the truncate {truncated}"
            );
        }
        if kind == Kind::Truncate {
            let known = self.truncated.entry(table).or_default();
            *known = image.max(*known);
            return;
        }
        if !is_snapshot {
            let known = self.events.entry((table, row)).or_default();
            *known = image.max(*known);
        }
        self.last.insert((table, row), record);
        self.images.insert((table, image));
    }

    /// A record arrives.
    fn write(&mut self, record: Record) {
        if self.is_exact {
            self.open.push(record);
        } else {
            self.append(record);
        }
    }

    /// The open transaction is committed.
    pub(crate) fn commit(&mut self) {
        for record in std::mem::take(&mut self.open) {
            let Record { table, row, image, kind, is_snapshot } = record;
            let is_new = self.once.insert((table, row, image, kind, is_snapshot));
            assert!(is_new || (is_snapshot && self.repeats), "I6: {record:?} is there twice");
            self.append(record);
        }
    }

    /// The open transaction is aborted.
    pub(crate) fn abort(&mut self) {
        self.open.clear();
    }

    /// The poison policy has it.
    pub(crate) fn park(&mut self, table: usize, row: u64, image: Image) {
        self.parked.insert(image);
        self.parked_rows.insert((table, row));
    }

    /// Everything is published: each row has its newest image last, and none is missing.
    pub(crate) fn judge(&self, heap: &Heap) {
        let now = heap.snapshot();
        for (table, stored) in heap.tables.iter().enumerate() {
            let rows = heap.rows(table, Default::default(), relay_core::checkpoint::Tid::block(stored.blocks), &now);
            for version in &rows {
                if self.parked_rows.contains(&(table, version.row)) {
                    continue;
                }
                assert!(self.images.contains(&(table, version.image)), "{version:?} of table {table} is missing");
                let last = self.last.get(&(table, version.row)).map(|record| record.image);
                assert!(table != KEYED || last == Some(version.image), "{version:?}: the last record is {last:?}");
            }
            for ((of, row), record) in self.last.iter().filter(|((of, _), _)| *of == KEYED && *of == table) {
                let is_there = rows.iter().any(|version| version.row == *row);
                let is_gone =
                    record.kind == Kind::Delete || record.image < stored.truncated || self.parked_rows.contains(&(table, *row));
                assert!(is_there || is_gone, "row {row} of table {of} is gone, and its last record is {record:?}");
            }
        }
    }
}

// === impl Producer ===

impl Producer {
    pub(crate) fn new(acks: Arc<Acks>) -> Self {
        Self { acks, lanes: Default::default(), answers: VecDeque::new(), outstanding: 0 }
    }

    pub(crate) fn enqueue(&mut self, ticket: Ticket, record: Record) {
        self.outstanding += 1;
        self.lanes[lane_of(record.row)].push_back((ticket, record));
    }

    pub(crate) fn purge(&mut self, _: PurgeScope) {
        for (ticket, _) in self.lanes.iter_mut().flat_map(|lane| lane.drain(..)) {
            self.answers.push_back((ticket, Some(FailureKind::Purged)));
        }
    }

    /// Records arrive, and are answered for later. `refuses`: one row in so many makes the broker refuse its batch.
    pub(crate) fn turn(&mut self, topic: &mut Topic, refuses: u64, chance: &mut Chance) -> u64 {
        for lane in &mut self.lanes {
            let count = (chance.below(6) as usize).min(lane.len());
            let batch: Vec<_> = lane.drain(..count).collect();
            let is_bad = |record: &Record| refuses > 0 && record.image.is_multiple_of(refuses);
            if batch.iter().any(|(_, record)| is_bad(record) && !topic.parked.contains(&record.image)) {
                self.answers.extend(batch.iter().map(|(ticket, _)| (*ticket, Some(FailureKind::Rejected))));
                // Nothing behind a refused batch of an idempotent producer may be written before the rewind.
                self.answers.extend(lane.drain(..).map(|(ticket, _)| (ticket, Some(FailureKind::Transient))));
                continue;
            }
            for (ticket, record) in batch {
                topic.write(record);
                self.answers.push_back((ticket, None));
            }
        }
        let mut reports = 0;
        while !self.answers.is_empty() && chance.below(8) > 0 {
            let at = chance.below(self.answers.len() as u64) as usize;
            let Some((ticket, failure)) = self.answers.swap_remove_back(at) else { break };
            self.outstanding -= 1;
            reports += 1;
            match failure {
                None => self.acks.done(ticket),
                Some(kind) => self.acks.failed(ticket, Failure { kind, message: format!("{kind:?}") }),
            }
        }
        reports
    }

    /// Its process is gone: a part of what it had arrives, in order.
    pub(crate) fn die(mut self, topic: &mut Topic, refuses: u64, chance: &mut Chance) {
        for lane in &mut self.lanes {
            let count = chance.below(lane.len() as u64 + 1) as usize;
            let is_bad =
                |record: &Record| refuses > 0 && record.image.is_multiple_of(refuses) && !topic.parked.contains(&record.image);
            let sound: Vec<Record> = lane.drain(..count).map(|(_, record)| record).take_while(|record| !is_bad(record)).collect();
            sound.into_iter().for_each(|record| topic.write(record));
        }
    }
}

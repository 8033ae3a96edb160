//! Knows every record that is owed for what was ever committed and judges what reaches the log: nothing lost, per-key order.

use relay_core::Lsn;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A committed row, whatever its position is called.
pub(crate) type RowId = u64;

/// What a row is to the pipeline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) id: RowId,
    /// The first row of its transaction.
    pub(crate) transaction: RowId,
    pub(crate) key: u8,
    /// Routed to a topic; the others are filtered.
    pub(crate) is_event: bool,
    /// How many records it becomes, if it is an event; the third has another key.
    pub(crate) records: u8,
    /// The broker refuses the batch that holds its last record.
    pub(crate) is_bad: bool,
    /// Sent only by the second version of the publication.
    pub(crate) is_extra: bool,
    pub(crate) bytes: usize,
}

/// A record of the destination's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RecordId {
    /// Before the changes of the transaction with that first row.
    Begin(RowId),
    /// One of the records of a row.
    Part(RowId, u8),
    /// Behind the changes of the transaction.
    End(RowId),
    /// Nobody owes it.
    Heartbeat,
}

#[derive(Clone, Debug)]
struct Known {
    commit_lsn: Lsn,
    key: u8,
    has_appeared: bool,
    /// Why it need not appear, or not in order.
    excuse: Option<Excuse>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excuse {
    /// In a batch that was refused for a neighbour: it may come late, but must come.
    Refused,
    /// Parked or skipped by the poison policy.
    Poison,
    /// In a gap that the operator accepted.
    Gap,
    /// Of a history that a failover abandoned.
    Lost,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// Every committed row, filtered or not, and how many records it has.
    rows: BTreeMap<RowId, u8>,
    records: BTreeMap<RecordId, Known>,
    by_key: BTreeMap<u8, VecDeque<RecordId>>,
    /// Records of the changes of each transaction, as its END must say.
    counts: BTreeMap<RowId, u64>,
    /// Records that must still appear, oldest first.
    missing: BTreeSet<(Lsn, RecordId)>,
    /// Whether transactions have BEGIN and END records.
    pub(crate) has_marks: bool,
    /// Of our server, whichever server the name leads to just now.
    pub(crate) timeline: u32,
    pub(crate) duplicates: u64,
    /// No record may come twice, nor be parked twice.
    pub(crate) is_exact: bool,
    parked: BTreeSet<RecordId>,
}

/// The key of BEGIN and END records.
const MARKS: u8 = u8::MAX;

// === impl Row ===

impl Row {
    /// Key of one of its records: a change of the key ends under the new one.
    pub(crate) fn key_of(&self, part: u8) -> u8 {
        if part == 2 { (self.key + 1) % 5 } else { self.key }
    }

    /// The shape of its table, where tables change it.
    pub(crate) fn shape(&self) -> u64 {
        self.id / 9
    }

    /// How many records it becomes.
    pub(crate) fn count(&self) -> u8 {
        if self.is_event { self.records } else { 0 }
    }
}

// === impl Oracle ===

impl Oracle {
    pub(crate) fn new() -> Self {
        Self { timeline: 1, ..Self::default() }
    }

    pub(crate) fn committed(&mut self, commit_lsn: Lsn, row: Row) {
        if self.has_marks && !row.is_extra && !self.counts.contains_key(&row.transaction) {
            self.owe(RecordId::Begin(row.transaction), commit_lsn, MARKS);
            self.owe(RecordId::End(row.transaction), commit_lsn, MARKS);
        }
        if !row.is_extra {
            *self.counts.entry(row.transaction).or_default() += u64::from(row.count());
        }
        self.rows.insert(row.id, row.count());
        for part in 0..row.count() {
            self.owe(RecordId::Part(row.id, part), commit_lsn, row.key_of(part));
        }
    }

    fn owe(&mut self, id: RecordId, commit_lsn: Lsn, key: u8) {
        self.records.insert(id, Known { commit_lsn, key, has_appeared: false, excuse: None });
        self.by_key.entry(key).or_default().push_back(id);
        self.missing.insert((commit_lsn, id));
    }

    /// The record is in the destination's log now.
    pub(crate) fn appears(&mut self, id: RecordId) {
        let Some(known) = self.records.get_mut(&id) else {
            // A transaction of rows that only one version of the publication sends: nobody relies on its marks.
            let is_free = !matches!(id, RecordId::Part(..));
            assert!(is_free, "I3: only committed events of our server are published, not {id:?}");
            return;
        };
        if known.has_appeared {
            assert!(!self.is_exact || id == RecordId::Heartbeat, "I6: {id:?} appears twice to readers of what is committed");
            self.duplicates += 1;
            return;
        }
        known.has_appeared = true;
        let (key, is_excused, commit_lsn) = (known.key, known.excuse.is_some(), known.commit_lsn);
        self.missing.remove(&(commit_lsn, id));
        let line = self.by_key.get_mut(&key).expect("every event has a key");
        while let Some(front) = line.front()
            && self.records.get(front).is_some_and(|known| known.has_appeared || known.excuse.is_some())
        {
            let front = line.pop_front();
            if front == Some(id) {
                return;
            }
        }
        assert!(is_excused, "I2: {id:?} (commit {commit_lsn}) of key {key} appeared before {:?}", line.front());
    }

    /// The record is in the dlq now.
    pub(crate) fn parks(&mut self, id: RecordId) {
        assert!(self.parked.insert(id) || !self.is_exact, "I6: {id:?} is parked twice");
    }

    /// An END record says so many.
    pub(crate) fn ends(&self, transaction: RowId, count: u64) {
        let owed = self.counts.get(&transaction).copied().unwrap_or(0);
        assert_eq!(count, owed, "END of the transaction of row {transaction}");
    }

    /// The row need not appear (or, refused, may come late).
    pub(crate) fn excuse(&mut self, id: RowId, excuse: Excuse) {
        let parts = *self.rows.get(&id).expect("a known row");
        for part in 0..parts {
            self.excuse_record(RecordId::Part(id, part), excuse);
        }
    }

    /// The row and the records that stand beside its transaction need not appear.
    pub(crate) fn excuse_all(&mut self, row: &Row, excuse: Excuse) {
        self.excuse(row.id, excuse);
        self.excuse_record(RecordId::Begin(row.transaction), excuse);
        self.excuse_record(RecordId::End(row.transaction), excuse);
    }

    /// The record need not appear (or, refused, may come late).
    pub(crate) fn excuse_record(&mut self, id: RecordId, excuse: Excuse) {
        let Some(known) = self.records.get_mut(&id) else { return };
        if known.excuse.is_none() || excuse != Excuse::Refused {
            known.excuse = Some(excuse);
        }
        if excuse != Excuse::Refused {
            self.missing.remove(&(known.commit_lsn, id));
        }
    }

    /// Everything committed from `from` on and before `to` need not appear.
    pub(crate) fn excuse_range(&mut self, from: Lsn, to: Lsn) {
        if from >= to {
            return;
        }
        let first = RecordId::Begin(0);
        let ids: Vec<RecordId> = self.missing.range((from, first)..(to, first)).map(|&(_, id)| id).collect();
        for id in ids {
            self.excuse_record(id, Excuse::Gap);
        }
    }

    /// Whether nothing is owed for this row any more.
    pub(crate) fn is_settled(&self, id: RowId) -> bool {
        let parts = self.rows.get(&id).copied().unwrap_or(0);
        (0..parts).all(|part| self.is_record_settled(RecordId::Part(id, part)))
    }

    /// Whether the record is not owed any more.
    pub(crate) fn is_record_settled(&self, id: RecordId) -> bool {
        self.records.get(&id).is_none_or(|known| known.has_appeared || !matches!(known.excuse, None | Some(Excuse::Refused)))
    }

    pub(crate) fn is_settled_below(&self, lsn: Lsn) -> bool {
        self.missing.first().is_none_or(|&(commit_lsn, _)| commit_lsn >= lsn)
    }

    pub(crate) fn first_missing(&self) -> Option<(Lsn, RecordId)> {
        self.missing.first().copied()
    }

    pub(crate) fn missing(&self) -> usize {
        self.missing.len()
    }
}

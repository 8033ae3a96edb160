//! Knows every row that was ever committed and judges what reaches the log: nothing lost, per-key order, duplicates counted.

use relay_core::Lsn;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A committed row, whatever its position is called.
pub(crate) type RowId = u64;

/// What a row is to the pipeline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) id: RowId,
    pub(crate) key: u8,
    /// Routed to a topic; the others are filtered.
    pub(crate) is_event: bool,
    /// The broker refuses the batch that holds it.
    pub(crate) is_bad: bool,
    /// Sent only by the second version of the publication.
    pub(crate) is_extra: bool,
    pub(crate) bytes: usize,
}

#[derive(Clone, Debug)]
struct Known {
    commit_lsn: Lsn,
    row: Row,
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
    rows: BTreeMap<RowId, Known>,
    by_key: BTreeMap<u8, VecDeque<RowId>>,
    /// Events that must still appear, oldest first.
    missing: BTreeSet<(Lsn, RowId)>,
    /// Of our server, whichever server the name leads to just now.
    pub(crate) timeline: u32,
    pub(crate) duplicates: u64,
}

// === impl Oracle ===

impl Oracle {
    pub(crate) fn new() -> Self {
        Self { timeline: 1, ..Self::default() }
    }

    pub(crate) fn committed(&mut self, commit_lsn: Lsn, row: Row) {
        self.rows.insert(row.id, Known { commit_lsn, row, has_appeared: false, excuse: None });
        if row.is_event {
            self.by_key.entry(row.key).or_default().push_back(row.id);
            self.missing.insert((commit_lsn, row.id));
        }
    }

    /// The row is in the destination's log now.
    pub(crate) fn appears(&mut self, id: RowId) {
        let known = self.rows.get_mut(&id).expect("I3: only committed rows of our server are published");
        assert!(known.row.is_event, "a filtered row was published");
        if known.has_appeared {
            self.duplicates += 1;
            return;
        }
        known.has_appeared = true;
        let (key, is_excused, commit_lsn) = (known.row.key, known.excuse.is_some(), known.commit_lsn);
        self.missing.remove(&(commit_lsn, id));
        let line = self.by_key.get_mut(&key).expect("every event has a key");
        while let Some(front) = line.front()
            && self.rows.get(front).is_some_and(|known| known.has_appeared || known.excuse.is_some())
        {
            let front = line.pop_front();
            if front == Some(id) {
                return;
            }
        }
        assert!(is_excused, "I2: row {id} (commit {commit_lsn}) of key {key} appeared before {:?}", line.front());
    }

    /// The row need not appear (or, refused, may come late).
    pub(crate) fn excuse(&mut self, id: RowId, excuse: Excuse) {
        let known = self.rows.get_mut(&id).expect("a known row");
        if known.excuse.is_none() || excuse != Excuse::Refused {
            known.excuse = Some(excuse);
        }
        if excuse != Excuse::Refused {
            self.missing.remove(&(known.commit_lsn, id));
        }
    }

    /// Every row committed from `from` on and before `to` need not appear.
    pub(crate) fn excuse_range(&mut self, from: Lsn, to: Lsn) {
        if from >= to {
            return;
        }
        let ids: Vec<RowId> = self.missing.range((from, 0)..(to, 0)).map(|&(_, id)| id).collect();
        for id in ids {
            self.excuse(id, Excuse::Gap);
        }
    }

    /// Whether nothing is owed for this row any more.
    pub(crate) fn is_settled(&self, id: RowId) -> bool {
        self.rows.get(&id).is_none_or(|known| {
            !known.row.is_event || known.has_appeared || !matches!(known.excuse, None | Some(Excuse::Refused))
        })
    }

    pub(crate) fn is_settled_below(&self, lsn: Lsn) -> bool {
        self.missing.first().is_none_or(|&(commit_lsn, _)| commit_lsn >= lsn)
    }

    pub(crate) fn first_missing(&self) -> Option<(Lsn, RowId)> {
        self.missing.first().copied()
    }

    pub(crate) fn missing(&self) -> usize {
        self.missing.len()
    }
}

//! Everything outside the polling processes, and what a checkpoint record promises about each row.

use super::super::chance::Chance;
use super::super::journal::Journal;
use super::super::kafka::transactions::Open;
use super::super::kafka::{Kafka, Store};
use super::super::oracle::{Oracle, RowId};
use super::server::{CLAIMED, Outbox, Primary, TABLES};
use relay_core::Snapshot;
use relay_core::checkpoint::{Guarantee, Mode, Record};
use relay_core::position::Position;
use relay_core::window::Frontier;
use std::collections::BTreeSet;

/// The process was killed at this output.
#[derive(Debug)]
pub(crate) struct Crashed;

pub(crate) type Step = Result<(), Crashed>;

/// What runs did, for people.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) runs: u64,
    pub(crate) rows: u64,
    pub(crate) sent: u64,
    pub(crate) repeated: u64,
    pub(crate) marked: u64,
    pub(crate) ticks: u64,
    pub(crate) stores: u64,
    pub(crate) crashes: u64,
    pub(crate) rewinds: u64,
    pub(crate) to_poll: u64,
    pub(crate) to_log: u64,
    pub(crate) refused: u64,
    pub(crate) commits: u64,
    pub(crate) aborts: u64,
    pub(crate) late: u64,
}

/// Everything outside the processes.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) chance: Chance,
    pub(crate) primary: Primary,
    pub(crate) kafka: Kafka,
    pub(crate) store: Store,
    pub(crate) oracle: Oracle,
    /// Rows that were given to the sink, ever.
    pub(crate) sent: BTreeSet<RowId>,
    /// Those of them that may be given to it once more.
    pub(crate) repeatable: BTreeSet<RowId>,
    /// What durable records call published, as snapshots.
    pub(crate) published: BTreeSet<String>,
    pub(crate) crash_at: Option<u64>,
    pub(crate) outputs: u64,
    pub(crate) figures: Figures,
    /// What processes promise.
    pub(crate) guarantee: Guarantee,
    pub(crate) journal: Journal,
}

// === impl World ===

impl World {
    pub(crate) fn new(seed: u64, tables: &'static [usize], is_traced: bool) -> Self {
        Self {
            now_ms: 0,
            chance: Chance::new(seed),
            primary: Primary::new(tables),
            kafka: Kafka::default(),
            store: Store::default(),
            oracle: Oracle::new(),
            sent: BTreeSet::new(),
            repeatable: BTreeSet::new(),
            published: BTreeSet::new(),
            crash_at: None,
            outputs: 0,
            figures: Figures { runs: 1, ..Figures::default() },
            guarantee: Guarantee::AtLeastOnce,
            journal: Journal::new(is_traced),
        }
    }

    /// A transaction is committed: its events are there for readers, and so is the record.
    pub(crate) fn publish(&mut self, open: Open) {
        self.trace(|| "a commit".into());
        if let Some(record) = open.publish(&mut self.oracle, &mut self.kafka.parked) {
            self.lands(record);
        }
    }

    /// An order carried out, an item read, a report given, a job done: a place to crash.
    pub(crate) fn output(&mut self) -> Step {
        self.outputs += 1;
        self.crash_at.take_if(|at| *at == self.outputs).map_or(Ok(()), |_| Err(Crashed))
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        self.journal.note(self.now_ms, line);
    }

    /// A row goes to the sink. More than once it does so only behind a rewind or a start that cannot know that it did.
    pub(crate) fn sends(&mut self, id: RowId) {
        self.figures.sent += 1;
        if !self.sent.insert(id) {
            self.figures.repeated += 1;
            assert!(self.repeatable.remove(&id), "row {id} is sent again without a reason");
        }
    }

    /// A process claims its epoch with a record that stands where the one it read does: what that does not cover may come again, and
    /// nothing else.
    pub(crate) fn starts_from(&mut self, read: Option<&Record>, claim: &Record, is_poll: bool) {
        for row in self.primary.committed().filter(|_| read.is_some_and(|read| read.end_lsn.is_some() || read.poll.is_some())) {
            let is_covered = read.is_some_and(|read| covers(read, row, is_poll));
            assert_eq!(is_covered, covers(claim, row, is_poll), "row {row:?}: the claim {claim:?} is not where {read:?} is");
        }
        let is_open = |id: &&RowId| {
            let row = self.primary.find(**id).expect("only rows that are there were sent");
            read.is_none_or(|read| !covers(read, row, is_poll))
        };
        self.repeatable = self.sent.iter().filter(is_open).copied().collect();
    }

    /// The record is durable: everything that it covers must be so too.
    pub(crate) fn lands(&mut self, record: Record) {
        self.figures.stores += 1;
        let is_poll = record.mode == Mode::Poll.name();
        // Within one life it never goes back.
        let before = self.store.records().iter().find(|old| old.key() == record.key() && old.mode == record.mode);
        for row in self.primary.committed() {
            let is_covered = covers(&record, row, is_poll);
            let by_pair = record.log_poll.as_ref().is_some_and(|pair| pair.snapshot.sees(row.xid));
            let is_settled = !(is_covered || by_pair) || self.oracle.is_settled(row.row.id);
            assert!(is_settled, "row {row:?} is not published, and stored is {record:?}");
            let was_covered = before.is_some_and(|old| covers(old, row, is_poll));
            assert!(is_covered || !was_covered, "row {row:?} is not covered any more: {record:?}");
        }
        self.published.extend(record.published().map(Snapshot::to_string));
        self.store.append(record);
    }

    /// Rows are marked: each is published, whatever becomes of the process.
    pub(crate) fn marks(&mut self, rows: &[RowId]) {
        for &id in rows {
            assert!(self.oracle.is_settled(id), "row {id} is marked, and is nowhere");
        }
        self.figures.marked += rows.len() as u64;
        self.primary.mark(rows, &mut self.chance);
    }
}

/// Whether a start from this record takes the row for published. Written from the format's description, apart from the session.
fn covers(record: &Record, row: &Outbox, is_poll: bool) -> bool {
    if row.table == CLAIMED {
        return row.is_marked;
    }
    if let Some(poll) = &record.poll {
        let is_behind = poll.seq.get(TABLES[row.table]).is_some_and(|last| row.order <= *last);
        return poll.snapshot.sees(row.xid) || (is_behind && poll.tick.sees(row.xid));
    }
    if is_poll {
        return record.log_poll.as_ref().is_some_and(|pair| pair.snapshot.sees(row.xid));
    }
    let (Some((commit_lsn, seq)), Some(Frontier { end_lsn, inside })) = (row.commit, record.frontier()) else { return false };
    commit_lsn < end_lsn || inside.is_some_and(|inside| Position { commit_lsn, seq } <= inside)
}

// === impl Figures ===

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, other: Figures) {
        self.runs += other.runs;
        self.rows += other.rows;
        self.sent += other.sent;
        self.repeated += other.repeated;
        self.marked += other.marked;
        self.ticks += other.ticks;
        self.stores += other.stores;
        self.crashes += other.crashes;
        self.rewinds += other.rewinds;
        self.to_poll += other.to_poll;
        self.to_log += other.to_log;
        self.refused += other.refused;
        self.commits += other.commits;
        self.aborts += other.aborts;
        self.late += other.late;
    }
}

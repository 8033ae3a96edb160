//! Server, brokers, store, oracle and time: everything outside the processes.

use super::chance::Chance;
use super::journal::Journal;
use super::kafka::transactions::Open;
use super::kafka::{Kafka, Store};
use super::oracle::Oracle;
use super::postgres::Postgres;
use super::process::Crashed;
use relay_core::Lsn;
use relay_core::checkpoint::{Guarantee, Record};
use std::collections::BTreeSet;

/// What a run did, for people.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) runs: u64,
    pub(crate) steps: u64,
    pub(crate) sent: u64,
    pub(crate) crashes: u64,
    pub(crate) duplicates: u64,
    pub(crate) resumes: u64,
    pub(crate) rewinds: u64,
    pub(crate) purges: u64,
    pub(crate) culprits: u64,
    pub(crate) gaps: u64,
    /// How often the sink was full between two records of one change.
    pub(crate) pauses: u64,
    /// How often a change went on behind its first records after a lost connection.
    pub(crate) continued: u64,
    /// Runs in which nothing excused a duplicate, and there was none.
    pub(crate) strict: u64,
    /// Exactly-once: transactions split, commits in doubt, and those of them that had happened.
    pub(crate) splits: u64,
    pub(crate) doubts: u64,
    pub(crate) hidden: u64,
    /// Replays of kept frames, frames that came again by that, and table shapes that had to wait.
    pub(crate) replays: u64,
    pub(crate) replayed: u64,
    pub(crate) waits: u64,
    pub(crate) commits: u64,
    pub(crate) aborts: u64,
    pub(crate) strays: u64,
    pub(crate) fenced: u64,
    /// Drains that came to their end.
    pub(crate) ends: u64,
    /// Batches that a new leader did not have, and runs in which partitions were added.
    pub(crate) truncated: u64,
    pub(crate) grown: u64,
}

/// Everything outside the processes.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) chance: Chance,
    pub(crate) postgres: Postgres,
    pub(crate) kafka: Kafka,
    pub(crate) store: Store,
    pub(crate) oracle: Oracle,
    pub(crate) figures: Figures,
    /// Something happened after which duplicates are allowed.
    pub(crate) may_duplicate: bool,
    pub(crate) crash_at: Option<u64>,
    pub(crate) outputs: u64,
    /// How the next process wants its rows sent.
    pub(crate) option: u8,
    /// Meddling with slot and history that a start has seen and dealt with.
    pub(crate) seen_meddling: u64,
    pub(crate) has_impostor: bool,
    /// More than one process was wanted at once.
    pub(crate) has_peers: bool,
    /// What the next process promises.
    pub(crate) guarantee: Guarantee,
    /// The checkpoints were lost once.
    pub(crate) was_wiped: bool,
    own_system_id: &'static str,
    accepted: BTreeSet<usize>,
    pub(crate) journal: Journal,
}

// === impl World ===

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now_ms: 0,
            chance: Chance::new(seed),
            postgres: Postgres::new("7001"),
            kafka: Kafka::default(),
            store: Store::default(),
            oracle: Oracle::new(),
            figures: Figures::default(),
            may_duplicate: false,
            crash_at: None,
            outputs: 0,
            option: 1,
            seen_meddling: 0,
            has_impostor: false,
            has_peers: false,
            guarantee: Guarantee::AtLeastOnce,
            was_wiped: false,
            own_system_id: "7001",
            accepted: BTreeSet::new(),
            journal: Journal::default(),
        }
    }

    pub(crate) fn system_id(&self) -> &'static str {
        self.own_system_id
    }

    /// An order carried out, an item read, a report given: a place to crash.
    pub(crate) fn output(&mut self, _process: usize) -> Result<(), Crashed> {
        self.outputs += 1;
        match self.crash_at.take_if(|at| *at == self.outputs) {
            Some(_) => Err(Crashed),
            None => Ok(()),
        }
    }

    /// A transaction is committed: its events are there for readers, and so is the record.
    pub(crate) fn publish(&mut self, open: Open) {
        let record = open.publish(&mut self.oracle, &mut self.kafka.parked);
        self.trace(|| format!("a commit, with {record:?}"));
        if let Some(record) = record {
            if let Some(frontier) = record.frontier().filter(|_| record.timeline == self.oracle.timeline) {
                self.check_settled(frontier.end_lsn, &record);
            }
            self.store.append(record);
        }
        self.release();
    }

    fn check_settled(&self, end_lsn: Lsn, record: &Record) {
        assert!(self.oracle.is_settled_below(end_lsn), "stored {record:?}, {:?}", self.oracle.first_missing());
    }

    /// What stood behind an open transaction of the checkpoint topic can be read when there is none.
    pub(crate) fn release(&mut self) {
        if !self.kafka.coordinator.holds_checkpoints() {
            self.store.release();
        }
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        self.journal.note(self.now_ms, line);
    }

    pub(crate) fn accept_gap(&mut self, process: usize) {
        self.accepted.insert(process);
        self.figures.gaps += 1;
    }

    pub(crate) fn gap_accepted_by(&self, process: usize) -> bool {
        self.accepted.contains(&process)
    }

    pub(crate) fn create_slot(&mut self) {
        if self.postgres.slot.is_none() {
            self.postgres.create_slot();
            let born = self.postgres.slot.as_ref().map_or(Lsn::ZERO, |slot| slot.confirmed);
            self.oracle.excuse_range(Lsn::ZERO, born);
        }
    }
}

// === impl Figures ===

impl std::ops::AddAssign for Figures {
    fn add_assign(&mut self, other: Figures) {
        self.runs += other.runs;
        self.steps += other.steps;
        self.sent += other.sent;
        self.crashes += other.crashes;
        self.duplicates += other.duplicates;
        self.resumes += other.resumes;
        self.rewinds += other.rewinds;
        self.purges += other.purges;
        self.culprits += other.culprits;
        self.gaps += other.gaps;
        self.pauses += other.pauses;
        self.continued += other.continued;
        self.strict += other.strict;
        self.splits += other.splits;
        self.doubts += other.doubts;
        self.hidden += other.hidden;
        self.replays += other.replays;
        self.replayed += other.replayed;
        self.waits += other.waits;
        self.commits += other.commits;
        self.aborts += other.aborts;
        self.strays += other.strays;
        self.fenced += other.fenced;
        self.ends += other.ends;
        self.truncated += other.truncated;
        self.grown += other.grown;
    }
}

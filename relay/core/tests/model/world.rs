//! Server, brokers, store, oracle and time: everything outside the processes.

use super::chance::Chance;
use super::kafka::{Kafka, Store};
use super::oracle::Oracle;
use super::postgres::Postgres;
use super::process::Crashed;
use relay_core::Lsn;
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
    own_system_id: &'static str,
    accepted: BTreeSet<usize>,
    pub(crate) log: Option<Vec<String>>,
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
            own_system_id: "7001",
            accepted: BTreeSet::new(),
            log: None,
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

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(format!("{:>7} {}", self.now_ms, line()));
        }
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

impl Figures {
    pub(crate) fn add(&mut self, other: &Figures) {
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
    }
}

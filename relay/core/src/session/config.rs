//! What a session must know about its pipeline.

use super::SnapshotConfig;
use crate::checkpoint::Guarantee;
use crate::lsn::Lsn;

/// What a session must know about its pipeline.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pipeline name.
    pub name: String,
    /// Random per process start.
    pub instance: String,
    /// How the source is read.
    pub reads: Reads,
    /// What is promised. Exactly-once needs a sink with transactions, and refuses [`Reads::Poll`] with claims before a session begins.
    pub guarantee: Guarantee,
    /// Exactly-once: how long a Kafka transaction stays open, from its first event on.
    pub commit_interval_ms: u64,
    /// Slot name.
    pub slot: String,
    /// Publication name.
    pub publication: String,
    /// Whether publication and slot may be created on the very first start.
    pub may_create: bool,
    /// Whether checkpoints outlive the process (the stdout sink keeps none).
    pub is_durable: bool,
    /// Snapshots of captured tables; `None` where none is captured.
    pub snapshot: Option<SnapshotConfig>,
    /// The gap that the operator accepted for this start.
    pub accept_gap: Option<Lsn>,
    /// Longest wait between two checkpoints while events flow.
    pub checkpoint_interval_ms: u64,
    /// Shortest wait between two checkpoints for idle progress.
    pub idle_checkpoint_interval_ms: u64,
    /// Fingerprint of routes, partitioner and topic map.
    pub config_fingerprint: String,
    /// relay's version, for people who read the checkpoint.
    pub relay_version: String,
    /// Seed of the jitter.
    pub seed: u64,
}

/// How a session reads its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reads {
    /// The log, from the slot.
    #[default]
    Log,
    /// Outbox tables by SQL, behind an advisory lock in place of the slot.
    Poll {
        /// Whether a table is read in ticks: else the tables' marks are the position, and none is stored.
        has_ticks: bool,
        /// Whether a table is read with order `claim`.
        has_claims: bool,
        /// Whether this is the way from polling to the log: up to the snapshot of a new slot, and no further.
        ends_in_log: bool,
    },
}

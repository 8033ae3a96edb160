//! The checkpoint: the stored frontier, who wrote it, and which of several records is the truth.

mod tables;

pub use tables::{Done, OpenTable, ParseTidError, SnapshotJob, SnapshotPosition, TablePosition, Tid};

use crate::lsn::Lsn;
use crate::position::Position;
use crate::snapshot::Snapshot;
use crate::window::{Failure, Frontier};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Keeps one pipeline's records durable.
///
/// * A store is under way until [`Checkpoint::outcome`] has answered; at most one is under way at a time. `Ok` means that the record
///   survives the crash of this process and of any one broker: only then may its LSN be confirmed to PostgreSQL.
/// * A record of a higher epoch wins over every record of a lower one, whenever either arrives.
pub trait Checkpoint {
    /// Starts to store `record`. Never blocks.
    fn begin_store(&mut self, record: &Record);

    /// The outcome of the store under way, once known.
    fn outcome(&mut self) -> Option<Result<(), Failure>>;

    /// Removes the records of older epochs, in the background and without an outcome: only tidiness.
    fn retire(&mut self, keys: &[String]);
}

/// A [`Checkpoint`] that commits events and record together: everything that its sink has taken since the last commit.
///
/// Orders are carried out one after the other, those here and [`Checkpoint::begin_store`], and answered in that order; until then the sink
/// takes nothing. No call blocks. After [`FailureKind::Indefinite`](crate::window::FailureKind::Indefinite) the client is finished:
/// whatever is ordered fails, until the sink has been renewed and fenced in.
pub trait Transactional: Checkpoint {
    /// Starts to shut out every other instance of this pipeline, and to read what is stored, complete up to now. The sink's client must be
    /// a new one.
    fn begin_fence(&mut self);

    /// Nobody wants a fence any more: one under way goes no further than it must, and is answered all the same.
    fn forget_fence(&mut self);

    /// Starts to give up what was sent since the last commit.
    fn begin_abort(&mut self);

    /// The answer to the oldest order without one, once known.
    fn answer(&mut self) -> Option<Answer>;
}

/// What came of an order to a [`Transactional`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "ten a second, and none is kept")]
pub enum Answer {
    /// Of a store or an abort.
    Ended(Result<(), Failure>),
    /// Of a fence: what is stored.
    Fenced(Result<Reading, ReadError>),
}

/// Reads what is stored, to its end as of now. A separate type because reading blocks and is done on another thread.
pub trait ReadCheckpoint: Send {
    /// Everything that is stored for this pipeline.
    ///
    /// # Errors
    /// What kept it from being read; [`ReadError::is_final`] tells whether a second try can help.
    fn read(&mut self) -> Result<Reading, ReadError>;
}

/// Why the stored records could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store did not answer.
    #[error("{0}")]
    Unreachable(String),
    /// The store refuses us.
    #[error("{0}")]
    Denied(String),
    /// What is stored cannot be used: an unknown version, a damaged record, a topic that is not compacted.
    #[error("{0}")]
    Unusable(String),
    /// Exactly-once: another instance owns the destination.
    #[error("{0}")]
    Fenced(String),
}

/// What a store holds for one pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The record that wins, if there is any.
    pub newest: Option<Record>,
    /// The highest epoch of any record; 0 when there is none.
    pub highest_epoch: u64,
    /// Keys of all records found, for [`Checkpoint::retire`].
    pub keys: Vec<String>,
}

/// How a pipeline reads its database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The logical replication stream.
    #[default]
    Log,
    /// Outbox tables, by SQL.
    Poll,
}

/// What a pipeline promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guarantee {
    /// Nothing is lost; some events may come twice.
    #[default]
    AtLeastOnce,
    /// For readers with `isolation.level=read_committed`: nothing is lost, and nothing comes twice.
    ExactlyOnce,
}

/// The life of a pipeline as its checkpoint tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecordState {
    /// Written before relay creates a slot, so that a crash between the two is resumed.
    Bootstrapping,
    /// While events flow.
    Running,
    /// After a clean stop.
    Stopped,
}

/// One checkpoint record. Field order is the JSON's (kafka.md, section 8); every field is always written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Format version, 1.
    pub v: u32,
    /// What the pipeline was doing.
    pub state: RecordState,
    /// Pipeline name.
    pub name: String,
    /// Which start wrote it: one above the highest seen.
    pub epoch: u64,
    /// Eight random hexadecimal digits per process start.
    pub instance: String,
    /// `at-least-once` or `exactly-once`.
    pub guarantee: String,
    /// `log` or `poll`.
    pub mode: String,
    /// The server's system identifier.
    pub system_id: String,
    /// The server's timeline.
    pub timeline: u32,
    /// Database name.
    pub database: String,
    /// Slot name; null in poll mode, until a switch to log mode has begun.
    pub slot: Option<String>,
    /// Resume position; in poll mode the end of WAL when the tick was taken, by which a later history is compared.
    pub end_lsn: Option<Lsn>,
    /// With `seq`: last event published inside the transaction after `end_lsn`.
    pub commit_lsn: Option<Lsn>,
    /// See `commit_lsn`.
    pub seq: Option<u64>,
    /// Snapshots of captured tables: what is owed, and how far that is; null before the first.
    pub snapshot: Option<SnapshotPosition>,
    /// Where polling stands; null in log mode, and where every table is polled with order `claim`.
    pub poll: Option<PollPosition>,
    /// Pair for the switch to polling and for gap repair.
    pub log_poll: Option<LogPoll>,
    /// Publications, `messages` and `origin`, hashed.
    pub publication_fingerprint: String,
    /// Routing, partitioner and topic map, hashed.
    pub config_fingerprint: String,
    /// Every `--accept-gap` that was used.
    pub accepted_gaps: Vec<AcceptedGap>,
    /// When, RFC 3339, UTC; for people.
    pub written_at: String,
    /// By which version; for people.
    pub relay_version: String,
}

/// Where polling stands: in the tick from `snapshot` to `tick`, behind the last order value published of each table. Once a tick is
/// published as a whole both are the same, and the next tick begins there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollPosition {
    /// The tick before: what it sees is published.
    pub snapshot: Snapshot,
    /// This tick.
    pub tick: Snapshot,
    /// Last value of the order column that was published of this tick, per `schema.table`.
    pub seq: BTreeMap<String, i64>,
}

/// What a snapshot had seen when the log stood at a position, so that polling can take over from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPoll {
    /// `pg_current_snapshot()`, taken before `lsn`.
    pub snapshot: Snapshot,
    /// WAL insert position after it.
    pub lsn: Lsn,
}

/// A gap that an operator accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedGap {
    /// Where the checkpoint stood.
    pub from: Lsn,
    /// Where the slot stood.
    pub to: Lsn,
    /// When, RFC 3339, UTC.
    pub at: String,
}

// === impl Record ===

impl Record {
    /// The only format version there is.
    pub const VERSION: u32 = 1;

    /// The record's key: `<name>/<epoch>/<instance>`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}/{}", self.name, self.epoch, self.instance)
    }

    /// The position of the log that it stores; `None` while bootstrapping, and in poll mode.
    #[must_use]
    pub fn frontier(&self) -> Option<Frontier> {
        if self.mode != Mode::Log.name() {
            return None;
        }
        let inside = match (self.commit_lsn, self.seq) {
            (Some(commit_lsn), Some(seq)) => Some(Position { commit_lsn, seq }),
            _ => None,
        };
        self.end_lsn.map(|end_lsn| Frontier { end_lsn, inside })
    }

    /// What is published, as a snapshot: everything that it sees, whatever became of the rows since.
    #[must_use]
    pub fn published(&self) -> Option<&Snapshot> {
        let log = self.log_poll.as_ref().map(|pair| &pair.snapshot);
        self.poll.as_ref().map_or(log, |position| Some(&position.snapshot))
    }

    /// The JSON text that is stored.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a record has only text keys and plain values")
    }

    /// Reads a stored record.
    ///
    /// # Errors
    /// [`ReadError::Unusable`] when it is not JSON of this form or of a newer version.
    pub fn from_json(text: &[u8]) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let unusable = |error: serde_json::Error| ReadError::Unusable(format!("a checkpoint record cannot be read: {error}"));
        let Version { v } = serde_json::from_slice(text).map_err(unusable)?;
        if v != Self::VERSION {
            return Err(ReadError::Unusable(format!(
                "a checkpoint record has format {v}; this relay knows format {} only",
                Self::VERSION
            )));
        }
        serde_json::from_slice(text).map_err(unusable)
    }
}

// === impl Mode ===

impl Mode {
    /// As configuration and checkpoint write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mode::Log => "log",
            Mode::Poll => "poll",
        }
    }
}

// === impl Guarantee ===

impl Guarantee {
    /// As configuration and checkpoint write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Guarantee::AtLeastOnce => "at-least-once",
            Guarantee::ExactlyOnce => "exactly-once",
        }
    }
}

// === impl PollPosition ===

impl PollPosition {
    /// Before everything: each kept row is still to come.
    #[must_use]
    pub fn start() -> Self {
        Self::at(Snapshot::nothing())
    }

    /// Everything that `snapshot` sees is published, and nothing else.
    #[must_use]
    pub fn at(snapshot: Snapshot) -> Self {
        Self { tick: snapshot.clone(), snapshot, seq: BTreeMap::new() }
    }

    /// A measure of progress: of two positions of one pipeline the later one's is not lower.
    pub(crate) fn rank(&self) -> ((u64, u64), bool, i128) {
        (self.tick.rank(), self.snapshot == self.tick, self.seq.values().map(|&seq| i128::from(seq)).sum())
    }
}

// === impl Reading ===

impl Reading {
    /// Applies the key rule: the highest epoch wins; where two instances claimed one epoch, the greatest position.
    #[must_use]
    pub fn of(records: impl IntoIterator<Item = Record>) -> Self {
        let mut reading = Self::default();
        let rank = |record: &Record| {
            let log = record.frontier().map(|frontier| (frontier.end_lsn, frontier.inside));
            (record.epoch, log, record.poll.as_ref().map(PollPosition::rank))
        };
        for record in records {
            reading.highest_epoch = reading.highest_epoch.max(record.epoch);
            reading.keys.push(record.key());
            if reading.newest.as_ref().is_none_or(|newest| rank(&record) > rank(newest)) {
                reading.newest = Some(record);
            }
        }
        reading
    }
}

// === impl ReadError ===

impl ReadError {
    /// Whether only a person can cure it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, ReadError::Unusable(_))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn record() -> Record {
        let text = include_bytes!("../fixtures/checkpoint-v1.json");
        Record::from_json(text.trim_ascii_end()).expect("the fixture is readable")
    }

    #[test]
    fn the_fixture_of_version_1_is_read_and_written_to_the_letter() {
        let text = include_str!("../fixtures/checkpoint-v1.json").trim_end();
        assert_eq!(record().to_json(), text);
        assert_eq!(record().key(), "orders/7/9f3a61c2");
    }

    #[test]
    fn a_newer_version_and_damage_are_refused() {
        for text in [r#"{"v":2,"anything":1}"#, "{", "null", r#"{"v":1}"#] {
            assert!(Record::from_json(text.as_bytes()).expect_err(text).is_final());
        }
    }

    #[test]
    fn the_highest_epoch_wins_and_within_one_the_greatest_position() {
        let at = |epoch, end_lsn, inside: Option<u64>| Record {
            epoch,
            end_lsn,
            commit_lsn: inside.map(|_| Lsn(90)),
            seq: inside,
            ..record()
        };
        let cases = [
            (vec![at(1, Some(Lsn(90)), None), at(2, Some(Lsn(10)), None)], 1),
            (vec![at(2, Some(Lsn(10)), None), at(1, Some(Lsn(90)), None)], 0),
            (vec![at(2, Some(Lsn(10)), None), at(2, Some(Lsn(20)), None)], 1),
            (vec![at(2, Some(Lsn(20)), Some(3)), at(2, Some(Lsn(20)), None)], 0),
            (vec![at(0, None, None), at(1, Some(Lsn(1)), None)], 1),
        ];
        for (records, winner) in cases {
            let reading = Reading::of(records.clone());
            assert_eq!(reading.newest.as_ref(), Some(&records[winner]));
            assert_eq!(reading.highest_epoch, records.iter().map(|r| r.epoch).max().unwrap_or(0));
        }
        assert_eq!(Reading::of([]), Reading::default());
    }

    #[test]
    fn of_two_polls_in_one_epoch_the_one_that_saw_more_wins() {
        let at = |snapshot: &str, tick: &str, seq: &[(&str, i64)]| Record {
            mode: Mode::Poll.name().into(),
            poll: Some(PollPosition {
                snapshot: snapshot.parse().expect("legal"),
                tick: tick.parse().expect("legal"),
                seq: seq.iter().map(|&(table, seq)| (table.to_owned(), seq)).collect(),
            }),
            ..record()
        };
        let ascending = [
            at("1:1:", "10:20:12", &[]),
            at("1:1:", "10:20:12", &[("public.outbox", 4)]),
            at("1:1:", "10:20:12", &[("public.outbox", 9)]),
            at("10:20:12", "10:20:12", &[]),
            at("10:20:12", "20:20:", &[]),
        ];
        for pair in ascending.windows(2) {
            for order in [[0, 1], [1, 0]] {
                let reading = Reading::of(order.map(|at| pair[at].clone()));
                assert_eq!(reading.newest.as_ref(), Some(&pair[1]));
            }
        }
        let text = ascending[2].to_json();
        assert!(text.contains(r#""poll":{"snapshot":"1:1:","tick":"10:20:12","seq":{"public.outbox":9}}"#), "{text}");
        assert_eq!(Record::from_json(text.as_bytes()).as_ref(), Ok(&ascending[2]));
    }
}

//! What the server says: of itself, of its slot, and of what went wrong.

use super::Tick;
use crate::error::Kind;
use crate::lsn::Lsn;
use crate::snapshot::Snapshot;

/// What the server says of itself, its slot and its publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// System identifier.
    pub system_id: String,
    /// Current timeline.
    pub timeline: u32,
    /// Ends of earlier timelines: (timeline, LSN at which the next one took over).
    pub switch_points: Vec<(u32, Lsn)>,
    /// Database that we are connected to.
    pub database: String,
    /// End of its WAL.
    pub wal_end: Lsn,
    /// Whether it is a standby.
    pub is_standby: bool,
    /// What is visible to a query now; asked for in poll mode only.
    pub snapshot: Option<Snapshot>,
    /// The slot, if there is one of our name.
    pub slot: Option<Slot>,
    /// Fingerprint of the publication, `messages` and `origin`; `None` when the publication does not exist.
    pub publication: Option<String>,
}

/// A row of `pg_replication_slots`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Why relay cannot read from it (plugin, database, kind, two_phase), if so.
    pub unfit: Option<String>,
    /// Whether the server threw away WAL that it needs.
    pub is_lost: bool,
    /// Everything before it was confirmed by its consumer.
    pub confirmed_flush: Lsn,
    /// Whether a consumer has it now.
    pub is_active: bool,
}

/// A new slot that polling ends at, or behind whose snapshot the stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The snapshot that was exported with it.
    pub tick: Tick,
    /// The slot's stream has what commits from here on, and the snapshot sees what committed before.
    pub consistent: Lsn,
}

/// Something went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its kind: the policy table tells the rest.
    pub kind: Kind,
    /// What happened, without secrets.
    pub message: String,
}

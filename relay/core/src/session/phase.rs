//! Where a session stands on its way, and what people call it.

use crate::lsn::Lsn;
use crate::window::Frontier;

/// What a session is doing: label `state` of `relay_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// On its way to the stream.
    Connecting,
    /// Publishing a snapshot; the stream waits.
    Snapshot,
    /// Reading and publishing.
    Streaming,
    /// Another instance streams; this one waits.
    Standby,
    /// Finishing after SIGTERM.
    Draining,
    /// Stopped until a person, or a later look, helps.
    Failed,
}

/// Where the session stands. Only `Streaming` reads events.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    Waiting {
        until_ms: u64,
        then: Next,
    },
    Inspecting(Next),
    ReadingFirst,
    StoringBootstrap,
    CreatingPublication,
    CreatingSlot,
    Holding(Next),
    Standby {
        retry_ms: u64,
    },
    Settling {
        until_ms: u64,
    },
    ReadingAgain,
    /// Where the stream starts once the claim is durable.
    Claiming(Frontier),
    /// The slot is held again after a lost connection: was another epoch claimed meanwhile?
    Rereading,
    Streaming,
    Rewinding {
        since_ms: u64,
        then: AfterRewind,
    },
    /// A new client is taken; in exactly-once to shut the older ones out, `next` being what follows.
    Renewing {
        next: Next,
        is_ordered: bool,
    },
    /// Exactly-once: older clients are being shut out.
    Fencing(Next),
    /// Exactly-once: what was sent is being aborted.
    Aborting {
        then: AfterRewind,
    },
    StoringLast,
    Stopped {
        retry_ms: u64,
    },
    Ended,
}

/// What an inspection or a held slot is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Next {
    /// The start protocol, before the slot is held.
    Start,
    /// Whether the slot is really missing, a checkpoint having been found.
    SurelyMissing,
    /// The start protocol's checks, the slot being held.
    Checks,
    /// Going on after a lost connection.
    Resume,
    /// Exactly-once: going on from `stored` with what was kept, the slot being held still.
    Replay,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum AfterRewind {
    Stream,
    RenewAndStream,
    StartOver,
    StandBy,
    Stop {
        retry_ms: u64,
    },
    /// A drain's time is up.
    End,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    pub(super) deadline_ms: u64,
    pub(super) read_to: Option<Lsn>,
    /// Since when nothing is in flight, although a change is sent in part.
    pub(super) waits_since_ms: Option<u64>,
}

// === impl AfterRewind ===

impl AfterRewind {
    /// Of two ends that are demanded while a rewind is under way, the harder one wins.
    pub(super) fn hardness(self) -> u8 {
        match self {
            AfterRewind::Stream => 0,
            AfterRewind::RenewAndStream => 1,
            AfterRewind::StartOver => 2,
            AfterRewind::StandBy => 3,
            AfterRewind::Stop { .. } => 4,
            AfterRewind::End => 5,
        }
    }
}

//! Exactly-once over the log: frames that were dealt with are kept until they are committed, so that an abort costs no connection.

use super::{Next, Order, Phase, Session};
use crate::lsn::Lsn;

/// The frames that the driver keeps, to read them again after an abort.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// There is one.
    pub(super) is_used: bool,
    /// Bytes since `stored`; `None` when not all of them are kept.
    pub(super) bytes: Option<u64>,
    /// Bytes since the commit under way was ordered.
    pub(super) after: Option<u64>,
    /// The source transaction that was being read at `stored`, and the index of its next change: the ring begins there.
    pub(super) origin: Option<(Lsn, u64)>,
    /// The same, for the commit under way.
    pub(super) origin_after: Option<(Lsn, u64)>,
}

impl Session {
    /// Exactly-once, reading the log: a frame of that size was dealt with. True: keep it, for an [`Order::Replay`]. False: what is kept is
    /// of no use any more, because it would be too much, or not all; drop it.
    pub fn kept(&mut self, bytes: usize) -> bool {
        if !self.is_exactly_once() {
            return false;
        }
        let room = self.window.limits().bytes.saturating_sub(self.window.bytes());
        self.transaction.idle_since_ms = None;
        let kept = &mut self.transaction.kept;
        kept.is_used = true;
        let part = if self.progress.is_under_way() { &mut kept.after } else { &mut kept.bytes };
        let Some(part) = part else { return false };
        *part += bytes as u64;
        if kept.bytes.unwrap_or(0) + kept.after.unwrap_or(0) <= room {
            return true;
        }
        (kept.bytes, kept.after) = (None, None);
        false
    }

    /// Exactly-once, reading the log: whether a Relation message that differs from the one before may be taken now. Kept frames are decoded
    /// by what is known when they are read again; so what is open is committed first, and the message is to be offered again after that.
    pub fn takes_relation(&mut self) -> bool {
        let kept = &self.transaction.kept;
        let is_kept = kept.bytes.is_some_and(|bytes| bytes > 0) || self.progress.is_under_way();
        if !self.is_exactly_once() || !kept.is_used || !(self.transaction.is_open() || is_kept) {
            return true;
        }
        if self.is_inside_change() {
            // A BEGIN and no change yet: that cannot be committed, so do without what is kept.
            self.transaction.kept.bytes = None;
            return true;
        }
        self.transaction.is_closing = true;
        false
    }

    /// What is kept will be read again, and was not yet: a commit now would let go of it.
    pub(super) fn awaits_replay(&self) -> bool {
        matches!(
            self.phase,
            Phase::Waiting { then: Next::Replay, .. }
                | Phase::Inspecting(Next::Replay)
                | Phase::Renewing { .. }
                | Phase::Fencing(_)
        )
    }

    /// The frames kept since `stored` come again, and the slot stays held.
    pub(super) fn replay(&mut self) {
        if self.transaction.needs_fence {
            // Is the slot still ours? Only its holder may shut others out.
            return self.inspect(Next::Replay);
        }
        self.flow.replay(self.transaction.kept.origin);
        self.transaction.kept.bytes = Some(0);
        self.order(Order::Replay);
        self.stream(None);
    }
}

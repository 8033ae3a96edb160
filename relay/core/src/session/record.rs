//! What a checkpoint record says of a session.

use super::{Reads, Session};
use crate::checkpoint::{Mode, Record, RecordState};
use crate::lsn::Lsn;
use crate::window::Frontier;

// === impl Session ===

impl Session {
    pub(super) fn record(&self, state: RecordState, epoch: u64, frontier: Option<Frontier>) -> Record {
        if let Reads::Poll { has_ticks, .. } = self.config.reads {
            return self.poll_record(state, epoch, frontier, has_ticks);
        }
        let inside = frontier.and_then(|frontier| frontier.inside);
        Record {
            end_lsn: frontier.map(|frontier| frontier.end_lsn),
            commit_lsn: inside.map(|position| position.commit_lsn),
            seq: inside.map(|position| position.seq),
            snapshot: self.copying.record(frontier.map_or(Lsn::ZERO, |frontier| frontier.end_lsn)),
            log_poll: self.progress.pair_at(frontier.map_or(Lsn::ZERO, |frontier| frontier.end_lsn)).cloned(),
            ..self.blank_record(state, epoch)
        }
    }

    /// A record of everything but the position.
    pub(super) fn blank_record(&self, state: RecordState, epoch: u64) -> Record {
        let server = self.server.as_ref();
        Record {
            v: Record::VERSION,
            state,
            name: self.config.name.clone(),
            epoch,
            instance: self.config.instance.clone(),
            guarantee: self.config.guarantee.name().into(),
            mode: Mode::Log.name().into(),
            system_id: server.map(|s| s.system_id.clone()).unwrap_or_default(),
            timeline: server.map_or(0, |s| s.timeline),
            database: server.map(|s| s.database.clone()).unwrap_or_default(),
            slot: Some(self.config.slot.clone()),
            end_lsn: None,
            commit_lsn: None,
            seq: None,
            snapshot: self.copying.record(Lsn::ZERO),
            poll: None,
            log_poll: None,
            publication_fingerprint: server.and_then(|s| s.publication.clone()).unwrap_or_default(),
            config_fingerprint: self.config.config_fingerprint.clone(),
            accepted_gaps: self.progress.accepted_gaps.clone(),
            // The driver stamps it when it stores it: a session has no clock of the wall.
            written_at: String::new(),
            relay_version: self.config.relay_version.clone(),
        }
    }
}

//! Whether server, slot and checkpoint agree, and where to start if they do (postgres.md, section 7).

use super::start::unrecorded;
use super::{Fault, Note, Reads, Server, Session};
use crate::checkpoint::{AcceptedGap, Mode, Record};
use crate::error::Kind;
use crate::lsn::Lsn;
use crate::window::Frontier;

impl Session {
    pub(super) fn check_identity(&self) -> Result<(), Fault> {
        let (Some(server), Some(record)) = (&self.server, &self.reading.newest) else { return Ok(()) };
        let foreign = |what: &str, stored: &str, ours: &str| {
            Err(Fault {
                kind: Kind::CheckpointForeign,
                message: format!(
                    "the checkpoint of pipeline `{}` belongs to {what} {stored}, this is {what} {ours}",
                    self.config.name
                ),
            })
        };
        if record.system_id != server.system_id {
            return foreign("the server with system id", &record.system_id, &server.system_id);
        }
        if record.database != server.database {
            return foreign("database", &record.database, &server.database);
        }
        let is_log = self.config.reads == Reads::Log && record.mode == Mode::Log.name();
        if let Some(slot) = record.slot.as_ref().filter(|slot| is_log && **slot != self.config.slot) {
            return foreign("slot", slot, &self.config.slot);
        }
        Ok(())
    }

    /// Where to start, if slot and checkpoint agree (postgres.md, section 7).
    pub(super) fn check_start(&mut self) -> Result<Frontier, Fault> {
        let server = self.server.clone().ok_or_else(|| internal("no server was inspected"))?;
        let slot = server.slot.as_ref().ok_or_else(|| Fault {
            kind: Kind::SlotMissing,
            message: format!("slot `{}` vanished while it was held", self.config.slot),
        })?;
        let record = self.reading.newest.clone();
        let stored = record.as_ref().and_then(Record::frontier);
        let (Some(record), Some(mut stored)) = (record, stored) else {
            if !self.is_bootstrap && self.reading.newest.is_none() {
                if self.is_exactly_once() {
                    return Err(unrecorded(&self.config.slot, slot.confirmed_flush));
                }
                self.note(Note::Adopted(slot.confirmed_flush));
            }
            self.progress.accepted_gaps.clear();
            return Ok(Frontier { end_lsn: slot.confirmed_flush, inside: None });
        };
        self.progress.accepted_gaps.clone_from(&record.accepted_gaps);
        self.progress.restore_pair(record.log_poll.clone());
        let published = published(stored.end_lsn, stored.inside.map(|inside| inside.commit_lsn));
        let accepted = |gap: Option<Lsn>| gap == Some(slot.confirmed_flush);
        if let Err(mut fault) = check_timeline(&server, record.timeline, published) {
            if !accepted(self.config.accept_gap) {
                fault.message.push_str(&format!("; the LSN to accept is {}", slot.confirmed_flush));
                return Err(fault);
            }
            // What the new history holds from where it parted on was never published.
            let parted = parting(&server, record.timeline, published).map_or(stored.end_lsn, |(_, at)| at.min(stored.end_lsn));
            self.accept_gap(parted, slot.confirmed_flush);
            return Ok(Frontier { end_lsn: slot.confirmed_flush, inside: None });
        }
        if stored.end_lsn > server.wal_end {
            let kind = if server.is_standby { Kind::SourceUnavailable } else { Kind::CheckpointAhead };
            return Err(Fault {
                kind,
                message: format!("the checkpoint stands at {}, the server's WAL ends at {}", stored.end_lsn, server.wal_end),
            });
        }
        if slot.confirmed_flush > stored.end_lsn {
            if !accepted(self.config.accept_gap) {
                return Err(Fault {
                    kind: Kind::Gap,
                    message: format!(
                        "slot `{}` stands at {}, {} bytes of WAL past the checkpoint at {}; the LSN to accept is {}",
                        self.config.slot,
                        slot.confirmed_flush,
                        slot.confirmed_flush.bytes_since(stored.end_lsn),
                        stored.end_lsn,
                        slot.confirmed_flush
                    ),
                });
            }
            self.accept_gap(stored.end_lsn, slot.confirmed_flush);
            return Ok(Frontier { end_lsn: slot.confirmed_flush, inside: None });
        }
        // The record by which the log takes over from polling is written by a session that began without a publication.
        let is_known = !record.publication_fingerprint.is_empty();
        if is_known && record.publication_fingerprint != server.publication.clone().unwrap_or_default() {
            self.note(Note::PublicationChanged);
            // Indexes inside a transaction count what the publication sends; with another one they mean nothing.
            stored.inside = None;
        }
        if record.config_fingerprint != self.config.config_fingerprint {
            self.note(Note::RoutesChanged(record.config_fingerprint, self.config.config_fingerprint.clone()));
        }
        Ok(stored)
    }

    pub(super) fn accept_gap(&mut self, from: Lsn, to: Lsn) {
        let gap = AcceptedGap { from, to, at: String::new() };
        self.progress.accepted_gaps.push(gap.clone());
        self.note(Note::GapAccepted(gap));
    }

    /// After a lost connection: is it still our server, our history, our slot?
    pub(super) fn check_resume(&self, server: &Server) -> Result<(), Fault> {
        let before = self.server.as_ref().ok_or_else(|| internal("no server was inspected"))?;
        if self.config.reads != Reads::Log {
            return self.check_poll_resume(before, server);
        }
        check_same_system(before, server)?;
        // Of the transaction cut short the window holds what is on its way, and the flow knows what was durable before a rewind.
        let begun = self.window.open_commit().max(self.flow.inside_commit());
        check_timeline(server, before.timeline, published(self.flow.received_end, begun))?;
        let slot = server.slot.as_ref().ok_or_else(|| Fault {
            kind: Kind::SlotMissing,
            message: format!("slot `{}` does not exist any more", self.config.slot),
        })?;
        if slot.is_lost {
            return Err(Fault { kind: Kind::SlotLost, message: format!("slot `{}` was invalidated", self.config.slot) });
        }
        if self.flow.received_end > server.wal_end {
            let kind = if server.is_standby { Kind::SourceUnavailable } else { Kind::CheckpointAhead };
            return Err(Fault {
                kind,
                message: format!("{} was received, but the server's WAL ends at {}", self.flow.received_end, server.wal_end),
            });
        }
        Ok(())
    }
}

pub(super) fn check_same_system(before: &Server, server: &Server) -> Result<(), Fault> {
    if before.system_id == server.system_id {
        return Ok(());
    }
    Err(Fault {
        kind: Kind::CheckpointForeign,
        message: format!("the server's system id changed from {} to {}", before.system_id, server.system_id),
    })
}

/// The end of what may have been published: of a transaction begun, at least the first byte of its commit record.
fn published(end_lsn: Lsn, begun: Option<Lsn>) -> Lsn {
    begun.map_or(end_lsn, |commit_lsn| end_lsn.max(Lsn(commit_lsn.0 + 1)))
}

/// The history of the server's timelines must contain everything that was published.
pub(super) fn check_timeline(server: &Server, timeline: u32, published: Lsn) -> Result<(), Fault> {
    if server.timeline < timeline {
        return Err(Fault {
            kind: Kind::TimelineDiverged,
            message: format!("the checkpoint is of timeline {timeline}, the server is on timeline {}", server.timeline),
        });
    }
    match parting(server, timeline, published) {
        None => Ok(()),
        Some((ended, at)) => Err(Fault {
            kind: Kind::TimelineDiverged,
            message: format!(
                "the server left timeline {ended} at {at}; what was published from {at} to {published} is not in its history"
            ),
        }),
    }
}

/// Where the server's history parts from the one that was published, if it does: the lowest of the later switches.
fn parting(server: &Server, timeline: u32, published: Lsn) -> Option<(u32, Lsn)> {
    server.switch_points.iter().copied().filter(|&(ended, at)| ended >= timeline && at < published).min_by_key(|&(_, at)| at)
}

pub(super) fn since(record: Option<&Record>) -> String {
    match record.and_then(|record| record.end_lsn) {
        Some(lsn) => format!("; the checkpoint stands at {lsn}"),
        None => String::new(),
    }
}

pub(super) fn internal(message: &str) -> Fault {
    Fault { kind: Kind::Internal, message: message.into() }
}

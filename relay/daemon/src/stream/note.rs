//! Tells people what the session tells us: one log line where a thing is handled, and its counter.

use super::Stream;
use relay_core::session::{Note, Rewind};
use relay_core::{Kind, Lsn};
use relay_failpoint::fail_point;
use tracing::{debug, error, info, warn};

impl Stream {
    pub(super) fn note(&mut self, note: Note) {
        match note {
            Note::Adopted(lsn) => {
                self.is_first_start = true;
                warn!(event = "checkpoint.adopted", lsn = %lsn, "no checkpoint was found: starting where the slot stands");
            }
            Note::Bootstrapping => {
                self.is_first_start = true;
                info!(event = "source.bootstrapping", "first start: creating publication and slot");
            }
            Note::PublishesAll => {
                warn!(event = "poll.everything", "no checkpoint was found: every row that the outbox tables hold is published")
            }
            Note::FromLog(pair) => warn!(
                event = "poll.from_log",
                snapshot = %pair.snapshot,
                lsn = %pair.lsn,
                hint = "the slot stays and holds WAL back until somebody drops it: `relay slot drop`",
                "the checkpoint is of log mode: polling starts at the snapshot it has; what was published since then comes twice"
            ),
            Note::ToLog => info!(
                event = "log.from_poll",
                "the checkpoint is of poll mode: a last tick up to the snapshot of a new slot, then the log; nothing comes twice"
            ),
            Note::LogTakesOver(lsn) => info!(event = "log.takes_over", lsn = %lsn, "polling is done, the log goes on"),
            Note::SlotLeft(slot) => warn!(
                event = "slot.left_over",
                slot,
                hint = "drop it with `relay slot drop`",
                "a switch to the log had begun and left a slot, which holds WAL back"
            ),
            Note::Standby(message) => info!(event = "slot.standby", "another instance streams, waiting to take over: {message}"),
            Note::Streaming { epoch, .. } if self.polling.is_some() => {
                if let Some(polling) = &mut self.polling {
                    polling.started(&self.session);
                }
                info!(event = "source.polling", snapshot = %self.session.newest_tick().snapshot, epoch, "polling");
            }
            Note::Streaming { frontier, epoch } => {
                if !self.is_first_start {
                    self.open.previous_end.get_or_insert(frontier.end_lsn);
                }
                self.goes_on_at(frontier.end_lsn);
                self.forget_waiting();
                info!(event = "source.streaming", lsn = %frontier.end_lsn, epoch, "streaming");
            }
            Note::Resumed(_) if self.polling.is_some() => {
                self.metrics.reconnect("source");
                info!(event = "source.resumed", "polling goes on");
            }
            Note::Resumed(lsn) => {
                self.metrics.reconnect("source");
                self.goes_on_at(lsn);
                info!(event = "source.resumed", lsn = %lsn, "the stream goes on");
            }
            Note::GapAccepted(gap) => {
                warn!(event = "gap.accepted", from = %gap.from, to = %gap.to, "the gap is accepted: its changes will not be published");
            }
            Note::Rewinding(reason) => {
                if let Some(polling) = &mut self.polling {
                    polling.rewound();
                }
                self.metrics.rewind(reason);
                warn!(event = "sink.rewind", reason = name(reason), "going back to the frontier and sending again from there");
            }
            Note::Isolating(until) => {
                fail_point!("isolate");
                warn!(event = "sink.isolating", position = %until, "a batch was refused: sending one record at a time up to this position");
            }
            Note::Culprit(position) => {
                warn!(event = "event.refused", position = %position, "the broker refuses this event alone");
            }
            Note::PublicationChanged => {
                warn!(
                    event = "publication.changed",
                    "publication, messages or origin changed since the checkpoint; a transaction that was half published is published again"
                );
            }
            Note::RoutesChanged(before, now) => {
                warn!(event = "routes.changed", before, now, "routes, partitioner or topics changed since the checkpoint");
            }
            Note::Fault(fault, wait_ms) => {
                let directive = fault.kind.directive();
                let is_repeated = self.status.progress().last_error.as_ref().is_some_and(|last| last.message == fault.message);
                self.metrics.retry(directive.stage);
                self.remember_error(fault.kind, &fault.message);
                let code = directive.code;
                match directive.action {
                    relay_core::error::Action::StopStream | relay_core::error::Action::StopProcess(_) if !is_repeated => {
                        error!(event = "stream.stopped", error.code = code, hint = directive.hint, "{}", fault.message);
                    }
                    _ if !is_repeated => {
                        warn!(
                            event = "stream.failed",
                            error.code = code,
                            hint = directive.hint,
                            retry_ms = wait_ms,
                            "{}",
                            fault.message
                        );
                    }
                    _ => info!(event = "stream.failed_again", error.code = code, retry_ms = wait_ms, "{}", fault.message),
                }
            }
            Note::SnapshotBegins { job, is_initial, tables } => {
                info!(
                    event = "snapshot.begins",
                    snapshot = job,
                    is_initial,
                    tables,
                    "a snapshot of captured tables begins, or goes on"
                );
            }
            Note::SnapshotWaits => self.tell_open_writers(),
            Note::SnapshotTableAgain(table) => {
                warn!(event = "snapshot.table_again", table, "the table was rewritten or emptied: its snapshot starts again");
            }
            Note::SnapshotTableGone(table) => {
                warn!(
                    event = "snapshot.table_gone",
                    table, "the table was dropped, or is published no more: its snapshot ends here"
                );
            }
            Note::SnapshotDone(job) => info!(event = "snapshot.done", snapshot = job, "the snapshot is published"),
            Note::SnapshotRefused(job, fault) => {
                self.remember_error(fault.kind, &fault.message);
                let directive = fault.kind.directive();
                error!(
                    event = "snapshot.refused",
                    snapshot = job,
                    error.code = directive.code,
                    hint = directive.hint,
                    "the snapshot is called off: {}",
                    fault.message
                );
            }
            Note::Split(commit_lsn) => {
                self.metrics.split();
                info!(event = "transaction.split", commit_lsn = %commit_lsn, "a source transaction is published in parts");
            }
            Note::Doubt => {
                warn!(event = "commit.doubt", "whether the last commit happened is not known: taking a new client to find out")
            }
            Note::Settled(true) => info!(event = "commit.settled", "the commit in doubt had happened"),
            Note::Settled(false) => {
                info!(event = "commit.settled", "the commit in doubt had not happened: its events are sent again")
            }
            Note::GuaranteeChanged(before) => warn!(
                event = "guarantee.changed",
                before, "the checkpoint was written under another guarantee: what was in flight then may come twice"
            ),
            Note::StoreFailed(message) => {
                let is_repeated = self.status.progress().last_error.as_ref().is_some_and(|last| last.message == message);
                self.remember_error(Kind::CheckpointUnreachable, &message);
                if is_repeated {
                    debug!(event = "checkpoint.failed_again", "the checkpoint was not stored and is repeated: {message}");
                } else {
                    let directive = Kind::CheckpointUnreachable.directive();
                    warn!(
                        event = "checkpoint.failed",
                        error.code = directive.code,
                        hint = directive.hint,
                        "the checkpoint was not stored and is repeated: {message}"
                    );
                }
            }
        }
    }

    /// The stream begins behind `end_lsn`.
    fn goes_on_at(&mut self, end_lsn: Lsn) {
        self.open.goes_on_at(end_lsn);
        if let Some(ring) = &mut self.ring {
            ring.begin(&self.open);
        }
    }
}

fn name(reason: Rewind) -> &'static str {
    match reason {
        Rewind::Rejected => "rejected",
        Rewind::UnknownTopic => "unknown_topic",
        Rewind::Producer => "producer",
        Rewind::Source => "source",
    }
}

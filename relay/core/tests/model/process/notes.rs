//! What the session says of itself, held against what the world knows.

use super::super::world::World;
use super::Process;
use relay_core::session::Note;
use relay_core::{Kind, Lsn};

impl Process {
    pub(super) fn note(&mut self, note: Note, world: &mut World) {
        match note {
            Note::Streaming { frontier, epoch } => {
                let (highest, stored, timeline, publication) = self.read.clone().expect("the store was read before the claim");
                assert!(epoch > highest, "I8: epoch {epoch} is claimed, {highest} was read");
                if let Some(stored) = stored
                    && !world.gap_accepted_by(self.id)
                {
                    assert_eq!(frontier.end_lsn, stored.end_lsn, "I8: the start takes the record that wins");
                    let is_same = publication == format!("v{}", self.option);
                    assert_eq!(frontier.inside, stored.inside.filter(|_| is_same), "D6: indexes count for one publication only");
                    let history = self.session.server().map(|server| server.switch_points.clone()).unwrap_or_default();
                    for (left, at) in history.into_iter().filter(|&(left, _)| left >= timeline) {
                        assert!(stored.end_lsn <= at, "published to {} of timeline {left}, left at {at}", stored.end_lsn);
                    }
                }
                // A peer may have been at it until now, or be still without having noticed.
                world.may_duplicate |= world.has_peers && epoch > 1;
                self.has_claimed = true;
                self.started_after = self.meddled;
                world.seen_meddling = world.seen_meddling.max(self.meddled);
            }
            Note::Resumed(lsn) => {
                world.figures.resumes += 1;
                if let Some((_, at)) = world.postgres.left_at() {
                    let inside = self.session.durable().inside.map(|inside| inside.commit_lsn);
                    let begun = self.session.window().open_commit().max(inside).map_or(Lsn::ZERO, |commit| Lsn(commit.0 + 1));
                    let is_old = self.session.server().is_some_and(|server| server.timeline < world.postgres.timeline);
                    assert!(!is_old || lsn.max(begun) <= at, "resumed past {at}, where the timeline was left");
                }
            }
            Note::Rewinding(_) => {
                world.figures.rewinds += 1;
            }
            Note::GapAccepted(gap) => {
                // Where the slot stands may be below what was published.
                world.oracle.is_exact = false;
                world.oracle.excuse_range(gap.from, gap.to);
                world.accept_gap(self.id);
            }
            Note::Fault(fault, _) => {
                let is_called_for = match fault.kind {
                    Kind::Gap => self.meddled > world.seen_meddling,
                    Kind::TimelineDiverged => self.meddled > world.seen_meddling || self.meddled > self.started_after,
                    Kind::SlotMissing => world.postgres.meddled > 0,
                    Kind::CheckpointForeign => world.has_impostor,
                    Kind::CheckpointMissing => world.was_wiped,
                    Kind::Fenced => world.has_peers || world.now_ms > 60_000,
                    Kind::CheckpointAhead | Kind::CheckpointUnusable | Kind::SourceProtocol | Kind::Internal => false,
                    Kind::SinkRejected => world.kafka.weather.is_strict || world.kafka.refusals > 0,
                    _ => true,
                };
                assert!(is_called_for, "a false alarm: {:?}: {}", fault.kind, fault.message);
            }
            Note::Standby(_) => world.may_duplicate |= self.has_claimed,
            Note::PublicationChanged => {
                // A transaction that was published in part comes again as a whole.
                world.oracle.is_exact = false;
                world.may_duplicate = true;
            }
            Note::GuaranteeChanged(_) => world.oracle.is_exact = false,
            Note::Split(_) => world.figures.splits += 1,
            Note::Doubt => world.figures.doubts += 1,
            Note::Settled(has_happened) => world.figures.hidden += u64::from(has_happened),
            Note::Culprit(_) => world.figures.culprits += 1,
            _ => {}
        }
    }
}

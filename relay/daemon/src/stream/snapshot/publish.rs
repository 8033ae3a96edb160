//! Rows of snapshots on their way to the sink: those of a chunk at its second watermark, and one row as such.

use super::{Stand, Watch};
use crate::stream::Stream;
use crate::stream::pass::{At, GivenUp, Offered, Pass, Place, Share, named};
use crate::stream::read::Flow;
use crate::stream::{FULL_WAIT, Why};
use relay_core::session::{Admission, Fault, RowAdmission, Watermark};
use relay_core::{Cell, Change, Kind, Lsn, Poison, Position, Relation, Row};
use relay_encode::dlq::Origin;
use relay_encode::{CapturePlan, Context, Encoded, Marker};
use relay_failpoint::fail_point;
use relay_postgres::snapshot::split_line;

/// Buffers that a row's values are found with.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) cells: Vec<Cell>,
    pub(super) scratch: Vec<u8>,
    pub(super) key: Vec<u8>,
}

impl Stream {
    /// A watermark is the stream's current change.
    pub(in crate::stream) fn watermark(&mut self, place: Place, content: &[u8]) -> Flow {
        if let Admission::Covered = self.session.admit() {
            self.session.passed();
            return Flow::Done;
        }
        if let Watermark::Publish(number) = self.session.watermark(content) {
            fail_point!("high-watermark");
            match self.publish_chunk(place, number) {
                Flow::Done => self.session.chunk_sent(),
                flow => return flow,
            }
        } else if let Some(number) = self.session.watched_chunk()
            && let Some(snapshots) = &self.snapshots
        {
            fail_point!("low-watermark");
            let database = self.session.server().map(|server| server.database.clone()).unwrap_or_default();
            self.watch.begin(&mut self.session, number, &snapshots.desk, self.routes.captures(), &database);
        }
        self.session.passed();
        Flow::Done
    }

    /// The rows of a chunk that nothing has outdated.
    fn publish_chunk(&mut self, place: Place, number: u64) -> Flow {
        let kept = self.snapshots.as_mut().and_then(|snapshots| snapshots.kept.take());
        let Some(mut kept) = kept.filter(|kept| kept.chunk.number == number) else {
            let message = format!("the rows of chunk {number} are not at hand at its second watermark");
            return Flow::Stop(Fault { kind: Kind::Internal, message });
        };
        let mut watch = std::mem::take(&mut self.watch);
        let mut found = Found::default();
        let flow = loop {
            let Some((tid, line)) = kept.rows.row(kept.next) else { break Flow::Done };
            match self.publish_row(place, &kept, tid, line, &mut watch, &mut found) {
                Flow::Done => kept.next += 1,
                flow => break flow,
            }
        };
        self.watch = watch;
        if !matches!(flow, Flow::Done)
            && let Some(snapshots) = &mut self.snapshots
        {
            snapshots.kept = Some(kept);
        }
        flow
    }

    fn publish_row(
        &mut self,
        place: Place,
        kept: &super::Kept,
        tid: relay_core::checkpoint::Tid,
        line: &[u8],
        watch: &mut Watch,
        found: &mut Found,
    ) -> Flow {
        let Some((shape, plan)) = watch.plan(kept.chunk.number) else { return Flow::Done };
        let row = Row::new(split_line(line, &mut found.cells, &mut found.scratch), &found.cells);
        found.key.clear();
        let has_key = plan.identity(&row, &mut found.key);
        if self.session.is_superseded(has_key.then_some(&found.key)) {
            return Flow::Done;
        }
        let condemned = match self.session.admit_row(tid) {
            RowAdmission::Fresh => None,
            RowAdmission::Condemned(poison) => Some(poison),
        };
        let (_, _, mut pass) = self.split(place);
        pass.event.expect(line.len());
        let stand = Stand { lsn: pass.transaction.commit_lsn, chunk: u64::from(kept.chunk.from.block_number()) };
        let at = At {
            position: Position { commit_lsn: stand.lsn, seq: kept.next as u64 },
            relay_pos: stand.of_row(plan.has_key(), kept.next as u64),
        };
        let flow = pass.snapshot_row(plan, &shape.relation, row, at, Marker::Incremental, Share::More, condemned);
        if matches!(flow, Flow::Done)
            && let Some(snapshots) = &mut self.snapshots
        {
            snapshots.count(&kept.chunk.table);
        }
        flow
    }
}

impl Pass<'_> {
    /// One row of a snapshot, in whatever share of a change it goes; [`Flow::Done`] when it is dealt with.
    #[expect(clippy::too_many_arguments, reason = "a row, where it stands, and what it is to others")]
    #[inline]
    pub(in crate::stream) fn snapshot_row(
        &mut self,
        plan: &CapturePlan,
        relation: &Relation,
        row: Row<'_>,
        at: At<'_>,
        marker: Marker,
        share: Share,
        condemned: Option<Poison>,
    ) -> Flow {
        if !self.session.has_room(0) {
            return Flow::Blocked(Why::Full, FULL_WAIT);
        }
        let change = Change::Insert { relation, new: row };
        let context = Context {
            transaction: self.transaction,
            pos: at.relay_pos,
            lsn: if marker == Marker::Incremental { Lsn::ZERO } else { self.place.lsn },
            previous_end: None,
            origin: None,
            now_ns: self.now_ns,
            marker,
            order: None,
        };
        let poison = match (plan.encode(&context, &change, 0, self.event), condemned) {
            (Ok(Encoded::Filtered(reason)), _) => {
                self.metrics.filtered(reason.name());
                return Flow::Done;
            }
            (Ok(_), Some(poison)) => poison,
            (Ok(_), None) => match self.offer(None, share) {
                Offered::Sent => return Flow::Done,
                Offered::Not(flow) => return flow,
                Offered::Poison(poison) => named(poison, &change),
            },
            (Err(poison), _) => named(poison, &change),
        };
        match self.give_up(at, &poison, Origin::Captured(&change, plan), Share::Beside) {
            GivenUp::Parked => Flow::Done,
            GivenUp::All(flow) => flow,
        }
    }
}

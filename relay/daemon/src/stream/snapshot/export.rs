//! Rows of an exported snapshot: from several connections, in the order of the tables, straight to the sink.

use super::held::{Markers, release};
use super::publish::Found;
use super::{Stand, watch};
use crate::stream::Stream;
use crate::stream::pass::{At, Place, Share};
use crate::stream::read::{Flow, SHORT_READ_BYTES, TURN_BYTES};
use relay_core::session::{Chunk, Exported, Fault};
use relay_core::{Kind, Position, Row, Transaction, Xid};
use relay_encode::{CapturePlan, Marker, SnapshotMarker};
use relay_failpoint::fail_point;
use relay_postgres::snapshot::{Exporting, ReaderHead, Shape, Tables, split_line};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// An export under way.
pub(super) struct Export {
    exporting: Exporting,
    tables: Arc<Tables>,
    exported: Exported,
    plans: Plans,
    /// Rows of its chunk that each reader has passed.
    passed: Vec<u64>,
    markers: Markers,
    held: Option<Held>,
    found: Found,
    is_told_of: bool,
}

/// The tables whose rows have come: few, and the next row is mostly of the same one, so that its name is not even compared.
#[derive(Default)]
struct Plans {
    list: Vec<Planned>,
    last: usize,
}

/// How the rows of a table look, and what becomes of them.
struct Planned {
    table: Arc<str>,
    shape: Arc<Shape>,
    plan: CapturePlan,
}

/// A row that may be the last of its table.
struct Held {
    line: Vec<u8>,
    chunk: Chunk,
    row: u64,
    mark: SnapshotMarker,
    /// Its chunk has ended: done when this row is sent.
    has_ended: bool,
}

/// Wait for a connection while others may have rows.
const GLANCE: Duration = Duration::from_millis(1);

// === impl Export ===

impl Export {
    pub(super) fn new(exporting: Exporting, tables: Arc<Tables>, exported: Exported) -> Self {
        let passed = vec![0; exporting.readers.len()];
        let markers = Markers::new(tables.0.values().next().map(|found| Arc::clone(&found.listed.stream)));
        Self {
            exporting,
            tables,
            exported,
            plans: Plans::default(),
            passed,
            markers,
            held: None,
            found: Found::default(),
            is_told_of: false,
        }
    }

    /// The oldest chunk under way: its table's rows come now.
    fn table(&self) -> Option<Arc<str>> {
        let chunks = self.exporting.readers.iter().filter_map(|reader| reader.chunk());
        chunks.min_by_key(|chunk| chunk.number).map(|chunk| Arc::clone(&chunk.table))
    }
}

impl Stream {
    /// Reads what has come of the export and gives it to the sink; how long to wait when there is nothing.
    pub(in crate::stream) fn export_turn(&mut self) -> Duration {
        let Some(mut export) = self.snapshots.as_mut().and_then(|snapshots| snapshots.export.take()) else {
            let message = "the connections that read the slot's snapshot are gone".into();
            self.session.export_failed(Fault { kind: Kind::SourceLost, message });
            return Duration::ZERO;
        };
        if self.blocked.is_some() {
            self.unblock_or_keep();
        }
        self.now_ns = crate::status::unix_ns();
        let flow = self.export_rows(&mut export);
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.export = Some(export);
        }
        match flow {
            Ok(wait) => return wait,
            Err(Flow::Blocked(why, wait)) => self.blocked_by(why, wait),
            Err(Flow::Poisoned(suspect)) => self.poisoned(&suspect),
            Err(Flow::Stop(fault) | Flow::Lost(fault)) => self.session.export_failed(fault),
            Err(_) => {}
        }
        self.obey();
        Duration::ZERO
    }

    /// The export is over, whichever way: its connections are let go.
    pub(in crate::stream) fn end_export(&mut self) {
        let Some(snapshots) = &mut self.snapshots else { return };
        if snapshots.export.is_some() && !self.session.is_exporting() {
            snapshots.export = None;
        }
        if snapshots.export.is_none() && !self.session.needs_export() {
            snapshots.slot = None;
        }
    }

    fn export_rows(&mut self, export: &mut Export) -> Result<Duration, Flow> {
        if !export.is_told_of {
            export.is_told_of = true;
            let readers = export.exporting.readers.len();
            let lsn = export.exported.consistent;
            tracing::info!(event = "snapshot.exported", lsn = %lsn, readers, "reading tables as of the slot's beginning");
        }
        self.ask_for_chunks(export)?;
        let mut handled = 0;
        let Some(table) = export.table() else {
            // Everything was read: nothing follows the row that is held.
            self.release_held(export, None)?;
            return Ok(Duration::ZERO);
        };
        for at in 0..export.exporting.readers.len() {
            if export.exporting.readers[at].chunk().is_some_and(|chunk| chunk.table == table) {
                self.read_export(export, at, &mut handled)?;
            }
        }
        if handled > 0 {
            if self.blocked.is_some() {
                self.unblock();
            }
            return Ok(Duration::ZERO);
        }
        // Chunks of the table may have ended in this turn.
        if export.table().as_ref() != Some(&table) {
            return Ok(Duration::ZERO);
        }
        self.fill_export(export, &table)
    }

    fn ask_for_chunks(&mut self, export: &mut Export) -> Result<(), Flow> {
        for round in 0..2 {
            for at in 0..export.exporting.readers.len() {
                let reader = &export.exporting.readers[at];
                if !reader.has_room() || (round == 0 && reader.chunk().is_some()) {
                    continue;
                }
                let Some(chunk) = self.session.next_export() else { return Ok(()) };
                export.exporting.ask(at, &export.tables, chunk).map_err(|error| Flow::Lost(error.fault()))?;
            }
        }
        Ok(())
    }

    /// Nothing was there: reads from the connections that have rows of the table, and waits a little if nothing comes.
    fn fill_export(&mut self, export: &mut Export, table: &Arc<str>) -> Result<Duration, Flow> {
        let mut received = 0;
        let mut eligible = Vec::new();
        for (at, reader) in export.exporting.readers.iter_mut().enumerate() {
            if reader.chunk().is_some_and(|chunk| chunk.table == *table) {
                received += reader.fill(Duration::ZERO).map_err(|error| Flow::Lost(error.fault()))?;
                eligible.push(at);
            }
        }
        if received == 0
            && let Some(&at) = eligible.first()
        {
            let wait = if eligible.len() > 1 { GLANCE } else { crate::stream::BUSY_WAIT };
            received = export.exporting.readers[at].fill(wait).map_err(|error| Flow::Lost(error.fault()))?;
            if received == 0 {
                // Only now: a server that pours is often a moment behind, and a flush cuts the batches that are filling.
                self.nudge();
            }
        }
        self.tally.received_bytes(received);
        if received > 0
            && received < SHORT_READ_BYTES
            && let Some(wait) = self.config.coalesce
        {
            // As in the stream: an eager reader is woken for each few rows, which costs the server more than it gains.
            std::thread::sleep(wait);
        }
        Ok(Duration::ZERO)
    }

    /// Everything that one connection has.
    fn read_export(&mut self, export: &mut Export, at: usize, handled: &mut usize) -> Result<(), Flow> {
        let mut budget = TURN_BYTES;
        loop {
            let Export { exporting, .. } = export;
            let reader = &mut exporting.readers[at];
            let (line, is_last) = match reader.head().map_err(|error| Flow::Lost(error.fault()))? {
                ReaderHead::Row(line, is_last) => (line, is_last),
                ReaderHead::End => {
                    let Some(chunk) = reader.end_chunk() else { return Ok(()) };
                    fail_point!("snapshot-chunk");
                    export.passed[at] = 0;
                    *handled += 1;
                    match &mut export.held {
                        Some(held) if held.chunk.number == chunk.number => held.has_ended = true,
                        _ => self.session.export_sent(chunk.number),
                    }
                    return Ok(());
                }
                ReaderHead::Pending | ReaderHead::Idle => return Ok(()),
            };
            let size = line.len();
            if is_last {
                let line = line.to_vec();
                self.hold(export, at, line)?;
            } else {
                self.pass_row(export, at)?;
            }
            export.exporting.readers[at].consume();
            export.passed[at] += 1;
            *handled += 1;
            budget = budget.saturating_sub(size);
            if budget == 0 {
                return Ok(());
            }
        }
    }

    /// A row that others of its chunk follow.
    #[inline]
    fn pass_row(&mut self, export: &mut Export, at: usize) -> Result<(), Flow> {
        let Some(chunk) = export.exporting.readers[at].chunk() else { return Ok(()) };
        if export.held.is_some() {
            let stream = Arc::clone(&chunk.stream);
            self.release_held(export, Some(&stream))?;
        }
        let Export { exporting, exported, plans, passed, markers, found, .. } = export;
        let row = passed[at];
        // The line is looked for again: until here it stood in the way of everything else.
        let Some((chunk, line)) = exporting.readers[at].row().map_err(|error| Flow::Lost(error.fault()))? else { return Ok(()) };
        let mark = markers.next(&chunk.stream);
        match self.export_row(chunk, line, row, mark, exported, &exporting.shapes, plans, found) {
            Flow::Done => {
                markers.pass(&chunk.stream);
                Ok(())
            }
            flow => Err(flow),
        }
    }

    /// The last row of a chunk may be the last of its table.
    fn hold(&mut self, export: &mut Export, at: usize, line: Vec<u8>) -> Result<(), Flow> {
        let Some(chunk) = export.exporting.readers[at].chunk().cloned() else { return Ok(()) };
        self.release_held(export, Some(&chunk.stream))?;
        let mark = export.markers.next(&chunk.stream);
        export.markers.pass(&chunk.stream);
        export.held = Some(Held { line, row: export.passed[at], chunk, mark, has_ended: false });
        Ok(())
    }

    /// Sends the row that is held: one of that table follows.
    fn release_held(&mut self, export: &mut Export, next: Option<&str>) -> Result<(), Flow> {
        let Export { exporting, exported, plans, found, held, .. } = export;
        let Some(row) = held else { return Ok(()) };
        let mark = release(row.mark, &row.chunk.stream, next);
        match self.export_row(&row.chunk, &row.line, row.row, mark, exported, &exporting.shapes, plans, found) {
            Flow::Done => {
                if row.has_ended {
                    self.session.export_sent(row.chunk.number);
                }
                *held = None;
                Ok(())
            }
            flow => Err(flow),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of an export, of which the caller borrows others")]
    #[inline]
    fn export_row(
        &mut self,
        chunk: &Chunk,
        line: &[u8],
        row: u64,
        mark: SnapshotMarker,
        exported: &Exported,
        shapes: &HashMap<String, Arc<Shape>>,
        plans: &mut Plans,
        found: &mut Found,
    ) -> Flow {
        let Planned { shape, plan, .. } = match plans.find(&chunk.table) {
            Some(at) => &plans.list[at],
            None => match self.plan_export(&chunk.table, shapes) {
                Ok(planned) => plans.add(planned),
                Err(flow) => return flow,
            },
        };
        let lsn = exported.consistent;
        let stand = Stand { lsn, chunk: u64::from(chunk.from.block_number()) };
        let values = Row::new(split_line(line, &mut found.cells, &mut found.scratch), &found.cells);
        let at = At { position: Position { commit_lsn: lsn, seq: row }, relay_pos: stand.of_row(plan.has_key(), row) };
        let (_, _, mut pass) = self.split(Place { lsn, send_time_us: 0 });
        pass.event.expect(line.len());
        pass.transaction = Transaction {
            commit_lsn: lsn,
            commit_time_us: exported.tick.time_us,
            xid: Xid(exported.tick.snapshot.xmax() as u32),
        };
        let flow = pass.snapshot_row(plan, &shape.relation, values, at, Marker::Snapshot(mark), Share::Last, None);
        if matches!(flow, Flow::Done)
            && let Some(snapshots) = &mut self.snapshots
        {
            snapshots.count(&chunk.table);
        }
        flow
    }
    #[cold]
    fn plan_export(&self, table: &Arc<str>, shapes: &HashMap<String, Arc<Shape>>) -> Result<Planned, Flow> {
        let Some(shape) = shapes.get(&**table) else {
            return Err(Flow::Lost(Fault { kind: Kind::SourceUnavailable, message: format!("table {table} is gone") }));
        };
        let database = self.session.server().map(|server| server.database.clone()).unwrap_or_default();
        let plan = watch::plan(shape, self.routes.captures(), &database).map_err(Flow::Stop)?;
        Ok(Planned { table: Arc::clone(table), shape: Arc::clone(shape), plan })
    }
}

// === impl Plans ===

impl Plans {
    #[inline]
    fn find(&mut self, table: &Arc<str>) -> Option<usize> {
        if !self.list.get(self.last).is_some_and(|planned| Arc::ptr_eq(&planned.table, table)) {
            self.last = self.list.iter().position(|planned| planned.table == *table)?;
        }
        Some(self.last)
    }

    fn add(&mut self, planned: Planned) -> &Planned {
        self.last = self.list.len();
        self.list.push(planned);
        &self.list[self.last]
    }
}

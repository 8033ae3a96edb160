//! Chunks in the snapshot that a new slot exported: read by several connections at once, before the first word of the stream is.

use super::chunk::Chunk;
use super::{Copying, Step};
use crate::checkpoint::Tid;
use crate::session::{Exported, Fault, Phase, Session};
use std::sync::Arc;

/// Where an export stands.
#[derive(Debug, Default)]
pub(super) struct Export {
    /// The table to cut chunks from, and where in it.
    table: usize,
    at: Tid,
    /// There is no other.
    is_cut: bool,
    /// Chunks that are being read.
    under_way: Vec<Chunk>,
}

// === impl Copying ===

impl Copying {
    pub(in crate::session) fn is_exporting(&self) -> bool {
        matches!(self.step, Step::Exporting(_))
    }

    /// Whether the stream waits for an export, or for one to begin.
    pub(in crate::session) fn holds_stream(&self) -> bool {
        self.is_exporting() || self.exported.is_some()
    }

    fn cut_export(&mut self) -> Option<Chunk> {
        let (Step::Exporting(export), Some(tables), Some(config)) = (&mut self.step, &self.tables, self.config) else {
            return None;
        };
        let job = self.position.jobs.first()?;
        loop {
            let Some(table) = tables.get(export.table) else {
                export.is_cut = true;
                return None;
            };
            let open = job.progress.as_ref().and_then(|progress| progress.get(&*table.listed.name)?.as_open());
            let gap = open.filter(|_| !table.listed.is_rewritten).and_then(|open| open.gap(export.at));
            let Some((from, to)) = gap else {
                (export.table, export.at) = (export.table + 1, Tid::default());
                continue;
            };
            let to = table.cut(from, to, config.chunk_rows as f64);
            export.at = to;
            self.number += 1;
            let chunk = Chunk {
                number: self.number,
                job: job.number,
                table: Arc::clone(&table.listed.name),
                stream: Arc::clone(&table.listed.stream),
                file: table.listed.file,
                from,
                to,
                filter: None,
            };
            export.under_way.push(chunk.clone());
            return Some(chunk);
        }
    }
}

// === impl Session ===

impl Session {
    pub(super) fn begin_export(&mut self, exported: &Exported) {
        self.window.begin_snapshot(exported.consistent, exported.tick.time_us);
        self.copying.step = Step::Exporting(Export::default());
    }

    /// Whether rows of an exported snapshot may be read and sent now; the stream waits for them.
    #[inline]
    #[must_use]
    pub fn is_exporting(&self) -> bool {
        self.copying.is_exporting() && self.phase == Phase::Streaming && self.drain.is_none()
    }

    /// The next chunk of the export, in the order of the tables; `None` when all were given out.
    pub fn next_export(&mut self) -> Option<Chunk> {
        self.copying.cut_export()
    }

    /// Every row of that chunk was given to the sink.
    pub fn export_sent(&mut self, number: u64) {
        let ticket = self.window.next_ticket();
        if let Step::Exporting(export) = &mut self.copying.step
            && let Some(at) = export.under_way.iter().position(|chunk| chunk.number == number)
        {
            self.copying.handed.push_back((ticket, export.under_way.swap_remove(at)));
        }
    }

    /// The export cannot go on: what it leaves is read between watermarks.
    pub fn export_failed(&mut self, fault: Fault) {
        if self.copying.is_exporting() {
            self.copy_failed(fault);
        }
    }

    /// When every chunk was given to the sink, the stream goes on.
    pub(super) fn end_export_if_through(&mut self) {
        if matches!(&self.copying.step, Step::Exporting(export) if export.is_cut && export.under_way.is_empty()) {
            self.window.end_snapshot();
            self.copying.step = Step::Idle;
        }
    }
}

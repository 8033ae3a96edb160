//! Snapshots of captured tables: what is read when, and what of it may be published and called done (postgres.md, section 19).
//!
//! A chunk is a range of heap blocks. A row that nobody changed since the snapshot began is still in its place, and so in exactly one
//! chunk; a changed one has an event in the stream. So no chunk is owed twice, whatever crashes, as long as its table keeps its file.
//! Right behind the creation of our own slot chunks are read in the snapshot that it exported (`export`). Everything else is read while
//! streaming, between two watermarks in the log (`watermark`).

mod chunk;
mod export;
mod seen;
mod turn;
mod watch;
mod watermark;

pub use chunk::{Chunk, ChunkRead, Listed, Listing};
pub use watermark::{Look, RowAdmission, Watermark};

use super::Exported;
use crate::checkpoint::{Record, SnapshotPosition, TablePosition, Tid};
use crate::lsn::Lsn;
use crate::snapshot::Snapshot;
use crate::window::{Frontier, Ticket};
use chunk::Table;
use export::Export;
use seen::Seen;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use watch::Watch;

/// So many failures on the way to the first row of an export end it.
const EXPORT_FAILURES: u32 = 8;

/// When captured tables are read as a whole, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// `snapshot.mode`.
    pub mode: SnapshotMode,
    /// `snapshot.chunk`: rows of a chunk, about.
    pub chunk_rows: u64,
}

/// `snapshot.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotMode {
    /// At the very first start.
    #[default]
    Initial,
    /// Only those that are asked for.
    Never,
    /// At each start.
    Always,
    /// At the very first start, and that is all: then the session ends.
    Only,
}

/// What the session knows of snapshots.
#[derive(Debug, Default)]
pub(super) struct Copying {
    /// `None` where no table is captured.
    config: Option<SnapshotConfig>,
    /// What is owed and what is done, as the next checkpoint says it.
    position: SnapshotPosition,
    /// How often `position` has changed: now, in the record being stored, and in the one stored last.
    version: u64,
    storing: u64,
    stored: u64,
    /// Somebody waits for the next checkpoint.
    is_urgent: bool,
    step: Step,
    /// Tables of the first snapshot that is owed, once they are listed.
    tables: Option<Vec<Table>>,
    /// The newest number of a question to the driver.
    number: u64,
    /// Chunks that were given to the sink at a watermark, and are not done before the frontier has passed that.
    emitted: VecDeque<Emitted>,
    /// Chunks of the export that were given to the sink, and are done when every event before the ticket is durable.
    handed: VecDeque<(Ticket, Chunk)>,
    watch: Watch,
    seen: Seen,
    /// A chunk has that many times fewer rows than it should, because a larger one did not fit.
    divisor: f64,
    /// How often a chunk was read again: for good, and in a row.
    rereads: u64,
    rereads_in_a_row: u32,
    /// `always` has begun in this process.
    has_begun: bool,
    /// The snapshot that our new slot exported, while it can be used.
    exported: Option<Exported>,
    /// How often what comes before its first row failed.
    export_failures: u32,
    /// A row that the broker refuses is being looked for, up to this place: one record at a time.
    careful: Option<(Arc<str>, Tid)>,
    /// The row offered last, and the one sent last while a culprit is looked for.
    offered: Option<Tid>,
    sent: Option<(Arc<str>, Tid)>,
    /// Rows that the broker refused alone: its words, and until when that is taken for final.
    condemned: HashMap<(Arc<str>, Tid), (String, u64)>,
}

/// What is under way. A question that is not answered yet is known by its number.
#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    Pause {
        until_ms: u64,
    },
    Listing(u64),
    Looking(u64),
    Exporting(Export),
    /// The first watermark and the read are ordered.
    Reading(Chunk),
    /// The read is done, the second watermark ordered.
    Marking(Chunk, Read),
    /// The second watermark is the stream's current change.
    Emitting(Chunk, Read),
}

/// How reading a chunk went.
#[derive(Debug)]
struct Read {
    end: Tid,
    rows: u64,
    snapshot: Snapshot,
}

#[derive(Debug)]
struct Emitted {
    /// Commit of the second watermark.
    commit_lsn: Lsn,
    job: u64,
    table: Arc<str>,
    file: u32,
    from: Tid,
    to: Tid,
}

/// How far the snapshots are, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// Number of the one in work.
    pub job: u64,
    /// Whether that is the pipeline's own.
    pub is_initial: bool,
    /// Snapshots that wait behind it.
    pub waiting: u64,
    /// The table in work.
    pub table: Option<Arc<str>>,
    /// Tables in all, once they are listed.
    pub tables: Option<u64>,
    /// Of which are not done.
    pub tables_remaining: u64,
    /// Blocks of the tables that are not done.
    pub blocks: u64,
    /// Of which are done.
    pub blocks_done: u64,
    /// Chunks read again since the process began, because the read did not see what was streamed already.
    pub rereads: u64,
    /// Whether it is read in the snapshot that the slot's creation exported: the stream waits.
    pub is_export: bool,
}

// === impl Copying ===

impl Copying {
    pub(super) fn new(config: Option<SnapshotConfig>) -> Self {
        Self { config, divisor: 1.0, ..Self::default() }
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn changed(&mut self) {
        self.version += 1;
    }

    /// What a checkpoint at that frontier says of snapshots; `None` where nothing was ever owed.
    pub(super) fn record(&self, end_lsn: Lsn) -> Option<SnapshotPosition> {
        let mut position = self.position.clone();
        for emitted in self.emitted.iter().filter(|emitted| emitted.commit_lsn < end_lsn) {
            if let Some(table) = table_position(&mut position, emitted.job, &emitted.table) {
                table.add(emitted.file, emitted.from, emitted.to);
            }
        }
        (position != SnapshotPosition::default()).then_some(position)
    }

    /// Counts what a record that is durable now has counted already.
    pub(super) fn pass_stored(&mut self, frontier: Frontier, acknowledged: Ticket) {
        let is_unstored = self.is_unstored();
        self.pass(frontier, acknowledged);
        if !is_unstored {
            self.stored = self.version;
        }
    }

    /// Whether a checkpoint would say something new, whatever the frontier.
    pub(super) fn is_unstored(&self) -> bool {
        self.stored != self.version
    }

    pub(super) fn is_urgent(&self) -> bool {
        self.is_urgent && self.is_unstored()
    }

    /// A record is on its way.
    pub(super) fn store(&mut self) {
        self.storing = self.version;
        self.is_urgent = false;
    }

    /// It is durable.
    pub(super) fn stored(&mut self) {
        self.stored = self.storing;
    }

    /// Whether the new slot's snapshot is to be exported.
    pub(super) fn wants_export(&self) -> bool {
        self.config.is_some_and(|config| matches!(config.mode, SnapshotMode::Initial | SnapshotMode::Only))
    }

    pub(super) fn exported(&mut self, exported: Exported) {
        (self.exported, self.export_failures) = (Some(exported), 0);
    }

    /// Takes the exported snapshot out of what fails now, so that the next attempt has it: no row of it is read yet. Not without end: it
    /// keeps the server from cleaning up.
    pub(super) fn spare_export(&mut self) -> Option<Exported> {
        self.export_failures += 1;
        self.exported.take().filter(|_| self.export_failures < EXPORT_FAILURES)
    }

    pub(super) fn restore_export(&mut self, spared: Option<Exported>) {
        self.exported = spared;
    }

    /// An epoch is being claimed at this frontier: what is owed now. `record` is what an earlier process left.
    pub(super) fn start(&mut self, record: Option<&Record>, frontier: Frontier) {
        self.exported = self.exported.take().filter(|exported| record.is_none() && exported.consistent == frontier.end_lsn);
        (self.step, self.tables) = (Step::Idle, None);
        // Another process may have streamed since the last claim.
        self.seen = Seen::default();
        self.emitted.clear();
        self.handed.clear();
        self.position = record.and_then(|record| record.snapshot.clone()).unwrap_or_default();
        let Some(config) = self.config else {
            self.position = SnapshotPosition::default();
            return self.changed();
        };
        let position = &mut self.position;
        let has_initial = position.jobs.iter().any(|job| job.is_initial);
        let is_wanted = match config.mode {
            SnapshotMode::Never => false,
            SnapshotMode::Initial => has_initial || record.is_none(),
            SnapshotMode::Only => has_initial || !position.is_initial_done,
            SnapshotMode::Always => has_initial || !self.has_begun,
        };
        if (config.mode == SnapshotMode::Always && !self.has_begun) || !is_wanted {
            position.jobs.retain(|job| !job.is_initial);
        }
        if is_wanted && !position.jobs.iter().any(|job| job.is_initial) {
            position.add(true, Vec::new(), None);
            // The pipeline's own goes first.
            position.jobs.sort_by_key(|job| (!job.is_initial, job.number));
        }
        position.is_initial_done = !is_wanted;
        self.changed();
    }

    /// The claim that owes them is durable.
    pub(super) fn begun(&mut self) {
        self.has_begun = true;
    }

    /// The stream is left: what was being read is forgotten, and what was exported is gone.
    fn interrupt(&mut self) {
        self.exported = None;
        self.watch.end();
        (self.offered, self.sent) = (None, None);
        self.step = Step::Idle;
    }

    /// What is not durable has been dropped.
    pub(super) fn rewound(&mut self) {
        self.emitted.clear();
        self.handed.clear();
    }

    /// A query saw this much.
    pub(super) fn saw(&mut self, snapshot: &Snapshot) {
        // A chunk at hand may have been read before: what it did not see must be remembered until it is judged.
        if !matches!(self.step, Step::Reading(_) | Step::Marking(..)) {
            self.seen.prune(snapshot);
        }
    }

    /// Counts what the frontier, or the acknowledgements, have passed.
    pub(super) fn pass(&mut self, frontier: Frontier, acknowledged: Ticket) {
        while self.emitted.front().is_some_and(|emitted| emitted.commit_lsn < frontier.end_lsn)
            && let Some(emitted) = self.emitted.pop_front()
        {
            let is_past = |(table, to): &(Arc<str>, Tid)| (&emitted.table, emitted.to) >= (table, *to);
            if self.careful.as_ref().is_some_and(is_past) {
                (self.careful, self.sent) = (None, None);
                self.condemned.clear();
            }
            self.done(emitted.job, &emitted.table, emitted.file, emitted.from, emitted.to);
        }
        while self.handed.front().is_some_and(|(ticket, _)| *ticket <= acknowledged)
            && let Some((_, chunk)) = self.handed.pop_front()
        {
            self.done(chunk.job, &chunk.table, chunk.file, chunk.from, chunk.to);
        }
    }

    fn done(&mut self, job: u64, table: &str, file: u32, from: Tid, to: Tid) {
        if let Some(position) = self.table_position(job, table) {
            position.add(file, from, to);
            self.changed();
        }
    }

    fn table_position(&mut self, job: u64, table: &str) -> Option<&mut TablePosition> {
        table_position(&mut self.position, job, table)
    }

    /// Takes the first snapshot off the list if all of it is done; gives its number, and whether it was the pipeline's own.
    fn finish(&mut self) -> Option<(u64, bool)> {
        let job = self.position.jobs.first()?;
        let progress = job.progress.as_ref().filter(|_| self.tables.is_some() && !self.is_exporting())?;
        if progress.values().any(|table| table.as_open().is_some()) {
            return None;
        }
        let job = self.position.jobs.remove(0);
        self.position.is_initial_done |= job.is_initial;
        self.tables = None;
        self.is_urgent = true;
        self.changed();
        Some((job.number, job.is_initial))
    }

    fn progress(&self) -> Option<SnapshotProgress> {
        let job = self.position.jobs.first()?;
        let mut progress = SnapshotProgress {
            job: job.number,
            is_initial: job.is_initial,
            waiting: self.position.jobs.len() as u64 - 1,
            rereads: self.rereads,
            is_export: self.holds_stream(),
            ..SnapshotProgress::default()
        };
        let Some(tables) = job.progress.as_ref() else { return Some(progress) };
        progress.tables = Some(tables.len() as u64);
        for (name, open) in tables.iter().filter_map(|(name, table)| Some((name, table.as_open()?))) {
            progress.tables_remaining += 1;
            progress.blocks += u64::from(open.blocks);
            progress.blocks_done += open.blocks_done();
            progress.table.get_or_insert_with(|| name.as_str().into());
        }
        Some(progress)
    }
}

fn table_position<'a>(position: &'a mut SnapshotPosition, job: u64, table: &str) -> Option<&'a mut TablePosition> {
    let job = position.jobs.iter_mut().find(|known| known.number == job)?;
    job.progress.as_mut()?.get_mut(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{OpenTable, SnapshotJob};

    /// Its rows are on their way until the frontier is behind its second watermark: a crash would lose them if a record called it done.
    #[test]
    fn a_record_calls_a_chunk_done_only_behind_its_rows() {
        let table = TablePosition::Open(OpenTable::new(7, 10));
        let progress = Some([("public.t".to_owned(), table)].into());
        let job = SnapshotJob { number: 1, is_initial: true, tables: Vec::new(), filter: None, progress };
        let (from, to) = (Tid::block(0), Tid::block(4));
        let emitted = Emitted { commit_lsn: Lsn(300), job: 1, table: "public.t".into(), file: 7, from, to };
        let position = SnapshotPosition { jobs: vec![job], ..SnapshotPosition::default() };
        let copying = Copying { position, emitted: [emitted].into(), ..Copying::default() };
        let done = |end_lsn| {
            let mut position = copying.record(end_lsn).expect("a snapshot is owed");
            let table = table_position(&mut position, 1, "public.t").expect("the table");
            table.as_open().expect("not all of it").done.clone()
        };
        assert_eq!(done(Lsn(300)), []);
        assert_eq!(done(Lsn(301)), [(from, to)]);
    }
}

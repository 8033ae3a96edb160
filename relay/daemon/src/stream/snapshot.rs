//! Snapshots' share of the wire thread: connections and rows that the session orders to be read, and who asks for snapshots.

mod export;
mod held;
mod publish;
mod request;
mod watch;

pub(crate) use request::Checked;
pub(crate) use request::{Answer, Request};
pub(super) use watch::Watch;

use super::Stream;
use super::jobs::Done;
use crate::progress::Reporter;
use export::Export;
use relay_core::session::{Chunk, ChunkRead, Exported, Fault, Input, Listed, Listing};
use relay_core::{Kind, Lsn};
use relay_failpoint::fail_point;
use relay_postgres::snapshot::{ChunkRows, Chunker, Desk, ExportedSlot, Exporting, Found, Tables};
use relay_postgres::{Source, Wanted};
use request::Waiting;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What snapshots need to know.
#[derive(Clone)]
pub(crate) struct Config {
    /// `snapshot.threads`.
    pub(crate) threads: usize,
    /// The tables of the pipeline's own snapshot, by their names in the stream.
    pub(crate) initial: Wanted,
    /// `snapshot.tables`: the names of those, where not every captured table is one.
    pub(crate) subset: Vec<String>,
    /// The captured tables.
    pub(crate) captured: Wanted,
}

/// The wire thread's state of snapshots.
pub(super) struct Snapshots {
    config: Config,
    /// The new slot and its snapshot, as long as that can be used.
    slot: Option<Arc<ExportedSlot>>,
    export: Option<Box<Export>>,
    chunker: SharedChunker,
    desk: Desk,
    /// Whether the pipeline's own snapshot was listed last.
    is_own: bool,
    /// The tables as they were listed last.
    tables: Arc<Tables>,
    /// The rows of the chunk between whose watermarks the stream is.
    kept: Option<Kept>,
    waiting: Vec<Waiting>,
    /// Rows given to the sink that are not counted yet, by table: those of the table at hand apart.
    rows: HashMap<Arc<str>, u64>,
    latest: Option<(Arc<str>, u64)>,
    total: u64,
    reporter: Reporter,
}

/// One job at a time has it; it is made anew after a failure.
type SharedChunker = Arc<Mutex<Option<Chunker>>>;

/// Rows of a chunk that wait for its second watermark.
#[derive(Debug)]
struct Kept {
    chunk: Chunk,
    rows: ChunkRows,
    /// Rows that were dealt with, before the sink was full.
    next: usize,
}

// === impl Snapshots ===

impl Snapshots {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            slot: None,
            export: None,
            chunker: SharedChunker::default(),
            desk: Desk::default(),
            is_own: false,
            tables: Arc::default(),
            kept: None,
            waiting: Vec::new(),
            rows: HashMap::new(),
            latest: None,
            total: 0,
            reporter: Reporter::new(),
        }
    }

    /// The stream is left: what was being read is worth nothing any more. `needs_export`: but for the snapshot of the new slot.
    pub(super) fn disconnect(&mut self, needs_export: bool) {
        self.slot = self.slot.take().filter(|_| needs_export);
        self.export = None;
        self.kept = None;
        // A job that still runs ends with the connections that it has.
        self.chunker = SharedChunker::default();
    }

    /// A row of that table was given to the sink.
    #[inline]
    fn count(&mut self, table: &Arc<str>) {
        self.total += 1;
        match &mut self.latest {
            Some((latest, rows)) if latest == table => *rows += 1,
            _ => {
                self.settle();
                self.latest = Some((Arc::clone(table), 1));
            }
        }
    }

    fn settle(&mut self) {
        if let Some((table, rows)) = self.latest.take() {
            *self.rows.entry(table).or_default() += rows;
        }
    }

    fn wanted(&self, listing: &Listing) -> Wanted {
        Arc::clone(if listing.tables.is_empty() { &self.config.initial } else { &self.config.captured })
    }
}

/// Runs with the connections that read chunks, which are made if there are none, and given up if it fails.
fn with<T>(
    chunker: &SharedChunker,
    source: &Source,
    run: impl FnOnce(&mut Chunker) -> Result<T, relay_postgres::Error>,
) -> Result<T, Fault> {
    let mut chunker = chunker.lock().unwrap_or_else(PoisonError::into_inner);
    let mut connected = match chunker.take() {
        Some(chunker) => chunker,
        None => source.chunker().map_err(|error| error.fault())?,
    };
    let result = run(&mut connected).map_err(|error| error.fault())?;
    *chunker = Some(connected);
    Ok(result)
}

// === impl Stream: orders ===

impl Stream {
    pub(super) fn list_tables(&mut self, listing: Listing) {
        let Some(snapshots) = &mut self.snapshots else { return };
        let (wanted, source, number) = (snapshots.wanted(&listing), self.source.clone(), listing.number);
        snapshots.is_own = listing.tables.is_empty();
        if let Some(slot) = snapshots.slot.clone().filter(|_| listing.is_export) {
            let threads = snapshots.config.threads;
            return self.jobs.aside("relay-snapshot", move || {
                let exporting = slot.begin(&source, &*wanted, threads);
                Done::Exporting(number, exporting.map(Box::new).map_err(|error| error.fault()))
            });
        }
        if listing.is_export {
            let message = "the connection that keeps the slot's snapshot is gone".into();
            return self.session.input(Input::Listed(number, Err(Fault { kind: Kind::SourceLost, message })));
        }
        let chunker = Arc::clone(&snapshots.chunker);
        self.jobs.aside("relay-snapshot", move || {
            Done::Tables(number, with(&chunker, &source, |chunker| chunker.list(&listing.tables, &*wanted)))
        });
    }

    pub(super) fn look_at_visible(&mut self, number: u64, takes_id: bool) {
        let Some(snapshots) = &self.snapshots else { return };
        let (chunker, source) = (Arc::clone(&snapshots.chunker), self.source.clone());
        self.jobs.aside("relay-snapshot", move || {
            let look = with(&chunker, &source, |chunker| chunker.look(takes_id));
            Done::Input(Box::new(Input::Looked(number, look)))
        });
    }

    pub(super) fn read_chunk(&mut self, chunk: Chunk) {
        let mark = self.session.watermark_text(chunk.number, false);
        let Some(snapshots) = &mut self.snapshots else { return };
        snapshots.kept = None;
        let (chunker, source, desk) = (Arc::clone(&snapshots.chunker), self.source.clone(), snapshots.desk.clone());
        let (tables, routes) = (Arc::clone(&snapshots.tables), Arc::clone(&self.routes));
        let database = self.session.server().map(|server| server.database.clone()).unwrap_or_default();
        self.jobs.aside("relay-snapshot", move || {
            let read = with(&chunker, &source, |chunker| match tables.0.get(&*chunk.table) {
                Some(found) => chunker.read(&chunk, found, &mark, &desk),
                None => Err(relay_postgres::Error::Altered(chunk.table.to_string())),
            });
            // Rows that nobody can publish would be read again for ever.
            let plan = desk.shape(chunk.number).map(|shape| watch::plan(&shape, routes.captures(), &database));
            let read = read.and_then(|read| plan.map_or(Ok(()), |plan| plan.map(|_| ())).map(|()| read));
            Done::Chunk(Box::new(chunk), read)
        });
    }

    pub(super) fn mark(&mut self, number: u64) {
        let text = self.session.watermark_text(number, true);
        let Some(snapshots) = &self.snapshots else { return };
        let (chunker, source) = (Arc::clone(&snapshots.chunker), self.source.clone());
        self.jobs.aside("relay-snapshot", move || {
            Done::Input(Box::new(Input::Marked(number, with(&chunker, &source, |chunker| chunker.mark(&text)))))
        });
    }

    /// Says what a snapshot waits for.
    pub(super) fn tell_open_writers(&self) {
        let source = self.source.clone();
        self.jobs.aside("relay-snapshot-watch", move || {
            // None any more: it waits no longer.
            if let Ok(holders) = source.open_writers(0)
                && !holders.is_empty()
            {
                let holders = holders.join(", ");
                tracing::warn!(
                    event = "snapshot.waits",
                    holders,
                    "the snapshot waits for transactions that were open when it began"
                );
            }
            Done::Nothing
        });
    }
}

// === impl Stream: answers ===

impl Stream {
    /// The slot was made, or was there.
    pub(super) fn slot_exported(&mut self, result: Result<Option<Box<ExportedSlot>>, Fault>) {
        let exported = result.map(|slot| {
            let slot: Option<Arc<ExportedSlot>> = slot.map(Arc::from);
            let exported: Option<Exported> = slot.as_ref().map(|slot| slot.exported.clone());
            if let Some(snapshots) = &mut self.snapshots {
                snapshots.slot = slot;
            }
            exported
        });
        self.input(Input::SlotReady(exported));
    }

    pub(super) fn tables_listed(&mut self, number: u64, result: Result<Tables, Fault>) {
        if !self.session.awaits(number) {
            return;
        }
        let listed = result.map(|tables| {
            self.tell_silent_updates(&tables);
            self.keep_tables(tables)
        });
        self.input(Input::Listed(number, listed));
    }

    pub(super) fn export_begun(&mut self, number: u64, result: Result<Box<Exporting>, Fault>) {
        if !self.session.awaits(number) {
            return;
        }
        let listed = result.map(|mut exporting| {
            let listed = self.keep_tables(std::mem::take(&mut exporting.tables));
            if let Some(snapshots) = &mut self.snapshots
                && let Some(slot) = &snapshots.slot
            {
                let exported = slot.exported.clone();
                snapshots.export = Some(Box::new(Export::new(*exporting, Arc::clone(&snapshots.tables), exported)));
            }
            listed
        });
        self.input(Input::Listed(number, listed));
    }

    /// A table that is to be read and is not published would be left out in silence.
    fn tell_missing(&self, tables: &Tables) {
        let Some(snapshots) = self.snapshots.as_ref().filter(|snapshots| snapshots.is_own) else { return };
        let is_missing = |name: &&String| !tables.0.values().any(|found| *found.listed.stream == ***name);
        for table in snapshots.config.subset.iter().filter(is_missing) {
            tracing::warn!(
                event = "snapshot.table_missing",
                table,
                "snapshot.tables names a table that does not exist or is not published: none of its rows are read"
            );
        }
    }

    /// Beside the stream a row that moves to a place which was read already is in an update alone.
    fn tell_silent_updates(&self, tables: &Tables) {
        let is_silent = |found: &&Found| found.has_silent_updates || !self.routes.captures().takes_updates(&found.listed.stream);
        for found in tables.0.values().filter(is_silent) {
            tracing::warn!(
                event = "snapshot.silent_updates",
                table = &*found.listed.name,
                "updates of this table are not all published: a row that is updated while its snapshot is taken may be missed"
            );
        }
    }

    fn keep_tables(&mut self, tables: Tables) -> Vec<Listed> {
        self.tell_missing(&tables);
        // A thousand new topics take seconds together and minutes one after the other.
        for found in tables.0.values().filter(|found| found.listed.blocks > 0) {
            let (schema, table) = &found.stream_name;
            if let Some(topic) = self.routes.captures().topic(schema, table) {
                self.sink.expect(&topic);
            }
        }
        let listed = tables.0.values().map(|found| found.listed.clone()).collect();
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.tables = Arc::new(tables);
        }
        listed
    }

    pub(super) fn chunk_read(&mut self, chunk: Chunk, result: Result<(ChunkRead, ChunkRows), Fault>) {
        fail_point!("snapshot-chunk");
        let number = chunk.number;
        if !self.session.awaits(number) {
            // Its job outlived the connection for which it read; the rows of a newer chunk may be here already.
            return;
        }
        let read = result.map(|(read, rows)| {
            if let Some(snapshots) = &mut self.snapshots {
                snapshots.kept = Some(Kept { chunk, rows, next: 0 });
            }
            read
        });
        self.input(Input::ChunkRead(number, read));
    }

    /// Counts rows, tells how far the snapshot is, and answers those who wait for a checkpoint.
    pub(super) fn snapshot_turn(&mut self) {
        self.answer_waiting();
        let Some(snapshots) = &mut self.snapshots else { return };
        snapshots.settle();
        for (table, rows) in snapshots.rows.drain() {
            self.metrics.snapshot_rows(&table, rows);
        }
        let progress = self.session.snapshot_progress();
        if progress.is_none()
            && let Ok(mut chunker) = snapshots.chunker.try_lock()
        {
            // Nothing is owed: the server's connections are for others.
            *chunker = None;
        }
        snapshots.reporter.report(progress.as_ref(), snapshots.total);
        let mut shown = self.status.progress();
        shown.snapshot_rows = snapshots.total;
        shown.snapshot_rereads = self.session.snapshot_rereads();
        shown.snapshot = progress;
    }
}

/// Where a snapshot's rows stand: the position of every one of them.
#[derive(Clone, Copy, Debug)]
struct Stand {
    lsn: Lsn,
    /// First block of the chunk, which names it among those of one table.
    chunk: u64,
}

// === impl Stand ===

impl Stand {
    /// `relay-pos` of a row; of a table without key each has its own.
    fn of_row(self, has_key: bool, row: u64) -> relay_core::RelayPos<'static> {
        match has_key {
            true => relay_core::RelayPos::Snapshot(self.lsn),
            false => relay_core::RelayPos::SnapshotRow { lsn: self.lsn, chunk: self.chunk, row },
        }
    }
}

//! Tables of a snapshot, and the parts in which they are read: ranges of heap blocks.

use crate::checkpoint::{Done, OpenTable, SnapshotJob, TablePosition, Tid};
use crate::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A table to list anew: what the driver is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Names the question.
    pub number: u64,
    /// Number of the snapshot.
    pub job: u64,
    /// The tables that were asked for; empty for every captured table that `snapshot.tables` does not leave out.
    pub tables: Vec<String>,
    /// To be seen, and locked against changes of shape, in the snapshot that the new slot exported.
    pub is_export: bool,
}

/// A table as the catalog has it. Of a partitioned table each leaf is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// `schema.table`.
    pub name: Arc<str>,
    /// The name that its changes have in the stream: its own, or that of its partition root.
    pub stream: Arc<str>,
    /// Its file; 0 where rows have no places to go by, and the table is read at one go.
    pub file: u32,
    /// Its size.
    pub blocks: u32,
    /// About so many rows a block, if that is known.
    pub rows_per_block: Option<f64>,
    /// With an export: it was rewritten since the snapshot was exported, which does not see the rows that it has now.
    pub is_rewritten: bool,
}

/// Rows of one table to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Names it, and its watermarks.
    pub number: u64,
    /// Number of the snapshot.
    pub job: u64,
    /// `schema.table`.
    pub table: Arc<str>,
    /// See [`Listed::stream`].
    pub stream: Arc<str>,
    /// The file that the places are of.
    pub file: u32,
    /// From this place on.
    pub from: Tid,
    /// Up to below this one.
    pub to: Tid,
    /// SQL condition that a row must meet.
    pub filter: Option<Arc<str>>,
}

/// What became of reading a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkRead {
    /// Its rows were read, up to below `end`: the chunk's own end, unless its bytes were too many.
    Rows {
        /// Where reading ended.
        end: Tid,
        /// How many.
        rows: u64,
        /// What was visible to the read, on a server whose watermark came before it.
        snapshot: Snapshot,
    },
    /// The table has another file.
    Rewritten {
        /// That file.
        file: u32,
        /// Its size.
        blocks: u32,
    },
    /// The table is not there any more.
    Gone,
}

/// A listed table, and what reading it has taught.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) listed: Listed,
    rows_per_block: f64,
}

/// What a block is taken to hold as long as nobody knows.
const ROWS_PER_BLOCK: f64 = 60.0;
/// Blocks of a chunk at most: an empty stretch of a table is passed in steps, too.
const BLOCKS_MAX: f64 = 131_072.0;

// === impl Table ===

impl Table {
    pub(super) fn new(listed: Listed) -> Self {
        let rows_per_block = listed.rows_per_block.filter(|rows| *rows > 0.0).unwrap_or(ROWS_PER_BLOCK);
        Self { listed, rows_per_block }
    }

    /// Where a chunk of about so many rows that begins at `from` ends.
    pub(super) fn cut(&self, from: Tid, to: Tid, rows: f64) -> Tid {
        if self.listed.file == 0 {
            return to;
        }
        let blocks = (rows / self.rows_per_block).clamp(1.0, BLOCKS_MAX) as u32;
        to.min(Tid::block(from.block_number().saturating_add(blocks)))
    }

    /// So many rows were found there.
    pub(super) fn learn(&mut self, from: Tid, to: Tid, rows: u64) {
        let blocks = to.block_number().saturating_sub(from.block_number());
        if blocks > 0 {
            self.rows_per_block = (self.rows_per_block + rows as f64 / f64::from(blocks)) / 2.0;
        }
    }
}

/// Where the tables of a snapshot stand, now that they are listed: what an earlier process knew counts where the file is the same.
pub(super) fn restart(job: &mut SnapshotJob, tables: &[Table], mut is_new: impl FnMut(&str)) {
    let stored = job.progress.take();
    let mut progress = BTreeMap::new();
    for Table { listed, .. } in tables {
        let fresh = || TablePosition::open(listed.file, listed.blocks);
        let position = match stored.as_ref().map(|stored| stored.get(&*listed.name)) {
            None => fresh(),
            // Made after the snapshot began: all that it has is in the stream.
            Some(None) => continue,
            Some(Some(TablePosition::Open(open))) if open.file != listed.file => {
                is_new(&listed.name);
                fresh()
            }
            Some(Some(known)) => known.clone(),
        };
        progress.insert(listed.name.to_string(), position);
    }
    job.progress = Some(progress);
}

// === impl TablePosition ===

impl TablePosition {
    fn open(file: u32, blocks: u32) -> Self {
        match blocks {
            0 => TablePosition::Done(Done::Done),
            _ => TablePosition::Open(OpenTable::new(file, blocks)),
        }
    }

    /// The table, if it is not done.
    #[must_use]
    pub fn as_open(&self) -> Option<&OpenTable> {
        match self {
            TablePosition::Open(open) => Some(open),
            TablePosition::Done(_) => None,
        }
    }

    /// Everything from `from` up to below `to` of that file is published.
    pub(super) fn add(&mut self, file: u32, from: Tid, to: Tid) {
        if let TablePosition::Open(open) = self
            && open.file == file
        {
            open.add(from, to);
            if open.gap(Tid::default()).is_none() {
                *self = TablePosition::Done(Done::Done);
            }
        }
    }

    /// The table starts again as a whole.
    pub(super) fn restart(&mut self, file: u32, blocks: u32) {
        *self = Self::open(file, blocks);
    }
}

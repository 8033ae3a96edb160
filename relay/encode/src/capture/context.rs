//! What is known of a change beside the change: its transaction, its position, and the time.

use super::number::write_u64;
use relay_core::{Lsn, RelayPos, Transaction};

/// Comes with every change that is encoded.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The transaction; for a row of a snapshot the snapshot's xid and instant, with [`Context::lsn`] its consistent point.
    pub transaction: Transaction,
    /// The position without `sub`: [`RelayPos::Log`], [`RelayPos::Snapshot`], [`RelayPos::SnapshotRow`] or [`RelayPos::Message`].
    pub pos: RelayPos<'a>,
    /// LSN of the row, from the header of its frame.
    pub lsn: Lsn,
    /// End of the transaction that the slot had before this one; `None` on its first.
    pub previous_end: Option<Lsn>,
    /// The transaction's origin and its commit there.
    pub origin: Option<(&'a str, Lsn)>,
    /// Time of encoding in nanoseconds since the Unix epoch; one for a whole batch will do.
    pub now_ns: i64,
    /// Whether the row was streamed or read.
    pub marker: Marker,
    /// Where the change's first record stands in its transaction; `None` without `transaction_metadata` and outside transactions.
    pub order: Option<RecordOrder>,
}

/// How a row came, `source.snapshot`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Marker {
    /// By the stream.
    #[default]
    Streamed,
    /// By a snapshot: op `r`.
    Snapshot(SnapshotMarker),
    /// By the watermark path, beside the stream: op `r`.
    Incremental,
}

/// Where a row stands in its snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotMarker {
    /// First of the whole snapshot.
    First,
    /// First of a later table.
    FirstInTable,
    /// Any other.
    Other,
    /// Last of a table that is not the last one.
    LastInTable,
    /// Last of the whole snapshot.
    Last,
}

/// Counts of the transaction block, from 1; tombstones do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordOrder {
    /// Among all records of the transaction.
    pub total: u64,
    /// Among those of the table.
    pub in_table: u64,
}

// === impl Context ===

impl Context<'_> {
    /// Appends `<txid>:<commit_lsn>`, decimal: the same in BEGIN, END and every event between (D11).
    pub(super) fn write_transaction_id(&self, out: &mut Vec<u8>) {
        write_u64(self.transaction.xid.0.into(), out);
        out.push(b':');
        write_u64(self.transaction.commit_lsn.0, out);
    }
}

// === impl Marker ===

impl Marker {
    /// The text in `source.snapshot`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Marker::Streamed => "false",
            Marker::Incremental => "incremental",
            Marker::Snapshot(SnapshotMarker::First) => "first",
            Marker::Snapshot(SnapshotMarker::FirstInTable) => "first_in_data_collection",
            Marker::Snapshot(SnapshotMarker::Other) => "true",
            Marker::Snapshot(SnapshotMarker::LastInTable) => "last_in_data_collection",
            Marker::Snapshot(SnapshotMarker::Last) => "last",
        }
    }
}

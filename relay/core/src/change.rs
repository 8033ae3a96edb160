//! A row change as read, before anything is decided about it.

use crate::lsn::{Lsn, Xid};
use crate::schema::Relation;
use crate::value::Row;

/// The transaction that a change belongs to, known from its Begin message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Start of the commit record.
    pub commit_lsn: Lsn,
    /// Commit time in microseconds since the Unix epoch.
    pub commit_time_us: i64,
    /// Top-level transaction id.
    pub xid: Xid,
}

/// One change of a committed transaction. Everything is borrowed from the frame and the relation cache.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// INSERT.
    Insert {
        /// Shape of the row.
        relation: &'a Relation,
        /// The row.
        new: Row<'a>,
    },
    /// UPDATE.
    Update {
        /// Shape of the rows.
        relation: &'a Relation,
        /// Identity columns if they changed, or the whole old row with REPLICA IDENTITY FULL.
        old: Option<OldRow<'a>>,
        /// The row after the update.
        new: Row<'a>,
    },
    /// DELETE.
    Delete {
        /// Shape of the row.
        relation: &'a Relation,
        /// What identified the row.
        old: OldRow<'a>,
    },
    /// TRUNCATE of one of the tables that one statement names.
    Truncate {
        /// The table.
        relation: &'a Relation,
        /// Whether CASCADE was given.
        is_cascade: bool,
        /// Whether RESTART IDENTITY was given.
        restarts_identity: bool,
    },
    /// `pg_logical_emit_message`.
    Message {
        /// The message's prefix.
        prefix: &'a str,
        /// Its content, any bytes.
        content: &'a [u8],
        /// Whether it is part of the transaction; if not it is emitted even when the writer aborts.
        is_transactional: bool,
        /// WAL location of the message.
        lsn: Lsn,
    },
}

/// The old tuple of an update or delete.
#[derive(Clone, Copy, Debug)]
pub enum OldRow<'a> {
    /// Identity columns; the others read as NULL.
    Key(Row<'a>),
    /// Every column (REPLICA IDENTITY FULL).
    Full(Row<'a>),
}

// === impl Change ===

impl<'a> Change<'a> {
    /// The table, if the change has one.
    #[must_use]
    pub fn relation(&self) -> Option<&'a Relation> {
        match *self {
            Change::Insert { relation, .. }
            | Change::Update { relation, .. }
            | Change::Delete { relation, .. }
            | Change::Truncate { relation, .. } => Some(relation),
            Change::Message { .. } => None,
        }
    }

    /// The operation's name as metrics and dlq records print it.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        match self {
            Change::Insert { .. } => "insert",
            Change::Update { .. } => "update",
            Change::Delete { .. } => "delete",
            Change::Truncate { .. } => "truncate",
            Change::Message { .. } => "message",
        }
    }
}

//! The messages that begin, end and divide transactions, whole or streamed in blocks.

use crate::error::Error;
use crate::reader::Reader;
use crate::timestamp::Timestamp;
use relay_core::{Lsn, Transaction, Xid};

/// Begin: everything up to Commit belongs to one committed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Start of the commit record; unique per transaction.
    pub commit_lsn: Lsn,
    /// When it committed.
    pub commit_time: Timestamp,
    /// Top-level transaction.
    pub xid: Xid,
}

/// Commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Start of the commit record, as in Begin.
    pub commit_lsn: Lsn,
    /// First byte after the commit record: where to resume.
    pub end_lsn: Lsn,
    /// When it committed.
    pub commit_time: Timestamp,
}

/// Origin: the transaction was replicated into this server from elsewhere. Comes directly after Begin, Begin Prepare or the
/// first Stream Start of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Where it committed on the origin.
    pub commit_lsn: Lsn,
    /// The origin's name.
    pub name: &'a str,
}

/// Stream Start: until Stream Stop, changes of one transaction that is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamStart {
    /// Top-level transaction.
    pub xid: Xid,
    /// Whether this is the transaction's first block.
    pub is_first_segment: bool,
}

/// Stream Commit: the streamed transaction is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCommit {
    /// Top-level transaction.
    pub xid: Xid,
    /// Start of the commit record.
    pub commit_lsn: Lsn,
    /// First byte after the commit record: where to resume.
    pub end_lsn: Lsn,
    /// When it committed.
    pub commit_time: Timestamp,
}

/// Stream Abort: a streamed transaction, or one subtransaction of it, is rolled back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamAbort {
    /// Top-level transaction.
    pub xid: Xid,
    /// What is rolled back; equal to `xid` when everything is.
    pub subxid: Xid,
    /// Where and when; sent only with protocol 4 and `streaming = parallel`.
    pub at: Option<AbortPoint>,
}

/// Where a streamed transaction was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortPoint {
    /// Location of the abort record.
    pub lsn: Lsn,
    /// When it aborted.
    pub time: Timestamp,
}

// === impl Begin ===

impl Begin {
    #[inline]
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            commit_lsn: reader.lsn("the commit LSN")?,
            commit_time: reader.timestamp("the commit time")?,
            xid: reader.xid("the transaction's xid")?,
        })
    }

    /// The transaction that the following changes belong to.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        Transaction { commit_lsn: self.commit_lsn, commit_time_us: self.commit_time.unix_us(), xid: self.xid }
    }
}

// === impl Commit ===

impl Commit {
    #[inline]
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        reader.no_flags()?;
        Ok(Self {
            commit_lsn: reader.lsn("the commit LSN")?,
            end_lsn: reader.lsn("the end LSN")?,
            commit_time: reader.timestamp("the commit time")?,
        })
    }
}

// === impl Origin ===

impl<'a> Origin<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self { commit_lsn: reader.lsn("the origin's commit LSN")?, name: reader.name("an origin name ended by NUL")? })
    }
}

// === impl StreamStart ===

impl StreamStart {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self { xid: reader.xid("the transaction's xid")?, is_first_segment: reader.flags(1, "first segment 0 or 1")? == 1 })
    }
}

// === impl StreamCommit ===

impl StreamCommit {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let xid = reader.xid("the transaction's xid")?;
        let Commit { commit_lsn, end_lsn, commit_time } = Commit::read(reader)?;
        Ok(Self { xid, commit_lsn, end_lsn, commit_time })
    }

    /// The transaction that the streamed changes belong to.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        Transaction { commit_lsn: self.commit_lsn, commit_time_us: self.commit_time.unix_us(), xid: self.xid }
    }
}

// === impl StreamAbort ===

impl StreamAbort {
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let xid = reader.xid("the transaction's xid")?;
        let subxid = reader.xid("the subtransaction's xid")?;
        let at = if reader.rest().is_empty() {
            None
        } else {
            Some(AbortPoint { lsn: reader.lsn("the abort LSN")?, time: reader.timestamp("the abort time")? })
        };
        Ok(Self { xid, subxid, at })
    }

    /// Whether the whole transaction is rolled back.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.xid == self.subxid
    }
}

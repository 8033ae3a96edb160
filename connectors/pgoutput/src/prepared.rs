//! The messages of two-phase commit: what a slot with `two_phase` sends, under every protocol version.

use crate::error::Error;
use crate::reader::Reader;
use crate::timestamp::Timestamp;
use relay_core::{Lsn, Xid};

/// Begin Prepare: everything up to Prepare belongs to one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeginPrepare<'a> {
    /// Start of the prepare record.
    pub prepare_lsn: Lsn,
    /// First byte after it.
    pub end_lsn: Lsn,
    /// When it was prepared.
    pub prepare_time: Timestamp,
    /// Top-level transaction.
    pub xid: Xid,
    /// The name given in PREPARE TRANSACTION.
    pub gid: &'a str,
}

/// Prepare, and Stream Prepare: the transaction is prepared and can still go either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepare<'a> {
    /// Start of the prepare record.
    pub prepare_lsn: Lsn,
    /// First byte after it.
    pub end_lsn: Lsn,
    /// When it was prepared.
    pub prepare_time: Timestamp,
    /// Top-level transaction.
    pub xid: Xid,
    /// The name given in PREPARE TRANSACTION.
    pub gid: &'a str,
}

/// Commit Prepared. Carries no rows: they came before Prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitPrepared<'a> {
    /// Start of the COMMIT PREPARED record.
    pub commit_lsn: Lsn,
    /// First byte after it.
    pub end_lsn: Lsn,
    /// When it committed.
    pub commit_time: Timestamp,
    /// Top-level transaction.
    pub xid: Xid,
    /// The name given in PREPARE TRANSACTION.
    pub gid: &'a str,
}

/// Rollback Prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollbackPrepared<'a> {
    /// First byte after the prepare record.
    pub prepare_end_lsn: Lsn,
    /// First byte after the ROLLBACK PREPARED record.
    pub rollback_end_lsn: Lsn,
    /// When it was prepared.
    pub prepare_time: Timestamp,
    /// When it was rolled back.
    pub rollback_time: Timestamp,
    /// Top-level transaction.
    pub xid: Xid,
    /// The name given in PREPARE TRANSACTION.
    pub gid: &'a str,
}

const XID: &str = "the transaction's xid";
const GID: &str = "a gid ended by NUL";

// === impl BeginPrepare ===

impl<'a> BeginPrepare<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self {
            prepare_lsn: reader.lsn("the prepare LSN")?,
            end_lsn: reader.lsn("the end LSN")?,
            prepare_time: reader.timestamp("the prepare time")?,
            xid: reader.xid(XID)?,
            gid: reader.name(GID)?,
        })
    }
}

// === impl Prepare ===

impl<'a> Prepare<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        reader.no_flags()?;
        let BeginPrepare { prepare_lsn, end_lsn, prepare_time, xid, gid } = BeginPrepare::read(reader)?;
        Ok(Self { prepare_lsn, end_lsn, prepare_time, xid, gid })
    }
}

// === impl CommitPrepared ===

impl<'a> CommitPrepared<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        reader.no_flags()?;
        Ok(Self {
            commit_lsn: reader.lsn("the commit LSN")?,
            end_lsn: reader.lsn("the end LSN")?,
            commit_time: reader.timestamp("the commit time")?,
            xid: reader.xid(XID)?,
            gid: reader.name(GID)?,
        })
    }
}

// === impl RollbackPrepared ===

impl<'a> RollbackPrepared<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        reader.no_flags()?;
        Ok(Self {
            prepare_end_lsn: reader.lsn("the prepare's end LSN")?,
            rollback_end_lsn: reader.lsn("the rollback's end LSN")?,
            prepare_time: reader.timestamp("the prepare time")?,
            rollback_time: reader.timestamp("the rollback time")?,
            xid: reader.xid(XID)?,
            gid: reader.name(GID)?,
        })
    }
}

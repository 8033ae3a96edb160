//! What a Relation message says of a table: its names, columns and replica identity.

use crate::lsn::Oid;
use std::fmt;

/// One version of a table's shape, valid for the rows between this Relation message and the next one of the same oid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// Object id of the table (of the root with `publish_via_partition_root`).
    pub oid: Oid,
    /// Schema name; `pg_catalog` where the message has it empty.
    pub schema: Box<str>,
    /// Table name.
    pub name: Box<str>,
    /// Which columns an old tuple carries.
    pub identity: ReplicaIdentity,
    /// Columns in tuple order.
    pub columns: Vec<Column>,
}

/// One column of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Column name, exact case.
    pub name: Box<str>,
    /// Type oid, as of the decoded WAL.
    pub type_oid: Oid,
    /// Type modifier, -1 for none.
    pub type_modifier: i32,
    /// Name of a type that is not built in, as the stream or the catalog has it; for a domain that of its base type.
    pub type_name: Option<Box<str>>,
    /// Whether the column is part of the replica identity.
    pub is_key: bool,
}

/// The table's REPLICA IDENTITY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key.
    Default,
    /// No old tuple at all.
    Nothing,
    /// Every column.
    Full,
    /// The columns of one index.
    Index,
}

// === impl Relation ===

impl Relation {
    /// Index of the column of that exact name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| &*column.name == name)
    }
}

// === impl ReplicaIdentity ===

impl ReplicaIdentity {
    /// As ALTER TABLE has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ReplicaIdentity::Default => "DEFAULT",
            ReplicaIdentity::Nothing => "NOTHING",
            ReplicaIdentity::Full => "FULL",
            ReplicaIdentity::Index => "USING INDEX",
        }
    }
}

/// `schema.table`, the raw text that globs match.
impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

//! The shape of a table and the name of a type, as their messages tell them.

use crate::error::Error;
use crate::reader::{InStream, Reader};
use relay_core::{Column, Oid, Relation, ReplicaIdentity, Xid};

/// Relation: the columns of the tuples that follow for this oid, until the next Relation of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelationMessage<'a> {
    /// The subtransaction, inside a stream block.
    pub xid: Option<Xid>,
    /// Object id of the table.
    pub oid: Oid,
    /// Schema name; `pg_catalog` where the message has it empty.
    pub namespace: &'a str,
    /// Table name.
    pub name: &'a str,
    /// Which columns an old tuple carries.
    pub identity: ReplicaIdentity,
    columns: Columns<'a>,
}

/// One column of a Relation message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnMessage<'a> {
    /// Whether it is part of the replica identity.
    pub is_key: bool,
    /// Its name.
    pub name: &'a str,
    /// Its type.
    pub type_oid: Oid,
    /// Its type modifier, -1 for none.
    pub type_modifier: i32,
}

/// Iterator over a Relation's columns, in tuple order.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    left: u16,
    reader: Reader<'a>,
}

/// Type: the name of a type with an oid of 10,000 or more. For a domain it is the domain's oid with its base type's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeMessage<'a> {
    /// The subtransaction, inside a stream block.
    pub xid: Option<Xid>,
    /// Object id of the type.
    pub oid: Oid,
    /// Schema name; `pg_catalog` where the message has it empty.
    pub namespace: &'a str,
    /// Type name.
    pub name: &'a str,
}

/// The manual sends an empty string for `pg_catalog`.
fn namespace<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Error> {
    let name = reader.name("a schema name ended by NUL")?;
    Ok(if name.is_empty() { "pg_catalog" } else { name })
}

// === impl RelationMessage ===

impl<'a> RelationMessage<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>, in_stream: InStream) -> Result<Self, Error> {
        let xid = reader.stream_xid(in_stream)?;
        let oid = reader.oid("the relation's oid")?;
        let namespace = namespace(reader)?;
        let name = reader.name("a relation name ended by NUL")?;
        let offset = reader.offset();
        let identity = match reader.byte("a replica identity")? {
            b'd' => ReplicaIdentity::Default,
            b'n' => ReplicaIdentity::Nothing,
            b'f' => ReplicaIdentity::Full,
            b'i' => ReplicaIdentity::Index,
            found => return Err(reader.unexpected(offset, "replica identity d, n, f or i", found)),
        };
        let columns = Columns::read(reader)?;
        Ok(Self { xid, oid, namespace, name, identity, columns })
    }

    /// The columns, in tuple order.
    #[must_use]
    pub fn columns(&self) -> Columns<'a> {
        self.columns
    }

    /// An owned copy, for the relation cache.
    #[must_use]
    pub fn to_relation(&self) -> Relation {
        Relation {
            oid: self.oid,
            schema: self.namespace.into(),
            name: self.name.into(),
            identity: self.identity,
            columns: self.columns.map(|column| column.to_column()).collect(),
        }
    }
}

// === impl ColumnMessage ===

impl<'a> ColumnMessage<'a> {
    /// The least a column takes: flags, an empty name's NUL, type and modifier.
    const MIN_BYTES: usize = 10;

    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let flags = reader.flags(1, "column flags 0 or 1")?;
        Ok(Self {
            is_key: flags == 1,
            name: reader.name("a column name ended by NUL")?,
            type_oid: reader.oid("a column's type oid")?,
            type_modifier: reader.i32("a column's type modifier")?,
        })
    }

    /// An owned copy.
    #[must_use]
    pub fn to_column(&self) -> Column {
        let Self { is_key, name, type_oid, type_modifier } = *self;
        Column { name: name.into(), type_oid, type_modifier, type_name: None, is_key }
    }
}

// === impl Columns ===

impl<'a> Columns<'a> {
    /// Walks the columns once to check them, and keeps where they start.
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let offset = reader.offset();
        let left = reader.u16("a column count")?;
        if usize::from(left) > reader.rest().len() / ColumnMessage::MIN_BYTES {
            return Err(reader.wrong_count(offset, "10 bytes or more a column", left.into()));
        }
        let columns = Self { left, reader: *reader };
        for _ in 0..left {
            ColumnMessage::read(reader)?;
        }
        Ok(columns)
    }
}

impl<'a> Iterator for Columns<'a> {
    type Item = ColumnMessage<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // Checked when the message was decoded, so this is never an error.
        ColumnMessage::read(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Columns<'_> {}

impl PartialEq for Columns<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.left == other.left && self.reader.rest() == other.reader.rest()
    }
}

impl Eq for Columns<'_> {}

// === impl TypeMessage ===

impl<'a> TypeMessage<'a> {
    pub(crate) fn read(reader: &mut Reader<'a>, in_stream: InStream) -> Result<Self, Error> {
        Ok(Self {
            xid: reader.stream_xid(in_stream)?,
            oid: reader.oid("the type's oid")?,
            namespace: namespace(reader)?,
            name: reader.name("a type name ended by NUL")?,
        })
    }
}

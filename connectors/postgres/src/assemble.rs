//! Puts decoded messages together: which table a row belongs to, which transaction, where that ends.

use crate::error::Error;
use relay_core::{Change, Lsn, Oid, Relation, Transaction};
use relay_pgoutput::{Decoder, Message, Tag};
use std::collections::HashMap;

/// Reads the messages of one pipeline's stream in the order received.
///
/// It spans connections, because the tables it knows do; [`Assembler::connected`] starts a new connection's stream. Streaming of
/// transactions in progress is never asked for, so a stream block is an error here.
#[derive(Debug, Default)]
pub struct Assembler {
    decoder: Decoder,
    tables: Tables,
    transaction: Option<Transaction>,
}

/// The tables met so far, each with the shape it has now. A [`TableId`] stays the same for the life of the process.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    relations: Vec<Relation>,
    by_oid: HashMap<Oid, TableId>,
    last: Option<(Oid, TableId)>,
    /// Names of the types that are not built in. The stream names a type before the first table that has a column of it.
    types: HashMap<Oid, Box<str>>,
}

/// A table's number, dense from 0, for plans kept beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableId(pub usize);

/// What one message means.
#[derive(Clone, Debug)]
pub enum Step<'a> {
    /// A transaction begins; its origin, if it has one, follows at once.
    Begin(Transaction),
    /// The transaction came from another server, or was replayed under that name.
    Origin {
        /// Name of the replication origin.
        name: &'a str,
        /// Where the origin committed it; zero when only the session has an origin.
        lsn: Lsn,
    },
    /// It ends.
    Commit {
        /// Start of its commit record.
        commit_lsn: Lsn,
        /// First byte behind its commit record.
        end_lsn: Lsn,
    },
    /// A table is new, or has another shape than this one, which it had before: compile its plan.
    Table(TableId, Option<Box<Relation>>),
    /// A table's shape was sent again, as it is behind every change of the table and on every connection. Keys, defaults and NOT NULL
    /// may have changed, which only the catalog says.
    Known(TableId),
    /// A row changed.
    Row(TableId, Change<'a>),
    /// Tables were truncated, those of them that are known; counts as one change.
    Truncate(Truncated),
    /// A transactional logical message.
    Message(Change<'a>),
    /// A logical message outside of transactions: no part of any, it counts nowhere.
    LooseMessage(Change<'a>),
    /// Nothing to do.
    Nothing,
}

/// One TRUNCATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// The tables, in the order of the message.
    pub tables: Vec<TableId>,
    /// Whether CASCADE was given.
    pub is_cascade: bool,
    /// Whether RESTART IDENTITY was given.
    pub restarts_identity: bool,
}

// === impl Assembler ===

impl Assembler {
    /// A new connection's stream starts: outside of any transaction.
    pub fn connected(&mut self) {
        self.decoder = Decoder::new();
        self.transaction = None;
    }

    /// Reads one message. Reading the same message again, as after back-pressure, gives the same answer.
    ///
    /// # Errors
    /// What the protocol does not allow, or a feature that was not asked for: the stream must stop.
    #[inline]
    pub fn read<'a>(&'a mut self, payload: &'a [u8]) -> Result<Step<'a>, Error> {
        let step = match self.decoder.decode(payload)? {
            Message::Insert(insert) => {
                let table = self.tables.find(insert.oid)?;
                Step::Row(table, Change::Insert { relation: &self.tables.relations[table.0], new: insert.new.row() })
            }
            Message::Begin(begin) => {
                let transaction =
                    Transaction { commit_lsn: begin.commit_lsn, commit_time_us: begin.commit_time.unix_us(), xid: begin.xid };
                self.transaction = Some(transaction);
                Step::Begin(transaction)
            }
            Message::Commit(commit) => Step::Commit { commit_lsn: commit.commit_lsn, end_lsn: commit.end_lsn },
            Message::Update(update) => {
                let table = self.tables.find(update.oid)?;
                let relation = &self.tables.relations[table.0];
                Step::Row(table, Change::Update { relation, old: update.old.map(|old| old.row()), new: update.new.row() })
            }
            Message::Delete(delete) => {
                let table = self.tables.find(delete.oid)?;
                Step::Row(table, Change::Delete { relation: &self.tables.relations[table.0], old: delete.old.row() })
            }
            Message::Relation(message) => self.tables.learn(message.to_relation()),
            Message::Truncate(truncate) => Step::Truncate(Truncated {
                tables: truncate.oids().filter_map(|oid| self.tables.by_oid.get(&oid).copied()).collect(),
                is_cascade: truncate.is_cascade,
                restarts_identity: truncate.restarts_identity,
            }),
            Message::Message(message) => {
                let change = Change::Message {
                    prefix: message.prefix,
                    content: message.content,
                    is_transactional: message.is_transactional,
                    lsn: message.lsn,
                };
                if message.is_transactional { Step::Message(change) } else { Step::LooseMessage(change) }
            }
            Message::Origin(origin) => Step::Origin { name: origin.name, lsn: origin.commit_lsn },
            Message::Type(message) => {
                self.tables.name_type(message.oid, message.name);
                Step::Nothing
            }
            other => return Err(Error::NotAskedFor(other.tag())),
        };
        Ok(step)
    }

    /// Whether this is a Relation message that gives a known table another shape, so that rows sent before it could not be read any more.
    #[must_use]
    pub fn reshapes(&mut self, payload: &[u8]) -> bool {
        if payload.first() != Some(&b'R') {
            return false;
        }
        match self.decoder.decode(payload) {
            Ok(Message::Relation(message)) => self.tables.reshapes(message.to_relation()),
            _ => false,
        }
    }

    /// What the first bytes of a frame that is too large to be kept say: the table if it is a row, nothing if it is a logical message.
    ///
    /// # Errors
    /// When it is neither: such a frame must not be passed by.
    pub fn peek(&self, head: &[u8]) -> Result<Option<TableId>, Error> {
        let peeked = relay_pgoutput::peek(head, false);
        match peeked.map(|peeked| (peeked.tag, peeked.oid)) {
            Some((Tag::Insert | Tag::Update | Tag::Delete, Some(oid))) => {
                self.tables.by_oid.get(&oid).map(|&table| Some(table)).ok_or(Error::UnknownRelation(oid))
            }
            Some((Tag::Message, _)) => Ok(None),
            _ => Err(Error::OversizeMessage),
        }
    }

    /// The transaction being read.
    #[must_use]
    pub fn transaction(&self) -> Transaction {
        self.transaction.unwrap_or_default()
    }

    /// The shape of a table.
    #[must_use]
    pub fn relation(&self, table: TableId) -> &Relation {
        &self.tables.relations[table.0]
    }
}

// === impl Tables ===

impl Tables {
    #[inline]
    fn find(&mut self, oid: Oid) -> Result<TableId, Error> {
        if let Some((last, table)) = self.last
            && last == oid
        {
            return Ok(table);
        }
        let table = *self.by_oid.get(&oid).ok_or(Error::UnknownRelation(oid))?;
        self.last = Some((oid, table));
        Ok(table)
    }

    /// Takes a Relation message.
    fn learn(&mut self, mut relation: Relation) -> Step<'static> {
        self.name_types(&mut relation);
        let next = TableId(self.relations.len());
        let table = *self.by_oid.entry(relation.oid).or_insert(next);
        let before = match self.relations.get_mut(table.0) {
            Some(known) if *known == relation => return Step::Known(table),
            Some(known) => Some(Box::new(std::mem::replace(known, relation))),
            None => {
                self.relations.push(relation);
                None
            }
        };
        Step::Table(table, before)
    }

    fn reshapes(&self, mut relation: Relation) -> bool {
        self.name_types(&mut relation);
        let known = self.by_oid.get(&relation.oid).and_then(|table| self.relations.get(table.0));
        known.is_some_and(|known| *known != relation)
    }

    fn name_types(&self, relation: &mut Relation) {
        for column in &mut relation.columns {
            column.type_name = self.types.get(&column.type_oid).cloned();
        }
    }

    fn name_type(&mut self, oid: Oid, name: &str) {
        match self.types.get_mut(&oid) {
            Some(known) if **known == *name => {}
            Some(known) => *known = name.into(),
            None => {
                self.types.insert(oid, name.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(identity: u8, columns: &[(&str, u32)]) -> Vec<u8> {
        let mut out = vec![b'R'];
        out.extend(16_384_u32.to_be_bytes());
        out.extend(b"public\0t\0");
        out.push(identity);
        out.extend((columns.len() as u16).to_be_bytes());
        for (name, oid) in columns {
            out.push(0);
            out.extend(name.as_bytes());
            out.push(0);
            out.extend(oid.to_be_bytes());
            out.extend((-1_i32).to_be_bytes());
        }
        out
    }

    fn type_name(oid: u32, name: &str) -> Vec<u8> {
        let mut out = vec![b'Y'];
        out.extend(oid.to_be_bytes());
        out.extend(b"public\0");
        out.extend(name.as_bytes());
        out.push(0);
        out
    }

    #[test]
    fn a_type_is_named_before_the_table_and_a_new_name_is_a_new_shape() {
        let mut assembler = Assembler::default();
        assembler.read(&type_name(20_000, "mood")).expect("a type");
        let message = relation(b'd', &[("id", 23), ("mood", 20_000)]);
        let Ok(Step::Table(table, None)) = assembler.read(&message) else { panic!("a new table") };
        let names: Vec<_> = assembler.relation(table).columns.iter().map(|column| column.type_name.as_deref()).collect();
        assert_eq!(names, [None, Some("mood")]);
        assert!(matches!(assembler.read(&message), Ok(Step::Known(known)) if known == table));
        assert!(!assembler.reshapes(&message));
        assembler.read(&type_name(20_000, "temper")).expect("a type");
        assert!(assembler.reshapes(&message) && !assembler.reshapes(&type_name(20_000, "temper")));
        let Ok(Step::Table(again, Some(before))) = assembler.read(&message) else { panic!("a new shape") };
        assert_eq!((again, before.columns[1].type_name.as_deref()), (table, Some("mood")));
        let Ok(Step::Table(_, Some(before))) = assembler.read(&relation(b'f', &[("id", 23)])) else { panic!("a new shape") };
        assert_eq!(before.columns.len(), 2);
    }
}

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
}

/// A table's number, dense from 0, for plans kept beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableId(pub usize);

/// What one message means.
#[derive(Clone, Debug)]
pub enum Step<'a> {
    /// A transaction begins.
    Begin(Transaction),
    /// It ends.
    Commit {
        /// Start of its commit record.
        commit_lsn: Lsn,
        /// First byte behind its commit record.
        end_lsn: Lsn,
    },
    /// A table is new, or has a new shape: compile its plan.
    Table(TableId),
    /// A row changed.
    Row(TableId, Change<'a>),
    /// Tables were truncated, those of them that are known; counts as one change.
    Truncate(Vec<TableId>),
    /// A transactional logical message.
    Message(Change<'a>),
    /// A logical message outside of transactions: no part of any, it counts nowhere.
    LooseMessage(Change<'a>),
    /// Nothing to do.
    Nothing,
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
            Message::Relation(message) => match self.tables.learn(message.to_relation()) {
                Some(table) => Step::Table(table),
                None => Step::Nothing,
            },
            Message::Truncate(truncate) => {
                Step::Truncate(truncate.oids().filter_map(|oid| self.tables.by_oid.get(&oid).copied()).collect())
            }
            Message::Message(message) => {
                let change = Change::Message {
                    prefix: message.prefix,
                    content: message.content,
                    is_transactional: message.is_transactional,
                    lsn: message.lsn,
                };
                if message.is_transactional { Step::Message(change) } else { Step::LooseMessage(change) }
            }
            Message::Type(_) | Message::Origin(_) => Step::Nothing,
            other => return Err(Error::NotAskedFor(other.tag())),
        };
        Ok(step)
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

    /// Takes a Relation message; `None` when it says what is known already.
    fn learn(&mut self, relation: Relation) -> Option<TableId> {
        let next = TableId(self.relations.len());
        let table = *self.by_oid.entry(relation.oid).or_insert(next);
        match self.relations.get_mut(table.0) {
            Some(known) if *known == relation => return None,
            Some(known) => *known = relation,
            None => self.relations.push(relation),
        }
        Some(table)
    }
}

//! What is remembered of the transaction being read, beside what the session knows of it: its origin, and counts of its records.

use relay_core::{Lsn, Relation};
use relay_encode::{Captures, RecordOrder};
use relay_postgres::TableId;
use std::fmt::Write as _;

/// The transaction being read, and the end of the one before.
#[derive(Clone, Debug, Default)]
pub(super) struct Open {
    /// Name and commit at the origin, of a transaction that was replayed from another server.
    origin: Option<(String, Lsn)>,
    /// End of the last transaction that was read.
    pub(super) previous_end: Option<Lsn>,
    /// The message outside of transactions that has a place in the window now.
    loose: Option<Lsn>,
    pub(super) counts: Counts,
}

/// Records of the transaction so far, where `format.transaction_metadata` asks for them. It counts what an earlier process or connection
/// sent of the transaction as well, so that the numbers go on.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Whether this transaction is counted.
    is_on: bool,
    /// Its BEGIN record is still to be sent.
    pub(super) is_begin_due: bool,
    /// Whether nothing came but what relay writes for itself.
    is_our_own: bool,
    total: u64,
    /// Names and records in the order of first appearance; those from `used` on are buffers of earlier transactions.
    tables: Vec<(String, u64)>,
    used: usize,
    /// For each table the transaction that it was last met in, and its place in `tables`.
    places: Vec<(u64, usize)>,
    /// Number of the transaction.
    number: u64,
    /// Records counted of a change that is not dealt with yet.
    parts: usize,
}

/// Prefix of the messages by which relay talks to itself.
const OUR_PREFIX: &str = "relay.";

// === impl Open ===

impl Open {
    pub(super) fn connected(&mut self) {
        self.loose = None;
        self.origin = None;
        self.counts.stop();
    }

    /// As it was where frames are read again from: a message outside of transactions that had its place in the window has none any more.
    pub(super) fn again(&self) -> Self {
        Self { loose: None, ..self.clone() }
    }

    /// Reading goes on behind `end_lsn`, perhaps for a second time: none that ended later came before the next transaction.
    pub(super) fn goes_on_at(&mut self, end_lsn: Lsn) {
        self.previous_end = self.previous_end.map(|previous| previous.min(end_lsn));
    }

    /// A transaction begins. `counts`: it is new, and its records are counted; `begins`: it has no record yet.
    pub(super) fn begin(&mut self, counts: bool, begins: bool) {
        self.origin = None;
        self.counts.start(counts, begins);
    }

    pub(super) fn set_origin(&mut self, name: String, lsn: Lsn) {
        self.origin = Some((name, lsn));
    }

    pub(super) fn commit(&mut self, end_lsn: Lsn) {
        self.previous_end = Some(end_lsn);
        self.counts.stop();
    }

    /// The origin, the counts and the message outside of transactions, apart.
    pub(super) fn split(&mut self) -> (Option<(&str, Lsn)>, &mut Counts, &mut Option<Lsn>) {
        (self.origin.as_ref().map(|(name, lsn)| (name.as_str(), *lsn)), &mut self.counts, &mut self.loose)
    }
}

// === impl Counts ===

impl Counts {
    fn start(&mut self, is_on: bool, begins: bool) {
        self.is_on = is_on;
        self.is_begin_due = is_on && begins;
        self.is_our_own = true;
        self.total = 0;
        self.used = 0;
        self.number += 1;
        self.parts = 0;
    }

    fn stop(&mut self) {
        self.is_on = false;
        self.is_begin_due = false;
    }

    /// Whether the transaction is counted.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// A change came, with the prefix of a message.
    pub(super) fn saw(&mut self, prefix: Option<&str>) {
        self.is_our_own &= prefix.is_some_and(|prefix| prefix.starts_with(OUR_PREFIX));
    }

    /// Whether the transaction has BEGIN and END: not when relay alone wrote in it.
    pub(super) fn has_records(&self) -> bool {
        self.is_on && !(self.is_our_own && self.total == 0)
    }

    /// Where the next record of the table stands.
    #[inline]
    pub(super) fn order(&self, table: TableId) -> Option<RecordOrder> {
        if !self.is_on {
            return None;
        }
        let place = self.places.get(table.0).filter(|(number, _)| *number == self.number).map(|(_, place)| *place);
        let before = place.and_then(|place| self.tables.get(place)).map_or(0, |(_, count)| *count);
        Some(RecordOrder { total: self.total + 1, in_table: before + 1 })
    }

    /// Where the next logical message stands: each is a table of its own.
    pub(super) fn message_order(&self) -> Option<RecordOrder> {
        self.is_on.then_some(RecordOrder { total: self.total + 1, in_table: 1 })
    }

    /// The table has so many records more.
    pub(super) fn add(&mut self, table: TableId, relation: &Relation, records: u64) {
        if records == 0 || !self.is_on {
            return;
        }
        if self.places.len() <= table.0 {
            self.places.resize(table.0 + 1, (0, 0));
        }
        if self.places.get(table.0).is_none_or(|(number, _)| *number != self.number) {
            let place = self.next_place(|name| {
                // Writing to memory does not fail.
                let _ = write!(name, "{relation}");
            });
            if let Some(slot) = self.places.get_mut(table.0) {
                *slot = (self.number, place);
            }
        }
        let place = self.places.get(table.0).map_or(usize::MAX, |(_, place)| *place);
        if let Some((_, count)) = self.tables.get_mut(place) {
            *count += records;
        }
        self.total += records;
    }

    /// The table's record number `part`, from 0 on, of a change of several tables; one that was counted is not counted again.
    pub(super) fn add_part(&mut self, part: usize, table: TableId, relation: &Relation) {
        if part >= self.parts {
            self.add(table, relation, 1);
            self.parts = part + 1;
        }
    }

    /// All records of a change of several tables are counted.
    pub(super) fn parts_done(&mut self) {
        self.parts = 0;
    }

    /// A logical message was published.
    pub(super) fn add_message(&mut self) {
        if !self.is_on {
            return;
        }
        let place = self.next_place(|name| name.push_str(Captures::MESSAGE_NAME));
        if let Some((_, count)) = self.tables.get_mut(place) {
            *count = 1;
        }
        self.total += 1;
    }

    /// The table has another name: its records from here on are told apart.
    pub(super) fn renamed(&mut self, table: TableId) {
        if let Some(slot) = self.places.get_mut(table.0) {
            *slot = (0, 0);
        }
    }

    /// Records of each table, as the END record tells them.
    pub(super) fn tables(&self) -> &[(String, u64)] {
        self.tables.get(..self.used).unwrap_or_default()
    }

    fn next_place(&mut self, write: impl FnOnce(&mut String)) -> usize {
        let place = self.used;
        if place == self.tables.len() {
            self.tables.push((String::new(), 0));
        }
        if let Some((name, count)) = self.tables.get_mut(place) {
            name.clear();
            *count = 0;
            write(name);
        }
        self.used += 1;
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_core::{Oid, ReplicaIdentity};

    fn relation(name: &str) -> Relation {
        Relation {
            oid: Oid(1),
            schema: "public".into(),
            name: name.into(),
            identity: ReplicaIdentity::Default,
            columns: Vec::new(),
        }
    }

    #[test]
    fn tables_and_messages_are_counted_in_the_order_of_first_appearance() {
        let (one, other) = (TableId(3), TableId(0));
        let mut open = Open::default();
        open.begin(false, true);
        assert!(open.counts.order(one).is_none() && !open.counts.is_begin_due);
        for _ in 0..2 {
            open.begin(true, true);
            let counts = &mut open.counts;
            assert!(counts.is_begin_due && !counts.has_records());
            counts.saw(Some("relay.doctor"));
            assert!(!counts.has_records());
            counts.saw(None);
            assert_eq!(counts.order(one), Some(RecordOrder { total: 1, in_table: 1 }));
            counts.add(one, &relation("b"), 1);
            counts.add(other, &relation("a"), 0);
            counts.add_message();
            counts.add(other, &relation("a"), 2);
            counts.add(one, &relation("b"), 2);
            assert_eq!(counts.order(one), Some(RecordOrder { total: 7, in_table: 4 }));
            counts.renamed(one);
            counts.add(one, &relation("c"), 1);
            let tables: Vec<_> = counts.tables().iter().map(|(name, count)| (name.as_str(), *count)).collect();
            assert_eq!(tables, [("public.b", 3), ("LOGICAL_DECODING_MESSAGE", 1), ("public.a", 2), ("public.c", 1)]);
            assert!(counts.has_records());
        }
        // A truncate is offered again from its second table on: the first is not counted twice.
        open.begin(true, true);
        for part in [0, 0, 1] {
            open.counts.add_part(part, one, &relation("b"));
        }
        open.counts.parts_done();
        open.counts.add_part(0, one, &relation("b"));
        assert_eq!(open.counts.tables(), [("public.b".to_owned(), 3)]);
        open.commit(Lsn(9));
        assert!(!open.counts.is_on() && open.previous_end == Some(Lsn(9)));
        open.goes_on_at(Lsn(12));
        assert_eq!(open.previous_end, Some(Lsn(9)), "a keepalive is no transaction");
        open.goes_on_at(Lsn(5));
        assert_eq!(open.previous_end, Some(Lsn(5)), "after a rewind");
    }
}

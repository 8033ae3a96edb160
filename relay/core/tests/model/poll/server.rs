//! A model server as polling sees it: writers with xids, snapshots, outbox tables; and slot and log, for the other mode.

use super::super::chance::Chance;
use super::super::oracle::{Excuse, Oracle, Row, RowId};
use super::super::postgres::Item;
use relay_core::session::{Exported, Server, Slot, Tick};
use relay_core::{Lsn, Snapshot};
use std::collections::{BTreeMap, VecDeque};

/// Two tables in ticks, and one whose rows are claimed.
pub(crate) const TABLES: [&str; 3] = ["public.outbox", "public.audit", "public.queue"];
pub(crate) const CLAIMED: usize = 2;
/// Writers take no lock on this key of a table: nobody promises its order.
const LOOSE: u8 = 7;

/// A row of an outbox table.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    pub(crate) table: usize,
    pub(crate) xid: u64,
    pub(crate) order: i64,
    pub(crate) row: Row,
    /// Once committed: where, and its place in the transaction.
    pub(crate) commit: Option<(Lsn, u64)>,
    pub(crate) is_marked: bool,
    deleted_by: Option<u64>,
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    /// Its commit record is written, and snapshots still call it in progress.
    Written,
    Committed,
    Aborted,
}

/// Who holds the polling lock or the slot; a connection that is gone is noticed later.
#[derive(Clone, Copy, Debug)]
struct Holder {
    connection: u64,
    free_at_ms: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Primary {
    pub(crate) system_id: &'static str,
    pub(crate) timeline: u32,
    pub(crate) switch_points: Vec<(u32, Lsn)>,
    pub(crate) wal_end: Lsn,
    pub(crate) rows: Vec<Outbox>,
    /// By xid; the first is 3.
    fates: BTreeMap<u64, Fate>,
    next_xid: u64,
    latest_completed: u64,
    /// Who holds a key until its transaction is over.
    locked: BTreeMap<u8, u64>,
    next_order: [i64; 3],
    next_row: RowId,
    /// Tables that writers use.
    pub(crate) tables: &'static [usize],
    /// Commit and end of each transaction, with its rows in order.
    log: Vec<(Lsn, Lsn, Vec<Row>)>,
    /// Everything before it was confirmed.
    pub(crate) slot: Option<Lsn>,
    pub(crate) has_publication: bool,
    holder: Option<Holder>,
    is_slot_held: bool,
    next_connection: u64,
}

// === impl Outbox ===

impl Outbox {
    fn is_kept(&self) -> bool {
        self.deleted_by.is_none()
    }
}

// === impl Primary: writers ===

impl Primary {
    pub(crate) fn new(tables: &'static [usize]) -> Self {
        Self {
            system_id: "7001",
            timeline: 1,
            switch_points: Vec::new(),
            wal_end: Lsn(1_000),
            rows: Vec::new(),
            fates: BTreeMap::new(),
            next_xid: 3,
            latest_completed: 2,
            locked: BTreeMap::new(),
            next_order: [-3, 1, 1],
            next_row: 1,
            tables,
            log: Vec::new(),
            slot: None,
            has_publication: false,
            holder: None,
            is_slot_held: false,
            next_connection: 1,
        }
    }

    fn with(&self, fate: Fate) -> Vec<u64> {
        self.fates.iter().filter(|&(_, found)| *found == fate).map(|(&xid, _)| xid).collect()
    }

    fn is_running(&self, xid: u64) -> bool {
        matches!(self.fates.get(&xid), Some(Fate::Open | Fate::Written))
    }

    fn pick(&self, fate: Fate, chance: &mut Chance) -> Option<u64> {
        let found = self.with(fate);
        found.get(chance.below(found.len() as u64) as usize).copied()
    }

    fn grow(&mut self, chance: &mut Chance) -> Lsn {
        self.wal_end = Lsn(self.wal_end.0 + chance.between(1, 30));
        self.wal_end
    }

    fn begin(&mut self) -> u64 {
        let xid = self.next_xid;
        self.next_xid += 1;
        self.fates.insert(xid, Fate::Open);
        xid
    }

    /// One step of some writer. Several are open at a time, some with an xid long before their first row.
    pub(crate) fn work(&mut self, chance: &mut Chance, oracle: &mut Oracle, has_bad: bool) {
        if let Some(xid) = self.pick(Fate::Written, chance).filter(|_| chance.one_in(3)) {
            self.complete(xid, Fate::Committed);
        }
        let open = self.with(Fate::Open).len();
        match chance.below(12) {
            0 | 1 if open < 5 => {
                self.begin();
            }
            0..=2 => {
                if let Some(xid) = self.pick(Fate::Open, chance) {
                    self.abort(xid, chance);
                }
            }
            // Back to a savepoint: the order value is used up.
            3 => {
                if let Some(at) = self.rows.iter().rposition(|row| self.fates.get(&row.xid) == Some(&Fate::Open)) {
                    self.rows.remove(at);
                }
            }
            4..=6 => {
                if let Some(xid) = self.pick(Fate::Open, chance) {
                    self.commit(xid, chance, oracle);
                }
            }
            _ => {
                let xid = self.pick(Fate::Open, chance).filter(|_| chance.below(3) > 0).unwrap_or_else(|| self.begin());
                for _ in 0..chance.between(1, 3) {
                    self.insert(xid, chance, has_bad);
                }
            }
        }
    }

    fn insert(&mut self, xid: u64, chance: &mut Chance, has_bad: bool) {
        let table = self.tables[chance.below(self.tables.len() as u64) as usize];
        let key = table as u8 * 16 + chance.below(u64::from(LOOSE) + 1) as u8;
        // A writer takes the key's lock first; here it does something else while another one has it.
        if key % 16 != LOOSE && *self.locked.entry(key).or_insert(xid) != xid {
            return;
        }
        let is_bad = has_bad && chance.one_in(12);
        let row = Row {
            id: self.next_row,
            transaction: self.next_row,
            key,
            is_event: is_bad || chance.below(6) > 0,
            records: 1,
            is_bad,
            is_extra: false,
            bytes: if chance.one_in(40) { 500 } else { chance.between(5, 40) as usize },
        };
        self.next_row += 1;
        let order = self.next_order[table];
        self.next_order[table] += 1;
        self.rows.push(Outbox { table, xid, order, row, commit: None, is_marked: false, deleted_by: None });
        self.grow(chance);
    }

    fn commit(&mut self, xid: u64, chance: &mut Chance, oracle: &mut Oracle) {
        let commit_lsn = self.grow(chance);
        let end_lsn = self.grow(chance);
        let mut rows = Vec::new();
        for row in self.rows.iter_mut().filter(|row| row.xid == xid) {
            row.commit = Some((commit_lsn, rows.len() as u64));
            oracle.committed(commit_lsn, row.row);
            if row.row.key % 16 == LOOSE && row.row.is_event {
                oracle.excuse(row.row.id, Excuse::Refused);
            }
            rows.push(row.row);
        }
        self.log.push((commit_lsn, end_lsn, rows));
        self.fates.insert(xid, Fate::Written);
        if chance.one_in(2) {
            self.complete(xid, Fate::Committed);
        }
    }

    fn abort(&mut self, xid: u64, chance: &mut Chance) {
        self.grow(chance);
        self.complete(xid, Fate::Aborted);
    }

    /// From now on new snapshots call it over, and its locks are free.
    fn complete(&mut self, xid: u64, fate: Fate) {
        self.fates.insert(xid, fate);
        self.latest_completed = self.latest_completed.max(xid);
        self.locked.retain(|_, holder| *holder != xid);
    }

    /// Every writer comes to its end.
    pub(crate) fn finish_writers(&mut self, chance: &mut Chance, oracle: &mut Oracle) {
        for xid in self.with(Fate::Open) {
            if chance.one_in(3) {
                self.abort(xid, chance);
            } else {
                self.commit(xid, chance, oracle);
            }
        }
        for xid in self.with(Fate::Written) {
            self.complete(xid, Fate::Committed);
        }
    }

    /// A crash of the server: who was open is gone, what was written stays, every connection breaks.
    pub(crate) fn restart(&mut self, chance: &mut Chance) {
        for xid in self.with(Fate::Open) {
            // A prepared transaction is still there afterwards.
            if chance.below(4) > 0 {
                self.abort(xid, chance);
            }
        }
        for xid in self.with(Fate::Written) {
            self.complete(xid, Fate::Committed);
        }
        self.holder = None;
    }
}

// === impl Primary: what queries see ===

impl Primary {
    /// `pg_current_snapshot()`.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let xmax = self.latest_completed + 1;
        let xip: Vec<u64> = self.fates.keys().copied().filter(|&xid| xid < xmax && self.is_running(xid)).collect();
        snapshot(xip.first().copied().unwrap_or(xmax), xmax, &xip)
    }

    /// The snapshot of a new slot: decoding knows commit records alone, so it also calls an aborted transaction in progress.
    fn slot_snapshot(&self) -> Snapshot {
        let has_record = |xid: &u64| matches!(self.fates.get(xid), Some(Fate::Written | Fate::Committed));
        let last = self.fates.keys().rev().find(|xid| has_record(xid)).copied();
        let xmax = last.map_or(3, |last| last + 1).max(self.latest_completed + 1);
        let xmin = self.fates.keys().copied().find(|&xid| self.is_running(xid)).unwrap_or(xmax).min(xmax);
        let xip: Vec<u64> = (xmin..xmax).filter(|xid| !has_record(xid)).collect();
        snapshot(xmin, xmax, &xip)
    }

    fn is_visible(&self, row: &Outbox, exported: Option<&Snapshot>) -> bool {
        match exported {
            Some(seen) => row.commit.is_some() && seen.sees(row.xid) && row.deleted_by.is_none_or(|xid| !seen.sees(xid)),
            None => self.fates.get(&row.xid) == Some(&Fate::Committed) && row.is_kept(),
        }
    }

    /// The tick query, condition by condition as the connector writes it.
    pub(crate) fn read_tick(
        &self,
        table: usize,
        (previous, tick): (&Snapshot, &Snapshot),
        from: Option<i64>,
        exported: Option<&Snapshot>,
    ) -> VecDeque<Outbox> {
        let is_in = |row: &&Outbox| {
            let is_later = row.xid >= previous.xmax() && row.xid < tick.xmax();
            let was_open = previous.xip().contains(&row.xid) && tick.sees(row.xid);
            (is_later || was_open) && tick.sees(row.xid) && from.is_none_or(|from| row.order >= from)
        };
        let mut rows: Vec<Outbox> =
            self.rows.iter().filter(|row| row.table == table && self.is_visible(row, exported)).filter(is_in).cloned().collect();
        rows.sort_by_key(|row| row.order);
        rows.into()
    }

    /// Rows of the claimed table without a mark; of these keys, if some are given.
    pub(crate) fn read_claim(&self, keys: Option<&[RowId]>, limit: usize) -> VecDeque<Outbox> {
        let is_wanted = |row: &&Outbox| {
            let is_named = keys.is_none_or(|keys| keys.contains(&row.row.id));
            row.table == CLAIMED && !row.is_marked && self.is_visible(row, None) && is_named
        };
        let mut rows: Vec<Outbox> = self.rows.iter().filter(is_wanted).cloned().collect();
        rows.sort_by_key(|row| row.order);
        rows.truncate(if keys.is_some() { usize::MAX } else { limit });
        rows.into()
    }

    pub(crate) fn committed(&self) -> impl Iterator<Item = &Outbox> {
        self.rows.iter().filter(|row| row.commit.is_some())
    }

    /// Whether no published row waits for its mark.
    pub(crate) fn is_marked(&self) -> bool {
        self.committed().all(|row| row.is_marked)
    }

    pub(crate) fn find(&self, id: RowId) -> Option<&Outbox> {
        self.rows.iter().find(|row| row.row.id == id)
    }

    /// Rows without a mark, of a table in ticks, that a snapshot sees.
    pub(crate) fn left(&self, published: &Snapshot) -> Vec<RowId> {
        let is_left =
            |row: &&Outbox| row.table != CLAIMED && !row.is_marked && self.is_visible(row, None) && published.sees(row.xid);
        self.rows.iter().filter(is_left).map(|row| row.row.id).collect()
    }

    /// Marks or deletes published rows, in a transaction of its own.
    pub(crate) fn mark(&mut self, rows: &[RowId], chance: &mut Chance) {
        let xid = self.begin();
        for row in self.rows.iter_mut().filter(|row| rows.contains(&row.row.id) && row.is_kept()) {
            row.is_marked = true;
            // The second table keeps its rows.
            row.deleted_by = Some(xid).filter(|_| row.table != 1);
        }
        let commit_lsn = self.grow(chance);
        let end_lsn = self.grow(chance);
        self.log.push((commit_lsn, end_lsn, Vec::new()));
        self.complete(xid, Fate::Committed);
    }

    pub(crate) fn tick(&self) -> Tick {
        Tick { snapshot: self.snapshot(), wal_end: self.wal_end, time_us: 0 }
    }

    pub(crate) fn inspect(&self) -> Server {
        Server {
            system_id: self.system_id.into(),
            timeline: self.timeline,
            switch_points: self.switch_points.clone(),
            database: "shop".into(),
            wal_end: self.wal_end,
            is_standby: false,
            snapshot: Some(self.snapshot()),
            slot: self.slot.map(|confirmed_flush| Slot {
                unfit: None,
                is_lost: false,
                confirmed_flush,
                is_active: self.is_slot_held && self.holder.is_some(),
            }),
            publication: self.has_publication.then(|| "v1".into()),
        }
    }
}

// === impl Primary: lock, slot and stream ===

impl Primary {
    /// The lock, or the slot's stream. The error is the holder.
    pub(crate) fn hold(&mut self, is_slot: bool, now_ms: u64) -> Result<u64, u64> {
        if let Some(holder) = self.holder.filter(|holder| holder.free_at_ms.is_none_or(|at_ms| now_ms < at_ms)) {
            return Err(holder.connection);
        }
        let connection = self.next_connection;
        self.next_connection += 1;
        self.holder = Some(Holder { connection, free_at_ms: None });
        self.is_slot_held = is_slot;
        Ok(connection)
    }

    pub(crate) fn is_intact(&self, connection: u64) -> bool {
        self.holder.is_some_and(|holder| holder.connection == connection)
    }

    /// The client has closed it.
    pub(crate) fn close(&mut self, connection: u64, free_at_ms: u64) {
        if let Some(holder) = self.holder.as_mut().filter(|holder| holder.connection == connection) {
            holder.free_at_ms = Some(free_at_ms);
        }
    }

    pub(crate) fn cut(&mut self) {
        self.holder = None;
    }

    pub(crate) fn turn(&mut self, now_ms: u64) {
        self.holder = self.holder.filter(|holder| holder.free_at_ms.is_none_or(|at_ms| now_ms < at_ms));
    }

    /// Transactions that a new slot waits for.
    pub(crate) fn running(&self) -> Vec<u64> {
        self.fates.keys().copied().filter(|&xid| self.is_running(xid)).collect()
    }

    pub(crate) fn are_over(&self, xids: &[u64]) -> bool {
        !xids.iter().any(|&xid| self.is_running(xid))
    }

    pub(crate) fn create_slot(&mut self) -> Exported {
        let consistent = self.wal_end;
        self.slot = Some(consistent);
        Exported { tick: Tick { snapshot: self.slot_snapshot(), wal_end: consistent, time_us: 0 }, consistent }
    }

    /// What the stream carries next, for a reader who has everything before `at`; the position behind it.
    pub(crate) fn stream(&self, at: Lsn) -> (Vec<Item>, Lsn) {
        let Some((commit_lsn, end_lsn, rows)) = self.log.iter().find(|(commit_lsn, ..)| *commit_lsn >= at) else {
            return (vec![Item::Keepalive(self.wal_end, false)], self.wal_end);
        };
        let changes = rows.iter().map(|&row| Item::Change(row));
        let items = std::iter::once(Item::Begin(*commit_lsn)).chain(changes).chain([Item::Commit(*commit_lsn, *end_lsn)]);
        (items.collect(), *end_lsn)
    }
}

fn snapshot(xmin: u64, xmax: u64, xip: &[u64]) -> Snapshot {
    let xip: Vec<String> = xip.iter().map(u64::to_string).collect();
    format!("{xmin}:{xmax}:{}", xip.join(",")).parse().expect("as PostgreSQL prints it")
}

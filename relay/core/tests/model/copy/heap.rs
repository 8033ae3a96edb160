//! A model server: tables whose rows lie in blocks, transactions that are in the log before queries see them, and the log.

use super::super::chance::Chance;
use relay_core::checkpoint::Tid;
use relay_core::session::{Server, Slot};
use relay_core::{Lsn, Snapshot, Xid};
use std::collections::BTreeSet;

/// The tables: one with a key, one without.
pub(crate) const TABLES: [&str; 2] = ["public.keyed", "public.loose"];
pub(crate) const KEYED: usize = 0;
/// Rows that a block has room for.
const ROOM: usize = 3;

/// A row's image: the number of the change that made it. Of two images of one row the higher one is newer.
pub(crate) type Image = u64;

/// A row as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Version {
    pub(crate) row: u64,
    pub(crate) image: Image,
    pub(crate) tid: Tid,
    made_by: u64,
    ended_by: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Write,
    Delete,
    Truncate,
}

/// A change as the log has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changed {
    pub(crate) table: usize,
    pub(crate) row: u64,
    pub(crate) image: Image,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Logged {
    Change(Changed),
    Message(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Committed {
    pub(crate) commit_lsn: Lsn,
    pub(crate) end_lsn: Lsn,
    pub(crate) xid: u64,
    pub(crate) changes: Vec<Logged>,
}

#[derive(Clone, Debug)]
struct Running {
    xid: u64,
    changes: Vec<Changed>,
    /// Its commit is in the log; when queries see it.
    visible_at_ms: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) file: u32,
    pub(crate) blocks: u32,
    pub(crate) rows: Vec<Version>,
    /// The newest truncate.
    pub(crate) truncated: Image,
}

#[derive(Debug)]
pub(crate) struct Heap {
    pub(crate) tables: [Table; 2],
    pub(crate) log: Vec<Committed>,
    pub(crate) wal_end: Lsn,
    pub(crate) slot: Option<Lsn>,
    pub(crate) has_publication: bool,
    /// How long commits stay invisible at most.
    pub(crate) lag_ms: u64,
    /// Somebody reads the tables in a transaction.
    pub(crate) is_locked: bool,
    running: Vec<Running>,
    over: BTreeSet<u64>,
    next_xid: u64,
    next_image: Image,
    next_row: u64,
    next_file: u32,
}

// === impl Heap ===

impl Heap {
    pub(crate) fn new(chance: &mut Chance, rows: u64) -> Self {
        let table = |file| Table { file, ..Table::default() };
        let mut heap = Self {
            tables: [table(1), table(2)],
            log: Vec::new(),
            wal_end: Lsn(1_000),
            slot: None,
            has_publication: false,
            lag_ms: 0,
            is_locked: false,
            running: Vec::new(),
            over: BTreeSet::new(),
            next_xid: 10,
            next_image: 1,
            next_row: 1,
            next_file: 3,
        };
        for at in 0..rows {
            heap.begin(chance, Some((at % 2) as usize));
            heap.commit(0, 0, chance);
            heap.turn(0);
        }
        heap.log.clear();
        heap
    }

    fn place(&mut self, table: usize, chance: &mut Chance) -> Tid {
        let Table { blocks, rows, .. } = &mut self.tables[table];
        let is_taken = |tid: Tid| rows.iter().any(|version| version.tid == tid);
        for _ in 0..4 {
            let block = chance.below(u64::from(*blocks).max(1)) as u32;
            for line in 1..=ROOM as u16 {
                let tid = Tid::new(block, line);
                if block < *blocks && !is_taken(tid) {
                    return tid;
                }
            }
        }
        *blocks += 1;
        Tid::new(*blocks - 1, 1)
    }

    fn write(&mut self, table: usize, row: u64, xid: u64, chance: &mut Chance) -> Changed {
        let tid = self.place(table, chance);
        let image = self.next_image;
        self.next_image += 1;
        self.tables[table].rows.push(Version { row, image, tid, made_by: xid, ended_by: None });
        Changed { table, row, image, kind: Kind::Write }
    }

    /// A transaction begins, and does all that it will do.
    pub(crate) fn begin(&mut self, chance: &mut Chance, table: Option<usize>) {
        let xid = self.next_xid;
        self.next_xid += 1;
        let mut changes = Vec::new();
        for _ in 0..chance.between(1, 3) {
            let table = table.unwrap_or(chance.below(2) as usize);
            let is_free = |version: &&mut Version| {
                version.ended_by.is_none() && (version.made_by == xid || self.over.contains(&version.made_by))
            };
            let count = self.tables[table].rows.iter_mut().filter(is_free).count() as u64;
            let is_new = count == 0 || (count < 20 && chance.one_in(3)) || self.log.is_empty() && !self.has_publication;
            if is_new {
                let row = self.next_row;
                self.next_row += 1;
                changes.push(self.write(table, row, xid, chance));
                continue;
            }
            let at = chance.below(count) as usize;
            let Some(version) = self.tables[table].rows.iter_mut().filter(is_free).nth(at) else { continue };
            version.ended_by = Some(xid);
            let row = version.row;
            if chance.one_in(4) {
                changes.push(Changed { table, row, image: self.next_image, kind: Kind::Delete });
                self.next_image += 1;
            } else {
                changes.push(self.write(table, row, xid, chance));
            }
        }
        self.running.push(Running { xid, changes, visible_at_ms: None });
    }

    fn uncommitted(&self) -> impl Iterator<Item = usize> {
        (0..self.running.len()).filter(|&at| self.running[at].visible_at_ms.is_none())
    }

    /// A transaction that is open commits: into the log at once, and visible some time later.
    pub(crate) fn commit(&mut self, now_ms: u64, at: usize, chance: &mut Chance) {
        let Some(at) = self.uncommitted().nth(at) else { return };
        let changes = self.running[at].changes.iter().map(|change| Logged::Change(*change)).collect();
        self.running[at].visible_at_ms = Some(now_ms + if self.lag_ms > 0 { chance.below(self.lag_ms) } else { 0 });
        self.append(self.running[at].xid, changes, chance);
    }

    fn append(&mut self, xid: u64, changes: Vec<Logged>, chance: &mut Chance) -> Lsn {
        let commit_lsn = Lsn(self.wal_end.0 + chance.between(1, 50));
        self.wal_end = Lsn(commit_lsn.0 + chance.between(1, 20));
        self.log.push(Committed { commit_lsn, end_lsn: self.wal_end, xid, changes });
        commit_lsn
    }

    fn abort(&mut self, at: usize) {
        let xid = self.running.remove(at).xid;
        for table in &mut self.tables {
            table.rows.retain(|version| version.made_by != xid);
            table.rows.iter_mut().filter(|version| version.ended_by == Some(xid)).for_each(|version| version.ended_by = None);
        }
        self.over.insert(xid);
    }

    /// A step of the writers.
    pub(crate) fn work(&mut self, now_ms: u64, chance: &mut Chance) {
        let open = self.uncommitted().count() as u64;
        match chance.below(8) {
            0..=3 if open < 4 => self.begin(chance, None),
            0..=5 if open > 0 => self.commit(now_ms, chance.below(open) as usize, chance),
            6 if open > 0 => {
                let at = self.uncommitted().next().expect("one is open");
                self.abort(at);
            }
            7 => self.vacuum(),
            _ => {}
        }
    }

    pub(crate) fn finish_writers(&mut self, now_ms: u64, chance: &mut Chance) {
        self.lag_ms = 0;
        while self.uncommitted().count() > 0 {
            self.commit(now_ms, 0, chance);
        }
        self.running.iter_mut().for_each(|running| running.visible_at_ms = Some(0));
        self.turn(now_ms);
    }

    fn vacuum(&mut self) {
        let oldest = self.running.iter().map(|running| running.xid).min().unwrap_or(self.next_xid);
        let over = &self.over;
        let is_dead = |version: &Version| version.ended_by.is_some_and(|xid| xid < oldest && over.contains(&xid));
        self.tables.iter_mut().for_each(|table| table.rows.retain(|version| !is_dead(version)));
    }

    /// The table gets a new file: rewritten as `VACUUM FULL` does, or emptied.
    pub(crate) fn rewrite(&mut self, now_ms: u64, table: usize, is_truncate: bool, chance: &mut Chance) {
        if self.is_locked {
            return;
        }
        self.finish_writers(now_ms, chance);
        self.vacuum();
        self.next_file += 1;
        let old = std::mem::replace(&mut self.tables[table], Table { file: self.next_file, ..Table::default() });
        self.tables[table].truncated = old.truncated;
        if is_truncate {
            let xid = self.next_xid;
            self.next_xid += 1;
            let change = Changed { table, row: 0, image: self.next_image, kind: Kind::Truncate };
            self.tables[table].truncated = self.next_image;
            self.next_image += 1;
            self.append(xid, vec![Logged::Change(change)], chance);
            self.over.insert(xid);
            return;
        }
        for version in old.rows.into_iter().rev() {
            let tid = self.place(table, chance);
            self.tables[table].rows.push(Version { tid, ..version });
        }
    }

    /// Time passes: commits become visible.
    pub(crate) fn turn(&mut self, now_ms: u64) {
        let over = &mut self.over;
        self.running.retain(|running| {
            let is_over = running.visible_at_ms.is_some_and(|at_ms| at_ms <= now_ms);
            if is_over {
                over.insert(running.xid);
            }
            !is_over
        });
    }

    fn snapshot_of(&self, is_open: impl Fn(&Running) -> bool) -> Snapshot {
        let open: Vec<u64> = self.running.iter().filter(|running| is_open(running)).map(|running| running.xid).collect();
        let done = (10..self.next_xid).rev().find(|xid| !open.contains(xid)).unwrap_or(9);
        let mut open: Vec<u64> = open.into_iter().filter(|xid| *xid <= done).collect();
        open.sort_unstable();
        let xmin = open.first().copied().unwrap_or(done + 1);
        let list: Vec<String> = open.iter().map(u64::to_string).collect();
        format!("{xmin}:{}:{}", done + 1, list.join(",")).parse().expect("legal")
    }

    /// What a query sees now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot_of(|_| true)
    }

    /// What decoding sees: every commit that is in the log.
    fn decoded(&self) -> Snapshot {
        self.snapshot_of(|running| running.visible_at_ms.is_none())
    }

    pub(crate) fn take_id(&mut self) -> u64 {
        self.next_xid += 1;
        self.over.insert(self.next_xid - 1);
        self.next_xid - 1
    }

    pub(crate) fn message(&mut self, text: String, chance: &mut Chance) {
        let xid = self.take_id();
        self.append(xid, vec![Logged::Message(text)], chance);
    }

    /// Transactions without a commit in the log.
    pub(crate) fn open(&self) -> Vec<u64> {
        self.uncommitted().map(|at| self.running[at].xid).collect()
    }

    pub(crate) fn create_slot(&mut self) -> (Snapshot, Lsn) {
        self.slot = Some(self.wal_end);
        (self.decoded(), self.wal_end)
    }

    pub(crate) fn rows(&self, table: usize, from: Tid, to: Tid, snapshot: &Snapshot) -> Vec<Version> {
        let sees = |version: &&Version| snapshot.sees(version.made_by) && version.ended_by.is_none_or(|xid| !snapshot.sees(xid));
        let mut rows: Vec<Version> =
            self.tables[table].rows.iter().filter(sees).filter(|version| (from..to).contains(&version.tid)).copied().collect();
        rows.sort_by_key(|version| version.tid);
        rows
    }

    pub(crate) fn inspect(&self) -> Server {
        Server {
            system_id: "7001".into(),
            timeline: 1,
            switch_points: Vec::new(),
            database: "shop".into(),
            wal_end: self.wal_end,
            is_standby: false,
            snapshot: None,
            slot: self.slot.map(|confirmed_flush| Slot { unfit: None, is_lost: false, confirmed_flush, is_active: false }),
            publication: self.has_publication.then(|| "p".into()),
        }
    }

    pub(crate) fn xid(committed: &Committed) -> Xid {
        Xid(committed.xid as u32)
    }
}

//! A model server: its log, its slot in memory and on disk, and the streams it sends.

use super::chance::Chance;
use super::oracle::{Excuse, Oracle, Row};
use relay_core::session::{Confirmation, Server, Slot};
use relay_core::{Kind, Lsn};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub(crate) struct Committed {
    pub(crate) commit_lsn: Lsn,
    pub(crate) end_lsn: Lsn,
    pub(crate) rows: Vec<Row>,
}

/// What the stream carries.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Begin(Lsn),
    /// Tables have that shape from here on.
    Relation(u64),
    Change(Row),
    Commit(Lsn, Lsn),
    Keepalive(Lsn, bool),
}

#[derive(Debug)]
pub(crate) struct SlotModel {
    pub(crate) confirmed: Lsn,
    on_disk: Lsn,
    pub(crate) holder: Option<u64>,
}

/// A walsender and its connection.
#[derive(Debug)]
struct Sender {
    start: Lsn,
    /// Transactions with a lower commit LSN are behind it.
    at: Lsn,
    inside: Option<(Lsn, usize)>,
    publication: u8,
    /// Highest position that the client has taken from the stream.
    named: Lsn,
    flushed: Lsn,
    /// The server has dropped it; so many items can still be read from the socket's buffer.
    cut: Option<u64>,
    /// What the server could still send before it was cut.
    sent_to: Lsn,
    is_closed: bool,
    shape: Option<u64>,
    free_at_ms: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Postgres {
    pub(crate) system_id: &'static str,
    pub(crate) timeline: u32,
    switch_points: Vec<(u32, Lsn)>,
    pub(crate) log: Vec<Committed>,
    pub(crate) wal_end: Lsn,
    pub(crate) slot: Option<SlotModel>,
    pub(crate) has_publication: bool,
    senders: BTreeMap<u64, Sender>,
    next_connection: u64,
    pub(crate) down_until_ms: u64,
    pub(crate) is_shutting_down: bool,
    /// How often somebody changed slot or history so that a gap or a divergence is a right answer.
    pub(crate) meddled: u64,
    /// One in so many broken connections is noticed by silence.
    pub(crate) silence: u64,
    /// Tables change their shape every few rows.
    pub(crate) has_shapes: bool,
}

// === impl Postgres ===

impl Postgres {
    pub(crate) fn new(system_id: &'static str) -> Self {
        Self {
            system_id,
            timeline: 1,
            switch_points: Vec::new(),
            log: Vec::new(),
            wal_end: Lsn(1_000),
            slot: None,
            has_publication: false,
            senders: BTreeMap::new(),
            // Different on each server.
            next_connection: system_id.len() as u64 * 1_000_000 + u64::from(system_id.as_bytes()[0]) * 10_000,
            down_until_ms: 0,
            is_shutting_down: false,
            meddled: 0,
            silence: 0,
            has_shapes: false,
        }
    }

    pub(crate) fn commit(&mut self, rows: Vec<Row>, chance: &mut Chance, oracle: &mut Oracle) {
        let commit_lsn = Lsn(self.wal_end.0 + chance.between(1, 50));
        let end_lsn = Lsn(commit_lsn.0 + chance.between(1, 20));
        for &row in &rows {
            oracle.committed(commit_lsn, row);
        }
        self.wal_end = end_lsn;
        if self.has_publication {
            self.log.push(Committed { commit_lsn, end_lsn, rows });
        } else {
            // Before the slot's birth: nobody promised to publish it.
            rows.iter().for_each(|row| oracle.excuse_all(row, Excuse::Gap));
        }
    }

    /// Tables that nobody published write.
    pub(crate) fn other_work(&mut self, bytes: u64) {
        self.wal_end = Lsn(self.wal_end.0 + bytes);
    }

    pub(crate) fn is_up(&self, now_ms: u64) -> bool {
        now_ms >= self.down_until_ms && !self.is_shutting_down
    }

    /// What the server says; `option` is how the asking process wants its rows sent.
    pub(crate) fn inspect(&self, option: u8) -> Server {
        Server {
            system_id: self.system_id.into(),
            timeline: self.timeline,
            switch_points: self.switch_points.clone(),
            database: "shop".into(),
            wal_end: self.wal_end,
            is_standby: false,
            snapshot: None,
            slot: self.slot.as_ref().map(|slot| Slot {
                unfit: None,
                is_lost: false,
                confirmed_flush: slot.confirmed,
                is_active: false,
            }),
            publication: self.has_publication.then(|| format!("v{option}")),
        }
    }

    pub(crate) fn create_slot(&mut self) {
        if self.slot.is_none() {
            self.slot = Some(SlotModel { confirmed: self.wal_end, on_disk: self.wal_end, holder: None });
        }
    }

    /// START_REPLICATION. The error is the holder, if that is the reason.
    pub(crate) fn start(&mut self, start: Lsn, option: u8) -> Result<u64, Option<u64>> {
        let slot = self.slot.as_mut().ok_or(None)?;
        if let Some(holder) = slot.holder {
            return Err(Some(holder));
        }
        let id = self.next_connection;
        self.next_connection += 1;
        slot.holder = Some(id);
        let start = start.max(slot.confirmed);
        // Decoding begins at restart_lsn, below everything confirmed.
        let at = Lsn(slot.confirmed.0.saturating_sub(30));
        let sender = Sender {
            start,
            at,
            inside: None,
            publication: option,
            named: Lsn::ZERO,
            flushed: Lsn::ZERO,
            cut: None,
            sent_to: Lsn(u64::MAX),
            is_closed: false,
            shape: None,
            free_at_ms: None,
        };
        self.senders.insert(id, sender);
        Ok(id)
    }

    fn rows(rows: &[Row], publication: u8) -> impl Iterator<Item = &Row> {
        rows.iter().filter(move |row| !row.is_extra || publication > 1)
    }

    /// The next thing the client reads; an error when the connection is found broken.
    pub(crate) fn read(&mut self, id: u64, chance: &mut Chance) -> Result<Option<Item>, Kind> {
        let Some(sender) = self.senders.get_mut(&id) else { return Err(Kind::SourceLost) };
        let wal_end = self.wal_end.min(sender.sent_to);
        match &mut sender.cut {
            Some(0) => return Err(if chance.one_in(self.silence) { Kind::SourceSilent } else { Kind::SourceLost }),
            Some(left) => *left -= 1,
            None => {}
        }
        if let Some((commit_lsn, sent)) = sender.inside {
            if chance.one_in(12) {
                // A wild one names what was not sent yet; no server is known to do that inside a transaction.
                let named = if chance.one_in(3) { wal_end } else { sender.at };
                sender.named = sender.named.max(named);
                return Ok(Some(Item::Keepalive(named, chance.one_in(4))));
            }
            let at = self.log.partition_point(|committed| committed.commit_lsn < commit_lsn);
            let Some(open) = self.log.get(at).filter(|open| open.commit_lsn == commit_lsn) else { return Err(Kind::SourceLost) };
            if let Some(row) = Self::rows(&open.rows, sender.publication).nth(sent) {
                if self.has_shapes && sender.shape != Some(row.shape()) {
                    sender.shape = Some(row.shape());
                    return Ok(Some(Item::Relation(row.shape())));
                }
                sender.inside = Some((commit_lsn, sent + 1));
                return Ok(Some(Item::Change(*row)));
            }
            sender.inside = None;
            sender.at = open.end_lsn;
            sender.named = sender.named.max(open.end_lsn);
            return Ok(Some(Item::Commit(commit_lsn, open.end_lsn)));
        }
        // A transaction is skipped if and only if its commit LSN is below the start.
        let from = self.log.partition_point(|committed| committed.commit_lsn < sender.start.max(sender.at));
        let next = self.log[from..].iter().find(|committed| !committed.rows.is_empty() || committed.commit_lsn.0 % 2 == 0);
        let next = next.filter(|committed| committed.end_lsn <= wal_end);
        let limit = next.map_or(wal_end, |committed| committed.commit_lsn);
        if sender.at < limit && (chance.one_in(3) || next.is_none()) {
            let step = chance.between(1, limit.0 - sender.at.0);
            sender.at = if chance.one_in(2) { limit } else { Lsn(sender.at.0 + step) };
            sender.named = sender.named.max(sender.at);
            return Ok(Some(Item::Keepalive(sender.at, self.is_shutting_down || chance.one_in(8))));
        }
        if let Some(next) = next {
            sender.inside = Some((next.commit_lsn, 0));
            return Ok(Some(Item::Begin(next.commit_lsn)));
        }
        Ok((self.is_shutting_down || chance.one_in(10)).then_some(Item::Keepalive(sender.at, true)))
    }

    /// A standby status update. Checks I4 and I5 as far as the server can.
    pub(crate) fn status(&mut self, id: u64, confirmation: Confirmation) -> bool {
        let (Some(sender), Some(slot)) = (self.senders.get_mut(&id), &mut self.slot) else { return false };
        let flushed = confirmation.flushed;
        if sender.cut.is_some() || flushed.is_zero() {
            return false;
        }
        assert_eq!(slot.holder, Some(id), "the holder reports");
        assert!(flushed <= sender.named, "I4: {flushed} is above what this connection has received, {}", sender.named);
        assert!(flushed >= sender.flushed, "I5: {flushed} is below {}", sender.flushed);
        assert!(flushed >= slot.confirmed, "{flushed} would move the slot back from {}", slot.confirmed);
        let is_news = flushed > sender.flushed;
        sender.flushed = flushed;
        slot.confirmed = flushed;
        is_news
    }

    /// The slot file is written.
    pub(crate) fn save_slot(&mut self) {
        if let Some(slot) = &mut self.slot {
            slot.on_disk = slot.confirmed;
        }
    }

    /// The client closed it; the server notices a little later.
    pub(crate) fn close(&mut self, id: u64, now_ms: u64, chance: &mut Chance) {
        let delay_ms = if chance.one_in(2) { 0 } else { chance.between(1, 400) };
        if let Some(sender) = self.senders.get_mut(&id) {
            sender.is_closed = true;
            sender.free_at_ms = Some(sender.free_at_ms.unwrap_or(u64::MAX).min(now_ms + delay_ms));
        }
    }

    /// The connection breaks: the client may read some more, the server frees the slot after a while.
    pub(crate) fn cut(&mut self, id: u64, now_ms: u64, chance: &mut Chance) {
        let buffered = if chance.one_in(2) { 0 } else { chance.below(6) };
        let delay_ms = if chance.one_in(2) { 0 } else { chance.between(1, 3_000) };
        if let Some(sender) = self.senders.get_mut(&id).filter(|sender| sender.cut.is_none()) {
            sender.cut = Some(buffered);
            sender.sent_to = self.wal_end;
            sender.free_at_ms = Some(now_ms + delay_ms);
        }
    }

    pub(crate) fn holder(&self) -> Option<u64> {
        self.slot.as_ref().and_then(|slot| slot.holder)
    }

    pub(crate) fn is_intact(&self, id: u64) -> bool {
        self.senders.get(&id).is_some_and(|sender| sender.cut.is_none())
    }

    /// Frees slots of connections that are gone.
    pub(crate) fn turn(&mut self, now_ms: u64) {
        let holder = self.holder();
        let is_due = |sender: &Sender| sender.free_at_ms.is_some_and(|at_ms| now_ms >= at_ms);
        if let Some(slot) = &mut self.slot
            && holder.is_some_and(|id| self.senders.get(&id).is_none_or(is_due))
        {
            slot.holder = None;
        }
        self.senders.retain(|_, sender| !(sender.is_closed && is_due(sender)));
    }

    fn drop_connections(&mut self, chance: &mut Chance) {
        for sender in self.senders.values_mut() {
            sender.cut.get_or_insert(chance.below(4));
            sender.sent_to = sender.sent_to.min(self.wal_end);
            sender.free_at_ms = Some(0);
        }
        if let Some(slot) = &mut self.slot {
            slot.holder = None;
        }
    }

    /// A crash or a restart: what was confirmed since the slot file was written is forgotten.
    pub(crate) fn restart(&mut self, until_ms: u64, is_clean: bool, chance: &mut Chance) {
        self.drop_connections(chance);
        self.down_until_ms = until_ms;
        self.is_shutting_down = false;
        if let Some(slot) = &mut self.slot {
            if is_clean && chance.one_in(2) {
                slot.on_disk = slot.confirmed;
            }
            slot.confirmed = slot.on_disk;
        }
    }

    /// A standby takes over; with `is_lossy` it had not received all of the log.
    pub(crate) fn fail_over(&mut self, until_ms: u64, is_lossy: bool, chance: &mut Chance, oracle: &mut Oracle) {
        let confirmed = self.slot.as_ref().map_or(Lsn::ZERO, |slot| slot.on_disk);
        let mut at = self.wal_end;
        if is_lossy && let Some(last) = self.log.last() {
            let back = self.log.len().saturating_sub(chance.between(1, 3) as usize);
            let from = self.log.get(back).unwrap_or(last);
            // Before the commit record, on its first byte, or just behind it.
            at = match chance.below(3) {
                0 => from.commit_lsn,
                1 => Lsn(from.commit_lsn.0.saturating_sub(chance.below(3))),
                _ => from.end_lsn,
            }
            .max(confirmed);
        }
        let kept = self.log.partition_point(|committed| committed.end_lsn <= at);
        for committed in self.log.drain(kept..) {
            self.meddled += 1;
            committed.rows.iter().for_each(|row| oracle.excuse_all(row, Excuse::Lost));
        }
        self.meddled += u64::from(at < self.wal_end);
        self.restart(until_ms, false, chance);
        // Its log is of another history from now on.
        self.senders.values_mut().for_each(|sender| sender.cut = Some(0));
        self.switch_points.push((self.timeline, at));
        self.timeline += 1;
        oracle.timeline = self.timeline;
        self.wal_end = at;
        self.other_work(chance.between(1, 10));
    }

    pub(crate) fn drop_slot(&mut self, chance: &mut Chance) {
        self.drop_connections(chance);
        self.slot = None;
        self.meddled += 1;
    }

    /// Somebody moves the slot while nobody holds it.
    pub(crate) fn advance_slot(&mut self, to: Lsn, chance: &mut Chance) {
        self.drop_connections(chance);
        if let Some(slot) = &mut self.slot {
            slot.confirmed = slot.confirmed.max(to);
            slot.on_disk = slot.confirmed;
        }
        self.meddled += 1;
    }

    /// Where the last timeline was left.
    pub(crate) fn left_at(&self) -> Option<(u32, Lsn)> {
        self.switch_points.last().copied()
    }
}

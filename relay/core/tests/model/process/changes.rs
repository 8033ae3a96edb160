//! What a process sends of a transaction: the records of each change, one after the other, and those beside the changes.

use super::super::oracle::{Excuse, RecordId, Row, RowId};
use super::super::world::World;
use super::{Crashed, Policy, Process};
use relay_core::session::Admission;

/// The transaction being read, if it has BEGIN and END records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    is_on: bool,
    is_begin_due: bool,
    /// By its first row, once one was read.
    transaction: Option<RowId>,
    /// Records of its changes, those of an earlier process included.
    count: u64,
}

/// Size of a record beside changes.
const BESIDE_BYTES: usize = 15;

impl Process {
    pub(super) fn begins(&mut self, world: &World) {
        let is_on = world.oracle.has_marks && !self.session.is_covered();
        self.marks = Marks { is_on, is_begin_due: is_on && !self.session.has_records(), ..Marks::default() };
        if let Some(counted) = self.ring.counted() {
            self.marks = Marks { count: counted.count, transaction: counted.transaction, ..self.marks };
        }
    }

    pub(super) fn change(&mut self, row: &Row, world: &mut World) -> Result<bool, Crashed> {
        if !self.begin_record(row, world)? {
            return Ok(false);
        }
        match self.session.admit() {
            Admission::Covered => {
                let is_mine = (0..row.count()).all(|part| self.sent.contains(&RecordId::Part(row.id, part)));
                assert!(world.oracle.is_settled(row.id) || is_mine, "row {} is passed by as seen, and is nowhere", row.id);
                self.passed(row);
                return Ok(true);
            }
            Admission::Fresh(position) if row.is_event => {
                self.positions.insert((position.commit_lsn, position.seq), *row);
                if !self.parts(row, false, world)? {
                    return Ok(false);
                }
            }
            Admission::Fresh(_) => {}
            Admission::Condemned(..) => {
                assert!(row.is_bad, "B24: row {} is condemned for its neighbour", row.id);
                match self.policy {
                    Policy::Skip => world.oracle.excuse(row.id, Excuse::Poison),
                    Policy::Dlq => {
                        if !self.parts(row, true, world)? {
                            return Ok(false);
                        }
                    }
                    Policy::Stop => {
                        self.blocked_until_ms = world.now_ms + 5_000;
                        return Ok(false);
                    }
                }
            }
        }
        self.passed(row);
        world.output(self.id)?;
        Ok(true)
    }

    fn passed(&mut self, row: &Row) {
        self.session.passed();
        self.marks.count += u64::from(row.count());
    }

    /// Offers the records of a row from the first that the sink has not taken; whether it has them all.
    fn parts(&mut self, row: &Row, is_dlq: bool, world: &mut World) -> Result<bool, Crashed> {
        world.figures.continued += u64::from(self.is_cut && self.session.parts_sent() > 0);
        loop {
            let part = self.session.parts_sent() as u8;
            if !self.session.has_room(row.bytes) || (!is_dlq && world.chance.one_in(world.kafka.weather.full)) {
                world.figures.pauses += u64::from(part > 0);
                return Ok(false);
            }
            self.enqueue(row, part, is_dlq, world);
            if part + 1 == row.count() {
                return Ok(true);
            }
            world.output(self.id)?;
        }
    }

    fn enqueue(&mut self, row: &Row, part: u8, is_dlq: bool, world: &mut World) {
        self.check_holds(world);
        assert!(!self.control.is_committing(), "nothing is sent into a transaction that is being committed");
        world.trace(|| format!("{} sends part {part} of row {}", self.id, row.id));
        for earlier in 0..part {
            let record = RecordId::Part(row.id, earlier);
            assert!(
                self.sent.contains(&record),
                "a change whose last record is not durable comes again as a whole, not from {part} on"
            );
        }
        (self.is_partial, self.is_cut) = (part + 1 < row.count(), false);
        let ticket = self.session.next_ticket();
        self.producer(world).enqueue(row, part, ticket, is_dlq);
        if part + 1 == row.count() {
            self.session.sent(row.bytes);
        } else {
            self.session.sent_part(row.bytes);
        }
        self.sent.insert(RecordId::Part(row.id, part));
        world.figures.sent += 1;
    }

    /// Whether a broken connection is noticed while a change waits for room. Only worlds with parts ask: old seeds choose as they did.
    pub(super) fn loses_connection(&self, id: u64, world: &mut World) -> bool {
        world.oracle.has_marks && !world.postgres.is_intact(id) && world.chance.one_in(3)
    }

    fn check_holds(&self, world: &World) {
        let id = self.connection.expect("events are read from a connection");
        let holds = world.postgres.holder() == Some(id) || !world.postgres.is_intact(id);
        assert!(holds && self.has_claimed, "only the holder of the slot publishes");
    }

    /// Before the first change: whether it may come now.
    fn begin_record(&mut self, row: &Row, world: &mut World) -> Result<bool, Crashed> {
        self.marks.transaction = Some(row.transaction);
        if self.marks.is_begin_due {
            if !self.offer_beside(RecordId::Begin(row.transaction), world) {
                return Ok(false);
            }
            self.marks.is_begin_due = false;
            (self.is_partial, self.is_cut) = (true, false);
            world.output(self.id)?;
        }
        Ok(true)
    }

    /// Before the commit: whether it may come now.
    pub(super) fn end_record(&mut self, world: &mut World) -> Result<bool, Crashed> {
        let Some(transaction) = self.marks.transaction.filter(|_| self.marks.is_on) else { return Ok(true) };
        assert!(matches!(self.session.admit(), Admission::Fresh(_)), "an END is not refused, nor done before its transaction is");
        if !self.offer_beside(RecordId::End(transaction), world) {
            return Ok(false);
        }
        self.marks.is_on = false;
        self.is_partial = false;
        world.output(self.id)?;
        Ok(true)
    }

    /// Between transactions, when there is room.
    pub(super) fn heartbeat(&mut self, world: &mut World) {
        if world.oracle.has_marks && self.session.takes_heartbeat() {
            self.offer_beside(RecordId::Heartbeat, world);
        }
    }

    fn offer_beside(&mut self, record: RecordId, world: &mut World) -> bool {
        if !self.session.has_room(BESIDE_BYTES) {
            return false;
        }
        self.check_holds(world);
        world.trace(|| format!("{} sends {record:?}", self.id));
        let (ticket, count) = (self.session.next_ticket(), self.marks.count);
        self.producer(world).enqueue_beside(record, count, ticket);
        self.session.sent_beside(BESIDE_BYTES);
        true
    }
}

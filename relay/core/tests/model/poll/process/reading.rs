//! How rows come to a process: by ticks and claims, or from the log's stream.

use super::super::super::oracle::RowId;
use super::super::super::postgres::Item;
use super::super::server::{CLAIMED, TABLES};
use super::super::world::{Crashed, Step, World};
use super::{Current, Mark, Process};
use relay_core::session::{Begun, Input, Rows, row_position};
use std::sync::Arc;

/// Rows of a claim.
const LIMIT: usize = 6;

impl Process {
    /// The stream starts behind a position, with numbers of its own; what was published and not marked by then is marked now.
    pub(super) fn started(&mut self, world: &mut World) {
        self.is_claimed = true;
        self.flight.clear();
        self.claims.clear();
        self.handled.clear();
        if let Some(published) = self.session.published().filter(|_| self.is_poll()) {
            self.marks.push_back((world.now_ms + world.chance.below(80), Mark::Left(published.clone())));
        }
    }

    /// Whether reading goes on.
    pub(super) fn read_poll(&mut self, world: &mut World) -> Result<bool, Crashed> {
        if self.connection.is_some_and(|id| !world.primary.is_intact(id)) {
            return Ok(false);
        }
        let Some(current) = &self.current else { return self.next_work(world) };
        let number = current.work.number;
        let Some(found) = current.rows.front().cloned() else {
            self.current = None;
            if let Some(claim) = self.claims.get_mut(&number) {
                claim.has_ended = true;
            }
            self.session.end_work(number).expect("work is read in order");
            world.output()?;
            return Ok(true);
        };
        let is_tick = found.table != CLAIMED;
        if is_tick {
            self.session.seek_order(found.order).expect("order values differ");
        } else if let Some(claim) = self.claims.get_mut(&number) {
            let known = claim.keys.iter().position(|key| *key == found.row.id);
            let index = known.unwrap_or_else(|| {
                claim.keys.push(found.row.id);
                claim.keys.len() - 1
            });
            self.session.seek_index(index as u64);
        }
        if !self.offer(&found.row, world)? {
            if world.chance.one_in(4) {
                self.current = None;
                self.session.leave_work();
            }
            return Ok(false);
        }
        if let Some(current) = &mut self.current {
            current.rows.pop_front();
        }
        let position = row_position(number, found.order);
        if is_tick && self.handled.back().is_none_or(|(last, _)| *last < position) {
            self.handled.push_back((position, found.row.id));
        }
        Ok(true)
    }

    fn next_work(&mut self, world: &mut World) -> Result<bool, Crashed> {
        let Some(work) = self.session.work() else { return self.look(world) };
        world.trace(|| format!("{} reads {work:?}", self.id));
        if self.session.begin_work(&work).expect("work is read in order") == Begun::Rewind {
            return Ok(false);
        }
        let rows = match &work.rows {
            Rows::Tick { previous, tick, from } => {
                let table = TABLES.iter().position(|table| *table == &*work.table).expect("a table of ours");
                world.primary.read_tick(table, (&previous.snapshot, &tick.snapshot), *from, self.exported.as_ref())
            }
            Rows::Claim => {
                let keys = self.claims.get(&work.number).map(|claim| claim.keys.clone());
                self.claims.entry(work.number).or_default();
                world.primary.read_claim(keys.as_deref(), LIMIT)
            }
        };
        world.trace(|| format!("{} finds {:?}", self.id, rows.iter().map(|row| (row.row.id, row.order)).collect::<Vec<_>>()));
        self.current = Some(Current { work, rows });
        world.output()?;
        Ok(true)
    }

    /// Everything known was read: takes a tick, and claims rows.
    fn look(&mut self, world: &mut World) -> Result<bool, Crashed> {
        if world.now_ms < self.look_at_ms {
            return Ok(false);
        }
        self.look_at_ms = world.now_ms + world.chance.below(120);
        let tables = world.primary.tables;
        let ticked: Vec<Arc<str>> = tables.iter().filter(|table| **table != CLAIMED).map(|table| TABLES[*table].into()).collect();
        if !ticked.is_empty() && self.session.take_tick(world.primary.tick(), &ticked) {
            world.figures.ticks += 1;
        }
        if let Some(deadline_ms) = self.drain_by.take() {
            let read_to = Some(self.session.known_end());
            self.input(Input::Drain { deadline_ms, read_to }, world)?;
            return Ok(false);
        }
        if tables.contains(&CLAIMED) && self.claims.is_empty() && self.marks.is_empty() {
            self.session.take_claim(TABLES[CLAIMED].into(), 0);
        }
        world.output()?;
        Ok(true)
    }

    /// Gives what has become durable to the one who marks it.
    pub(super) fn give_marks(&mut self, world: &mut World) {
        let frontier = self.session.window().frontier();
        let mut rows: Vec<RowId> = Vec::new();
        while let Some(&(_, id)) = self.handled.front().filter(|(position, _)| frontier.covers(*position)) {
            self.handled.pop_front();
            rows.push(id);
        }
        for (number, claim) in &mut self.claims {
            let inside =
                frontier.inside.filter(|inside| inside.commit_lsn == *number).map_or(0, |inside| inside.seq as usize + 1);
            let durable = if frontier.end_lsn > *number { claim.keys.len() } else { inside.min(claim.keys.len()) };
            rows.extend(claim.keys.get(claim.marked..durable).unwrap_or_default());
            claim.marked = claim.marked.max(durable);
        }
        self.claims.retain(|number, claim| !(claim.has_ended && frontier.end_lsn > *number));
        if !rows.is_empty() {
            self.marks.push_back((world.now_ms + world.chance.below(80), Mark::Rows(rows)));
        }
    }

    pub(super) fn mark_turn(&mut self, world: &mut World) -> Step {
        self.give_marks(world);
        if self.marks.front().is_some_and(|(due_ms, _)| world.now_ms >= *due_ms)
            && let Some((_, mark)) = self.marks.pop_front()
        {
            mark.run(world);
            world.output()?;
        }
        Ok(())
    }

    /// Whether reading goes on.
    pub(super) fn read_log(&mut self, world: &mut World) -> Result<bool, Crashed> {
        if self.connection.is_none_or(|id| !world.primary.is_intact(id)) {
            return Ok(false);
        }
        if self.items.is_empty() {
            let (items, at) = world.primary.stream(self.at);
            let is_idle = matches!(items[..], [Item::Keepalive(..)]);
            if is_idle && (at == self.session.received() || world.chance.one_in(2)) {
                return Ok(false);
            }
            (self.items, self.at) = (items.into(), at);
        }
        let Some(item) = self.items.front().cloned() else { return Ok(false) };
        let is_done = match item {
            Item::Begin(commit_lsn) => self.session.begin(commit_lsn, 0).expect("commits come in order") == Begun::Read,
            Item::Commit(commit_lsn, end_lsn) => {
                self.session.commit(commit_lsn, end_lsn).expect("it fits its begin");
                true
            }
            Item::Keepalive(wal_end, is_urgent) => {
                self.session.keepalive(wal_end, is_urgent);
                true
            }
            Item::Change(row) => self.offer(&row, world)?,
            Item::Relation(_) => true,
        };
        if is_done {
            self.items.pop_front();
            world.output()?;
        }
        Ok(is_done)
    }
}

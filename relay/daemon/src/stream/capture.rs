//! Captured changes on their way: the records of a row or a truncate, one after the other.

use super::Why;
use super::pass::{At, GivenUp, Offered, Pass, Share, ask_catalog, named};
use super::plans::{Planned, Plans};
use super::read::Flow;
use relay_core::session::Admission;
use relay_core::{Change, Poison, Position, RelayPos};
use relay_encode::dlq::Origin;
use relay_encode::{CapturePlan, Context, Encoded, Marker, RecordOrder};
use relay_postgres::{Assembler, TableId, Truncated};

// === impl Pass: rows ===

impl Pass<'_> {
    /// A captured row of the stream. `condemned`: the broker is known to refuse a record of it.
    #[inline]
    pub(super) fn captured_row(
        &mut self,
        plan: &CapturePlan,
        table: TableId,
        change: &Change<'_>,
        at: At<'_>,
        condemned: Option<Poison>,
    ) -> Flow {
        let context = self.context(at.relay_pos, self.counts.order(table));
        let flow = self.capture_row(plan, table, change, at.position, &context, condemned);
        if self.counts.is_on() && matches!(flow, Flow::Done) {
            self.count(plan, table, change);
        }
        flow
    }

    /// A row that was handled before: its records are still counted.
    pub(super) fn covered_row(&mut self, plans: &mut Plans, table: TableId, change: &Change<'_>) -> Flow {
        if self.counts.is_on()
            && let Some(relation) = change.relation()
        {
            match plans.of(table, relation) {
                Planned::Capture(plan) => self.count(plan, table, change),
                Planned::Reading(question) => return ask_catalog(table, question),
                _ => {}
            }
        }
        self.passed()
    }

    fn count(&mut self, plan: &CapturePlan, table: TableId, change: &Change<'_>) {
        if let Some(relation) = change.relation() {
            self.counts.add(table, relation, plan.records(change));
        }
    }

    /// Publishes what is still to be published of a change: its records one after the other, from the first that the sink has not taken.
    /// The change may also come from elsewhere than the stream; `context` says all there is to know of it.
    #[inline]
    pub(super) fn capture_row(
        &mut self,
        plan: &CapturePlan,
        table: TableId,
        change: &Change<'_>,
        position: Position,
        context: &Context<'_>,
        condemned: Option<Poison>,
    ) -> Flow {
        if !self.session.has_room(0) {
            return Flow::Blocked(Why::Full, super::FULL_WAIT);
        }
        loop {
            let part = self.session.parts_sent() as u8;
            let share = match plan.encode(context, change, part, self.event) {
                Ok(Encoded::Last) => Share::Last,
                Ok(Encoded::More) => Share::More,
                Ok(Encoded::Filtered(reason)) => {
                    self.tally.received(table.0, change);
                    return self.filtered(reason.name());
                }
                // Where its records cannot be built, the row itself is parked, once.
                Err(poison) => {
                    let at = At { position, relay_pos: part_of(context.pos, part.into(), part > 0) };
                    self.tally.received(table.0, change);
                    return self.poison(at, named(poison, change), Origin::Captured(change, plan));
                }
            };
            if self.config.tells_lost_values
                && let Some(column) = plan.take_lost()
            {
                self.tell_lost(plan, table, column);
            }
            let poison = match self.parked(position, part.into(), condemned.as_ref()) {
                Some(poison) => Some(poison),
                None => match self.offer(Some(table.0), share) {
                    Offered::Sent => None,
                    Offered::Not(flow) => return flow,
                    Offered::Poison(poison) => Some(named(poison, change)),
                },
            };
            if let Some(poison) = poison {
                let at = At { position, relay_pos: part_of(context.pos, part.into(), part > 0 || share == Share::More) };
                if let GivenUp::All(flow) = self.park_part(at, poison, Origin::Captured(change, plan), share) {
                    return flow;
                }
            }
            if share == Share::Last {
                self.tally.received(table.0, change);
                return self.passed();
            }
        }
    }

    /// The poison of a record that is parked because one of the same change was, or because the broker refuses one of them.
    #[inline]
    fn parked(&self, position: Position, part: u32, condemned: Option<&Poison>) -> Option<Poison> {
        if condemned.is_some() {
            return condemned.cloned();
        }
        // The first record decides anew: it may have become publishable since.
        self.suspicion.parking.as_ref().filter(|(parked, _)| part > 0 && *parked == position).map(|(_, poison)| poison.clone())
    }

    fn park_part(&mut self, at: At<'_>, poison: Poison, origin: Origin<'_>, share: Share) -> GivenUp {
        let given = self.give_up(at, &poison, origin, share);
        self.suspicion.parking = match given {
            GivenUp::Parked if share == Share::More => Some((at.position, poison)),
            _ => self.suspicion.parking.take().filter(|_| share != Share::Last),
        };
        given
    }

    #[cold]
    fn tell_lost(&mut self, plan: &CapturePlan, table: TableId, column: &str) {
        if !self.suspicion.lost.iter().any(|(known, name)| *known == table && **name == *column) {
            tracing::warn!(
                event = "value.lost",
                table = plan.label(),
                column,
                lsn = %self.place.lsn,
                "a value cannot be converted and became null, as format.compat = \"debezium\" has it; told once a column"
            );
            self.suspicion.lost.push((table, column.into()));
        }
    }
}

impl<'a> Pass<'a> {
    /// What is known of a change of the stream beside the change.
    #[inline]
    pub(super) fn context<'c>(&self, pos: RelayPos<'c>, order: Option<RecordOrder>) -> Context<'c>
    where
        'a: 'c,
    {
        Context {
            transaction: self.transaction,
            pos,
            lsn: self.place.lsn,
            previous_end: self.previous_end,
            origin: self.origin,
            now_ns: self.now_ns,
            marker: Marker::Streamed,
            order,
        }
    }
}

// === impl Pass: truncates ===

impl Pass<'_> {
    /// One TRUNCATE: one change, with a record for each captured table in the order of the message.
    pub(super) fn truncate(&mut self, plans: &mut Plans, assembler: &Assembler, truncated: &Truncated) -> Flow {
        if let Some(flow) = self.open_records(None) {
            return flow;
        }
        let (position, condemned) = match self.session.admit() {
            Admission::Covered => (None, None),
            Admission::Fresh(position) => (Some(position), None),
            Admission::Condemned(position, poison) => (Some(position), Some(poison)),
        };
        if position.is_some() && !self.session.has_room(0) {
            return Flow::Blocked(Why::Full, super::FULL_WAIT);
        }
        let change = |table: TableId| Change::Truncate {
            relation: assembler.relation(table),
            is_cascade: truncated.is_cascade,
            restarts_identity: truncated.restarts_identity,
        };
        // Every plan first: how many records there are is part of their names.
        let mut captured = Vec::new();
        for &table in &truncated.tables {
            match plans.of(table, assembler.relation(table)) {
                Planned::Capture(plan) if plan.records(&change(table)) > 0 => captured.push(table),
                Planned::Reading(question) => return ask_catalog(table, question),
                Planned::Refused(fault) => return Flow::Stop(fault.clone()),
                _ => {}
            }
        }
        for (index, &table) in captured.iter().enumerate() {
            if let (Some(position), Planned::Capture(plan)) = (position, plans.of(table, assembler.relation(table)))
                && index as u64 >= self.session.parts_sent()
            {
                let share = if index + 1 == captured.len() { Share::Last } else { Share::More };
                let at = At { position, relay_pos: part_of(position.into(), index as u32, captured.len() > 1) };
                if let Some(flow) = self.truncated(plan, table, &change(table), at, share, condemned.as_ref()) {
                    if matches!(flow, Flow::Done) {
                        self.counts.parts_done();
                    }
                    return flow;
                }
            }
            // What was sent before, by this connection or the last one, is counted once as well.
            self.counts.add_part(index, table, assembler.relation(table));
        }
        self.counts.parts_done();
        if position.is_none() {
            return self.passed();
        }
        truncated.tables.iter().for_each(|table| self.tally.truncated(table.0, assembler.relation(*table)));
        if captured.is_empty() { self.filtered("operation") } else { self.passed() }
    }

    /// The record of one table; what becomes of the frame, if it does not go on with the next one.
    fn truncated(
        &mut self,
        plan: &CapturePlan,
        table: TableId,
        change: &Change<'_>,
        at: At<'_>,
        share: Share,
        condemned: Option<&Poison>,
    ) -> Option<Flow> {
        let context = self.context(at.relay_pos, self.counts.order(table));
        let poison = match plan.encode(&context, change, 0, self.event) {
            Ok(Encoded::Filtered(_)) => return None,
            Ok(Encoded::Last | Encoded::More) => match self.parked(at.position, sub(at.relay_pos), condemned) {
                Some(poison) => Some(poison),
                None => match self.offer(Some(table.0), share) {
                    Offered::Sent => None,
                    Offered::Not(flow) => return Some(flow),
                    Offered::Poison(poison) => Some(named(poison, change)),
                },
            },
            Err(poison) => Some(named(poison, change)),
        };
        if let Some(poison) = poison
            && let GivenUp::All(flow) = self.park_part(at, poison, Origin::Captured(change, plan), share)
        {
            return Some(flow);
        }
        None
    }
}

/// The position of one of several records of a change of the log.
fn part_of(pos: RelayPos<'_>, part: u32, is_several: bool) -> RelayPos<'_> {
    match pos {
        RelayPos::Log(position) if is_several => RelayPos::Part(position, part),
        pos => pos,
    }
}

/// Which of several records of a change it is.
fn sub(pos: RelayPos<'_>) -> u32 {
    match pos {
        RelayPos::Part(_, sub) => sub,
        _ => 0,
    }
}

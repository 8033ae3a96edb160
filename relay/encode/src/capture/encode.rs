//! The hot path: one record of a change, appended piece by piece to a reused buffer.

use super::context::{Context, RecordOrder};
use super::image::{write_open_old, write_open_row};
use super::number::{write_i64, write_u64};
use super::plan::{Body, CapturePlan, Condition, FlatBody, Scratch};
use super::step::{Record, Sides, Step};
use crate::encode::FilterReason;
use crate::field::Piece;
use relay_core::change::OldRow;
use relay_core::{Change, Event, Poison, PoisonReason, Value};

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Encoded {
    /// The event is complete, and it is the change's last one.
    Last,
    /// The event is complete, and the same change has the next part to encode.
    More,
    /// No event, on purpose.
    Filtered(FilterReason),
}

// === impl CapturePlan ===

impl CapturePlan {
    /// Encodes one record of a change into `event`, which is cleared first: part 0, and as long as [`Encoded::More`] is the answer the
    /// next part with the same arguments.
    ///
    /// # Errors
    /// What makes this change unpublishable. `event` then holds what was built before: topic, key, some headers, never a value.
    pub fn encode(&self, context: &Context<'_>, change: &Change<'_>, part: u8, event: &mut Event) -> Result<Encoded, Poison> {
        event.clear();
        let encoded = self.fill(context, change, part, event);
        if encoded.is_err() {
            event.abandon_piece();
        }
        encoded
    }

    /// How many records of the change count in the END record and in `total_order`: tombstones do not.
    #[must_use]
    pub fn records(&self, change: &Change<'_>) -> u64 {
        let sides = Sides::of(change);
        let scratch = &mut *self.scratch.borrow_mut();
        if !self.rule.takes(change) || !self.passes(&sides).unwrap_or(true) {
            return 0;
        }
        match change {
            Change::Update { .. } if self.rule.splits_key_change && self.is_key_change(&sides, scratch).unwrap_or(false) => 2,
            Change::Message { .. } => 0,
            _ => 1,
        }
    }

    #[inline]
    fn fill(&self, context: &Context<'_>, change: &Change<'_>, part: u8, event: &mut Event) -> Result<Encoded, Poison> {
        let is_streamed = context.marker == super::context::Marker::Streamed;
        if is_streamed && !self.rule.takes(change) {
            return Ok(Encoded::Filtered(FilterReason::Operation));
        }
        let sides = Sides::of(change);
        if !self.filter.is_empty() && !self.passes(&sides)? {
            return Ok(Encoded::Filtered(FilterReason::Predicate));
        }
        let scratch = &mut *self.scratch.borrow_mut();
        let steps = self.steps(context, change, &sides, scratch)?;
        let Some(step) = steps.get(part) else { return Ok(Encoded::Filtered(FilterReason::Operation)) };
        let order = context.order.map(|order| {
            let before = steps.counted_before(part);
            RecordOrder { total: order.total + before, in_table: order.in_table + before }
        });
        let context = Context { order, ..*context };
        let record = &Record { context, sides, step, part, count: steps.count, is_key_change: steps.is_key_change };
        scratch.seen.unavailable.clear();
        let row = sides.row(step);
        self.topic.write(&self.rule, row.as_ref(), &mut scratch.topic, event)?;
        self.write_key(step, &sides, scratch, event)?;
        self.write_headers(record, scratch, event)?;
        event.timestamp_ms = self.rule.format.timestamp_ms(&context);
        self.set_partition(row.as_ref(), event)?;
        self.write_value(record, scratch, event)?;
        self.write_unavailable(&scratch.seen.unavailable, event);
        Ok(if part + 1 < steps.count { Encoded::More } else { Encoded::Last })
    }

    /// Whether the row meets the filter. Of an update the new row counts; a deletion is judged by what its old row has.
    fn passes(&self, sides: &Sides<'_>) -> Result<bool, Poison> {
        for Condition { field, is_identity, test } in &self.filter {
            let row = match (sides.new, sides.old) {
                (Some(new), Some(OldRow::Full(old))) if new.get(field.column) == Some(Value::Unchanged) => old,
                (Some(new), _) => new,
                (None, Some(OldRow::Full(old))) => old,
                (None, Some(OldRow::Key(old))) if *is_identity => old,
                // Not to be judged: a deletion too many is harmless, one too few is not.
                _ => continue,
            };
            if !test.is_met(field, &row, 0)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    #[inline]
    fn write_key(&self, step: Step, sides: &Sides<'_>, scratch: &mut Scratch, event: &mut Event) -> Result<(), Poison> {
        let Some(key) = &self.key else { return Ok(()) };
        if step == Step::Truncate {
            return Ok(());
        }
        event.out().extend_from_slice(&key.head);
        self.write_plain_key(step, sides, scratch, event)?;
        if !key.head.is_empty() {
            event.out().push(b'}');
        }
        event.end_key();
        Ok(())
    }

    /// The key without its schema.
    #[inline]
    pub(super) fn write_plain_key(
        &self,
        step: Step,
        sides: &Sides<'_>,
        scratch: &mut Scratch,
        event: &mut Event,
    ) -> Result<(), Poison> {
        let Some(key) = &self.key else { return Ok(()) };
        match (step, sides.new_cells(), sides.old) {
            (Step::New(_), Some(cells), _) => key.write_new(&cells, &mut scratch.seen, event.out()),
            (_, _, Some(old)) => key.write_old(old, &mut scratch.seen, event.out()),
            _ => Ok(()),
        }
    }

    fn set_partition(&self, row: Option<&relay_core::Row<'_>>, event: &mut Event) -> Result<(), Poison> {
        let (Some(field), Some(row)) = (&self.partition, row) else { return Ok(()) };
        let text = match field.read(row)? {
            Piece::Null | Piece::Absent => return Ok(()),
            Piece::Text(text) | Piece::Json(text) => text,
            Piece::Hex(_) | Piece::Bytes(_) => b"",
        };
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i32>().ok()).filter(|&number| number >= 0);
        match number {
            Some(partition) => event.partition = Some(partition),
            None => {
                let message = format!("column `{}` is not a partition number (0 to 2147483647)", field.name);
                return Err(Poison::new(PoisonReason::Route, message));
            }
        }
        Ok(())
    }

    #[inline]
    fn write_value(&self, record: &Record<'_>, scratch: &mut Scratch, event: &mut Event) -> Result<(), Poison> {
        if record.step == Step::Tombstone {
            return Ok(());
        }
        match &self.body {
            Body::Debezium { head } => {
                event.out().extend_from_slice(head);
                self.write_envelope(record, scratch, event.out())?;
                if head.len() > ENVELOPE_START {
                    event.out().push(b'}');
                }
            }
            Body::Flat(body) => self.write_flat(body, record, scratch, event.out())?,
            Body::CloudEvents(body) => self.write_cloudevents_value(body, record, scratch, event.out())?,
        }
        event.end_value();
        Ok(())
    }

    /// From the image before to the end of the envelope.
    #[inline]
    fn write_envelope(&self, record: &Record<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) -> Result<(), Poison> {
        let context = &record.context;
        let op = self.write_images(record.step, &record.sides, scratch, out)?;
        out.extend_from_slice(b",\"source\":");
        self.source.write(context, &mut scratch.source, out);
        match context.order {
            None => out.extend_from_slice(b",\"transaction\":null,\"op\":\""),
            Some(order) => {
                out.extend_from_slice(b",\"transaction\":");
                write_block(context, order, out);
                out.extend_from_slice(b",\"op\":\"");
            }
        }
        out.push(op);
        out.extend_from_slice(scratch.now(context.now_ns));
        Ok(())
    }

    /// The image before, `,"after":` and the image after; gives the operation's letter.
    #[inline]
    pub(super) fn write_images(
        &self,
        step: Step,
        sides: &Sides<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<u8, Poison> {
        let old = sides.old.filter(|_| matches!(step, Step::New(b'u') | Step::Old));
        match old {
            Some(old) => {
                write_open_old(&self.columns, old, &mut scratch.seen, out)?;
                out.extend_from_slice(b"},\"after\":");
            }
            None => out.extend_from_slice(b"null,\"after\":"),
        }
        match (step, sides.new_cells()) {
            (Step::New(op), Some(cells)) => {
                write_open_row(&self.columns, &cells, &mut scratch.seen, out)?;
                out.push(b'}');
                Ok(op)
            }
            _ => {
                out.extend_from_slice(b"null");
                Ok(step.op())
            }
        }
    }

    fn write_flat(&self, body: &FlatBody, record: &Record<'_>, scratch: &mut Scratch, out: &mut Vec<u8>) -> Result<(), Poison> {
        let (step, sides) = (record.step, &record.sides);
        if step == Step::Nothing {
            out.extend_from_slice(body.null.as_deref().unwrap_or(b"null"));
            return Ok(());
        }
        out.extend_from_slice(&body.head);
        let start = out.len();
        match (step, sides.new_cells(), sides.old) {
            (Step::New(_), Some(cells), _) => write_open_row(&self.columns, &cells, &mut scratch.seen, out)?,
            (_, _, Some(old)) => write_open_old(&self.columns, old, &mut scratch.seen, out)?,
            _ => out.push(b'{'),
        }
        let is_empty = out.len() == start + 1;
        let rest = out.len();
        if body.marks_deleted {
            out.extend_from_slice(if step == Step::Old { b",\"__deleted\":\"true\"" } else { b",\"__deleted\":\"false\"" });
        }
        for (member, metadata) in &body.fields {
            out.extend_from_slice(member);
            metadata.write(step.op(), &self.source, &record.context, out);
        }
        if is_empty && out.len() > rest {
            // No column stands before the comma.
            out.remove(rest);
        }
        out.push(b'}');
        if !body.head.is_empty() {
            out.push(b'}');
        }
        Ok(())
    }
}

/// Length of `{"before":`, which every envelope begins with.
const ENVELOPE_START: usize = 10;

/// The transaction block of a record.
pub(super) fn write_block(context: &Context<'_>, order: RecordOrder, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":\"");
    context.write_transaction_id(out);
    out.extend_from_slice(b"\",\"total_order\":");
    write_u64(order.total, out);
    out.extend_from_slice(b",\"data_collection_order\":");
    write_u64(order.in_table, out);
    out.push(b'}');
}

// === impl Step ===

impl Step {
    /// The operation's letter.
    pub(super) fn op(self) -> u8 {
        match self {
            Step::New(op) => op,
            Step::Old | Step::Tombstone | Step::Nothing => b'd',
            Step::Truncate => b't',
        }
    }
}

// === impl Scratch ===

impl Scratch {
    /// From behind the operation's letter to the end of the envelope: the same for all changes of a batch.
    #[inline]
    fn now(&mut self, now_ns: i64) -> &[u8] {
        if self.now.is_empty() || self.now_ns != now_ns {
            self.now_ns = now_ns;
            self.now.clear();
            for (name, number) in [
                (&b"\",\"ts_ms\":"[..], now_ns.div_euclid(1_000_000)),
                (b",\"ts_us\":", now_ns.div_euclid(1_000)),
                (b",\"ts_ns\":", now_ns),
            ] {
                self.now.extend_from_slice(name);
                write_i64(number, &mut self.now);
            }
            self.now.push(b'}');
        }
        &self.now
    }
}

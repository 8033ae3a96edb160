//! The headers of a capture's record, in their order (event-format.md, section 5).

use super::column::Cells;
use super::context::Context;
use super::format::Format;
use super::plan::{Body, CapturePlan, Scratch};
use super::rule::Shape;
use super::step::{Record, Sides, Step};
use crate::contract::write_context;
use relay_core::change::OldRow;
use relay_core::{Event, Poison, RelayPos};

// === impl CapturePlan ===

impl CapturePlan {
    /// All headers but `relay-unavailable`, which is known only behind the value.
    #[inline]
    pub(super) fn write_headers(&self, record: &Record<'_>, scratch: &mut Scratch, event: &mut Event) -> Result<(), Poison> {
        let (step, sides) = (record.step, &record.sides);
        let format = &self.rule.format;
        if record.is_key_change {
            // Each record names the other key.
            let (name, other) = match step {
                Step::New(_) => ("__debezium.oldkey", Step::Old),
                _ => ("__debezium.newkey", Step::New(b'c')),
            };
            self.write_other_key(other, sides, scratch, event)?;
            event.end_header(name);
        }
        if format.is_debezium {
            format.write_context(event);
        }
        if let Shape::Flat(rule) = &self.rule.shape {
            for (name, metadata) in &rule.headers {
                metadata.write_text(step.op(), &self.source, &record.context, event.out());
                event.end_header(name);
            }
        }
        if let Body::CloudEvents(body) = &self.body {
            self.write_cloudevents_headers(body, record, scratch, event)?;
        }
        format.write_own_headers(record.pos(), event);
        Ok(())
    }

    /// The key of the other side of a key change: JSON, or Connect's text of it (D28).
    fn write_other_key(&self, step: Step, sides: &Sides<'_>, scratch: &mut Scratch, event: &mut Event) -> Result<(), Poison> {
        let Some(key) = self.key.as_ref().filter(|_| self.rule.format.is_debezium) else {
            return self.write_plain_key(step, sides, scratch, event);
        };
        match (step, sides.new_cells(), sides.old) {
            (Step::New(_), Some(cells), _) => key.write_connect(&cells, false, &mut scratch.seen, event.out()),
            (_, _, Some(OldRow::Full(row))) => key.write_connect(&Cells::of(row), false, &mut scratch.seen, event.out()),
            (_, _, Some(OldRow::Key(row))) => key.write_connect(&Cells::of(row), true, &mut scratch.seen, event.out()),
            _ => Ok(()),
        }
    }

    /// `relay-unavailable`, where a value is not known.
    #[inline]
    pub(super) fn write_unavailable(&self, places: &[u32], event: &mut Event) {
        if places.is_empty() || self.rule.format.is_debezium {
            return;
        }
        let mut separator = b'[';
        for place in places {
            let Some(column) = self.columns.get(*place as usize) else { continue };
            event.out().push(separator);
            separator = b',';
            // `,"name":` without comma and colon.
            event.out().extend_from_slice(column.member.get(1..column.member.len() - 1).unwrap_or_default());
        }
        event.out().push(b']');
        event.end_header("relay-unavailable");
    }
}

// === impl Format ===

impl Format {
    /// relay's own headers of a record that stands alone.
    pub(super) fn write_own_headers(&self, pos: RelayPos<'_>, event: &mut Event) {
        if self.position_header {
            pos.write(event.out());
            event.end_header("relay-pos");
        }
        if self.source_header {
            event.header("relay-src", Some(self.pipeline.as_bytes()));
        }
    }

    /// The record timestamp (section 11.4).
    #[inline]
    pub(super) fn timestamp_ms(&self, context: &Context<'_>) -> i64 {
        match self.stamps_now {
            false => context.transaction.commit_time_us.div_euclid(1_000),
            true => context.now_ns.div_euclid(1_000_000),
        }
    }

    /// The four context headers of `compat = "debezium"`.
    pub(super) fn write_context(&self, event: &mut Event) {
        write_context(&self.prefix, &self.run_id, event);
    }
}

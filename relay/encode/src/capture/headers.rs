//! The headers of a capture's record, in their order (event-format.md, section 5).

use super::context::Context;
use super::format::Format;
use super::plan::{CapturePlan, Scratch};
use super::rule::Shape;
use super::step::{Sides, Step, Steps};
use relay_core::{Event, Poison, RelayPos};

// === impl CapturePlan ===

impl CapturePlan {
    /// All headers but `relay-unavailable`, which is known only behind the value.
    #[expect(clippy::too_many_arguments, reason = "the parts of one record; a struct of them would be made for this call alone")]
    #[inline]
    pub(super) fn write_headers(
        &self,
        context: &Context<'_>,
        steps: &Steps,
        step: Step,
        part: u8,
        sides: &Sides<'_>,
        scratch: &mut Scratch,
        event: &mut Event,
    ) -> Result<(), Poison> {
        let format = &self.rule.format;
        if steps.is_key_change {
            // Each record names the other key.
            let (name, other) = match step {
                Step::New(_) => ("__debezium.oldkey", Step::Old),
                _ => ("__debezium.newkey", Step::New(b'c')),
            };
            self.write_plain_key(other, sides, scratch, event)?;
            event.end_header(name);
        }
        if format.is_debezium {
            format.write_context(event);
        }
        if let Shape::Flat(rule) = &self.rule.shape {
            for (name, metadata) in &rule.headers {
                metadata.write_text(step.op(), &self.source, context, event.out());
                event.end_header(name);
            }
        }
        format.write_own_headers(part_of(context.pos, part, steps.count), event);
        Ok(())
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

/// The position of one of `count` records of a change.
pub(super) fn part_of(pos: RelayPos<'_>, part: u8, count: u8) -> RelayPos<'_> {
    match pos {
        RelayPos::Log(position) if count > 1 => RelayPos::Part(position, part),
        pos => pos,
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
        let values = [
            ("__debezium.context.connectorLogicalName", &*self.prefix),
            ("__debezium.context.taskId", "0"),
            ("__debezium.context.connectorName", "postgresql"),
            ("__debezium.context.runId", &self.run_id),
        ];
        for (name, value) in values {
            event.header(name, Some(value.as_bytes()));
        }
    }
}

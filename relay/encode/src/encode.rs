//! The hot path: a row becomes an event, appended piece by piece to a reused buffer.

use crate::cloud_route::{CloudScratch, Moment};
use crate::field::{Field, Piece, oid};
use crate::headers::HeaderScratch;
use crate::json;
use crate::merge::{has_unchanged, merged};
use crate::payload::is_blank;
use crate::plan::{Plan, Text, TextPart, TopicStep};
use crate::readable::readable;
use crate::route::{OnScheduled, OnUpdate, Route, TopicRule};
use crate::settings::RecordTimestamp;
use crate::timestamp::{self, NoTime};
use regex_lite::CaptureLocations;
use relay_core::change::OldRow;
use relay_core::{Cell, Change, Event, Poison, PoisonReason, RelayPos, Row, Transaction};

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The event is complete.
    Event,
    /// No event, on purpose.
    Filtered(FilterReason),
    /// An update, and the route says `on_update = "stop"`.
    Stop,
}

/// Why a change is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterReason {
    /// An update of an outbox row: its own dispatcher's mark.
    MarkerUpdate,
    /// A delete or truncate of an outbox table, or a message outside a transaction.
    Operation,
    /// The row does not meet `match`.
    Predicate,
    /// The row is due in the future, and the route says `on_scheduled = "skip"`.
    Scheduled,
}

/// What a plan keeps between rows.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// The last topic that was found legal.
    topic: Vec<u8>,
    /// The routing value that led to it, with `topic_match`.
    routed: Vec<u8>,
    locations: Option<CaptureLocations>,
    headers: HeaderScratch,
    bytes: Vec<u8>,
    cloud: CloudScratch,
    /// Cells of the message at hand.
    pub(crate) cells: Vec<Cell>,
}

// === impl Scratch ===

impl Scratch {
    pub(crate) fn new(route: &Route) -> Self {
        let locations = match &route.topic {
            TopicRule::Rewrite(rewrite) => Some(rewrite.locations()),
            TopicRule::Template(_) => None,
        };
        Self {
            topic: Vec::new(),
            routed: Vec::new(),
            locations,
            headers: HeaderScratch::default(),
            bytes: Vec::new(),
            cloud: CloudScratch::default(),
            cells: Vec::new(),
        }
    }
}

// === impl FilterReason ===

impl FilterReason {
    /// Every reason, for metrics that exist at 0 from the start.
    pub const ALL: [FilterReason; 4] =
        [FilterReason::MarkerUpdate, FilterReason::Operation, FilterReason::Predicate, FilterReason::Scheduled];

    /// The label value of `relay_events_filtered_total`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FilterReason::MarkerUpdate => "marker_update",
            FilterReason::Operation => "operation",
            FilterReason::Predicate => "predicate",
            FilterReason::Scheduled => "scheduled",
        }
    }
}

// === impl Plan ===

impl Plan {
    /// Encodes an inserted row into `event`, which is cleared first. `now_ms` is read only where the route asks for
    /// it ([`Route::needs_now`]).
    ///
    /// # Errors
    /// What makes this row unpublishable. `event` then holds what was built before: key, topic, some headers, never a value.
    pub fn encode(
        &self,
        transaction: &Transaction,
        position: RelayPos<'_>,
        new: &Row<'_>,
        now_ms: i64,
        event: &mut Event,
    ) -> Result<Outcome, Poison> {
        event.clear();
        let mut outcome = self.fill(transaction, position, new, now_ms, event);
        if let Err(Poison { reason: PoisonReason::Utf8, .. }) = outcome
            && let Some(policy) = self.route.contract.mends()
        {
            let (bytes, cells) = readable(new, policy, |index| self.documents.contains(&index));
            event.clear();
            outcome = self.fill(transaction, position, &Row::new(&bytes, &cells), now_ms, event);
        }
        if outcome.is_err() {
            event.abandon_piece();
        }
        outcome
    }

    /// As [`Plan::encode`], for any change of the plan's table or prefix.
    ///
    /// # Errors
    /// As [`Plan::encode`].
    pub fn encode_change(
        &self,
        transaction: &Transaction,
        position: RelayPos<'_>,
        change: &Change<'_>,
        now_ms: i64,
        event: &mut Event,
    ) -> Result<Outcome, Poison> {
        match change {
            Change::Insert { new, .. } => self.encode(transaction, position, new, now_ms, event),
            Change::Update { old, new, .. } => match self.route.on_update {
                OnUpdate::Ignore => Ok(Outcome::Filtered(FilterReason::MarkerUpdate)),
                OnUpdate::Stop => Ok(Outcome::Stop),
                OnUpdate::Publish => match old {
                    Some(OldRow::Full(old)) if has_unchanged(new) => {
                        let (bytes, cells) = merged(old, new);
                        self.encode(transaction, position, &Row::new(&bytes, &cells), now_ms, event)
                    }
                    _ => self.encode(transaction, position, new, now_ms, event),
                },
            },
            Change::Delete { .. } | Change::Truncate { .. } => Ok(Outcome::Filtered(FilterReason::Operation)),
            Change::Message { content, is_transactional, .. } => {
                self.encode_message(transaction, position, content, *is_transactional, now_ms, event)
            }
        }
    }

    pub(crate) fn fill(
        &self,
        transaction: &Transaction,
        position: RelayPos<'_>,
        row: &Row<'_>,
        now_ms: i64,
        event: &mut Event,
    ) -> Result<Outcome, Poison> {
        for (field, test) in &self.conditions {
            if !test.is_met(field, row, now_ms)? {
                return Ok(Outcome::Filtered(FilterReason::Predicate));
            }
        }
        let mut is_due = true;
        for (field, test) in &self.schedule {
            is_due &= test.is_met(field, row, now_ms)?;
        }
        if !is_due && self.route.on_scheduled == OnScheduled::Skip {
            return Ok(Outcome::Filtered(FilterReason::Scheduled));
        }
        let scratch = &mut *self.scratch.borrow_mut();
        if let Some(key) = &self.key {
            let is_there = key.write(row, position, event, Empty::CountsLast)?;
            if let Some(form) = &self.key_form {
                form.rewrite(key, row, is_there, event, &mut scratch.bytes)?;
            }
            if is_there || self.key_form.is_some() {
                event.end_key();
            }
        }
        self.write_topic(row, position, event, scratch)?;
        self.route.contract.write_context(event);
        if !self.id.write(row, position, event, Empty::IsNone)? {
            return Err(self.unroutable("the id is NULL or empty"));
        }
        if self.cloud.is_some() {
            scratch.cloud.id.clear();
            scratch.cloud.id.extend_from_slice(event.open_piece());
        }
        event.end_header("id");
        for step in &self.headers {
            step.write(row, event, &mut scratch.headers)?;
        }
        if let Some(cloud) = &self.cloud {
            let found = self.value.find(row)?;
            if !self.is_tombstone(found) {
                let moment = self.moment(transaction, position, self.timestamp_ms(transaction, row, now_ms)?, found);
                cloud.write_headers(moment, row, event, &mut scratch.cloud)?;
            }
        }
        if self.route.position_header {
            position.write(event.out());
            event.end_header("relay-pos");
        }
        if self.route.source_header {
            event.header("relay-src", Some(self.route.pipeline.as_bytes()));
        }
        event.timestamp_ms = self.timestamp_ms(transaction, row, now_ms)?;
        event.partition = self.partition(row)?;
        if !is_due && self.route.on_scheduled == OnScheduled::Poison {
            let message = format!("{}: the row is due in the future", self.label);
            return Err(Poison::new(PoisonReason::Scheduled, message));
        }
        let found = self.value.find(row)?;
        if self.is_tombstone(found) {
            return Ok(Outcome::Event);
        }
        match &self.cloud {
            Some(cloud) if cloud.is_structured() => {
                let moment = self.moment(transaction, position, event.timestamp_ms, found);
                cloud.write_value(moment, row, found, event, &mut scratch.cloud)?;
                event.end_value();
            }
            _ => self.value.write(found, row, event, &mut scratch.bytes)?,
        }
        Ok(Outcome::Event)
    }

    /// Whether the payload is empty and that means a null value.
    #[inline]
    fn is_tombstone(&self, found: Option<(&Field, Piece<'_>)>) -> bool {
        self.route.tombstone_on_null && found.is_none_or(|(_, piece)| is_blank(piece))
    }

    /// When the event was: the record timestamp, with the microseconds that the commit time has.
    fn moment<'a>(
        &self,
        transaction: &Transaction,
        position: RelayPos<'a>,
        timestamp_ms: i64,
        found: Option<(&Field, Piece<'_>)>,
    ) -> Moment<'a> {
        let commit_us = transaction.commit_time_us;
        let us = if commit_us.div_euclid(1_000) == timestamp_ms { commit_us } else { timestamp_ms.saturating_mul(1_000) };
        Moment { position, us, is_json: self.value.is_json(found) }
    }

    #[cold]
    fn unroutable(&self, message: &str) -> Poison {
        Poison::new(PoisonReason::Route, format!("{}: {message}", self.label))
    }

    /// The topic stays in the event even when it is not allowed, so that a dlq record can name it.
    fn write_topic(&self, row: &Row<'_>, position: RelayPos<'_>, event: &mut Event, scratch: &mut Scratch) -> Result<(), Poison> {
        let is_from_row = match &self.topic {
            TopicStep::Text { text, is_from_row } => {
                if !text.write(row, position, event, Empty::IsNone)? {
                    return Err(self.unroutable("every topic alternative is NULL or empty"));
                }
                *is_from_row
            }
            TopicStep::Rewrite(field) => {
                if !field.write_text(field.read(row)?, event.out())? {
                    return Err(self.unroutable("the routing value is NULL"));
                }
                if event.open_piece() != scratch.routed || scratch.topic.is_empty() {
                    scratch.routed.clear();
                    scratch.routed.extend_from_slice(event.open_piece());
                    scratch.topic.clear();
                    event.abandon_piece();
                    let value = field.check(&scratch.routed)?;
                    if let (TopicRule::Rewrite(rewrite), Some(locations)) = (&self.route.topic, &mut scratch.locations) {
                        rewrite.apply(value, locations, event.out());
                    }
                } else {
                    event.abandon_piece();
                    event.out().extend_from_slice(&scratch.topic);
                }
                true
            }
        };
        if event.open_piece() == scratch.topic && !scratch.topic.is_empty() {
            event.end_topic();
            return Ok(());
        }
        let checked = self.route.topics.check(event.open_piece(), is_from_row);
        if checked.is_ok() {
            scratch.topic.clear();
            scratch.topic.extend_from_slice(event.open_piece());
        }
        event.end_topic();
        checked.map_err(|message| self.unroutable(&message))
    }

    fn timestamp_ms(&self, transaction: &Transaction, row: &Row<'_>, now_ms: i64) -> Result<i64, Poison> {
        let fallback = || match self.route.record_timestamp {
            RecordTimestamp::Commit => transaction.commit_time_us.div_euclid(1_000),
            RecordTimestamp::Now => now_ms,
        };
        let Some(field) = &self.timestamp else { return Ok(fallback()) };
        let poison = |what: &str| Err(Poison::new(PoisonReason::Timestamp, format!("column `{}` {what}", field.name)));
        let parsed = match field.read(row)? {
            Piece::Null | Piece::Absent => return Ok(fallback()),
            Piece::Text(text) if field.type_oid == oid::INT8 => whole_number(text).ok_or(NoTime::Malformed),
            Piece::Text(text) => timestamp::parse(text),
            Piece::Json(raw) => match json::string_inside(raw) {
                Some(inside) => timestamp::parse(inside),
                None => whole_number(raw).ok_or(NoTime::Malformed),
            },
            Piece::Hex(_) | Piece::Bytes(_) => Err(NoTime::Malformed),
        };
        match parsed {
            Ok(ms) if ms >= 0 => Ok(ms),
            Ok(_) => poison("is before 1970, which Kafka cannot store"),
            Err(NoTime::Infinite) => poison("is infinite"),
            Err(NoTime::Malformed) => poison("is not a timestamp"),
        }
    }

    fn partition(&self, row: &Row<'_>) -> Result<Option<i32>, Poison> {
        let Some(field) = &self.partition else { return Ok(None) };
        let number = match field.read(row)? {
            Piece::Null | Piece::Absent => return Ok(None),
            Piece::Text(text) | Piece::Json(text) => whole_number(text),
            Piece::Hex(_) | Piece::Bytes(_) => None,
        };
        match number.and_then(|number| i32::try_from(number).ok()).filter(|&number| number >= 0) {
            Some(partition) => Ok(Some(partition)),
            None => Err(self.unroutable(&format!("column `{}` is not a partition number (0 to 2147483647)", field.name))),
        }
    }
}

fn whole_number(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// What an empty column means to a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Empty {
    /// The same as NULL: topics and ids.
    IsNone,
    /// Falls through to the next alternative; in the last one it is a value: keys.
    CountsLast,
}

// === impl Text ===

impl Text {
    /// Appends the first alternative that is complete; false when there is none.
    #[inline]
    fn write(&self, row: &Row<'_>, position: RelayPos<'_>, event: &mut Event, empty: Empty) -> Result<bool, Poison> {
        let last = self.alternatives.len().wrapping_sub(1);
        for (index, parts) in self.alternatives.iter().enumerate() {
            let is_none_when_empty = empty == Empty::IsNone || index != last;
            if write_parts(parts, row, position, event, is_none_when_empty)? {
                return Ok(true);
            }
            event.abandon_piece();
        }
        Ok(false)
    }
}

#[inline]
fn write_parts(
    parts: &[TextPart],
    row: &Row<'_>,
    position: RelayPos<'_>,
    event: &mut Event,
    is_none_when_empty: bool,
) -> Result<bool, Poison> {
    for part in parts {
        match part {
            TextPart::Literal(text) => event.out().extend_from_slice(text.as_bytes()),
            TextPart::Field(field) => {
                let piece = field.read(row)?;
                let before = event.out().len();
                if !field.write_text(piece, event.out())? || (is_none_when_empty && event.out().len() == before) {
                    return Ok(false);
                }
            }
            TextPart::RelayPos => position.write(event.out()),
            TextPart::GeneratedId(id) => {
                if !id.write(row, event.out())? {
                    return Ok(false);
                }
            }
            TextPart::Null => return Ok(false),
        }
    }
    Ok(true)
}

//! The hot path: a row becomes an event, appended piece by piece to a reused buffer.

use crate::binary;
use crate::field::{Field, Form, Piece, oid};
use crate::headers::HeaderScratch;
use crate::json;
use crate::plan::{Plan, Text, TextPart, TopicStep, ValueStep, is_raw_json};
use crate::route::{OnScheduled, OnUpdate, Route, TopicRule, ValueEncoding};
use crate::settings::RecordTimestamp;
use crate::timestamp::{self, NoTime};
use regex_lite::CaptureLocations;
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
        let outcome = self.fill(transaction, position, new, now_ms, event);
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
            Change::Update { .. } => Ok(match self.route.on_update {
                OnUpdate::Ignore => Outcome::Filtered(FilterReason::MarkerUpdate),
                OnUpdate::Stop => Outcome::Stop,
            }),
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
        if let Some(key) = &self.key
            && key.write(row, position, event, Empty::CountsLast)?
        {
            event.end_key();
        }
        self.write_topic(row, position, event, scratch)?;
        if !self.id.write(row, position, event, Empty::IsNone)? {
            return Err(self.unroutable("the id is NULL or empty"));
        }
        event.end_header("id");
        for step in &self.headers {
            step.write(row, event, &mut scratch.headers)?;
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
        self.value.write(row, event, self.route.tombstone_on_null, &mut scratch.bytes)?;
        Ok(Outcome::Event)
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

// === impl ValueStep ===

impl ValueStep {
    fn write(&self, row: &Row<'_>, event: &mut Event, tombstone_on_null: bool, scratch: &mut Vec<u8>) -> Result<(), Poison> {
        let mut found = None;
        for field in &self.alternatives {
            let piece = field.read(row)?;
            if !piece.is_none() {
                found = Some((field, piece));
                break;
            }
        }
        // Java's String.trim: everything up to U+0020 at both ends.
        let is_blank = |piece| matches!(piece, Piece::Text(text) if text.iter().all(|&byte| byte <= b' '));
        if tombstone_on_null && found.is_none_or(|(_, piece)| is_blank(piece)) {
            return Ok(());
        }
        let out = event.out();
        if let Some(wrap) = &self.wrap {
            wrap.write(found, row, out)?;
        } else if !self.envelope.is_empty() {
            self.write_envelope(found, row, out, scratch)?;
        } else if let Some((field, piece)) = found {
            match (self.encoding, piece) {
                (ValueEncoding::Base64, piece) => {
                    field.write_decoded(piece, out)?;
                }
                (ValueEncoding::JsonString, piece) => write_json_string(field, piece, out, scratch)?,
                (ValueEncoding::Auto | ValueEncoding::Eventuate, Piece::Text(text) | Piece::Json(text)) if !field.is_base64 => {
                    out.extend_from_slice(field.check(text)?.as_bytes());
                }
                (ValueEncoding::Auto | ValueEncoding::Eventuate, piece) => {
                    field.write_text(piece, out)?;
                }
            }
        } else {
            out.extend_from_slice(self.null);
        }
        event.end_value();
        Ok(())
    }

    /// `{"payload":…,"<alias>":<column>,…}`.
    fn write_envelope(
        &self,
        payload: Option<(&Field, Piece<'_>)>,
        row: &Row<'_>,
        out: &mut Vec<u8>,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Poison> {
        out.extend_from_slice(b"{\"payload\":");
        match payload {
            None => out.extend_from_slice(b"null"),
            Some((field, Piece::Text(text) | Piece::Json(text))) if !field.is_base64 && is_json(field) => {
                out.extend_from_slice(field.check(text)?.as_bytes());
            }
            Some((field, piece)) => write_json_string(field, piece, out, scratch)?,
        }
        for (member, field) in &self.envelope {
            out.extend_from_slice(member);
            match field.read(row)? {
                Piece::Null | Piece::Absent => out.extend_from_slice(b"null"),
                Piece::Json(raw) => out.extend_from_slice(field.check(raw)?.as_bytes()),
                Piece::Text(text) if matches!(field.type_oid, oid::BOOL | oid::INT2 | oid::INT4 | oid::INT8) => {
                    out.extend_from_slice(field.check(text)?.as_bytes());
                }
                piece => write_json_string(field, piece, out, scratch)?,
            }
        }
        out.push(b'}');
        Ok(())
    }
}

fn is_json(field: &Field) -> bool {
    field.form == Form::Json || is_raw_json(field)
}

/// The text as one JSON string; bytes as the base64 of theirs.
fn write_json_string(field: &Field, piece: Piece<'_>, out: &mut Vec<u8>, scratch: &mut Vec<u8>) -> Result<(), Poison> {
    match piece {
        Piece::Text(text) | Piece::Json(text) if !field.is_base64 => json::write_string(field.check(text)?, out),
        piece => {
            scratch.clear();
            field.write_text(piece, scratch)?;
            out.push(b'"');
            binary::write_base64(scratch, out);
            out.push(b'"');
        }
    }
    Ok(())
}

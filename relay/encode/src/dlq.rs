//! An event that cannot be published becomes a record of the dlq topic (event-format.md, section 16).

use crate::binary;
use crate::capture::CapturePlan;
use crate::field::oid;
use crate::json;
use relay_core::change::OldRow;
use relay_core::{Change, Event, Kind, Poison, Relation, RelayPos, ReplicaIdentity, Row, Value, Xid};

/// What is known about the event beyond its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The dlq topic.
    pub topic: &'a str,
    /// Pipeline name.
    pub pipeline: &'a str,
    /// Slot name.
    pub slot: &'a str,
    /// The event's position.
    pub position: RelayPos<'a>,
    /// Top-level transaction id.
    pub xid: Xid,
    /// What was wrong.
    pub fault: Fault<'a>,
    /// How often it was tried.
    pub attempts: u64,
    /// RFC 3339.
    pub first_at: &'a str,
    /// RFC 3339.
    pub last_at: &'a str,
    /// Record timestamp of the dlq record.
    pub timestamp_ms: i64,
    /// Whether Kafka Connect's own header names are written too (`delivery.dlq_connect_headers`).
    pub has_connect_headers: bool,
}

/// Why the event is parked.
#[derive(Clone, Copy, Debug)]
pub enum Fault<'a> {
    /// It is poison itself.
    Poison(&'a Poison),
    /// An event of its key was parked before it, at that position.
    Held(RelayPos<'a>),
}

/// What the change was, as far as it was kept.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// The change itself.
    Change(&'a Change<'a>),
    /// The change of a captured table, of which the record shows no more than the plan does.
    Captured(&'a Change<'a>, &'a CapturePlan),
    /// A frame that was drained for its size: only its table and operation are known.
    Drained {
        /// The table, when the frame's head named one.
        relation: Option<&'a Relation>,
        /// `insert`, `update`, `delete`, `message`.
        operation: &'a str,
    },
}

// === impl Origin ===

impl<'a> Origin<'a> {
    /// The table, where there is one.
    #[must_use]
    pub fn relation(self) -> Option<&'a Relation> {
        match self {
            Origin::Change(change) | Origin::Captured(change, _) => change.relation(),
            Origin::Drained { relation, .. } => relation,
        }
    }

    fn change(self) -> Option<(&'a Change<'a>, Option<&'a CapturePlan>)> {
        match self {
            Origin::Change(change) => Some((change, None)),
            Origin::Captured(change, plan) => Some((change, Some(plan))),
            Origin::Drained { .. } => None,
        }
    }
}

/// Writes the dlq record into `out`, which is cleared first. `failed` is the event as far as it was built; when it has no value
/// the row is stored instead.
pub fn encode(entry: &Entry<'_>, origin: Origin<'_>, failed: &Event, out: &mut Event) {
    out.clear();
    out.timestamp_ms = entry.timestamp_ms;
    out.out().extend_from_slice(entry.topic.as_bytes());
    out.end_topic();
    out.out().extend_from_slice(entry.pipeline.as_bytes());
    out.out().push(b'/');
    entry.position.write(out.out());
    if matches!(entry.position, RelayPos::Snapshot(_) | RelayPos::SnapshotRow { .. }) {
        write_place(origin, failed, out.out());
    }
    out.end_key();
    match failed.value() {
        Some(value) => out.out().extend_from_slice(value),
        None => write_row(origin, out.out()),
    }
    out.end_value();
    write_headers(entry, origin, failed, out);
}

/// Rows of a snapshot share a position: topic and key of its record tell one from the others, or table and primary key where those
/// could not be built.
fn write_place(origin: Origin<'_>, failed: &Event, out: &mut Vec<u8>) {
    out.push(b'/');
    match failed.topic() {
        "" => out.extend_from_slice(origin.relation().map(ToString::to_string).unwrap_or_default().as_bytes()),
        topic => out.extend_from_slice(topic.as_bytes()),
    }
    out.push(b'/');
    match (failed.key(), origin.change()) {
        (Some(key), _) => out.extend_from_slice(key),
        (None, Some((change, plan))) => drop(write_primary_key(change, plan, out)),
        (None, None) => {}
    }
}

/// The record that marks an entry as resolved: the same key, no value.
pub fn encode_tombstone(topic: &str, pipeline: &str, position: RelayPos<'_>, out: &mut Event) {
    out.clear();
    out.out().extend_from_slice(topic.as_bytes());
    out.end_topic();
    out.out().extend_from_slice(pipeline.as_bytes());
    out.out().push(b'/');
    position.write(out.out());
    out.end_key();
}

fn write_headers(entry: &Entry<'_>, origin: Origin<'_>, failed: &Event, out: &mut Event) {
    for (name, value) in failed.headers() {
        // A row cannot bring a name that is not UTF-8: such a header was refused before it was added.
        out.header(std::str::from_utf8(name).unwrap_or_default(), value);
    }
    let (code, stage, message) = match entry.fault {
        Fault::Poison(poison) => (Kind::Poison.directive().code, poison.reason.stage(), poison.message.clone()),
        Fault::Held(first) => ("held", "produce", first.to_string()),
    };
    let mut text = |name: &str, value: &str| out.header(name, Some(value.as_bytes()));
    text("relay-error-code", code);
    text("relay-error-class", "poison");
    text("relay-error-stage", stage);
    text("relay-error-message", &message);
    text("relay-error-attempts", &entry.attempts.to_string());
    text("relay-error-first-at", entry.first_at);
    text("relay-error-last-at", entry.last_at);
    text("relay-origin-slot", entry.slot);
    text("relay-origin-pos", &entry.position.to_string());
    text("relay-origin-xid", &entry.xid.0.to_string());
    let relation = origin.relation();
    if let Some(relation) = relation {
        text("relay-origin-table", &relation.to_string());
    }
    if let Some((change, plan)) = origin.change()
        && write_primary_key(change, plan, out.out())
    {
        out.end_header("relay-origin-pk");
    }
    out.abandon_piece();
    if !failed.topic().is_empty() {
        out.header("relay-origin-topic", Some(failed.topic().as_bytes()));
    }
    if let Some(key) = failed.key() {
        out.header("relay-origin-key", Some(key));
    }
    out.header("relay-dlq-version", Some(b"1"));
    if entry.has_connect_headers {
        let mut text = |name: &str, value: &str| out.header(name, Some(value.as_bytes()));
        text("__connect.errors.topic", failed.topic());
        text("__connect.errors.partition", "");
        text("__connect.errors.offset", "");
        text("__connect.errors.connector.name", entry.pipeline);
        text("__connect.errors.task.id", "0");
        text("__connect.errors.stage", stage);
        text("__connect.errors.class.name", "relay");
        text("__connect.errors.exception.class.name", code);
        text("__connect.errors.exception.message", &message);
    }
}

/// `{"schema":…,"table":…,"op":…,"old":…,"new":…}`.
fn write_row(origin: Origin<'_>, out: &mut Vec<u8>) {
    let relation = origin.relation();
    let operation = match origin {
        Origin::Change(change) | Origin::Captured(change, _) => change.operation(),
        Origin::Drained { operation, .. } => operation,
    };
    out.extend_from_slice(b"{\"schema\":");
    write_text(relation.map(|relation| &*relation.schema), out);
    out.extend_from_slice(b",\"table\":");
    write_text(relation.map(|relation| &*relation.name), out);
    out.extend_from_slice(b",\"op\":");
    write_text(Some(operation), out);
    out.extend_from_slice(b",\"old\":");
    let (old, new) = origin.change().map_or((None, None), |(change, _)| rows(change));
    let plan = origin.change().and_then(|(_, plan)| plan);
    match (old, relation) {
        (Some((row, is_key)), Some(relation)) => write_columns(relation, &row, is_key, plan, out),
        _ => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"new\":");
    match (new, relation, origin) {
        (Some(row), Some(relation), _) => write_columns(relation, &row, false, plan, out),
        (
            _,
            _,
            Origin::Change(Change::Message { prefix, content, .. })
            | Origin::Captured(Change::Message { prefix, content, .. }, _),
        ) => {
            out.extend_from_slice(b"{\"prefix\":");
            write_text(Some(prefix), out);
            out.extend_from_slice(b",\"content\":");
            write_bytes(content, out);
            out.push(b'}');
        }
        _ => out.extend_from_slice(b"null"),
    }
    out.push(b'}');
}

/// Old row (and whether only its identity columns are there) and new row.
fn rows<'a>(change: &Change<'a>) -> (Option<(Row<'a>, bool)>, Option<Row<'a>>) {
    let old = |old: OldRow<'a>| match old {
        OldRow::Key(row) => (row, true),
        OldRow::Full(row) => (row, false),
    };
    match *change {
        Change::Insert { new, .. } => (None, Some(new)),
        Change::Update { old: before, new, .. } => (before.map(old), Some(new)),
        Change::Delete { old: before, .. } => (Some(old(before)), None),
        Change::Truncate { .. } | Change::Message { .. } => (None, None),
    }
}

/// Column texts as strings; a column whose value was not sent (unchanged TOAST) is left out.
fn write_columns(relation: &Relation, row: &Row<'_>, only_identity: bool, plan: Option<&CapturePlan>, out: &mut Vec<u8>) {
    out.push(b'{');
    let mut is_first = true;
    for (index, column) in relation.columns.iter().enumerate() {
        let value = row.get(index);
        let is_hidden = plan.is_some_and(|plan| !plan.shows(index));
        if matches!(value, None | Some(Value::Unchanged)) || (only_identity && !column.is_key) || is_hidden {
            continue;
        }
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        json::write_string(&column.name, out);
        out.push(b':');
        match value {
            Some(value) if plan.is_some_and(|plan| plan.write_masked(index, value, out)) => {}
            Some(Value::Text(text)) => write_bytes(text, out),
            Some(Value::Binary(bytes)) => write_base64_object(bytes, out),
            _ => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}

/// The identity columns of the row as JSON, integers as numbers; false when nothing says which they are.
fn write_primary_key(change: &Change<'_>, plan: Option<&CapturePlan>, out: &mut Vec<u8>) -> bool {
    let Some(relation) = change.relation() else { return false };
    let is_known = matches!(relation.identity, ReplicaIdentity::Default | ReplicaIdentity::Index);
    let (old, new) = rows(change);
    let Some(row) = new.or(old.map(|(row, _)| row)) else { return false };
    if !is_known || !relation.columns.iter().any(|column| column.is_key) {
        return false;
    }
    let mut separator = b'{';
    for (index, column) in relation.columns.iter().enumerate().filter(|(_, column)| column.is_key) {
        out.push(separator);
        separator = b',';
        json::write_string(&column.name, out);
        out.push(b':');
        match row.get(index) {
            Some(value) if plan.is_some_and(|plan| plan.write_masked(index, value, out)) => {}
            Some(Value::Text(text)) if matches!(column.type_oid.0, oid::INT2 | oid::INT4 | oid::INT8) && text.is_ascii() => {
                out.extend_from_slice(text);
            }
            Some(Value::Text(text)) => write_bytes(text, out),
            Some(Value::Binary(bytes)) => write_base64_object(bytes, out),
            _ => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
    true
}

fn write_text(text: Option<&str>, out: &mut Vec<u8>) {
    match text {
        Some(text) => json::write_string(text, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// A string, or `{"base64":"…"}` for bytes that are not UTF-8.
fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    match simdutf8::basic::from_utf8(bytes) {
        Ok(text) => json::write_string(text, out),
        Err(_) => write_base64_object(bytes, out),
    }
}

fn write_base64_object(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"base64\":\"");
    binary::write_base64(bytes, out);
    out.extend_from_slice(b"\"}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_core::{Cell, Column, Lsn, Oid, PoisonReason, Position};

    fn relation() -> Relation {
        let column = |name: &str, oid, is_key| Column {
            name: name.into(),
            type_oid: Oid(oid),
            type_modifier: -1,
            type_name: None,
            is_key,
        };
        Relation {
            oid: Oid(1),
            schema: "public".into(),
            name: "outbox".into(),
            identity: ReplicaIdentity::Default,
            columns: vec![column("id", 20, true), column("t", 25, false), column("b", 17, false), column("u", 25, false)],
        }
    }

    fn entry<'a>(fault: Fault<'a>) -> Entry<'a> {
        Entry {
            topic: "orders.dlq",
            pipeline: "orders",
            slot: "relay_orders",
            position: Position { commit_lsn: Lsn(0x16_B374_D848), seq: 3 }.into(),
            xid: Xid(777),
            fault,
            attempts: 2,
            first_at: "2026-01-05T12:00:00Z",
            last_at: "2026-01-05T12:00:01Z",
            timestamp_ms: 5,
            has_connect_headers: false,
        }
    }

    fn headers(event: &Event) -> Vec<(String, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        event.headers().map(|(name, value)| (text(name), value.map(text))).collect()
    }

    fn text(bytes: Option<&[u8]>) -> &str {
        std::str::from_utf8(bytes.expect("there")).expect("UTF-8")
    }

    #[test]
    fn a_row_that_was_not_built_is_stored_as_json() {
        let relation = relation();
        let cells = [
            Cell::Text { start: 0, len: 2 },
            Cell::Text { start: 2, len: 3 },
            Cell::Text { start: 5, len: 4 },
            Cell::Text { start: 9, len: 1 },
        ];
        let change = Change::Insert { relation: &relation, new: Row::new(b"42a\"\n\\xff\xff", &cells) };
        let mut failed = Event::default();
        failed.out().extend_from_slice(b"k");
        failed.end_key();
        failed.out().extend_from_slice(b"bad topic");
        failed.end_topic();
        failed.header("id", Some(b"42"));
        let poison = Poison::new(PoisonReason::Route, "words");
        let mut out = Event::default();
        encode(&entry(Fault::Poison(&poison)), Origin::Change(&change), &failed, &mut out);
        assert_eq!((out.topic(), text(out.key()), out.timestamp_ms), ("orders.dlq", "orders/16B374D848.3", 5));
        assert_eq!(
            text(out.value()),
            concat!(
                r#"{"schema":"public","table":"outbox","op":"insert","old":null,"#,
                r#""new":{"id":"42","t":"a\"\n","b":"\\xff","u":{"base64":"/w=="}}}"#
            )
        );
        let want = [
            ("id", "42"),
            ("relay-error-code", "R0401"),
            ("relay-error-class", "poison"),
            ("relay-error-stage", "route"),
            ("relay-error-message", "words"),
            ("relay-error-attempts", "2"),
            ("relay-error-first-at", "2026-01-05T12:00:00Z"),
            ("relay-error-last-at", "2026-01-05T12:00:01Z"),
            ("relay-origin-slot", "relay_orders"),
            ("relay-origin-pos", "16B374D848.3"),
            ("relay-origin-xid", "777"),
            ("relay-origin-table", "public.outbox"),
            ("relay-origin-pk", r#"{"id":42}"#),
            ("relay-origin-topic", "bad topic"),
            ("relay-origin-key", "k"),
            ("relay-dlq-version", "1"),
        ];
        assert_eq!(headers(&out), want.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))));
    }

    #[test]
    fn a_captured_row_shows_no_more_than_its_record_would() {
        use crate::capture::{CapturePlan, CaptureSettings, Captures};
        let relation = relation();
        let settings = CaptureSettings {
            columns_exclude: vec!["public.outbox.b".to_owned()],
            mask: vec![("*.t".to_owned(), "stars:2".to_owned()), ("*.id".to_owned(), "null".to_owned())],
            ..CaptureSettings::default()
        };
        let captures = Captures::new(vec![settings], &crate::FormatSettings::default()).expect("legal");
        let rule = captures.table(&relation).expect("captured");
        let plan = CapturePlan::compile(rule, &relation, &relay_core::Catalog::default(), "app").expect("compiles");
        let cells = [
            Cell::Text { start: 0, len: 2 },
            Cell::Text { start: 2, len: 6 },
            Cell::Text { start: 8, len: 4 },
            Cell::Text { start: 12, len: 1 },
        ];
        let change = Change::Insert { relation: &relation, new: Row::new(b"42secret\\xff\xff", &cells) };
        let poison = Poison::new(PoisonReason::Utf8, "words");
        let mut out = Event::default();
        encode(&entry(Fault::Poison(&poison)), Origin::Captured(&change, &plan), &Event::default(), &mut out);
        let want =
            r#"{"schema":"public","table":"outbox","op":"insert","old":null,"new":{"id":null,"t":"**","u":{"base64":"/w=="}}}"#;
        assert_eq!(text(out.value()), want);
        let pk = ("relay-origin-pk".to_owned(), Some(r#"{"id":null}"#.to_owned()));
        assert!(headers(&out).contains(&pk));
    }

    #[test]
    fn rows_of_a_snapshot_have_entries_of_their_own() {
        let relation = relation();
        let cells = [Cell::Text { start: 0, len: 2 }, Cell::Null, Cell::Null, Cell::Null];
        let change = Change::Insert { relation: &relation, new: Row::new(b"42", &cells) };
        let poison = Poison::new(PoisonReason::Encode, "words");
        let (mut out, mut built) = (Event::default(), Event::default());
        let entry = Entry { position: RelayPos::Snapshot(Lsn(0xA0)), ..entry(Fault::Poison(&poison)) };
        encode(&entry, Origin::Change(&change), &built, &mut out);
        assert_eq!(text(out.key()), r#"orders/A0.s/public.outbox/{"id":42}"#);
        built.out().extend_from_slice(b"app.public.outbox");
        built.end_topic();
        built.out().extend_from_slice(br#"{"id":7}"#);
        built.end_key();
        encode(&entry, Origin::Change(&change), &built, &mut out);
        assert_eq!(text(out.key()), r#"orders/A0.s/app.public.outbox/{"id":7}"#);
        let loose = Entry { position: RelayPos::SnapshotRow { lsn: Lsn(0xA0), chunk: 3, row: 1 }, ..entry };
        let drained = Origin::Drained { relation: Some(&relation), operation: "insert" };
        encode(&loose, drained, &Event::default(), &mut out);
        assert_eq!(text(out.key()), "orders/A0.s.3.1/public.outbox/");
    }

    #[test]
    fn a_held_event_keeps_its_value_and_a_drained_frame_has_no_row() {
        let relation = relation();
        let mut built = Event::default();
        built.out().extend_from_slice(b"orders");
        built.end_topic();
        built.out().extend_from_slice(b"\xff\x00");
        built.end_value();
        let mut out = Event::default();
        let drained = Origin::Drained { relation: Some(&relation), operation: "insert" };
        let held = Fault::Held(Position { commit_lsn: Lsn(0x10), seq: 0 }.into());
        encode(&Entry { has_connect_headers: true, ..entry(held) }, drained, &built, &mut out);
        assert_eq!(out.value(), Some(&b"\xff\x00"[..]));
        let found = headers(&out);
        let has = |name: &str, value: &str| found.contains(&(name.to_owned(), Some(value.to_owned())));
        assert!(has("relay-error-code", "held") && has("relay-error-message", "10.0"));
        assert!(has("__connect.errors.topic", "orders") && has("__connect.errors.offset", ""));
        assert!(!found.iter().any(|(name, _)| name == "relay-origin-key" || name == "relay-origin-pk"));

        let poison = Poison::new(PoisonReason::TooLarge, "words");
        encode(&entry(Fault::Poison(&poison)), drained, &Event::default(), &mut out);
        assert_eq!(text(out.value()), r#"{"schema":"public","table":"outbox","op":"insert","old":null,"new":null}"#);
        encode_tombstone("orders.dlq", "orders", Position::default().into(), &mut out);
        assert_eq!((text(out.key()), out.value(), out.headers().len()), ("orders/0.0", None, 0));
    }

    #[test]
    fn old_rows_and_messages_are_stored_too() {
        let relation = relation();
        let cells = [Cell::Text { start: 0, len: 1 }, Cell::Null, Cell::Null, Cell::Unchanged];
        let row = Row::new(b"7", &cells);
        let poison = Poison::new(PoisonReason::Route, "words");
        let mut out = Event::default();
        let update = Change::Update { relation: &relation, old: Some(OldRow::Key(row)), new: row };
        encode(&entry(Fault::Poison(&poison)), Origin::Change(&update), &Event::default(), &mut out);
        assert!(text(out.value()).ends_with(r#""op":"update","old":{"id":"7"},"new":{"id":"7","t":null,"b":null}}"#));
        let message = Change::Message { prefix: "outbox", content: b"x\xff", is_transactional: true, lsn: Lsn(1) };
        encode(&entry(Fault::Poison(&poison)), Origin::Change(&message), &Event::default(), &mut out);
        assert_eq!(
            text(out.value()),
            r#"{"schema":null,"table":null,"op":"message","old":null,"new":{"prefix":"outbox","content":{"base64":"eP8="}}}"#
        );
    }
}
